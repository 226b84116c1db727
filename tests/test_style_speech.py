"""Speaking with styles, tails, ramps and a given rhythm."""

import dataclasses

import numpy as np
import pytest

from fte import Request
from fte.errors import RequestError
from fte.record import request_record
from fte.style.mixing import mix
from fte.style.ramps import ramp_by_time, ramp_by_word
from fte.style.style import Style
from tolerances import assert_close

TEXT = "Kids are talking by the door."


@pytest.fixture(scope="module")
def style(tiny):
    """A function that makes a style of the tiny voice."""

    def make(value: float = 0.3, **changes) -> Style:
        fields = {
            "name": "happy",
            "mean": np.full(80, value, np.float32),
            "spread": np.ones(80, np.float32),
            "utterance_spread": np.full(80, 0.2, np.float32),
            "sigma": 0.5,
            "voice_hash": tiny.bundle.voice_hash,
            "speaker": 0,
            "aggregation": "time_and_batch",
            "lam": 1e-4,
            "references": (),
        }
        return Style(**(fields | changes))

    return make


def mel(voice, **options):
    return voice.synthesize(TEXT, seed=4, max_frames=50, **options).mel


def test_z_is_the_style_and_the_noise(tiny, style):
    """Sigma 0 leaves the mean alone: what is decoded is the mean as z."""
    ids = tiny.text_ids(TEXT)
    expected = tiny.decode(ids, np.full((50, 80), 0.3, np.float32), gate_threshold=0.5).mel
    np.testing.assert_array_equal(mel(tiny, style=style(), sigma=0), expected)
    halved = tiny.decode(ids, np.full((50, 80), 0.15, np.float32), gate_threshold=0.5).mel
    assert_close(mel(tiny, style=style(), sigma=0, style_weight=0.5), halved, "mel")


def test_a_style_of_zeros_or_without_weight_is_no_style(tiny, style):
    plain = mel(tiny)
    np.testing.assert_array_equal(mel(tiny, style=style(0.0)), plain)
    np.testing.assert_array_equal(mel(tiny, style=style(), style_weight=0), plain)


def test_a_batch_style_gives_each_frame_its_own_mean(tiny, style):
    means = np.linspace(-1, 1, 50 * 80, dtype=np.float32).reshape(50, 80)
    made = mel(tiny, style=style(mean=means, aggregation="batch"), sigma=0)
    np.testing.assert_array_equal(made, tiny.decode(tiny.text_ids(TEXT), means, gate_threshold=0.5).mel)


def test_renditions_from_the_tails_differ_and_belong_to_their_request(tiny, style):
    first, second = (mel(tiny, style=style(), sigma=0, tail=2.0, request=i) for i in (0, 1))
    assert np.abs(first - second).max() > 1e-2
    np.testing.assert_array_equal(first, mel(tiny, style=style(), sigma=0, tail=2.0, request=0))
    np.testing.assert_array_equal(mel(tiny, style=style(), tail=0.0), mel(tiny, style=style()))


@pytest.mark.parametrize("ramp", [ramp_by_time, ramp_by_word])
def test_a_ramp_between_equal_styles_is_the_style(tiny, style, ramp):
    same = ramp([(0, style()), (1, style())])
    assert_close(mel(tiny, style=same), mel(tiny, style=style()), "mel")


def test_a_ramp_changes_the_utterance_along_the_way(tiny, style):
    """With an utterance as long as its ceiling, z is the ramp itself."""
    ramp = ramp_by_time([(0.0, None), (1.0, style())])
    z = np.linspace(0, 0.3, 50, dtype=np.float32)[:, None] * np.ones(80, np.float32)
    expected = tiny.decode(tiny.text_ids(TEXT), z, gate_threshold=0.5).mel
    assert len(expected) == 50
    assert_close(mel(tiny, style=ramp, sigma=0), expected, "mel")


