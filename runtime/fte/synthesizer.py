"""The facade: load a voice, speak.

>>> from fte import Synthesizer
>>> voice = Synthesizer.load("voices/ljs")  # doctest: +SKIP
>>> speech = voice.synthesize("Hello there.", seed=7)  # doctest: +SKIP
>>> speech.samples, speech.sample_rate  # doctest: +SKIP
"""

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, overload

import numpy as np

from fte import checks
from fte.audio import denoise, griffin_lim
from fte.backends import Backend, open_backend
from fte.backends.base import Array, Float32
from fte.bundle import Bundle, Manifest
from fte.constants import LIMITS
from fte.decoder import COLDEST, HOTTEST, Decoded, Utterance
from fte.errors import RequestError
from fte.installed import voice_path
from fte.noise import SEED_LIMIT
from fte.renderer import PlannedSpan, Renderer
from fte.speech import MAX_DENOISER, VOCODER_SIGMA, Request, Speech, SpokenSpan
from fte.stream import SpeechStream
from fte.style.library import find_style
from fte.style.posterior import Posterior, PosteriorExtractor
from fte.style.ramps import Ramp
from fte.style.style import MAX_SIGMA, Style
from fte.takes import Choice
from fte.text import TextFrontend, Transcript
from fte.vocoder import CHUNK_FRAMES, OVERLAP_FRAMES, Vocoder, check_mel, given_noise


