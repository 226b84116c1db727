"""A long text to one sound file, in bounded memory, broken off at any time and gone on with later.

While it is spoken, a folder beside the file, `NAME.partial`, holds the samples so far and a journal: a line that names
the request, then a line for each utterance, written once its samples are on the disk. Every utterance depends on
the request alone, so what is spoken after a break is what would have been spoken without.
"""

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fte.backends.base import Float32
from fte.errors import OutputError, RequestError
from fte.files import HAS_LOCKS, is_at, lock_file
from fte.record import request_record, span_record
from fte.speech import Chunk, Request
from fte.synthesizer import Synthesizer
from fte.timings import Timing, Timings

_JOURNAL = "journal.jsonl"
_SAMPLES = "samples.f32"
_LINE_BYTES = 1 << 24
"""Longest line of a journal."""
_MOST_FRAMES = 1 << 40
"""More mel frames than any speech has."""

Progress = Callable[[int, int], None]
"""Called with the number of spans that are done and of all spans: an estimate until the text has been read to its end,
for a whole book is not read before its first sound."""


@dataclass
class _State:
    """How far the speech is."""

    spans: int = 0
    """Planned spans that are spoken whole."""
    frames: int = 0
    """Mel frames they took, pauses included."""


@dataclass(frozen=True)
class LongSpeech:
    """A text spoken to disk; it is gone when the block that spoke it ends."""

    samples: Float32
    """(n), a map of the file."""
    sample_rate: int
    """Hz."""
    spans: int
    resumed_at: int
    """Spans that an earlier run had spoken."""
    journal: BinaryIO
    """Open, so that whatever becomes of its folder it is that of this speech."""

    def records(self) -> list[dict[str, Any]]:
        """A record of each utterance (`fte.record.span_record`)."""
        return [line["record"] for line in self._lines()]

    def timings(self) -> Timings:
        """When each word and symbol is spoken."""
        words, symbols = [], []
        for line in self._lines():
            words += [Timing(*timing) for timing in line["words"]]
            symbols += [Timing(*timing) for timing in line["symbols"]]
        return Timings(tuple(words), tuple(symbols), len(self.samples) / self.sample_rate)

    def _lines(self) -> Iterator[dict[str, Any]]:
        self.journal.seek(0)
        self.journal.readline()  # the header
        yield from map(json.loads, self.journal)


def _silent(_done: int, _spans: int) -> None:
    pass


@contextlib.contextmanager
def speak_long(
    voice: Synthesizer,
    request: Request,
    out: Path,
    *,
    restart: bool = False,
    progress: Progress = _silent,
) -> Iterator[LongSpeech]:
    """Speak ``request`` for the file ``out``, going on where an earlier run of the same request stopped.

    Yields the speech, for the caller to write it as ``out``; when the block ends without an exception, the folder
    beside ``out`` is removed. restart: forget what an earlier run left.
    Raises RequestError where an earlier run was of another request, or its folder is in use, holds something else
    under our names, or cannot be written.
    """
    folder = out.with_name(f"{out.name}.partial")
    with contextlib.ExitStack() as stack:
        with _refusal(folder):
            journal, samples = _opened(folder, stack)
            if restart:
                samples.truncate(0)
                journal.truncate(0)
            state = _resume(journal, samples, _key(voice, request), folder, voice.hop)
            resumed_at, estimate = state.spans, _Estimate(request, state.spans)
            progress(resumed_at, estimate.spans)
            with voice.stream(request, skip_spans=state.spans, start_frame=state.frames) as stream:
                for chunk in stream:
                    _keep(chunk, state, journal, samples)
                    estimate.add(chunk)
                    progress(state.spans, estimate.spans)
            progress(state.spans, state.spans)
            mapped = np.memmap(samples, np.float32, "r", shape=(state.frames * voice.hop,))
        yield LongSpeech(mapped, voice.sample_rate, state.spans, resumed_at, journal)
        _remove(folder, {_JOURNAL: journal, _SAMPLES: samples})


def _opened(folder: Path, stack: contextlib.ExitStack) -> tuple[BinaryIO, BinaryIO]:
    """The journal and the samples in ``folder``, which is made; the journal is locked until ``stack`` closes them."""
    while True:
        folder.mkdir(exist_ok=True)
        if folder.is_symlink():
            raise RequestError(f"{folder} is a link, which is not followed: remove it, or name another file with -o")
        with contextlib.ExitStack() as opening:
            try:
                journal, samples = (opening.enter_context(_open(folder / name)) for name in (_JOURNAL, _SAMPLES))
            except FileNotFoundError:  # another run has just ended, and removed the folder
                continue
            if HAS_LOCKS and not lock_file(journal.fileno()):
                raise RequestError(f"{folder} is being written by another process: let it end")
            if is_at(journal.fileno(), folder / _JOURNAL) and is_at(samples.fileno(), folder / _SAMPLES):
                stack.push(opening.pop_all())
                return journal, samples


