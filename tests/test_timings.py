"""Times of words and symbols, and the three files that carry them, read back by parsers of their formats."""

import itertools
import json
import re
from dataclasses import dataclass

import numpy as np
import pytest

from fte.alignment import align, symbol_frames
from fte.constants import FRAME_SECONDS
from fte.decoder import NEVER, Utterance
from fte.errors import RequestError
from fte.timings import (
    Timing,
    Timings,
    render_json,
    render_srt,
    render_textgrid,
    render_vtt,
    symbol_timings,
    word_timings,
    write_timings,
)


@dataclass(frozen=True)
class Word:
    text: str
    start: int
    stop: int


SYMBOLS = ("@HH", "@AY1", ",", " ", "y", "o", "u", ".")
WORDS = (Word("hi", 0, 2), Word("you", 4, 7))
FRAMES = np.array([[0, 10], [10, 30], [30, 50], [50, 50], [50, 60], [60, 60], [60, 80], [80, 90]])


def spoken(words: str, seconds: float = 0.3, pauses: dict[str, float] | None = None) -> Timings:
    """Words of equal length in a row; a mark at a word's end is a symbol after it, and a pause where asked."""
    now, spoken_words, symbols = 0.0, [], []
    for token in words.split():
        text = token.rstrip(",.!?;")
        spoken_words.append(Timing(text, now, now + seconds, token[len(text) :]))
        now += seconds
        for mark in token[len(text) :]:
            symbols.append(Timing(mark, now, now))
        now += (pauses or {}).get(text, 0.0)
    return Timings(tuple(spoken_words), tuple(symbols), now)


# --- from frames to seconds ---


def test_words_last_from_their_first_symbol_to_their_last():
    assert word_timings(WORDS, FRAMES, 0.01) == (Timing("hi", 0.0, 0.3), Timing("you", 0.5, 0.8))


def test_punctuation_belongs_to_the_word_before_it_whenever_it_is_spoken():
    """Here all of it at once, as by an attention that jumps."""
    symbols = list("hi, you.")
    words = (Word("hi", 0, 2), Word("you", 4, 7))
    timings = word_timings(words, np.zeros((8, 2), np.int64), 0.01, symbols=symbols)
    assert [(t.text, t.after) for t in timings] == [("hi", ","), ("you", ".")]


def test_no_cue_ends_with_an_abbreviation():
    cues = read_srt(render_srt(spoken("I met Dr. Lee on Jan. fifth. We talked.")))
    assert [c[2] for c in cues] == ["I met Dr. Lee on Jan. fifth.", "We talked."]


def test_symbols_have_the_times_of_their_frames():
    timings = symbol_timings(SYMBOLS, FRAMES, 0.01)
    assert [t.text for t in timings] == list(SYMBOLS)
    assert [(t.start, t.end) for t in timings] == [(a * 0.01, b * 0.01) for a, b in FRAMES.tolist()]


def test_an_offset_moves_all_times():
    (word,) = word_timings(WORDS[:1], FRAMES, 0.01, offset=2.0)
    assert (word.start, word.end) == (2.0, 2.3)
    assert symbol_timings(SYMBOLS, FRAMES, 0.01, offset=2.0)[0].end == pytest.approx(2.1)


def test_a_word_that_was_stepped_over_takes_no_time():
    frames = symbol_frames(np.repeat([0, 1, 6, 7], 5), 8)
    (word,) = word_timings([Word("gone", 2, 6)], frames, 0.01)
    assert word.start == word.end == pytest.approx(0.1)


@pytest.mark.parametrize("words", [[Word("x", 6, 9)], [Word("x", 3, 3)], [WORDS[1], WORDS[0]], [Word("x", -1, 2)]])
def test_words_that_are_not_ranges_of_the_symbols_in_order_are_refused(words):
    with pytest.raises(RequestError, match=r"the word '\w+' is said to be symbols .* give ranges in order within"):
        word_timings(words, FRAMES, 0.01)


