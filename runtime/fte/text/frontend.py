"""Text -> the symbol ids a voice was trained on."""

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from fte import checks
from fte.constants import LIMITS
from fte.errors import NothingToSayError, RequestError
from fte.text.capitals import HISSING, marked
from fte.text.characters import fold
from fte.text.cleaning import BRACED, read_aloud, steps, unmarked
from fte.text.lexicon import PHONES, WORD_CHARACTERS, Lexicon, checked
from fte.text.pronunciation import heteronyms, pronunciations
from fte.text.symbols import ID_OF

Source = Literal[
    "dictionary", "lexicon", "guessed", "braces", "capitals", "heteronym", "ambiguous", "unknown", "letters"
]
"""Why a word is pronounced as it is.

As ARPAbet: from the dictionary or the user's lexicon, guessed from its spelling, typed in braces, in capitals (an
acronym or a spelled letter). As letters: a heteronym, a word with several pronunciations, one the dictionary lacks, or
because all words stay letters or it is written onto ARPAbet in braces.
"""

_HOW_TO_WRITE = "write each word in its own pair, as in {HH AW1 S}"
_PIECE = re.compile(
    r"\{([^{}]*)\}((?:'?[^\W_])*+)"  # ARPAbet and the letters written onto its end
    r"|([^\W_]++(?:['-][^\W_]++)*+)(?=(\{)?)"  # a word; whether ARPAbet is written onto its end
)
_TOKEN = re.compile(r"[^\s{}]+")
_CORE = re.compile(r"(\W*+)(.*\w)(\W*)", re.DOTALL)
_PLAIN_WORD = re.compile(r"[A-Z]?[a-z']*")
_CAPITAL_WORD = re.compile(r"[^\W_]++(?:'[^\W_]++)*+")


@dataclass(frozen=True, slots=True)
class Word:
    """A word and the symbols that speak it; punctuation and spaces belong to none."""

    text: str
    """As in the cleaned text; of ARPAbet in braces what is between them."""
    start: int
    """Its first symbol."""
    stop: int
    """One past its last symbol."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """What a model is given for a text."""

    symbols: tuple[str, ...]
    """Characters, and ARPAbet phones with a leading @."""
    ids: tuple[int, ...]
    """The symbols' rows in the embedding."""
    words: tuple[Word, ...]
    """In the text's order; their ranges of symbols do not overlap."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A word and how it is pronounced, or the punctuation and spaces between two words."""

    text: str
    phones: str | None = None
    """ARPAbet between single spaces; None for what stays letters."""
    ending: str = ""
    """Letters written onto ARPAbet, as in "{N EY1 T OW0}'s"."""
    source: Source | None = None
    """None between words."""

    @property
    def spoken(self) -> str:
        """As a transcription writes it: letters, or ARPAbet in braces."""
        return self.text if self.phones is None else f"{{{self.phones}}}{self.ending}"

    @property
    def symbols(self) -> list[str]:
        if self.phones is None:
            return list(self.text)
        return [*(f"@{phone}" for phone in self.phones.split()), *self.ending]


@dataclass(frozen=True, slots=True)
class Stages:
    """A text's way through the front end."""

    steps: tuple[tuple[str, str], ...]
    """Name of each step that changed the text, and the text after it."""
    cleaned: str
    pieces: tuple[Piece, ...]
    transcript: Transcript


