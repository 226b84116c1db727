"""Numbers in words.

Two styles, both those the published models were trained on: ``cardinal`` is plain ("twelve thousand three hundred
forty five"), ``formal`` has commas, "and" and hyphens ("twelve thousand, three hundred and forty-five").
"""

import re
from collections.abc import Callable

_BELOW_TWENTY = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TIMES_TEN = "zero ten twenty thirty forty fifty sixty seventy eighty ninety"
_ONES = _BELOW_TWENTY.split()
_TENS = _TIMES_TEN.split()
_SCALES = ("", " thousand", " million", " billion", " trillion", " quadrillion", " quintillion")
_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}

MAX_DIGITS = 3 * len(_SCALES)
"""Longer numbers are read digit by digit."""

_GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+", re.ASCII)


def formal(n: int) -> str:
    """1234 -> "one thousand, two hundred and thirty-four". ``n`` has at most MAX_DIGITS digits and no sign."""
    if n < 1000:
        return _below_thousand(n)
    groups = []
    for scale in reversed(range(1, len(_SCALES))):
        group = n // 1000**scale % 1000
        if group:
            groups.append(_below_thousand(group) + _SCALES[scale])
    words, rest = ", ".join(groups), n % 1000
    if not rest:
        return words
    return f"{words}{' and ' if rest < 100 else ', '}{_below_thousand(rest)}"


def _below_thousand(n: int) -> str:
    if n < 20:
        return _ONES[n]
    if n < 100:
        return _TENS[n // 10] + (f"-{_ONES[n % 10]}" if n % 10 else "")
    return f"{_ONES[n // 100]} hundred" + (f" and {_below_thousand(n % 100)}" if n % 100 else "")


def cardinal(n: int) -> str:
    """1234 -> "one thousand two hundred thirty four"."""
    return formal(n).replace(" and ", " ").replace(",", "").replace("-", " ")


def ordinal(n: int) -> str:
    """21 -> "twenty-first"."""
    words = formal(n)
    cut = max(words.rfind(" "), words.rfind("-")) + 1
    return words[:cut] + _ordinal_word(words[cut:])


def _ordinal_word(word: str) -> str:
    if word in _ORDINALS:
        return _ORDINALS[word]
    return word[:-1] + "ieth" if word.endswith("y") else word + "th"


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
    return " ".join(_ONES[int(digit)] for digit in text)


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
