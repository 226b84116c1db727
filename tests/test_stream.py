"""Streams: their chunks, spans, words, cancelling, and that joined they are the whole."""

import dataclasses
import threading
import time

import numpy as np
import pytest

from fte import Request, Synthesizer
from fte.ahead import Ahead
from fte.errors import NothingToSayError, RequestError
from fte.health import Health
from fte.renderer import PAUSES, trailing_silence
from fte.takes import Choice, takes
from fte.text.spans import Span, halves, spans
from fte.vocoder import exact_overlap
from fte_export.pipeline import write_voice
from fte_export.random_voice import TINY_FLOWTRON, random_voice
from tolerances import assert_close

LONG = "Kids are talking by the door. Dogs are sitting by the door, and so am I.\n\nNever again!"


def snr_db(actual, expected):
    return 10 * np.log10(np.square(expected).sum() / np.square(actual - expected).sum())


def request(text: str = LONG, **options) -> Request:
    return Request(text, **({"seed": 4, "max_frames": 70} | options))


@pytest.fixture(scope="module")
def one_flow(tmp_path_factory) -> Synthesizer:
    """A voice of a single flow, without a vocoder."""
    path = tmp_path_factory.mktemp("voices") / "one_flow"
    sizes = dataclasses.replace(TINY_FLOWTRON, n_flows=1)
    write_voice(random_voice("one_flow", sizes, None, seed=5), path)
    return Synthesizer.load(path, device="cpu", precision="fp32")


# --- the stream is the whole ---


@pytest.mark.parametrize("options", [{}, {"denoiser": 0.1}, {"first_chunk": 5, "chunk": 9, "overlap": 3}])
def test_the_chunks_joined_are_the_samples_of_a_batch(tiny, options):
    (whole,) = tiny.synthesize_batch([request(**options)])
    chunks = list(tiny.stream(request(**options)))
    assert len(chunks) > 6
    assert_close(np.concatenate([chunk.samples for chunk in chunks]), whole.samples, "audio")


def test_the_streamed_mel_is_the_mel_that_the_decoder_gives(tiny):
    (span,) = (c.span for c in tiny.stream(request("Never again!")) if c.span)
    (batch,) = tiny.synthesize_batch([request("Never again!")])
    np.testing.assert_array_equal(span.decoded.mel, batch.mel)


def test_at_the_exact_overlap_chunks_are_what_the_vocoder_gives_at_once(tiny):
    overlap = exact_overlap(tiny.vocoder.sizes)
    asked = request("Never again!", overlap=overlap, first_chunk=7, chunk=20)
    streamed = np.concatenate([chunk.samples for chunk in tiny.stream(asked)])
    mel = tiny.synthesize_batch([asked])[0].mel
    whole = tiny.vocode(mel, sigma=asked.vocoder_sigma, seed=4, chunk=len(mel))
    np.testing.assert_allclose(streamed, whole, atol=1e-4)


def test_a_voice_without_a_vocoder_gives_a_chunk_an_utterance(one_flow):
    chunks = list(one_flow.stream(request("Never again!", max_frames=30)))
    assert [len(c.samples) for c in chunks] == [30 * 256, 0]
    np.testing.assert_array_equal(chunks[0].samples, one_flow.vocode(chunks[1].span.decoded.mel, seed=4))


# --- chunks ---


def test_chunks_follow_each_other_without_a_gap(tiny):
    position = 0
    for chunk in tiny.stream(request()):
        assert chunk.start_sample == position
        position += len(chunk.samples)
        assert chunk.start_frame * 256 <= chunk.start_sample
        assert position <= chunk.stop_frame * 256 < position + 256
    assert position == chunk.span.stop_frame * 256


