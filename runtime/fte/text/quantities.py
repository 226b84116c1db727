"""Ranges, fractions, powers, signs beside numbers; and last the bare numbers.

Conventions: cardinals without "and", decimals digit by digit after "point", numbers of four digits in pairs as years
are, as the public implementation reads them (its models were trained so); signs and fractions as classes NUM, NORD and
PRCT of Sproat et al. 2001.
"""

import re

from fte.text import numbers
from fte.text.numbers import AT_NUMBER, NUMBER
from fte.text.units import EXPONENTS

# --- before the digits ---

_BARE_FRACTION = re.compile(r"(?<![\w.])\.(?=\d)", re.ASCII)
_MINUS = re.compile(r"(?<![^\s(/\[\"'])-(?=[$£€¥₩₹]?\.?\d)", re.ASCII)


def bare_decimals(text: str) -> str:
    """Decimals without their zero: ".5" -> "0.5"."""
    return _BARE_FRACTION.sub("0.", text)


_SCIENTIFIC = re.compile(r"(?<![\w.,])(\d{1,9}(?:\.\d{1,9})?)[eE]([-+]?)(\d{1,3})(?!\w)", re.ASCII)


def scientific(text: str) -> str:
    """Powers of ten behind an e: "1e-5" -> "1 times 10^-5". Without a sign or a point it may be a name, as in "2e4"."""
    return _SCIENTIFIC.sub(_times_power, text)


def _times_power(match: re.Match[str]) -> str:
    factor, sign, power = match.groups()
    if not sign and "." not in factor:
        return match[0]
    return f"{factor} times 10^{sign.replace('+', '')}{power}"


def minus(text: str) -> str:
    """A dash before a number: "-5" -> "minus 5"."""
    return _MINUS.sub("minus ", text)


# --- ranges ---

_RANGE = re.compile(
    r"(?<![\w.,/:–-])([$£€¥₩₹]?)(\d(?:\d|[.,:](?=\d))*+)(%|bn|tn|[kmb])?( ?)([–-])( ?)"
    r"([$£€¥₩₹]?)(\d(?:\d|[.,:](?=\d))*+)(?![/–-])",
    re.ASCII | re.IGNORECASE,
)
_UNGROUPED = str.maketrans("", "", ",:")
_HOURS = re.compile(r"(?:(?<=[AP]M)|(?<=[AP]\.M\.)) ?[–-] ?(?=\d)", re.ASCII)


def ranges(text: str) -> str:
    """Dashes between numbers: "5-10", "5 – 10" -> "5 to 10"; scores ("3-2") stay."""
    return _RANGE.sub(_range, _HOURS.sub(" to ", text))


def _range(match: re.Match[str]) -> str:
    sign1, first, unit, space1, dash, space2, sign2, second = match.groups("")
    if dash == "-":
        short_year = len(first) == 4 and len(second) == 2
        if space1 or space2 or not (short_year or sign2 or _rises(first, second)):
            return match[0]
    if sign1 and not sign2:
        return f"{first}{unit} to {sign1}{second}"
    return f"{sign1}{first}{unit} to {sign2}{second}"


def _rises(first: str, second: str) -> bool:
    try:
        a, b = (float(number.translate(_UNGROUPED)) for number in (first, second))
    except ValueError:  # several dots
        return False
    return a < b


# --- fractions, powers and signs ---

