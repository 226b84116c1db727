"""The verdict on an utterance: every fault where it was put, and none in healthy attention."""

from dataclasses import dataclass

import numpy as np
import pytest

from fte.constants import FRAME_SECONDS
from fte.decoder import NEVER, Utterance
from fte.errors import RequestError
from fte.health import Health, judge


@dataclass(frozen=True)
class Word:
    text: str
    start: int
    stop: int


def words_of(text: str) -> list[Word]:
    """The words of a text of which each character is a symbol."""
    starts = [i for i, c in enumerate(text) if c.isalpha() and (i == 0 or not text[i - 1].isalpha())]
    stops = [i + 1 for i, c in enumerate(text) if c.isalpha() and not text[i + 1 : i + 2].isalpha()]
    return [Word(text[a:b], a, b) for a, b in zip(starts, stops, strict=True)]


TEXT = "a quick brown fox jumps, over the lazy dog and runs away."
WORDS = words_of(TEXT)
FRAMES_A_SYMBOL = 6
STEADY = np.repeat(np.arange(len(TEXT)), FRAMES_A_SYMBOL)
"""A path (T) that gives each symbol as many frames."""


def word(text: str) -> Word:
    return next(w for w in WORDS if w.text == text)


def read(*parts: tuple[int, int]) -> np.ndarray:
    """A path that reads ranges of symbols one after another."""
    return np.concatenate([np.repeat(np.arange(start, stop), FRAMES_A_SYMBOL) for start, stop in parts])


def soft(path: np.ndarray, n_symbols: int = len(TEXT), width: float = 0.6) -> np.ndarray:
    """Attention (T, N): a bell around each place of a path, which need not be a whole number."""
    weights = np.exp(-0.5 * ((np.arange(n_symbols) - np.asarray(path)[:, None]) / width) ** 2)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(
    ("symbols", "frames", "ok"),
    [
        (1, 1, False),
        (2, 7, False),
        (2, 8, True),
        (3, 8, True),
        (40, 79, False),
        (40, 80, True),
        (40, 150, True),  # 3.8 frames a symbol: the fastest of 2,700 recordings
    ],
)
def test_an_utterance_of_a_few_frames_is_too_short_whatever_its_attention(symbols, frames, ok):
    """At least 8 frames, and 2 for each symbol: half of what is found in recordings."""
    path = np.arange(frames) * symbols // frames
    found = judge([soft(path, symbols)], ended="gate")
    assert ("too short" not in [fault.kind for fault in found.faults]) == ok
    assert ok or (found.verdict == "too short" and found.cost > 0)


def test_what_is_too_short_says_so():
    found = judge([soft(np.zeros(1), 2)], ended="gate")
    assert found.faults[-1].message == "the utterance lasts 0.01 s, too short for 2 symbols"


def test_the_longer_of_two_attempts_that_are_too_short_costs_less():
    shorter, longer = (judge([soft(np.zeros(t), 2)], ended="gate").cost for t in (1, 5))
    assert shorter > longer > 0


def verdict(path: np.ndarray, ended: str = "gate", words=WORDS) -> Health:
    return judge([soft(path)], ended=ended, words=words)


def healthy(rng: np.random.Generator) -> tuple[np.ndarray, list[Word]]:
    """Attention as a good voice has it, with its noise, and the words it reads.

    Letters take 4 to 12 frames, some are silent and some spaces passed over; pauses of up to 0.8 s at marks, waited
    for on the mark or on a symbol beside it; silence at both ends; the centre sways by half a symbol;
    4 % of the weight is anywhere, and 2 % of the frames look somewhere else altogether.
    """
    text = ""
    for _ in range(rng.integers(3, 15)):
        text += "abcdefghij"[: rng.integers(1, 10)] + rng.choice([" ", " ", " ", " ", ", ", "; "])
    text = text.rstrip(" ,;") + rng.choice([".", "?", ""])
    words = words_of(text)
    frames = rng.integers(4, 13, len(text))
    for i, c in enumerate(text):
        if c == " ":
            frames[i] = rng.integers(0, 5)
        elif c in ",;":
            frames[i] = rng.integers(0, 4)
            frames[i + rng.integers(-1, 2)] += rng.integers(0, 60)
        elif 0 < i < len(text) - 1 and text[i - 1 : i + 2].isalpha() and rng.random() < 0.12:
            frames[i] = 0
    frames[0] += rng.integers(0, 40)
    frames[-1] += rng.integers(0, 50)
    path = np.repeat(np.arange(len(text)), frames)
    sway = np.convolve(rng.standard_normal(len(path) + 8), np.ones(8) / 8**0.5, mode="full")[8 : 8 + len(path)]
    weights = soft(path + 0.3 * sway, len(text), rng.uniform(0.3, 0.8))
    weights = 0.96 * weights + 0.04 * rng.dirichlet(np.full(len(text), 0.3), len(path))
    glances = np.flatnonzero(rng.random(len(path)) < 0.02)
    weights[glances] = soft(rng.integers(0, len(text), len(glances)), len(text))
    return weights, words


