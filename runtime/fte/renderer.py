"""What is done for every utterance, streamed or in a batch: its spans, its z, the verdict on it, and its sound."""

import dataclasses
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fte import checks, noise
from fte.alignment import align
from fte.audio import denoise_chunks, griffin_lim
from fte.backends import Backend
from fte.backends.base import Float32
from fte.bundle import Bundle, Manifest
from fte.constants import LIMITS, LOG_FLOOR
from fte.decoder import NEVER, Decoded, Decoder, Ended, Utterance
from fte.errors import NothingToSayError, RequestError
from fte.health import Health, judge
from fte.speech import Attempt, Request, SpokenSpan, frames_ceiling
from fte.style.ramps import Ramp
from fte.style.sampling import sample, tail_offset
from fte.style.style import Style, check_voice
from fte.takes import Piece, Take
from fte.text import SYMBOLS, TextFrontend, Transcript
from fte.text.frontend import check_braces
from fte.text.spans import Boundary, Span, spans
from fte.text.symbols import ID_OF
from fte.vocoder import Vocoder

PAUSES: dict[Boundary, float] = {"word": 0.05, "clause": 0.2, "sentence": 0.5, "paragraph": 1.0}
"""Seconds of silence after a span, what its utterance ends with included. Readers pause mostly 0.2 to 1 s at the
boundaries of clauses and sentences and longer at those of paragraphs (Campione and Veronis, "A large-scale multilingual
study of silent pause duration", Speech Prosody 2002)."""
_ENDS = frozenset(".!?,;:")
"""Marks that speech pauses at."""
_AFTER_END = frozenset("\"')] ")
"""What may stand between the end of a sentence and that of its text."""
_SILENCE_DB = 40.0
"""A frame this far below the loudest of its utterance is silent."""


@dataclass(frozen=True, slots=True)
class PlannedSpan:
    """One span of a request."""

    span: Span
    index: int
    """From 0."""
    is_last: bool


