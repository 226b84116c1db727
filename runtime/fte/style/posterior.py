"""Posterior evidence: the z of a recording, found by running a voice's flows from its mel back to z.

Legend: B recordings, N symbols, T frames, M mel channels, K flows. Frames are in playing order.

Each flow k gives z_k[t] = exp(log_s_k[t]) * z_(k-1)[t] + b_k[t] with z_(-1) the mel, where log_s_k[t] and b_k[t] depend
on frames before t (after t, in a backward flow) only. Its Jacobian is triangular with exp(log_s_k) on the diagonal, so
under the model's prior z ~ N(0, I) the recording's log likelihood is, by the change of variables,

    log p(mel) = sum over t, m of [log N(z[t, m]; 0, 1) + sum over k of log_s_k[t, m]].

It is given per mel value, in nats. Training with the public implementation minimises its negative without the constant
log(2 pi) / 2 = 0.919 (and with the gate's loss beside it).
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from fte.audio import HIGHEST_RATE, READ_SECONDS, mel_spectrogram, read_audio
from fte.backends.base import Array, Backend, Float32
from fte.bundle import AudioFormat, Bundle, sha256_of
from fte.constants import FFT_SIZE, HOP
from fte.decoder import Utterance, check_utterance
from fte.errors import InputError, RequestError
from fte.health import Health, judge
from fte.sound import resample
from fte.style.references import Reference, Skipped
from fte.text import SYMBOLS, TextFrontend, Transcript
from fte.vocoder import check_mel

SHORTEST_SECONDS = 0.25
"""Shortest recording without its silence: less is hardly a word."""
LONGEST_SECONDS = 30.0
"""Longest recording without its silence: voices were trained on less, and attention gets lost in more."""
_PUBLISHED = AudioFormat()
SILENT_LEVEL = 1e-3
"""A recording whose peak is below this, -60 dB of full scale, is silent."""
CLIPPED_LEVEL = 0.999
"""A sample from here on is at full scale."""
CLIPPED_PART = 1e-3
"""A recording with more than this part of its samples at full scale is clipped."""
TRIM_DB = 50.0
"""What lies this far below the loudest frame at either end is silence.

Measured on 63 recordings in the manner of RAVDESS with a voice trained on trimmed speech: less cuts words off, which
the attention then skips (in 35 recordings at 30 dB, 9 at 35 dB, 1 at 40 dB, none from 45 dB on); more keeps what the
voice never heard in training (log likelihood -0.492 at 50 dB, -0.495 at 60 dB, -0.523 at 80 dB)."""
BATCH = 8
"""Recordings in one run of the graph."""

_MAX_FILE_BYTES = 2 << 30
_LOG_TWO_PI = math.log(2 * math.pi)


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """What the flows are given of a recording."""

    mel: Float32
    """(T, M)."""
    transcript: Transcript
    speaker: int
    """Id of the voice's speaker as whom it is heard."""


@dataclass(frozen=True, eq=False)
class Posterior:
    """What the flows make of a recording."""

    z: Float32
    """(T, M)."""
    attention: tuple[Float32, ...]
    """Of each flow k: (T, N)."""
    log_likelihood: float
    """Nats per mel value."""
    mel: Float32
    """(T, M): of the recording."""
    transcript: Transcript
    speaker: int
    """Id with which z was found."""

    @cached_property
    def health(self) -> Health:
        """What the attention says about how the recording and its transcript go together."""
        return judge(self.attention, ended="given", words=self.transcript.words)

    @property
    def unaligned(self) -> str:
        """Why the recording does not seem to say its transcript, or nothing.

        Words that no flow's attention may skip or go back to tell, and attention that follows no text in any flow.
        Where it only waits or hurries (as that of voices trained for a short time does) the words are still the same.
        """
        faults = self.health.faults
        if len([fault for fault in faults if fault.kind == "unaligned"]) == len(self.attention):
            return faults[0].message
        return next((fault.message for fault in faults if fault.kind in ("skipped", "repeated")), "")


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """A reference and its posterior: what means of z are taken over."""

    reference: Reference
    posterior: Posterior
    sha256: str
    """Of the file."""

    @property
    def z(self) -> Float32:
        """(T, M)."""
        return self.posterior.z

    @property
    def speaker(self) -> int:
        """Id with which z was found."""
        return self.posterior.speaker

    @property
    def label(self) -> str | None:
        """What it was recorded as, such as an emotion."""
        return self.reference.label

    @property
    def name(self) -> str:
        """Of its file, without the folder."""
        return self.reference.path.name