def test_healthy_attention_has_no_fault():
    faulty = {}
    for seed in range(200):
        weights, words = healthy(np.random.default_rng(seed))
        found = judge([weights], ended="gate", words=words)
        if not found.ok:
            faulty[seed] = [fault.message for fault in found.faults]
    assert faulty == {}


def test_a_sharp_steady_reading_is_ok_and_costs_nothing():
    found = judge([soft(STEADY, width=0.1)] * 2, ended="gate", words=WORDS)
    assert (found.verdict, found.ok, found.faults, found.cost) == ("ok", True, (), 0)


# --- skipped ---


def test_words_that_are_jumped_over_are_named_with_their_place():
    lazy, dog = word("lazy"), word("dog")
    (fault,) = verdict(read((0, lazy.start), (dog.stop, len(TEXT)))).faults
    assert fault.kind == "skipped"
    assert fault.start_symbol in (lazy.start, lazy.start + 1) and fault.stop_symbol in (dog.stop - 1, dog.stop)
    assert fault.start_frame == pytest.approx(FRAMES_A_SYMBOL * lazy.start, abs=2)
    assert "skips 'lazy dog' at" in fault.message and f"{fault.start_frame * FRAME_SECONDS:.2f} s" in fault.message


@pytest.mark.parametrize("name", ["the", "over", "away"])
def test_a_single_word_that_is_jumped_over_is_a_fault(name):
    gone = word(name)
    assert verdict(read((0, gone.start - 1), (gone.stop, len(TEXT)))).verdict == "skipped"


def test_four_letters_of_a_longer_word_that_are_jumped_over_are_a_fault():
    text = "he said unbelievably little"
    weights = soft(np.repeat(np.r_[0:10, 14 : len(text)], 6), len(text), width=0.2)
    assert judge([weights], ended="gate", words=words_of(text)).verdict == "skipped"


@pytest.mark.parametrize("letters", [1, 2, 3])
def test_silent_letters_within_a_word_are_none(letters):
    start = word("brown").start + 1
    assert verdict(read((0, start), (start + letters, len(TEXT)))).ok


def test_spaces_and_marks_that_are_passed_over_are_no_fault():
    path = np.concatenate([read((w.start, w.stop)) for w in WORDS])
    assert judge([soft(path, width=0.3)], ended="gate", words=WORDS).ok


def test_a_glance_at_a_word_does_not_read_it():
    lazy = word("lazy")
    path = np.r_[read((0, lazy.start - 1)), lazy.start + 2, read((lazy.stop, len(TEXT)))]
    assert verdict(path).verdict == "skipped"


def test_the_end_of_the_text_is_missed_where_it_was_never_reached():
    away = word("away")
    found = verdict(read((0, away.start - 1)))
    assert [f.kind for f in found.faults] == ["skipped"]
    assert found.faults[0].start_frame == FRAMES_A_SYMBOL * (away.start - 1)


def test_without_words_the_symbols_are_named():
    found = judge([soft(read((0, 20), (30, len(TEXT))), width=0.2)], ended="gate")
    assert found.faults[0].message == "the attention skips symbols 20 to 29 at 1.39 s"


# --- repeated ---


def test_words_that_are_read_again_are_named_with_their_times():
    over, lazy = word("over"), word("lazy")
    found = verdict(read((0, lazy.stop), (over.start, len(TEXT))))
    (fault,) = found.faults
    assert fault.kind == found.verdict == "repeated"
    assert (fault.start_symbol, fault.stop_symbol) == (over.start, lazy.stop)
    assert fault.start_frame == pytest.approx(FRAMES_A_SYMBOL * lazy.stop, abs=2)
    again = FRAMES_A_SYMBOL * (lazy.stop - over.start)
    assert fault.stop_frame - fault.start_frame == pytest.approx(again, abs=4 * FRAMES_A_SYMBOL)
    assert "goes back to 'over the lazy' from" in fault.message


@pytest.mark.parametrize("back", [1, 2])
def test_a_step_back_by_a_symbol_or_two_is_no_fault(back):
    assert verdict(read((0, 30), (30 - back, len(TEXT)))).ok


