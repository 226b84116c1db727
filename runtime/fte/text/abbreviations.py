"""Shortened words, and the numerals of kings and chapters.

Conventions: class EXPN of Sproat et al. 2001; the expansions of the Chicago Manual of Style, chapter 10. Where the
published models were trained on a reading, it is kept: titles like "Mr." and "Dr.", and "Jan." before an ordinal, stay
as they are, because the voices learned them so.
"""

import re

_ANYWHERE = {
    "e.g.": "for example",
    "i.e.": "that is",
    "vs.": "versus",
    "cf.": "compare",
    "etc.": "et cetera",
    "et al.": "and others",
    "approx.": "approximately",
    "Prof.": "Professor",
    "Mt.": "Mount",
    "Ph.D.": "P.H.D.",
    "Jr.": "Junior",
    "Sr.": "Senior",
    "Esq.": "Esquire",
    "Inc.": "Incorporated",
    "Corp.": "Corporation",
    "Ltd.": "Limited",
    "Co.": "Company",
    "Bros.": "Brothers",
    "Dept.": "Department",
    "Univ.": "University",
    "Ave.": "Avenue",
    "Blvd.": "Boulevard",
    "Rd.": "Road",
    "Hwy.": "Highway",
    "Feb.": "February",
    "Apr.": "April",
    "Aug.": "August",
    "Sept.": "September",
    "Oct.": "October",
    "Nov.": "November",
    "Dec.": "December",
    "Mon.": "Monday",
    "Tues.": "Tuesday",
    "Wed.": "Wednesday",
    "Thurs.": "Thursday",
    "Fri.": "Friday",
}
_BEFORE_NAMES = {
    "Gen.": "General",
    "Col.": "Colonel",
    "Maj.": "Major",
    "Capt.": "Captain",
    "Lt.": "Lieutenant",
    "Sgt.": "Sergeant",
    "Adm.": "Admiral",
    "Gov.": "Governor",
    "Sen.": "Senator",
    "Rep.": "Representative",
    "Pres.": "President",
    "Rev.": "Reverend",
    "Hon.": "Honorable",
    "Ft.": "Fort",
    "St.": "Saint",
}
_BEFORE_NUMBERS = {
    "no.": "number",
    "nos.": "numbers",
    "p.": "page",
    "pp.": "pages",
    "pt.": "part",
    "vol.": "volume",
    "ch.": "chapter",
    "fig.": "figure",
    "sec.": "section",
    "art.": "article",
    "ext.": "extension",
    "c.": "circa",
    "ca.": "circa",
    "est.": "established",
}


def _any_of(table: dict[str, str]) -> str:
    return rf"\b(?:{'|'.join(re.escape(word) for word in sorted(table, key=len, reverse=True))})"


_AT_END = r"(?=([\"')\]]*$)?)"
_STREET = re.compile(
    rf"(?<=\w )St\.(?=,| [a-z]|[\"')\]]*$)|(\b\d+(?:st|nd|rd|th)? (?:[A-Z][a-z]+ ){{0,3}})St\.{_AT_END}"
)
_ANYWHERE_PATTERN = re.compile(rf"({_any_of(_ANYWHERE)}){_AT_END}")
_BEFORE_NAMES_PATTERN = re.compile(rf"({_any_of(_BEFORE_NAMES)})(?= [A-Z])")
_BEFORE_NUMBERS_PATTERN = re.compile(rf"({_any_of(_BEFORE_NUMBERS)}) ?(?=\d)", re.IGNORECASE)


def abbreviations(text: str) -> str:
    """Shortened words: "etc." -> "et cetera", "Gen. Lee" -> "General Lee", "p. 5" -> "page 5"; a last stop stays."""
    if "." not in text:
        return text
    text = _STREET.sub(lambda m: f"{m[1] or ''}Street{'.' if m[2] is not None else ''}", text)
    text = _ANYWHERE_PATTERN.sub(lambda m: _ANYWHERE[m[1]] + ("" if m[2] is None else "."), text)
    text = _BEFORE_NAMES_PATTERN.sub(lambda m: _BEFORE_NAMES[m[1]], text)
    return _BEFORE_NUMBERS_PATTERN.sub(lambda m: f"{_BEFORE_NUMBERS[m[1].lower()]} ", text)