def test_the_first_chunk_is_small_and_the_next_ones_double(tiny):
    chunks = list(tiny.stream(request("Never again!", max_frames=200, first_chunk=6, chunk=40)))
    assert [len(c.samples) // 256 for c in chunks] == [6, 12, 24, 40, 40, 40, 38, 0]


def test_each_span_ends_with_a_chunk_of_its_pause_and_the_last_has_none(tiny):
    ends = [chunk for chunk in tiny.stream(request()) if chunk.span is not None]
    assert [end.span.text for end in ends] == [
        "Kids are talking by the door.",
        "Dogs are sitting by the door, and so am I.",
        "Never again!",
    ]
    for end, kind in zip(ends, ["sentence", "paragraph"], strict=False):
        assert not end.samples.any()
        wanted = round(PAUSES[kind] * 22050 / 256) - trailing_silence(end.span.decoded.mel)
        assert len(end.samples) == 256 * max(0, wanted)
    assert len(ends[-1].samples) == 0


def test_pauses_are_scaled_and_can_be_left_out(tiny):
    lengths = {p: sum(len(c.samples) for c in tiny.stream(request(pause=p))) for p in (0, 1, 2)}
    assert lengths[0] == 3 * 70 * 256
    assert lengths[0] < lengths[1] < lengths[2]


def test_trailing_silence_counts_what_is_far_below_the_loudest():
    mel = np.full((10, 80), -11.0, np.float32)
    mel[2, 5] = 1.0
    mel[6, 70] = -3.0  # 35 dB below
    assert trailing_silence(mel) == 3
    assert trailing_silence(np.full((10, 80), -11.5, np.float32)) == 0


def test_spans_of_one_request_have_noise_of_their_own(tiny):
    first, second = (c.span for c in tiny.stream(request("Kids are talking. Kids are talking.", pause=0)) if c.span)
    assert np.abs(first.decoded.mel - second.decoded.mel).max() > 1e-2


def test_a_speech_goes_on_after_the_spans_that_were_spoken(tiny):
    whole = list(tiny.stream(request()))
    done = next(i for i, c in enumerate(whole) if c.span) + 1
    frame = whole[done - 1].span.stop_frame
    rest = list(tiny.stream(request(), skip_spans=1, start_frame=frame))
    for a, b in zip(whole[done:], rest, strict=True):
        assert a.start_sample == b.start_sample
        np.testing.assert_array_equal(a.samples, b.samples)


def test_a_span_without_a_word_is_left_out(tiny):
    texts = [c.span.text for c in tiny.stream(request("Kids are talking here.\n\n* * *\n\nNever again!")) if c.span]
    assert texts == ["Kids are talking here.", "Never again!"]


@pytest.mark.parametrize("text", ["", "  ", "...", "* * *\n\n--"])
def test_a_text_without_a_word_is_refused_at_once(tiny, text):
    with pytest.raises(NothingToSayError):
        tiny.stream(text)


def test_a_brace_at_the_end_of_a_long_text_is_refused_at_once(tiny):
    with pytest.raises(RequestError, match="brace"):
        tiny.stream(LONG + " {HH AW1")


# --- speeches of several spans ---


def test_a_speech_of_several_spans_is_one_mel_and_one_attention(tiny):
    speech = tiny.synthesize(LONG, seed=4, max_frames=70)
    frames = len(speech.samples) // 256
    assert speech.mel.shape == (frames, 80)
    assert [w.shape for w in speech.attention] == [(frames, len(speech.symbols))] * 2
    assert speech.gate.shape == (frames,)
    last = speech.spans[-1]
    np.testing.assert_array_equal(speech.mel[last.start_frame :], last.decoded.mel)
    symbols = len(last.transcript.symbols)
    np.testing.assert_array_equal(speech.attention[0][last.start_frame :, -symbols:], last.decoded.attention[0])
    pause = slice(speech.spans[1].stop_frame - speech.spans[1].pause_frames, speech.spans[1].stop_frame)
    assert not speech.attention[0][pause].any()
    assert (speech.mel[pause] == np.float32(np.log(1e-5))).all()


def test_word_times_of_later_spans_count_from_the_beginning_of_the_speech(tiny):
    speech = tiny.synthesize(LONG, seed=4, max_frames=70)
    last = speech.spans[-1]
    assert speech.timings.words[-1].text == last.transcript.words[-1].text
    for word in last.timings.words:
        assert last.start_frame * last.frame_seconds <= word.start <= word.end <= speech.seconds + 1e-9


# --- stopping ---


def test_closing_a_stream_stops_its_thread(tiny):
    before = threading.active_count()
    with tiny.stream(request(max_frames=2000)) as stream:
        next(stream)
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
    assert list(stream) == []


def test_a_stream_that_is_dropped_stops_its_thread(tiny):
    before = threading.active_count()
    stream = tiny.stream(request(max_frames=2000))
    next(stream)
    del stream
    assert threading.active_count() == before


def test_cancelling_from_another_thread_ends_the_stream_within_a_chunk(tiny):
    stream = tiny.stream(request(max_frames=5000))
    chunks = []
    for chunk in stream:
        chunks.append(chunk)
        if len(chunks) == 2:
            canceller = threading.Thread(target=stream.cancel)
            canceller.start()
            canceller.join()
    assert len(chunks) == 2


def test_several_streams_at_once_give_what_each_gives_alone(tiny):
    alone = {seed: np.concatenate([c.samples for c in tiny.stream(request(seed=seed))]) for seed in range(3)}
    together = {}

    def speak(seed: int) -> None:
        together[seed] = np.concatenate([c.samples for c in tiny.stream(request(seed=seed))])

    threads = [threading.Thread(target=speak, args=[seed]) for seed in alone]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, samples in alone.items():
        np.testing.assert_array_equal(together[seed], samples)


class TestAhead:
    def test_items_come_in_order_and_none_is_not_handed_out(self):
        assert list(Ahead((i if i % 3 else None for i in range(10)), 2)) == [1, 2, 4, 5, 7, 8]

    def test_what_the_generator_raises_reaches_the_consumer(self):
        def items():
            yield 1
            raise RequestError("no")

        ahead = Ahead(items(), 5)
        assert next(ahead) == 1
        with pytest.raises(RequestError, match="no"):
            next(ahead)

    def test_the_thread_stays_within_its_limit(self):
        made = []

        def items():
            for i in range(100):
                made.append(i)
                yield i

        ahead = Ahead(items(), 3)
        next(ahead)
        time.sleep(0.05)
        assert len(made) <= 5  # one taken, three ready, one waiting for room
        ahead.close()

    def test_closing_stops_a_generator_that_has_nothing_to_hand_out(self):
        def items():
            while True:
                time.sleep(0.001)
                yield None

        ahead = Ahead(items(), 3)
        ahead.close()
        assert list(ahead) == []


# --- retries ---

GOOD, BAD, WORSE = Health("ok", ()), "skipped", "stalled"


def run(choice: Choice, costs: list[float]) -> list:
    """Judge the attempts in turn by their costs, 0 being healthy; return the takes that were made."""
    made = []
    for cost in costs:
        take = choice.next()
        if take is None:
            break
        made.append(take)
        health = _Verdict("ok" if cost == 0 else "skipped", cost)
        choice.judged(take, [cost] * len(take.pieces), [health] * len(take.pieces))
    return made


@dataclasses.dataclass
class _Verdict:
    verdict: str
    cost: float

    @property
    def ok(self) -> bool:
        return self.verdict == "ok"


SPAN = Span("Kids are talking, by the door.", "sentence")


def test_attempts_change_the_seed_then_the_sigma_then_the_span():
    first, second, third, fourth = takes(Request("x", seed=3, sigma=0.5), SPAN, index=2)
    assert (first.seed, first.sigma, first.pieces[0].span, first.pieces[0].part) == (3, 0.5, SPAN, 6)
    assert second.seed != 3 and second.sigma == 0.5
    assert third.seed not in (3, second.seed) and third.sigma == pytest.approx(0.35)
    assert (fourth.seed, fourth.sigma) == (3, 0.5)
    assert [(p.span.text, p.part) for p in fourth.pieces] == [("Kids are talking,", 7), ("by the door.", 8)]


def test_a_healthy_attempt_is_the_last():
    choice = Choice(Request("x"), SPAN, 0)
    assert len(run(choice, [2.0, 0.0, 0.0, 0.0])) == 2
    assert choice.best[1] == [0.0]
    assert [a.verdict for a in choice.attempts] == ["skipped", "ok"]


def test_the_best_of_bad_attempts_is_spoken():
    choice = Choice(Request("x"), SPAN, 0)
    assert len(run(choice, [5.0, 2.0, 3.0, 4.0])) == 4
    assert choice.best[1] == [2.0]


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_retries_bound_the_attempts(retries):
    assert len(run(Choice(Request("x", retries=retries), SPAN, 0), [1.0] * 4)) == 1 + retries


def test_an_attention_that_follows_no_text_is_not_tried_again(tiny):
    """The tiny voice has learnt nothing: its attention is flat."""
    speech = tiny.synthesize("Kids are talking by the door.", max_frames=60)
    assert [a.verdict for a in speech.spans[0].attempts] == ["unaligned"]


# --- spans of a text ---


def texts(text: str, limit: int = 100) -> list[str]:
    return [span.text for span in spans(text, limit, len)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("He came at last. She left.", ["He came at last.", "She left."]),
        ("Yes. She left the house.", ["Yes. She left the house."]),
        ('"What is this?" he asked. "A dog!"', ['"What is this?" he asked.', '"A dog!"']),
        ("I saw Mr. Smith and Dr. Who there.", ["I saw Mr. Smith and Dr. Who there."]),
        ("We met J. R. Brown in Oxford St. Giles.", ["We met J. R. Brown in Oxford St. Giles."]),
        ("This costs 3.50 in total. No more.", ["This costs 3.50 in total.", "No more."]),
        ("It was e.g. Tuesday or so... Then it rained.", ["It was e.g. Tuesday or so...", "Then it rained."]),
        ("A heading\n\nand its text\nover two lines.", ["A heading", "and its text over two lines."]),
        ("She said (and I quote) that. {HH AW1 S} it is.", ["She said (and I quote) that.", "{HH AW1 S} it is."]),
        ("", []),
        (" \n\n \n", []),
    ],
)
def test_texts_are_cut_at_sentences_and_paragraphs(text, expected):
    assert texts(text) == expected


