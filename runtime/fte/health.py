"""Whether the attention of an utterance followed its text, and what went wrong where it did not.

Legend: T frames, N symbols. Each flow is judged by its own attention (T, N), frames in playing order; a fault names the
flow where there are several. A flow that runs backward reads the text from its end, so "ran past" has two sides.

From the weights of a flow a trace is taken: the symbol with the highest weight in each frame. Frames whose
attention is blurred keep the symbol of the frame before, and a median over `SMOOTHING_FRAMES` takes out glances of a
frame or two, which real attention has now and then and nobody hears. The rules:

unaligned
    No statement about words is possible. Either half of the frames are spread over more than `SPREAD_SYMBOLS` symbols
    (the exponential of their entropy; in short texts, over more than `SPREAD_PART` of them): trained attention rests
    on one or two, and even a bell of a standard deviation of one symbol is spread over 4.1. Or more than
    `SCATTERED_PART` of the steps from frame to frame jump, by `JUMP_BACK` or `JUMP_AHEAD` symbols: healthy attention
    moves once in 4 to 12 frames, and hardly ever by more than three symbols. Texts below `JUDGED_SYMBOLS` symbols are
    too short to tell. Another seed does not mend this. The rules below are then not applied to the flow.
skipped
    A whole word (with a neighbour, if it is a single symbol), or at least `SKIPPED_SYMBOLS` symbols of words, one after
    another, that are never read: fewer than `READ_FRAMES` frames give each a weight of `READ_WEIGHT`. Silent
    letters get no frames of their own, and English has at most three in a row ("queue"); spaces and marks often get
    none. Where the words are not known, all symbols count.
ran past
    The attention stays beyond the last sound of the text, or before its first, for longer than `PAST_SECONDS`: the text
    was finished, or not yet begun, and what is heard is silence, breath or noise. It may also flee to the other end of
    the text. Recordings that voices are trained on have up to 0.6 s of silence at either end, and attention that ends
    an utterance lets 0.25 s fade.
repeated
    The trace lies `BEHIND_SYMBOLS` symbols or more behind a place that it had reached and kept, for `BEHIND_FRAMES`
    frames or more, the length of a short sound. A step back by one or two symbols is common and harmless, and so is a
    glance ahead.
stalled
    The attention does not get beyond a symbol for longer than `STALL_SECONDS`, which no sound of fluent speech lasts.
    In a pause it may wait for `PAUSE_SECONDS`: on a symbol of no word (space, mark), beside two of them (a mark and its
    space), or where the words are not known.
never stopped
    The ceiling on frames ended the utterance, so that it may be cut off, or have noise at its end.
too short
    The utterance has fewer than `SHORTEST_FRAMES` frames, or fewer than `RUSHED_FRAMES` for each symbol: whatever its
    attention says, nobody can have spoken the text in that time. Both are half of what is found in speech: of 2,700
    recordings of three speakers the fastest has 3.8 frames a symbol (half of them have more than 5.2), and the shortest
    word that a voice trained on them speaks, a single vowel, has 16.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from fte.alignment import Floats, Ints, WordRange, check_words, checked_attention
from fte.constants import FRAME_SECONDS

Kind = Literal["never stopped", "too short", "skipped", "repeated", "ran past", "stalled", "unaligned"]
Booleans = npt.NDArray[np.bool_]

GRAVITY: tuple[Kind, ...] = ("never stopped", "too short", "skipped", "repeated", "ran past", "stalled", "unaligned")
"""The kinds of fault, gravest first: words lost, then words too many, then time. A voice of which one flow is
unaligned can be judged by the others; where no flow is aligned, that is the verdict."""

SMOOTHING_FRAMES = 5
BLURRED_WEIGHT = 0.5
"""A frame is blurred when less than this lies on its highest symbol and those beside it."""

SPREAD_SYMBOLS = 6.0
SPREAD_PART = 0.85
SCATTERED_PART = 0.25
JUMP_BACK = 2
JUMP_AHEAD = 4
JUDGED_SYMBOLS = 3
SKIPPED_SYMBOLS = 4
READ_FRAMES = 2
READ_WEIGHT = 0.2
BEHIND_SYMBOLS = 3
BEHIND_FRAMES = 6
STALL_SECONDS = 0.7
PAUSE_SECONDS = 1.5
PAST_SECONDS = 1.0
SHORTEST_FRAMES = 8
RUSHED_FRAMES = 2

_SYMBOL_FRAMES = 7
"""Frames that a symbol takes in fluent speech."""
_LOST_TEXT = 2.0
"""A frame's worth of lost text costs as much as so many frames of wrong sound: no listener can restore it."""
_NEVER_STOPPED_FRAMES = 86
"""What reaching the ceiling costs beside the faults that led there: a second of wrong sound."""
_MESSAGE_WORDS = 6
"""Most words that a message spells out."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that went wrong, over a range of frames and of symbols; both ranges are half open."""

    kind: Kind
    start_frame: int
    stop_frame: int
    """Equal to the start for what takes no time: text that was skipped, an utterance that was cut."""
    start_symbol: int
    stop_symbol: int
    message: str
    """One sentence with times and words."""
    flow: int | None = None
    """In which flow; None for the whole utterance."""

    @property
    def cost(self) -> float:
        """How bad it is, in frames of wrong sound."""
        if self.kind == "skipped":
            return _LOST_TEXT * _SYMBOL_FRAMES * (self.stop_symbol - self.start_symbol)
        if self.kind == "never stopped":
            return _NEVER_STOPPED_FRAMES
        if self.kind == "too short":
            missing = _SYMBOL_FRAMES * (self.stop_symbol - self.start_symbol) - self.stop_frame
            return _LOST_TEXT * max(1, missing)
        return self.stop_frame - self.start_frame


