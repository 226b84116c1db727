"""The path through the attention: what it follows, what it bears, and that a stream finds the same."""

import itertools
import time

import numpy as np
import pytest

from fte.alignment import WEIGHT_FLOOR, OnlineAligner, align, symbol_frames
from fte.constants import LIMITS
from fte.decoder import NEVER, Utterance
from fte.errors import RequestError


def imposed(path: np.ndarray, n_symbols: int, width: float = 0.0) -> np.ndarray:
    """Attention (T, N) that follows a path (T): one-hot, or a bell of that standard deviation in symbols."""
    distance = np.abs(np.arange(n_symbols) - np.asarray(path)[:, None])
    weights = (distance == 0).astype(float) if width == 0 else np.exp(-0.5 * (distance / width) ** 2)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def random_path(rng: np.random.Generator, n_symbols: int) -> np.ndarray:
    """A monotone path that gives each symbol 0 to 12 frames."""
    lengths = rng.integers(0, 13, n_symbols)
    lengths[0] += 1
    return np.repeat(np.arange(n_symbols), lengths)


def score(path: tuple[int, ...], flows: list[np.ndarray]) -> float:
    return sum(float(np.log(np.maximum(f[np.arange(len(path)), path], WEIGHT_FLOOR)).sum()) for f in flows)


@pytest.mark.parametrize("flows", [1, 2])
@pytest.mark.parametrize("seed", range(10))
def test_no_monotone_path_scores_higher(seed, flows):
    rng = np.random.default_rng(seed)
    attention = [rng.dirichlet(np.full(4, 0.3), 6) for _ in range(flows)]
    best = max(score(p, attention) for p in itertools.combinations_with_replacement(range(4), 6))
    found = align(attention)
    assert (np.diff(found) >= 0).all()
    assert score(tuple(found), attention) == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize("width", [0.0, 0.4, 1.5])
@pytest.mark.parametrize("seed", range(5))
def test_an_imposed_path_is_found_exactly(seed, width):
    path = random_path(np.random.default_rng(seed), 40)
    np.testing.assert_array_equal(align([imposed(path, 40, width)]), path)


def test_a_path_may_begin_and_end_anywhere_and_step_over_symbols():
    path = np.array([3, 3, 4, 9, 9, 12])
    np.testing.assert_array_equal(align([imposed(path, 20)]), path)


@pytest.mark.parametrize("looked_at", [1, 13, 19])
def test_a_frame_that_looks_elsewhere_for_certain_moves_no_other(looked_at):
    path = np.repeat(np.arange(20), 5)
    weights = imposed(path, 20, width=1.0)
    weights[50] = np.arange(20) == looked_at
    found = align([weights])
    np.testing.assert_array_equal(np.delete(found, 50), np.delete(path, 50))


def test_a_flat_flow_leaves_the_decision_to_the_other():
    path = np.repeat(np.arange(20), 5)
    flat = np.full((100, 20), 0.05)
    np.testing.assert_array_equal(align([flat, imposed(path, 20, 0.5)]), path)
    np.testing.assert_array_equal(align([imposed(path, 20, 0.5), flat]), path)


def test_flows_that_run_ahead_in_opposite_directions_meet_in_the_middle():
    path = np.repeat(np.arange(30), 6)
    ahead, behind = (imposed(np.clip(path + by, 0, 29), 30, 1.0) for by in (1, -1))
    found = align([ahead, behind])
    np.testing.assert_array_equal(found[6:-6], path[6:-6])


def test_frames_that_attend_to_nothing_stay_where_they_were():
    weights = imposed(np.repeat(np.arange(5), 4), 5)
    silence = np.zeros((7, 5), np.float32)
    np.testing.assert_array_equal(align([np.concatenate([weights[:12], silence])])[12:], 2)


def best_score(flows: list[np.ndarray]) -> float:
    """Of all monotone paths, by the recursion itself."""
    logs = sum(np.log(np.maximum(weights, WEIGHT_FLOOR)) for weights in flows)
    scores = logs[0]
    for row in logs[1:]:
        scores = [max(scores[: n + 1]) + row[n] for n in range(len(row))]
    return max(scores)


