"""What is asked for and what comes back: requests, chunks of a stream, spoken spans and whole speeches."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from fte import checks
from fte.alignment import align, symbol_frames
from fte.backends.base import Float32
from fte.constants import LIMITS, LOG_FLOOR
from fte.decoder import COLDEST, HOTTEST, Decoded, Ended
from fte.errors import RequestError
from fte.health import Health, judge
from fte.noise import SEED_LIMIT
from fte.style.ramps import Ramp
from fte.style.sampling import MAX_RADIUS, MAX_WEIGHT
from fte.style.style import MAX_SIGMA, Style
from fte.text import Transcript
from fte.timings import Timing, Timings, symbol_timings, word_timings
from fte.vocoder import CHUNK_FRAMES, FIRST_CHUNK_FRAMES, OVERLAP_FRAMES

PRIOR_SIGMA = 0.5
"""Default standard deviation of z: the public implementation's usual choice."""
VOCODER_SIGMA = 0.8
"""Default standard deviation of WaveGlow's noise: that of Flowtron's public inference script."""
SPAN_SYMBOLS = 120
"""Default most symbols spoken in one go."""
RETRIES = 3
"""Most and default further attempts at a span whose attention did not follow its text."""

MAX_DENOISER = 1000.0
"""Highest strength of the denoiser."""

_FRAMES_PER_SYMBOL = 12
_FRAMES_SPARE = 100


def frames_ceiling(symbols: int) -> int:
    """Frames after which an utterance of so many symbols is cut if neither gate nor attention has ended it.

    Twice what slow speech takes (about 6 frames a symbol), and a second and a half more.
    """
    return min(LIMITS.frames, _FRAMES_SPARE + _FRAMES_PER_SYMBOL * symbols)


