"""A user's own pronunciations: a file of words with their ARPAbet.

One word a line, then its phones, as in CMUdict: ``nginx EH1 N JH IH0 N EH2 K S``. ``#`` begins a comment at the start
of a line or after a space. Capitals make no difference in the word.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from fte import checks
from fte.errors import InputError, RequestError
from fte.text.characters import fold
from fte.text.symbols import ARPABET

Lexicon = Mapping[str, str]
"""Word as ``key`` writes it -> phones between single spaces: {"nginx": "EH1 N JH IH0 N EH2 K S"}."""

LEXICON_BYTES = 8 << 20
"""Largest file: twice the whole of CMUdict."""
WORD_CHARACTERS = 64
WORD_PHONES = 64

PHONES = frozenset(ARPABET)
_COMMENT = re.compile(r"(?:^|\s)#.*")
_ALTERNATIVE = re.compile(r"\(\d+\)$")
_WORD = re.compile(r"[^\W_](?:[^\s{}\uFFFD]*[^\W_])?")


def read_lexicon(path: Path | str) -> dict[str, str]:
    """Read a lexicon file (UTF-8).

    Raises RequestError, naming the line, for a file that cannot be read or is larger than LEXICON_BYTES, a line without
    phones, a phone that is not ARPAbet, a word given twice, and CMUdict's numbered alternatives ("word(2)").
    """
    path = checks.path(path, "the file of the lexicon")
    lexicon: dict[str, str] = {}
    for where, word, phones in _entries(_text(path), str(path)):
        known = _checked(word, phones, where)
        if known[0] in lexicon:
            raise RequestError(f"{where} gives {word!r} a second pronunciation: keep one line a word")
        lexicon.update([known])
    return lexicon


def checked(entries: Mapping[str, str]) -> dict[str, str]:
    """Return ``entries`` as the front end looks words up. Raises RequestError for an entry that no file may hold."""
    checks.mapping(checks.text, checks.text)(entries, "the lexicon")
    return dict(_checked(word, phones.split(), f"the lexicon's entry {word!r}") for word, phones in entries.items())


def key(word: str) -> str:
    """The form under which a word is looked up: as the rules of cleaning see it, without capitals."""
    return fold(word).lower()


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(LEXICON_BYTES + 1)
        if len(data) > LEXICON_BYTES:
            raise InputError(f"the lexicon {path} is larger than {LEXICON_BYTES} bytes: keep the words you need")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read the lexicon {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"the lexicon {path} is not UTF-8 text: convert it") from error


def _entries(text: str, name: str) -> Iterator[tuple[str, str, list[str]]]:
    """Where it stands, word and phones of every line that holds any."""
    for number, line in enumerate(text.split("\n"), 1):
        word, *phones = _COMMENT.sub("", line).split() or [""]
        if word:
            yield f"line {number} of {name}", word, phones


def _checked(word: str, phones: Iterable[str], where: str) -> tuple[str, str]:
    phones = list(phones)
    if _ALTERNATIVE.search(word):
        raise RequestError(f"{where} is a numbered alternative, {word!r}: keep one pronunciation, under the word alone")
    if len(word) > WORD_CHARACTERS or not _WORD.fullmatch(key(word)):
        raise RequestError(
            f"{where} has the word {word[:WORD_CHARACTERS]!r}: give one of at most {WORD_CHARACTERS} characters that "
            "begins and ends with a letter or digit and has no sign that is dropped from texts"
        )
    if not 0 < len(phones) <= WORD_PHONES:
        raise RequestError(
            f"{where} gives {word!r} {len(phones)} phones: write 1 to {WORD_PHONES} after it, as in 'house HH AW1 S'"
        )
    for phone in phones:
        if phone not in PHONES:
            raise RequestError(
                f"{where} has {phone[:20]!r} among the phones of {word!r}, which is not ARPAbet: "
                "write capitals, and a vowel's stress as 0, 1 or 2"
            )
    return key(word), " ".join(phones)