@dataclass(frozen=True, slots=True, eq=False)
class Extraction:
    """What came of some references."""

    evidence: tuple[Evidence, ...]
    """In the order of the references."""
    rejected: tuple[Skipped, ...]

    @property
    def doubtful(self) -> tuple[Evidence, ...]:
        """The evidence whose attention has faults, which its health names."""
        return tuple(e for e in self.evidence if not e.posterior.health.ok)


class PosteriorExtractor:
    """Runs a bundle's posterior graph on recordings."""

    def __init__(self, bundle: Bundle, backend: Backend, frontend: TextFrontend) -> None:
        """Load the graph, in fp32 where the bundle has it.

        Raises RequestError for a voice whose mels are not those of `fte.audio.mel_spectrogram`, BundleError and
        BackendError for a graph that is not there or cannot be run.
        """
        self._manifest, self._frontend = bundle.manifest, frontend
        audio = self._manifest.audio
        if (audio.fft_size, audio.hop) != (FFT_SIZE, HOP):
            raise RequestError(
                f"the voice has mels of another kind than fte analyses, windows of {FFT_SIZE} samples with hops of "
                f"{HOP}: take a voice in the published format"
            )
        graphs = self._manifest.graphs
        self._graph = backend.open(bundle, "fp32" if "fp32" in graphs else next(iter(graphs)), "posterior")

    def posterior(
        self, samples: npt.ArrayLike, sample_rate: int, text: str, speaker: int | str = 0, *, temperature: float = 1.0
    ) -> Posterior:
        """The posterior of (n,) float samples at ``sample_rate`` Hz in which ``text`` is said.

        speaker: id or name of the voice's speaker as whom it is heard. temperature: divides the attention's scores.
        Raises RequestError for a recording or text that cannot be used; whether they go together `Posterior` says.
        """
        return self.forward([self.recording(samples, sample_rate, text, speaker)], temperature=temperature)[0]

    def extract(self, references: Iterable[Reference], *, keep_unaligned: bool = False) -> Extraction:
        """The evidence of references, and what could not be used.

        Left out are recordings that cannot be read, are silent, clipped, too short or too long, texts and speakers
        that the voice does not take, and, unless ``keep_unaligned``, recordings that do not seem to say their text.
        """
        results = list(self.stream(references, keep_unaligned=keep_unaligned))
        return Extraction(
            tuple(result for result in results if isinstance(result, Evidence)),
            tuple(result for result in results if isinstance(result, Skipped)),
        )

    def stream(self, references: Iterable[Reference], *, keep_unaligned: bool = False) -> Iterator[Evidence | Skipped]:
        """What `extract` gives, reference by reference, with no more than a batch of them in memory."""
        remaining = iter(references)
        while batch := list(itertools.islice(remaining, BATCH)):
            read = [self._read(reference) for reference in batch]
            posteriors = iter(self.forward([r[0] for r in read if not isinstance(r, Skipped)]))
            for reference, result in zip(batch, read, strict=True):
                if isinstance(result, Skipped):
                    yield result
                    continue
                posterior = next(posteriors)
                if posterior.unaligned and not keep_unaligned:
                    reason = f"it does not seem to say its transcript: {posterior.unaligned}"
                    yield Skipped(reference.path, reason)
                else:
                    yield Evidence(reference, posterior, result[1])

    def recording(self, samples: npt.ArrayLike, sample_rate: int, text: str, speaker: int | str = 0) -> Recording:
        """(n,) float samples as the flows take them: at the voice's rate, without silence at the ends, as a mel.

        Raises RequestError for a recording, text or speaker that cannot be used.
        """
        if self._manifest.symbols != SYMBOLS:
            raise RequestError("this voice was not trained with the public symbols: give `forward` symbol ids and mels")
        transcript = self._frontend.transcript(text)
        who = _speaker_id(speaker, self._manifest.speakers)
        mel = analysed(samples, sample_rate, self._manifest.flowtron.n_mels, self._manifest.audio)
        return Recording(mel, transcript, who)

    def forward(self, recordings: Sequence[Recording], *, temperature: float = 1.0) -> list[Posterior]:
        """Run the flows from mel to z, at most BATCH recordings at once; each gives what it gives alone.

        Raises RequestError for a recording that does not fit the voice or the limits.
        """
        for recording in recordings:
            check_mel(recording.mel, self._manifest.flowtron.n_mels)
            ids = np.array(recording.transcript.ids, np.int64)
            utterance = Utterance(ids, recording.mel, recording.speaker, temperature=temperature)
            check_utterance(utterance, self._manifest.flowtron)
        batches = (recordings[start : start + BATCH] for start in range(0, len(recordings), BATCH))
        return [posterior for batch in batches for posterior in self._run(batch, temperature)]

    def _read(self, reference: Reference) -> tuple[Recording, str] | Skipped:
        """A reference's recording and the SHA-256 of its file, or why there is none."""
        path = reference.path
        try:
            samples, rate = read_audio(path)
            recording = self.recording(samples, rate, reference.text, reference.speaker)
            return recording, _sha256(path)
        except RequestError as error:
            return Skipped(path, str(error))

    def _run(self, batch: Sequence[Recording], temperature: float) -> list[Posterior]:
        inputs = _inputs(batch, temperature)
        if "neighbour_mask" in self._graph.input_names:  # padding is hidden, so that a batch changes nothing
            positions = np.arange(inputs["text_ids"].shape[1])
            inputs["neighbour_mask"] = (positions < inputs["text_lengths"][:, None]).astype(np.float32)
        flows = range(self._manifest.flowtron.n_flows)
        names = ["z", *(f"{name}_{k}" for k in flows for name in ("log_s", "attention"))]
        outputs = dict(zip(names, self._graph.run(names, inputs), strict=True))
        return [_posterior(recording, outputs, row, flows) for row, recording in enumerate(batch)]


