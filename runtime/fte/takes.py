"""Attempts at a span: what is tried when the attention did not follow the text, and which attempt is kept.

1. as asked;
2. with another seed;
3. with a third seed and 0.7 times the sigma, since a smaller z strays less;
4. cut in two at its best boundary, as asked otherwise, since attention is lost in long spans first (not with a ramp of
   styles, which is of the whole).

`Request.retries` is how many of 2 to 4 are tried. An attempt is judged (`fte.health`) when the flows before the last
are done, which settle its length and order and come before its first sound: a stream retries no later than a file, and
gives the same audio. A voice of a single flow is judged when that flow is done. If no attempt is healthy, the one with
the lowest cost is spoken. Where the attention follows no text at all, as in a voice that was not trained, nothing is
tried again: no seed would help.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

from fte.health import Health
from fte.noise import SEED_LIMIT
from fte.speech import Attempt, Request
from fte.style.ramps import Ramp
from fte.text.spans import Span, halves

_SEED_STEP = 0x5DEECE66D
_LOWER_SIGMA = 0.7
_PARTS_A_SPAN = 3
"""Numbers of noise that a span may use: one for itself and one for each of its halves."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What is spoken as one utterance."""

    span: Span
    part: int
    """Number of its noise within the request."""


@dataclass(frozen=True, slots=True)
class Take:
    """One attempt at a span."""

    pieces: tuple[Piece, ...]
    """The span, or its halves."""
    seed: int
    sigma: float


def takes(request: Request, span: Span, index: int) -> Iterator[Take]:
    """All attempts at span number ``index`` of a request, in order."""
    part = _PARTS_A_SPAN * index
    whole = (Piece(span, part),)
    yield Take(whole, request.seed, request.sigma)
    second, third = ((request.seed + i * _SEED_STEP) % SEED_LIMIT for i in (1, 2))
    yield Take(whole, second, request.sigma)
    yield Take(whole, third, _LOWER_SIGMA * request.sigma)
    whole_only = isinstance(request.style, Ramp)  # whose words are counted over the whole span
    if not whole_only and (parts := halves(span)):
        yield Take(tuple(Piece(half, part + 1 + i) for i, half in enumerate(parts)), request.seed, request.sigma)


T = TypeVar("T")


class Choice(Generic[T]):
    """The attempts at one span so far; T is whatever the caller needs to speak an attempt."""

    def __init__(self, request: Request, span: Span, index: int) -> None:
        self._takes = islice(takes(request, span, index), 1 + (0 if request.rhythm else request.retries))
        self._lowest = float("inf")
        self._settled = False
        self.attempts: list[Attempt] = []
        self.best: tuple[Take, Sequence[T]]

    def next(self) -> Take | None:
        """The next attempt to make; None when `best` is settled."""
        return None if self._settled else next(self._takes, None)

    def judged(self, take: Take, results: Sequence[T], healths: Sequence[Health]) -> None:
        """Note how an attempt went: a result and a verdict for each of its pieces."""
        worst = max(healths, key=lambda health: health.cost)
        cost = sum(health.cost for health in healths)
        self.attempts.append(Attempt(take.seed, take.sigma, len(take.pieces), worst.verdict))
        if cost < self._lowest:
            self._lowest, self.best = cost, (take, results)
        self._settled = all(health.ok or health.verdict == "unaligned" for health in healths)
