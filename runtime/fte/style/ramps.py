"""Ramps: styles that change within an utterance, by time, by word, or for words marked in the text.

A ramp is a list of knots in time, each with a style. Between two knots the mean goes linearly from one style to the
other; before the first and after the last it stays. Legend: M mel channels, T frames. Frames are in playing order.

Ramps by word need the frame at which each word starts, before the utterance is spoken: that of an earlier attempt
(`fte.alignment`), or an estimate such as each word's share of the symbols.
"""

import dataclasses
import itertools
import re
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import numpy.typing as npt

from fte import checks
from fte.constants import FRAME_SECONDS, LIMITS
from fte.errors import NothingToSayError, RequestError
from fte.style.mixing import check_same_space
from fte.style.style import NAME_PATTERN, Float32, Style, is_number

CROSSFADE = round(0.08 / FRAME_SECONDS)
"""Frames in which the mean goes from one style to the next at the border of marked words: some 80 ms."""
MAX_KNOTS = 1_000
MAX_RANGES = MAX_KNOTS // 4
"""Marked parts of a text: each makes up to four knots."""

_TAG = re.compile(rf"\[(/?)({NAME_PATTERN})\]")


@dataclass(frozen=True, slots=True)
class Knot:
    """A style at a position."""

    position: float
    """Share of the utterance, 0 to 1, or index of a word, at whose start it lies; their number is the end."""
    style: Style | str | None
    """Or the name of one of the voice's own, to be found when a request is spoken; None is the plain prior: a mean
    of 0."""
    shift: int = 0
    """Frames after the position."""


@dataclass(frozen=True, slots=True)
class Ramp:
    """Styles along an utterance."""

    knots: tuple[Knot, ...]
    """In order of their positions."""
    unit: Literal["time", "word"]
    """What the positions count."""

    def __post_init__(self) -> None:
        """Raise RequestError for no or too many knots, none with a style, and positions out of range or order."""
        checks.each(checks.kind(Knot))(self.knots, "knots")
        checks.one_of(("time", "word"))(self.unit, "unit")
        if not 1 <= len(self.knots) <= MAX_KNOTS:
            raise RequestError(f"the ramp has {len(self.knots)} styles: give 1 to {MAX_KNOTS}")
        for knot in self.knots:
            if not isinstance(knot.style, Style | str | None):
                raise checks.refuse(knot.style, "a style of the ramp", "a Style, the name of one or None")
            checks.whole(knot.shift, "the shift of a knot", -LIMITS.frames, LIMITS.frames)
        if all(knot.style is None for knot in self.knots):
            raise RequestError("the ramp has only the plain prior: give at least one style")
        if styles := self._styles():
            check_same_space(styles)
        self._check_positions()

    def _check_positions(self) -> None:
        most = 1 if self.unit == "time" else LIMITS.symbols
        positions = [knot.position for knot in self.knots]
        for position in positions:
            if not is_number(position, 0, most) or (self.unit == "word" and position != int(position)):
                kind = "a share of the time" if self.unit == "time" else "the index of a word"
                raise RequestError(f"the ramp has a style at {checks.shown(position)}: give {kind} from 0 to {most}")
        if positions != sorted(positions):
            raise RequestError(f"the ramp goes back from {max(positions)}: give its positions in order")

    def resolved(self, find: Callable[[str], Style]) -> "Ramp":
        """The ramp with the styles that ``find`` has for the names in it. Raises RequestError as it does."""
        named = {knot.style for knot in self.knots if isinstance(knot.style, str)}
        styles = {name: find(name) for name in named}
        found = (styles[knot.style] if isinstance(knot.style, str) else knot.style for knot in self.knots)
        knots = (dataclasses.replace(k, style=style) for k, style in zip(self.knots, found, strict=True))
        return Ramp(tuple(knots), self.unit) if named else self

    def means(self, frames: int, word_starts: Sequence[int] = ()) -> Float32:
        """The mean in time, (T, M) with T = ``frames``.

        word_starts: the frame at which each word starts, never falling, for a ramp by word.
        Raises RequestError for a number of frames or word starts out of range, and a ramp beyond the last word.
        """
        if not checks.is_whole(frames, 1, LIMITS.frames):
            raise RequestError(f"a ramp was asked for over {checks.shown(frames)} frames: give 1 to {LIMITS.frames}")
        if unknown := [knot.style for knot in self.knots if isinstance(knot.style, str)]:
            raise RequestError(f"the ramp has {unknown[0]!r} by name alone: speak with it, or load the style")
        at = self._places(frames, word_starts)
        means = np.zeros((frames, self._styles()[0].n_mels), np.float32)
        for knot, weights in zip(self.knots, _hats(at, frames), strict=True):
            if isinstance(knot.style, Style) and (on := weights > 0).any():
                means[on] += weights[on, None] * knot.style.frames(frames)[on]
        return means

    def _styles(self) -> list[Style]:
        return [knot.style for knot in self.knots if isinstance(knot.style, Style)]

    def _places(self, frames: int, word_starts: Sequence[int]) -> npt.NDArray[np.float64]:
        """The frame of each knot, never falling."""
        if self.unit == "time":
            places = [knot.position * (frames - 1) + knot.shift for knot in self.knots]
        else:
            starts = _checked_starts(word_starts, frames)
            if self.knots[-1].position >= len(starts):
                raise RequestError(
                    f"the ramp has a style at word {self.knots[-1].position:g} of {len(starts) - 1} words: "
                    "give indices from 0, and at most the number of words for the end"
                )
            # At the end there is nothing to go to, so a crossfade there would only weaken the last style.
            last = len(starts) - 1
            words = [(int(knot.position), knot.shift) for knot in self.knots]
            places = [starts[word] + (shift if word < last else 0) for word, shift in words]
        # The crossfades at both ends of a short word may overlap.
        return np.maximum.accumulate(np.array(places, np.float64))


