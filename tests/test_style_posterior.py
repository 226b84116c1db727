"""z of recordings: against the public implementation's, against what decoding gives back, and from files as they come.

The voices here have random weights, so their attention follows no text: see `keep_unaligned`.
"""

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile

from fte.audio import mel_spectrogram
from fte.constants import HOP, SAMPLE_RATE
from fte.decoder import NEVER, Decoder, Utterance
from fte.errors import RequestError
from fte.style import posterior as module
from fte.style.means import mean_style
from fte.style.posterior import Posterior, PosteriorExtractor, Recording, analysed, speech_range
from fte.style.references import Reference, ravdess
from fte.text import TextFrontend, Transcript, Word
from tolerances import assert_close

RECORDINGS = Path(__file__).parent / "data" / "ravdess_like"
GOLDEN = (
    "flowtron_two_flows",
    "flowtron_gate_stops",
    "flowtron_three_flows_temperature",
    "flowtron_dummy_speaker_no_gate",
)
TEXT = "Kids are talking by the door."


@pytest.fixture(scope="module")
def extractor(tiny) -> PosteriorExtractor:
    return PosteriorExtractor(tiny.bundle, tiny.backend, tiny.frontend)


@pytest.fixture(scope="module")
def references() -> tuple[Reference, ...]:
    """Five recordings of three actors, who are the voice's speakers 0, 1 and 2."""
    return ravdess(RECORDINGS, speaker={1: 0, 2: 1, 3: 2}).references


@pytest.fixture(scope="module")
def evidence(extractor, references):
    return extractor.extract(references, keep_unaligned=True).evidence


def transcript(ids) -> Transcript:
    return Transcript(("a",) * len(ids), tuple(int(i) for i in ids), ())


def noise(seconds: float, level: float = 0.1, rate: int = SAMPLE_RATE) -> np.ndarray:
    return (level * np.random.default_rng(0).uniform(-1, 1, round(seconds * rate))).astype(np.float32)


# The flows


def recordings_of(arrays) -> list[Recording]:
    """The utterances of a golden padded batch, each without its padding."""
    return [
        Recording(
            np.ascontiguousarray(arrays["fwd_mel"][b, :, : arrays["fwd_mel_lengths"][b]].T),
            transcript(arrays["fwd_text_ids"][b, : arrays["fwd_text_lengths"][b]]),
            int(arrays["fwd_speaker_ids"][b]),
        )
        for b in range(3)
    ]


@pytest.fixture(params=GOLDEN)
def forward_pass(request, golden, golden_bundle, backend):
    """Golden arrays of a padded batch, and what the extractor makes of its utterances."""
    arrays = golden(request.param)
    extractor = PosteriorExtractor(golden_bundle(request.param), backend, TextFrontend())
    return arrays, extractor.forward(recordings_of(arrays), temperature=float(arrays["temperature"]))


def test_z_of_the_golden_forward_passes(forward_pass):
    arrays, found = forward_pass
    for b, posterior in enumerate(found):
        assert_close(posterior.z, arrays["fwd_z"][b].T[: arrays["fwd_mel_lengths"][b]], "posterior")


def test_attention_of_the_golden_forward_passes_in_playing_order(forward_pass):
    arrays, found = forward_pass
    for b, posterior in enumerate(found):
        frames, symbols = arrays["fwd_mel_lengths"][b], arrays["fwd_text_lengths"][b]
        for k, weights in enumerate(posterior.attention):
            own_order = arrays[f"fwd_attention_{k}"][b, :frames, :symbols]
            assert_close(weights, own_order[::-1] if k % 2 else own_order, "attention")


@pytest.fixture
def cumulative(golden_bundle, backend) -> PosteriorExtractor:
    return PosteriorExtractor(golden_bundle("flowtron_cumulative_attention"), backend, TextFrontend())


def test_z_of_a_golden_voice_with_cumulative_attention(golden, cumulative):
    """The longest of its batch: the public implementation lets the others see their padding."""
    arrays = golden("flowtron_cumulative_attention")
    assert_close(cumulative.forward(recordings_of(arrays))[0].z, arrays["fwd_z"][0].T, "posterior")


def test_with_cumulative_attention_too_a_batch_changes_nothing(golden, cumulative):
    recordings = recordings_of(golden("flowtron_cumulative_attention"))
    for recording, together in zip(recordings, cumulative.forward(recordings), strict=True):
        assert_close(together.z, cumulative.forward([recording])[0].z, "batch")