@dataclass(frozen=True)
class Health:
    """What the attention of an utterance says about it."""

    verdict: Literal["ok"] | Kind
    """"ok" or the gravest fault."""
    faults: tuple[Fault, ...]
    """In order of time within each flow."""

    @property
    def ok(self) -> bool:
        """Whether there is no fault."""
        return not self.faults

    @property
    def cost(self) -> float:
        """How bad it is, for choosing between attempts at one text: 0 is healthy, lower is better."""
        return sum(fault.cost for fault in self.faults)


def judge(
    attention: Sequence[Floats],
    *,
    ended: Literal["gate", "attention", "ceiling", "given"],
    words: Sequence[WordRange] = (),
    first_flow: int = 0,
    frame_seconds: float = FRAME_SECONDS,
) -> Health:
    """Judge an utterance by the attention (T, N) of each flow, frames in playing order.

    ended: what ended it ("given": its length was asked for). words: with their ranges of the N symbols, to name them
    and to tell sounds from pauses. first_flow: the number of the first flow given, if only some are.
    Raises RequestError for shapes, weights or words that do not fit.
    """
    flows = checked_attention(attention)
    text = _Text(words, flows[0].shape[1], frame_seconds)
    faults: list[Fault] = []
    for k, weights in enumerate(flows, first_flow):
        name = f" (flow {k})" if len(flows) > 1 or first_flow else ""
        faults += sorted(_Reading(weights, text, k, name).faults(), key=lambda fault: fault.start_frame)
    if ended == "ceiling":
        faults.append(_never_stopped(len(flows[0]), text))
    elif len(flows[0]) < max(SHORTEST_FRAMES, RUSHED_FRAMES * text.n_symbols):
        faults.append(_too_short(len(flows[0]), text))
    return Health(_verdict(faults, len(flows)), tuple(faults))


def _verdict(faults: Sequence[Fault], n_flows: int) -> Literal["ok"] | Kind:
    kinds = [fault.kind for fault in faults]
    if kinds.count("unaligned") == n_flows:
        return "unaligned"
    return min(kinds, key=GRAVITY.index, default="ok")


def _never_stopped(frames: int, text: "_Text") -> Fault:
    message = f"the utterance did not stop by itself and was cut at {text.seconds(frames)}"
    return Fault("never stopped", frames, frames, 0, text.n_symbols, message)


def _too_short(frames: int, text: "_Text") -> Fault:
    message = f"the utterance lasts {text.seconds(frames)}, too short for {text.n_symbols} symbols"
    return Fault("too short", frames, frames, 0, text.n_symbols, message)