_POINTS = checks.each(checks.pair(checks.anything, checks.anything))


@checks.arguments(points=_POINTS)
def ramp_by_time(points: Sequence[tuple[float, Style | str | None]]) -> Ramp:
    """A ramp through (share of the utterance from 0 to 1, style or its name); None is the plain prior."""
    return Ramp(tuple(Knot(position, style) for position, style in points), "time")


@checks.arguments(points=_POINTS)
def ramp_by_word(points: Sequence[tuple[int, Style | str | None]]) -> Ramp:
    """A ramp through (index of a word, style or its name), reaching each style where its word starts."""
    return Ramp(tuple(Knot(position, style) for position, style in points), "word")


def ramp_over_words(ranges: Sequence["StyledWords"], styles: Mapping[str, Style], base: Style | None = None) -> Ramp:
    """A ramp that holds a style over each range of words and ``base`` elsewhere, with a CROSSFADE at each border.

    base: None is the plain prior. Raises RequestError for no ranges, ranges out of order, and unknown styles.
    """
    _check_marked(ranges)
    checks.mapping(checks.text, checks.kind(Style))(styles, "styles")
    checks.optional(checks.kind(Style))(base, "base")
    if not ranges:
        raise RequestError("no word is marked with a style: mark some as in [happy]these words[/happy]")
    knots: list[Knot] = []
    current, reached = base, 0
    for marked in ranges:
        if not reached <= marked.start < marked.stop:
            raise RequestError(
                f"words {marked.start} to {marked.stop} are marked {marked.name!r} after word {reached} was reached: "
                "give ranges of one or more words in order"
            )
        if marked.name not in styles:
            raise RequestError(_unknown(marked.name, styles))
        if marked.start > reached and current is not base:
            knots += _border(reached, current, base)
            current = base
        knots += _border(marked.start, current, styles[marked.name])
        current, reached = styles[marked.name], marked.stop
    return Ramp((*knots, *_border(reached, current, base)), "word")


def _check_marked(ranges: object) -> None:
    checks.each(checks.kind(StyledWords))(ranges, "the marked words")
    for marked in cast(Sequence[StyledWords], ranges):
        checks.text(marked.name, "the name of the marked words")
        for place in (marked.start, marked.stop):
            checks.whole(place, "the place of the marked words", 0, LIMITS.request_characters)


