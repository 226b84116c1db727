"""Numbers in words.

Two styles, both those the published models were trained on: ``cardinal`` is plain ("twelve thousand three hundred
forty five"), ``formal`` has commas, "and" and hyphens ("twelve thousand, three hundred and forty-five"). The words
are num2words'; inflect gives the same ones, but takes seconds to import.
"""

import re
from collections.abc import Callable

from num2words import num2words

_DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]

MAX_DIGITS = 21
"""Longer numbers are read digit by digit."""

_GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+", re.ASCII)


def formal(n: int) -> str:
    """1234 -> "one thousand, two hundred and thirty-four"."""
    return str(num2words(n))


def cardinal(n: int) -> str:
    """1234 -> "one thousand two hundred thirty four"."""
    return formal(n).replace(" and ", " ").replace(",", "").replace("-", " ")


def ordinal(n: int) -> str:
    """21 -> "twenty-first"."""
    return str(num2words(n, to="ordinal"))


def year(n: int) -> str:
    """A number without separators as English reads it: 1066 to 2999 in pairs, the rest as a cardinal."""
    if not 1000 < n < 3000 or 2000 <= n < 2010:
        return cardinal(n)
    century, rest = divmod(n, 100)
    if not rest:
        return f"{formal(century)} hundred"
    return f"{cardinal(century)} {'oh ' if rest < 10 else ''}{cardinal(rest)}"


def digits(text: str) -> str:
    """Digit by digit: "1900" -> "one nine zero zero"."""
    return " ".join(_DIGITS[int(digit)] for digit in text)


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
