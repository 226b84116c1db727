"""Pronunciations from CMUdict 0.7b, and the heteronyms whose pronunciation the dictionary cannot decide.

The dictionary is one zlib-compressed blob of sorted lines, WORD TAB phones [TAB phones ...], each phone one byte: it
loads in about 20 ms, at the first lookup, and is searched by bisection. ``_build_dictionary.py`` writes it.
"""

import bisect
import functools
import zlib
from pathlib import Path

from fte.text.symbols import ARPABET

DATA = Path(__file__).parent / "data"
DICTIONARY_FILE = DATA / "cmudict.zlib"
HETERONYMS_FILE = DATA / "heteronyms.txt"

PHONE_BASE = 0x80
"""Phone i of ARPABET is the byte PHONE_BASE + i; words are ASCII, so the two never mix."""

LONGEST_WORD = 40
"""Characters; the dictionary's longest word has 34."""


def pronunciations(word: str) -> tuple[str, ...]:
    """All pronunciations of ``word`` in the dictionary's order, each a string of phones: "HH AW1 S"; () if unknown."""
    return _looked_up(word.upper()) if len(word) <= LONGEST_WORD and word.isascii() else ()


@functools.lru_cache(maxsize=8192)
def _looked_up(word: str) -> tuple[str, ...]:
    lines, head = _lines(), word.encode("ascii") + b"\t"
    i = bisect.bisect_left(lines, head)
    if i == len(lines) or not lines[i].startswith(head):
        return ()
    return tuple(" ".join(ARPABET[byte - PHONE_BASE] for byte in each) for each in lines[i].split(b"\t")[1:])


@functools.cache
def heteronyms() -> frozenset[str]:
    """The words that stay letters. Entries with a capital match nothing, as in the reference: ids depend on it."""
    return frozenset(HETERONYMS_FILE.read_text("utf-8").splitlines())


@functools.cache
def _lines() -> list[bytes]:
    return zlib.decompress(DICTIONARY_FILE.read_bytes()).split(b"\n")
