"""Sample rates, loudness, sound files and streamed PCM, against formulas, the standards' figures and other readers."""

import io
import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time
import tracemalloc
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from fte import interruption, sound
from fte.audio import HIGHEST_RATE
from fte.constants import SAMPLE_RATE
from fte.errors import RequestError
from fte.sound import (
    FORMATS,
    LOWEST_RATE,
    PEAK_LIMIT,
    Resampler,
    integrated_loudness,
    pcm_chunks,
    resample,
    sound_format,
    true_peak,
    write_sound,
)

SUFFIXES = [f.suffix for f in FORMATS]
EVERYWHERE = 24_000  # Hz: a rate that every format has
JOINED = 1e-6  # streamed and whole conversion; measured: equal
LOUDNESS_UNITS = 0.1  # LU, the tolerance of EBU Tech 3341
SAME_LOUDNESS = 1e-3  # LU, two implementations of the same filters; measured: 1e-11


def tone(hz: float, seconds: float, rate: int = SAMPLE_RATE, level: float = 0.5) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hz / rate * np.arange(round(seconds * rate)))).astype(np.float32)


def speechlike(seconds: float, rate: int = SAMPLE_RATE) -> np.ndarray:
    """Syllables of a hum and noise, with a pause of two seconds in five."""
    time = np.arange(round(seconds * rate)) / rate
    syllables = np.square(np.sin(2 * np.pi * 2.3 * time)) * (time % 5 < 3)
    voice = np.sin(2 * np.pi * 150 * time) + 0.3 * np.random.default_rng(0).standard_normal(len(time))
    return (0.2 * syllables * voice).astype(np.float32)


def decibel(ratio: float) -> float:
    return 20 * math.log10(ratio)


def fake(samples: int) -> np.ndarray:
    """Zeros of any length that take no memory."""
    return np.broadcast_to(np.float32(0), (samples,))