@contextlib.contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    """Open a file of ours, made where there is none, to read and to write at its end.

    A link is not followed, be it symbolic or hard, and a device or pipe is not waited for: it would be another's file
    that is cut.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    if path.is_symlink():
        raise RequestError(f"{path} is a link, which is not followed: remove it")
    descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0), 0o666)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(descriptor)
        raise RequestError(f"{path} is no plain file with this name alone: remove it")
    file = os.fdopen(descriptor, "a+b")
    try:
        yield file
    finally:
        with contextlib.suppress(OSError):  # what could not be written was reported when it was
            file.close()


def _remove(folder: Path, files: dict[str, BinaryIO]) -> None:
    """Delete our files and the folder; what somebody else put there stays, and the folder with it."""
    with contextlib.suppress(OSError):
        for name, file in files.items():
            if is_at(file.fileno(), folder / name):
                (folder / name).unlink()
        folder.rmdir()


@contextlib.contextmanager
def _refusal(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot keep the speech so far in {folder}: {error.strerror or error}") from error


class _Estimate:
    """How many spans a text has, by the characters of those spoken so far."""

    def __init__(self, request: Request, done: int) -> None:
        self._characters, self._usual = len(request.text), request.span_symbols
        self._done, self._read, self._spans = done, 0, 0

    def add(self, chunk: Chunk) -> None:
        if chunk.span is not None:
            self._read += len(chunk.span.text)
            self._spans += chunk.span.completes

    @property
    def spans(self) -> int:
        length = self._read / self._spans if self._spans else self._usual / 2
        return max(self._done + self._spans, round(self._characters / length))


def _keep(chunk: Chunk, state: _State, journal: BinaryIO, samples: BinaryIO) -> None:
    """Write a chunk; when it ends an utterance, make sure of the samples and then write the journal's line."""
    samples.write(chunk.samples.astype("<f4", copy=False).data)
    span = chunk.span
    if span is None:
        return
    state.frames = span.stop_frame
    state.spans = span.index + 1 if span.completes else span.index
    line = {
        "spans": state.spans,
        "completes": span.completes,
        "frames": state.frames,
        "record": span_record(span),
        "words": [[t.text, t.start, t.end, t.after] for t in span.timings.words],
        "symbols": [[t.text, t.start, t.end] for t in span.timings.symbols],
    }
    samples.flush()
    os.fsync(samples.fileno())
    journal.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
    journal.flush()


def _resume(journal: BinaryIO, samples: BinaryIO, key: str, folder: Path, hop: int) -> _State:
    """The state that the journal tells, with both files cut back to it; a new journal is begun."""
    journal.seek(0)
    header, state = journal.readline(_LINE_BYTES), _State()
    there = samples.seek(0, os.SEEK_END)
    if not header.endswith(b"\n") and not there:  # nothing was spoken yet
        journal.truncate(0)
        journal.write(json.dumps({"request": key}).encode() + b"\n")
        journal.flush()
    elif _parsed(header) != {"request": key}:
        raise RequestError(f"{folder} is of another text, voice or options: remove it or pass --restart")
    else:
        journal.truncate(_read_journal(journal, len(header), state, folder))
    size = 4 * hop * state.frames
    if there < size:
        raise RequestError(f"{folder} has fewer samples than its journal says: remove it or pass --restart")
    samples.truncate(size)
    return state


def _read_journal(journal: BinaryIO, position: int, state: _State, folder: Path) -> int:
    """Note in ``state`` what the lines from ``position`` on tell; give the place after the last whole span.

    A line that was torn, and what comes after it, does not count. Raises RequestError for one that is whole and wrong.
    """
    good, frames = position, 0
    while raw := journal.readline(_LINE_BYTES):
        line = _parsed(raw)
        if not (raw.endswith(b"\n") and isinstance(line, dict) and line.get("spans") in (state.spans, state.spans + 1)):
            break
        if fault := _line_fault(line, frames):
            raise RequestError(f"the journal in {folder} is damaged, {fault}: remove the folder or pass --restart")
        position += len(raw)
        frames = line["frames"]
        if line["completes"]:  # a span that was cut in two counts when both parts are spoken
            state.spans, state.frames, good = line["spans"], frames, position
    return good


def _line_fault(line: dict[str, Any], frames: int) -> str:
    """What is wrong with a line of the journal that follows one of so many frames; empty where nothing is."""
    kinds = {"spans": int, "completes": bool, "frames": int, "record": dict, "words": list, "symbols": list}
    for name, kind in kinds.items():
        if name not in line:
            return f"a line of it has no {name!r}"
        if type(line[name]) is not kind:
            return f"a {name!r} of it is {ascii(line[name])[:40]}"
    if not frames <= line["frames"] < _MOST_FRAMES:
        return f"a 'frames' of it is {line['frames']} after {frames}"
    if not isinstance(line["record"].get("verdict"), str):
        return "a 'record' of it has no verdict"
    for name, texts in (("words", 2), ("symbols", 1)):
        for timing in line[name]:
            if not _is_timing(timing, texts):
                return f"one of the {name!r} of it is {ascii(timing)[:40]}"
    return ""


def _is_timing(timing: Any, texts: int) -> bool:
    """Whether it is [text, start, end], or with two texts [text, start, end, after]."""
    if not (isinstance(timing, list) and len(timing) == 2 + texts):
        return False
    text, start, end, *after = timing
    are_seconds = all(type(t) in (int, float) and abs(t) < _MOST_FRAMES for t in (start, end))
    return are_seconds and all(isinstance(t, str) for t in (text, *after))


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _key(voice: Synthesizer, request: Request) -> str:
    """A hash of everything the samples depend on."""
    record = request_record(voice, request)
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