@dataclass(frozen=True, slots=True)
class TextFrontend:
    """The public implementation's front end: words with one pronunciation as ARPAbet, the others as letters."""

    arpabet: bool = True
    """Turn dictionary words into ARPAbet; without it only what stands in braces, in capitals or in the lexicon is."""
    keep_ambiguous: bool = False
    """Words with several pronunciations take the dictionary's first instead of staying letters; heteronyms never do."""
    lexicon: Lexicon = field(default_factory=dict)
    """Word -> phones, as `read_lexicon` reads them; before dictionary and heteronyms."""
    guess_unknown: bool = False
    """Words outside the dictionary are pronounced by their spelling; the published voices heard them as letters."""
    lowercase: bool = False
    """Letters become lower case, and without ``arpabet`` capitals are letters too, as english_cleaners leave them."""

    def __post_init__(self) -> None:
        for name in ("arpabet", "keep_ambiguous", "guess_unknown"):
            checks.flag(getattr(self, name), name)
        object.__setattr__(self, "lexicon", checked(self.lexicon))

    def ids(self, text: str) -> list[int]:
        """Return the symbol ids of ``text``. Raises as ``transcript`` does."""
        return list(self.transcript(text).ids)

    def transcript(self, text: str) -> Transcript:
        """Return symbols, ids and words of ``text``.

        Raises RequestError when text or symbols pass LIMITS or braces are bad, NothingToSayError when there is nothing
        to say.
        """
        _check_length(text)
        return _transcript(text, list(self._pieces(self._lowered(read_aloud(self._prepared(text))))))

    def stages(self, text: str) -> Stages:
        """Return what every stage makes of ``text``. Raises as ``transcript`` does."""
        _check_length(text)
        prepared = self._prepared(text)
        history = [("text", text), ("characters", unmarked(prepared)), *((n, unmarked(t)) for n, t in steps(prepared))]
        spoken = self._lowered(read_aloud(prepared))
        history.append(("lower case", unmarked(spoken)))
        changes = (after for before, after in itertools.pairwise(history) if after[1] != before[1])
        pieces = tuple(self._pieces(spoken))
        return Stages(tuple(changes), history[-1][1], pieces, _transcript(text, pieces))

    def transcribe(self, text: str) -> str:
        """Return the cleaned text with ``{ARPAbet}`` words. Raises RequestError for bad braces."""
        return "".join(piece.spoken for piece in self._pieces(self._lowered(read_aloud(self._prepared(text)))))

    def _prepared(self, text: str) -> str:
        """Folded text, its braces checked; words of the lexicon that the rules would take apart in braces already."""
        check_braces(text)
        folded = fold(text)
        if not self.lexicon:
            return folded
        parts = BRACED.split(folded)
        parts[::2] = [_TOKEN.sub(self._protected, part) for part in parts[::2]]
        return "".join(parts)

    def _lowered(self, cleaned: str) -> str:
        """The cleaned text as the voice saw letters in training; phones keep their names."""
        if not self.lowercase:
            return cleaned
        parts = BRACED.split(cleaned)
        parts[::2] = [part.lower() for part in parts[::2]]
        return "".join(parts)

    def _protected(self, token: re.Match[str]) -> str:
        match = _CORE.fullmatch(token[0])
        if match is None:
            return token[0]
        before, core, after = match.groups()
        return before + (self._marked(core) or _CAPITAL_WORD.sub(self._marked_word, core)) + after

    def _marked_word(self, match: re.Match[str]) -> str:
        return self._marked(match[0]) or match[0]

    def _marked(self, word: str) -> str | None:
        """A word of the lexicon in braces; None for others, and for plain words, which no rule takes apart."""
        if len(word) > WORD_CHARACTERS + len("'s") or _PLAIN_WORD.fullmatch(word):
            return None
        phones = self._own(word)
        return marked(word, phones) if phones else None

    def _pieces(self, text: str) -> Iterator[Piece]:
        end = 0
        for match in _PIECE.finditer(text):
            braced, ending, word, is_joined = match.groups()
            if match.start() > end:
                yield Piece(text[end : match.start()])
            end = match.end()
            if word is None:
                yield self._braced(braced, ending)
            elif is_joined:
                yield Piece(word, source="letters")
            else:
                phones, source = self._pronounced(word)
                yield Piece(word, phones, source=source)
        if end < len(text):
            yield Piece(text[end:])

    def _braced(self, content: str, ending: str) -> Piece:
        word, mark, phones = content.rpartition("|")
        if not mark:
            return Piece(phones + ending, phones, ending, "braces")
        own = self._own(word)
        if self.lowercase and not self.arpabet and not own:
            return Piece((word + ending).lower(), source="letters")
        return Piece(word + ending, own or phones, ending, "lexicon" if own else "capitals")

    def _pronounced(self, word: str) -> tuple[str | None, Source]:
        own = self._own(word)
        if own:
            return own, "lexicon"
        if not self.arpabet:
            return None, "letters"
        # The published models were trained with a possessive as its stem plus Z, "it's" alone excepted.
        stem = _stem(word)
        if stem.lower() in heteronyms():
            return None, "heteronym"
        if stem != word and (phones := self._only(pronunciations(stem))):
            return f"{phones} Z", "dictionary"
        known = pronunciations(word)
        if known:
            phones = self._only(known)
            return phones, "dictionary" if phones else "ambiguous"
        if stem != word and pronunciations(stem):
            return None, "ambiguous"
        return self._guessed(word, stem)

    def _own(self, word: str) -> str | None:
        """The user's pronunciation of a word or of the stem of its possessive."""
        word = word.lower()
        stem = _stem(word)
        phones = self.lexicon.get(word)
        if phones is None and stem != word and stem in self.lexicon:
            return _possessive(self.lexicon[stem])
        return phones

    def _only(self, known: tuple[str, ...]) -> str | None:
        return known[0] if len(known) == 1 or (known and self.keep_ambiguous) else None

    def _guessed(self, word: str, stem: str) -> tuple[str | None, Source]:
        if not self.guess_unknown:
            return None, "unknown"
        from fte.text.g2p import guess  # here, for most voices never guess

        phones = guess(stem)
        if phones is None:
            return None, "unknown"
        return phones if stem == word else _possessive(phones), "guessed"


