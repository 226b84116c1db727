"""Ramps: what the mean is at points in time, at words and at the borders of marked words; and the marks in a text."""

import numpy as np
import pytest

from fte.errors import NothingToSayError, RequestError
from fte.style.ramps import (
    CROSSFADE,
    Knot,
    Ramp,
    StyledText,
    StyledWords,
    parse_styled_text,
    ramp_by_time,
    ramp_by_word,
    ramp_over_words,
    styled_words,
)
from fte.style.style import Style


def style(mean, **changes) -> Style:
    mean = np.array(mean, np.float32)
    fields = {
        "name": "a",
        "mean": mean,
        "spread": np.ones(mean.shape[-1], np.float32),
        "utterance_spread": np.ones(mean.shape[-1], np.float32),
        "sigma": 0.5,
        "voice_hash": "1a2b" * 16,
        "speaker": 0,
        "aggregation": "time_and_batch" if mean.ndim == 1 else "batch",
        "lam": 1e-4,
        "references": (),
    }
    return Style(**{**fields, **changes})


LOW, HIGH = style([0.0, 1.0]), style([8.0, 5.0])


def words(ramp: Ramp, frames: int, starts: list[int]) -> np.ndarray:
    """The first channel over time."""
    return ramp.means(frames, starts)[:, 0]


# By time


def test_a_ramp_over_the_whole_utterance_is_a_straight_line():
    means = ramp_by_time([(0, LOW), (1, HIGH)]).means(5)
    np.testing.assert_allclose(means, [[0, 1], [2, 2], [4, 3], [6, 4], [8, 5]], atol=1e-6)
    assert means.dtype == np.float32


def test_before_its_first_and_after_its_last_point_a_ramp_stays():
    means = ramp_by_time([(0.25, LOW), (0.5, HIGH)]).means(9)[:, 0]
    np.testing.assert_allclose(means, [0, 0, 0, 4, 8, 8, 8, 8, 8], atol=1e-6)


def test_a_ramp_passes_through_every_point_and_numpy_agrees_between():
    values = {0.0: 3.0, 0.3: -1.0, 0.35: 4.0, 1.0: 0.5}
    means = ramp_by_time([(at, style([value])) for at, value in values.items()]).means(101)[:, 0]
    expected = np.interp(np.arange(101) / 100, list(values), list(values.values()))
    np.testing.assert_allclose(means, expected, atol=1e-5)


def test_two_points_at_one_place_are_a_step():
    means = ramp_by_time([(0.5, LOW), (0.5, HIGH)]).means(5)[:, 0]
    np.testing.assert_array_equal(means, [0, 0, 8, 8, 8])


def test_the_plain_prior_is_a_mean_of_zero():
    means = ramp_by_time([(0, None), (1, HIGH)]).means(5)
    np.testing.assert_allclose(means, np.outer(np.arange(5) / 4, [8, 5]), atol=1e-6)


def test_a_batch_mean_moves_on_within_the_ramp():
    moving = style([[0.0], [10.0]])
    means = ramp_by_time([(0, moving), (1, style([0.0]))]).means(5)[:, 0]
    np.testing.assert_allclose(means, np.array([0, 10, 0, 10, 0]) * [1, 0.75, 0.5, 0.25, 0], atol=1e-6)


def test_a_ramp_over_a_single_frame_has_a_mean():
    assert ramp_by_time([(0, LOW), (1, HIGH)]).means(1).shape == (1, 2)


# By word


def test_a_ramp_by_word_reaches_each_style_where_its_word_starts():
    means = words(ramp_by_word([(0, LOW), (2, HIGH), (3, LOW)]), 12, [1, 4, 5, 9])
    np.testing.assert_allclose(means[[0, 1, 3, 5, 7, 9, 11]], [0, 0, 4, 8, 4, 0, 0], atol=1e-6)


def test_the_number_of_words_is_the_end_of_the_utterance():
    means = words(ramp_by_word([(0, LOW), (2, HIGH)]), 8, [0, 3])
    np.testing.assert_allclose(means, np.arange(8), atol=1e-6)


def test_a_word_that_was_skipped_makes_a_step():
    means = words(ramp_by_word([(0, LOW), (1, LOW), (2, HIGH)]), 6, [0, 3, 3])
    np.testing.assert_array_equal(means, [0, 0, 0, 8, 8, 8])


