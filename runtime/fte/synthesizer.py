"""The facade: load a voice, speak.

>>> from fte import Synthesizer
>>> voice = Synthesizer.load("voices/ljs")  # doctest: +SKIP
>>> speech = voice.synthesize("Hello there.", seed=7)  # doctest: +SKIP
>>> speech.samples, speech.sample_rate  # doctest: +SKIP
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from fte import noise
from fte.audio import denoise, griffin_lim
from fte.backends import Backend, OnnxRuntimeBackend
from fte.backends.base import Array, Float32
from fte.bundle import Bundle, Manifest
from fte.constants import LIMITS
from fte.decoder import Decoded, Decoder, Utterance
from fte.errors import RequestError
from fte.text import SYMBOLS, TextFrontend
from fte.vocoder import CHUNK_FRAMES, OVERLAP_FRAMES, Vocoder, check_mel, given_noise

PRIOR_SIGMA = 0.5
"""Default standard deviation of z: the public implementation's usual choice."""
VOCODER_SIGMA = 0.8
"""Default standard deviation of WaveGlow's noise: that of Flowtron's public inference script."""

_FRAMES_PER_SYMBOL = 12
_FRAMES_SPARE = 100


def frames_ceiling(symbols: int) -> int:
    """Frames after which an utterance of so many symbols is cut if its gate has not ended it.

    Twice what slow speech takes (about 6 frames a symbol), and a second and a half more.
    """
    return min(LIMITS.frames, _FRAMES_SPARE + _FRAMES_PER_SYMBOL * symbols)


@dataclass(frozen=True, slots=True)
class Request:
    """One utterance to speak. What it sounds like depends on its own fields alone, never on its neighbours."""

    text: str
    speaker: int | str = 0
    """Id or name."""
    sigma: float = PRIOR_SIGMA
    """Standard deviation of z: 0 is the flattest reading, 1 the most varied."""
    seed: int = 0
    request: int = 0
    """Tells apart the noise of requests that share a seed."""
    gate_threshold: float = 0.5
    """The utterance ends at the first frame whose gate exceeds it."""
    temperature: float = 1.0
    """Divides the attention's scores."""
    max_frames: int | None = None
    """Ceiling on the mel frames; None derives it from the text. Raising it never changes the frames below it."""
    vocoder_sigma: float = VOCODER_SIGMA
    """Standard deviation of the vocoder's noise."""
    denoiser: float = 0.0
    """Strength with which the vocoder's own hum is taken out; 0 leaves it, 0.01 to 0.1 is usual."""


@dataclass(frozen=True, slots=True)
class Speech:
    """A spoken request."""

    samples: Float32
    """(n) from -1 to 1."""
    sample_rate: int
    """Hz."""
    mel: Float32
    """(T, M) log magnitudes."""
    attention: tuple[Float32, ...]
    """Of each flow (T, N), frames in playing order."""
    gate: Float32 | None
    """(T), or None for a voice without a gate."""
    symbols: tuple[str, ...]
    """The N symbols that were spoken."""
    reached_ceiling: bool
    """Whether the ceiling on frames, not the gate, ended it."""

    @property
    def seconds(self) -> float:
        """Duration."""
        return len(self.samples) / self.sample_rate


