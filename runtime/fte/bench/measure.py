"""Decoder, vocoder and both together, for batches of 1 to N."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from fte import noise
from fte.bench.ceiling import Ceiling, Work
from fte.bench.machine import peak_mb, reset_peak
from fte.bench.options import SENTENCES, BenchOptions, batch_sizes
from fte.constants import LIMITS
from fte.decoder import NEVER, Utterance
from fte.speech import PRIOR_SIGMA, Request
from fte.synthesizer import Synthesizer


@dataclass(frozen=True, slots=True)
class BatchRow:
    """One size of batch. RTFX: seconds of audio made in a second."""

    batch: int
    ms_per_step: float
    """For a frame of every utterance."""
    ms_per_frame: float
    frames_per_second: float
    rtfx: float
    """Of the decoder alone."""
    ceiling_ms_per_frame: float | None
    """None where no ceiling was measured, as all that follows from it."""
    ceiling_fraction: float | None
    """Ceiling over measured time: 1 is all that the machine allows."""
    bound: str | None
    """What bounds it: "reading" or "multiplying"."""
    end_to_end_rtfx: float | None
    """Text to samples; None for a rival, which has no text."""
    peak_mb: float | None
    """Largest resident memory of the process meanwhile, MB."""
    launches_per_step: float | None = None
    """What the host enqueues on a device for a frame of the batch; None where the backend does not count."""
    device_mb: float | None = None
    """Memory of the device in use afterwards, by all processes, MB."""


@dataclass(frozen=True, slots=True)
class VocoderRow:
    """The vocoder on the mel of one utterance."""

    frames: int
    ms_per_frame: float
    rtfx: float
    ceiling_rtfx: float | None
    ceiling_fraction: float | None
    """Measured over ceiling."""
    peak_mb: float | None


def measure_batches(
    synthesizer: Synthesizer, options: BenchOptions, work: Work, ceiling: Ceiling | None
) -> Iterator[BatchRow]:
    """Measure the batches one after the other."""
    frame_seconds = synthesizer.hop / synthesizer.sample_rate
    synthesizer.synthesize_batch([_request(options, 0)])  # loads the vocoder
    for size in batch_sizes(options.batch):
        reset_peak()
        utterances = [_utterance(synthesizer, options, i) for i in range(size)]
        requests = [_request(options, i) for i in range(size)]
        synthesizer.decoder.decode(utterances)  # makes room for a batch of this size
        launches = _launches(synthesizer, utterances)
        step = median_seconds(partial(synthesizer.decoder.decode, utterances), options.repeats) / options.frames
        whole = median_seconds(partial(synthesizer.synthesize_batch, requests), options.repeats)
        usage = synthesizer.backend.usage()
        yield dataclasses.replace(
            batch_row(size, step, frame_seconds, work, ceiling),
            end_to_end_rtfx=size * options.frames * frame_seconds / whole,
            launches_per_step=None if launches is None else launches / options.frames,
            device_mb=None if usage is None else usage.memory_mb,
        )


def batch_row(size: int, step: float, frame_seconds: float, work: Work, ceiling: Ceiling | None) -> BatchRow:
    """What follows from the ``step`` seconds that a frame of ``size`` utterances takes."""
    floor = None if ceiling is None else ceiling.step_seconds(work, size)
    return BatchRow(
        batch=size,
        ms_per_step=1e3 * step,
        ms_per_frame=1e3 * step / size,
        frames_per_second=size / step,
        rtfx=size * frame_seconds / step,
        ceiling_ms_per_frame=None if floor is None else 1e3 * floor / size,
        ceiling_fraction=None if floor is None else floor / step,
        bound=None if ceiling is None else ceiling.bound(work, size),
        end_to_end_rtfx=None,
        peak_mb=peak_mb(),
    )


def _launches(synthesizer: Synthesizer, utterances: list[Utterance]) -> int | None:
    """What one decoding of the utterances enqueues on the device; None where the backend does not count."""
    before = synthesizer.backend.usage()
    synthesizer.decoder.decode(utterances)
    after = synthesizer.backend.usage()
    return None if before is None or after is None else after.launches - before.launches


def measure_vocoder(synthesizer: Synthesizer, options: BenchOptions, ceiling: Ceiling | None) -> VocoderRow:
    """Measure the vocoder of a voice that has one."""
    reset_peak()
    mel = synthesizer.decoder.decode([_utterance(synthesizer, options, 0)])[0].mel
    synthesizer.vocode(mel)
    seconds = median_seconds(lambda: synthesizer.vocode(mel), options.repeats)
    return vocoder_row(options.frames, seconds, synthesizer.hop / synthesizer.sample_rate, ceiling)


def vocoder_row(frames: int, seconds: float, frame_seconds: float, ceiling: Ceiling | None) -> VocoderRow:
    """What follows from the ``seconds`` that vocoding so many ``frames`` takes."""
    rtfx = frames * frame_seconds / seconds
    best = None if ceiling is None else ceiling.vocoder_rtfx
    return VocoderRow(
        frames=frames,
        ms_per_frame=1e3 * seconds / frames,
        rtfx=rtfx,
        ceiling_rtfx=best,
        ceiling_fraction=None if best is None else rtfx / best,
        peak_mb=peak_mb(),
    )


def _utterance(synthesizer: Synthesizer, options: BenchOptions, index: int) -> Utterance:
    """Random symbols and z, whose gate is never obeyed."""
    sizes = synthesizer.manifest.flowtron
    random = np.random.Generator(np.random.Philox(index))
    ids = random.integers(0, sizes.n_text, options.symbols)
    z = noise.normal((options.frames, sizes.n_mels), seed=index, request=0, stream="prior")
    return Utterance(ids, np.float32(PRIOR_SIGMA) * z, speaker=index % sizes.n_speakers, gate_threshold=NEVER)


def _request(options: BenchOptions, index: int) -> Request:
    return fixed_request(SENTENCES[index % len(SENTENCES)], options.frames, index)


def fixed_request(text: str, frames: int, number: int) -> Request:
    """A request spoken as one utterance of exactly ``frames`` mel frames."""
    return Request(
        text,
        request=number,
        gate_threshold=NEVER,
        stop_with_attention=False,
        max_frames=frames,
        span_symbols=LIMITS.symbols,
        retries=0,
    )


def median_seconds(call: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)
