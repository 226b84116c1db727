"""Text as people type it -> text that can be read aloud letter by letter or looked up word by word.

``RULES`` is the whole of it: small functions in the order they run, each about one thing, each linear in its input
(no pattern repeats a repetition without bound, and one that begins with digits looks behind: a run is scanned once).
Text in braces is ARPAbet typed by the user; no rule sees it.
"""

import re
from collections.abc import Callable, Iterator

from fte.text.abbreviations import abbreviations
from fte.text.addresses import addresses, telephones
from fte.text.capitals import acronyms, joined_letters, shouting
from fte.text.characters import drop_unknown, fold
from fte.text.dates import clock, decades, meridiem, numeric_dates, written_dates
from fte.text.money import money
from fte.text.quantities import (
    bare_decimals,
    cardinals,
    digits_apart,
    fractions,
    minus,
    ordinals,
    ranges,
    scientific,
    signs,
)
from fte.text.roman import roman_numerals
from fte.text.units import units

BRACED = re.compile(r"(\{[^{}]*\})")
"""A pair of braces without braces inside."""

_MARK = re.compile(r"\{[^{}|]*\|")
_INNER_HYPHEN = re.compile(r"(?<=\w)-(?=\w)")
_INNER_EN_DASH = re.compile(r"(?<=\w)–(?=\w)")


def clean(text: str) -> str:
    """Return ``text`` with numbers, signs and abbreviations in words and every other character one of the 185 symbols.

    Pairs of braces pass untouched; words in capitals come back as ARPAbet in braces. Characters that have no likeness
    among the symbols (emoji, Chinese) are dropped. Unbalanced braces stay, for the front end to refuse.
    """
    return unmarked(read_aloud(fold(text)))


def read_aloud(folded: str) -> str:
    """Apply every rule to text that ``fold`` has seen; ARPAbet made by a rule keeps its word: "{NASA|N AE1 S AH0}"."""
    *_, (_, text) = steps(folded)
    return text


def steps(folded: str) -> Iterator[tuple[str, str]]:
    """Yield each rule's name and the text after it; the last has single spaces."""
    parts = BRACED.split(folded.strip())
    for rule in RULES:
        parts[::2] = [rule(part) if part else "" for part in parts[::2]]
        yield rule.__name__, "".join(parts)
    yield "spaces", " ".join("".join(parts).split())


def unmarked(text: str) -> str:
    """Take the words out of braces: "{NASA|N AE1 S AH0}" -> "{N AE1 S AH0}"."""
    return _MARK.sub("{", text)


def hyphens(text: str) -> str:
    """A hyphen inside a word: "well-known" -> "well known", for the dictionary knows the parts."""
    return _INNER_HYPHEN.sub(" ", _INNER_EN_DASH.sub(" ", text))


RULES: tuple[Callable[[str], str], ...] = (
    shouting,
    addresses,
    telephones,
    numeric_dates,
    bare_decimals,
    meridiem,
    ranges,
    scientific,
    minus,
    joined_letters,
    roman_numerals,
    units,
    hyphens,
    written_dates,
    clock,
    money,
    fractions,
    signs,
    abbreviations,
    ordinals,
    decades,
    digits_apart,
    cardinals,
    drop_unknown,
    acronyms,
)
"""In order: what reads digits comes before ``cardinals``; what writes braces comes last."""
