"""Noise is a function of (seed, request, stream, row, column) and of nothing else, and it is Gaussian."""

import math

import numpy as np
import pytest

from fte.errors import RequestError
from fte.noise import _box_muller, normal, normal_rows

WORD = (1 << 64) - 1


def philox4x64(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """One block of Philox4x64-10 in Python integers, written from the paper (Salmon et al. 2011)."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = 0xD2E7470EE14C6C93 * c0, 0xCA5A826395121157 * c2
        c0, c1, c2, c3 = (p1 >> 64) ^ c1 ^ k0, p1 & WORD, (p0 >> 64) ^ c3 ^ k1, p0 & WORD
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & WORD, (k1 + 0xBB67AE8584CAA73B) & WORD
    return c0, c1, c2, c3


def expected_row(seed: int, request: int, stream: int, row: int, width: int) -> list[float]:
    """A row of noise by the layout that fte.noise documents, in Python floats."""
    values: list[float] = []
    for block in range(-(-width // 4)):
        words = philox4x64((block, row, stream, 0), (seed, request))
        for u, v in (words[:2], words[2:]):
            radius = math.sqrt(-2.0 * math.log(((u >> 11) + 1) / 2**53))
            angle = 2.0 * math.pi * (v >> 11) / 2**53
            values += [radius * math.cos(angle), radius * math.sin(angle)]
    return values[:width]


def test_the_philox_of_this_test_gives_the_published_known_answers():
    # kat_vectors of Random123, the authors' implementation
    assert philox4x64((0, 0, 0, 0), (0, 0)) == (
        0x16554D9ECA36314C,
        0xDB20FE9D672D0FDC,
        0xD7E772CEE186176B,
        0x7E68B68AEC7BA23B,
    )
    assert philox4x64((WORD, WORD, WORD, WORD), (WORD, WORD)) == (
        0x87B092C3013FE90B,
        0x438C3C67BE8D0224,
        0x9CC7D7C69CD777B6,
        0xA09CAEBF594F0BA0,
    )


@pytest.mark.parametrize(
    ("seed", "request_", "stream", "row", "width"),
    [
        (0, 0, "prior", 0, 4),
        (1234, 0, "prior", 0, 80),
        (1234, 7, "vocoder", 3, 9),
        (1234, 7, "prior", 1 << 40, 6),
        ((1 << 63) - 1, (1 << 63) - 1, "vocoder", (1 << 63) - 2, 5),
    ],
)
def test_rows_follow_the_documented_layout(seed, request_, stream, row, width):
    drawn = normal_rows(row, 1, width, seed=seed, request=request_, stream=stream)[0]
    expected = expected_row(seed, request_, ["prior", "vocoder"].index(stream), row, width)
    np.testing.assert_allclose(drawn, expected, rtol=1e-6, atol=1e-7)


def test_values_are_those_of_every_earlier_release():
    expected = [
        [-0.0952375978, 1.0754059553, 1.4450826645, -0.1290393621, -0.4456902742, 0.9506865144],
        [-0.9881274104, -0.6793469191, 0.1324591190, 0.3110870719, -1.4844554663, -0.6690638065],
    ]
    np.testing.assert_allclose(normal((2, 6), seed=1234, request=5, stream="prior"), expected, rtol=2e-7)
    for row in range(2):
        np.testing.assert_allclose(expected[row], expected_row(1234, 5, 0, row, 6), rtol=1e-6)


def test_the_smallest_and_the_largest_words_give_finite_values():
    extremes = _box_muller(np.array([[0, 0, WORD, WORD]], np.uint64))[0]
    np.testing.assert_allclose(extremes, [math.sqrt(2 * 53 * math.log(2)), 0.0, 0.0, 0.0], atol=1e-6)


def test_a_slice_of_rows_is_the_same_as_in_the_whole():
    whole = normal_rows(0, 40, 80, seed=3, request=1, stream="prior")
    np.testing.assert_array_equal(normal_rows(17, 9, 80, seed=3, request=1, stream="prior"), whole[17:26])


def test_more_frames_never_change_the_earlier_ones():
    few, many = (normal((frames, 80), seed=3, request=1, stream="prior") for frames in (10, 400))
    np.testing.assert_array_equal(many[:10], few)


def test_a_narrow_row_is_the_beginning_of_a_wide_one():
    wide = normal_rows(2, 3, 80, seed=3, request=1, stream="vocoder")
    np.testing.assert_array_equal(normal_rows(2, 3, 7, seed=3, request=1, stream="vocoder"), wide[:, :7])


def test_a_shape_is_its_rows_in_order():
    rows = normal_rows(0, 6, 5, seed=3, request=1, stream="prior")
    np.testing.assert_array_equal(normal((2, 3, 5), seed=3, request=1, stream="prior").reshape(6, 5), rows)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (0, 4), (5,)])
def test_degenerate_shapes_are_kept(shape):
    values = normal(shape, seed=0, request=0, stream="prior")
    assert values.shape == shape
    assert values.dtype == np.float32


def test_moments_are_those_of_a_normal_distribution():
    values = normal((1250, 80), seed=11, request=2, stream="prior").astype(np.float64).ravel()
    n = values.size  # 1e5 draws; bounds are 5 standard errors
    assert abs(values.mean()) < 5 / math.sqrt(n)
    assert abs(values.var() - 1) < 5 * math.sqrt(2 / n)
    assert abs((values**3).mean()) < 5 * math.sqrt(15 / n)
    assert abs((values**4).mean() - 3) < 5 * math.sqrt(96 / n)


def test_the_distribution_function_is_the_normal_one():
    values = np.sort(normal((1250, 80), seed=12, request=2, stream="vocoder").ravel())
    ideal = np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in values])
    distance = np.abs(ideal - (np.arange(values.size) + 0.5) / values.size).max()  # Kolmogorov-Smirnov
    assert distance < 1.95 / math.sqrt(values.size)  # passed by 99.9 % of true normal samples


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1, "request": 0, "stream": "prior"},
        {"seed": 0, "request": 1, "stream": "prior"},
        {"seed": 0, "request": 0, "stream": "vocoder"},
        {"seed": 0, "request": 0, "stream": "prior", "part": 1},
    ],
)
def test_seed_request_stream_and_part_are_independent(other):
    a = normal((250, 80), seed=0, request=0, stream="prior").ravel()
    b = normal((250, 80), **other).ravel()
    assert abs(np.corrcoef(a, b)[0, 1]) < 5 / math.sqrt(a.size)


def test_rows_and_columns_are_independent():
    values = normal((250, 80), seed=5, request=0, stream="prior")
    for a, b in ((values[:-1], values[1:]), (values[:, :-1], values[:, 1:])):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 5 / math.sqrt(a.size)


def test_numpy_integers_are_seeds():
    a = normal((4,), seed=int(np.int64(9)), request=0, stream="prior")
    np.testing.assert_array_equal(normal((4,), seed=np.int64(9), request=np.uint32(0), stream="prior"), a)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "the seed"),
        ({"seed": 1 << 63}, "the seed"),
        ({"seed": 1.0}, "the seed"),
        ({"seed": True}, "the seed"),
        ({"seed": None}, "the seed"),
        ({"request": -1}, "the request number"),
        ({"part": -1}, "the part"),
        ({"stream": "style"}, "the noise stream 'style'"),
        ({"shape": (3, -1)}, "an axis of the noise"),
    ],
)
def test_what_cannot_be_drawn_is_refused(arguments, message):
    with pytest.raises(RequestError, match=message):
        normal(**{"shape": (2, 2), "seed": 0, "request": 0, "stream": "prior", **arguments})


def test_rows_past_the_last_one_are_refused():
    with pytest.raises(RequestError, match="the last row"):
        normal_rows((1 << 63) - 1, 1, 2, seed=0, request=0, stream="prior")
