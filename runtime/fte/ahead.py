"""Work done ahead of its consumer: an iterator whose items are made in a thread of their own."""

import atexit
import os
import threading
import weakref
from collections import deque
from collections.abc import Generator
from typing import Any, Generic, TypeVar

from fte.errors import BackendError

T = TypeVar("T")
_OPEN: "weakref.WeakSet[Ahead[Any]]" = weakref.WeakSet()


class Ahead(Generic[T]):
    """Iterate over ``items``, which a thread makes up to ``limit`` ahead of what was taken.

    An item that is None is not handed out: a generator yields it to let itself be stopped. What the generator raises
    is raised to the consumer. `close` stops the generator at its next item and may be called from any thread.
    What is open when the interpreter ends is closed, so that its thread does not hold what it uses beyond that. In the
    child of a fork the thread is not there, and the consumer is told so.
    """

    def __init__(self, items: Generator[T | None], limit: int) -> None:
        self._items, self._limit = items, limit
        self._ready: deque[T] = deque()
        self._changed = threading.Condition()
        self._done = self._closed = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="fte-ahead", daemon=True)
        _OPEN.add(self)
        self._thread.start()

    def __iter__(self) -> "Ahead[T]":
        return self

    def __next__(self) -> T:
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._done or self._closed)
            if self._closed:
                raise StopIteration
            if self._ready:
                item = self._ready.popleft()
                self._changed.notify_all()
                return item
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        raise StopIteration

    def allow(self, limit: int) -> None:
        """Change how far the thread may run ahead."""
        with self._changed:
            self._limit = limit
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Stop the thread; wait until it has."""
        with self._changed:
            self._closed = True
            self._ready.clear()
            self._changed.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _lose(self) -> None:
        """Be done with an error: this process is the child of a fork, which has no thread and maybe a held lock."""
        self._changed = threading.Condition()
        self._ready.clear()
        self._error = BackendError("a stream that was open when the process forked ended in the child: open one there")
        self._done = True

    def _work(self) -> None:
        try:
            for item in self._items:
                if not self._hand_over(item):
                    break
        except BaseException as error:  # the consumer's to raise, whatever it is
            self._error = error
        finally:
            self._items.close()
            with self._changed:
                self._done = True
                self._changed.notify_all()

    def _hand_over(self, item: T | None) -> bool:
        """Keep an item for the consumer when there is room; say whether to go on."""
        with self._changed:
            if item is not None:
                self._changed.wait_for(lambda: len(self._ready) < self._limit or self._closed)
                if not self._closed:
                    self._ready.append(item)
                    self._changed.notify_all()
            return not self._closed


def _close_all() -> None:
    for ahead in list(_OPEN):
        ahead.close()


def _lose_all() -> None:
    for ahead in list(_OPEN):
        ahead._lose()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_lose_all)
