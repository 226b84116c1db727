"""The limiter alone: its ceiling, what it leaves alone, and that a stream joins to the whole."""

import numpy as np
import pytest

from fte.constants import SAMPLE_RATE
from fte.limiter import limited
from fte.sound import true_peak

CEILING = 0.5
OVERSHOOT = 1.02  # a gain that changes makes peaks of its own; measured: 1.003


def noise(samples: int, level: float = 0.1) -> np.ndarray:
    return (level * np.random.default_rng(0).standard_normal(samples)).astype(np.float32)


def whole(samples: np.ndarray, *, rate: int = SAMPLE_RATE, cuts: tuple[int, ...] = ()) -> np.ndarray:
    return np.concatenate(list(limited(np.split(samples, cuts), rate, CEILING)))


@pytest.mark.parametrize("rate", [4_000, SAMPLE_RATE, 192_000])
@pytest.mark.parametrize("level", [0.3, 1.0, 30.0])
def test_no_peak_passes_the_ceiling(rate, level):
    result = whole(noise(rate, level), rate=rate)
    assert len(result) == rate
    assert true_peak([result]) <= CEILING * OVERSHOOT


def test_what_is_below_the_ceiling_keeps_every_bit():
    samples = noise(SAMPLE_RATE, 0.05)
    np.testing.assert_array_equal(whole(samples), samples)


def test_only_the_surroundings_of_a_peak_change():
    """5 ms before it, and 10 ms and the release after it; further away every bit is kept."""
    samples = noise(2 * SAMPLE_RATE, 0.05)
    click = SAMPLE_RATE // 2
    samples[click] = 2.0
    result = whole(samples)
    changed = np.flatnonzero(result != samples)
    assert changed[0] >= click - 0.006 * SAMPLE_RATE
    assert changed[-1] <= click + 0.7 * SAMPLE_RATE
    assert np.abs(result[click]) <= CEILING


@pytest.mark.parametrize("cuts", [(1,), (100, 101, 102, 9_000), tuple(range(0, 20_000, 37)), (0, 0, 5_000)])
def test_a_stream_joins_to_the_whole(cuts):
    samples = noise(20_000, 0.4)
    np.testing.assert_allclose(whole(samples, cuts=cuts), whole(samples), rtol=0, atol=1e-6)


@pytest.mark.parametrize("length", [0, 1, 2, 50])
def test_short_sounds_keep_their_length(length):
    result = list(limited([np.ones(length, np.float32)], SAMPLE_RATE, CEILING))
    assert sum(map(len, result)) == length
    assert all(np.abs(part).max() <= CEILING for part in result)


def test_the_gain_of_a_steady_voice_does_not_follow_its_periods():
    """Impulses 12 ms apart, as of a voice of 83 Hz: between two of them the gain stays."""
    samples = noise(SAMPLE_RATE, 1e-3)
    samples[:: round(0.012 * SAMPLE_RATE)] = 1.0
    gain = whole(samples)[5_000:15_000] / samples[5_000:15_000]
    assert gain.max() / gain.min() == pytest.approx(1, abs=1e-3)
