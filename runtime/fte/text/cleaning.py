"""Text as people type it -> text that can be read aloud letter by letter or looked up word by word.

``RULES`` is the whole of it: small functions in the order they run, each about one thing, each linear in its input
(no pattern repeats a repetition without bound, and one that begins with digits looks behind: a run is scanned once).
Text in braces is ARPAbet typed by the user; no rule sees it.

Where the published models were trained on a reading, that reading is kept: titles like "Mr." and "Dr." stay as they
are, because the voices learned them so.
"""

import functools
import re
import unicodedata
from collections.abc import Callable

from fte.text import numbers
from fte.text.pronunciation import pronunciations
from fte.text.symbols import CHARACTERS

BRACED = re.compile(r"(\{[^{}]*\})")
"""A pair of braces without braces inside."""

_READ_BY_RULES = "–£¥=<>×"
_UNKNOWN = "\N{REPLACEMENT CHARACTER}"
_ALPHABET = frozenset(CHARACTERS + _READ_BY_RULES)
_NOT_IN_ALPHABET = re.compile(f"[^{re.escape(CHARACTERS + _READ_BY_RULES)}{{}}]")
_NOT_SYMBOLS = re.compile(f"[^{re.escape(CHARACTERS)}{{}}]")
_BETWEEN_WORDS = re.compile(rf"(?<=\w){_NOT_SYMBOLS.pattern}+(?=\w)")
_INVISIBLE = ("Mn", "Me", "Cf")
_LETTER_AND_MARKS = re.compile(r"([A-Za-z])([\u0300-\u036f]+)")
_FOLDED = (
    dict.fromkeys("‘’‚‛′ʼ´`", "'")
    | dict.fromkeys("“”„‟″«»", '"')
    | dict.fromkeys("‐‑‒−", "-")
    | dict.fromkeys("―⸺⸻", "—")
    | dict(zip("⁄。、ØłŁđĐðÐı", "/.,OlLdDdDi", strict=True))
    | {"ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "þ": "th", "Þ": "Th"}
)

# A number: digits, with commas and dots only between digits. Possessive, so that a failed match is not retried shorter.
_NUMBER = r"\d(?:\d|[.,](?=\d))*+"
_AT_NUMBER = r"(?<![\d.,])"


def clean(text: str) -> str:
    """Return ``text`` with numbers, signs and abbreviations in words and every other character one of the 185 symbols.

    Pairs of braces pass untouched; words in capitals come back as ARPAbet in braces. Characters that have no likeness
    among the symbols (emoji, other scripts) are dropped. Unbalanced braces stay, for the front end to refuse.
    """
    parts = BRACED.split(_fold(text).strip())
    parts[::2] = [_apply_rules(part) for part in parts[::2]]
    return " ".join("".join(parts).split())


def _apply_rules(text: str) -> str:
    for rule in RULES:
        text = rule(text)
    return text


# --- characters ---


def _fold(text: str) -> str:
    """Typographic characters to ASCII, accented letters outside the symbols to their base letter."""
    # Only the first mark of a letter is composed: normalising whole texts takes quadratic time on runs of marks.
    text = _LETTER_AND_MARKS.sub(lambda m: unicodedata.normalize("NFC", m[1] + m[2][0]), text)
    return _NOT_IN_ALPHABET.sub(lambda m: _fold_character(m[0]), text)


@functools.lru_cache(maxsize=4096)
def _fold_character(character: str) -> str:
    if character in _FOLDED:
        return _FOLDED[character]
    parts = (_FOLDED.get(part, part) for part in unicodedata.normalize("NFKD", character))
    folded = "".join(part for part in parts if part in _ALPHABET)
    if folded or unicodedata.category(character) in _INVISIBLE:
        return folded
    return " " if character.isspace() else _UNKNOWN


def drop_unknown(text: str) -> str:
    """What is no symbol goes; between two words it leaves a space."""
    return _NOT_SYMBOLS.sub("", _BETWEEN_WORDS.sub(" ", text.replace("–", "—")))


# --- dashes ---

_RANGE = re.compile(
    r"(?<![\w.,:/–-])([$£€¥₩]?)(\d(?:\d|[.,:](?=\d))*+)(%|bn|tn|[kmb])?( ?)([–-])( ?)"
    r"([$£€¥₩]?)(\d(?:\d|[.,:](?=\d))*+)(?![/–-])",
    re.ASCII | re.IGNORECASE,
)
_UNGROUPED = str.maketrans("", "", ",:")
_HOURS = re.compile(r"(?:(?<=[AP]M)|(?<=[AP]\.M\.)) ?[–-] ?(?=\d)", re.ASCII)
_MINUS = re.compile(r"(?<![^\s(\[\"'])-(?=[$£€¥₩]?\.?\d)", re.ASCII)
_INNER_HYPHEN = re.compile(r"(?<=\w)-(?=\w)")
_INNER_EN_DASH = re.compile(r"(?<=\w)–(?=\w)")


def ranges(text: str) -> str:
    """Dashes between numbers: "5-10", "5 – 10" -> "5 to 10"; telephone numbers ("555-1234"), scores ("3-2") stay."""
    return _RANGE.sub(_range, _HOURS.sub(" to ", text))


def _range(match: re.Match[str]) -> str:
    sign1, first, unit, space1, dash, space2, sign2, second = match.groups("")
    if dash == "-":
        telephone = len(first) == 3 and len(second) == 4
        short_year = len(first) == 4 and len(second) == 2
        if space1 or space2 or telephone or not (short_year or sign2 or _rises(first, second)):
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


def minus(text: str) -> str:
    """A dash before a number: "-5" -> "minus 5"."""
    return _MINUS.sub("minus ", text)


def hyphens(text: str) -> str:
    """A hyphen inside a word: "well-known" -> "well known", for the dictionary knows the parts."""
    return _INNER_HYPHEN.sub(" ", _INNER_EN_DASH.sub(" ", text))


# --- time of day ---

_MERIDIEM = re.compile(r"(?<=\d) ?([AaPp][Mm]\b|[AaPp]\.[Mm]\.)|\b[AaPp]\.[Mm]\.")
_CLOCK = re.compile(r"(?<![\d.,:])(\d{1,2}):([0-5]\d)(?::([0-5]\d))?(?![\d:])( [AP]\.?M\b)?", re.ASCII)


def meridiem(text: str) -> str:
    """The half of the day: "9 am", "9 p.m." -> "9 AM", "9 P.M.", which ``acronyms`` spells."""
    return _MERIDIEM.sub(lambda m: f" {m[1].upper()}" if m[1] else m[0].upper(), text)


def clock(text: str) -> str:
    """Hours and minutes: "9:45" -> "nine forty five", "9:05" -> "nine oh five", "9:00" -> "nine o'clock"."""
    return _CLOCK.sub(_clock, text)


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


# --- money and other signs ---

_CURRENCIES = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"),
    "¥": ("yen", "yen", "sen", "sen"),
    "₩": ("won", "won", "jeon", "jeon"),
}
_SCALES = {"k": "thousand", "m": "million", "bn": "billion", "b": "billion", "tn": "trillion"}
_SCALE = r"(?: ?(thousand|million|billion|trillion)\b|(bn|tn|[kmb])\b)?"
_MONEY = re.compile(rf"(\w?)([$£€¥₩]) ?({_NUMBER}){_SCALE}", re.ASCII | re.IGNORECASE)
_MONEY_AFTER = re.compile(rf"{_AT_NUMBER}({_NUMBER}) ?([$£€¥₩])(?! ?\d)", re.ASCII)
_BARE_FRACTION = re.compile(r"(?<![\w.])\.(?=\d)", re.ASCII)
_SIGNS = (
    (re.compile(r"(?<=\d) ?%"), " percent"),
    (re.compile(r"(?<=\d) ?° ?C\b"), " degrees Celsius"),
    (re.compile(r"(?<=\d) ?° ?F\b"), " degrees Fahrenheit"),
    (re.compile(r"(?<=\d) ?°"), " degrees"),
    (re.compile(r"#(?=\d)"), "number "),
    (re.compile(r"\b[Nn]o\. ?(?=\d)"), "number "),
    (re.compile(r"\b[Nn]os\. ?(?=\d)"), "numbers "),
    (re.compile(r"&"), " and "),
    (re.compile(r"(?<=\w)@(?=\w)"), " at "),
    (re.compile(r"(?<=\d) ?× ?(?=\d)"), " times "),
    (re.compile(r"(?<=\w) ?\+ ?(?=\d)"), " plus "),
    (re.compile(r"(?<![=<>])=(?![=<>])"), " equals "),
)


