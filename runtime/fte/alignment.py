"""Which symbol is spoken in which frame: the monotone path through the attention of an utterance.

Legend: T frames, N symbols, t frames so far. Attention is one array (T, N) of weights for each flow, frames in playing
order; a path has one symbol for each frame and never goes back.

The path is the one with the highest sum of log weights, found by dynamic programming as in monotonic alignment search
(Kim et al., "Glow-TTS", 2020). It may stay, or step over any number of symbols: nothing makes a model read them all,
and a path that had to would hide what was skipped.

All flows count alike. They read the same text over the same frames, every other one of them from the end; where
one is flat its log weights are equal and the others decide, and where one is wrong for a few frames the floor under
the weights bounds what that costs.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fte.constants import LIMITS
from fte.errors import RequestError

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]

WEIGHT_FLOOR = 1e-4
"""Weights below this count as this: a frame that looks elsewhere costs a path at most log(10,000) = 9.2 a flow."""


class WordRange(Protocol):
    """A word and the symbols that spell it, as `fte.text.Word` has them."""

    @property
    def text(self) -> str:
        """As it is shown."""

    @property
    def start(self) -> int:
        """Its first symbol."""

    @property
    def stop(self) -> int:
        """The symbol after its last."""


def align(attention: Sequence[Floats]) -> Ints:
    """The symbol spoken in each frame, (T) and never falling, by the attention (T, N) of each flow.

    Where several paths are equally good, the one that stays longest on its last symbol is taken.
    Raises RequestError for shapes that differ or are beyond the limits, and weights that are negative or not finite.
    """
    flows = checked_attention(attention)
    aligner = OnlineAligner(flows[0].shape[1], flows[1:])
    for weights in flows[0]:
        aligner.push(weights)
    return aligner.path()


class OnlineAligner:
    """`align` for a stream: flow 0 comes frame by frame, while the flows that ran before it are known."""

    def __init__(self, n_symbols: int, known: Sequence[Floats] = ()) -> None:
        """Take the attention (T, N) of the flows that are done. Raises RequestError as `align` does."""
        if not 1 <= n_symbols <= LIMITS.symbols:
            raise RequestError(f"the text has {n_symbols} symbols: give 1 to {LIMITS.symbols}")
        flows = checked_attention(known) if known else []
        if flows and flows[0].shape[1] != n_symbols:
            raise RequestError(f"the attention is over {flows[0].shape[1]} symbols and the text has {n_symbols}")
        self._frames = len(flows[0]) if flows else LIMITS.frames
        self._known = np.sum([_log_weights(w) for w in flows], axis=0) if flows else None
        self._symbols = np.arange(n_symbols, dtype=np.int16)
        self._scores = np.zeros(n_symbols)
        self._came_from: list[npt.NDArray[np.int16]] = []

    def push(self, weights: Floats) -> None:
        """Take the weights (N) of the next frame. Raises RequestError as `align` does, or after the last frame."""
        t = len(self._came_from)
        if t == self._frames:
            raise RequestError(f"frame {t} is one too many: the utterance has {self._frames} frames")
        row = np.asarray(weights)
        if row.shape != self._scores.shape:
            raise RequestError(f"the attention of frame {t} has shape {row.shape}: give (N,) = {self._scores.shape}")
        _check_weights(row, f"the attention of frame {t}")
        best = np.maximum.accumulate(self._scores)
        # Of equally good symbols to come from, the last: a path that may stay does.
        self._came_from.append(np.maximum.accumulate(np.where(self._scores == best, self._symbols, 0)))
        self._scores = best + _log_weights(row)
        if self._known is not None:
            self._scores += self._known[t]

    def path(self) -> Ints:
        """The best path (t) through the frames so far; later frames may still change its end."""
        path = np.empty(len(self._came_from), np.int64)
        symbol = int(self._scores.argmax())
        for t in reversed(range(len(path))):
            path[t] = symbol
            symbol = self._came_from[t][symbol]
        return path


def symbol_frames(path: Ints, n_symbols: int) -> Ints:
    """First frame of each symbol on a path (T), and the frame after its last: (N, 2).

    The ranges are contiguous. A symbol that the path steps over has an empty one, at the frame of the step.
    Raises RequestError for a path that goes back or leaves the text.
    """
    if len(path) and (path[0] < 0 or path[-1] >= n_symbols or (np.diff(path) < 0).any()):
        raise RequestError(f"the path goes back or leaves the {n_symbols} symbols of the text: give one of `align`")
    symbols = np.arange(n_symbols)
    return np.stack([np.searchsorted(path, symbols, side) for side in ("left", "right")], axis=1)


def checked_attention(attention: Sequence[Floats]) -> list[Floats]:
    """The attention (T, N) of each flow, or a RequestError that says what is wrong with it."""
    flows = [np.asarray(weights) for weights in attention]
    if not flows:
        raise RequestError("there is no attention: give that of at least one flow")
    for k, weights in enumerate(flows):
        if weights.ndim != 2 or weights.shape != flows[0].shape:
            raise RequestError(f"the attention of flow {k} has shape {weights.shape}: give (T, N), alike for all flows")
        frames, symbols = weights.shape
        if not (1 <= frames <= LIMITS.frames and 1 <= symbols <= LIMITS.symbols):
            raise RequestError(
                f"the attention has {frames} frames and {symbols} symbols: "
                f"give 1 to {LIMITS.frames} frames and 1 to {LIMITS.symbols} symbols"
            )
        _check_weights(weights, f"the attention of flow {k}")
    return flows


def check_words(words: Sequence[WordRange], n_symbols: int) -> None:
    """Raise RequestError unless the words are ranges of the text's symbols, not empty, in order and disjoint."""
    stop = 0
    for word in words:
        if not stop <= word.start < word.stop <= n_symbols:
            raise RequestError(
                f"the word {word.text!r} is said to be symbols {word.start} to {word.stop}: "
                f"give ranges in order within the {n_symbols} symbols of the text"
            )
        stop = word.stop


def _check_weights(weights: Floats, name: str) -> None:
    # A comparison with NaN is false, and a sum of finite float32 weights stays far below the limit.
    if not ((weights >= 0) & (weights < np.inf)).all():
        raise RequestError(f"{name} has values that are negative or not finite: give weights of at least 0")


def _log_weights(weights: Floats) -> npt.NDArray[np.float64]:
    return np.log(np.maximum(weights, WEIGHT_FLOOR, dtype=np.float64))
