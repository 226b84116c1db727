"""When each word and symbol is spoken, and the files that say so: JSON, SubRip and WebVTT subtitles, Praat TextGrids.

JSON: ``{"duration", "words", "symbols"}``, times in seconds to the microsecond, each word and symbol as
``{"text", "start", "end"}``. What was skipped is there too, with an end equal to its start.

SubRip (.srt): cues of one line, each shown from the start of its first word to the end of its last. A cue ends after a
sentence, before a pause of half a second, and where the next word would make it longer than 42 characters or
5 seconds. That is the usual advice for subtitles (42 characters a line; cues of 1 to 7 seconds). A single word may be
longer; a word that was skipped takes no time and stays with its neighbours. Commas and the ends of sentences
are those of the symbols between the words.

WebVTT (.vtt, W3C): the same cues after the header ``WEBVTT``, their times with a dot, ``&``, ``<`` and ``>`` as
entities.

TextGrid: Praat's long text format (Praat manual, "TextGrid file formats") with the interval tiers "words" and "phones",
as forced aligners name them. Intervals touch; what belongs to no word, a space, and time between utterances are
intervals without text. What was skipped has no time and is left out. ARPAbet goes without the mark of its symbols.
"""

import dataclasses
import html
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fte import checks
from fte.alignment import WordRange, check_words
from fte.errors import RequestError
from fte.files import atomic_file
from fte.text.spans import ends_sentence

CUE_CHARACTERS = 42
"""Most characters of a subtitle."""
CUE_SECONDS = 5.0
"""Longest subtitle."""
CUE_PAUSE_SECONDS = 0.5
"""A pause from which on a new subtitle begins."""

_DIGITS = 6
"""Decimals of the seconds in files: microseconds."""
_MARKS = frozenset(",;:.!?")
_ARPABET_MARK = "@"


@dataclass(frozen=True, slots=True)
class Timing:
    """A word or symbol and when it is spoken."""

    text: str
    start: float
    """Seconds."""
    end: float
    """Seconds; equal to the start of what was skipped."""
    after: str = ""
    """Punctuation between a word and the next."""


@dataclass(frozen=True, slots=True)
class Timings:
    """The timings of a speech."""

    words: tuple[Timing, ...]
    """In order."""
    symbols: tuple[Timing, ...]
    """In order, as the voice reads them: letters, ARPAbet with its mark (``@AH0``), spaces and punctuation."""
    duration: float
    """Of the speech, seconds."""

    def __post_init__(self) -> None:
        """Raise RequestError unless the times are in order and within the duration, to a microsecond."""
        checks.number(self.duration, "duration", 0, sys.float_info.max)
        for name in ("words", "symbols"):
            checks.each(checks.kind(Timing))(getattr(self, name), name)
        slack = 10**-_DIGITS
        for name, timings in (("word", self.words), ("symbol", self.symbols)):
            earliest = 0.0
            for timing in timings:
                if not earliest - slack <= timing.start <= timing.end <= self.duration + slack < np.inf:
                    raise RequestError(
                        f"the {name} {timing.text!r} is said to last from {timing.start} to {timing.end} s: "
                        f"give times in order within 0 to {self.duration} s"
                    )
                earliest = timing.end


def word_timings(
    words: Sequence[WordRange],
    frames: npt.NDArray[np.int64],
    frame_seconds: float,
    offset: float = 0.0,
    symbols: Sequence[str] = (),
) -> tuple[Timing, ...]:
    """When each word is spoken, by the frames (N, 2) of its symbols (`fte.alignment.symbol_frames`).

    frame_seconds: of a frame; offset: when frame 0 begins, seconds; symbols: all N, to know the punctuation.
    Raises RequestError for words that are not ranges of the N symbols, in order.
    """
    check_words(words, len(frames))
    ends = [*(word.start for word in words[1:]), len(symbols)]
    return tuple(
        dataclasses.replace(
            _timing(word.text, frames[word.start, 0], frames[word.stop - 1, 1], frame_seconds, offset),
            after="".join(symbol for symbol in symbols[word.stop : end] if symbol in _MARKS),
        )
        for word, end in zip(words, ends, strict=True)
    )


def symbol_timings(
    symbols: Sequence[str], frames: npt.NDArray[np.int64], frame_seconds: float, offset: float = 0.0
) -> tuple[Timing, ...]:
    """When each of N symbols is spoken, as `word_timings`. Raises RequestError unless there are N frame ranges."""
    if len(symbols) != len(frames):
        raise RequestError(f"there are frames for {len(frames)} symbols and {len(symbols)} symbols: give as many")
    return tuple(
        _timing(symbol, start, stop, frame_seconds, offset)
        for symbol, (start, stop) in zip(symbols, frames, strict=True)
    )


def _timing(text: str, start: np.int64, stop: np.int64, frame_seconds: float, offset: float) -> Timing:
    return Timing(text, offset + int(start) * frame_seconds, offset + int(stop) * frame_seconds)


def write_timings(path: Path | str, timings: Timings) -> None:
    """Write timings in the format of the path's suffix, whatever its case: .json, .srt, .vtt or .TextGrid.

    Raises RequestError for another suffix and a file that cannot be written.
    """
    checks.kind(Timings)(timings, "timings")
    check_timings_name(path)
    content = _FORMATS[Path(path).suffix.lower()](timings)
    with atomic_file(Path(path)) as temporary:
        temporary.write_text(content, encoding="utf-8", newline="\n")


def check_timings_name(path: Path | str) -> None:
    """Raise RequestError unless the suffix of ``path`` is one that timings are written in."""
    if checks.path(path, "the file of the timings").suffix.lower() not in _FORMATS:
        raise RequestError(f"cannot write timings to {path}: its name must end in .json, .srt, .vtt or .TextGrid")


