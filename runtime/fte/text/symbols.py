"""The 185 symbols of the published models, in the order of their embedding's rows.

A symbol is a character, or an ARPAbet phone written with a leading ``@``: ``@HH``, ``@AW1``. The order is that of the
public Flowtron implementation and is part of every checkpoint.
"""

import string
from collections.abc import Iterable

from fte.errors import RequestError

_PUNCTUATION = "!'\",.:;? "
_SIGNS = "#%&*+-/[]()_@©°½—₩€$"
_ACCENTED = "áçéêëñöøćž"
_VOWELS = "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW"
_CONSONANTS = "B CH D DH F G HH JH K L M N NG P R S SH T TH V W Y Z ZH"

CHARACTERS = _PUNCTUATION + _SIGNS + _ACCENTED + string.digits + string.ascii_uppercase + string.ascii_lowercase
"""The symbols that are characters."""

ARPABET: tuple[str, ...] = tuple(
    sorted([*_CONSONANTS.split(), *(vowel + stress for vowel in _VOWELS.split() for stress in ("", "0", "1", "2"))])
)
"""The phones; a vowel may carry its stress: none given, 0 none, 1 primary, 2 secondary."""

SYMBOLS: tuple[str, ...] = (*CHARACTERS, *(f"@{phone}" for phone in ARPABET))
"""Every symbol; its place is its id."""

ID_OF: dict[str, int] = {symbol: i for i, symbol in enumerate(SYMBOLS)}
"""Symbol -> id."""


def symbols_of(ids: Iterable[int]) -> list[str]:
    """Return the symbols behind ``ids``, as plots label them. Raises RequestError for an id outside the table."""
    ids = list(ids)
    for i in ids:
        if not 0 <= i < len(SYMBOLS):
            raise RequestError(f"symbol id {i} does not exist: ids run from 0 to {len(SYMBOLS) - 1}")
    return [SYMBOLS[i] for i in ids]