class Synthesizer:
    """A loaded voice. Make one with `Synthesizer.load`; it may be used from one thread at a time."""

    def __init__(self, bundle: Bundle, backend: Backend, precision: str) -> None:
        self.bundle, self.backend, self.precision = bundle, backend, precision
        self.manifest: Manifest = bundle.manifest
        self.sample_rate = self.manifest.audio.sample_rate
        self.decoder = Decoder(bundle, backend, precision)
        self._vocoder: Vocoder | None = None
        self._frontend = TextFrontend(self.manifest.text.arpabet, self.manifest.text.keep_ambiguous)

    @classmethod
    def load(
        cls, path: Path | str, device: str = "auto", precision: str = "auto", threads: int | None = None
    ) -> "Synthesizer":
        """Open the voice bundle at ``path``.

        device: "cpu", "cuda" or "auto". precision: one of the bundle's, or "auto": int8 on a CPU where the bundle has
        it, else fp32. threads: of the backend; None takes every core. `description` says what was taken.
        Raises BundleError and BackendError.
        """
        bundle = Bundle.open(path)
        backend = OnnxRuntimeBackend(device, threads)
        known = list(bundle.manifest.graphs)
        if precision == "auto":
            preferred = ["int8", "fp32"] if backend.device == "cpu" else ["fp32", "int8"]
            precision = next((p for p in preferred if p in known), known[0])
        synthesizer = cls(bundle, backend, precision)
        synthesizer.decoder.load()
        return synthesizer

    @property
    def description(self) -> str:
        """Voice, precision and backend in words."""
        return f"{self.manifest.name} in {self.precision} through {self.backend.description}"

    @property
    def vocoder(self) -> Vocoder:
        """The bundle's WaveGlow, loaded on first use. Raises BundleError where there is none."""
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
        if isinstance(speaker, str):
            if speaker in names:
                return names.index(speaker)
            if not (speaker.isascii() and speaker.isdigit() and len(speaker) < 10):
                shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
                raise RequestError(f"speaker {speaker!r} is unknown: this voice has {shown}")
            speaker = int(speaker)
        if not 0 <= speaker < len(names):
            raise RequestError(f"speaker {speaker} is unknown: this voice has ids 0 to {len(names) - 1}")
        return speaker

    def text_ids(self, text: str) -> list[int]:
        """Symbol ids of a text. Raises RequestError where the text is empty, too long or malformed."""
        if self.manifest.symbols != SYMBOLS:
            raise RequestError("this voice was not trained with the public symbols: decode symbol ids instead of text")
        return self._frontend.ids(text)

    @overload
    def decode(self, text_ids: Sequence[int] | Array, z: Float32, **options: Any) -> Decoded: ...

    @overload
    def decode(
        self, text_ids: Sequence[Sequence[int] | Array], z: Sequence[Float32], **options: Any
    ) -> list[Decoded]: ...

    def decode(  # type: ignore[misc]  # the overloads hide the options, which the signature below spells out
        self,
        text_ids: Any,
        z: Any,
        *,
        speaker: Any = 0,
        gate_threshold: Any = 0.5,
        temperature: Any = 1.0,
        attention: Any = None,
        attention_prior: Any = None,
    ) -> Decoded | list[Decoded]:
        """Symbol ids (N) and z (T, M) -> mel, attention and gate; lists of both decode a batch.

        In a batch every option may be a list with one entry an utterance, or one value for all.
        attention: per flow (T, N), imposed instead of computed; attention_prior: (T, N). See `fte.decoder.Utterance`.
        Raises RequestError for shapes, ids or values that the voice does not take.
        """
        batch = isinstance(z, list | tuple)
        if not batch:
            text_ids, z, attention, attention_prior = [text_ids], [z], [attention], [attention_prior]
        count = len(z)
        per_utterance = {
            "text_ids": text_ids,
            "z": z,
            "speaker": _spread(speaker, count),
            "gate_threshold": _spread(gate_threshold, count),
            "temperature": _spread(temperature, count),
            "attention": attention if attention is not None else [None] * count,
            "attention_prior": attention_prior if attention_prior is not None else [None] * count,
        }
        for name, values in per_utterance.items():
            if len(values) != count:
                raise RequestError(f"{name} has {len(values)} entries and z has {count}: give one for each utterance")
        utterances = [
            Utterance(
                text_ids=_array(ids, np.int64, "text_ids"),
                z=_array(rows, np.float32, "z"),
                speaker=self.speaker_id(who),
                gate_threshold=float(threshold),
                temperature=float(divisor),
                attention=None if imposed is None else tuple(_array(a, np.float32, "attention") for a in imposed),
                attention_prior=None if prior is None else _array(prior, np.float32, "attention_prior"),
            )
            for ids, rows, who, threshold, divisor, imposed, prior in zip(*per_utterance.values(), strict=True)
        ]
        decoded = self.decoder.decode(utterances)
        return decoded if batch else decoded[0]

    def vocode(
        self,
        mel: Float32,
        *,
        sigma: float = VOCODER_SIGMA,
        seed: int = 0,
        request: int = 0,
        noise: Float32 | None = None,
        denoiser: float = 0.0,
        chunk: int = CHUNK_FRAMES,
        overlap: int = OVERLAP_FRAMES,
    ) -> Float32:
        """mel (T, M) -> samples (T * hop) through the bundle's WaveGlow, or Griffin-Lim where it has none.

        The noise is drawn by (seed, request), or given as (T * hop / group, group) standard normal values, channels
        in the order in which the flows use them; sigma scales both. denoiser: strength, 0 for none.
        chunk and overlap: frames computed at once, and of context on each side; `fte.vocoder.exact_overlap` gives the
        overlap at which chunks are exactly the whole. Griffin-Lim takes none of the options but the seed.
        """
        if not self.has_vocoder:
            check_mel(mel, self.manifest.flowtron.n_mels)
            return griffin_lim(mel, seed=seed)
        vocoder = self.vocoder
        check_mel(mel, vocoder.sizes.n_mels)
        rows = (
            vocoder.noise_rows(seed, request) if noise is None else given_noise(self._noise_by_frame(noise, len(mel)))
        )
        samples = vocoder.vocode(mel, rows, sigma=sigma, chunk=chunk, overlap=overlap)
        return samples if denoiser == 0 else denoise(samples, vocoder.bias_spectrum(), denoiser)

    def _noise_by_frame(self, noise: Float32, frames: int) -> Float32:
        vocoder = self.vocoder
        expected = (frames * vocoder.hop // vocoder.sizes.n_group, vocoder.sizes.n_group)
        values = _array(noise, np.float32, "noise")
        if values.shape != expected:
            raise RequestError(f"noise has shape {values.shape}: give (groups, group size) = {expected}")
        by_frame: Float32 = values.reshape(frames, vocoder.hop)
        return by_frame

    def synthesize(self, text: str, **options: Any) -> Speech:
        """Speak one text; options are the fields of `Request`."""
        return self.synthesize_batch([Request(text, **options)])[0]

    def synthesize_batch(self, requests: Sequence[Request | str]) -> list[Speech]:
        """Speak several texts, decoded as one batch; each sounds as it would alone.

        Raises RequestError for the first request that cannot be spoken, before anything is computed.
        """
        asked = [Request(r) if isinstance(r, str) else r for r in requests]
        utterances = [self._utterance(request) for request in asked]
        spoken = self.decoder.decode(utterances)
        return [self._speech(*parts) for parts in zip(asked, utterances, spoken, strict=True)]

    def _utterance(self, request: Request) -> Utterance:
        ids = self.text_ids(request.text)
        if not 0 <= request.sigma <= 10:
            raise RequestError(f"sigma is {request.sigma}: give a number from 0 to 10")
        if not 0 <= request.vocoder_sigma <= 10:
            raise RequestError(f"the vocoder's sigma is {request.vocoder_sigma}: give a number from 0 to 10")
        if not (request.denoiser >= 0 and np.isfinite(request.denoiser)):
            raise RequestError(f"the denoiser's strength is {request.denoiser}: give a number of at least 0")
        frames = frames_ceiling(len(ids)) if request.max_frames is None else request.max_frames
        if not 1 <= frames <= LIMITS.frames:
            raise RequestError(f"max_frames is {frames}: give 1 to {LIMITS.frames} frames")
        return Utterance(
            text_ids=np.array(ids, np.int64),
            z=self._prior(frames, request),
            speaker=self.speaker_id(request.speaker),
            gate_threshold=request.gate_threshold,
            temperature=request.temperature,
        )

    def _prior(self, frames: int, request: Request) -> Float32:
        """z (T, M) ~ N(0, sigma^2). Row i of the noise goes to the i-th frame that the first flow computes.

        So a higher ceiling changes nothing before it, whichever way that flow runs.
        """
        sizes = self.manifest.flowtron
        rows = noise.normal((frames, sizes.n_mels), seed=request.seed, request=request.request, stream="prior")
        backward = sizes.n_flows % 2 == 0
        z: Float32 = np.float32(request.sigma) * (rows[::-1] if backward else rows)
        return z

    def _speech(self, request: Request, utterance: Utterance, decoded: Decoded) -> Speech:
        samples = self.vocode(
            decoded.mel,
            sigma=request.vocoder_sigma,
            seed=request.seed,
            request=request.request,
            denoiser=request.denoiser,
        )
        symbols = tuple(self.manifest.symbols[i] for i in utterance.text_ids)
        ended_early = len(decoded.mel) < len(utterance.z)
        return Speech(samples, self.sample_rate, decoded.mel, decoded.attention, decoded.gate, symbols, not ended_early)


def _spread(value: Any, count: int) -> Sequence[Any]:
    """One entry an utterance: a list as it is, anything else repeated."""
    return value if isinstance(value, list | tuple) else [value] * count


def _array(values: Any, dtype: type, name: str) -> Any:
    """``values`` as an array; whole numbers are demanded where ids are. Raises RequestError."""
    try:
        array = np.asarray(values)
        if dtype is np.int64 and array.dtype.kind not in "iu":
            raise RequestError(f"{name} holds {array.dtype}: give whole numbers")
        return array.astype(dtype, copy=False)
    except (TypeError, ValueError) as error:
        raise RequestError(f"{name} is not an array of numbers: {error}") from error