_HALF = re.compile(r"(?<=\d) ?½", re.ASCII)
_FRACTION = re.compile(
    r"(?<![\w.,/$-])(?:(\d{1,3}) )?(\d{1,3})/(\d{1,3})(?:nds?|rds?|ths?)?(?![\w/-]|[.,]\d)", re.ASCII
)
_PARTS = frozenset((*range(2, 11), 12, 16, 20, 32, 64, 100))
_POWER = re.compile(r"(?:(?<=\d)|(?<=[A-Za-z)]))\^(-?\d{1,3})(?!\d)", re.ASCII)
_SIGNS = (
    ("%", re.compile(r"(?<=\d) ?%"), " percent"),
    ("°", re.compile(r"(?<=\d)°"), " degrees "),
    ("#", re.compile(r"#(?=\d)"), "number "),
    ("§", re.compile(r"§ ?(?=\d)"), "section "),
    ("C++", re.compile(r"(?<=\bC)\+\+"), " plus plus"),
    ("#", re.compile(r"(?<=\b[CF])#(?!\w)"), " sharp"),
    ("&", re.compile(r"&"), " and "),
    ("@", re.compile(r"(?<=\w)@(?=\w)"), " at "),
    ("~", re.compile(r"~ ?(?=[$£€\d])"), "about "),
    ("+", re.compile(r"(?<=\w) ?\+ ?(?=\d)|(?<=\d)\+(?!\w)|(?<![\w+])\+(?=\d)"), " plus "),
    ("<", re.compile(r"<(?= ?[\d$£€])"), " less than "),
    (">", re.compile(r">(?= ?[\d$£€])"), " greater than "),
    ("=", re.compile(r"(?<![=<>])=(?![=<>])"), " equals "),
    ("/", re.compile(r"(?<=\d)/(?=[a-z])(?!minus)"), " per "),
    ("©", re.compile(r"©(?= ?\d)"), "copyright "),
    ("w/o", re.compile(r"(?<![\w.])w/o\b"), "without"),
    ("w/", re.compile(r"(?<![\w.])w/ ?(?=\w)"), "with "),
)
"""Sign, where it is read, and its words."""


def fractions(text: str) -> str:
    """Fractions: "3/4" -> "three quarters", "2 ½" -> "2 and a half"; others in pairs: "24/7" -> "24 7"."""
    return _FRACTION.sub(_fraction, _HALF.sub(" 1/2", text).replace("½", "1/2"))


def _fraction(match: re.Match[str]) -> str:
    whole, numerator, denominator = match[1], int(match[2]), int(match[3])
    if not (0 < numerator < denominator and (denominator in _PARTS or numerator == 1)):
        return match[0].replace("/", " ")
    part = numbers.fraction(numerator, denominator)
    return f"{whole} and {part.replace('one ', 'a ', 1)}" if whole else part


def signs(text: str) -> str:
    """Signs that are read aloud beside numbers or words: "%" -> "percent", "&" -> "and", "x^2" -> "x squared"."""
    text = _POWER.sub(_power, text)
    for sign, pattern, words in _SIGNS:
        if sign in text:
            text = pattern.sub(words, text)
    return text


def _power(match: re.Match[str]) -> str:
    """A square or cube; of digits any power. What else is raised is the number of a note, which is not read."""
    exponent = match[1]
    if exponent in EXPONENTS:
        return EXPONENTS[exponent]
    is_number = match.string[match.start() - 1].isdecimal()
    return f" to the power of {exponent.replace('-', 'minus ')}" if is_number else ""


# --- the numbers themselves ---

_ORDINAL = re.compile(rf"{AT_NUMBER}({NUMBER})(?:st|nd|rd|th)\b", re.ASCII | re.IGNORECASE)
_DIGIT_BESIDE_LETTER = re.compile(r"(?<=\d)(?=[A-Za-z])|(?<=[A-Za-z])(?=\d)", re.ASCII)
_ANY_NUMBER = re.compile(NUMBER, re.ASCII)


def ordinals(text: str) -> str:
    """Ordinals: "21st" -> "twenty-first"."""
    return _ORDINAL.sub(_ordinal, text)


def _ordinal(match: re.Match[str]) -> str:
    n = numbers.whole(match[1])
    return match[0] if n is None else numbers.ordinal(n)


def digits_apart(text: str) -> str:
    """Numbers written onto a word: "MP3" -> "MP 3"."""
    return _DIGIT_BESIDE_LETTER.sub(" ", text)


def cardinals(text: str) -> str:
    """The numbers that no earlier rule has read."""
    return _ANY_NUMBER.sub(lambda m: numbers.spoken(m[0]), text)
