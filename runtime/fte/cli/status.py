"""Exit statuses of the command line: one table from errors to numbers, which docs/cli.md shows."""

import errno
import signal

from fte.errors import (
    BundleError,
    CheckpointError,
    FteError,
    InputError,
    OutputError,
    VerificationError,
)

OK = 0
USAGE = 2
"""The command line itself, a value out of range, a text that cannot be spoken, or a backend, device, package or memory
that this machine does not have; typer's number for its own errors."""
INPUT = 3
"""A file that was given cannot be read, or is not what it was given as."""
OUTPUT = 4
"""What was asked for cannot be written."""
VERIFICATION = 5
"""An exported graph differs from its checkpoint by more than it may."""

_STATUSES: tuple[tuple[type[FteError], int], ...] = (
    (CheckpointError, INPUT),
    (BundleError, INPUT),
    (InputError, INPUT),
    (OutputError, OUTPUT),
    (VerificationError, VERIFICATION),
    (FteError, USAGE),
)
"""The first class that an error is of decides."""


_SHORTAGES = ("can't start new thread", "bad_alloc", "cannot allocate memory", "failed to map segment")
"""What Python, C++ and the loader of libraries say where memory or address space is missing."""


def status_of(error: FteError) -> int:
    """The exit status of a command that ended with ``error``."""
    return next(status for kind, status in _STATUSES if isinstance(error, kind))


def is_shortage(error: BaseException) -> bool:
    """Whether an error that is none of ours means that this machine has no memory left for the command."""
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    said = str(error).lower()
    return isinstance(error, MemoryError) or any(shortage in said for shortage in _SHORTAGES)


def status_of_signal(number: int) -> int:
    """The exit status of a command that a signal ended, as shells give it: 130 for SIGINT, 143 for SIGTERM."""
    return 128 + signal.Signals(number)
