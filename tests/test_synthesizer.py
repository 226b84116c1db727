"""The facade: requests, their noise, batches and the decode call."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from fte import Request, Synthesizer
from fte.constants import LIMITS
from fte.errors import BackendError, BundleError, RequestError
from fte.speech import frames_ceiling
from fte.takes import Piece, Take
from fte.text.spans import Span
from styles import style_of
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


# --- bare text ---


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("A", "."),
        ("Hi", "."),
        ("Hello there", "."),
        ("Hi.", ""),
        ("Why?", ""),
        ("Never!", ""),
        ("One,", ""),
        ("One;", ""),
        ('He said "never!"', ""),
        ('He said "never"', "."),
        ("(Perhaps)", "."),
        ("I met the Dr", "."),
        ("It costs $5", "."),
        ("{HH AY1}", "."),
    ],
)
def test_bare_text_gets_an_end(text, end, tiny):
    (planned,) = tiny.plan(Request(text))
    spoken = tiny._renderer.spoken_transcript(Request(text), planned.span)
    assert "".join(spoken.symbols) == "".join(tiny.transcript(text).symbols) + end
    assert spoken.words == tiny.transcript(text).words


def test_the_end_of_a_text_that_has_one_changes_no_bit(tiny):
    bare, ended = (tiny.synthesize(text, seed=2, max_frames=20, retries=0).samples for text in ("Hello", "Hello."))
    np.testing.assert_array_equal(bare, ended)


def test_a_span_that_ends_between_words_gets_a_comma(tiny):
    request = Request("one two three four five six", span_symbols=12)
    plan = tiny.plan(request)
    marks = [tiny._renderer.spoken_transcript(request, planned.span).symbols[-1] for planned in plan]
    assert len(plan) > 1
    assert marks == [","] * (len(plan) - 1) + ["."]
    assert all(len(tiny._renderer.spoken_transcript(request, p.span).ids) <= 12 for p in plan)


def test_a_rhythm_is_of_the_symbols_as_they_are(tiny):
    """Of a recording's attention no column can be made up for an end that its text has not."""
    symbols = len(tiny.text_ids("Hi"))
    uniform = np.full((12, symbols), 1 / symbols, np.float32)
    assert tiny.synthesize("Hi", rhythm=(uniform, uniform)).attention[0].shape == (12, symbols)


def test_ids_of_a_text_are_the_reference_s_without_an_end(tiny):
    assert tiny.transcript("Hi").symbols == ("@HH", "@AY1")


# --- names ---


def test_a_voice_is_loaded_by_its_name(tiny_path, monkeypatch, tmp_path):
    monkeypatch.setattr("fte.installed.tiny_path", lambda: tiny_path)
    assert Synthesizer.load("tiny", device="cpu", precision="fp32").bundle.path == tiny_path
    monkeypatch.chdir(tmp_path)
    for folder in ("./tiny", tmp_path / "tiny"):
        with pytest.raises(BundleError, match="there is no such folder"):
            Synthesizer.load(folder, device="cpu")


# --- files ---


@pytest.mark.parametrize(
    ("backend", "name"),
    [
        ("onnxruntime", "vocoder.int8.bin"),
        ("onnxruntime", "flow_1_guided.int8.onnx"),
        ("onnxruntime", "encoder.fp32.bin"),  # which int8 takes as it is
        ("native", "engine.int8.safetensors"),
    ],
)
def test_a_file_that_was_changed_is_found_when_the_voice_is_loaded(backend, name, tiny_path, tmp_path):
    if backend == "native":
        pytest.importorskip("fte._native")
    shutil.copytree(tiny_path, tmp_path / "voice")
    flip(tmp_path / "voice" / name)
    with pytest.raises(BundleError, match=f"{name} is not the file that was exported"):
        Synthesizer.load(tmp_path / "voice", device="cpu", precision="int8", backend=backend)


