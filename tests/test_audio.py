"""Mel analysis, its inverse, the denoiser and sound files, against the public code's values and plain formulas."""

import math
import os
import stat
import wave

import numpy as np
import pytest
import soundfile

from fte import audio
from fte.audio import (
    bias_spectrum,
    denoise,
    denoise_chunks,
    griffin_lim,
    istft,
    mel_filterbank,
    mel_spectrogram,
    read_audio,
    stft,
    to_pcm16,
    write_wav,
)
from fte.constants import FFT_SIZE, HOP, LIMITS, LOG_FLOOR, N_MELS, SAMPLE_RATE
from fte.errors import RequestError
from tolerances import assert_close

BINS = FFT_SIZE // 2 + 1


@pytest.fixture(scope="module")
def speech(golden):
    return golden("mel_spectrogram")["audio"]


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, samples).astype(np.float32)


def tone(hz: float, samples: int = 8192) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz / SAMPLE_RATE * np.arange(samples))).astype(np.float32)


def decibel(ratio: float) -> float:
    return 20 * math.log10(ratio)


# The mel filters


def test_each_filter_has_unit_area():
    area = mel_filterbank(20).sum(axis=1) * SAMPLE_RATE / FFT_SIZE  # wide filters, so that the sum is near the integral
    np.testing.assert_allclose(area[10:], 1.0, rtol=0.01)


def test_below_one_kilohertz_the_filters_are_equal_triangles():
    # Slaney's scale is linear there, so the edges are 0, 100, 200, ... Hz
    filters = mel_filterbank(8, 0.0, 900.0)
    hz = np.arange(BINS) * SAMPLE_RATE / FFT_SIZE
    for k, row in enumerate(filters):
        triangle = np.maximum(0, 1 - np.abs(hz - 100.0 * (k + 1)) / 100.0) / 100.0
        np.testing.assert_allclose(row, triangle, atol=1e-8)


def test_above_one_kilohertz_the_edges_grow_by_one_factor():
    # 27 steps from 1 kHz to 6.4 kHz: filters of one step each have their peak at 1000 * 6.4 ** (k / 27)
    filters = mel_filterbank(26, 1000.0, 6400.0)
    hz = np.arange(BINS) * SAMPLE_RATE / FFT_SIZE
    centres = filters @ hz / filters.sum(axis=1)
    ratio = 6.4 ** (1 / 27)
    edges = 1000 * ratio ** np.arange(28)
    np.testing.assert_allclose(centres, (edges[:-2] + edges[1:-1] + edges[2:]) / 3, rtol=2e-3)  # a triangle's centroid


def test_the_filters_cannot_be_edited():
    with pytest.raises(ValueError, match="read-only"):
        mel_filterbank()[0, 0] = 1.0


@pytest.mark.parametrize("hz", [60.0, 440.0, 1000.0, 3000.0, 7500.0])
@pytest.mark.parametrize("n_mels", [16, N_MELS])
def test_a_pure_tone_is_loudest_in_the_channel_around_it(hz, n_mels):
    # the scale's definition, in the other direction: channel k peaks at step k + 1 of n_mels + 1 equal steps
    def mel(f: float) -> float:
        return f * 3 / 200 if f < 1000 else 15 + 27 * math.log(f / 1000) / math.log(6.4)

    expected = mel(hz) / mel(8000.0) * (n_mels + 1) - 1
    loudest = mel_spectrogram(tone(hz), n_mels)[10:20].argmax(axis=1)
    assert np.abs(loudest - expected).max() <= 0.75


@pytest.mark.parametrize(("n_mels", "fmin", "fmax"), [(0, 0.0, 8000.0), (80, 8000.0, 8000.0), (80, 0.0, 12000.0)])
def test_impossible_bands_are_refused(n_mels, fmin, fmax):
    with pytest.raises(RequestError):
        mel_filterbank(n_mels, fmin, fmax)


# STFT and mel spectrogram


def test_the_mel_spectrogram_is_that_of_the_public_code(golden):
    expected = golden("mel_spectrogram")
    assert_close(mel_spectrogram(expected["audio"]), expected["mel"].T, "mel_analysis")


