"""A signal unwinds everything once, is never lost, and waits where half of a step must not be left."""

import os
import signal
from collections.abc import Iterator

import pytest

from fte import interruption
from fte.files import atomic_file
from fte.interruption import Interrupted


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in interruption.SIGNALS}
    for number in interruption.SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    interruption.install()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    interruption._State.arrived = None


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", interruption.SIGNALS)
def test_a_signal_raises_and_says_which(number):
    with pytest.raises(Interrupted) as caught:
        send(number)
    assert caught.value.number == number


def test_a_second_signal_does_not_stop_the_cleaning_up():
    cleaned = []
    with pytest.raises(Interrupted) as caught:
        try:
            send(signal.SIGTERM)
        finally:
            send(signal.SIGINT)
            try:
                raise ValueError
            except ValueError:
                send(signal.SIGINT)
            cleaned.append(True)
    assert (cleaned, caught.value.number) == ([True], signal.SIGTERM)


def test_a_signal_waits_for_the_end_of_a_step():
    done = []
    with pytest.raises(Interrupted), interruption.held_back():
        with interruption.held_back():
            send(signal.SIGTERM)
            done.append("inner")
        done.append("outer")
    assert done == ["inner", "outer"]


class Careless:
    """Loses what is raised in its finalizer, as Python says it does."""

    def __del__(self) -> None:
        send(signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_that_got_lost_still_keeps_a_file_from_appearing(tmp_path):
    with pytest.raises(Interrupted), atomic_file(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
        careless = Careless()
        del careless
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(Interrupted):
        send(signal.SIGINT)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no terminals that close")
def test_a_closed_terminal_is_ignored_where_it_was_ignored_before():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    interruption.install()
    send(signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
