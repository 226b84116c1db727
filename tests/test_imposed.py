"""A voice whose attention is imposed: times, verdicts and retries are exactly those that the attention tells."""

import dataclasses

import numpy as np
import pytest

from fte import Request
from fte.decoder import NEVER
from fte.renderer import Renderer

TEXT = "Kids are talking, by the door."
FRAMES = 6


def steady(symbols: int) -> list[int]:
    """Each symbol for the same number of frames."""
    return [s for s in range(symbols) for _ in range(FRAMES)]


def skipping(symbols: int) -> list[int]:
    half = symbols // 2
    return [s for s in range(symbols) if not half - 6 <= s < half + 6 for _ in range(FRAMES)]


def repeating(symbols: int) -> list[int]:
    half = symbols // 2
    return steady(symbols)[: half * FRAMES] + steady(symbols)[(half - 8) * FRAMES :]


def stalling(symbols: int) -> list[int]:
    path = steady(symbols)
    return path[:40] + [path[40]] * 150 + path[40:]


@pytest.fixture
def impose(tiny, monkeypatch):
    """A function that makes the tiny voice follow a path in every utterance, and gives the seeds it is asked for.

    Playing order begins with a wait on the first symbol, most of which is cut off: the flow that reads backward has
    arrived there.
    """
    tried: list[int] = []

    def set_paths(path_of) -> list[int]:
        plain = Renderer.utterance

        def utterance(self, request, take, piece):
            made = plain(self, request, take, piece)
            tried.append(take.seed)
            path = [0] * 40 + path_of(take, len(made.text_ids))
            weights = np.eye(len(made.text_ids), dtype=np.float32)[np.array(path)]
            z = np.zeros((len(path), 80), np.float32)
            options = {"gate_threshold": NEVER, "stop_with_attention": True}
            return dataclasses.replace(made, z=z, attention=(weights, weights), **options)

        monkeypatch.setattr(Renderer, "utterance", utterance)
        return tried

    return set_paths


def test_words_begin_and_end_where_the_imposed_attention_has_them(tiny, impose):
    impose(lambda _take, symbols: steady(symbols))
    speech = tiny.synthesize(TEXT)
    frame = 256 / 22050
    (span,) = speech.spans
    path = np.array(steady(len(span.transcript.symbols)))
    lead_in = len(speech.mel) - len(path)  # what is left of the wait
    assert 0 <= lead_in < 20
    for timing, word in zip(speech.timings.words, span.transcript.words, strict=True):
        assert timing.text == word.text
        start = lead_in + word.start * FRAMES if word.start else 0
        assert timing.start == pytest.approx(start * frame, abs=1e-9)
        assert timing.end == pytest.approx((lead_in + word.stop * FRAMES) * frame, abs=1e-9)
    for i, timing in enumerate(speech.timings.symbols[1:], 1):
        assert timing.start == pytest.approx((lead_in + i * FRAMES) * frame, abs=1e-9)


def test_times_of_a_second_span_begin_after_the_pause(tiny, impose):
    impose(lambda _take, symbols: steady(symbols))
    speech = tiny.synthesize("Kids are talking. By the door.")
    first, second = speech.spans
    assert second.start_frame == len(first.decoded.mel) + first.pause_frames
    by = next(t for t in speech.timings.words[::-1] if t.text == second.transcript.words[0].text)
    assert by.start == pytest.approx(second.start_frame * 256 / 22050, abs=1e-9)


def test_a_stream_tells_each_word_in_the_chunk_in_which_it_begins(tiny, impose):
    impose(lambda _take, symbols: steady(symbols))
    chunks = list(tiny.stream(Request(TEXT, first_chunk=10, chunk=20)))
    final = next(c.span for c in chunks if c.span).timings.words
    told = [(word, chunk) for chunk in chunks for word in chunk.words]
    assert [word.text for word, _ in told] == [word.text for word in final]
    for (word, chunk), known in zip(told, final, strict=True):
        assert word.start == pytest.approx(known.start, abs=1e-9)
        start = chunk.start_sample / chunk.sample_rate
        assert start <= word.start + 1e-9 < start + len(chunk.samples) / chunk.sample_rate


@pytest.mark.parametrize(
    ("path", "verdict"), [(steady, "ok"), (skipping, "skipped"), (repeating, "repeated"), (stalling, "stalled")]
)
def test_verdicts_are_those_of_the_imposed_attention(tiny, impose, path, verdict):
    impose(lambda _take, symbols: path(symbols))
    (span,) = tiny.synthesize(TEXT, retries=0, pause=0).spans
    assert span.health.verdict == verdict
    assert [attempt.verdict for attempt in span.attempts] == [verdict]


def test_an_attempt_that_lost_the_text_is_tried_again_with_another_seed(tiny, impose):
    tried = impose(lambda take, symbols: skipping(symbols) if take.seed == 7 else steady(symbols))
    (span,) = tiny.synthesize(TEXT, seed=7).spans
    assert [a.verdict for a in span.attempts] == ["skipped", "ok"]
    assert span.health.ok
    assert tried == [7, span.attempts[1].seed]


def test_the_last_attempt_cuts_the_span_in_two(tiny, impose):
    whole = len(tiny.transcript(TEXT).symbols)
    impose(lambda _take, symbols: steady(symbols) if symbols < whole else skipping(symbols))
    speech = tiny.synthesize(TEXT, seed=7)
    assert [span.text for span in speech.spans] == ["Kids are talking,", "by the door."]
    assert [a.parts for a in speech.spans[0].attempts] == [1, 1, 1, 2]
    assert speech.ok
    assert [span.completes for span in speech.spans] == [False, True]


def test_when_no_attempt_is_healthy_the_least_bad_is_spoken(tiny, impose):
    stalls: dict[int, int] = {}

    def path_of(take, symbols):
        stall = 100 * stalls.setdefault(take.seed, [3, 1, 2][len(stalls)])
        path = steady(symbols)
        return path[:40] + [path[40]] * stall + path[40:]

    impose(path_of)
    (span,) = tiny.synthesize(TEXT, seed=7, retries=2).spans
    assert [a.verdict for a in span.attempts] == ["stalled"] * 3
    assert len(span.decoded.mel) < 100 + len(steady(len(span.transcript.symbols))) + 20


def test_a_batch_retries_as_a_stream_does(tiny, impose):
    impose(lambda take, symbols: skipping(symbols) if take.seed == 7 else steady(symbols))
    good, bad = Request(TEXT, seed=3), Request(TEXT, seed=7)
    together = tiny.synthesize_batch([good, bad, good])
    assert [[a.verdict for a in speech.spans[0].attempts] for speech in together] == [["ok"], ["skipped", "ok"], ["ok"]]
    streamed = np.concatenate([chunk.samples for chunk in tiny.stream(bad)])
    np.testing.assert_allclose(together[1].samples, streamed, atol=1e-4)
