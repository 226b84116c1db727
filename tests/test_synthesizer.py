"""The facade: requests, their noise, batches and the decode call."""

import numpy as np
import pytest

from fte import Request, Synthesizer
from fte.constants import LIMITS
from fte.errors import BackendError, BundleError, RequestError
from fte.speech import frames_ceiling
from fte.takes import Piece, Take
from fte.text.spans import Span
from tolerances import assert_close

TEXTS = ["Yes.", "Kids are talking by the door.", "No, never!", "Dogs are sitting by the door, and so am I."]


def requests() -> list[Request]:
    return [
        Request(text, speaker=i % 3, sigma=0.4 + 0.1 * i, seed=11 + i, request=i, max_frames=40 + 9 * i)
        for i, text in enumerate(TEXTS)
    ]


def test_the_same_request_gives_the_same_samples_alone_and_in_a_batch(tiny):
    together = tiny.synthesize_batch(requests())
    for request, joint in zip(requests(), together, strict=True):
        (alone,) = tiny.synthesize_batch([request])
        assert_close(joint.samples, alone.samples, "audio")


def test_the_same_request_twice_gives_the_same_bits(tiny):
    first, second = (tiny.synthesize("Hello there.", seed=5).samples for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("change", [{"seed": 6}, {"request": 1}, {"sigma": 0.6}, {"speaker": 1}])
def test_what_tells_requests_apart_changes_the_mel(change, tiny):
    base = {"seed": 5, "request": 0, "sigma": 0.5, "speaker": 0, "max_frames": 30}
    assert np.abs(tiny.synthesize("Hello.", **base).mel - tiny.synthesize("Hello.", **base | change).mel).max() > 1e-3


def test_a_higher_ceiling_changes_no_frame_that_the_first_flow_had_made(tiny):
    """The flow that runs first, backward, makes the utterance's end first; z must not move with the ceiling."""
    piece = Piece(Span("x", "paragraph"), part=0)
    take = Take((piece,), seed=3, sigma=0.5)
    low, high = (tiny._renderer.prior(frames, Request("x"), take, piece) for frames in (30, 50))
    np.testing.assert_array_equal(high[-30:], low)


def test_sigma_zero_is_the_same_whatever_the_seed(tiny):
    a, b = (tiny.synthesize("Hello.", sigma=0, seed=s, max_frames=20).mel for s in (1, 2))
    np.testing.assert_array_equal(a, b)


def test_speech_describes_itself(tiny):
    speech = tiny.synthesize("Yes.", max_frames=25)
    assert speech.sample_rate == 22050
    assert speech.mel.shape == (25, 80)
    assert len(speech.samples) == 25 * 256
    assert speech.seconds == pytest.approx(25 * 256 / 22050)
    assert [a.shape for a in speech.attention] == [(25, len(speech.symbols))] * 2
    assert speech.gate.shape == (25,)
    assert speech.reached_ceiling


def test_an_utterance_that_its_gate_ends_says_so(tiny):
    speech = tiny.synthesize("Yes.", max_frames=25, gate_threshold=0.0)
    assert len(speech.mel) == 1
    assert not speech.reached_ceiling


def test_speakers_go_by_id_and_by_name(tiny):
    assert tiny.speaker_id("speaker_2") == tiny.speaker_id("2") == tiny.speaker_id(2) == 2


def test_the_ceiling_grows_with_the_text_and_stays_within_the_limit():
    assert frames_ceiling(10) < frames_ceiling(100) <= frames_ceiling(LIMITS.symbols) <= LIMITS.frames


def test_auto_precision_takes_int8_on_a_cpu_and_says_so(tiny_path):
    voice = Synthesizer.load(tiny_path, device="cpu")
    assert voice.precision == "int8"
    assert "int8" in voice.description and "cpu" in voice.description


def test_int8_speech_is_close_to_fp32_speech(tiny, tiny_path):
    int8 = Synthesizer.load(tiny_path, device="cpu", precision="int8")
    a, b = (voice.synthesize("Hello there.", max_frames=60).mel for voice in (int8, tiny))
    assert_close(a, b, "mel", "int8")


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (Request(""), "empty"),
        (Request("x" * (LIMITS.text_characters + 1)), str(LIMITS.text_characters)),
        (Request("Hi.", sigma=-0.1), "sigma is -0.1"),
        (Request("Hi.", sigma=float("nan")), "sigma is nan"),
        (Request("Hi.", vocoder_sigma=-1), "sigma is -1"),
        (Request("Hi.", speaker=3), "speaker 3 is unknown"),
        (Request("Hi.", speaker="bob"), "speaker 'bob' is unknown"),
        (Request("Hi.", max_frames=0), "max_frames is 0"),
        (Request("Hi.", max_frames=LIMITS.frames + 1), "max_frames is"),
        (Request("Hi.", seed=-1), "seed"),
        (Request("Hi.", temperature=0), "temperature is 0"),
        (Request("Hi.", denoiser=-1), "denoiser"),
    ],
)
def test_a_request_outside_its_bounds_is_refused(request_, says, tiny):
    with pytest.raises(RequestError) as error:
        tiny.synthesize_batch([Request("Fine."), request_])
    assert says in str(error.value)


def test_an_unknown_precision_names_those_there_are(tiny_path):
    with pytest.raises(BundleError, match="fp32, int8"):
        Synthesizer.load(tiny_path, device="cpu", precision="fp16")


def test_an_unknown_device_is_refused(tiny_path):
    with pytest.raises(BackendError, match="device 'tpu' is unknown"):
        Synthesizer.load(tiny_path, device="tpu")


class TestDecode:
    def z(self, frames=12):
        return np.random.Generator(np.random.Philox(1)).standard_normal((frames, 80)).astype(np.float32)

    def test_lists_give_a_batch(self, tiny):
        batch = tiny.decode([[1, 2, 3], [4, 5]], [self.z(), self.z(7)], speaker=[1, "speaker_2"], gate_threshold=2.0)
        assert [d.mel.shape for d in batch] == [(12, 80), (7, 80)]
        single = tiny.decode([4, 5], self.z(7), speaker=2, gate_threshold=2.0)
        assert_close(batch[1].mel, single.mel, "batch")

    def test_attention_is_given_per_utterance_in_a_batch(self, tiny):
        one = tiny.decode([1, 2, 3], self.z(), gate_threshold=2.0)
        uniform = [np.full((12, 3), 1 / 3, np.float32)] * 2
        batch = tiny.decode(
            [[1, 2, 3]] * 2, [self.z()] * 2, gate_threshold=2.0, attention=[None, uniform], attention_prior=[None, None]
        )
        assert_close(batch[0].mel, one.mel, "batch")
        np.testing.assert_array_equal(batch[1].attention[0], uniform[0])

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (([1.5], np.zeros((4, 80))), "text_ids holds float64"),
            (([1], "noise"), "z is not an array"),
            (([[1], [2]], [np.zeros((4, 80))]), "text_ids has 2 entries and z has 1"),
        ],
    )
    def test_arguments_of_another_kind_are_refused(self, arguments, says, tiny):
        with pytest.raises(RequestError) as error:
            tiny.decode(*arguments)
        assert says in str(error.value)


@pytest.mark.parametrize("nonsense", [3, None, b"Hello."])
def test_what_is_no_text_is_refused(nonsense, tiny):
    with pytest.raises(RequestError, match=f"a {type(nonsense).__name__} was given to be spoken: give a text"):
        tiny.synthesize(nonsense)
