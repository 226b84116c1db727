"""Long text -> spans, each short enough to be spoken in one go, cut where a reader would pause.

Attention-based models lose words in long utterances (users of the public Flowtron report it from about 80 characters
on), so a text is cut at paragraphs and sentences, and a sentence that is still too long at the clause boundary nearest
its middle, or between words where it has none. A sentence of a few letters goes with the next one: very short
utterances are as badly spoken as very long ones. Time grows linearly with the text, and no more of it than a sentence
is looked at before its spans are given out.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from fte.errors import NothingToSayError, RequestError

Boundary = Literal["word", "clause", "sentence", "paragraph"]
"""What follows a span, from the weakest to the strongest; the end of the text is a paragraph's."""

SHORT_CHARACTERS = 10
"""A sentence of fewer, spaces aside, is spoken together with the next."""
_LONG_CHARACTERS = 2_000
"""A piece above this is cut without counting its symbols, which keeps the time linear."""
_SENTENCE_CHARACTERS = 20_000
"""What has no end after so many is cut there, since a list of a million lines without a full stop is no sentence."""

Measure = Callable[[str], int]
"""Text -> its number of symbols; raises RequestError where it cannot be spoken in one go."""

_PARAGRAPHS = re.compile(r"\n[^\S\n]*\n")
_TOKEN = re.compile(r"(?:\{[^{}]*\}|[^\s{}])+")
_CLOSERS = "\"'”’»)]"
_OPENERS = "\"'“‘«(["
_CLAUSE_ENDS = frozenset(",;:.!?…—")
_DASHES = frozenset({"-", "--", "---", "–", "—"})
_ABBREVIATIONS = frozenset(
    """
    mr mrs ms dr st prof sr jr vs etc e.g i.e cf no nos fig vol pp inc ltd co corp gen col capt lt sgt maj rev hon gov
    sen rep mt ave blvd approx dept est jan feb mar apr jun jul aug sep sept oct nov dec
    """.split()  # noqa: SIM905
)


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of text that is spoken as one utterance."""

    text: str
    boundary: Boundary
    """What ends it."""


def spans(text: str, limit: int, measure: Measure) -> Iterator[Span]:
    """Cut ``text`` into spans of at most ``limit`` symbols as counted by ``measure``.

    A single word of more symbols is a span of its own. ARPAbet in braces is never cut.
    """
    for start, stop in _paragraphs(text):
        tokens = (match[0] for match in _TOKEN.finditer(text, start, stop))
        for sentence, following in _with_next(_sentences(tokens)):
            yield from _cut(sentence, _boundary(sentence) if following else "paragraph", limit, measure)


def _paragraphs(text: str) -> Iterator[tuple[int, int]]:
    """Where each paragraph begins and ends."""
    start = 0
    for match in _PARAGRAPHS.finditer(text):
        yield start, match.start()
        start = match.end()
    yield start, len(text)


T = TypeVar("T")


def _with_next(items: Iterable[T]) -> Iterator[tuple[T, T | None]]:
    """Each item and the one after it; None after the last."""
    held: list[T] = []  # the item whose next one is awaited
    for item in items:
        if held:
            yield held.pop(), item
        held.append(item)
    if held:
        yield held.pop(), None


def halves(span: Span) -> tuple[Span, Span] | None:
    """The two parts of a span, cut where a pause hurts least; None where it is a single word."""
    tokens = _TOKEN.findall(span.text)
    if len(tokens) < 2:
        return None
    middle, boundary = _best_cut(tokens)
    return Span(" ".join(tokens[:middle]), boundary), Span(" ".join(tokens[middle:]), span.boundary)


def _sentences(tokens: Iterable[str]) -> Iterator[list[str]]:
    sentence: list[str] = []
    characters = 0
    for token, following in _with_next(tokens):
        sentence.append(token)
        characters += len(token)
        is_long = sum(map(len, sentence[:SHORT_CHARACTERS])) >= SHORT_CHARACTERS
        ends = following and is_long and ends_sentence(token, following)
        if ends or characters > _SENTENCE_CHARACTERS:
            yield sentence
            sentence, characters = [], 0
    if sentence:
        yield sentence


def _boundary(sentence: Sequence[str]) -> Boundary:
    """What ends a sentence that is not the last of its paragraph."""
    last = sentence[-1].rstrip(_CLOSERS)[-1:]
    if last and last in ".!?…":
        return "sentence"
    return "clause" if last in _CLAUSE_ENDS else "word"


def ends_sentence(token: str, following: str) -> bool:
    """Whether a sentence ends with ``token``, which another follows: not with an abbreviation or an initial."""
    stem = token.rstrip(_CLOSERS)
    if not stem or stem[-1] not in ".!?…":
        return False
    first = following.lstrip(_OPENERS)[:1]
    if first and not (first.isupper() or first.isdigit() or first == "{"):
        return False
    word = stem.rstrip(".").lstrip(_OPENERS)
    is_initial = len(word) == 1 and word.isupper() and word != "I"
    return stem[-1] != "." or stem.endswith("..") or not (is_initial or word.lower() in _ABBREVIATIONS)


def _cut(tokens: Sequence[str], boundary: Boundary, limit: int, measure: Measure) -> Iterator[Span]:
    pieces: list[tuple[Sequence[str], Boundary]] = [(tokens, boundary)]
    while pieces:
        tokens, boundary = pieces.pop()
        text = " ".join(tokens)
        if len(tokens) == 1 or _fits(text, limit, measure):
            yield Span(text, boundary)
        else:
            middle, inner = _best_cut(tokens)
            pieces += [(tokens[middle:], boundary), (tokens[:middle], inner)]


def _fits(text: str, limit: int, measure: Measure) -> bool:
    if len(text) > _LONG_CHARACTERS:
        return False
    try:
        return measure(text) <= limit
    except NothingToSayError:
        return True
    except RequestError:
        return False


def _best_cut(tokens: Sequence[str]) -> tuple[int, Boundary]:
    """Where to cut at least two tokens: the clause boundary nearest the middle, if it leaves a fifth on either side."""
    starts = [0]
    for token in tokens:
        starts.append(starts[-1] + len(token) + 1)
    whole = starts[-1]
    inner = range(1, len(tokens))
    clauses = [i for i in inner if whole <= 5 * min(starts[i], whole - starts[i]) and _ends_clause(tokens, i)]
    middle = min(clauses or inner, key=lambda i: abs(whole - 2 * starts[i]))
    return middle, "clause" if clauses else "word"


def _ends_clause(tokens: Sequence[str], i: int) -> bool:
    """Whether a reader may breathe before token ``i``."""
    before, after = tokens[i - 1], tokens[i]
    return before.rstrip(_CLOSERS)[-1:] in _CLAUSE_ENDS or before in _DASHES or after in _DASHES or after[0] in "(["