def bare_fractions(text: str) -> str:
    """Decimals without their zero: ".5" -> "0.5"."""
    return _BARE_FRACTION.sub("0.", text)


def money(text: str) -> str:
    """Prices: "$3.50" -> "three dollars, fifty cents", "£2 million" -> "two million pounds", "5 €" -> "five euros"."""
    text = _MONEY.sub(lambda m: f"{m[1]}{' ' if m[1] else ''}{_amount(m[2], m[3], m[4] or m[5])}", text)
    return _MONEY_AFTER.sub(lambda m: _amount(m[2], m[1], None), text)


def _amount(sign: str, number: str, scale: str | None) -> str:
    one, many, small_one, small_many = _CURRENCIES[sign]
    if scale:
        return f"{numbers.spoken(number)} {_SCALES.get(scale.lower(), scale)} {many}"
    units_text, _, cents_text = number.partition(".")
    units = numbers.whole(units_text)
    if units is None or len(cents_text) > 2:
        return f"{numbers.spoken(number)} {many}"
    cents = int(f"{cents_text}00"[:2])
    parts = []
    if units or not cents:
        parts.append(f"{numbers.formal(units)} {one if units == 1 else many}")
    if cents:
        parts.append(f"{numbers.formal(cents)} {small_one if cents == 1 else small_many}")
    return ", ".join(parts)


