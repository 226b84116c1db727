"""Text -> the symbol ids a voice was trained on."""

import re
from dataclasses import dataclass

from fte.constants import LIMITS
from fte.errors import RequestError
from fte.text.cleaning import BRACED, clean
from fte.text.pronunciation import heteronyms, pronunciations
from fte.text.symbols import ARPABET, ID_OF

_PHONES = frozenset(ARPABET)
_HOW_TO_WRITE = "write each word in its own pair, as in {HH AW1 S}"
_WORD = re.compile(r"(?:[^\s{}]|\{[^{}]*\})+")
_CORE = re.compile(r"(\W*+)(.*\w)(\W*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class TextFrontend:
    """The public implementation's front end: words with one pronunciation as ARPAbet, the others as letters."""

    arpabet: bool = True
    """Turn dictionary words into ARPAbet; without it only what stands in braces and words in capitals are."""
    keep_ambiguous: bool = False
    """Words with several pronunciations take the dictionary's first instead of staying letters; heteronyms never do."""

    def transcribe(self, text: str) -> str:
        """Return the cleaned text with ``{ARPAbet}`` words. Raises RequestError for bad braces."""
        check_braces(text)
        cleaned = clean(text)
        return _WORD.sub(lambda m: self._word(m[0]), cleaned) if self.arpabet else cleaned

    def ids(self, text: str) -> list[int]:
        """Return the symbol ids of ``text``.

        Raises RequestError when there is nothing to say, when text or symbols pass LIMITS, or for bad braces.
        """
        if len(text) > LIMITS.text_characters:
            raise RequestError(
                f"the text has {len(text)} characters, more than the limit of {LIMITS.text_characters}: split it"
            )
        if not text.strip():
            raise RequestError("the text is empty: give at least one word")
        symbols = _split(self.transcribe(text))
        if not any(symbol[-1].isalnum() for symbol in symbols):
            raise RequestError(f"nothing in {_shortened(text)!r} can be pronounced: give at least one letter or number")
        if len(symbols) > LIMITS.symbols:
            raise RequestError(
                f"the text has {len(symbols)} symbols, more than the limit of {LIMITS.symbols}: split it into sentences"
            )
        return [ID_OF[symbol] for symbol in symbols]

    def _word(self, token: str) -> str:
        """One word with the punctuation around it; a token that holds braces already is left alone."""
        match = _CORE.fullmatch(token)
        if "{" in token or match is None:
            return token
        before, word, after = match.groups()
        phones = self._phones(word)
        return f"{before}{{{phones}}}{after}" if phones else token

    def _phones(self, word: str) -> str | None:
        # The published models were trained with a possessive as its stem plus Z, "it's" alone excepted.
        if word[-2:].lower() == "'s" and word.lower() != "it's":
            stem = word[:-2]
            if stem.lower() in heteronyms():
                return None
            phones = self._known(stem)
            if phones:
                return f"{phones} Z"
        return self._known(word)

    def _known(self, word: str) -> str | None:
        if word.lower() in heteronyms():
            return None
        known = pronunciations(word)
        return known[0] if len(known) == 1 or (known and self.keep_ambiguous) else None


def check_braces(text: str) -> None:
    """Raise RequestError unless every brace has its partner, none are nested, and each pair holds ARPAbet."""
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
        if phone not in _PHONES:
            raise RequestError(f"{_shortened(phone)!r} in braces is not an ARPAbet symbol: {_HOW_TO_WRITE}")


def _split(transcription: str) -> list[str]:
    """Text with {ARPAbet} -> symbols."""
    symbols: list[str] = []
    for i, part in enumerate(BRACED.split(transcription)):
        symbols += [f"@{phone}" for phone in part[1:-1].split()] if i % 2 else part
    return symbols


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."