def test_a_long_sentence_is_cut_at_the_clause_nearest_its_middle():
    assert texts("One two three, four five six seven, eight nine ten.", 36) == [
        "One two three, four five six seven,",
        "eight nine ten.",
    ]


def test_a_sentence_without_clauses_is_cut_between_words():
    parts = list(spans("one two three four five six seven eight", 20, len))
    assert [p.text for p in parts] == ["one two three four", "five six seven eight"]
    assert [p.boundary for p in parts] == ["word", "paragraph"]


def test_boundaries_are_named_after_what_follows():
    found = spans("First of all, one two. Then three four five.\n\nSecond of all things.", 15, len)
    assert [s.boundary for s in found][:2] == ["clause", "sentence"]


def test_no_span_is_above_the_limit_and_no_word_is_lost():
    text = " ".join(f"word{i}{',' if i % 7 == 0 else ''}" for i in range(3000))
    found = texts(text, 50)
    assert max(map(len, found)) <= 50
    assert " ".join(found) == text


def test_braces_are_never_cut():
    text = " ".join(["{HH AW1 S}"] * 40)
    assert all(part.count("{") == part.count("}") > 0 for part in texts(text, 30))


HOSTILE = ["a " * 50_000, "a" * 100_000, ". " * 50_000, "{ " * 50_000, "A. " * 33_000, "\n \n" * 33_000, "((" * 50_000]


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda text: repr(text[:3]))
def test_hostile_texts_of_100_kb_are_cut_within_a_second(hostile):
    started = time.perf_counter()
    list(spans(hostile, 100, len))
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize("line", ["Kids talk by the door.\n", "a list of words without an end\n", "A heading\n\n"])
def test_the_first_span_of_a_long_text_needs_no_look_at_the_rest(line):
    read = []
    first = next(spans(line * 100_000, 100, lambda text: read.append(text) or len(text)))
    assert first.text.startswith(line.split("\n")[0][:20])
    assert len(read) < 2000 and max(map(len, read)) <= 2000


def test_a_list_without_a_full_stop_is_cut_and_loses_no_word():
    text = " ".join(f"word{i}" for i in range(20_000))
    found = texts(text, 50)
    assert " ".join(found) == text


def test_halves_of_a_single_word_are_none():
    assert halves(Span("word.", "sentence")) is None
