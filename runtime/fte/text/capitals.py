"""Words in capitals: acronyms said as a word, initials spelled, and texts all in capitals.

Conventions: classes ASWD (said as a word) and LSEQ (spelled) of Sproat et al. 2001; a word of the dictionary with one
pronunciation is said so ("NASA", and "FBI", which the dictionary spells), as the public implementation does.
"""

import re

from fte.text.pronunciation import pronunciations

_CAPITALS = re.compile(r"(?<![A-Za-z])(?<![A-Za-z]')([A-Z]{2,})(s|'[A-Za-z]{1,2})?(?![A-Za-z])")
_INITIALS = re.compile(r"(?<![A-Za-z.])((?:[A-Z]\.){2,})(?=([\"')\]]*$)?)")
_ACRONYM = re.compile(f"{_INITIALS.pattern}|{_CAPITALS.pattern}")
_JOINED = re.compile(r"(?<![A-Za-z&])([A-Z]{1,3})&([A-Z]{1,3})(?=s?(?![A-Za-z&]))")
_LOUD_WORDS = 4
_LONGEST_SPELLED = 5
_WITHOUT_STRESS = str.maketrans("", "", "012")
HISSING = ("S", "Z", "SH", "CH", "ZH", "JH")
"""Phones after which a plural or possessive takes a vowel."""


def marked(word: str, phones: str) -> str:
    """ARPAbet in braces that remembers the word it stands for: "{NASA|N AE1 S AH0}"."""
    return f"{{{word}|{phones}}}"


def shouting(text: str) -> str:
    """In a text without lower case, two capitals are a word ("IT IS") rather than an acronym ("IT", "US")."""
    if not text.isupper() or len(text.split()) < _LOUD_WORDS:
        return text
    return _CAPITALS.sub(lambda m: m[0].lower() if len(pronunciations(m[0])) > 1 else m[0], text)


def joined_letters(text: str) -> str:
    """Letters about an ampersand: "AT&T" -> "A T and T"."""
    return _JOINED.sub(lambda m: f"{' '.join(m[1])} and {' '.join(m[2])}", text)


def acronyms(text: str) -> str:
    """Capitals: "NASA" -> "{N AE1 S AH0}", "U.S." -> "{Y UW1} {EH1 S}"; what is not in the dictionary is spelled."""
    return _ACRONYM.sub(lambda m: _initials(m[1], m[2]) if m[1] else _capitals(m[3], m[4] or ""), text)


def _initials(letters: str, end_of_text: str | None) -> str:
    """Initials, spelled even where they would make a word ("A.D."); their last stop stays if it also ends the text."""
    word = letters.replace(".", "")
    spelled = " ".join(pronunciations(letter)[0] for letter in word)
    is_spelled = [_unstressed(phones) for phones in pronunciations(word)] == [_unstressed(spelled)]
    return (_acronym(word) if is_spelled else _spell(word)) + ("" if end_of_text is None else ".")


def _unstressed(phones: str) -> str:
    return phones.translate(_WITHOUT_STRESS)


def _capitals(word: str, ending: str) -> str:
    """A word in capitals; one of several pronunciations, or unknown and long, is an ordinary word."""
    if ending and ending != "'s":
        known = pronunciations(word + ending)
        if known:
            return marked(word + ending, known[0]) if len(known) == 1 else (word + ending).lower()
        if ending == "s":
            return _spell(word, plural=True)
    known = pronunciations(word)
    if (len(known) > 1 and len(word) > 2) or (not known and len(word) > _LONGEST_SPELLED):
        return (word + ending).lower()
    return _acronym(word) + ending.lower()


def _acronym(letters: str) -> str:
    known = pronunciations(letters)
    return marked(letters, known[0]) if len(known) == 1 else _spell(letters)


def _spell(letters: str, *, plural: bool = False) -> str:
    names = list(letters)
    phones = [pronunciations(letter)[0] for letter in letters]
    if plural:
        names[-1] += "s"
        phones[-1] += " IH0 Z" if phones[-1].endswith(HISSING) else " Z"
    return " ".join(map(marked, names, phones))
