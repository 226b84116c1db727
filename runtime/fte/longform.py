"""A long text to one sound file, in bounded memory, broken off at any time and gone on with later.

While it is spoken, a folder beside the file, `NAME.partial`, holds the samples so far and a journal: a line that names
the request, then a line for each utterance, written once its samples are on the disk. Every utterance depends on
the request alone, so what is spoken after a break is what would have been spoken without.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fte.backends.base import Float32
from fte.errors import OutputError, RequestError
from fte.record import request_record, span_record
from fte.speech import Chunk, Request
from fte.synthesizer import Synthesizer
from fte.timings import Timing, Timings

_JOURNAL = "journal.jsonl"
_SAMPLES = "samples.f32"

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
    journal: Path

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
        with self.journal.open(encoding="utf-8") as lines:
            next(lines)  # the header
            yield from map(json.loads, lines)


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
    Raises RequestError where an earlier run was of another request, or its folder is in use or cannot be written.
    """
    folder = out.with_name(f"{out.name}.partial")
    try:
        if restart:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(exist_ok=True)
        with (folder / _JOURNAL).open("a+b") as journal, (folder / _SAMPLES).open("a+b") as samples:
            _lock(journal, folder)
            state = _resume(journal, samples, _key(voice, request), folder, voice.hop)
            resumed_at, estimate = state.spans, _Estimate(request, state.spans)
            progress(resumed_at, estimate.spans)
            with voice.stream(request, skip_spans=state.spans, start_frame=state.frames) as stream:
                for chunk in stream:
                    _keep(chunk, state, journal, samples)
                    estimate.add(chunk)
                    progress(state.spans, estimate.spans)
            progress(state.spans, state.spans)
        mapped = np.memmap(folder / _SAMPLES, np.float32, "r", shape=(state.frames * voice.hop,))
    except OSError as error:
        raise OutputError(f"cannot keep the speech so far in {folder}: {error.strerror or error}") from error
    yield LongSpeech(mapped, voice.sample_rate, state.spans, resumed_at, folder / _JOURNAL)
    shutil.rmtree(folder, ignore_errors=True)


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
    header, state = journal.readline(), _State()
    if not header.endswith(b"\n"):
        journal.truncate(0)
        journal.write(json.dumps({"request": key}).encode() + b"\n")
        journal.flush()
    elif _parsed(header) != {"request": key}:
        raise RequestError(f"{folder} is of another text, voice or options: remove it or pass --restart")
    else:
        journal.truncate(_read_journal(journal, len(header), state))
    size = 4 * hop * state.frames
    if samples.seek(0, os.SEEK_END) < size:
        raise RequestError(f"{folder} has fewer samples than its journal says: remove it or pass --restart")
    samples.truncate(size)
    return state


def _read_journal(journal: BinaryIO, position: int, state: _State) -> int:
    """Note in ``state`` what the lines from ``position`` on tell; give the place after the last whole span."""
    good = position
    for raw in journal:
        line = _parsed(raw)
        if not (raw.endswith(b"\n") and isinstance(line, dict) and line.get("spans") in (state.spans, state.spans + 1)):
            break
        position += len(raw)
        if line["completes"]:  # a span that was cut in two counts when both parts are spoken
            state.spans, state.frames, good = line["spans"], int(line["frames"]), position
    return good


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _key(voice: Synthesizer, request: Request) -> str:
    """A hash of everything the samples depend on."""
    record = request_record(voice, request)
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _lock(journal: BinaryIO, folder: Path) -> None:
    """Refuse a folder that another process is writing; the lock goes with the process, however it ends."""
    try:
        import fcntl
    except ImportError:  # not a system that has it
        return
    try:
        fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise RequestError(f"{folder} is being written by another process: let it end") from error