def _border(word: int, before: Style | None, after: Style | None) -> tuple[Knot, ...]:
    """The crossfade at the start of a word; at the first one there is nothing to come from."""
    if word == 0:
        return (Knot(0, after),)
    return Knot(word, before, -(CROSSFADE // 2)), Knot(word, after, CROSSFADE - CROSSFADE // 2)


def _checked_starts(word_starts: Sequence[int], frames: int) -> list[int]:
    """The frame at which each word starts, and the end of the utterance."""
    checks.array(word_starts, "the first frames of the words", 1)
    if not 1 <= len(word_starts) <= LIMITS.symbols:
        raise RequestError(
            f"a ramp by word was asked for over {len(word_starts)} words: give the first frame of each, "
            f"for 1 to {LIMITS.symbols} words"
        )
    starts = [*(int(start) for start in word_starts), frames]
    if starts[0] < 0 or any(b < a for a, b in itertools.pairwise(starts)):
        raise RequestError(f"the words do not start in order within {frames} frames: give the first frame of each")
    return starts


def _hats(places: npt.NDArray[np.float64], frames: int) -> Float32:
    """The weight of each of K knots in each frame, (K, frames): they sum to 1, with at most two in a frame."""
    t = np.arange(frames, dtype=np.float64)
    right = np.searchsorted(places, t, side="right")
    left = np.maximum(right - 1, 0)
    right = np.minimum(right, len(places) - 1)
    gap = places[right] - places[left]
    share = np.divide(t - places[left], gap, out=np.zeros(frames), where=gap > 0)
    weights = np.zeros((len(places), frames), np.float32)
    weights[left, np.arange(frames)] = 1 - share
    weights[right, np.arange(frames)] += share.astype(np.float32)
    return weights


# Styles in the text


@dataclass(frozen=True, slots=True)
class StyledText:
    """Characters of a plain text that are marked with a style."""

    name: str
    start: int
    """The first character."""
    stop: int
    """The character after the last."""


@dataclass(frozen=True, slots=True)
class StyledWords:
    """Words of a transcript that are marked with a style."""

    name: str
    start: int
    """Index of the first word."""
    stop: int
    """Index of the word after the last."""


def parse_styled_text(text: str, known: Collection[str] | None = None) -> tuple[str, tuple[StyledText, ...]]:
    """The text without its tags, and what they mark: ``[happy]Kids are talking[/happy] by the door``.

    known: the names of styles there are; None allows any.
    Raises RequestError for a text beyond the limit, a tag in a tag, an unknown style, a tag that is not closed, is
    closed without being open, marks nothing or stands within a word, and more than MAX_RANGES marked parts.
    """
    checks.text(text, "text")
    if known is not None:
        checks.each(checks.text)(list(known) if isinstance(known, Mapping | Set) else known, "known")
    if len(text) > LIMITS.request_characters:
        raise RequestError(f"the text has {len(text)} characters, more than {LIMITS.request_characters}: split it")
    plain, end = "", 0
    found: list[StyledText] = []
    opened: tuple[str, int] | None = None
    for tag in _TAG.finditer(text):
        plain += text[end : tag.start()]
        end = tag.end()
        closes, name = tag.groups()
        if known is not None and name not in known:
            raise RequestError(_unknown(name, known))
        if text[tag.start() - 1 : tag.start()].isalnum() and text[end : end + 1].isalnum():
            raise RequestError(f"the tag {tag.group()} stands within a word: mark whole words")
        if closes:
            found.append(_closed(opened, name, len(plain)))
            opened = None
        elif opened is not None:
            raise RequestError(f"the tag [{name}] stands within [{opened[0]}]: close that with [/{opened[0]}] first")
        else:
            opened = name, len(plain)
        if len(found) > MAX_RANGES:
            raise RequestError(f"the text has more than {MAX_RANGES} marked parts: split it")
    if opened is not None:
        raise RequestError(f"the tag [{opened[0]}] is never closed: write [/{opened[0]}] where its style ends")
    return plain + text[end:], tuple(found)


def _closed(opened: tuple[str, int] | None, name: str, at: int) -> StyledText:
    """What the closing tag ``name`` at a character of the plain text ends."""
    if opened is None or opened[0] != name:
        raise RequestError(f"the tag [/{name}] closes nothing: write [{name}] where its style begins")
    if opened[1] == at:
        raise RequestError(f"the tag [{name}] marks nothing: write some words between it and [/{name}]")
    return StyledText(name, opened[1], at)


def styled_words(
    plain: str, ranges: Sequence[StyledText], count_words: Callable[[str], int]
) -> tuple[StyledWords, ...]:
    """The words that ranges of characters stand for; ranges without a word are left out.

    count_words: how many words a text has, as the front end cuts it (it may spell one number as five words, so
    characters cannot be counted). It may raise NothingToSayError for a text without any.
    Raises RequestError when the parts do not have as many words as the whole, so that a tag splits what belongs
    together.
    """
    edges = [0, *itertools.chain.from_iterable((r.start, r.stop) for r in ranges), len(plain)]
    counts = [_count(plain[a:b], count_words) for a, b in itertools.pairwise(edges)]
    if sum(counts) != _count(plain, count_words):
        raise RequestError("a style begins or ends within what is read as one expression: mark all or none of it")
    words = [0, *itertools.accumulate(counts)]
    marked = zip(ranges, words[1::2], words[2::2], strict=False)
    return tuple(StyledWords(r.name, start, stop) for r, start, stop in marked if stop > start)


def _count(text: str, count_words: Callable[[str], int]) -> int:
    try:
        return count_words(text) if text.strip() else 0
    except NothingToSayError:
        return 0


def _unknown(name: str, known: Collection[str]) -> str:
    listed = ", ".join(sorted(known)[:20]) or "none"
    return f"there is no style {name!r} ({listed}): use one there is, or write the text without the brackets"
