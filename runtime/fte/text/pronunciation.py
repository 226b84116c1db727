"""Pronunciations from CMUdict 0.7b, and the heteronyms whose pronunciation the dictionary cannot decide.

The dictionary is one zlib-compressed blob of sorted lines, WORD TAB phones [TAB phones ...], each phone one byte: it
loads in milliseconds and is searched where it lies. ``_build_dictionary.py`` writes it.
"""

import functools
import zlib
from pathlib import Path

from fte.text.symbols import ARPABET

DATA = Path(__file__).parent / "data"
DICTIONARY_FILE = DATA / "cmudict.zlib"
HETERONYMS_FILE = DATA / "heteronyms.txt"

PHONE_BASE = 0x80
"""Phone i of ARPABET is the byte PHONE_BASE + i; words are ASCII, so the two never mix."""


def pronunciations(word: str) -> tuple[str, ...]:
    """All pronunciations of ``word`` in the dictionary's order, each a string of phones: "HH AW1 S"; () if unknown."""
    if not word.isascii():
        return ()
    return _search(_dictionary(), word.upper().encode("ascii"))


@functools.cache
def heteronyms() -> frozenset[str]:
    """The words that stay letters. Entries with a capital match nothing, as in the reference: ids depend on it."""
    return frozenset(HETERONYMS_FILE.read_text("utf-8").splitlines())


@functools.cache
def _dictionary() -> bytes:
    return zlib.decompress(DICTIONARY_FILE.read_bytes())


def _search(lines: bytes, word: bytes) -> tuple[str, ...]:
    """Bisect over the bytes: a probe falls into a line, which is compared by its word."""
    low, high = 0, len(lines)
    while low < high:
        start = lines.rfind(b"\n", low, (low + high) // 2) + 1 or low
        end = lines.find(b"\n", start, high)
        end = high if end < 0 else end
        found, *phones = lines[start:end].split(b"\t")
        if found == word:
            return tuple(" ".join(ARPABET[byte - PHONE_BASE] for byte in each) for each in phones)
        if found < word:
            low = end + 1
        else:
            high = start
    return ()