# By marked words

STYLES = {"high": HIGH, "low": LOW}
STARTS = [3, 20, 40, 60, 80]


def over(*ranges: tuple[str, int, int], base: Style | None = None, starts=STARTS, frames: int = 100) -> np.ndarray:
    return words(ramp_over_words([StyledWords(*r) for r in ranges], STYLES, base), frames, list(starts))


def test_marked_words_have_their_style_and_the_others_the_base():
    means = over(("high", 1, 3))
    half = CROSSFADE - CROSSFADE // 2
    np.testing.assert_array_equal(means[: 20 - half + 1], 0)
    np.testing.assert_array_equal(means[20 + half : 60 - half + 1], 8)
    np.testing.assert_array_equal(means[60 + half :], 0)


def test_at_a_border_the_mean_goes_over_in_a_straight_line_of_the_crossfade_s_length():
    means = over(("high", 1, 3))
    start = 20 - CROSSFADE // 2
    np.testing.assert_allclose(means[start : start + CROSSFADE + 1], np.linspace(0, 8, CROSSFADE + 1), atol=1e-5)


def test_the_first_and_the_last_word_keep_their_style_to_the_ends():
    """Silence before the first word and the last frames have no other style to go to."""
    np.testing.assert_array_equal(over(("high", 0, 5)), 8)
    means = over(("high", 0, 1), ("high", 4, 5))
    np.testing.assert_array_equal(means[:16], 8)
    np.testing.assert_array_equal(means[85:], 8)
    np.testing.assert_array_equal(means[30:70], 0)


def test_neighbouring_marks_go_from_one_to_the_other_without_the_base_between():
    means = over(("high", 0, 2), ("low", 2, 5), base=style([100.0, 0.0]))
    assert means.max() == 8 and means[-1] == 0
    np.testing.assert_array_equal(np.diff(means) <= 0, True)


def test_the_crossfades_of_a_short_word_do_not_leave_the_range_between_the_styles():
    means = over(("high", 1, 2), starts=[0, 20, 22, 60, 80])
    assert means.min() == 0 and 0 < means.max() <= 8
    assert np.abs(np.diff(means)).max() <= 8 / 2 + 1e-6  # no step from one style to the other


def test_a_ramp_fits_the_weights_of_a_partition():
    """With the same style everywhere, nothing of the ramp can be heard."""
    ramp = ramp_over_words([StyledWords("high", 1, 2), StyledWords("high", 3, 4)], STYLES, HIGH)
    np.testing.assert_allclose(ramp.means(100, STARTS), np.tile(HIGH.mean, (100, 1)), rtol=1e-6)


# Ramps that are refused


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ramp_by_time([]), "the ramp has 0 styles"),
        (lambda: ramp_by_time([(0, LOW)] * 1001), "the ramp has 1001 styles"),
        (lambda: ramp_by_time([(0, None)]), "only the plain prior"),
        (lambda: ramp_by_time([(-0.1, LOW)]), "a style at -0.1: give a share of the time from 0 to 1"),
        (lambda: ramp_by_time([(1.1, LOW)]), "a style at 1.1"),
        (lambda: ramp_by_time([(float("nan"), LOW)]), "a style at nan"),
        (lambda: ramp_by_time([(0.5, LOW), (0.2, HIGH)]), "the ramp goes back"),
        (lambda: ramp_by_word([(0.5, LOW)]), "a style at 0.5: give the index of a word"),
        (lambda: ramp_by_word([(-1, LOW)]), "a style at -1"),
        (lambda: ramp_by_time([(0, LOW), (1, style([0, 0], voice_hash="3c4d" * 16))]), "belongs to voice 3c4d"),
        (lambda: ramp_by_time([(0, LOW)]).means(0), "over 0 frames"),
        (lambda: ramp_by_time([(0, LOW)]).means(10_001), "over 10001 frames"),
        (lambda: ramp_by_word([(0, LOW)]).means(9), "over 0 words"),
        (lambda: ramp_by_word([(0, LOW)]).means(9, [0] * 1001), "over 1001 words"),
        (lambda: ramp_by_word([(3, LOW)]).means(9, [0, 4]), "a style at word 3 of 2 words"),
        (lambda: ramp_by_word([(0, LOW)]).means(9, [4, 2]), "do not start in order within 9 frames"),
        (lambda: ramp_by_word([(0, LOW)]).means(9, [0, 10]), "do not start in order within 9 frames"),
        (lambda: ramp_by_word([(0, LOW)]).means(9, [-1, 2]), "do not start in order within 9 frames"),
        (lambda: over(), "no word is marked"),
        (lambda: over(("high", 1, 1)), "words 1 to 1 are marked 'high'"),
        (lambda: over(("high", 1, 3), ("low", 2, 4)), "words 2 to 4 are marked 'low' after word 3"),
        (lambda: over(("odd", 1, 3)), "there is no style 'odd' \\(high, low\\)"),
    ],
)
def test_ramps_that_mean_nothing_are_refused(make, says):
    with pytest.raises(RequestError, match=says):
        make()