def test_the_stft_is_the_fourier_sum_of_each_reflected_window():
    samples = noise(2000)
    index = np.arange(FFT_SIZE)
    window = np.sin(np.pi * index / FFT_SIZE) ** 2
    fourier = np.exp(-2j * np.pi * np.outer(index, np.arange(BINS)) / FFT_SIZE)
    for frame, spectrum in enumerate(stft(samples)):
        place = np.abs(frame * HOP - FFT_SIZE // 2 + index)  # reflected at the first sample ...
        place = np.where(place > 1999, 2 * 1999 - place, place)  # ... and at the last
        assert_close(spectrum, (samples[place] * window) @ fourier, "stft")


@pytest.mark.parametrize(("samples", "frames"), [(513, 3), (767, 3), (768, 4), (HOP * 600 + 1, 601)])
def test_there_is_a_frame_every_hop_from_the_first_sample_on(samples, frames):
    assert stft(noise(samples)).shape == (frames, BINS)
    assert mel_spectrogram(noise(samples), 16).shape == (frames, 16)


def test_blocks_leave_no_trace(monkeypatch, speech):
    expected = stft(speech), istft(stft(speech)), mel_spectrogram(speech)
    monkeypatch.setattr(audio, "_BLOCK", 7)
    np.testing.assert_array_equal(stft(speech), expected[0])
    np.testing.assert_array_equal(istft(stft(speech)), expected[1])
    np.testing.assert_allclose(mel_spectrogram(speech), expected[2], atol=1e-6)


def test_silence_is_at_the_floor():
    np.testing.assert_allclose(mel_spectrogram(np.zeros(4096, np.float32)), math.log(LOG_FLOOR), rtol=1e-6)


def test_twice_the_amplitude_is_log_two_more():
    quiet = noise(4096)
    np.testing.assert_allclose(mel_spectrogram(2 * quiet) - mel_spectrogram(quiet), math.log(2), atol=1e-5)


@pytest.mark.parametrize("length", [513, 1024, 5000, HOP * 40])
def test_the_inverse_gives_the_samples_back(length):
    samples = noise(length)
    np.testing.assert_allclose(istft(stft(samples), length), samples, atol=1e-6)


def test_the_inverse_is_the_least_squares_one():
    # The orthogonal projection onto consistent spectra: what it leaves is orthogonal to the spectrum of any sound,
    # inner products being over both halves of the spectrum and over the samples that the frames were cut from.
    rng = np.random.default_rng(1)
    spectrum = rng.standard_normal((12, BINS)) + 1j * rng.standard_normal((12, BINS))
    spectrum[:3] = spectrum[-3:] = 0  # away from the reflected edges, where the frames repeat samples
    spectrum[:, [0, -1]] = spectrum[:, [0, -1]].real
    sound = np.zeros(11 * HOP, np.float32)
    sound[1200:1600] = noise(400)
    both_halves = np.full(BINS, 2.0)
    both_halves[[0, -1]] = 1.0

    def inner(a: np.ndarray, b: np.ndarray) -> float:
        return float((a.conj() * b * both_halves).sum().real)

    projected = stft(istft(spectrum))
    assert abs(inner(stft(sound), spectrum - projected)) < 1e-5 * abs(inner(stft(sound), spectrum))


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((2, 2000), np.float32), r"not of shape \(2, 2000\)"),
        (np.zeros(2000, np.int16), "floats from -1 to 1, not int16"),
        (np.zeros(2000, np.complex64), "not complex64"),
        (np.zeros(512, np.float32), "512 samples are too few to analyse: at least 513"),
        (np.full(2000, np.nan, np.float32), "not finite"),
        (np.full(2000, 1e300), "not finite"),
    ],
)
def test_samples_that_cannot_be_analysed_are_refused(samples, message):
    for analyse in (stft, mel_spectrogram, bias_spectrum):
        with pytest.raises(RequestError, match=message):
            analyse(samples)


@pytest.mark.parametrize(
    ("spectrum", "length"),
    [
        (np.zeros((5, 512)), None),
        (np.zeros((0, BINS)), None),
        (np.zeros(BINS), None),
        (np.full((5, BINS), np.inf), None),
        (np.zeros((5, BINS)), 5 * HOP + 1),
        (np.zeros((5, BINS)), -1),
    ],
)
def test_spectra_without_a_sound_are_refused(spectrum, length):
    with pytest.raises(RequestError):
        istft(spectrum, length)


# Griffin-Lim


