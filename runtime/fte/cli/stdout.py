"""Standard output: what goes wrong with it is one sentence, whichever library writes to it, and never a traceback."""

import io
import os
import select
import sys

from fte.errors import OutputError


class ReaderGone(BaseException):
    """Whoever read the standard output went away, as `head` does: an end, not an error."""


class _Output(io.FileIO):
    """The file behind standard output. After its first error it takes everything, so that nothing is said twice."""

    is_closed = False
    """Whether the program was started without a standard output."""
    _failed = False

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        size = memoryview(data).nbytes
        if self._failed:
            return size
        if self.is_closed:
            self._failed = True
            raise OutputError("cannot write to standard output: it is closed")
        try:
            while (written := super().write(data)) is None:  # a pipe that is full and must not be waited for
                select.select([], [self], [])
        except BrokenPipeError as error:
            self._failed = True
            raise ReaderGone from error
        except OSError as error:
            self._failed = True
            raise OutputError(f"cannot write to standard output: {error.strerror or error}") from error
        return written


def guard() -> None:
    """Let every write to standard output raise OutputError or ReaderGone where it fails."""
    _occupy_closed()
    if sys.stdout is None:
        raw = _Output(1, "wb", closefd=False)
        raw.is_closed = True
    elif sys.stdout is sys.__stdout__ and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.flush()
        raw = _Output(sys.stdout.fileno(), "wb", closefd=False)
    else:  # somebody else's: a test's, or a program's that calls the command line
        return
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(sys.stdout, "encoding", "utf-8"),
        errors=getattr(sys.stdout, "errors", "backslashreplace"),
        line_buffering=raw.isatty(),
    )


def check_sound() -> None:
    """Raise OutputError where no sound should go: to a terminal, or nowhere."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if sys.stdout is None or getattr(raw, "is_closed", False):
        raise OutputError("standard output is closed: pipe the sound into a player, or name a file with -o")
    if sys.stdout.isatty():
        raise OutputError("standard output is a terminal: pipe the sound into a player or a file")


def finish() -> None:
    """Write what is still held back, whose fault would otherwise be met when Python ends."""
    if sys.stdout is not None:
        sys.stdout.flush()


def _occupy_closed() -> None:
    """Open the null device for each standard stream that is closed, lest the next file that is opened becomes it."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
