"""A quick look at a text finds what reading all of it would find."""

import contextlib
import time

import pytest

from fte.constants import LIMITS
from fte.errors import NothingToSayError, RequestError
from fte.text import TextFrontend
from fte.text.screening import check_words, is_plain, is_plainly_speakable
from fte.text.spans import spans

FRONTEND = TextFrontend()


def reads(text: str) -> bool:
    """Whether every span of a text can be spoken, by the whole front end."""
    try:
        for span in spans(text, 120, lambda part: len(FRONTEND.transcript(part).ids)):
            with contextlib.suppress(NothingToSayError):
                FRONTEND.transcript(span.text)
    except RequestError:
        return False
    return True


@pytest.mark.parametrize(
    "text",
    [
        "word {HH AW1 S",
        "a } b",
        "{HH {AW1}",
        "{QQ}",
        "{}",
        "x" * (LIMITS.symbols + 1),
        "Fine. " + "x" * (LIMITS.text_characters + 1) + " Fine.",
        "{" + "AH0 " * (LIMITS.symbols + 1) + "}",
        "{HH AW1 S}" * 400,
        "9" * 400,
        "$" * 30 + "1" * 900,
    ],
)
def test_what_cannot_be_spoken_is_found_without_reading_all(text):
    with pytest.raises(RequestError):
        FRONTEND.transcript(text)
    with pytest.raises(RequestError):
        check_words(text, FRONTEND.transcript)
    assert not is_plain(text)


@pytest.mark.parametrize(
    "text",
    ["Hi.", "5 km", "1234567890" * 2, "a-b-" * 9, "{HH AW1 S} here", "-" * 500 + " a", "https://example.org/" * 2],
)
def test_what_can_be_spoken_passes(text):
    assert is_plainly_speakable(text) and reads(text)
    check_words(text, FRONTEND.transcript)


@pytest.mark.parametrize("text", ["", "...", "¿", "…", "日本"])
def test_a_text_without_a_letter_or_digit_is_left_to_the_front_end(text):
    assert not is_plainly_speakable(text)


def test_the_longest_word_that_is_not_read_is_far_below_the_limit():
    """20 characters of the kinds that grow most when they are read."""
    for character in ("9", "W", "%", "€", "½", "&", "#", "w"):
        word = character * 20
        try:
            symbols = len(FRONTEND.transcript("a " + word).symbols)
        except RequestError as error:
            pytest.fail(f"{word}: {error}")
        assert symbols < LIMITS.symbols / 2
    assert len(FRONTEND.transcript("{" + " ".join(["AH0"] * 10) + "}").symbols) == 10


@pytest.mark.parametrize(
    ("text", "plain"), [("Hi there.", True), ("...", False), ("{HH AW1 S}", False), ("a" * 21, False), ("", False)]
)
def test_plain_texts_are_not_read_in_advance(text, plain):
    assert is_plain(text) == plain


def test_a_book_is_looked_at_within_seconds():
    book = "Kids are talking by the door, aren't they? " * 90_000
    started = time.process_time()
    check_words(book, FRONTEND.transcript)
    assert time.process_time() - started < 3
