"""Speech as it is being made: the decoder in a thread of its own, ahead of the vocoder."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fte.ahead import Ahead
from fte.alignment import OnlineAligner
from fte.backends.base import Float32
from fte.decoder import Decoded, Decoding, Frame
from fte.renderer import PlannedSpan, Renderer
from fte.speech import Attempt, Chunk, Request, SpokenSpan
from fte.takes import Choice, Piece, Take
from fte.text import Transcript
from fte.timings import Timing

AHEAD_FRAMES = 1024
"""How far the decoder of a stream may run ahead of its vocoder: about 12 seconds."""


@dataclass(frozen=True, slots=True)
class _Start:
    """An utterance whose frames follow."""

    planned: PlannedSpan
    take: Take
    piece: Piece
    early: tuple[Float32, ...]
    """Attention (T, N) of the flows that are done."""


@dataclass(frozen=True, slots=True)
class _End:
    """An utterance whose frames have all been given."""

    decoded: Decoded
    attempts: tuple[Attempt, ...]


_Item = _Start | Frame | _End


class SpeechStream(Iterator[Chunk]):
    """The chunks of a speech as they are made; `fte.Synthesizer.stream` opens one.

    Use it as a context manager, or close it: what is being computed stops within one chunk. `cancel` does the same
    from another thread.
    """

    def __init__(self, voice: Renderer, request: Request, plan: Iterable[PlannedSpan], start_frame: int = 0) -> None:
        # Until the first chunk is out, the decoder makes no more than that chunk needs, and leaves it the machine.
        self._ahead: Ahead[_Item] = Ahead(_decode(voice, request, plan), limit=1)
        self._chunks = _voice(self._ahead, voice, request, start_frame)

    def __iter__(self) -> "SpeechStream":
        return self

    def __next__(self) -> Chunk:
        chunk = next(self._chunks)
        if self._ahead.closed:
            raise StopIteration
        self._ahead.allow(AHEAD_FRAMES)
        return chunk

    def __enter__(self) -> "SpeechStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

    def __del__(self) -> None:
        if hasattr(self, "_ahead"):
            self._ahead.close()

    def cancel(self) -> None:
        """End the stream: no further chunk comes."""
        self._ahead.close()

    close = cancel


def _decode(voice: Renderer, request: Request, plan: Iterable[PlannedSpan]) -> Generator[_Item | None, None, None]:
    """Decode span after span; None between frames that are not yet to be heard, so that it can be stopped there."""
    for planned in plan:
        choice = Choice[Decoding](request, planned.span, planned.index)
        while take := choice.next():
            decodings, healths = [], []
            for piece in take.pieces:
                decoding = voice.decoder.start([voice.utterance(request, take, piece)])
                yield from (None for _ in decoding.settle())
                decodings.append(decoding)
                healths.append(voice.verdict(piece, decoding.known_attention(0), decoding.ended[0]))
            choice.judged(take, decodings, healths)
        take, settled = choice.best
        for piece, decoding in zip(take.pieces, settled, strict=True):
            yield _Start(planned, take, piece, decoding.early_attention(0))
            yield from decoding.frames()
            yield _End(decoding.decoded()[0], tuple(choice.attempts))


def _voice(items: Iterator[_Item], voice: Renderer, request: Request, first_frame: int) -> Iterator[Chunk]:
    """Vocode what was decoded, utterance after utterance."""
    for start in items:
        assert isinstance(start, _Start)
        end: list[_End] = []
        yield from _utterance_chunks(items, voice, request, start, end, first_frame)
        if not end:  # cancelled
            return
        decoded, attempts = end[0].decoded, end[0].attempts
        spoken = voice.spoken(request, start.planned, attempts, start.take, start.piece, decoded, first_frame)
        pause = voice.silence(spoken.pause_frames)
        first_frame = spoken.stop_frame
        yield _chunk(voice, pause, first_frame * voice.hop - len(pause), span=spoken)


def _utterance_chunks(
    items: Iterator[_Item], voice: Renderer, request: Request, start: _Start, end: list[_End], first_frame: int
) -> Iterator[Chunk]:
    """The chunks of one utterance; its end is put into ``end``."""
    words = _WordsBegun(voice.spoken_transcript(request, start.piece.span), start.early)

    def frames() -> Iterator[Float32]:
        for item in items:
            if isinstance(item, _End):
                end.append(item)
                return
            assert isinstance(item, Frame)
            words.push(item.attention[0])
            yield item.mel

    position = first_frame * voice.hop
    is_first = start.planned.index == 0
    for samples in voice.sound(frames(), request, start.take.seed, start.piece.part, is_first):
        stop = position + len(samples)
        begun = words.until(stop / voice.hop - first_frame)
        yield _chunk(voice, samples, position, [(word, first_frame + frame) for word, frame in begun])
        position = stop


def _chunk(
    voice: Renderer,
    samples: Float32,
    start: int,
    begun: Sequence[tuple[str, int]] = (),
    span: SpokenSpan | None = None,
) -> Chunk:
    stop_frame = -(-(start + len(samples)) // voice.hop)
    seconds = ((word, frame * voice.frame_seconds) for word, frame in begun)
    words = tuple(Timing(word, second, second) for word, second in seconds)
    return Chunk(samples, voice.sample_rate, start, start // voice.hop, stop_frame, words, span)


class _WordsBegun:
    """Which words of an utterance have begun, as far as the attention of the frames so far tells."""

    def __init__(self, transcript: Transcript, early: Sequence[Float32]) -> None:
        self._words = transcript.words
        self._aligner = OnlineAligner(len(transcript.symbols), early)
        self._told = 0

    def push(self, attention: Float32) -> None:
        """Take flow 0's weights (N,) of the next frame."""
        self._aligner.push(attention)

    def until(self, frame: float) -> list[tuple[str, int]]:
        """The words that begin before ``frame`` and were not told yet, each with its first frame."""
        path = self._aligner.path()
        begun: list[tuple[str, int]] = []
        for word in self._words[self._told :]:
            start = int(np.searchsorted(path, word.start))
            if start >= min(frame, len(path)):
                break
            begun.append((word.text, start))
        self._told += len(begun)
        return begun