def test_log_likelihood_of_the_golden_forward_passes(forward_pass):
    """By the density of the normal distribution, value by value, and the golden log_s of every flow."""
    arrays, found = forward_pass
    for b, posterior in enumerate(found):
        frames = arrays["fwd_mel_lengths"][b]
        densities = np.exp(-(arrays["fwd_z"][b, :, :frames].astype(float) ** 2) / 2) / math.sqrt(2 * math.pi)
        log_s = sum(arrays[f"fwd_log_s_{k}"][b, :, :frames].astype(float) for k in range(len(posterior.attention)))
        assert posterior.log_likelihood == pytest.approx(np.mean(np.log(densities) + log_s), abs=1e-5)


def test_log_likelihood_is_that_of_the_numerical_jacobian(golden_bundle, backend):
    """Nothing but z at two neighbouring mels: log N(z) + log |det dz/dmel|, here of 3 frames of 80 channels."""
    extractor = PosteriorExtractor(golden_bundle("flowtron_two_flows"), backend, TextFrontend())
    mel = np.random.default_rng(1).normal(-5, 1, (3, 80)).astype(np.float32)
    text, step = transcript(range(60, 70)), np.float32(1 / 16)
    moved = mel.ravel() + np.concatenate([np.eye(240, dtype=np.float32), -np.eye(240, dtype=np.float32)]) * step
    results = extractor.forward([Recording(m, text, 0) for m in [mel, *moved.reshape(480, 3, 80)]])
    z, *around = (p.z.ravel().astype(float) for p in results)
    jacobian = (np.array(around[:240]) - np.array(around[240:])).T / (2 * step)
    expected = np.sum(-(z**2) / 2 - math.log(2 * math.pi) / 2) + np.linalg.slogdet(jacobian)[1]
    assert results[0].log_likelihood == pytest.approx(expected / 240, abs=1e-4)


def test_a_recording_in_a_batch_gives_what_it_gives_alone(extractor, references, evidence):
    for reference, found in zip(references, evidence, strict=True):
        samples, rate = soundfile.read(reference.path, dtype="float32")
        alone = extractor.posterior(samples, rate, reference.text, reference.speaker)
        assert_close(found.z, alone.z, "batch")
        for together, apart in zip(found.posterior.attention, alone.attention, strict=True):
            assert_close(together, apart, "batch")
        assert found.posterior.log_likelihood == pytest.approx(alone.log_likelihood, abs=1e-5)


def test_speaking_the_z_of_a_recording_gives_the_recording(tiny, evidence):
    decoder = Decoder(tiny.bundle, tiny.backend, "fp32")
    for found in evidence[:2]:
        p = found.posterior
        (back,) = decoder.decode([Utterance(np.array(p.transcript.ids), p.z, p.speaker, gate_threshold=NEVER)])
        assert_close(back.mel, p.mel, "round_trip")


def test_the_speaker_matters(extractor, references):
    samples, rate = soundfile.read(references[0].path, dtype="float32")
    anna, bert = (extractor.posterior(samples, rate, TEXT, speaker).z for speaker in (0, 1))
    assert np.abs(anna - bert).max() > 1e-3


def test_a_speaker_goes_by_name_too(tiny, extractor):
    name = tiny.manifest.speakers[1]
    assert extractor.posterior(noise(1), SAMPLE_RATE, TEXT, name).speaker == 1


# From sound to mel


