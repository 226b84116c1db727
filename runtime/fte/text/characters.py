"""Unicode -> the symbols of the voices and the few signs that the rules read aloud.

Accents that are among the symbols stay. Everything else is likened to ASCII by the package anyascii, scripts with an
alphabet included ("Москва" -> "Moskva"); ``_FOLDED`` holds what English reads differently. Chinese characters, whose
reading depends on the language, and emoji are dropped.
"""

import functools
import re
import unicodedata

from fte.text.symbols import CHARACTERS

_READ_BY_RULES = "–£¥₹¢=<>×^~§µ′″"
_UNKNOWN = "\N{REPLACEMENT CHARACTER}"
_ALPHABET = frozenset(CHARACTERS + _READ_BY_RULES)
_NOT_IN_ALPHABET = re.compile(f"[^{re.escape(CHARACTERS + _READ_BY_RULES)}{{}}]")
_NOT_SYMBOLS = re.compile(f"[^{re.escape(CHARACTERS)}{{}}]")
_BETWEEN_WORDS = re.compile(rf"(?<=\w){_NOT_SYMBOLS.pattern}+(?=\w)")
_LETTER_AND_MARKS = re.compile(r"([A-Za-z])([\u0300-\u036f]+)")
_SUPERSCRIPT = re.compile("[⁰¹²³⁴-⁹⁻]+")
_PLAIN_DIGITS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_INVISIBLE = ("Mn", "Me", "Cf")
_PICTURES = ("So", "Sk", "Cc", "Cs", "Co", "Cn")
_LONGEST_LIKENESS = 8
"""Longer ones are whole phrases in one character."""
_FOLDED = (
    dict.fromkeys("´`ʻ", "'")
    | dict.fromkeys("«»", '"')
    | dict.fromkeys("―⸺⸻", "—")
    | dict.fromkeys("™®•·†‡¶¿¡", "")
    | {"μ": "µ", "№": "No.", "℃": "°C", "℉": "°F", "‰": " per mille "}
    | {"±": " plus or minus ", "÷": " divided by ", "√": " square root of ", "∞": " infinity ", "≈": " approximately "}
    | {"≠": " is not equal to ", "≤": " at most ", "≥": " at least ", "→": " to "}
)
_PLAIN_ENDS = str.maketrans({"–": "—", "′": "'", "″": '"'})


def fold(text: str) -> str:
    """Typographic characters to ASCII, accented letters outside the symbols to their base letter: “Å m²” -> "A m^2"

    Superscripts become powers ("m²" -> "m^2"). What has no likeness becomes U+FFFD, which ``drop_unknown`` removes.
    """
    # Only the first mark of a letter is composed: normalising whole texts takes quadratic time on runs of marks.
    text = _LETTER_AND_MARKS.sub(lambda m: unicodedata.normalize("NFC", m[1] + m[2][0]), text)
    text = _SUPERSCRIPT.sub(lambda m: f"^{m[0].translate(_PLAIN_DIGITS)}", text)
    return _NOT_IN_ALPHABET.sub(lambda m: _fold_character(m[0]), text)


@functools.lru_cache(maxsize=4096)
def _fold_character(character: str) -> str:
    if character in _FOLDED:
        return _FOLDED[character]
    if character.isspace():
        return " "
    category = unicodedata.category(character)
    if category in _INVISIBLE:
        return ""
    if character.isascii() or category in _PICTURES or "CJK" in unicodedata.name(character, ""):
        return _UNKNOWN
    from anyascii import anyascii  # here, for its import takes longer than that of this whole package

    likeness = "".join(c for c in anyascii(character) if c in _ALPHABET)
    if len(likeness) > _LONGEST_LIKENESS:
        return _UNKNOWN
    # A fraction in one character stands apart from the whole number before it.
    return f" {likeness}" if "/" in likeness and category == "No" else likeness


def drop_unknown(text: str) -> str:
    """What is no symbol goes; between two words it leaves a space."""
    return _NOT_SYMBOLS.sub("", _BETWEEN_WORDS.sub(" ", text.translate(_PLAIN_ENDS)))