def test_as_many_symbols_as_frame_ranges_are_asked_for():
    with pytest.raises(RequestError, match="frames for 8 symbols and 7 symbols: give as many"):
        symbol_timings(SYMBOLS[1:], FRAMES, 0.01)


@pytest.mark.parametrize(
    "words",
    [
        [Timing("a", 0.5, 0.4)],
        [Timing("a", -0.1, 0.4)],
        [Timing("a", 0.0, 1.1)],
        [Timing("b", 0.5, 0.9), Timing("a", 0.0, 0.4)],
        [Timing("a", float("nan"), 0.4)],
    ],
)
def test_times_out_of_order_or_beyond_the_duration_are_refused(words):
    with pytest.raises(RequestError, match="the word 'a' is said to last from"):
        Timings(tuple(words), (), 1.0)
    with pytest.raises(RequestError, match="the symbol 'a' is said to last from"):
        Timings((), tuple(words), 1.0)


def test_a_rounding_error_beyond_the_duration_is_borne():
    assert Timings((Timing("a", 0.0, 0.1 + 0.2),), (), 0.3).duration == 0.3


def test_the_times_of_a_voice_are_those_imposed_on_it(tiny):
    path = np.repeat(np.arange(8), [12, 7, 30, 0, 9, 4, 0, 25])
    one_hot = (path[:, None] == np.arange(8)).astype(np.float32)
    z = np.zeros((len(path), tiny.decoder.sizes.n_mels), np.float32)
    utterance = Utterance(np.arange(8), z, gate_threshold=NEVER, attention=(one_hot,) * tiny.decoder.sizes.n_flows)
    (decoded,) = tiny.decoder.decode([utterance])
    hi, you = word_timings(WORDS, symbol_frames(align(decoded.attention), 8), FRAME_SECONDS)
    assert (hi.start, hi.end) == (0.0, 19 * FRAME_SECONDS)
    assert (you.start, you.end) == (49 * FRAME_SECONDS, 62 * FRAME_SECONDS)


# --- JSON ---


def test_json_has_every_word_and_symbol_in_seconds():
    timings = Timings(word_timings(WORDS, FRAMES, FRAME_SECONDS), symbol_timings(SYMBOLS, FRAMES, FRAME_SECONDS), 1.5)
    read = json.loads(render_json(timings))
    assert list(read) == ["duration", "words", "symbols"] and read["duration"] == 1.5
    assert read["words"][1] == {"text": "you", "start": 0.580499, "end": 0.928798}
    assert [s["text"] for s in read["symbols"]] == list(SYMBOLS)
    assert read["symbols"][3]["start"] == read["symbols"][3]["end"]


# --- SubRip ---


def read_srt(text: str) -> list[tuple[float, float, str]]:
    """Cues as (start, end, text), by the format's grammar: number, times, lines, blank line."""
    cues = []
    for i, block in enumerate(text.rstrip("\n").split("\n\n"), 1):
        number, times, *lines = block.split("\n")
        assert number == str(i)
        match = re.fullmatch(r"(\d\d):(\d\d):(\d\d),(\d{3}) --> (\d\d):(\d\d):(\d\d),(\d{3})", times)
        assert match, times
        h, m, s, ms, h2, m2, s2, ms2 = map(int, match.groups())
        assert max(m, s, m2, s2) < 60
        cues.append((3600 * h + 60 * m + s + ms / 1000, 3600 * h2 + 60 * m2 + s2 + ms2 / 1000, "\n".join(lines)))
    return cues


def test_a_cue_shows_its_words_with_their_marks_from_the_first_to_the_last():
    assert read_srt(render_srt(spoken("well, hello there."))) == [(0.0, 0.9, "well, hello there.")]


def test_a_sentence_ends_a_cue():
    assert [c[2] for c in read_srt(render_srt(spoken("who is it? it is me")))] == ["who is it?", "it is me"]


def test_a_pause_ends_a_cue_which_is_not_shown_in_it():
    cues = read_srt(render_srt(spoken("one, two three", pauses={"one": 0.6, "two": 0.4})))
    assert cues == [(0.0, 0.3, "one,"), (0.9, 1.9, "two three")]