def band_limited(samples: np.ndarray, rate_in: int, rate_out: int) -> np.ndarray:
    """Another sample rate by cutting the spectrum: exact for sound that begins and ends in silence."""
    padded = np.pad(samples, (0, -len(samples) % (rate_in // math.gcd(rate_in, rate_out))))
    count = len(padded) * rate_out // rate_in
    return np.fft.irfft(np.fft.rfft(padded)[: count // 2 + 1], count) * rate_out / rate_in


def test_resampling_and_trimming_leave_the_mel_as_it_was(references):
    """Its frames are those of the untrimmed sound at the voice's rate, edges apart, where windows are reflected."""
    for reference in references:
        samples, rate = soundfile.read(reference.path)
        at_voice_rate = band_limited(samples, rate, SAMPLE_RATE)
        mel, whole = analysed(samples, rate, 80), mel_spectrogram(at_voice_rate)
        first = speech_range(at_voice_rate).start // HOP
        inner = slice(2, len(mel) - 2)
        assert np.abs(mel[inner] - whole[first : first + len(mel)][inner]).mean() < 1e-4


def test_silence_at_both_ends_is_cut_and_speech_is_not():
    speech = noise(0.5)
    sound = np.concatenate([np.zeros(40 * HOP), speech, np.zeros(30 * HOP)])
    kept = speech_range(sound)
    assert 40 * HOP - 1024 < kept.start <= 40 * HOP
    assert 40 * HOP + len(speech) <= kept.stop < 40 * HOP + len(speech) + 1024


@pytest.mark.parametrize(("below", "kept"), [(40, True), (60, False)])
def test_a_quiet_sound_before_the_speech_is_kept_within_50_db(below, kept):
    quiet = noise(0.5, 0.5 * 10 ** (-below / 20))
    found = speech_range(np.concatenate([quiet, noise(0.5, 0.5)]))
    assert (found.start == 0) == kept


@pytest.mark.parametrize(
    ("samples", "rate", "says"),
    [
        (np.zeros(SAMPLE_RATE), SAMPLE_RATE, "is silent"),
        (np.empty(0), SAMPLE_RATE, "is silent"),
        (noise(1, 5e-4), SAMPLE_RATE, "is silent"),
        (np.clip(noise(1, 1.01), -1, 1), SAMPLE_RATE, "is clipped"),
        (noise(0.2), SAMPLE_RATE, r"has 0.20 s of sound between its silences: give 0.25 to 30 s"),
        (noise(31), SAMPLE_RATE, r"has 31.0. s of sound"),
        (noise(1, rate=8000), 8000, "has a sample rate of 8000 Hz: give a whole number from 16000"),
        (noise(1), 0, "has a sample rate of 0 Hz"),
        (noise(1), 22_050.5, "has a sample rate of 22050.5 Hz"),
        (np.full(SAMPLE_RATE, np.nan), SAMPLE_RATE, "not finite"),
        (np.ones(SAMPLE_RATE, np.int16), SAMPLE_RATE, "must be floats"),
        (np.zeros((SAMPLE_RATE, 2)), SAMPLE_RATE, "must be one row"),
        (np.broadcast_to(np.float32(0), 601 * 48_000), 48_000, "longer than the limit of 600 s"),
    ],
)
def test_a_recording_that_cannot_be_used_is_refused_in_one_sentence(extractor, samples, rate, says):
    with pytest.raises(RequestError, match=says) as error:
        extractor.posterior(samples, rate, TEXT)
    assert "\n" not in str(error.value)


def test_a_recording_of_which_few_samples_are_at_full_scale_is_taken():
    samples = noise(1)
    samples[:: len(samples) // 20] = 1.0
    assert len(analysed(samples, SAMPLE_RATE, 80)) > 80


@pytest.mark.parametrize(
    ("text", "speaker", "says"),
    [
        ("", 0, "the text is empty"),
        (TEXT, 3, "speaker 3 is unknown"),
        (TEXT, -1, "speaker -1 is unknown"),
        (TEXT, "dora", "speaker 'dora' is unknown: this voice has"),
    ],
)
def test_texts_and_speakers_that_the_voice_does_not_take_are_refused(extractor, text, speaker, says):
    with pytest.raises(RequestError, match=says):
        extractor.posterior(noise(1), SAMPLE_RATE, text, speaker)


@pytest.mark.parametrize(
    ("recording", "says"),
    [
        (Recording(np.zeros((5, 79), np.float32), transcript([1]), 0), r"mel has shape \(5, 79\)"),
        (Recording(np.full((5, 80), np.inf, np.float32), transcript([1]), 0), "mel has values that are not finite"),
        (Recording(np.zeros((5, 80), np.float32), transcript([999]), 0), "text_ids has ids"),
        (Recording(np.zeros((5, 80), np.float32), transcript([1]), 9), "speaker 9 is unknown"),
    ],
)
def test_what_does_not_fit_the_voice_is_refused_before_the_graph_sees_it(extractor, recording, says):
    with pytest.raises(RequestError, match=says):
        extractor.forward([recording])


# References


def test_evidence_names_its_file_and_what_is_known_of_it(references, evidence):
    for reference, found in zip(references, evidence, strict=True):
        data = reference.path.read_bytes()
        assert (found.name, found.sha256) == (reference.path.name, hashlib.sha256(data).hexdigest())
        assert (found.label, found.speaker) == (reference.label, reference.speaker)


def test_a_style_is_made_of_evidence(extractor, references, tiny):
    happy = extractor.extract(references[:2], keep_unaligned=True).evidence
    style = mean_style("actor_1", happy, voice_hash=tiny.bundle.voice_hash)
    assert [note.frames for note in style.references] == [len(e.z) for e in happy]


def test_files_that_cannot_be_used_are_named_and_the_others_keep_their_order(extractor, references, tmp_path):
    bad = {
        "missing.wav": "No such file",
        "text.wav": "not a sound file",
        "silent.wav": "is silent",
        "clipped.wav": "is clipped",
        "long.wav": "give 0.25 to 30 s",
    }
    (tmp_path / "text.wav").write_text("Hello.")
    soundfile.write(tmp_path / "silent.wav", np.zeros(SAMPLE_RATE), SAMPLE_RATE)
    soundfile.write(tmp_path / "clipped.wav", 3 * noise(1, 1.0), SAMPLE_RATE)
    soundfile.write(tmp_path / "long.wav", noise(31), SAMPLE_RATE)
    mixed = [references[0], *(Reference(tmp_path / name, TEXT, 0) for name in bad), references[1]]
    extraction = extractor.extract(mixed, keep_unaligned=True)
    assert [e.reference for e in extraction.evidence] == [references[0], references[1]]
    assert [s.path.name for s in extraction.rejected] == list(bad)
    for skipped, says in zip(extraction.rejected, bad.values(), strict=True):
        assert says in skipped.reason


def test_text_that_cannot_be_spoken_and_speakers_there_are_not_are_rejected(extractor, references):
    path = references[0].path
    extraction = extractor.extract([Reference(path, "...", 0), Reference(path, TEXT, "dora")])
    assert [len(extraction.evidence), len(extraction.rejected)] == [0, 2]


def test_sound_of_other_formats_is_read(extractor, tmp_path):
    soundfile.write(tmp_path / "a.flac", noise(1, rate=44_100), 44_100)
    soundfile.write(tmp_path / "a.ogg", np.stack([noise(1)] * 2, axis=1), SAMPLE_RATE)
    references = [Reference(tmp_path / name, TEXT, 0) for name in ("a.flac", "a.ogg")]
    assert len(extractor.extract(references, keep_unaligned=True).evidence) == 2


def test_attention_that_follows_no_text_is_rejected_unless_it_is_asked_for(extractor, references, evidence):
    extraction = extractor.extract(references)
    assert len(extraction.evidence) == 0
    assert all("does not seem to say its transcript" in skipped.reason for skipped in extraction.rejected)
    assert len(evidence) == len(references)


def test_references_are_read_batch_by_batch(extractor, references, monkeypatch):
    monkeypatch.setattr(module, "BATCH", 2)
    asked = iter(references)
    stream = extractor.stream(asked, keep_unaligned=True)
    next(stream)
    assert next(asked) is references[2]


# Does the recording say its transcript?


def heard(*flows) -> Posterior:
    """A posterior with three words of four symbols, whose flows are on the given symbols for six frames each."""
    ids = range(12)
    attention = tuple(np.repeat(np.eye(12, dtype=np.float32)[list(places)], 6, axis=0) for places in flows)
    words = tuple(Word(name, start, start + 4) for name, start in (("one", 0), ("two", 4), ("three", 8)))
    z = np.zeros((len(attention[0]), 80), np.float32)
    return Posterior(z, attention, 0.0, z, Transcript(("a",) * 12, tuple(ids), words), 0)


def test_a_recording_that_says_its_words_is_aligned():
    assert heard(range(12), range(12)).unaligned == ""


def test_a_recording_that_lacks_a_word_is_not_aligned():
    without_two = [0, 1, 2, 3, 3, 3, 3, 3, 8, 9, 10, 11]
    assert "skips 'two'" in heard(range(12), without_two).unaligned


def test_a_recording_that_says_a_word_again_is_not_aligned():
    assert "goes back" in heard([*range(8), *range(4, 12)]).unaligned


def test_waiting_does_not_make_a_recording_unaligned_but_doubtful():
    waiting = heard([*range(6), *[5] * 12, *range(6, 12)])
    assert (waiting.unaligned, waiting.health.verdict) == ("", "stalled")


def test_one_flow_that_follows_is_enough():
    scattered = heard(range(12)).attention[0][np.random.default_rng(0).permutation(72)]
    good = heard(range(12))
    one = Posterior(good.z, (good.attention[0], scattered), 0.0, good.mel, good.transcript, 0)
    none = Posterior(good.z, (scattered, scattered), 0.0, good.mel, good.transcript, 0)
    assert one.health.verdict == "unaligned"
    assert (one.unaligned, "follows no text" in none.unaligned) == ("", True)
