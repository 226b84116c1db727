"""A quick look at a text that is to be spoken bit by bit: can any of it fail when its turn comes?

Reading a text takes the whole front end, which for a book means minutes before its first sound. What makes it fail is
rare and easily seen: braces, a word too long for one utterance, and a text without a letter or digit. Those alone are
read in advance.
"""

import re
from collections.abc import Callable

from fte.constants import LIMITS
from fte.errors import NothingToSayError
from fte.text.frontend import check_braces

_LONG_PLAIN_WORD = re.compile(r"(?<!\S)\S{21,}")
_LONG_WORD = re.compile(r"(?<!\S)(?:\{[^{}]*\}|[^\s{}]){21,}|\{[^{}]{41,}\}")
"""A word whose symbols might pass the limit. Below that a character becomes some twenty symbols at most (a digit), and
a pair of braces twenty."""
_SUSPECT = re.compile(r"[{}]|(?<!\S)\S{21}")
_SPEAKABLE = re.compile(r"[A-Za-z0-9]")


def is_plainly_speakable(text: str) -> bool:
    """Whether a text has a letter or digit that every front end can speak; else it must be read to know."""
    return _SPEAKABLE.search(text) is not None


def is_plain(text: str) -> bool:
    """Whether nothing in a text needs to be read in advance."""
    is_short = len(text) <= LIMITS.request_characters
    return is_short and is_plainly_speakable(text) and not _SUSPECT.search(text)


def check_words(text: str, read: Callable[[str], object]) -> None:
    """Refuse braces without a partner and words that ``read`` refuses, of which only the long ones are read.

    Raises RequestError.
    """
    check_braces(text)
    long_word = _LONG_WORD if "{" in text else _LONG_PLAIN_WORD  # which takes half the time
    for word in long_word.finditer(text):
        try:
            read(word[0])
        except NothingToSayError:
            continue  # a line of dashes
