"""Dates and times of day.

Conventions: the Chicago Manual of Style (9.29 to 9.40) for days as ordinals, years in pairs, decades and the clock;
ISO 8601 for year-month-day; a date of two numbers and a year is read in the order of the United States, month first,
unless its first number cannot be a month.
"""

import re

from fte.text import numbers

_MONTHS = (
    "January February March April May June July August September October November December".split()  # noqa: SIM905
)
_MONTH_OF = {name: name for name in _MONTHS} | {name[:3]: name for name in _MONTHS} | {"Sept": "September"}
_SHORT = "|".join(sorted(_MONTH_OF.keys() - _MONTHS, reverse=True))
_MONTH = rf"(?:({'|'.join(_MONTHS)})|({_SHORT})\b(?:\.(?=[ ,]))?)"
_DAY_ENDS = r"(?![\w%]|[.,:/-]\d)"
_MONTH_DAY = re.compile(rf"\b{_MONTH} (\d{{1,2}})(?: to (\d{{1,2}}))?{_DAY_ENDS}", re.ASCII)
_DAY_MONTH = re.compile(rf"(\bthe )?(?<![\d.,:/-])(?:(\d{{1,2}}) to )?(\d{{1,2}}) {_MONTH}(?!\w)", re.ASCII)

_ISO = re.compile(r"(?<![\w.,/:-])([12]\d{3})-(\d\d)-(\d\d)(?:T(?=\d\d:)|(?![\w/-]|[.,:]\d))", re.ASCII)
_NUMERIC = re.compile(r"(?<![\w.,/:-])(\d{1,2})([/.-])(\d{1,2})\2([12]\d{3}|\d\d)(?![\w/-]|[.,:]\d)", re.ASCII)

_DECADE = re.compile(r"(?:(?<!\w)')?(?<![\d.,])(\d{1,4})'?s\b", re.ASCII)

_MERIDIEM = re.compile(r"(?<=\d) ?([AaPp][Mm]\b|[AaPp]\.[Mm]\.)|\b[AaPp]\.[Mm]\.")
_DOTTED_CLOCK = re.compile(r"(?<![\d.,:])(\d{1,2})\.([0-5]\d)(?= ?[AaPp]\.?[Mm]\b)", re.ASCII)
_CLOCK = re.compile(r"(?<![\d.,:])(\d{1,2}):([0-5]\d)(?::([0-5]\d))?(?![\d:])( [AP]\.?M\b)?", re.ASCII)
_RATIO = re.compile(r"(?<![\d.,:])(\d{1,4}):(?=\d{1,4}(?![\d.,:]\d|\d))", re.ASCII)


def numeric_dates(text: str) -> str:
    """Dates in numbers: "2024-01-05", "1/5/2024" -> "January 5, 2024", for ``written_dates``; "13/1/2024" day first."""
    text = _ISO.sub(lambda m: _written(m, m[1], m[2], m[3]) + (" " if m[0].endswith("T") else ""), text)
    return _NUMERIC.sub(_numeric, text)


def _numeric(match: re.Match[str]) -> str:
    first, sign, second, year = match.groups()
    if sign == "." and len(year) == 2:  # a version, or German usage without the century: left alone
        return match[0]
    month, day = (second, first) if int(first) > 12 or sign == "." else (first, second)
    return _written(match, year, month, day)


def _written(match: re.Match[str], year: str, month: str, day: str) -> str:
    if not (1 <= int(month) <= 12 and 1 <= int(day) <= 31):
        return match[0]
    if len(year) == 2 and year.startswith("0"):
        year = "2000" if year == "00" else f"oh {numbers.digits(year[1])}"
    return f"{_MONTHS[int(month) - 1]} {int(day)}, {year}"


def written_dates(text: str) -> str:
    """Days with a month: "Feb. 5" -> "February fifth", "5 May" -> "the fifth of May", "May 5 to 7" likewise."""
    return _DAY_MONTH.sub(_day_month, _MONTH_DAY.sub(_month_day, text))


def _month_day(match: re.Match[str]) -> str:
    name, short, *days = match.groups()
    if not _are_days(days):
        return match[0]
    return f"{_MONTH_OF[name or short]} {' to '.join(numbers.ordinal(int(day)) for day in days if day)}"


def _day_month(match: re.Match[str]) -> str:
    _, first, last, name, short = match.groups()
    if not _are_days([first, last]):
        return match[0]
    days = " to ".join(f"the {numbers.ordinal(int(day))}" for day in (first, last) if day)
    return f"{days} of {_MONTH_OF[name or short]}"


def _are_days(days: list[str | None]) -> bool:
    return all(1 <= int(day) <= 31 for day in days if day)


def decades(text: str) -> str:
    """Numbers in the plural: "1990s" -> "nineteen nineties"."""
    return _DECADE.sub(lambda m: numbers.plural(numbers.spoken(m[1])), text)


def meridiem(text: str) -> str:
    """The half of the day: "9 am", "9.30 p.m." -> "9 AM", "9:30 P.M.", which ``acronyms`` spells."""
    text = _DOTTED_CLOCK.sub(r"\1:\2", text)
    return _MERIDIEM.sub(lambda m: f" {m[1].upper()}" if m[1] else m[0].upper(), text)


def clock(text: str) -> str:
    """Hours and minutes: "9:45" -> "nine forty five", "9:00" -> "nine o'clock"; ratios: "3:1" -> "3 to 1"."""
    return _RATIO.sub(r"\1 to ", _CLOCK.sub(_clock, text))


def _clock(match: re.Match[str]) -> str:
    hour, minute, second = (int(group or 0) for group in match.groups()[:3])
    half_of_day = match[4] or ""
    words = numbers.cardinal(hour)
    if minute or second:
        words += f" {'oh ' if 0 < minute < 10 else ''}{numbers.cardinal(minute)}"
    elif not half_of_day:
        words += " o'clock" if 0 < hour <= 12 else " hundred"
    if second:
        words += f" and {numbers.cardinal(second)} second{'s' if second > 1 else ''}"
    return words + half_of_day