# --- JSON ---


def render_json(timings: Timings) -> str:
    """The timings as a JSON document."""
    document = {
        "duration": round(timings.duration, _DIGITS),
        "words": [_plain(word) for word in timings.words],
        "symbols": [_plain(symbol) for symbol in timings.symbols],
    }
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def _plain(timing: Timing) -> dict[str, str | float]:
    return {"text": timing.text, "start": round(timing.start, _DIGITS), "end": round(timing.end, _DIGITS)}


# --- SubRip and WebVTT ---


@dataclass(slots=True)
class _Cue:
    words: list[Timing] = field(default_factory=list)

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)

    @property
    def takes_time(self) -> bool:
        return bool(self.words) and self.words[-1].end > self.words[0].start

    def ends_before(self, word: Timing) -> bool:
        """Whether ``word`` begins the next cue."""
        if not self.takes_time or word.end == word.start:  # else this cue or the next could be without duration
            return False
        first, last = self.words[0], self.words[-1]
        return (
            last.text[-1:] in ("!", "?")
            or ends_sentence(last.text, word.text)
            or word.start - last.end >= CUE_PAUSE_SECONDS
            or len(self.text) + 1 + len(word.text) > CUE_CHARACTERS
            or word.end - first.start > CUE_SECONDS
        )


def render_srt(timings: Timings) -> str:
    """The timings as SubRip subtitles; empty where there are no words."""
    return "\n".join(
        f"{number}\n{_cue_time(cue.words[0].start, ',')} --> {_cue_time(cue.words[-1].end, ',')}\n{cue.text}\n"
        for number, cue in enumerate(_cues(_punctuated(timings)), 1)
    )


def render_vtt(timings: Timings) -> str:
    """The timings as WebVTT subtitles; the header alone where there are no words."""
    cues = (
        f"{_cue_time(cue.words[0].start, '.')} --> {_cue_time(cue.words[-1].end, '.')}\n"
        f"{html.escape(cue.text, quote=False)}\n"
        for cue in _cues(_punctuated(timings))
    )
    return "\n".join(["WEBVTT\n", *cues])


def _cues(words: Iterable[Timing]) -> Iterator[_Cue]:
    cue = _Cue()
    for word in words:
        if cue.ends_before(word):
            yield cue
            cue = _Cue()
        cue.words.append(word)
    if cue.takes_time:
        yield cue


def _punctuated(timings: Timings) -> Iterator[Timing]:
    """The words on one line each, with the punctuation after them."""
    for word in timings.words:
        if text := " ".join(word.text.split()):
            yield Timing(text + word.after, word.start, word.end)


def _cue_time(seconds: float, mark: str) -> str:
    """Hours, minutes, seconds and, after ``mark``, milliseconds."""
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    (hours, minutes), (whole, rest) = divmod(minutes, 60), divmod(milliseconds, 1000)
    return f"{hours:02d}:{minutes:02d}:{whole:02d}{mark}{rest:03d}"


# --- TextGrid ---


def render_textgrid(timings: Timings) -> str:
    """The timings as a TextGrid with the tiers "words" and "phones"."""
    phones = [Timing(_phone(s.text), s.start, s.end) for s in timings.symbols]
    end = round(timings.duration, _DIGITS)
    tiers = [("words", timings.words), ("phones", phones)]
    return "\n".join(
        [
            'File type = "ooTextFile"',
            'Object class = "TextGrid"',
            "",
            "xmin = 0",
            f"xmax = {_number(end)}",
            "tiers? <exists>",
            f"size = {len(tiers)}",
            "item []:",
            *(line for i, (name, parts) in enumerate(tiers, 1) for line in _tier(i, name, _intervals(parts, end), end)),
            "",
        ]
    )


def _tier(number: int, name: str, intervals: Sequence[Timing], end: float) -> Iterator[str]:
    yield f"    item [{number}]:"
    yield '        class = "IntervalTier"'
    yield f"        name = {_quoted(name)}"
    yield "        xmin = 0"
    yield f"        xmax = {_number(end)}"
    yield f"        intervals: size = {len(intervals)}"
    for i, interval in enumerate(intervals, 1):
        yield f"        intervals [{i}]:"
        yield f"            xmin = {_number(interval.start)}"
        yield f"            xmax = {_number(interval.end)}"
        yield f"            text = {_quoted(interval.text)}"


def _intervals(parts: Iterable[Timing], end: float) -> list[Timing]:
    """``parts`` from 0 to ``end`` without gaps: empty intervals fill them, and parts without duration are left out."""
    intervals: list[Timing] = []
    reached = 0.0
    for part in [*parts, Timing("", end, end)]:
        start, stop = (min(round(seconds, _DIGITS), end) for seconds in (part.start, part.end))
        if start > reached:
            intervals.append(Timing("", reached, start))
            reached = start
        if stop > reached:
            intervals.append(Timing(part.text, reached, stop))
            reached = stop
    return intervals


def _phone(symbol: str) -> str:
    if len(symbol) > 1:
        return symbol.removeprefix(_ARPABET_MARK)
    return symbol.strip()


def _quoted(text: str) -> str:
    return '"' + " ".join(text.split()).replace('"', '""') + '"'


def _number(seconds: float) -> str:
    return f"{seconds:.{_DIGITS}f}".rstrip("0").rstrip(".")


_FORMATS: dict[str, Callable[[Timings], str]] = {
    ".json": render_json,
    ".srt": render_srt,
    ".vtt": render_vtt,
    ".textgrid": render_textgrid,
}