@dataclass(frozen=True, slots=True)
class Request:
    """A text to speak. What it sounds like depends on its own fields alone, never on its neighbours."""

    text: str
    """Of any length up to the limit: long texts are cut into spans (`fte.text.spans`), joined with pauses."""
    speaker: int | str = 0
    """Id or name."""
    sigma: float = PRIOR_SIGMA
    """Standard deviation of z: 0 is the flattest reading, 1 the most varied."""
    seed: int = 0
    request: int = 0
    """Tells apart the noise of requests that share a seed."""
    gate_threshold: float = 0.5
    """An utterance ends at the first frame whose gate exceeds it."""
    stop_with_attention: bool = True
    """Whether an utterance also ends when its text has been read and no gate has ended it."""
    temperature: float = 1.0
    """Divides the attention's scores."""
    max_frames: int | None = None
    """Ceiling on the mel frames of a span; None derives it from the text. Raising it never changes the frames below."""
    span_symbols: int = SPAN_SYMBOLS
    """Most symbols spoken in one go."""
    pause: float = 1.0
    """Scales the pauses between spans; 0 joins them without."""
    retries: int = RETRIES
    """Further attempts at a span whose attention did not follow its text (`fte.takes`)."""
    style: Style | Ramp | Path | str | None = None
    """What z is drawn around instead of 0: a style, the name of one of the voice's own, a mix of them such as
    "happy:0.7,sad:0.3", or a style file (.safetensors); a ramp is for texts that are spoken in one go."""
    style_weight: float = 1.0
    """Scales the style's mean: 0 is no style, beyond 1 exaggerates it."""
    tail: float | None = None
    """Radius in the style's own spread at which this rendition lies from it (`fte.style.sampling.tail_offset`)."""
    rhythm: tuple[Float32, ...] | None = None
    """Attention of each flow (T, N), of a recording of the same text: its rhythm is imposed, for T frames."""
    vocoder_sigma: float = VOCODER_SIGMA
    """Standard deviation of the vocoder's noise."""
    denoiser: float = 0.0
    """Strength with which the vocoder's own hum is taken out; 0 leaves it, 0.01 to 0.1 is usual."""
    chunk: int = CHUNK_FRAMES
    """Frames that the vocoder computes at once."""
    first_chunk: int = FIRST_CHUNK_FRAMES
    """Frames of the very first chunk, which double from chunk to chunk until they reach ``chunk``."""
    overlap: int = OVERLAP_FRAMES
    """Frames of context on each side of a chunk (`fte.vocoder`)."""

    @property
    def styles(self) -> tuple[Style, ...]:
        """The style, or those of the ramp; without what is given by name."""
        given = [knot.style for knot in self.style.knots] if isinstance(self.style, Ramp) else [self.style]
        return tuple(style for style in given if isinstance(style, Style))

    def check(self) -> None:
        """Raise RequestError for the first field of another kind or out of range; voice and text are not looked at.

        A style that is given by name is to be found first (`fte.Synthesizer.resolved`).
        """
        checks.text(self.text, "text")
        if len(self.text) > LIMITS.request_characters:
            raise RequestError(
                f"the text has {len(self.text)} characters, more than {LIMITS.request_characters}: split it"
            )
        for name, (value, check) in self._checks().items():
            check(value, name)
        self._check_style()

    def _checks(self) -> dict[str, tuple[object, checks.Check]]:
        """By name as errors have it: a field that is no text, and what it is held against."""
        frames = LIMITS.frames
        return {
            "the seed": (self.seed, checks.wholes(0, SEED_LIMIT - 1)),
            "the request number": (self.request, checks.wholes(0, SEED_LIMIT - 1)),
            "sigma": (self.sigma, checks.within(0, MAX_SIGMA)),
            "gate_threshold": (self.gate_threshold, checks.within(0, float("inf"))),
            "stop_with_attention": (self.stop_with_attention, checks.flag),
            "temperature": (self.temperature, checks.within(COLDEST, HOTTEST)),
            "max_frames": (self.max_frames, checks.optional(checks.wholes(1, frames))),
            "span_symbols": (self.span_symbols, checks.wholes(1, LIMITS.symbols)),
            "pause": (self.pause, checks.within(0, 100)),
            "retries": (self.retries, checks.wholes(0, RETRIES)),
            "style_weight": (self.style_weight, checks.within(0, MAX_WEIGHT)),
            "tail": (self.tail, checks.optional(checks.within(0, MAX_RADIUS))),
            "rhythm": (self.rhythm, checks.optional(checks.each(checks.floats(2)))),
            "the vocoder's sigma": (self.vocoder_sigma, checks.within(0, MAX_SIGMA)),
            "the denoiser's strength": (self.denoiser, checks.within(0, MAX_DENOISER)),
            "chunk": (self.chunk, checks.wholes(1, frames)),
            "first_chunk": (self.first_chunk, checks.wholes(1, frames)),
            "overlap": (self.overlap, checks.wholes(0, frames)),
        }

    def _check_style(self) -> None:
        if not isinstance(self.style, Style | Ramp | None):
            raise checks.refuse(self.style, "style", "a Style, a Ramp or the name of one of the voice's own")
        if self.tail is not None and not isinstance(self.style, Style):
            raise RequestError("a tail is drawn around a style, and this request has none: give one")
        for style in self.styles:
            largest = self.style_weight * float(np.abs(style.mean).max())
            if largest > LIMITS.latent:
                raise RequestError(
                    f"the style {style.name!r} times its weight reaches {largest:g}: give a style_weight with which "
                    f"it stays within {LIMITS.latent:g}"
                )


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a span, for the record."""

    seed: int
    sigma: float
    parts: int
    """Utterances into which the span was cut for this attempt."""
    verdict: str
    """Of the flows that run before the first sound: "ok" or the gravest fault (`fte.health`)."""


@dataclass(frozen=True)
class SpokenSpan:
    """One utterance of a speech, with what its attention says about it."""

    text: str
    transcript: Transcript
    decoded: Decoded
    index: int
    """Number of the planned span it belongs to, from 0: a retry may cut one in two."""
    completes: bool
    """Whether it is the last utterance of that span."""
    start_frame: int
    """Its first frame in the whole speech."""
    pause_frames: int
    """Frames of silence after it."""
    frame_seconds: float
    attempts: tuple[Attempt, ...]
    """All attempts at it; the best one is spoken."""
    spoken_attempt: int = 0
    """Which of them that is, from 0. Its verdict was given before the last flow, `health` judges all flows."""
    end_added: bool = False
    """Whether its last symbol is a mark that the text has not, for the voice to end with."""

    @property
    def stop_frame(self) -> int:
        """The first frame after it and its pause, in the whole speech."""
        return self.start_frame + len(self.decoded.mel) + self.pause_frames

    @cached_property
    def timings(self) -> Timings:
        """When each word and symbol is spoken, in seconds of the whole speech."""
        symbols = self.transcript.symbols
        written = symbols[:-1] if self.end_added else symbols  # subtitles show the marks of the text
        frames = symbol_frames(align(self.decoded.attention), len(symbols))
        offset = self.start_frame * self.frame_seconds
        end = offset + len(self.decoded.mel) * self.frame_seconds
        return Timings(
            words=word_timings(self.transcript.words, frames, self.frame_seconds, offset, written),
            symbols=symbol_timings(symbols, frames, self.frame_seconds, offset),
            duration=end,
        )

    @cached_property
    def health(self) -> Health:
        """Whether its attention followed the text."""
        words, ended = self.transcript.words, self.decoded.ended
        return judge(self.decoded.attention, ended=ended, words=words, frame_seconds=self.frame_seconds)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a stream, given out as soon as it is settled."""

    samples: Float32
    """(n) from -1 to 1."""
    sample_rate: int
    """Hz."""
    start_sample: int
    """Place of the first sample in the whole speech."""
    start_frame: int
    stop_frame: int
    """Mel frames of the whole speech that the samples touch."""
    words: tuple[Timing, ...]
    """Words that begin in it, as far as the attention is known by then; a word's end is not, and equals its start."""
    span: SpokenSpan | None
    """The span that ends with this chunk, whose samples are then the pause after it; None inside a span."""