def test_files_that_speaking_does_not_open_are_not_read_when_a_voice_is_loaded(tiny_path, tmp_path):
    shutil.copytree(tiny_path, tmp_path / "voice")
    for name in ("vocoder.fp32.bin", "posterior.fp32.bin", "engine.int8.safetensors"):
        flip(tmp_path / "voice" / name)
    Synthesizer.load(tmp_path / "voice", device="cpu", precision="int8", backend="onnxruntime")


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


# --- one rule for numbers that no speech has ---


@pytest.mark.parametrize("value", [-3e38, 3e38, 100.5, -100.5])
@pytest.mark.parametrize("backend", ["onnxruntime", "native"])
def test_numbers_that_no_speech_has_are_refused_by_name_on_every_backend(value, backend, tiny_path):
    if backend == "native":
        pytest.importorskip("fte._native")
    voice = Synthesizer.load(tiny_path, device="cpu", precision="fp32", backend=backend)
    wrong = np.zeros((6, 80), np.float32)
    wrong[3, 7] = value
    with pytest.raises(RequestError, match=re.escape(f"mel has the value {value:g}: give numbers from -100 to 100")):
        voice.vocode(wrong)
    with pytest.raises(RequestError, match=re.escape(f"z has the value {value:g}: give numbers from -100 to 100")):
        voice.decode([1, 2, 3], wrong)
    wrong[3, 7] = np.copysign(100, value)
    voice.decode([1, 2, 3], wrong)


def test_a_style_s_weight_may_not_leave_the_bounds(tiny):
    style = style_of(tiny, mean=np.full(80, 30.0, np.float32))
    with pytest.raises(RequestError, match=r"the style 'happy' times its weight reaches 120: give a style_weight with"):
        tiny.synthesize("Hi.", style=style, style_weight=4.0)
    with pytest.raises(RequestError, match="mean has a value of magnitude 3e\\+38, above 100"):
        style_of(tiny, mean=np.full(80, 3e38, np.float32))


# --- company ---


@pytest.mark.parametrize(
    ("backend", "precision"), [("onnxruntime", "fp32"), ("onnxruntime", "int8"), ("native", "int8")]
)
def test_a_request_of_several_spans_is_streamed_as_it_is_whole(backend, precision, tiny_path):
    """Bit for bit, though spans of unlike lengths would change each other in one batch of ONNX Runtime."""
    if backend == "native":
        pytest.importorskip("fte._native")
    voice = Synthesizer.load(tiny_path, device="cpu", precision=precision, backend=backend)
    text = "Kids are talking by the door. Dogs are sitting by the door, and so am I. Never again will we walk there!"
    request = Request(text, seed=4, max_frames=90, retries=0)
    (whole,) = voice.synthesize_batch([request])
    assert len(whole.spans) == 3
    np.testing.assert_array_equal(voice.synthesize(text, seed=4, max_frames=90, retries=0).samples, whole.samples)


@pytest.mark.parametrize(("exact", "sizes"), [(True, [5]), (False, [2, 2, 1])])
def test_spans_of_a_request_take_turns_where_company_would_change_them(exact, sizes, tiny, monkeypatch):
    """Requests of two and of three spans."""
    made: list[int] = []
    decode = tiny.decoder.decode
    monkeypatch.setattr(tiny.decoder, "decode", lambda batch: made.append(len(batch)) or decode(batch))
    monkeypatch.setattr(type(tiny.backend), "exact_in_company", exact)
    texts = [
        "Kids are talking by the door. Dogs are sitting by the door.",
        "Kids are talking by the door. Dogs are sitting by the door. Never again will we walk there!",
    ]
    batch = tiny.synthesize_batch([Request(text, max_frames=20, retries=0) for text in texts])
    assert made == sizes
    assert [[span.text for span in speech.spans] for speech in batch] == [
        [span.span.text for span in tiny.plan(text)] for text in texts
    ]
