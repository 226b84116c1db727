"""Mixes and ways between styles: shares, straight lines and great circles."""

import numpy as np
import pytest

from fte.errors import RequestError
from fte.style.mixing import interpolate, mix, parse_mix, shares
from fte.style.style import ReferenceNote, Style

VOICE = "1a2b" * 16
ROUNDING = 1e-6


def style(mean, name="a", **changes) -> Style:
    mean = np.array(mean, np.float32)
    fields = {
        "name": name,
        "mean": mean,
        "spread": np.ones(mean.shape[-1], np.float32),
        "utterance_spread": np.ones(mean.shape[-1], np.float32),
        "sigma": 0.5,
        "voice_hash": VOICE,
        "speaker": 0,
        "aggregation": "time_and_batch" if mean.ndim == 1 else "batch",
        "lam": 1e-4,
        "references": (ReferenceNote(f"{name}.wav", "0" * 64, 9),),
    }
    return Style(**{**fields, **changes})


# Weights


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("happy:0.7,sad:0.3", {"happy": 0.7, "sad": 0.3}),
        ("happy", {"happy": 1.0}),
        ("happy,sad:2", {"happy": 1.0, "sad": 2.0}),
        (" happy : .5 , v1.2_x-y : 3.25 ", {"happy": 0.5, "v1.2_x-y": 3.25}),
        ("a:0,b:1", {"a": 0.0, "b": 1.0}),
    ],
)
def test_a_mix_is_read_as_it_is_written(text, weights):
    assert parse_mix(text) == weights


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "'' is no part of a mix"),
        ("happy:", "'happy:' is no part"),
        ("happy:0.7,", "'' is no part"),
        ("happy:-1", "'happy:-1' is no part"),
        ("happy:nan", "'happy:nan' is no part"),
        ("happy:inf", "'happy:inf' is no part"),
        ("happy:1e9", "'happy:1e9' is no part"),
        ("happy:1_0", "is no part"),
        ("happy:١", "is no part"),
        ("../happy:1", "is no part"),
        ("happy:1,happy:2", "'happy' stands twice"),
        ("a:0,b:0", "all weights of the mix are 0"),
        ("a:99999999", "the weight of 'a' is 99999999.0: give a number from 0 to 1e\\+06"),
        (",".join(f"a{i}" for i in range(65)), "the mix has 65 styles"),
        ("a" * 9_000, "the mix has 9000 characters"),
        ("a" * 65, "is no part of a mix"),
    ],
)
def test_what_is_no_mix_is_refused(text, says):
    with pytest.raises(RequestError, match=says) as caught:
        parse_mix(text)
    assert len(str(caught.value)) < 200


def test_shares_sum_to_one_and_keep_their_proportions():
    found = shares({"a": 3.0, "b": 1.0, "c": 0.0})
    assert found == {"a": 0.75, "b": 0.25, "c": 0.0}


@pytest.mark.parametrize(("weight", "says"), [(-0.1, "-0.1"), (float("nan"), "nan"), (float("inf"), "inf")])
def test_weights_that_are_no_shares_are_refused(weight, says):
    with pytest.raises(RequestError, match=f"the weight of 'b' is {says}"):
        shares({"a": 1.0, "b": weight})


# Mixes


def test_a_mix_is_the_weighted_mean_of_everything():
    a = style([1, 0], spread=np.full(2, 1, np.float32), sigma=0.4)
    b = style([0, 2], "b", spread=np.full(2, 3, np.float32), sigma=0.8)
    made = mix({a: 3, b: 1}, "both")
    np.testing.assert_allclose(made.mean, [0.75, 0.5], rtol=ROUNDING)
    np.testing.assert_allclose(made.spread, [1.5, 1.5], rtol=ROUNDING)
    assert made.sigma == pytest.approx(0.5)
    assert (made.name, made.aggregation, [n.name for n in made.references]) == (
        "both",
        "time_and_batch",
        ["a.wav", "b.wav"],
    )


def test_weights_need_not_sum_to_one():
    a, b = style([1, 0]), style([0, 2])
    np.testing.assert_array_equal(mix({a: 7, b: 3}).mean, mix({a: 0.7, b: 0.3}).mean)