def test_cues_are_short_enough_to_read():
    cues = read_srt(render_srt(spoken("several words of some length, " * 20)))
    assert all(len(text) <= 42 for _, _, text in cues)
    assert min(len(text) for _, _, text in cues[:-1]) > 21
    assert " ".join(text for _, _, text in cues) == " ".join(["several words of some length,"] * 20)


def test_cues_of_slow_speech_last_five_seconds_at_most():
    cues = read_srt(render_srt(spoken("a b c d e f g h i j", seconds=1.2)))
    assert [text for _, _, text in cues] == ["a b c d", "e f g h", "i j"]


def test_a_long_word_has_a_cue_of_its_own():
    cues = read_srt(render_srt(spoken("a " + "x" * 50 + " b")))
    assert [text for _, _, text in cues] == ["a", "x" * 50, "b"]


def test_a_skipped_word_stays_with_those_before_it():
    words = (Timing("one", 0.0, 0.5), Timing("two", 0.5, 0.5), Timing("three", 1.5, 2.0), Timing("four", 2.0, 2.0))
    cues = read_srt(render_srt(Timings(words, (), 2.0)))
    assert cues == [(0.0, 0.5, "one two"), (1.5, 2.0, "three four")]


def test_cues_neither_overlap_nor_are_empty():
    rng = np.random.default_rng(0)
    frames = np.cumsum(rng.integers(0, 30, 400))
    words = [
        Timing("word", *pair) for pair in zip(frames[:-1:2] * FRAME_SECONDS, frames[1::2] * FRAME_SECONDS, strict=True)
    ]
    cues = read_srt(render_srt(Timings(tuple(words), (), words[-1].end)))
    assert all(start < end for start, end, _ in cues)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(cues))


def test_a_cue_after_an_hour_counts_hours():
    late = Timings((Timing("late", 3725.0, 3726.5),), (), 3726.5)
    assert "01:02:05,000 --> 01:02:06,500" in render_srt(late)


def test_a_word_cannot_break_the_subtitles():
    hostile = Timings((Timing("a\n\n2\n00:00:00,000 --> 00:00:09,000\nb", 0.0, 1.0),), (), 1.0)
    assert len(read_srt(render_srt(hostile))) == 1


@pytest.mark.parametrize("words", [(), (Timing("skipped", 0.5, 0.5),)])
def test_nothing_spoken_makes_no_subtitles(words):
    assert render_srt(Timings(words, (), 1.0)) == ""
    assert render_vtt(Timings(words, (), 1.0)) == "WEBVTT\n"


# WebVTT (W3C): a header, an empty line, then blocks of a timing line and the text, with empty lines between them.


def test_webvtt_has_the_cues_of_subrip_with_a_header_and_dots():
    timings = spoken("who is it? it is me", pauses={"is": 0.25})
    header, *blocks = render_vtt(timings).split("\n\n")
    assert header == "WEBVTT"
    times, texts = zip(*(block.rstrip("\n").split("\n") for block in blocks), strict=True)
    assert texts == ("who is it?", "it is me")
    assert all(re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} --> \d\d:\d\d:\d\d\.\d{3}", time) for time in times)
    cues = [f"{number}\n{block.replace('.', ',')}" for number, block in enumerate(times, 1)]
    assert all(cue in render_srt(timings) for cue in cues)


def test_webvtt_writes_its_marks_as_entities():
    late = Timings((Timing("R&B", 3725.0, 3726.0), Timing("<b>-->", 3726.0, 3726.5)), (), 4000.0)
    assert render_vtt(late) == "WEBVTT\n\n01:02:05.000 --> 01:02:06.500\nR&amp;B &lt;b&gt;--&gt;\n"


# --- TextGrid ---