class Renderer:
    """The parts of a loaded voice, and what streams and batches do with them in the same way."""

    def __init__(self, bundle: Bundle, backend: Backend, precision: str, frontend: TextFrontend) -> None:
        self.bundle, self.backend, self.precision = bundle, backend, precision
        self.manifest: Manifest = bundle.manifest
        self.frontend = frontend
        self.sample_rate = self.manifest.audio.sample_rate
        self.hop = self.manifest.audio.hop
        self.frame_seconds = self.hop / self.sample_rate
        self.decoder = Decoder(bundle, backend, precision)
        self._vocoder: Vocoder | None = None
        self._loading = threading.Lock()

    @property
    def vocoder(self) -> Vocoder:
        """The bundle's WaveGlow, loaded on first use. Raises BundleError where there is none."""
        with self._loading:
            if self._vocoder is None:
                self._vocoder = Vocoder(self.bundle, self.backend, self.precision)
            return self._vocoder

    @property
    def has_vocoder(self) -> bool:
        """Whether the bundle has a WaveGlow; without one, speech goes through Griffin-Lim."""
        return self.manifest.waveglow is not None

    def speaker_id(self, speaker: int | str) -> int:
        """The id of a speaker given by id, name or an id in digits. Raises RequestError naming those there are."""
        names = self.manifest.speakers
        if isinstance(speaker, bool) or not isinstance(speaker, str | int | np.integer):
            raise checks.refuse(speaker, "speaker", "the id or the name of a speaker")
        if isinstance(speaker, str):
            if speaker in names:
                return names.index(speaker)
            if not (speaker.isascii() and speaker.isdigit() and len(speaker) < 10):
                shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
                raise RequestError(f"speaker {checks.shown(speaker)} is unknown: this voice has {shown}")
        who = int(speaker)
        if not 0 <= who < len(names):
            raise RequestError(f"speaker {checks.shown(who)} is unknown: this voice has ids 0 to {len(names) - 1}")
        return who

    def transcript(self, text: str) -> Transcript:
        """Symbols, ids and words of a text spoken in one go. Raises RequestError as `text_ids` does."""
        if self.manifest.symbols != SYMBOLS:
            raise RequestError("this voice was not trained with the public symbols: decode symbol ids instead of text")
        return self.frontend.transcript(text)

    def plan(self, request: Request) -> Iterator["PlannedSpan"]:
        """The spans of a request, in order; those without a letter or number are left out.

        Raises RequestError for a request that cannot be spoken, at the latest when its span is reached.
        """
        request.check()
        self.speaker_id(request.speaker)
        self._check_rhythm(request)
        self._check_style(request)
        check_braces(request.text)
        found = 0
        waiting: Span | None = None
        for span in spans(request.text, request.span_symbols, lambda text: len(with_end(self.transcript(text)).ids)):
            try:
                self.transcript(span.text)
            except NothingToSayError:
                continue
            if waiting is not None:
                yield PlannedSpan(waiting, found, is_last=False)
                found += 1
            waiting = span
        if found and (isinstance(request.style, Ramp) or request.rhythm is not None):
            what = "a ramp" if request.rhythm is None else "a rhythm"
            raise RequestError(f"{what} is of one utterance and the text was cut in {found + 1}: raise span_symbols")
        if waiting is None:
            self.transcript(request.text)  # says what is wrong with a text without words
            raise NothingToSayError("nothing in the text can be pronounced: give at least one letter or number")
        yield PlannedSpan(waiting, found, is_last=True)

    def spoken_transcript(self, request: Request, span: Span) -> Transcript:
        """What a span is spoken as: its transcript, with an end where it has none.

        A rhythm is of a recording's own symbols, so nothing can be added to them.
        """
        return self._as_spoken(self.transcript(span.text), request, span)

    def _as_spoken(self, transcript: Transcript, request: Request, span: Span) -> Transcript:
        return transcript if request.rhythm is not None else with_end(transcript, span.boundary)

    def _check_rhythm(self, request: Request) -> None:
        flows = self.manifest.flowtron.n_flows
        if request.rhythm is not None and len(request.rhythm) != flows:
            raise RequestError(f"rhythm is of {len(request.rhythm)} flows: give the attention of all {flows}")

    def _check_style(self, request: Request) -> None:
        for style in request.styles:
            check_voice(style, self.bundle.voice_hash, f"the style {style.name!r}")

    def utterance(self, request: Request, take: Take, piece: Piece) -> Utterance:
        """What the decoder is asked for. Raises RequestError for a style, ramp or rhythm that does not fit."""
        transcript = self.spoken_transcript(request, piece.span)
        frames = frames_ceiling(len(transcript.ids)) if request.max_frames is None else request.max_frames
        rhythm = None if request.rhythm is None else tuple(np.asarray(rows, np.float32) for rows in request.rhythm)
        if rhythm is not None:
            frames = len(rhythm[0])
        plain = Utterance(
            text_ids=np.array(transcript.ids, np.int64),
            z=self.prior(frames, request, take, piece),
            speaker=self.speaker_id(request.speaker),
            gate_threshold=request.gate_threshold if rhythm is None else NEVER,
            stop_with_attention=request.stop_with_attention and rhythm is None,
            temperature=request.temperature,
            attention=rhythm,
        )
        if not isinstance(request.style, Ramp):
            return plain
        means = self._rehearsed(plain, request.style, transcript)
        return dataclasses.replace(plain, z=plain.z + np.float32(request.style_weight) * means)

    def prior(self, frames: int, request: Request, take: Take, piece: Piece) -> Float32:
        """z (T, M) ~ N(style's mean, sigma^2). Row i of the noise goes to the i-th frame that the first flow computes.

        So a higher ceiling changes nothing before it, whichever way that flow runs. A ramp's means come later.
        """
        sizes, key = self.manifest.flowtron, {"seed": take.seed, "request": request.request, "part": piece.part}
        rows = noise.normal((frames, sizes.n_mels), stream="prior", **key)
        eps = rows[::-1] if self._starts_at_the_end else rows
        if not isinstance(request.style, Style):
            return sample(eps, take.sigma)
        means = request.style.frames(frames)
        if request.tail is not None:
            direction = noise.normal((sizes.n_mels,), stream="tail", **key)
            means = means + tail_offset(request.style, direction, request.tail)
        return sample(eps, take.sigma, means, request.style_weight)

    @property
    def _starts_at_the_end(self) -> bool:
        """Whether the first flow to run is a backward one."""
        return self.manifest.flowtron.n_flows % 2 == 0

    def _rehearsed(self, plain: Utterance, ramp: Ramp, transcript: Transcript) -> Float32:
        """The means (T, M) of a ramp, whose frames are known from speaking the utterance once without it.

        Frames before and after the rehearsed utterance, of which a gate may take some, go on with the ramp's edge.
        """
        decoding = self.decoder.start([plain])
        for _ in decoding.settle():
            pass
        attention = decoding.known_attention(0)
        spoken = len(attention[0])
        path = align(attention)
        starts = [min(int(np.searchsorted(path, word.start)), spoken - 1) for word in transcript.words]
        means = ramp.means(spoken, starts)
        rest = len(plain.z) - spoken
        return np.pad(means, ((rest, 0) if self._starts_at_the_end else (0, rest), (0, 0)), mode="edge")

    def verdict(self, piece: Piece, attention: Sequence[Float32], ended: Ended) -> Health:
        """The verdict on an attempt: on the flows before the last, which a stream knows before its first sound."""
        words = self.transcript(piece.span.text).words  # an end that was added belongs to none
        early = attention[-max(1, self.manifest.flowtron.n_flows - 1) :]
        first_flow = self.manifest.flowtron.n_flows - len(early)
        return judge(early, ended=ended, words=words, first_flow=first_flow, frame_seconds=self.frame_seconds)

    def spoken(
        self,
        request: Request,
        planned: "PlannedSpan",
        attempts: Sequence[Attempt],
        take: Take,
        piece: Piece,
        decoded: Decoded,
        start_frame: int,
    ) -> SpokenSpan:
        written = self.transcript(piece.span.text)
        transcript = self._as_spoken(written, request, piece.span)
        completes = piece is take.pieces[-1]
        is_last = completes and planned.is_last
        wanted = 0.0 if is_last else request.pause * PAUSES[piece.span.boundary]
        return SpokenSpan(
            text=piece.span.text,
            transcript=transcript,
            end_added=transcript is not written,
            decoded=decoded,
            index=planned.index,
            completes=completes,
            start_frame=start_frame,
            pause_frames=max(0, round(wanted / self.frame_seconds) - trailing_silence(decoded.mel)),
            frame_seconds=self.frame_seconds,
            attempts=tuple(attempts),
            spoken_attempt=[(a.seed, a.sigma, a.parts) for a in attempts].index(
                (take.seed, take.sigma, len(take.pieces))
            ),
        )

    def sound(
        self, mel: Iterable[Float32], request: Request, seed: int, part: int, is_first: bool
    ) -> Iterator[Float32]:
        """Blocks of mel frames (t, M) of one utterance -> blocks of samples, the same however the frames arrive."""
        if not self.has_vocoder:
            return iter([griffin_lim(np.concatenate(list(mel)), seed=seed, **self.manifest.audio.bands)])
        samples = self.vocoder.stream(
            mel,
            self.vocoder.noise_rows(seed, request.request, part),
            sigma=request.vocoder_sigma,
            chunk=request.chunk,
            first_chunk=request.first_chunk if is_first else None,
            overlap=request.overlap,
        )
        if request.denoiser == 0:
            return samples
        return denoise_chunks(samples, self.vocoder.bias_spectrum(), request.denoiser)

    def silence(self, frames: int) -> Float32:
        return np.zeros(frames * self.manifest.audio.hop, np.float32)


def with_end(transcript: Transcript, boundary: Boundary = "paragraph") -> Transcript:
    """A transcript with an end: a full stop, or a comma where the sentence goes on, after a text with no such mark.

    Voices are trained on sentences with their marks, and learn at these how to end: without one, a word alone stops
    within a frame or two. A text as long as the limit stays as it is.
    """
    last = next((symbol for symbol in reversed(transcript.symbols) if symbol not in _AFTER_END), "")
    if last in _ENDS or len(transcript.ids) >= LIMITS.symbols:
        return transcript
    mark = "." if boundary in ("sentence", "paragraph") else ","
    return Transcript((*transcript.symbols, mark), (*transcript.ids, ID_OF[mark]), transcript.words)


def trailing_silence(mel: Float32) -> int:
    """Frames at the end of a mel (T, M) that are silent: far below its loudest frame in their strongest channel."""
    level = mel.max(axis=1)
    floor = max(float(level.max()) - _SILENCE_DB * np.log(10) / 20, float(np.log(LOG_FLOOR)))
    loud = np.flatnonzero(level > floor)
    return len(mel) - 1 - int(loud[-1]) if len(loud) else 0