def test_a_glance_back_of_two_frames_is_no_fault():
    path = STEADY.copy()
    path[200:202] = 3
    assert verdict(path).ok


# --- stalled ---


def stay(symbol: int, seconds: float) -> np.ndarray:
    frames = np.full(len(TEXT), FRAMES_A_SYMBOL)
    frames[symbol] = round(seconds / FRAME_SECONDS)
    return np.repeat(np.arange(len(TEXT)), frames)


def test_staying_on_a_letter_is_a_fault_that_says_for_how_long():
    brown = word("brown")
    (fault,) = verdict(stay(brown.start + 2, 1.0)).faults
    assert fault.kind == "stalled"
    assert fault.start_frame == pytest.approx(FRAMES_A_SYMBOL * (brown.start + 2), abs=2)
    assert (fault.stop_frame - fault.start_frame) * FRAME_SECONDS == pytest.approx(1.0, abs=0.05)
    assert "stays at 'brown' for" in fault.message


def test_swaying_between_two_letters_is_staying():
    brown = word("brown").start
    path = np.concatenate([read((0, brown)), np.tile(np.repeat([brown, brown + 1], 6), 8), read((brown, len(TEXT)))])
    assert verdict(path).verdict == "stalled"


def test_a_long_sound_is_no_fault():
    assert verdict(stay(word("brown").start + 2, 0.5)).ok


@pytest.mark.parametrize("place", [-1, 0, 1], ids=["before the comma", "on the comma", "on the space after it"])
def test_a_pause_at_a_mark_is_spared_up_to_its_own_threshold(place):
    comma = TEXT.index(",") + place
    assert verdict(stay(comma, 1.2)).ok
    assert verdict(stay(comma, 2.0)).verdict == "stalled"


# --- never stopped, ran past ---


def test_reaching_the_ceiling_is_a_fault():
    found = verdict(STEADY, ended="ceiling")
    assert [f.kind for f in found.faults] == [found.verdict] == ["never stopped"]
    assert f"cut at {len(STEADY) * FRAME_SECONDS:.2f} s" in found.faults[0].message


@pytest.mark.parametrize("ended", ["gate", "attention", "given"])
def test_ending_in_another_way_is_none(ended):
    assert verdict(STEADY, ended=ended).ok


@pytest.mark.parametrize("symbol", [len(TEXT) - 1, len(TEXT) - 2, 0], ids=["mark", "last sound", "start"])
def test_frames_after_the_end_of_the_text_ran_past_it(symbol):
    (fault,) = verdict(np.r_[STEADY, np.full(120, symbol)]).faults
    assert fault.kind == "ran past"
    assert fault.start_frame == pytest.approx(len(STEADY), abs=2.5 * FRAMES_A_SYMBOL)
    assert fault.stop_frame == len(STEADY) + 120


@pytest.mark.parametrize("symbol", [0, len(TEXT) - 1], ids=["start", "end"])
def test_a_backward_flow_runs_past_the_beginning(symbol):
    (fault,) = verdict(np.r_[np.full(120, symbol), STEADY]).faults
    assert (fault.kind, fault.start_frame) == ("ran past", 0)
    assert fault.stop_frame == pytest.approx(120, abs=1.5 * FRAMES_A_SYMBOL)
    assert "the text begins only at 1.4" in fault.message


@pytest.mark.parametrize("glance", [slice(0, 1), slice(40, 42)], ids=["first frame", "two frames"])
def test_glances_at_the_text_do_not_begin_or_prolong_it(glance):
    early, late = np.zeros(120, int), np.full(120, len(TEXT) - 1)
    early[glance] = late[::-1][glance] = 20
    assert [f.kind for f in verdict(np.r_[early, STEADY, late]).faults] == ["ran past", "ran past"]


def test_silence_at_both_ends_is_no_fault():
    assert verdict(np.r_[np.zeros(50, int), STEADY, np.full(50, len(TEXT) - 1)]).ok


# --- unaligned ---


def flat(rng):
    return np.full((300, len(TEXT)), 1 / len(TEXT)) * rng.uniform(0.9, 1.1, (300, len(TEXT)))


def scattered(rng):
    return soft(rng.integers(0, len(TEXT), 300), width=0.2)


@pytest.mark.parametrize("lost", [flat, scattered])
@pytest.mark.parametrize("seed", range(5))
def test_attention_that_follows_no_text_says_nothing_about_words(lost, seed):
    found = judge([lost(np.random.default_rng(seed))], ended="ceiling", words=WORDS)
    assert found.verdict == "unaligned"
    assert [f.kind for f in found.faults] == ["unaligned", "never stopped"]


