"""Names of places on networks, and telephone numbers: URLs, e-mail, handles, hashtags.

Conventions: URLs and e-mail as in Sproat et al. 2001, "Normalization of non-standard words" (class URL), with the
signs named ("dot", "slash", "at") and the scheme left out; telephone numbers digit by digit in their written groups
(class NTEL), in the formats of the North American Numbering Plan and of ITU-T E.123.
"""

import re

from fte.text import numbers

_CANDIDATE = re.compile(r"[^\s<>\"{}()\[\],;]++")
_NAMED_DOMAINS = "com|org|net|edu|gov|mil|io|ai|info|dev|app|co\\.uk|ac\\.uk"
_HINT = re.compile(rf"[@#]|://|www\.|\.(?:{_NAMED_DOMAINS})\b")
_LONGEST = 500
"""Longer runs are no address; it bounds what one is read into."""
_EMAIL = re.compile(r"(?:mailto:)?([\w.+-]+)@((?:[\w-]+\.)+[A-Za-z]{2,})", re.ASCII)
_URL = re.compile(
    rf"(?:[a-z]+://(?:[^/@]*@)?([\w.-]+\w)|(www\.[\w.-]+\w)|((?:[\w-]+\.)+(?:{_NAMED_DOMAINS})))([/:?#].*)?", re.ASCII
)
_HANDLE = re.compile(r"'?([@#])(?=[A-Za-z_])(\w+)('s)?", re.ASCII)
_PUNCTUATION = ".,:!?'*"
_SIGNS = {
    ".": "dot",
    "-": "dash",
    "_": "underscore",
    "/": "slash",
    ":": "colon",
    "?": "question mark",
    "=": "equals",
    "&": "and",
    "#": "hash",
    "%": "percent",
    "~": "tilde",
    "+": "plus",
    "@": "at",
}
_SIGN = re.compile(f"[{re.escape(''.join(_SIGNS))}]")
_SPELLED_ENDING = re.compile(r"(?<=\.)(?:(?!co|me|io|tv|to)[a-z]{2}|edu|org\.[a-z]{2})$")


def addresses(text: str) -> str:
    """E-mail and URLs: "jo@example.com" -> "jo at example dot com"; "#news", "@jo" -> "hashtag news", "at jo"."""
    return _CANDIDATE.sub(_address, text) if _HINT.search(text) else text


def _address(match: re.Match[str]) -> str:
    token = match[0]
    core = token.rstrip(_PUNCTUATION)
    ending = token[len(core) :]
    if len(core) > _LONGEST:
        return token
    if found := _EMAIL.fullmatch(core):
        return f"{_named(found[1])} at {_host(found[2])}{ending}"
    if found := _URL.fullmatch(core):
        return f"{_host(found[1] or found[2] or found[3])}{_named((found[4] or '').rstrip('/'))}{ending}"
    if found := _HANDLE.fullmatch(core):
        return f"{'at' if found[1] == '@' else 'hashtag'} {found[2].replace('_', ' ')}{found[3] or ''}{ending}"
    return token


def _host(name: str) -> str:
    """Labels between dots; "www" and the endings that are no words are spelled."""
    name = _SPELLED_ENDING.sub(lambda m: " ".join(m[0].upper()), name.lower())
    return _named(name.replace("www.", "WWW."))


def _named(text: str) -> str:
    return _SIGN.sub(lambda m: f" {_SIGNS[m[0]]} ", text)


_GROUP = r"[ .-]\d{2,4}"
_TELEPHONE = re.compile(
    r"(?<![\w.,:/$£€-])(?:"
    rf"(\+)(\d{{1,3}}(?:[ .-]?\(\d{{1,4}}\))?(?:{_GROUP}){{2,5}}|\d{{7,15}})"  # E.123: country code, then groups
    r"|((?:1[ .-])?\(\d{3}\) ?\d{3}[ .-]\d{4}|(?:1[ .-])\d{3}[ .-]\d{3}[ .-]\d{4}|\d{3}([.-])\d{3}\4\d{4})"
    r"|(\d{3}-\d{4}|0\d{2,4} \d{3,4} \d{3,4})"
    r")(?![\w/-]|[.,:]\d)",
    re.ASCII,
)
_CALLED = re.compile(r"\b((?:call|dial)(?:ed|ing|s)?) (\d{3})\b(?![.,:/-]\d)", re.ASCII | re.IGNORECASE)
_NOT_DIGITS = re.compile(r"\D+", re.ASCII)


def telephones(text: str) -> str:
    """Telephone numbers, digit by digit: "555-1234" -> "five five five, one two three four"; "call 911"."""
    text = _TELEPHONE.sub(_telephone, text)
    return _CALLED.sub(lambda m: f"{m[1]} {numbers.digits(m[2])}", text)


def _telephone(match: re.Match[str]) -> str:
    number = match[2] or match[3] or match[5]
    groups = (numbers.digits(group) for group in _NOT_DIGITS.split(number) if group)
    return ("plus " if match[1] else "") + ", ".join(groups)