# Sample rate


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_051, 24_000, 44_100, 48_000])
def test_a_tone_keeps_its_pitch_level_and_place(rate):
    converted = resample(tone(1_000, 1.0), SAMPLE_RATE, rate)
    assert converted.dtype == np.float32
    ideal = tone(1_000, 1.0, rate)
    assert len(converted) == len(ideal)
    middle = slice(rate // 10, -rate // 10)  # the ends ring, because the tone is cut there
    np.testing.assert_allclose(converted[middle], ideal[middle], atol=1e-4)


def test_what_the_lower_rate_cannot_hold_is_removed():
    converted = resample(tone(10_000, 1.0), SAMPLE_RATE, 16_000)
    assert decibel(np.abs(converted[1_600:-1_600]).max() / 0.5) < -100


@pytest.mark.parametrize("rate", [8_000, 22_051, 48_000])
@pytest.mark.parametrize("size", [1, 256, 5_000])
def test_a_stream_joins_to_the_whole(rate, size):
    samples = speechlike(0.5)
    resampler = Resampler(SAMPLE_RATE, rate)
    parts = [resampler.push(samples[i : i + size]) for i in range(0, len(samples), size)]
    joined = np.concatenate([*parts, resampler.finish()])
    np.testing.assert_allclose(joined, resample(samples, SAMPLE_RATE, rate), rtol=0, atol=JOINED)


def test_a_stream_holds_back_less_than_a_tenth_of_a_second():
    assert len(Resampler(SAMPLE_RATE, 48_000).push(tone(440, 1.0))) > 0.9 * 48_000


def test_equal_rates_change_no_bit():
    samples = speechlike(0.1)
    resampler = Resampler(SAMPLE_RATE, SAMPLE_RATE)
    np.testing.assert_array_equal(resampler.push(samples), samples)
    assert len(resampler.finish()) == 0
    np.testing.assert_array_equal(resample(samples, SAMPLE_RATE, SAMPLE_RATE), samples)


def test_no_samples_give_none():
    assert resample(np.empty(0, np.float32), SAMPLE_RATE, 48_000).shape == (0,)


@pytest.mark.parametrize("rates", [(LOWEST_RATE - 1, 48_000), (48_000, HIGHEST_RATE + 1), (22_050.5, 48_000), (0, 0)])
def test_rates_have_bounds(rates):
    for convert in (lambda: Resampler(*rates), lambda: resample(tone(440, 0.1), *rates)):
        with pytest.raises(RequestError, match="a sample rate must be a whole number from 4000 to 192000 Hz, not "):
            convert()


BAD_SAMPLES = [
    (np.zeros((2, 9), np.float32), "not of shape (2, 9)"),
    (np.zeros(9, np.int16), "not int16"),
    (np.array([0.0, np.nan]), "not finite"),
    (np.array([0.0, 1e300]), "not finite"),
]


@pytest.mark.parametrize(("samples", "says"), BAD_SAMPLES)
def test_samples_are_checked_wherever_they_come_in(tmp_path, samples, says):
    for use in (
        lambda: resample(samples, SAMPLE_RATE, 48_000),
        lambda: Resampler(SAMPLE_RATE, SAMPLE_RATE).push(samples),
        lambda: integrated_loudness([samples], SAMPLE_RATE),
        lambda: true_peak([samples]),
        lambda: list(pcm_chunks([samples])),
        lambda: write_sound(tmp_path / "a.wav", samples),
    ):
        with pytest.raises(RequestError) as caught:
            use()
        assert says in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_longest_sound_is_bounded(tmp_path):
    hours = fake(101 * 3600 * LOWEST_RATE)
    for use in (
        lambda: resample(hours, LOWEST_RATE, 8_000),
        lambda: write_sound(tmp_path / "a.flac", hours, LOWEST_RATE),
    ):
        with pytest.raises(RequestError, match="longer than the limit of 100 hours"):
            use()


# Loudness


def test_the_weighting_at_48_khz_is_that_of_the_standard():
    """ITU-R BS.1770-4, annex 1, tables 1 and 2."""
    hz = np.linspace(0, 24_000, 4_801)
    delay = np.exp(-2j * np.pi * hz / 48_000)
    head = np.polyval([1.19839281085285, -2.69169618940638, 1.53512485958697], delay)
    head /= np.polyval([0.73248077421585, -1.69065929318241, 1], delay)
    high = np.polyval([1, -2, 1], delay) / np.polyval([0.99007225036621, -1.99004745483398, 1], delay)
    np.testing.assert_allclose(sound._k_weighting(48_000, hz), head * high, atol=1e-6)


@pytest.mark.parametrize("rate", [8_000, SAMPLE_RATE, 44_100, 48_000, 192_000])
def test_a_tone_at_full_scale_has_the_loudness_of_the_standard(rate):
    """ITU-R BS.1770-4: 997 Hz at 0 dB of full scale in one channel reads -3.01."""
    assert integrated_loudness([tone(997, 3, rate, 1.0)], rate) == pytest.approx(-3.01, abs=LOUDNESS_UNITS)


@pytest.mark.parametrize(
    "levels",
    [
        [(-23, 20)],
        [(-33, 20)],
        [(-36, 10), (-23, 60), (-36, 10)],
        [(-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10)],
        [(-26, 20), (-20, 20.1), (-26, 20)],
    ],
)
def test_the_minimum_requirements_of_ebu_tech_3341_are_met(levels):
    """Cases 1 to 5, whose tones are in two channels: in one they read 3.01 LU less."""
    samples = np.concatenate([tone(1_000, seconds, 8_000, 10 ** (level / 20)) for level, seconds in levels])
    expected = (-33 if levels == [(-33, 20)] else -23) - 3.01
    assert integrated_loudness([samples], 8_000) == pytest.approx(expected, abs=LOUDNESS_UNITS)


@pytest.mark.parametrize("rate", [16_000, SAMPLE_RATE, 48_000])
@pytest.mark.parametrize("seconds", [0.45, 3.0, 12.34])
def test_another_implementation_reads_the_same(rate, seconds):
    pyloudnorm = pytest.importorskip("pyloudnorm")
    samples = speechlike(seconds, rate)
    expected = pyloudnorm.Meter(rate, filter_class="DeMan").integrated_loudness(samples.astype(np.float64))
    assert integrated_loudness([samples], rate) == pytest.approx(expected, abs=SAME_LOUDNESS)


@pytest.mark.parametrize("size", [1_000, 70_000])
def test_the_blocks_do_not_matter(size):
    samples = speechlike(7.77)
    blocks = [samples[i : i + size] for i in range(0, len(samples), size)]
    assert integrated_loudness(blocks, SAMPLE_RATE) == pytest.approx(integrated_loudness([samples], SAMPLE_RATE))
    assert true_peak(blocks) == pytest.approx(true_peak([samples]), abs=JOINED)


@pytest.mark.parametrize(("level", "audible"), [(-66, True), (-68, False), (-300, False)])
def test_what_is_below_the_gate_has_no_loudness(level, audible):
    measured = integrated_loudness([tone(1_000, 2, level=10 ** (level / 20))], SAMPLE_RATE)  # reads 3 LU less
    assert (measured > -math.inf) == audible


def test_nothing_has_no_loudness():
    assert integrated_loudness([], SAMPLE_RATE) == -math.inf


def test_a_short_sound_counts_as_if_silence_followed():
    word = tone(200, 0.25)
    followed = np.pad(word, (0, SAMPLE_RATE // 10 * 4 - len(word)))
    assert integrated_loudness([word], SAMPLE_RATE) == pytest.approx(integrated_loudness([followed], SAMPLE_RATE))


def test_a_long_sound_is_measured_in_a_few_megabytes():
    minute = speechlike(60, 8_000)
    tracemalloc.start()
    integrated_loudness(itertools.repeat(minute, 30), 8_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6  # the half hour itself is 58 MB


def test_a_stream_without_end_is_not_measured_for_ever(monkeypatch):
    monkeypatch.setattr(sound, "LONGEST_SECONDS", 2)
    with pytest.raises(RequestError, match="longer than the limit"):
        integrated_loudness(itertools.repeat(tone(440, 0.1)), SAMPLE_RATE)


def test_the_true_peak_lies_between_the_samples():
    """As in EBU Tech 3341: at a quarter of the sample rate and 45 degrees, all samples are 3 dB below the peak."""
    count = 8_192
    samples = 0.5 * np.hanning(count) * np.sin(np.pi / 2 * np.arange(count) + np.pi / 4)
    assert decibel(np.abs(samples).max() / 0.5) == pytest.approx(-3, abs=0.02)
    assert decibel(true_peak([samples]) / 0.5) == pytest.approx(0, abs=0.1)


def test_silence_has_no_peak():
    assert true_peak([]) == true_peak([np.zeros(100, np.float32)]) == 0.0


# Files


@pytest.mark.parametrize(
    ("name", "format", "coding"),
    [
        ("a.wav", "WAV", "PCM_16"),
        ("a.WAV", "WAV", "PCM_16"),
        ("a.flac", "FLAC", "PCM_16"),
        ("a.ogg", "OGG", "VORBIS"),
        ("a.opus", "OGG", "OPUS"),
        ("a.mp3", "MP3", "MPEG_LAYER_III"),
    ],
)
def test_the_suffix_chooses_the_format(tmp_path, name, format, coding):
    samples = tone(440, 1.3, EVERYWHERE)
    done = write_sound(tmp_path / name, samples, EVERYWHERE)
    found = soundfile.info(tmp_path / name)
    assert (found.format, found.subtype, found.channels, found.samplerate) == (format, coding, 1, EVERYWHERE)
    assert found.frames == done.samples == len(samples)
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_sound_in_the_file_is_the_sound_given(tmp_path, suffix):
    samples = tone(440, 5.0, EVERYWHERE)  # several blocks
    write_sound(tmp_path / f"a{suffix}", samples, EVERYWHERE)
    stored, _ = soundfile.read(tmp_path / f"a{suffix}", dtype="float32")
    error = np.sqrt(np.mean(np.square(stored - samples)))
    assert error < (2**-16 if suffix in (".wav", ".flac") else 0.03)  # half a step of 16 bits; 20 dB below the tone


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_one_sample_is_a_file_too(tmp_path, suffix):
    write_sound(tmp_path / f"a{suffix}", np.array([0.5]), EVERYWHERE)
    assert soundfile.info(tmp_path / f"a{suffix}").frames == 1


def test_an_unknown_suffix_is_refused_with_those_there_are():
    with pytest.raises(RequestError, match=r"book\.txt as sound: .* one of \.wav, \.flac, \.ogg, \.opus, \.mp3$"):
        sound_format("book.txt")


def test_a_format_that_libsndfile_was_built_without_is_not_offered(monkeypatch):
    monkeypatch.setattr(soundfile, "check_format", lambda container, coding: container in ("WAV", "FLAC"))
    with pytest.raises(RequestError, match=r"book\.mp3 as sound: its name must end in one of \.wav, \.flac$"):
        sound_format("book.mp3")


@pytest.mark.parametrize(
    ("name", "rate", "known"),
    [
        ("a.opus", 22_050, "8000, 12000, 16000, 24000, 48000"),
        ("a.mp3", 96_000, "8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000"),
    ],
)
def test_a_rate_that_the_format_lacks_is_refused_with_those_it_has(tmp_path, name, rate, known):
    with pytest.raises(RequestError, match=f"have no sample rate of {rate} Hz: choose one of {known}$"):
        write_sound(tmp_path / name, tone(440, 0.1), rate=rate)
    assert list(tmp_path.iterdir()) == []


def test_a_format_without_the_voices_rate_takes_the_next_one_up(tmp_path):
    assert write_sound(tmp_path / "a.opus", tone(440, 0.1)).sample_rate == 24_000
    assert write_sound(tmp_path / "a.mp3", tone(440, 0.1)).sample_rate == 22_050


@pytest.mark.parametrize("kind", [f for f in FORMATS if f.rates], ids=lambda kind: kind.suffix)
def test_every_rate_a_format_names_can_be_written(tmp_path, kind):
    for rate in kind.rates:
        write_sound(tmp_path / f"a{kind.suffix}", tone(440, 0.1), rate=rate)
        assert soundfile.info(tmp_path / f"a{kind.suffix}").samplerate == rate


def test_a_rate_that_only_the_encoder_refuses_is_one_sentence(tmp_path):
    with pytest.raises(RequestError, match=r"libsndfile refuses \.flac files of 65537 Hz$"):
        write_sound(tmp_path / "a.flac", tone(440, 0.1), rate=65_537)
    assert list(tmp_path.iterdir()) == []


def test_the_file_has_the_rate_wanted_and_the_same_tone(tmp_path):
    done = write_sound(tmp_path / "a.flac", tone(1_000, 2.0), rate=48_000)
    stored, rate = soundfile.read(tmp_path / "a.flac", dtype="float32")
    assert (rate, done.sample_rate, len(stored)) == (48_000, 48_000, 96_000)
    np.testing.assert_allclose(stored[4_800:-4_800], tone(1_000, 2.0, 48_000)[4_800:-4_800], atol=1e-4)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_file_has_the_loudness_wanted(tmp_path, suffix):
    done = write_sound(tmp_path / f"a{suffix}", speechlike(6.0), rate=EVERYWHERE, loudness=-27.0)
    stored, rate = soundfile.read(tmp_path / f"a{suffix}")
    assert done.loudness == pytest.approx(-27.0)
    lost = 0.0 if suffix in (".wav", ".flac") else 0.4  # noise is what lossy formats keep least well
    assert integrated_loudness([stored], rate) == pytest.approx(-27.0, abs=LOUDNESS_UNITS + lost)


def test_the_gain_is_one_factor_and_reported(tmp_path):
    samples = speechlike(6.0)
    done = write_sound(tmp_path / "a.wav", samples, loudness=-30.0)
    stored, _ = soundfile.read(tmp_path / "a.wav")
    assert done.gain < -1
    np.testing.assert_allclose(stored, samples * 10 ** (done.gain / 20), atol=2**-15)
    assert done.peak == pytest.approx(np.abs(stored).max(), abs=2**-15)


def test_the_true_peak_holds_the_gain_back(tmp_path):
    samples = 0.1 * speechlike(6.0)
    samples[SAMPLE_RATE] = 0.5  # a click
    done = write_sound(tmp_path / "a.wav", samples, rate=48_000, loudness=-10.0)
    stored, rate = soundfile.read(tmp_path / "a.wav")
    assert decibel(true_peak([stored])) == pytest.approx(PEAK_LIMIT, abs=0.01)
    assert done.loudness < -20
    assert integrated_loudness([stored], rate) == pytest.approx(done.loudness, abs=0.01)


def test_silence_is_not_amplified(tmp_path):
    done = write_sound(tmp_path / "a.wav", np.full(SAMPLE_RATE, 1e-5), loudness=-16.0)
    assert (done.gain, done.loudness) == (0.0, None)


@pytest.mark.parametrize("loudness", [-70.5, 0.5, math.nan])
def test_the_loudness_has_bounds(tmp_path, loudness):
    with pytest.raises(RequestError, match="a loudness must be from -70 to 0 LUFS"):
        write_sound(tmp_path / "a.wav", tone(440, 1), loudness=loudness)


def test_samples_above_full_scale_are_cut_and_counted(tmp_path):
    done = write_sound(tmp_path / "a.wav", np.array([0.0, 1.0, 1.5, -1.0, -2.0]))
    stored, _ = soundfile.read(tmp_path / "a.wav", dtype="int16")
    assert stored.tolist() == [0, 32767, 32767, -32768, -32768]
    assert (done.clipped, done.peak, done.gain, done.loudness) == (2, 2.0, 0.0, None)


def test_hours_pass_through_a_few_megabytes(tmp_path):
    samples = np.memmap(tmp_path / "long.f32", np.float32, "w+", shape=(300 * SAMPLE_RATE,))
    samples.reshape(30, -1)[:] = speechlike(10.0)
    tracemalloc.start()
    write_sound(tmp_path / "long.wav", samples, rate=24_000, loudness=-20.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6  # the samples are 26 MB


def test_a_wav_file_past_its_four_gigabytes_is_refused_with_the_way_out(tmp_path):
    half = fake(1 << 30)  # 2 GiB as 16-bit samples, 4 GiB at twice the rate
    with pytest.raises(RequestError, match=r"12\.4 hours at 48000 Hz pass the 4 GiB of a WAV file, so write \.flac"):
        write_sound(tmp_path / "a.wav", half, 24_000, rate=48_000)
    assert list(tmp_path.iterdir()) == []


def test_no_samples_make_no_file(tmp_path):
    with pytest.raises(RequestError, match="there are no samples to write"):
        write_sound(tmp_path / "a.mp3", np.empty(0, np.float32))


def test_a_fault_in_the_last_block_leaves_the_old_file(tmp_path):
    (tmp_path / "a.wav").write_text("old")
    samples = speechlike(10.0)
    samples[-1] = np.nan
    with pytest.raises(RequestError, match="not finite"):
        write_sound(tmp_path / "a.wav", samples)
    assert (tmp_path / "a.wav").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"]


FULL_DISK = """
import json, resource, signal, sys
import numpy as np
from pathlib import Path
from fte.errors import RequestError
from fte.sound import write_sound
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
samples = 0.3 * np.random.default_rng(0).standard_normal(60_000)
said = {}
for suffix in sys.argv[2:]:
    path = Path(sys.argv[1], "a" + suffix)
    write_sound(path, samples, 24_000)
    size = path.stat().st_size
    path.unlink()
    resource.setrlimit(resource.RLIMIT_FSIZE, (size - 150, resource.RLIM_INFINITY))
    try:
        write_sound(path, samples, 24_000)
    except RequestError as error:
        said[suffix] = str(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(json.dumps(said))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limits on the size of files")
def test_a_disk_that_fills_up_at_the_last_bytes_is_noticed(tmp_path):
    """libsndfile says nothing of errors it meets when it closes a file."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path), *SUFFIXES], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert said == {s: f"cannot write {Path(tmp_path, 'a' + s)}: File too large" for s in SUFFIXES}
    assert list(tmp_path.iterdir()) == []


# Signals, and what becomes of the file.


@pytest.fixture
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in interruption.SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    interruption._State.arrived = None


@pytest.mark.parametrize("ours", [True, False], ids=["the command line's handlers", "Python's own"])
@pytest.mark.parametrize("at", [2, 5])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_signal_while_the_encoder_writes_ends_it(suffix, at, ours, handlers, monkeypatch, tmp_path):
    """Sent from within the callback of libsndfile, through which nothing can be raised."""
    writes = []
    write = sound._Sink.write

    def signalling(self: object, data: bytes) -> int:
        writes.append(len(data))
        if len(writes) == at:
            os.kill(os.getpid(), signal.SIGINT)
        return write(self, data)

    if ours:
        interruption.install()
    else:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    expected = interruption.Interrupted if ours else KeyboardInterrupt
    monkeypatch.setattr("fte.sound._Sink.write", signalling)
    samples = speechlike(30.0)
    with pytest.raises(expected):
        write_sound(tmp_path / f"a{suffix}", samples)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(expected):  # the handlers are as they were
        signal.raise_signal(signal.SIGINT)
    if not ours:
        write_sound(tmp_path / f"a{suffix}", samples)
        assert len(soundfile.read(tmp_path / f"a{suffix}")[0]) > 0


INTERRUPTED = """
import sys
import numpy as np
import fte.cli as cli
from fte.sound import write_sound
samples = (0.1 * np.random.default_rng(0).standard_normal(22_050 * 60)).astype(np.float32)

def write(prog_name):
    print("ready", flush=True)
    while True:
        write_sound("a" + sys.argv[1], samples)
        print("done", flush=True)

cli.app = write
cli.main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_that_is_signalled_while_it_encodes_leaves_whole_files_only(number, suffix, tmp_path):
    command = [sys.executable, "-c", INTERRUPTED, suffix]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=heed_signals
    ) as process:
        process.stdout.readline()
        time.sleep(0.1 if number == signal.SIGINT else 0.4)
        process.send_signal(number)
        done, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (128 + number, b"error: interrupted; nothing was left half-written\n")
    assert [path.name for path in tmp_path.iterdir()] == ([f"a{suffix}"] if done else [])
    if done:
        seconds = soundfile.info(tmp_path / f"a{suffix}").duration
        assert seconds == pytest.approx(60, abs=0.2)


def heed_signals() -> None:
    """The tests may run in the background, where Ctrl-C is ignored."""
    for number in interruption.SIGNALS:
        signal.signal(number, signal.SIG_DFL)


# Streamed PCM


def test_pcm_is_16_bits_little_endian():
    given = b"".join(pcm_chunks([np.array([0.0, 0.5]), np.array([-0.5, 2.0])]))
    assert given == bytes.fromhex("0000 0040 00c0 ff7f")


def test_each_chunk_comes_out_before_the_next_is_asked_for():
    asked = []

    def chunks():
        for i in range(3):
            asked.append(i)
            yield tone(440, 0.01)

    stream = pcm_chunks(chunks())
    for i in range(3):
        assert len(next(stream)) == 2 * 220
        assert asked == list(range(i + 1))


def test_a_stream_that_is_left_stops_its_source():
    stopped = []

    def chunks():
        try:
            while True:
                yield tone(440, 0.01)
        finally:
            stopped.append(True)

    stream = pcm_chunks(chunks(), rate=48_000, header=True)
    next(stream), next(stream)
    stream.close()
    assert stopped == [True]


def test_converted_chunks_join_to_the_converted_whole():
    samples = speechlike(0.5)
    stream = pcm_chunks((samples[i : i + 256] for i in range(0, len(samples), 256)), rate=48_000)
    joined = np.frombuffer(b"".join(stream), "<i2") / 2**15
    np.testing.assert_allclose(joined, resample(samples, SAMPLE_RATE, 48_000), atol=2**-16 + JOINED)


@pytest.mark.parametrize("rate", [SAMPLE_RATE, 48_000])
def test_a_streamed_wav_is_read_by_soundfile_and_by_the_standard_library(rate):
    samples = tone(440, 0.5)
    given = b"".join(pcm_chunks([samples[:5_000], samples[5_000:]], rate=rate, header=True))
    stored, found = soundfile.read(io.BytesIO(given), dtype="int16")
    assert (found, len(stored)) == (rate, rate // 2)
    np.testing.assert_array_equal(stored, np.frombuffer(given[44:], "<i2"))
    with wave.open(io.BytesIO(given)) as reader:
        assert (reader.getframerate(), reader.getnchannels(), reader.getsampwidth()) == (rate, 1, 2)
        assert reader.readframes(1 << 20) == given[44:]


def test_the_sizes_in_a_streamed_wav_say_that_they_are_unknown():
    header = next(pcm_chunks([], header=True))
    assert (len(header), header[4:8], header[40:44]) == (44, b"\xff" * 4, b"\xff" * 4)


@pytest.mark.parametrize("rates", [(SAMPLE_RATE, 1), (0, 48_000)])
def test_a_wrong_rate_is_refused_before_anything_is_asked_for(rates):
    with pytest.raises(RequestError, match="a sample rate must be"):
        pcm_chunks([], rates[0], rate=rates[1])