class _Text:
    """What is known of the text that was read."""

    def __init__(self, words: Sequence[WordRange], n_symbols: int, frame_seconds: float) -> None:
        check_words(words, n_symbols)
        self.words, self.n_symbols, self.frame_seconds = words, n_symbols, frame_seconds
        self.in_word = np.full(n_symbols, not words)
        for word in words:
            self.in_word[word.start : word.stop] = True
        self.first_sound = words[0].start if words else 0
        self.last_sound = words[-1].stop - 1 if words else n_symbols - 1

    @cached_property
    def in_pause(self) -> Booleans:
        """Symbols (N) on which attention may wait: those of no word, and those beside two or more of them."""
        if not self.words:
            return np.ones(self.n_symbols, bool)
        outside = ~self.in_word
        long_gap = outside[1:] & outside[:-1]
        pause = outside.copy()
        pause[:-2] |= long_gap[1:]
        pause[2:] |= long_gap[:-1]
        return pause

    def seconds(self, frame: int) -> str:
        return f"{frame * self.frame_seconds:.2f} s"

    def spelled(self, start: int, stop: int) -> str:
        """The words that a range of symbols touches, for a message."""
        touched = [word.text for word in self.words if word.start < stop and start < word.stop]
        if not touched:
            return f"symbol {start}" if stop == start + 1 else f"symbols {start} to {stop - 1}"
        shown = touched if len(touched) <= _MESSAGE_WORDS else [*touched[: _MESSAGE_WORDS - 1], "...", touched[-1]]
        return repr(" ".join(shown))


class _Reading:
    """How one flow read the text."""

    def __init__(self, weights: Floats, text: _Text, flow: int, flow_name: str) -> None:
        self._text, self._flow, self._flow_name = text, flow, flow_name
        total = weights.sum(axis=1, keepdims=True, dtype=np.float64)
        self._weights = weights / np.where(total > 0, total, 1)
        self._highest = self._weights.argmax(axis=1)
        self._frames = len(weights)

    def faults(self) -> Iterator[Fault]:
        if (unaligned := self._unaligned()) is not None:
            yield unaligned
            return
        self._trace = _smoothed(_held(self._highest, self._blurred()))
        begun, finished = self._edges()
        yield from self._skipped()
        yield from self._ran_past(begun, finished)
        yield from self._repeated(begun, finished)
        yield from self._stalled(begun, finished)

    def _fault(self, kind: Kind, frames: tuple[int, int], symbols: tuple[int, int], message: str) -> Fault:
        return Fault(kind, *frames, *symbols, message + self._flow_name, self._flow)

    def _unaligned(self) -> Fault | None:
        symbols = self._text.n_symbols
        if symbols < JUDGED_SYMBOLS:
            return None
        spread = float(np.median(_spread(self._weights)))
        steps = np.diff(self._highest)
        jumps = np.mean((steps <= -JUMP_BACK) | (steps >= JUMP_AHEAD)) if len(steps) else 0.0
        if spread > min(SPREAD_SYMBOLS, SPREAD_PART * symbols):
            reason = f"it is spread over {spread:.0f} of {symbols} symbols at once"
        elif jumps > SCATTERED_PART:
            reason = f"it jumps about in {jumps:.0%} of the frames"
        else:
            return None
        return self._fault("unaligned", (0, self._frames), (0, symbols), f"the attention follows no text: {reason}")

    def _blurred(self) -> Booleans:
        padded = np.pad(self._weights, ((0, 0), (1, 1)))
        around = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
        blurred: Booleans = np.take_along_axis(around, self._highest[:, None], axis=1)[:, 0] < BLURRED_WEIGHT
        return blurred

    def _skipped(self) -> Iterator[Fault]:
        unread = (self._weights >= READ_WEIGHT).sum(axis=0) < READ_FRAMES
        for start, stop in _runs(unread):
            length = int(self._text.in_word[start:stop].sum())
            whole = any(start <= word.start and word.stop <= stop for word in self._text.words)
            if length >= SKIPPED_SYMBOLS or (whole and stop - start >= 2):
                frame = self._passed(start, stop)
                message = f"the attention skips {self._text.spelled(start, stop)} at {self._text.seconds(frame)}"
                yield self._fault("skipped", (frame, frame), (start, stop), message)

    def _passed(self, start: int, stop: int) -> int:
        """The frame in which the trace first is beyond symbols that it never was on; the last if it never is."""
        beyond = np.flatnonzero(self._trace >= stop)
        return int(beyond[0]) if len(beyond) else self._frames

    def _edges(self) -> tuple[int, int]:
        """The frame in which the text begins, and that in which it is finished."""
        outside = (self._trace <= self._text.first_sound) | (self._trace >= self._text.last_sound)
        has_finished = self._trace.max() >= self._text.last_sound
        inside = np.flatnonzero(~outside)
        if not len(inside):
            return (0, 0) if has_finished else (self._frames, self._frames)
        return int(inside[0]), int(inside[-1]) + 1 if has_finished else self._frames

    def _ran_past(self, begun: int, finished: int) -> Iterator[Fault]:
        text = self._text
        most = PAST_SECONDS / text.frame_seconds
        if begun > most:
            message = f"the text begins only at {text.seconds(begun)}"
            yield self._fault("ran past", (0, begun), (0, text.first_sound + 1), message)
        if self._frames - finished > most:
            message = f"{text.seconds(self._frames - finished)} follow the end of the text at {text.seconds(finished)}"
            yield self._fault("ran past", (finished, self._frames), (text.last_sound, text.n_symbols), message)

    def _repeated(self, begun: int, finished: int) -> Iterator[Fault]:
        trace = self._trace[begun:finished]
        furthest = _furthest(trace)
        for start, stop in _runs(trace <= furthest - BEHIND_SYMBOLS):
            if stop - start < BEHIND_FRAMES:
                continue
            symbols = int(trace[start:stop].min()), int(furthest[start]) + 1
            frames = begun + start, begun + stop
            times = f"from {self._text.seconds(frames[0])} to {self._text.seconds(frames[1])}"
            message = f"the attention goes back to {self._text.spelled(*symbols)} {times}"
            yield self._fault("repeated", frames, symbols, message)

    def _stalled(self, begun: int, finished: int) -> Iterator[Fault]:
        """By the furthest symbol so far, which an attention that sways between two neighbours does not move."""
        text, trace = self._text, self._trace[begun:finished]
        furthest = _furthest(trace)
        for symbol in np.unique(furthest):
            stays = np.flatnonzero((furthest == symbol) & (trace >= symbol - 1))
            seconds = len(stays) * text.frame_seconds
            if seconds > (PAUSE_SECONDS if text.in_pause[symbol] else STALL_SECONDS):
                start, stop = begun + int(stays[0]), begun + int(stays[-1]) + 1
                where = text.spelled(symbol, symbol + 1)
                message = f"the attention stays at {where} for {seconds:.2f} s from {text.seconds(start)} on"
                yield self._fault("stalled", (start, stop), (int(symbol), int(symbol) + 1), message)