@pytest.mark.parametrize("n_symbols", [3, 4, 8])
def test_flat_attention_shows_in_short_texts_as_well(n_symbols):
    assert judge([np.full((60, n_symbols), 1 / n_symbols)], ended="gate").verdict == "unaligned"


def test_a_flow_that_is_lost_leaves_the_verdict_to_the_others():
    skipping = soft(read((0, word("over").start), (word("dog").stop, len(TEXT))))
    lost = flat(np.random.default_rng(0))[:1].repeat(len(skipping), axis=0)
    found = judge([lost, skipping], ended="gate", words=WORDS)
    assert [(f.kind, f.flow) for f in found.faults] == [("unaligned", 0), ("skipped", 1)]
    assert found.verdict == "skipped"


def test_attention_to_nothing_is_unaligned():
    assert judge([np.zeros((50, 20))], ended="gate").verdict == "unaligned"


# --- all of them ---


def test_faults_name_the_flow_where_there_are_several():
    bad = soft(stay(word("brown").start, 1.0))
    good = soft(np.sort(np.resize(STEADY, len(bad))))
    found = judge([good, bad], ended="gate", words=WORDS)
    assert [f.flow for f in found.faults] == [1] and found.faults[0].message.endswith("(flow 1)")
    alone = judge([bad], ended="gate", words=WORDS, first_flow=1)
    assert alone.faults == found.faults


def test_the_verdict_is_the_gravest_fault():
    path = np.r_[read((0, word("over").start), (word("dog").stop, len(TEXT))), np.full(150, len(TEXT) - 1)]
    found = verdict(path)
    assert [f.kind for f in found.faults] == ["skipped", "ran past"]
    assert found.verdict == "skipped"


def test_the_cost_ranks_attempts():
    over, fox, dog = word("over"), word("fox"), word("dog")
    costs = [
        verdict(path).cost
        for path in (
            STEADY,
            read((0, over.stop), (over.start, len(TEXT))),  # a word twice
            read((0, dog.stop), (fox.start, len(TEXT))),  # six words twice
            read((0, fox.start), (dog.stop, len(TEXT))),  # six words lost
        )
    ]
    lost = judge([flat(np.random.default_rng(0)).repeat(2, axis=0)], ended="ceiling", words=WORDS).cost
    assert costs[0] == 0 and costs == sorted(set(costs)) and lost > costs[1]


@pytest.mark.parametrize("frames", [1, 2, 5])
@pytest.mark.parametrize("n_symbols", [1, 2, 5])
def test_the_smallest_utterances_are_judged(frames, n_symbols):
    path = np.linspace(0, n_symbols - 1, frames).round()
    assert judge([soft(path, n_symbols, 0.1)], ended="gate").verdict in ("too short", "unaligned")


def test_words_outside_the_text_are_refused():
    with pytest.raises(RequestError, match="the word 'x' is said to be symbols 50 to 60"):
        verdict(STEADY, words=[Word("x", 50, 60)])


def test_weights_that_are_not_finite_are_refused():
    with pytest.raises(RequestError, match="flow 0 has values that are negative or not finite"):
        judge([np.full((3, 3), np.nan)], ended="gate")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (STEADY, "ok"),
        (read((0, word("over").start), (word("dog").stop, len(TEXT))), "skipped"),
        (read((0, word("lazy").stop), (word("over").start, len(TEXT))), "repeated"),
        (stay(word("brown").start, 1.2), "stalled"),
        (np.r_[STEADY, np.full(120, len(TEXT) - 1)], "ran past"),
    ],
    ids=["ok", "skipped", "repeated", "stalled", "ran past"],
)
def test_attention_imposed_on_a_voice_is_judged_as_imposed(path, expected, tiny):
    z = np.zeros((len(path), tiny.decoder.sizes.n_mels), np.float32)
    imposed = (soft(path),) * tiny.decoder.sizes.n_flows
    ids = np.arange(len(TEXT))
    (decoded,) = tiny.decoder.decode([Utterance(ids, z, gate_threshold=NEVER, attention=imposed)])
    found = judge(decoded.attention, ended="given", words=WORDS)
    assert found.verdict == expected
    assert {fault.flow for fault in found.faults} == (set() if expected == "ok" else {0, 1})


def test_the_untrained_voice_is_unaligned(tiny):
    z = np.random.default_rng(0).standard_normal((100, tiny.decoder.sizes.n_mels)).astype(np.float32)
    (decoded,) = tiny.decoder.decode([Utterance(np.arange(30), z, gate_threshold=NEVER)])
    assert judge(decoded.attention, ended="ceiling").verdict == "unaligned"
