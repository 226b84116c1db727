"""Roman numerals after names and headings.

Conventions: the Chicago Manual of Style 9.41 and 9.64: monarchs and popes take an ordinal ("Henry the eighth"), parts
of a work, wars and the like a cardinal ("Chapter four"). A single letter is a numeral only where the word before it
calls for one.
"""

import re

from fte.text import numbers

_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
_WELL_FORMED = re.compile(r"(?=[IVXLCDM])M{0,3}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})")

_MONARCHS = (
    "Albert|Alexander|Alfonso|Alfred|Amadeus|Baldwin|Benedict|Boniface|Carl|Carlos|Catherine|Charles|"
    "Christian|Clement|Constantine|Edmund|Edward|Elizabeth|Ferdinand|Francis|Frederick|Friedrich|"
    "George|Gregory|Gustav|Haakon|Harald|Heinrich|Henri|Henry|Humbert|Innocent|Isabella|Ivan|James|"
    "John|Joseph|Juan|Julius|Karl|Leo|Leopold|Louis|Ludwig|Margaret|Maria|Martin|Mary|Matthias|"
    "Maximilian|Mehmed|Michael|Napoleon|Nicholas|Nicolas|Olaf|Oscar|Otto|Paul|Pedro|Peter|Philip|"
    "Philippe|Pius|Ramesses|Ramses|Richard|Robert|Rudolf|Selim|Sigismund|Sixtus|Stephen|Thutmose|"
    "Umberto|Urban|Victor|Wilhelm|William|Xerxes"
)
_TITLES = "King|Queen|Pope|Emperor|Empress|Tsar|Czar|Kaiser|Sultan|Prince|Princess|Pharaoh"
_HEADINGS = (
    "Act|Annex|Apollo|Appendix|Article|Book|Canto|Chapter|Class|Division|Figure|Grade|Group|Level|Op|Part|Phase|Plate|"
    "Pt|Rocky|Scene|Section|Stage|Super Bowl|Table|Title|Type|Vol|Volume|World War"
)
_NUMERAL_ENDS = r"(?![\w-]|'[a-rt-z]|\.\w)"
_REGNAL = re.compile(rf"\b((?:(?:{_TITLES}) [A-Z][a-z]+|{_MONARCHS})) ([IVX]{{1,7}}){_NUMERAL_ENDS}")
_INITIAL = re.compile(r"\. [A-Z]")
_FIRST = re.compile(r"[.,;:!?)\"']|$| (?:of|was|and|had|died|reigned|ruled|became)\b")
_HEADING = re.compile(
    rf"\b((?:{_HEADINGS}|{_HEADINGS.upper()})\.?) ([IVX]|[IVXLC]{{2,15}}){_NUMERAL_ENDS}"
    rf"|\b((?:{_HEADINGS.lower()})\.?) ([IVXLC]{{2,15}}){_NUMERAL_ENDS}"
)
_CENTURY = re.compile(r"\b([IVX]{1,5})(?:th)?(?= [Cc]entur(?:y|ies)\b)")
_AFTER_NAME = re.compile(rf"\b([A-Z][a-z]+) ([IVX]{{2,7}}){_NUMERAL_ENDS}")


def roman_numerals(text: str) -> str:
    """Roman numerals: "Henry VIII" -> "Henry the eighth", "Chapter IV", "Apollo XI" -> "Chapter 4", "Apollo 11"."""
    text = _CENTURY.sub(_century, text)
    text = _REGNAL.sub(_regnal, text)
    text = _HEADING.sub(lambda m: _counted(m, m[1] or m[3], m[2] or m[4]), text)
    return _AFTER_NAME.sub(lambda m: _counted(m, m[1], m[2]), text)


def value(numeral: str) -> int | None:
    """The value of a Roman numeral below 4000; None for letters that are no well-formed one."""
    if not _WELL_FORMED.fullmatch(numeral):
        return None
    values = [_VALUES[letter] for letter in numeral]
    return sum(v if v >= after else -v for v, after in zip(values, [*values[1:], 0], strict=True))


def _regnal(match: re.Match[str]) -> str:
    name, numeral = match.groups()
    n = value(numeral)
    if n is None or (len(numeral) == 1 and _INITIAL.match(match.string, match.end())):
        return match[0]
    # After a name the pronoun is more likely than the first of the name, unless what follows tells.
    if n == 1 and not _FIRST.match(match.string, match.end()):
        return match[0]
    return f"{name} the {numbers.ordinal(n)}"


def _counted(match: re.Match[str], name: str, numeral: str) -> str:
    n = value(numeral)
    if n is None:
        return match[0]
    # Digits, so that rules for what stands before a number see one; but with an ending they would be a decade.
    has_ending = match.string.startswith("'", match.end())
    return f"{name} {numbers.cardinal(n) if has_ending else n}"


def _century(match: re.Match[str]) -> str:
    n = value(match[1])
    return match[0] if n is None else numbers.ordinal(n)
