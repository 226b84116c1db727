"""Signals that end the program: one exception unwinds everything, and never half of a step that belongs together."""

import contextlib
import signal
import sys
from collections.abc import Iterator
from types import FrameType

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Ctrl-C, a polite kill, and a terminal that was closed."""


class Interrupted(BaseException):
    """One of SIGNALS arrived: unwinds everything, so that temporary files are removed."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _State:
    arrived: int | None = None
    """The last signal that arrived."""
    waiting: int | None = None
    """The last that arrived inside a `held_back` block."""
    held = 0
    """How many `held_back` blocks are open."""


def install() -> None:
    """Let SIGNALS raise Interrupted, but for a SIGHUP that is ignored already, as under nohup."""
    _State.arrived = _State.waiting = None
    for number in SIGNALS:
        if number in (signal.SIGINT, signal.SIGTERM) or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)


def ignore() -> None:
    """From now on nothing is interrupted: the program is about to end."""
    _State.arrived = _State.waiting = None
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def check() -> None:
    """Raise Interrupted where a signal has arrived.

    Its exception may have been lost: Python drops what is raised in a finalizer or a callback from C.
    """
    if _State.arrived is not None and not _is_unwinding():
        raise Interrupted(_State.arrived)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """A signal that arrives inside the block takes effect when the block ends."""
    _State.held += 1
    try:
        yield
    finally:
        _State.held -= 1
        if not _State.held and _State.waiting is not None:
            number, _State.waiting = _State.waiting, None
            signal.raise_signal(number)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    if _is_unwinding():  # a second one must not interrupt the cleaning up
        return
    _State.arrived = number
    if _State.held:
        _State.waiting = number
    else:
        raise Interrupted(number)


def _is_unwinding() -> bool:
    error = sys.exception()
    while error is not None and not isinstance(error, Interrupted):
        error = error.__context__
    return error is not None