def test_a_rhythm_is_imposed_for_as_long_as_it_lasts(tiny):
    symbols = len(tiny.text_ids(TEXT))
    path = np.minimum(np.arange(70) // 2, symbols - 1)
    rhythm = (np.eye(symbols, dtype=np.float32)[path],) * 2
    speech = tiny.synthesize(TEXT, rhythm=rhythm)
    (span,) = speech.spans
    assert len(span.attempts) == 1 and span.decoded.ended == "given"
    np.testing.assert_array_equal(speech.attention[0], rhythm[0])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"style_weight": -1}, "style_weight is -1"),
        ({"style_weight": float("nan")}, "style_weight is nan"),
        ({"tail": -0.5}, "tail is -0.5"),
        ({"tail": 1.0}, "a tail is drawn around a style"),
        ({"rhythm": (np.ones((4, 3), np.float32),) * 2}, "attention of flow 0 has shape (4, 3)"),
    ],
)
def test_what_does_not_fit_is_refused(tiny, options, says):
    with pytest.raises(RequestError) as error:
        tiny.synthesize(TEXT, **options)
    assert says in str(error.value)


def test_a_style_of_another_voice_is_refused_by_name(tiny, style):
    with pytest.raises(RequestError, match="style 'happy' belongs to voice aaaaaaaaaaaa"):
        tiny.stream(TEXT, style=style(voice_hash="a" * 64))


@pytest.mark.parametrize("kind", ["ramp", "rhythm"])
def test_what_is_of_one_utterance_is_refused_for_several(tiny, style, kind):
    options = {"style": ramp_by_time([(0.0, style())])} if kind == "ramp" else {"rhythm": (np.ones((9, 9)),) * 2}
    with pytest.raises(RequestError, match=f"a {kind} is of one utterance and the text was cut in 2"):
        tiny.synthesize_batch([Request("Kids are talking here. Dogs are sitting there.", **options)])


def test_the_record_names_the_style_and_tells_styles_apart(tiny, style):
    records = [request_record(tiny, Request(TEXT, style=style(v)))["options"]["style"] for v in (0.1, 0.1, 0.2)]
    assert records[0] == records[1] != records[2]
    assert records[0]["names"] == ["happy"]
    ramps = [ramp_by_time([(0.0, style()), (p, style(0.1))]) for p in (0.5, 1.0)]
    records = [request_record(tiny, dataclasses.replace(Request(TEXT), style=ramp)) for ramp in ramps]
    assert records[0]["options"]["style"] != records[1]["options"]["style"]


# --- names ---


@pytest.mark.parametrize("name", ["happy", "happy:2", "happy:0.5,sad:0.5", "styles/happy.safetensors"])
def test_a_name_does_what_its_style_does(name, tiny, own_styles, monkeypatch):
    monkeypatch.chdir(tiny.bundle.path)
    happy, sad = own_styles["happy"], own_styles["sad"]
    style = mix({happy: 0.5, sad: 0.5}) if "sad" in name else happy
    np.testing.assert_array_equal(mel(tiny, style=name), mel(tiny, style=style))
    np.testing.assert_array_equal(tiny.style(name).mean, style.mean)


def test_names_work_in_requests_streams_batches_and_records(tiny, own_styles):
    named, given = (Request(TEXT, style=s, seed=4, max_frames=50) for s in ("happy", own_styles["happy"]))
    expected = tiny.synthesize_batch([given])[0].samples
    np.testing.assert_array_equal(tiny.synthesize_batch([named])[0].samples, expected)
    with tiny.stream(named) as stream:
        np.testing.assert_array_equal(np.concatenate([chunk.samples for chunk in stream]), expected)
    assert request_record(tiny, named) == request_record(tiny, given)
    assert [planned.span for planned in tiny.plan(named)] == [planned.span for planned in tiny.plan(given)]


def test_names_work_in_ramps(tiny, own_styles):
    named = ramp_by_time([(0.0, "happy"), (0.5, None), (1.0, "sad")])
    given = ramp_by_time([(0.0, own_styles["happy"]), (0.5, None), (1.0, own_styles["sad"])])
    np.testing.assert_array_equal(mel(tiny, style=named), mel(tiny, style=given))
    with pytest.raises(RequestError, match="the ramp has 'happy' by name alone"):
        named.means(4)


@pytest.mark.parametrize("style", ["angry", "happy:1,angry:1", ramp_by_time([(0.0, "angry"), (1.0, "happy")])])
def test_a_name_that_the_voice_has_not_is_refused_with_those_it_has(style, tiny, own_styles):
    with pytest.raises(
        RequestError, match=r"this voice has no style 'angry' in its folder styles \(it has happy, sad\)"
    ):
        tiny.synthesize(TEXT, style=style)
