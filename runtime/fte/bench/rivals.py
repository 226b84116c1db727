"""Others that compute the same models, measured beside the backends."""

from collections.abc import Callable, Iterator
from typing import Protocol

from fte.bench.ceiling import Ceiling, Work
from fte.bench.machine import reset_peak
from fte.bench.measure import BatchRow, VocoderRow, batch_row, median_seconds, vocoder_row
from fte.bench.options import BenchOptions, batch_sizes


class Rival(Protocol):
    """Something that computes models of a voice's sizes; its weights may be its own."""

    description: str
    precision: str

    def decoding(self, batch: int, frames: int, symbols: int) -> Callable[[], None]:
        """A call that decodes ``batch`` texts of so many symbols to so many frames of mel, and waits for them."""
        ...

    def vocoding(self, frames: int) -> Callable[[], None]:
        """A call that makes the samples of a mel of ``frames`` frames, and waits for them."""
        ...


def measure_rival_batches(
    rival: Rival, options: BenchOptions, frame_seconds: float, work: Work, ceiling: Ceiling | None
) -> Iterator[BatchRow]:
    """Measure the batches one after the other."""
    for size in batch_sizes(options.batch):
        reset_peak()
        decode = rival.decoding(size, options.frames, options.symbols)
        decode()  # makes room, and chooses kernels
        step = median_seconds(decode, options.repeats) / options.frames
        yield batch_row(size, step, frame_seconds, work, ceiling)


def measure_rival_vocoder(
    rival: Rival, options: BenchOptions, frame_seconds: float, ceiling: Ceiling | None
) -> VocoderRow:
    """Measure its vocoder."""
    reset_peak()
    vocode = rival.vocoding(options.frames)
    vocode()
    return vocoder_row(options.frames, median_seconds(vocode, options.repeats), frame_seconds, ceiling)