@dataclass(frozen=True)
class Speech:
    """A spoken request."""

    samples: Float32
    """(n) from -1 to 1."""
    sample_rate: int
    """Hz."""
    spans: tuple[SpokenSpan, ...]
    """The utterances it was spoken in, at least one."""

    @property
    def seconds(self) -> float:
        """Duration."""
        return len(self.samples) / self.sample_rate

    @cached_property
    def mel(self) -> Float32:
        """(T, M) log magnitudes; the pauses between spans are at the floor."""
        parts: list[Float32] = []
        for span in self.spans:
            mel = span.decoded.mel
            parts += [mel, np.full((span.pause_frames, mel.shape[1]), np.log(LOG_FLOOR), np.float32)]
        return np.concatenate(parts)

    @cached_property
    def attention(self) -> tuple[Float32, ...]:
        """Of each flow (T, N), frames in playing order; a pause attends to nothing."""
        flows = range(len(self.spans[0].decoded.attention))
        return tuple(self._block_diagonal([span.decoded.attention[k] for span in self.spans]) for k in flows)

    def _block_diagonal(self, blocks: Sequence[Float32]) -> Float32:
        whole = np.zeros((len(self.mel), len(self.symbols)), np.float32)
        symbol = 0
        for span, block in zip(self.spans, blocks, strict=True):
            whole[span.start_frame :][: len(block), symbol : symbol + block.shape[1]] = block
            symbol += block.shape[1]
        return whole

    @cached_property
    def gate(self) -> Float32 | None:
        """(T), 0 in the pauses; None for a voice without a gate."""
        if self.spans[0].decoded.gate is None:
            return None
        whole = np.zeros(len(self.mel), np.float32)
        for span in self.spans:
            assert span.decoded.gate is not None
            whole[span.start_frame :][: len(span.decoded.gate)] = span.decoded.gate
        return whole

    @property
    def symbols(self) -> tuple[str, ...]:
        """The N symbols that were spoken."""
        return tuple(symbol for span in self.spans for symbol in span.transcript.symbols)

    @property
    def ended(self) -> tuple[Ended, ...]:
        """What ended each span."""
        return tuple(span.decoded.ended for span in self.spans)

    @property
    def reached_ceiling(self) -> bool:
        """Whether the ceiling on frames ended any span."""
        return "ceiling" in self.ended

    @property
    def ok(self) -> bool:
        """Whether every span is healthy."""
        return all(span.health.ok for span in self.spans)

    @cached_property
    def timings(self) -> Timings:
        """When each word and symbol is spoken, seconds."""
        parts = [span.timings for span in self.spans]
        words = tuple(timing for part in parts for timing in part.words)
        symbols = tuple(timing for part in parts for timing in part.symbols)
        return Timings(words, symbols, self.seconds)