def test_a_mix_with_frames_is_as_long_as_the_longest():
    a, b, c = style([10]), style([[0], [1]]), style([[0], [2], [4]])
    made = mix({a: 1, b: 1, c: 2})
    assert made.aggregation == "batch"
    np.testing.assert_allclose(made.mean, [[(10 + 0 + 0) / 4], [(10 + 1 + 4) / 4], [(10 + 0 + 8) / 4]], rtol=ROUNDING)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (style([0, 1], "b", voice_hash="3c4d" * 16), "'b' belongs to voice 3c4d3c4d3c4d and 'a' to 1a2b1a2b1a2b"),
        (style([0, 1], "b", speaker=2), "'b' was extracted as speaker 2 and 'a' as speaker 0"),
        (style([0, 1], "b", speaker=None), "'b' was extracted without its speakers' means"),
        (style([0, 1, 2], "b"), "'b' has 3 channels and 'a' 2"),
    ],
)
def test_styles_that_cannot_be_added_are_refused(other, says):
    with pytest.raises(RequestError, match=says):
        mix({style([1, 0]): 1, other: 1})


def test_a_mix_of_nothing_is_refused():
    with pytest.raises(RequestError, match="the mix has 0 styles"):
        mix({})


# The straight way


@pytest.mark.parametrize("t", [-1, 0, 0.25, 1, 1.5, 2])
def test_the_linear_way_is_straight_and_goes_on_beyond_its_ends(t):
    made = interpolate(style([1, 5]), style([3, 1]), t)
    np.testing.assert_allclose(made.mean, [1 + 2 * t, 5 - 4 * t], atol=1e-6)


def test_beyond_the_ends_only_the_mean_goes_on():
    a, b = style([0], spread=np.float32([1])), style([1], spread=np.float32([2]), sigma=0.9)
    made = interpolate(a, b, 2)
    assert (made.spread[0], made.sigma) == (2, 0.9)


@pytest.mark.parametrize("how", ["linear", "spherical"])
@pytest.mark.parametrize("t", [-1.01, 2.01, float("nan"), float("inf")])
def test_a_place_too_far_beyond_the_ends_is_refused(t, how):
    with pytest.raises(RequestError, match="give a number from -1 to 2"):
        interpolate(style([1, 0]), style([0, 1]), t, how)


def test_an_unknown_way_is_refused():
    with pytest.raises(RequestError, match="is 'cubic': give linear or spherical"):
        interpolate(style([1, 0]), style([0, 1]), 0.5, "cubic")


# The great circle


@pytest.mark.parametrize("t", [-0.5, 0, 0.1, 0.5, 0.9, 1, 1.25])
def test_the_spherical_way_turns_at_a_constant_rate(t):
    """In the plane, from 20 degrees and length 2 to 110 degrees and length 4, it is known in polar coordinates."""
    first, last = np.radians(20), np.radians(110)
    a, b = (length * np.array([np.cos(angle), np.sin(angle)]) for length, angle in [(2, first), (4, last)])
    angle, length = first + t * (last - first), 2 + t * (4 - 2)
    made = interpolate(style(a), style(b), t, "spherical")
    np.testing.assert_allclose(made.mean, length * np.array([np.cos(angle), np.sin(angle)]), atol=1e-6)


def test_the_spherical_way_stays_in_the_plane_of_its_ends_and_is_symmetric():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 80))
    there, back = interpolate(style(a), style(b), 0.3, "spherical"), interpolate(style(b), style(a), 0.7, "spherical")
    np.testing.assert_allclose(there.mean, back.mean, atol=1e-6)
    _, residual, *_ = np.linalg.lstsq(np.stack([a, b], axis=1), there.mean.astype(np.float64), rcond=None)
    assert residual[0] < 1e-10


def test_each_frame_of_a_batch_mean_goes_its_own_way():
    made = interpolate(style([[1, 0], [0, 2]]), style([[0, 1], [0, 4]]), 0.5, "spherical")
    np.testing.assert_allclose(made.mean, [[np.sqrt(0.5), np.sqrt(0.5)], [0, 3]], atol=1e-6)


@pytest.mark.parametrize(
    ("a", "b"), [([0, 0], [2, 6]), ([2, 6], [0, 0]), ([1, 3], [2, 6]), ([1, 3], [1.0000001, 3]), ([0, 0], [0, 0])]
)
def test_without_two_directions_the_spherical_way_is_straight(a, b):
    made = interpolate(style(a), style(b), 0.25, "spherical")
    np.testing.assert_allclose(made.mean, 0.75 * np.array(a) + 0.25 * np.array(b), atol=1e-6)


def test_between_nearly_the_same_directions_the_spherical_way_is_exact():
    angle = 1e-3
    made = interpolate(style([1, 0]), style([np.cos(angle), np.sin(angle)]), 0.5, "spherical")
    assert made.mean[1] == pytest.approx(np.sin(angle / 2), rel=1e-5)


def test_opposite_directions_have_no_shortest_way_around():
    with pytest.raises(RequestError, match="opposite directions"):
        interpolate(style([1, 2]), style([-2, -4]), 0.5, "spherical")