def test_a_knot_may_be_shifted_by_frames():
    ramp = Ramp((Knot(1, LOW, -1), Knot(1, HIGH, 1)), "word")
    np.testing.assert_allclose(words(ramp, 8, [0, 4]), [0, 0, 0, 0, 4, 8, 8, 8], atol=1e-6)


# Marks in a text


def test_marks_are_taken_out_of_the_text_and_say_what_they_enclosed():
    plain, found = parse_styled_text("[happy]Kids are talking[/happy] by the [very-sad]door[/very-sad].")
    assert plain == "Kids are talking by the door."
    assert [(r.name, plain[r.start : r.stop]) for r in found] == [("happy", "Kids are talking"), ("very-sad", "door")]


@pytest.mark.parametrize("text", ["", "No marks.", "a [ b ] c", "[]", "x[two words]y", "2 < [3", "{HH AW1 S}"])
def test_a_text_without_marks_stays_as_it_is(text):
    assert parse_styled_text(text) == (text, ())


def test_punctuation_may_touch_a_mark():
    assert parse_styled_text("(so [happy]glad[/happy]!)") == ("(so glad!)", (StyledText("happy", 4, 8),))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[happy]a [sad]b[/sad][/happy]", r"the tag \[sad\] stands within \[happy\]: close that with \[/happy\] first"),
        ("[happy]a [happy]b", r"the tag \[happy\] stands within \[happy\]"),
        ("[happy]a", r"the tag \[happy\] is never closed"),
        ("a[/happy]", r"the tag \[/happy\] closes nothing"),
        ("[happy]a[/sad]", r"the tag \[/sad\] closes nothing"),
        ("[happy][/happy]a", r"the tag \[happy\] marks nothing"),
        ("[angry]a[/angry]", r"there is no style 'angry' \(happy, sad\): use one there is"),
        ("as he said [sic]", "there is no style 'sic'"),
        ("un[happy]believable[/happy]", r"the tag \[happy\] stands within a word"),
        ("[happy]un[/happy]believable", r"the tag \[/happy\] stands within a word"),
        ("[happy]a[/happy] " * 251, "the text has more than 250 marked parts"),
        ("a" * 4_000_001, "the text has 4000001 characters"),
    ],
)
def test_marks_that_mean_nothing_are_refused(text, says):
    with pytest.raises(RequestError, match=says) as caught:
        parse_styled_text(text, {"happy", "sad"})
    assert "\n" not in str(caught.value)


# From characters to words


def spoken(text: str) -> int:
    """A front end that reads 25 as two words and finds nothing to say in punctuation."""
    found = text.replace("25", "twenty five").replace(",", " ").split()
    if not found:
        raise NothingToSayError("nothing")
    return len(found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[a]Kids are[/a] talking", [("a", 0, 2)]),
        ("See 25 [a]kids, 25[/a] dogs [b]here[/b]", [("a", 3, 6), ("b", 7, 8)]),
        ("One [a],[/a] two [b]three[/b]", [("b", 2, 3)]),
        ("[a]All of it[/a]", [("a", 0, 3)]),
        ("None", []),
    ],
)
def test_marked_words_are_counted_as_they_are_spoken(text, expected):
    assert styled_words(*parse_styled_text(text), spoken) == tuple(StyledWords(*e) for e in expected)


def test_a_mark_within_what_is_read_as_one_is_refused():
    plain, found = parse_styled_text("a 2[x].5[/x] b")
    with pytest.raises(RequestError, match="within what is read as one expression"):
        styled_words(plain, found, lambda text: len(text.replace("2.5", "two point five").split()))