def test_griffin_lim_sounds_like_its_mel(golden):
    mel = golden("mel_spectrogram")["mel"].T
    again = mel_spectrogram(griffin_lim(mel))[: len(mel)]
    wrong, right = np.exp(again) - np.exp(mel), np.exp(mel)
    signal_to_noise = decibel(np.linalg.norm(right) / np.linalg.norm(wrong))
    assert signal_to_noise > 19  # dB; measured: 20.2, without momentum 18.4, with random phases 4.6
    assert np.abs(again - mel).mean() < 1.2 * math.log(10) / 20  # measured: 1.05 dB


def test_the_magnitudes_fitted_to_a_mel_have_that_mel(golden):
    mel = golden("mel_spectrogram")["mel"].T.astype(np.float64)
    magnitudes = audio._magnitudes(mel)
    assert magnitudes.min() >= 0
    error = np.abs(np.log(magnitudes @ mel_filterbank().T) - mel).mean()
    assert error < 0.01 * math.log(10) / 20  # measured: 0.005 dB; the clipped pseudo-inverse alone has 0.056 dB


def test_griffin_lim_gets_better_with_iterations(golden):
    mel = golden("mel_spectrogram")["mel"].T[:30]
    errors = [
        np.linalg.norm(np.exp(mel_spectrogram(griffin_lim(mel, iterations=n))[:30]) - np.exp(mel)) for n in (0, 5, 40)
    ]
    assert errors[0] > 1.5 * errors[1] > 1.5 * errors[2]