class Synthesizer:
    """A loaded voice. Make one with `Synthesizer.load`; it may be used from several threads at once."""

    @checks.arguments(
        bundle=checks.kind(Bundle), precision=checks.text, frontend=checks.optional(checks.kind(TextFrontend))
    )
    def __init__(self, bundle: Bundle, backend: Backend, precision: str, frontend: TextFrontend | None = None) -> None:
        if not hasattr(backend, "open"):
            raise checks.refuse(backend, "backend", "what `fte.backends.open_backend` gives")
        self.bundle, self.backend, self.precision = bundle, backend, precision
        self.manifest: Manifest = bundle.manifest
        self.sample_rate, self.hop = self.manifest.audio.sample_rate, self.manifest.audio.hop
        options = self.manifest.text
        self.frontend = frontend or TextFrontend(options.arpabet, options.keep_ambiguous, lowercase=options.lowercase)
        self._renderer = Renderer(bundle, backend, precision, self.frontend)
        self.decoder = self._renderer.decoder

    @classmethod
    @checks.arguments(
        device=checks.text,
        precision=checks.text,
        threads=checks.optional(checks.integer),
        backend=checks.text,
        trust_engines=checks.optional(checks.path),
        lexicon=checks.optional(checks.mapping(checks.text, checks.text)),
        guess_unknown=checks.flag,
    )
    def load(
        cls,
        path: Path | str,
        device: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        *,
        backend: str = "auto",
        trust_engines: Path | str | None = None,
        lexicon: Mapping[str, str] | None = None,
        guess_unknown: bool = False,
    ) -> "Synthesizer":
        """Open the voice bundle at ``path``, or the voice of a name that `fte.installed` knows, such as "tiny".

        All files that speaking will open are compared with what was exported, so that no request finds a fault later.
        device: "cpu", "cuda" or "auto". precision: one of the bundle's, or "auto": int8 on a CPU and fp16 on a GPU
        where the bundle has it, else fp32. threads: of the backend; None takes every core. backend and trust_engines:
        see `fte.backends.open_backend`. `description` says what was taken.
        lexicon: pronunciations that go before the dictionary's (`fte.text.read_lexicon`); guess_unknown: words outside
        both as guessed ARPAbet instead of letters.
        Raises BundleError, BackendError, and RequestError for arguments of another kind.
        """
        bundle = Bundle.open(voice_path(path))
        engines = None if trust_engines is None else Path(trust_engines)
        opened = open_backend(bundle, backend, device, threads, trust_engines=engines)
        known = list(bundle.manifest.graphs)
        if precision == "auto":
            preferred = ["int8", "fp32"] if opened.device == "cpu" else ["fp16", "bf16", "fp32"]
            precision = next((p for p in preferred if p in known), known[0])
        options = bundle.manifest.text
        frontend = TextFrontend(
            options.arpabet,
            options.keep_ambiguous,
            lexicon=lexicon or {},
            guess_unknown=guess_unknown,
            lowercase=options.lowercase,
        )
        opened.check(bundle, precision)
        synthesizer = cls(bundle, opened, precision, frontend)
        synthesizer.decoder.load()
        return synthesizer

    @property
    def description(self) -> str:
        """Voice, precision and backend in words."""
        vocoder = "" if self.has_vocoder else ", vocoded by Griffin-Lim"
        return f"{self.manifest.name} in {self.precision} through {self.backend.description}{vocoder}"

    @property
    def vocoder(self) -> Vocoder:
        """The bundle's WaveGlow, loaded on first use. Raises BundleError where there is none."""
        return self._renderer.vocoder

    @property
    def has_vocoder(self) -> bool:
        """Whether the bundle has a WaveGlow; without one, speech goes through Griffin-Lim."""
        return self._renderer.has_vocoder

    def speaker_id(self, speaker: int | str) -> int:
        """The id of a speaker given by id, name or an id in digits. Raises RequestError naming those there are."""
        return self._renderer.speaker_id(speaker)

    def transcript(self, text: str) -> Transcript:
        """Symbols, ids and words of a text spoken in one go. Raises RequestError as `text_ids` does."""
        return self._renderer.transcript(text)

    def text_ids(self, text: str) -> list[int]:
        """Symbol ids of a text. Raises RequestError where the text is empty, too long or malformed."""
        return list(self.transcript(text).ids)

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
        per_utterance: dict[str, Any] = {
            "text_ids": text_ids,
            "z": z,
            "speaker": _spread(speaker, count),
            "gate_threshold": _spread(gate_threshold, count),
            "temperature": _spread(temperature, count),
            "attention": attention if attention is not None else [None] * count,
            "attention_prior": attention_prior if attention_prior is not None else [None] * count,
        }
        for name, values in per_utterance.items():
            if not _is_list(values):
                raise checks.refuse(values, name, "a list with an entry for each utterance")
            if len(values) != count:
                raise RequestError(f"{name} has {len(values)} entries and z has {count}: give one for each utterance")
        utterances = [
            Utterance(
                text_ids=_array(ids, np.int64, "text_ids"),
                z=_array(rows, np.float32, "z"),
                speaker=self.speaker_id(who),
                gate_threshold=checks.number(threshold, "gate_threshold", 0, float("inf")),
                temperature=checks.number(divisor, "temperature", COLDEST, HOTTEST),
                attention=None if imposed is None else _arrays(imposed, "attention"),
                attention_prior=None if prior is None else _array(prior, np.float32, "attention_prior"),
            )
            for ids, rows, who, threshold, divisor, imposed, prior in zip(*per_utterance.values(), strict=True)
        ]
        decoded = self.decoder.decode(utterances)
        return decoded if batch else decoded[0]

    @checks.arguments(
        samples=checks.floats(1),
        sample_rate=checks.integer,
        text=checks.text,
        temperature=checks.within(COLDEST, HOTTEST),
    )
    def posterior(
        self, samples: Array, sample_rate: int, text: str, speaker: int | str = 0, *, temperature: float = 1.0
    ) -> Posterior:
        """z, attention and log likelihood of a recording, (n,) floats at ``sample_rate`` Hz, in which ``text`` is said.

        Speaking with its z as it is gives the recording's mel back. `fte.style.means` makes styles of several.
        Raises RequestError for a recording or text that cannot be used.
        """
        who = self.speaker_id(speaker)
        return self.extractor.posterior(samples, int(sample_rate), text, who, temperature=temperature)

    @cached_property
    def extractor(self) -> PosteriorExtractor:
        """What finds z of recordings, loaded on first use. Raises RequestError where the voice has mels of its own."""
        return PosteriorExtractor(self.bundle, self.backend, self.frontend)

    @checks.arguments(
        mel=checks.floats(),
        sigma=checks.within(0, MAX_SIGMA),
        seed=checks.wholes(0, SEED_LIMIT - 1),
        request=checks.wholes(0, SEED_LIMIT - 1),
        noise=checks.optional(checks.floats()),
        denoiser=checks.within(0, MAX_DENOISER),
        chunk=checks.integer,
        overlap=checks.integer,
    )
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
        Raises RequestError for a mel or an option that is out of its bounds.
        """
        mel = _array(mel, np.float32, "mel")
        check_mel(mel, self.manifest.flowtron.n_mels)
        if not self.has_vocoder:
            return griffin_lim(mel, seed=seed, **self.manifest.audio.bands)
        vocoder = self.vocoder
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

    # --- speaking ---

    def style(self, name: str | Path) -> Style:
        """One of the voice's own styles by name, a mix such as "happy:0.7,sad:0.3", or the style of a file.

        Raises RequestError for names there are not, and files that are no style of this voice.
        """
        if not isinstance(name, str):
            name = checks.path(name, "style")
        return find_style(name, self.bundle.path, self.bundle.voice_hash)

    def resolved(self, request: Request | str) -> Request:
        """The request with the styles that it names; a text as a request. Raises RequestError as `style` does."""
        if not isinstance(request, str | Request):
            raise RequestError(f"a {type(request).__name__} was given to be spoken: give a text or a Request")
        asked = Request(request) if isinstance(request, str) else request
        if isinstance(asked.style, Ramp):
            ramp = asked.style.resolved(self.style)
            return asked if ramp is asked.style else dataclasses.replace(asked, style=ramp)
        if isinstance(asked.style, str | os.PathLike):
            return dataclasses.replace(asked, style=self.style(asked.style))
        return asked

    def plan(self, request: Request | str) -> list[PlannedSpan]:
        """The spans in which a request will be spoken. Raises RequestError for a request that cannot be spoken."""
        return list(self._renderer.plan(self.resolved(request)))

    @checks.arguments(skip_spans=checks.wholes(0, SEED_LIMIT - 1), start_frame=checks.wholes(0, SEED_LIMIT - 1))
    def stream(
        self, request: Request | str, /, *, skip_spans: int = 0, start_frame: int = 0, **options: Any
    ) -> SpeechStream:
        """Speak a text while it is being computed: an iterator of `Chunk`, whose samples joined are the whole speech.

        The decoder runs in a thread ahead of the vocoder. options are the fields of `Request` when a text is given.
        skip_spans and start_frame go on with a speech that was broken off: spans already spoken and frames they took.
        Raises RequestError for a request that cannot be spoken: mostly here, at the latest when its span is reached.
        """
        asked = self.resolved(Request(request, **options) if isinstance(request, str) else request)
        plan = self._renderer.plan(asked)
        first = next(plan)  # so that the common faults show before a thread is started
        rest = (planned for planned in chain([first], plan) if planned.index >= skip_spans)
        return SpeechStream(self._renderer, asked, rest, start_frame)

    def synthesize(self, text: str, **options: Any) -> Speech:
        """Speak one text; options are the fields of `Request`. Raises RequestError."""
        with self.stream(text, **options) as stream:
            chunks = list(stream)
        samples = np.concatenate([chunk.samples for chunk in chunks])
        return Speech(samples, self.sample_rate, tuple(chunk.span for chunk in chunks if chunk.span is not None))

    def synthesize_batch(self, requests: Iterable[Request | str]) -> list[Speech]:
        """Speak several texts, decoded together; each sounds as it would alone.

        Raises RequestError for the first request that cannot be spoken, before anything is computed.
        """
        if isinstance(requests, str | bytes | np.ndarray) or not isinstance(requests, Iterable):
            raise checks.refuse(requests, "requests", "a list of texts and Requests")
        asked = [self.resolved(request) for request in requests]
        plans = [list(self._renderer.plan(request)) for request in asked]
        choices = [
            [Choice[Decoded](request, planned.span, planned.index) for planned in plan]
            for request, plan in zip(asked, plans, strict=True)
        ]
        while self._try_once(asked, choices):
            pass
        return [self._speech(*parts) for parts in zip(asked, plans, choices, strict=True)]

    def _try_once(self, asked: Sequence[Request], choices: Sequence[Sequence[Choice[Decoded]]]) -> bool:
        """Decode the next attempt at every span that is not settled, together; say whether there was any."""
        voice = self._renderer
        tried = [
            (place, choice, take) for place, row in enumerate(choices) for choice in row if (take := choice.next())
        ]
        pieces = [
            (place, voice.utterance(asked[place], take, piece)) for place, _, take in tried for piece in take.pieces
        ]
        decoded = iter(self._decoded(pieces))
        for _, choice, take in tried:
            results = [next(decoded) for _ in take.pieces]
            heard = zip(take.pieces, results, strict=True)
            choice.judged(take, results, [voice.verdict(p, d.attention, d.ended) for p, d in heard])
        return bool(tried)

    def _decoded(self, pieces: Sequence[tuple[int, Utterance]]) -> list[Decoded]:
        """Decode utterances, each of the request of a number; as many at once as leave a request what it is streamed.

        A stream decodes its utterances one by one. On a backend that is not exact in company, those of one request
        therefore take turns, and whole it equals itself streamed; those of different requests share a batch.
        """
        turns: dict[int, list[int]] = {}
        seen: Counter[int] = Counter()
        for index, (request, _) in enumerate(pieces):
            turns.setdefault(0 if self.backend.exact_in_company else seen[request], []).append(index)
            seen[request] += 1
        found: dict[int, Decoded] = {}
        for turn in turns.values():
            for start in range(0, len(turn), LIMITS.batch):
                batch = turn[start : start + LIMITS.batch]
                found.update(zip(batch, self.decoder.decode([pieces[i][1] for i in batch]), strict=True))
        return [found[index] for index in range(len(pieces))]

    def _speech(self, request: Request, plan: Sequence[PlannedSpan], choices: Sequence[Choice[Decoded]]) -> Speech:
        """Vocode what was decoded, as a stream does."""
        voice = self._renderer
        spans: list[SpokenSpan] = []
        samples: list[Float32] = []
        frame = 0
        for planned, choice in zip(plan, choices, strict=True):
            take, decoded = choice.best
            for piece, result in zip(take.pieces, decoded, strict=True):
                spans.append(voice.spoken(request, planned, choice.attempts, take, piece, result, frame))
                samples += voice.sound([result.mel], request, take.seed, piece.part, planned.index == 0)
                samples.append(voice.silence(spans[-1].pause_frames))
                frame = spans[-1].stop_frame
        return Speech(np.concatenate(samples), self.sample_rate, tuple(spans))


def _spread(value: Any, count: int) -> Sequence[Any]:
    """One entry an utterance: a list as it is, anything else repeated."""
    return value if isinstance(value, list | tuple) else [value] * count


def _is_list(values: object) -> bool:
    return isinstance(values, list | tuple) or (isinstance(values, np.ndarray) and values.ndim > 0)


def _array(values: Any, dtype: type, name: str) -> Any:
    """``values`` as an array; whole numbers are demanded where ids are. Raises RequestError."""
    try:
        array = np.asarray(values)
        if dtype is np.int64 and array.dtype.kind not in "iu":
            raise RequestError(f"{name} holds {array.dtype}: give whole numbers")
        if array.dtype.kind not in "fiu":
            raise RequestError(f"{name} is not an array of numbers but {array.dtype} of shape {array.shape}")
        with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, which is refused
            return array.astype(dtype, copy=False)
    except (TypeError, ValueError, OverflowError) as error:
        raise RequestError(f"{name} is not an array of numbers: {error}") from error


def _arrays(values: Any, name: str) -> tuple[Float32, ...]:
    """A list or an array of float arrays, one for each flow."""
    if not _is_list(values):
        raise checks.refuse(values, name, "a list with an array for each flow")
    return tuple(_array(rows, np.float32, name) for rows in values)