def _spread(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Over how many symbols each frame (T) is spread: the exponential of its entropy; all, where it attends to none."""
    entropy = -(weights * np.log(np.where(weights > 0, weights, 1))).sum(axis=1)
    attends = weights.any(axis=1)
    spread: npt.NDArray[np.float64] = np.where(attends, np.exp(entropy), weights.shape[1])
    return spread


def _held(places: Ints, blurred: Booleans) -> Ints:
    """``places`` (T) in which blurred frames keep the place before; those before the first clear one take its place."""
    clear = np.flatnonzero(~blurred)
    if not len(clear):
        return places
    last_clear = np.searchsorted(clear, np.arange(len(places)), side="right") - 1
    held: Ints = places[clear[np.maximum(last_clear, 0)]]
    return held


def _smoothed(places: Ints) -> Ints:
    """The median of each place (T) and its neighbours; reflected at the ends, so that no single frame outvotes them."""
    half = SMOOTHING_FRAMES // 2
    windows = sliding_window_view(np.pad(places, half, mode="reflect"), SMOOTHING_FRAMES)
    return np.sort(windows, axis=1)[:, half]


def _furthest(trace: Ints) -> Ints:
    """The furthest place (T) so far that the trace did not fall behind of for `BEHIND_FRAMES` frames."""
    if not len(trace):
        return trace
    windows = sliding_window_view(np.pad(trace, (0, BEHIND_FRAMES - 1), mode="edge"), BEHIND_FRAMES)
    return np.maximum.accumulate(windows.min(axis=1))


def _runs(flags: npt.NDArray[Any]) -> Iterable[tuple[int, int]]:
    """The half-open ranges in which ``flags`` (n) are true."""
    edges = np.flatnonzero(np.diff(flags.astype(np.int8), prepend=0, append=0))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]