def test_griffin_lim_is_decided_by_its_seed(golden):
    mel = golden("mel_spectrogram")["mel"].T[:20]
    first, same, other = (griffin_lim(mel, iterations=2, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert np.abs(first - other).max() > 0.01


@pytest.mark.parametrize("n_mels", [16, N_MELS])
@pytest.mark.parametrize("frames", [1, 2, 3, 7])
def test_griffin_lim_gives_a_hop_of_samples_for_each_frame(frames, n_mels):
    samples = griffin_lim(np.full((frames, n_mels), -3.0, np.float32), iterations=2)
    assert samples.shape == (frames * HOP,)
    assert samples.dtype == np.float32
    assert np.isfinite(samples).all()


def test_a_silent_mel_is_silent():
    samples = griffin_lim(np.full((8, N_MELS), math.log(LOG_FLOOR), np.float32), iterations=5)
    assert np.abs(samples).max() < 1e-4


@pytest.mark.parametrize(
    ("mel", "options", "message"),
    [
        (np.zeros(80), {}, "shape"),
        (np.zeros((0, 80)), {}, "shape"),
        (np.full((4, 80), np.nan), {}, "not numbers or above 20"),
        (np.full((4, 80), 32768.0), {}, "not numbers or above 20"),
        (np.zeros((LIMITS.frames + 1, 1)), {}, "limit of 10000"),
        (np.zeros((4, 80)), {"iterations": -1}, "iterations"),
        (np.zeros((4, 80)), {"seed": -1}, "seed"),
        (np.zeros((4, 80)), {"momentum": 1.5}, "momentum"),
    ],
)
def test_mels_without_a_sound_are_refused(mel, options, message):
    with pytest.raises(RequestError, match=message):
        griffin_lim(mel, **options)


# The denoiser


def test_the_bias_spectrum_is_that_of_the_public_code(golden):
    expected = golden("denoiser")
    assert_close(bias_spectrum(expected["bias_audio"]), expected["bias_spectrum"], "bias_spectrum")


def test_the_denoised_samples_are_those_of_the_public_code(golden):
    expected = golden("denoiser")
    denoised = denoise(expected["audio"], expected["bias_spectrum"], float(expected["strength"]))
    assert denoised.shape == expected["audio"].shape
    assert_close(denoised[: len(expected["denoised"])], expected["denoised"], "denoiser")


def test_the_denoiser_subtracts_from_the_magnitudes_and_keeps_the_phases():
    samples, bias = noise(3000), np.linspace(0.0, 10.0, BINS)
    spectrum = stft(samples)
    expected = istft(np.maximum(np.abs(spectrum) - 0.5 * bias, 0) * np.exp(1j * np.angle(spectrum)), 3000)
    assert_close(denoise(samples, bias, 0.5), expected, "denoiser")


def test_a_steady_tone_is_removed_and_another_stays():
    hum, voice = 0.1 * tone(SAMPLE_RATE / 8), tone(1000.0)
    cleaned = denoise(hum + voice, np.abs(stft(hum))[10], 1.0)[2000:-2000]
    residue = cleaned - voice[2000:-2000]
    assert decibel(np.std(residue) / np.std(hum)) < -30


@pytest.mark.parametrize("length", [0, 1, 100, 512, 513, 514, 1023, 1024, 1025, 3 * HOP])
def test_the_denoiser_keeps_the_number_of_samples(length):
    assert denoise(noise(length), np.zeros(BINS), 1.0).shape == (length,)


@pytest.mark.parametrize("length", [1, 100, 512, 513, 1024, 5000])
def test_nothing_to_subtract_changes_nothing(length):
    np.testing.assert_allclose(denoise(noise(length), np.zeros(BINS), 1.0), noise(length), atol=1e-6)


def test_strength_zero_gives_the_very_samples_back(speech):
    np.testing.assert_array_equal(denoise(speech, np.ones(BINS), 0.0), speech)


@pytest.mark.parametrize("chunk", [1, 100, HOP, 600, 5000])
@pytest.mark.parametrize("length", [300, 513, 6000])
def test_the_denoiser_gives_the_same_bits_in_chunks(speech, golden, chunk, length):
    bias, samples = golden("denoiser")["bias_spectrum"], speech[8000 : 8000 + length]
    chunks = [samples[start : start + chunk] for start in range(0, length, chunk)]
    np.testing.assert_array_equal(np.concatenate(list(denoise_chunks(chunks, bias, 0.1))), denoise(samples, bias, 0.1))


def test_a_denoised_sample_comes_at_most_a_window_later():
    given = received = 0

    def chunks():
        nonlocal given
        for _ in range(100):
            given += 64
            yield noise(64)

    for done in denoise_chunks(chunks(), np.ones(BINS), 0.1):
        received += len(done)
        assert given == 6400 or given - received <= FFT_SIZE + 64


@pytest.mark.parametrize(
    ("bias", "strength", "message"),
    [
        (np.ones(512), 0.1, r"shape \(513,\), not \(512,\)"),
        (np.full(BINS, -1.0), 0.1, "negative or not finite"),
        (np.full(BINS, np.nan), 0.1, "negative or not finite"),
        (np.ones(BINS), -0.1, "strength"),
        (np.ones(BINS), math.nan, "strength"),
    ],
)
def test_a_denoiser_that_cannot_work_is_refused_before_the_first_chunk(bias, strength, message):
    with pytest.raises(RequestError, match=message):
        denoise_chunks([], bias, strength)


# Files


def test_pcm_is_rounded_and_clipped():
    samples = np.array([0.0, 0.5, -0.5, 1.0, -1.0, 3.0, -3.0, 0.6 / 32768, -0.4 / 32768], np.float32)
    assert to_pcm16(samples).tolist() == [0, 16384, -16384, 32767, -32768, 32767, -32768, 1, 0]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pcm_of_what_is_not_finite_is_refused(value):
    with pytest.raises(RequestError, match="not finite"):
        to_pcm16(np.array([0.0, value], np.float32))


def test_a_wav_file_is_mono_pcm_that_any_reader_takes(tmp_path):
    write_wav(tmp_path / "a.wav", noise(1000))
    with wave.open(str(tmp_path / "a.wav")) as file:  # the standard library's reader
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, SAMPLE_RATE)
        values = np.frombuffer(file.readframes(2000), "<i2")
    np.testing.assert_array_equal(values, np.rint(noise(1000) * 32768).astype(np.int16))


def test_what_is_written_is_read_again(tmp_path):
    write_wav(tmp_path / "a.wav", noise(1000), 16_000)
    samples, rate = read_audio(tmp_path / "a.wav")
    assert rate == 16_000
    assert samples.dtype == np.float32
    np.testing.assert_allclose(samples, noise(1000), atol=0.5 / 32768)


def test_bad_samples_leave_no_file(tmp_path):
    with pytest.raises(RequestError):
        write_wav(tmp_path / "a.wav", np.array([np.nan], np.float32))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rate", [0, -1, 10**9])
def test_impossible_sample_rates_are_refused(tmp_path, rate):
    with pytest.raises(RequestError, match="sample rate"):
        write_wav(tmp_path / "a.wav", noise(10), rate)


def test_a_write_that_fails_midway_leaves_the_old_file_and_nothing_else(tmp_path):
    resource = pytest.importorskip("resource")  # POSIX
    (tmp_path / "a.wav").write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))  # as good as a full disk
    try:
        with pytest.raises(RequestError, match=r"cannot write .*a\.wav"):
            write_wav(tmp_path / "a.wav", noise(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("a.wav", b"old")]


def test_a_wav_file_in_a_missing_folder_is_a_request_error(tmp_path):
    with pytest.raises(RequestError, match=r"cannot write .*a\.wav"):
        write_wav(tmp_path / "no" / "a.wav", noise(10))


@pytest.mark.parametrize("gain", [0.97, 0.9])
def test_channels_that_cancel_each_other_out_are_not_mixed(tmp_path, gain):
    """As from a microphone of which one wire is turned: the mean is silence, and either channel is the sound."""
    tone = (0.5 * np.sin(np.arange(SAMPLE_RATE) / 20)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", np.stack([gain * tone, -tone], axis=1), SAMPLE_RATE, subtype="FLOAT")
    samples, rate = read_audio(tmp_path / "a.wav")
    assert rate == SAMPLE_RATE
    np.testing.assert_array_equal(samples, -tone)


@pytest.mark.parametrize("channels", [2, 6])
def test_channels_that_have_nothing_in_common_are_still_averaged(tmp_path, channels):
    noise = np.random.default_rng(0).normal(0, 0.1, (SAMPLE_RATE, channels)).astype(np.float32)
    alone = np.zeros_like(noise)
    alone[:, -1] = noise[:, -1]
    for given in (noise, alone, np.zeros_like(noise)):
        soundfile.write(tmp_path / "a.wav", given, SAMPLE_RATE, subtype="FLOAT")
        np.testing.assert_allclose(read_audio(tmp_path / "a.wav")[0], given.mean(axis=1), atol=1e-7)


def test_channels_are_averaged(tmp_path):
    left, right = noise(500, 1), noise(500, 2)
    soundfile.write(tmp_path / "a.flac", np.stack([left, right], axis=1), 44_100)
    samples, rate = read_audio(tmp_path / "a.flac")
    assert rate == 44_100
    np.testing.assert_allclose(samples, (left + right) / 2, atol=1 / 32768)


def test_the_format_is_told_by_the_content_not_by_the_name(tmp_path):
    write_wav(tmp_path / "a.wav", noise(10))
    (tmp_path / "a.wav").rename(tmp_path / "a.raw")
    assert len(read_audio(tmp_path / "a.raw")[0]) == 10


def test_a_long_file_is_refused_before_it_is_read(tmp_path):
    soundfile.write(tmp_path / "a.flac", np.zeros(601 * 1000, np.int16), 1000)
    with pytest.raises(RequestError, match="601 s long, more than the limit of 600 s"):
        read_audio(tmp_path / "a.flac")


def unreadable(folder, fault):
    """A path with one fault."""
    path = folder / "a.wav"
    if fault == "folder":
        path.mkdir()
    elif fault == "pipe":
        os.mkfifo(path)
    elif fault == "text":
        path.write_text("not a sound")
    elif fault == "empty file":
        path.touch()
    elif fault == "no samples":
        soundfile.write(path, np.zeros(0, np.int16), SAMPLE_RATE)
    elif fault == "not finite":
        soundfile.write(path, np.array([0.0, np.inf]), SAMPLE_RATE, subtype="FLOAT")
    return path


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("missing", "No such file"),
        ("folder", "Is a directory"),
        pytest.param("pipe", "a device or a pipe", marks=pytest.mark.skipif(os.name != "posix", reason="POSIX pipes")),
        ("text", "not a sound file of a known format"),
        ("empty file", "not a sound file of a known format"),
        ("no samples", "it has no samples"),
        ("not finite", "samples that are not finite"),
    ],
)
def test_a_file_without_usable_sound_is_refused_in_one_sentence(tmp_path, fault, message):
    with pytest.raises(RequestError, match=message) as refusal:
        read_audio(unreadable(tmp_path, fault))
    assert "a.wav" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_written_file_has_the_permissions_of_any_other(tmp_path):
    (tmp_path / "plain").touch()
    write_wav(tmp_path / "a.wav", noise(10))
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "a.wav")}
    assert len(modes) == 1