def signs(text: str) -> str:
    """Signs that are read aloud beside numbers or words: "%" -> "percent", "&" -> "and"."""
    for pattern, words in _SIGNS:
        text = pattern.sub(words, text)
    return text


# --- abbreviations ---

_ABBREVIATIONS = {
    "e.g.": "for example",
    "i.e.": "that is",
    "vs.": "versus",
    "approx.": "approximately",
    "Prof.": "Professor",
    "Mt.": "Mount",
    "Ph.D.": "P.H.D.",
}
_ABBREVIATION = re.compile(rf"\b(?:{'|'.join(map(re.escape, _ABBREVIATIONS))})")


def abbreviations(text: str) -> str:
    """Abbreviations of which the dictionary knows nothing, or the wrong word."""
    return _ABBREVIATION.sub(lambda m: _ABBREVIATIONS[m[0]], text)


# --- numbers ---

_ORDINAL = re.compile(rf"{_AT_NUMBER}({_NUMBER})(?:st|nd|rd|th)\b", re.ASCII | re.IGNORECASE)
_DECADE = re.compile(r"(?:(?<!\w)')?(?<![\d.,])(\d{1,4})'?s\b", re.ASCII)
_DIGIT_BESIDE_LETTER = re.compile(r"(?<=\d)(?=[A-Za-z])|(?<=[A-Za-z])(?=\d)", re.ASCII)
_ANY_NUMBER = re.compile(_NUMBER, re.ASCII)


def ordinals(text: str) -> str:
    """Ordinals: "21st" -> "twenty-first"."""
    return _ORDINAL.sub(_ordinal, text)


