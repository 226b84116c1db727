"""Sampling: the moments of z around a style, and offsets that lie exactly on their sphere, in every direction alike."""

import numpy as np
import pytest

from fte.errors import RequestError
from fte.noise import normal
from fte.style.sampling import sample, tail_offset
from fte.style.style import Style

M = 80


def noise(*shape: int, request: int = 0) -> np.ndarray:
    return normal(shape, seed=3, request=request, stream="prior")


def style(spread=None, m: int = M) -> Style:
    return Style(
        name="happy",
        mean=np.linspace(-1, 1, m, dtype=np.float32),
        spread=np.ones(m, np.float32),
        utterance_spread=np.linspace(0.1, 2, m, dtype=np.float32) if spread is None else np.float32(spread),
        sigma=0.5,
        voice_hash="1a2b" * 16,
        speaker=0,
        aggregation="time_and_batch",
        lam=1e-4,
        references=(),
    )


# Around a mean


def test_z_has_the_mean_of_the_style_and_the_deviation_asked_for():
    frames = 4000
    z = sample(noise(frames, M), 0.7, style().frames(frames), 0.5)
    error = 0.7 / np.sqrt(frames)  # standard error of a mean
    np.testing.assert_allclose(z.mean(axis=0), 0.5 * style().mean, atol=5 * error)
    np.testing.assert_allclose(z.std(axis=0), 0.7, atol=5 * error)
    assert z.shape == (frames, M) and z.dtype == np.float32


def test_without_noise_z_is_the_weighted_mean():
    z = sample(noise(3, M), 0.0, style().frames(3), 1.5)
    np.testing.assert_allclose(z, np.tile(np.linspace(-1.5, 1.5, M), (3, 1)), atol=1e-6)


def test_weight_zero_is_the_plain_prior():
    eps = noise(3, M)
    np.testing.assert_array_equal(sample(eps, 0.5, style().frames(3), 0.0), sample(eps, 0.5))


def test_the_plain_prior_scales_the_noise():
    np.testing.assert_allclose(sample(noise(3, M), 0.5), noise(3, M) / 2, rtol=1e-7)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sigma": -0.1}, "sigma is -0.1"),
        ({"sigma": 11}, "sigma is 11"),
        ({"sigma": float("nan")}, "sigma is nan"),
        ({"weight": -1}, "the weight of the style is -1"),
        ({"weight": 4.1}, "the weight of the style is 4.1"),
        ({"means": np.zeros((2, M), np.float32)}, r"the noise has shape \(3, 80\) and the means \(2, 80\)"),
        ({"means": np.zeros(M, np.float32)}, r"the means \(80,\)"),
    ],
)
def test_options_out_of_range_are_refused(options, says):
    with pytest.raises(RequestError, match=says):
        sample(noise(3, M), **{"sigma": 0.5, **options})


# Tails


@pytest.mark.parametrize("radius", [0, 0.5, 2, 10])
def test_the_offset_lies_exactly_at_its_radius_in_units_of_the_observed_spread(radius):
    for request in range(20):
        offset = tail_offset(style(), noise(M, request=request), radius)
        in_units = offset / style().utterance_spread
        assert np.sqrt(np.mean(in_units**2)) == pytest.approx(radius, rel=1e-5)


def test_radius_one_is_as_far_as_the_recordings_typically_lie():
    """Utterance means drawn with the spread that is asked for lie at a root mean square distance of 1."""
    drawn = noise(500, M) * style().utterance_spread
    distances = [np.mean((row / style().utterance_spread) ** 2) for row in drawn]
    offsets = [np.mean((tail_offset(style(), row, 1) / style().utterance_spread) ** 2) for row in noise(50, M)]
    np.testing.assert_allclose(np.mean(distances), 1, atol=0.03)
    np.testing.assert_allclose(offsets, 1, atol=1e-4)


def test_the_directions_are_uniform_on_the_sphere():
    """By the moments of a uniform direction u in M dimensions: E u = 0, E u u' = I / M, E u^4 = 3 / (M (M + 2))."""
    m, count = 6, 20_000
    spread = np.float32([0.1, 0.5, 1, 2, 5, 10])
    small = style(spread, m)
    u = np.array([tail_offset(small, row, 1) for row in noise(count, m)]) / spread / np.sqrt(m)
    np.testing.assert_allclose(np.linalg.norm(u, axis=1), 1, rtol=1e-5)
    error = 5 / np.sqrt(count * m)
    np.testing.assert_allclose(u.mean(axis=0), 0, atol=error)
    np.testing.assert_allclose(u.T @ u / count, np.eye(m) / m, atol=error / 2)
    np.testing.assert_allclose((u**4).mean(axis=0), 3 / (m * (m + 2)), atol=error / 2)


def test_the_same_noise_gives_the_same_direction_at_every_radius():
    near, far = (tail_offset(style(), noise(M), radius) for radius in (0.5, 2))
    np.testing.assert_allclose(far, 4 * near, rtol=1e-5)


def test_channels_without_spread_stay_and_the_others_keep_the_radius():
    offset = tail_offset(style([0, 2, 0, 1], 4), noise(4), 3)
    assert offset[0] == offset[2] == 0
    assert np.sqrt(np.mean((offset[[1, 3]] / [2, 1]) ** 2)) == pytest.approx(3, rel=1e-5)


@pytest.mark.parametrize(
    ("made", "eps", "radius", "says"),
    [
        (style(), noise(M), -0.1, "the radius is -0.1: give a number from 0 to 10"),
        (style(), noise(M), 10.1, "the radius is 10.1"),
        (style(), noise(M), float("nan"), "the radius is nan"),
        (style(), noise(M - 1), 1, r"the noise has shape \(79,\)"),
        (style(), np.zeros(M, np.float32), 1, "the noise has no direction"),
        (style(), np.full(M, np.inf, np.float32), 1, "the noise has no direction"),
        (style(np.zeros(M)), noise(M), 1, "'happy' knows no spread between utterances: extract it from two or more"),
    ],
)
def test_tails_that_cannot_be_drawn_from_are_refused(made, eps, radius, says):
    with pytest.raises(RequestError, match=says):
        tail_offset(made, eps, radius)
