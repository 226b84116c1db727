"""Concurrent streams in closed loops: the protocol of NVIDIA Riva's published text-to-speech figures.

N streams run in parallel; each speaks ten fixed sentences round after round, and asks for the next when it has all of
the last (docs.nvidia.com, Riva text-to-speech, "Performance").
"""

import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from fte.bench.machine import peak_mb, reset_peak
from fte.bench.measure import fixed_request
from fte.bench.options import SENTENCES, BenchOptions
from fte.synthesizer import Synthesizer


@dataclass(frozen=True, slots=True)
class Distribution:
    """Percentiles of times in milliseconds, interpolated linearly between neighbours."""

    count: int
    p50: float
    p90: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Distribution | None":
        """Of at least one time; None of no times."""
        if not seconds:
            return None
        values = [float(v) for v in 1e3 * np.percentile(seconds, [50, 90, 95, 99, 100])]
        return cls(len(seconds), *values)


@dataclass(frozen=True, slots=True)
class Starvation:
    """How a player fared that began with the first chunk and ran at real time."""

    underruns: int
    """How often it had nothing to play before the end."""
    seconds: float
    """How long, together."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One request of a stream; arrivals in seconds after it was made."""

    arrivals: tuple[float, ...]
    """Of each chunk that has samples; the first one is the time to first audio."""
    durations: tuple[float, ...]
    """Seconds of audio in each."""

    @property
    def gaps(self) -> list[float]:
        """Seconds between successive chunks."""
        return [b - a for a, b in zip(self.arrivals, self.arrivals[1:], strict=False)]


@dataclass(frozen=True, slots=True)
class StreamRow:
    """One number of concurrent streams."""

    streams: int
    requests: int
    audio_seconds: float
    """Made by all streams together."""
    wall_seconds: float
    rtfx: float
    """Throughput: audio over wall time."""
    first_audio_ms: Distribution
    gap_ms: Distribution | None
    """Between successive chunks of a request; None where every request is one chunk."""
    underruns: int
    starved_requests: int
    """Requests with at least one underrun."""
    starved_seconds: float
    peak_mb: float | None
    """Largest resident memory of the process meanwhile, MB."""


def measure_streams(synthesizer: Synthesizer, options: BenchOptions, streams: int) -> StreamRow:
    """Run ``streams`` closed loops to their end; one sentence of each is spoken before and not counted."""
    reset_peak()
    stop = threading.Event()
    ready = threading.Barrier(streams)

    def loop(stream: int, count: int) -> list[Heard]:
        ready.wait()  # so that each loop has a thread of its own from the first sentence on
        heard: list[Heard] = []
        try:
            while len(heard) < count and not stop.is_set():
                number = len(heard)
                text = SENTENCES[(stream + number) % len(SENTENCES)]  # not all the same at once
                heard.append(listen(synthesizer, text, options.sentence_frames, stream * count + number))
        except BaseException:
            stop.set()  # the other loops end with their sentence
            raise
        return heard

    def run(count: int) -> list[Heard]:
        loops = [pool.submit(loop, stream, count) for stream in range(streams)]
        return [heard for done in loops for heard in done.result()]

    with ThreadPoolExecutor(streams) as pool:
        try:
            run(1)
            started = time.perf_counter()
            heard = run(options.rounds * len(SENTENCES))
            wall = time.perf_counter() - started
        except BaseException:  # the user's interruption
            stop.set()
            raise
    return summarize(streams, heard, wall)


def listen(synthesizer: Synthesizer, text: str, frames: int, number: int) -> Heard:
    """Speak one sentence and note when its chunks come."""
    arrivals, durations = [], []
    started = time.perf_counter()
    with synthesizer.stream(fixed_request(text, frames, number)) as chunks:
        for chunk in chunks:
            if len(chunk.samples):  # that which ends an utterance may have none
                arrivals.append(time.perf_counter() - started)
                durations.append(len(chunk.samples) / chunk.sample_rate)
    return Heard(tuple(arrivals), tuple(durations))


def summarize(streams: int, heard: Sequence[Heard], wall_seconds: float) -> StreamRow:
    """The figures of all requests of one measurement."""
    first = Distribution.of([h.arrivals[0] for h in heard])
    assert first is not None
    starved = [starvation(h.arrivals, h.durations) for h in heard]
    audio = sum(sum(h.durations) for h in heard)
    return StreamRow(
        streams=streams,
        requests=len(heard),
        audio_seconds=audio,
        wall_seconds=wall_seconds,
        rtfx=audio / wall_seconds,
        first_audio_ms=first,
        gap_ms=Distribution.of([gap for h in heard for gap in h.gaps]),
        underruns=sum(s.underruns for s in starved),
        starved_requests=sum(s.underruns > 0 for s in starved),
        starved_seconds=sum(s.seconds for s in starved),
        peak_mb=peak_mb(),
    )


def starvation(arrivals: Iterable[float], durations: Iterable[float]) -> Starvation:
    """Play chunks at real time from the arrival of the first one; arrivals and durations in seconds."""
    underruns, seconds = 0, 0.0
    played = None  # when what has come will have been played
    for arrival, duration in zip(arrivals, durations, strict=True):
        if played is None:
            played = arrival
        elif arrival > played:
            underruns += 1
            seconds += arrival - played
            played = arrival
        played += duration
    return Starvation(underruns, seconds)
