"""Numbers in words.

Two styles, both those the published models were trained on: ``cardinal`` is plain ("twelve thousand three hundred
forty five"), ``formal`` has commas, "and" and hyphens ("twelve thousand, three hundred and forty-five").
"""

import functools
import re
from collections.abc import Callable

_SMALL = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SCALES = ("", " thousand", " million", " billion", " trillion", " quadrillion", " quintillion")
_IRREGULAR_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}

NUMBER = r"\d(?:\d|[.,](?=\d))*+"
"""Pattern of a number: digits, with commas and dots only between digits. Possessive: no retry with less."""
AT_NUMBER = r"(?<![\d.,])"
"""Pattern of the place where a number may begin."""

MAX_DIGITS = 3 * len(_SCALES)
"""Longer numbers are read digit by digit."""

_GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+", re.ASCII)
_LAST_WORD = re.compile(r"[a-z]+$")


def formal(n: int) -> str:
    """1234 -> "one thousand, two hundred and thirty-four". ``n`` is not negative and has at most MAX_DIGITS digits."""
    if n < 1000:
        return _below_thousand(n)
    groups = []
    rest = n
    for scale in _SCALES:
        rest, group = divmod(rest, 1000)
        if group:
            groups.append(_below_thousand(group) + scale)
    *higher, last = reversed(groups)
    return f"{', '.join(higher)}{' and ' if 0 < n % 1000 < 100 else ', ' if higher else ''}{last}"


def _below_thousand(n: int) -> str:
    hundreds, rest = divmod(n, 100)
    if not hundreds:
        return _below_hundred(rest)
    return f"{_SMALL[hundreds]} hundred" + (f" and {_below_hundred(rest)}" if rest else "")


def _below_hundred(n: int) -> str:
    if n < 20:
        return _SMALL[n]
    tens, ones = divmod(n, 10)
    return _TENS[tens - 2] + (f"-{_SMALL[ones]}" if ones else "")


@functools.lru_cache(maxsize=4096)
def cardinal(n: int) -> str:
    """1234 -> "one thousand two hundred thirty four"."""
    return formal(n).replace(" and ", " ").replace(",", "").replace("-", " ")


def ordinal(n: int) -> str:
    """21 -> "twenty-first"."""
    return _LAST_WORD.sub(lambda m: _ordinal_word(m[0]), formal(n))


def _ordinal_word(word: str) -> str:
    if word in _IRREGULAR_ORDINALS:
        return _IRREGULAR_ORDINALS[word]
    return f"{word[:-1]}ieth" if word.endswith("y") else f"{word}th"


def year(n: int) -> str:
    """A number without separators as English reads it: 1066 to 2999 in pairs, the rest as a cardinal."""
    if not 1000 < n < 3000 or 2000 <= n < 2010:
        return cardinal(n)
    century, rest = divmod(n, 100)
    if not rest:
        return f"{formal(century)} hundred"
    return f"{cardinal(century)} {'oh ' if rest < 10 else ''}{cardinal(rest)}"


def fraction(numerator: int, denominator: int) -> str:
    """1, 2 -> "one half"; 3, 4 -> "three quarters"; 2, 3 -> "two thirds". The denominator is at least 2."""
    part = {2: "half", 4: "quarter"}.get(denominator) or ordinal(denominator).replace("-", " ")
    return f"{cardinal(numerator)} {part if numerator == 1 else plural(part)}"


def plural(word: str) -> str:
    """The plural of a number's name: "sixty" -> "sixties", "six" -> "sixes", "half" -> "halves"."""
    if word.endswith("y"):
        return f"{word[:-1]}ies"
    if word.endswith("half"):
        return f"{word[:-1]}ves"
    return word + ("es" if word.endswith("x") else "s")


def digits(text: str) -> str:
    """Digit by digit: "1900" -> "one nine zero zero"."""
    return " ".join(_SMALL[int(digit)] for digit in text)


def whole(text: str) -> int | None:
    """The value of "1234" or "1,234"; None for "1.5", "1,23", "007" and numbers of more than MAX_DIGITS digits."""
    plain = text.replace(",", "") if _GROUPED.fullmatch(text) else text
    if not plain.isdecimal() or len(plain) > MAX_DIGITS or (plain[0] == "0" and len(plain) > 1):
        return None
    return int(plain)


def spoken(text: str) -> str:
    """Read a run of digits, commas and dots between digits: a year, a cardinal, a decimal, a list or a version."""
    head, *fractions = text.split(".")
    if not fractions:
        return _list(head, year)
    if len(fractions) == 1:
        return f"{_list(head, cardinal)} point {digits(fractions[0].replace(',', ''))}"
    return " point ".join(_list(part, cardinal) for part in (head, *fractions))


def _list(text: str, read: Callable[[int], str]) -> str:
    """One number, grouped or not, or several between commas; those that are no whole number digit by digit."""
    grouped = whole(text) if "," in text else None
    if grouped is not None:
        return cardinal(grouped)
    values = ((part, whole(part)) for part in text.split(","))
    return ", ".join(digits(part) if n is None else read(n) for part, n in values)