def analysed(samples: npt.ArrayLike, sample_rate: int, n_mels: int, audio: AudioFormat = _PUBLISHED) -> Float32:
    """The mel (T, n_mels) of (n,) float samples at ``sample_rate`` Hz, once they have proved to be a usable recording.

    audio: of the voice. Raises RequestError for a rate below twice its highest band or above HIGHEST_RATE, sound that
    is silent or clipped, or that without silence at its ends is shorter than SHORTEST_SECONDS or longer than
    LONGEST_SECONDS, and samples that are no floats or not finite.
    """
    values = np.asarray(samples)
    lowest = math.ceil(2 * audio.mel_fmax)
    if not (isinstance(sample_rate, int) and lowest <= sample_rate <= HIGHEST_RATE):
        raise RequestError(
            f"the recording has a sample rate of {sample_rate} Hz: give a whole number from {lowest} to {HIGHEST_RATE}"
        )
    if len(np.atleast_1d(values)) > READ_SECONDS * sample_rate:
        raise RequestError(f"the recording is longer than the limit of {READ_SECONDS} s: cut it into sentences")
    resampled = resample(values, sample_rate, audio.sample_rate)
    _check_level(np.abs(values))
    speech = resampled[speech_range(resampled)]
    seconds = len(speech) / audio.sample_rate
    if not SHORTEST_SECONDS <= seconds <= LONGEST_SECONDS:
        raise RequestError(
            f"the recording has {seconds:.2f} s of sound between its silences: "
            f"give {SHORTEST_SECONDS:g} to {LONGEST_SECONDS:g} s"
        )
    return mel_spectrogram(speech, n_mels, **audio.bands)