def _stem(word: str) -> str:
    """A word without the ending of its possessive."""
    return word[:-2] if word[-2:].lower() == "'s" and word.lower() != "it's" else word


def _possessive(phones: str) -> str:
    return f"{phones} IH0 Z" if phones.endswith(HISSING) else f"{phones} Z"


def _transcript(text: str, pieces: Iterable[Piece]) -> Transcript:
    symbols: list[str] = []
    words: list[Word] = []
    for piece in pieces:
        start = len(symbols)
        symbols += piece.symbols
        if piece.source is not None:
            words.append(Word(piece.text, start, len(symbols)))
    if not words:
        raise NothingToSayError(
            f"nothing in {_shortened(text)!r} can be pronounced: give at least one letter or number"
        )
    if len(symbols) > LIMITS.symbols:
        raise RequestError(
            f"the text has {len(symbols)} symbols, more than the limit of {LIMITS.symbols}: split it into sentences"
        )
    return Transcript(tuple(symbols), tuple(ID_OF[symbol] for symbol in symbols), tuple(words))


def _check_length(text: str) -> None:
    checks.text(text, "text")
    if len(text) > LIMITS.text_characters:
        raise RequestError(
            f"the text has {len(text)} characters, more than the limit of {LIMITS.text_characters}: split it"
        )
    if not text.strip():
        raise NothingToSayError("the text is empty: give at least one word")


def check_braces(text: str) -> None:
    """Raise RequestError unless every brace has its partner, none are nested, and each pair holds ARPAbet."""
    checks.text(text, "text")
    for i, part in enumerate(BRACED.split(text)):
        if i % 2:
            _check_phones(part)
        elif "{" in part or "}" in part:
            raise RequestError(f"a brace in {_shortened(part)!r} has no partner: {_HOW_TO_WRITE}")


def _check_phones(braced: str) -> None:
    phones = braced[1:-1].split()
    if not phones:
        raise RequestError(f"a pair of braces is empty: {_HOW_TO_WRITE}")
    for phone in phones:
        if phone not in PHONES:
            raise RequestError(f"{_shortened(phone)!r} in braces is not an ARPAbet symbol: {_HOW_TO_WRITE}")


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."