def read_textgrid(text: str) -> dict[str, list[tuple[float, float, str]]]:
    """Tiers of (start, end, text). As Praat does, only numbers, quoted texts and <flags> count; the rest is comment."""
    tokens = iter(re.findall(r'"(?:[^"]|"")*"|<exists>|(?<![\w\[.])-?\d+(?:\.\d+)?(?![\w\].])', text))

    def string() -> str:
        token = next(tokens)
        assert token.startswith('"'), token
        return token[1:-1].replace('""', '"')

    def number() -> float:
        return float(next(tokens))

    assert (string(), string()) == ("ooTextFile", "TextGrid")
    whole = number(), number()
    assert next(tokens) == "<exists>"
    tiers = {}
    for _ in range(int(number())):
        assert string() == "IntervalTier"
        name = string()
        assert (number(), number()) == whole
        tiers[name] = [(number(), number(), string()) for _ in range(int(number()))]
    assert next(tokens, None) is None
    for intervals in tiers.values():
        assert intervals[0][0] == whole[0] and intervals[-1][1] == whole[1]
        assert all(a[1] == b[0] for a, b in itertools.pairwise(intervals))
        assert all(start < end for start, end, _ in intervals)
    return tiers


def test_a_textgrid_has_words_and_phones_with_empty_intervals_between():
    timings = Timings(word_timings(WORDS, FRAMES, 0.01), symbol_timings(SYMBOLS, FRAMES, 0.01), 1.5)
    tiers = read_textgrid(render_textgrid(timings))
    assert list(tiers) == ["words", "phones"]
    assert tiers["words"] == [(0.0, 0.3, "hi"), (0.3, 0.5, ""), (0.5, 0.8, "you"), (0.8, 1.5, "")]
    phones = [(0, 0.1, "HH"), (0.1, 0.3, "AY1"), (0.3, 0.5, ","), (0.5, 0.6, "y"), (0.6, 0.8, "u"), (0.8, 0.9, ".")]
    assert tiers["phones"] == [*phones, (0.9, 1.5, "")]


def test_a_space_that_takes_time_is_an_interval_without_text():
    tiers = read_textgrid(render_textgrid(Timings((), (Timing(" ", 0.0, 1.0),), 1.0)))
    assert tiers == {"words": [(0.0, 1.0, "")], "phones": [(0.0, 1.0, "")]}


def test_quotes_are_doubled_and_lines_joined():
    words = (Timing('say "x"\nxmin = 5', 0.0, 1.0), Timing("naïve", 1.0, 2.0))
    text = render_textgrid(Timings(words, (), 2.0))
    assert 'text = "say ""x"" xmin = 5"' in text
    assert [w for _, _, w in read_textgrid(text)["words"]] == ['say "x" xmin = 5', "naïve"]


def test_intervals_touch_in_spite_of_rounding():
    frames = symbol_frames(np.sort(np.random.default_rng(1).integers(0, 60, 500)), 60)
    timings = symbol_timings(["x"] * 60, frames, FRAME_SECONDS, offset=1 / 3)
    read_textgrid(render_textgrid(Timings((), timings, 500 * FRAME_SECONDS + 1 / 3 - 1e-9)))


# --- files ---


@pytest.mark.parametrize(
    ("name", "render"),
    [
        ("t.json", render_json),
        ("t.SRT", render_srt),
        ("t.vtt", render_vtt),
        ("t.TextGrid", render_textgrid),
        ("t.textgrid", render_textgrid),
    ],
)
def test_the_suffix_chooses_the_format(name, render, tmp_path):
    timings = spoken("naïve café, yes.")
    write_timings(tmp_path / name, timings)
    assert (tmp_path / name).read_bytes() == render(timings).encode("utf-8")


@pytest.mark.parametrize("name", ["t.txt", "t", "json"])
def test_another_suffix_is_refused_with_those_there_are(name, tmp_path):
    with pytest.raises(RequestError, match=r"must end in \.json, \.srt, \.vtt or \.TextGrid"):
        write_timings(tmp_path / name, spoken("yes"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_an_error_of_the_request(tmp_path):
    with pytest.raises(RequestError, match="cannot write"):
        write_timings(tmp_path / "none" / "t.json", spoken("yes"))