def test_a_stream_knows_the_best_path_of_the_frames_so_far():
    rng = np.random.default_rng(7)
    early, late = (rng.dirichlet(np.full(8, 0.5), 50) for _ in range(2))
    aligner = OnlineAligner(8, [early])
    assert len(aligner.path()) == 0
    for t, weights in enumerate(late, 1):
        aligner.push(weights)
        so_far = [late[:t], early[:t]]
        assert score(tuple(aligner.path()), so_far) == pytest.approx(best_score(so_far), abs=1e-9)


def test_a_stream_without_early_flows_follows_its_frames():
    path = np.repeat(np.arange(6), 3)
    aligner = OnlineAligner(6)
    for weights in imposed(path, 6):
        aligner.push(weights)
    np.testing.assert_array_equal(aligner.path(), path)


def test_a_long_utterance_takes_well_under_a_second():
    attention = np.random.default_rng(0).dirichlet(np.ones(200), 1000)
    start = time.perf_counter()
    align([attention, attention])
    assert time.perf_counter() - start < 0.5  # some 20 ms where nothing else runs


def test_the_frames_of_each_symbol_are_contiguous_and_empty_where_it_is_stepped_over():
    frames = symbol_frames(np.array([1, 1, 1, 2, 5, 5]), 7)
    assert frames.tolist() == [[0, 0], [0, 3], [3, 4], [4, 4], [4, 4], [4, 6], [6, 6]]


@pytest.mark.parametrize("path", [[0, 2, 1], [-1, 0], [0, 3]])
def test_a_path_that_goes_back_or_leaves_the_text_is_refused(path):
    with pytest.raises(RequestError, match="the path goes back or leaves the 3 symbols"):
        symbol_frames(np.array(path), 3)


ONES = np.ones((4, 3))


@pytest.mark.parametrize(
    ("attention", "says"),
    [
        ([], "there is no attention"),
        ([np.ones(3)], r"flow 0 has shape \(3,\)"),
        ([ONES, np.ones((5, 3))], r"flow 1 has shape \(5, 3\)"),
        ([np.ones((0, 3))], "0 frames and 3 symbols"),
        ([np.ones((2, LIMITS.symbols + 1))], "give 1 to 10000 frames and 1 to 1000 symbols"),
        ([ONES, ONES * np.nan], "flow 1 has values that are negative or not finite"),
        ([-ONES], "flow 0 has values that are negative"),
        ([ONES * np.inf], "not finite"),
    ],
)
def test_attention_that_is_none_is_refused(attention, says):
    with pytest.raises(RequestError, match=says):
        align(attention)


def test_a_stream_refuses_what_does_not_belong_to_it():
    with pytest.raises(RequestError, match="the text has 0 symbols: give 1 to"):
        OnlineAligner(0)
    with pytest.raises(RequestError, match="over 3 symbols and the text has 4"):
        OnlineAligner(4, [ONES])
    aligner = OnlineAligner(3, [ONES])
    with pytest.raises(RequestError, match=r"frame 0 has shape \(4,\): give \(N,\) = \(3,\)"):
        aligner.push(np.ones(4))
    with pytest.raises(RequestError, match="frame 0 has values that are negative or not finite"):
        aligner.push(np.array([1.0, np.nan, 0.0]))
    for weights in ONES:
        aligner.push(weights)
    with pytest.raises(RequestError, match="frame 4 is one too many: the utterance has 4 frames"):
        aligner.push(ONES[0])


def test_attention_imposed_on_a_voice_gives_its_path_back(tiny):
    path = random_path(np.random.default_rng(3), 15)
    z = np.zeros((len(path), tiny.decoder.sizes.n_mels), np.float32)
    weights = imposed(path, 15, 0.4)
    (decoded,) = tiny.decoder.decode([Utterance(np.arange(15), z, gate_threshold=NEVER, attention=(weights, weights))])
    np.testing.assert_array_equal(align(decoded.attention), path)
