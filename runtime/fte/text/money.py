"""Money.

Conventions: the number, then the currency, as in LJ Speech's transcripts and class MONEY of Sproat et al. 2001; cents
after a comma, as the published models were trained.
"""

import re

from fte.text import numbers
from fte.text.numbers import AT_NUMBER, NUMBER
from fte.text.units import per

_CURRENCIES = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"),
    "¥": ("yen", "yen", "sen", "sen"),
    "₩": ("won", "won", "jeon", "jeon"),
    "₹": ("rupee", "rupees", "paisa", "paise"),
}
_COUNTRIES = {
    "US": "US",
    "C": "Canadian",
    "CA": "Canadian",
    "A": "Australian",
    "AU": "Australian",
    "NZ": "New Zealand",
    "HK": "Hong Kong",
}
_CODES = {"USD": "$", "GBP": "£", "EUR": "€", "JPY": "¥", "KRW": "₩", "INR": "₹"}
_CODE = f"({'|'.join(_CODES)})"
_SCALES = {"k": "thousand", "m": "million", "bn": "billion", "b": "billion", "tn": "trillion", "t": "trillion"}
_SCALE = r"(?: ?(thousand|million|billion|trillion)\b|(bn|tn|[kmbt])\b)?"
_SIGN = "[$£€¥₩₹]"
_MONEY = re.compile(
    rf"(?:\b({'|'.join(_COUNTRIES)})(?=\$)|(\w?))({_SIGN}) ?({NUMBER}){_SCALE}(?:/([A-Za-z]{{1,9}})\b)?",
    re.ASCII | re.IGNORECASE,
)
_MONEY_AFTER = re.compile(rf"{AT_NUMBER}({NUMBER}) ?({_SIGN})(?! ?\d)", re.ASCII)
_CODE_BEFORE = re.compile(rf"\b{_CODE} ?(?=\d)")
_CODE_AFTER = re.compile(rf"{AT_NUMBER}({NUMBER}) ?{_CODE}\b", re.ASCII)


def money(text: str) -> str:
    """Prices: "$3.50" -> "three dollars, fifty cents", "£2m" -> "two million pounds", "5 EUR" -> "five euros"."""
    text = _MONEY.sub(_price, _CODE_BEFORE.sub(lambda m: _CODES[m[1]], text))
    text = _CODE_AFTER.sub(lambda m: _amount(_CODES[m[2]], m[1]), text)
    return _MONEY_AFTER.sub(lambda m: _amount(m[2], m[1]), text)


def _price(match: re.Match[str]) -> str:
    country, before, sign, number, scale, short_scale, unit = match.groups("")
    country = f"{_COUNTRIES[country.upper()]} " if country else ""
    return f"{before}{' ' if before else ''}{_amount(sign, number, scale or short_scale, country)}{per(unit)}"


def _amount(sign: str, number: str, scale: str = "", country: str = "") -> str:
    one, many, small_one, small_many = _CURRENCIES[sign]
    one, many = country + one, country + many
    if scale:
        return f"{numbers.spoken(number)} {_SCALES.get(scale.lower(), scale)} {many}"
    units_text, _, cents_text = number.partition(".")
    whole = numbers.whole(units_text)
    if whole is None or len(cents_text) > 2:
        return f"{numbers.spoken(number)} {many}"
    cents = int(f"{cents_text}00"[:2])
    parts = []
    if whole or not cents:
        parts.append(f"{numbers.formal(whole)} {one if whole == 1 else many}")
    if cents:
        parts.append(f"{numbers.formal(cents)} {small_one if cents == 1 else small_many}")
    return ", ".join(parts)