def _ordinal(match: re.Match[str]) -> str:
    n = numbers.whole(match[1])
    return match[0] if n is None else numbers.ordinal(n)


def decades(text: str) -> str:
    """Numbers in the plural: "1990s" -> "nineteen nineties"."""
    return _DECADE.sub(lambda m: _plural(numbers.spoken(m[1])), text)


def _plural(word: str) -> str:
    if word.endswith("y"):
        return word[:-1] + "ies"
    return word + ("es" if word.endswith("x") else "s")


def digits_apart(text: str) -> str:
    """Numbers written onto a word: "5km" -> "5 km", "MP3" -> "MP 3"."""
    return _DIGIT_BESIDE_LETTER.sub(" ", text)


def cardinals(text: str) -> str:
    """The numbers that no earlier rule has read."""
    return _ANY_NUMBER.sub(lambda m: numbers.spoken(m[0]), text)


# --- capitals ---

_CAPITALS = re.compile(r"(?<![A-Za-z])(?<![A-Za-z]')([A-Z]{2,})(s|'[A-Za-z]{1,2})?(?![A-Za-z])")
_INITIALS = re.compile(r"(?<![A-Za-z.])((?:[A-Z]\.){2,})(?=([\"')\]]*$)?)")
_ACRONYM = re.compile(f"{_INITIALS.pattern}|{_CAPITALS.pattern}")
_LOUD_WORDS = 4
_LONGEST_SPELLED = 5
_HISSING = ("S", "Z", "SH", "CH", "ZH", "JH")


def shouting(text: str) -> str:
    """In a text without lower case, two capitals are a word ("IT IS") rather than an acronym ("IT", "US")."""
    if not text.isupper() or len(text.split()) < _LOUD_WORDS:
        return text
    return _CAPITALS.sub(lambda m: m[0].lower() if len(pronunciations(m[0])) > 1 else m[0], text)


def acronyms(text: str) -> str:
    """Capitals: "NASA" -> "{N AE1 S AH0}", "U.S." -> "{Y UW1} {EH1 S}"; what is not in the dictionary is spelled."""
    return _ACRONYM.sub(lambda m: _initials(m[1], m[2]) if m[1] else _capitals(m[3], m[4] or ""), text)


def _initials(letters: str, end_of_text: str | None) -> str:
    """Initials; their last stop stays where it also ends the text."""
    return _acronym(letters.replace(".", "")) + ("" if end_of_text is None else ".")


def _capitals(word: str, ending: str) -> str:
    """A word in capitals; one of several pronunciations, or unknown and long, is an ordinary word."""
    if ending and ending != "'s":
        known = pronunciations(word + ending)
        if known:
            return f"{{{known[0]}}}" if len(known) == 1 else (word + ending).lower()
        if ending == "s":
            return _spell(word, plural=True)
    known = pronunciations(word)
    if (len(known) > 1 and len(word) > 2) or (not known and len(word) > _LONGEST_SPELLED):
        return (word + ending).lower()
    return _acronym(word) + ending.lower()


def _acronym(letters: str) -> str:
    known = pronunciations(letters)
    return f"{{{known[0]}}}" if len(known) == 1 else _spell(letters)


def _spell(letters: str, *, plural: bool = False) -> str:
    phones = [pronunciations(letter)[0] for letter in letters]
    if plural:
        phones[-1] += " IH0 Z" if phones[-1].endswith(_HISSING) else " Z"
    return " ".join(f"{{{each}}}" for each in phones)


RULES: tuple[Callable[[str], str], ...] = (
    shouting,
    bare_fractions,
    meridiem,
    ranges,
    minus,
    hyphens,
    clock,
    money,
    signs,
    abbreviations,
    ordinals,
    decades,
    digits_apart,
    cardinals,
    drop_unknown,
    acronyms,
)
"""In order: what reads digits comes before ``cardinals``; what writes braces comes last."""