def _check_level(magnitudes: npt.NDArray[np.floating[Any]]) -> None:
    """Raise RequestError for sound that is silent or clipped."""
    peak = magnitudes.max(initial=0.0)
    if peak < SILENT_LEVEL:
        raise RequestError(f"the recording is silent, its peak is {peak:.1g} of full scale: record it louder")
    clipped = np.mean(magnitudes >= CLIPPED_LEVEL)
    if clipped > CLIPPED_PART:
        raise RequestError(
            f"the recording is clipped, {clipped:.1%} of its samples are at full scale: record it with less gain"
        )


def speech_range(samples: npt.ArrayLike, below_db: float = TRIM_DB) -> slice:
    """The part of (n,) samples between the silences at both ends, in whole hops.

    Kept is from the first to the last window of FFT_SIZE samples whose energy is at most ``below_db`` below that of
    the loudest; sounds shorter than a window are kept whole.
    """
    values = np.asarray(samples, np.float64)
    if len(values) < FFT_SIZE:
        return slice(0, len(values))
    energy = np.square(sliding_window_view(values, FFT_SIZE)[::HOP]).sum(axis=1)
    loud = np.flatnonzero(energy >= energy.max() * 10 ** (-below_db / 10))
    return slice(int(loud[0]) * HOP, int(loud[-1]) * HOP + FFT_SIZE)


def _inputs(batch: Sequence[Recording], temperature: float) -> dict[str, Array]:
    """The graph's inputs, padded with zeros: text (B, N), mel (B, T, M), their lengths, and no prior."""
    text_lengths = np.array([len(r.transcript.ids) for r in batch], np.int64)
    mel_lengths = np.array([len(r.mel) for r in batch], np.int64)
    ids = np.zeros((len(batch), text_lengths.max()), np.int64)
    mel = np.zeros((len(batch), mel_lengths.max(), batch[0].mel.shape[1]), np.float32)
    for row, recording in enumerate(batch):
        ids[row, : text_lengths[row]] = recording.transcript.ids
        mel[row, : mel_lengths[row]] = recording.mel
    return {
        "text_ids": ids,
        "text_lengths": text_lengths,
        "speaker_ids": np.array([r.speaker for r in batch], np.int64),
        "mel": mel,
        "mel_lengths": mel_lengths,
        "temperature": np.full((len(batch), 1), temperature, np.float32),
        "prior": np.ones((len(batch), mel.shape[1], ids.shape[1]), np.float32),
    }


def _posterior(recording: Recording, outputs: Mapping[str, Array], row: int, flows: range) -> Posterior:
    """One recording's part of the graph's outputs; copies, so that they do not hold the whole batch in memory."""
    frames, symbols = len(recording.mel), len(recording.transcript.ids)
    z = outputs["z"][row, :frames].copy()
    attention = [outputs[f"attention_{k}"][row, :frames, :symbols] for k in flows]
    log_s = np.sum([outputs[f"log_s_{k}"][row, :frames].sum(dtype=np.float64) for k in flows])
    log_prior = -0.5 * (np.square(z, dtype=np.float64).sum() + z.size * _LOG_TWO_PI)
    return Posterior(
        z=z,
        attention=tuple((rows[::-1] if k % 2 else rows).copy() for k, rows in enumerate(attention)),
        log_likelihood=float(log_prior + log_s) / z.size,
        mel=recording.mel,
        transcript=recording.transcript,
        speaker=recording.speaker,
    )


def _speaker_id(speaker: int | str, names: Sequence[str]) -> int:
    """The id of a speaker given by id or name. Raises RequestError."""
    if isinstance(speaker, str):
        if speaker not in names:
            shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
            raise RequestError(f"speaker {speaker!r} is unknown: this voice has {shown}")
        return names.index(speaker)
    if not 0 <= speaker < len(names):
        raise RequestError(f"speaker {speaker} is unknown: this voice has ids 0 to {len(names) - 1}")
    return speaker


def _sha256(path: Path) -> str:
    """SHA-256 of a sound file. Raises RequestError."""
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise InputError(f"{path} is larger than {_MAX_FILE_BYTES} bytes, which no recording of this length is")
        return sha256_of(path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
