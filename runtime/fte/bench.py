"""Measures a voice on this machine: decoding and vocoding apart, batch 1 to N.

RTF is compute time over audio time; RTFX is its inverse: how many times faster than real time.
"""

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

import fte
from fte import noise
from fte.constants import LIMITS
from fte.decoder import NEVER, Utterance
from fte.errors import RequestError
from fte.synthesizer import PRIOR_SIGMA, Synthesizer


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What is measured."""

    batch: int = 8
    """Largest batch."""
    frames: int = 200
    """Mel frames of each utterance; the gate is ignored."""
    symbols: int = 80
    """Symbols of each text."""
    repeats: int = 3
    """Repetitions after one that warms up; medians are reported."""

    def check(self) -> None:
        """Raise RequestError where a number is out of range."""
        ranges = {"batch": LIMITS.batch, "frames": LIMITS.frames, "symbols": LIMITS.symbols, "repeats": 1000}
        for name, most in ranges.items():
            if not 1 <= getattr(self, name) <= most:
                raise RequestError(f"{name} is {getattr(self, name)}: give 1 to {most}")


def batch_sizes(largest: int) -> list[int]:
    """Powers of two up to ``largest``, and ``largest`` itself."""
    sizes = [1 << i for i in range(largest.bit_length()) if 1 << i < largest]
    return [*sizes, largest]


def measure(synthesizer: Synthesizer, options: BenchOptions) -> dict[str, Any]:
    """Run the measurement; the report is ready for JSON. Times in ms a frame, memory in MB."""
    options.check()
    frame_seconds = synthesizer.manifest.audio.hop / synthesizer.sample_rate
    utterances = [_utterance(synthesizer, options, i) for i in range(options.batch)]
    decode = []
    for size in batch_sizes(options.batch):
        mels = synthesizer.decoder.decode(utterances[:size])
        seconds = _median_seconds(lambda n=size: synthesizer.decoder.decode(utterances[:n]), options.repeats)  # type: ignore[misc]
        frames = size * options.frames
        decode.append(
            {
                "batch": size,
                "ms_per_step": 1e3 * seconds / options.frames,
                "ms_per_frame": 1e3 * seconds / frames,
                "frames_per_second": frames / seconds,
                "rtfx": frames * frame_seconds / seconds,
                "resident_mb": resident_mb(),
            }
        )
    report: dict[str, Any] = {
        "fte": fte.__version__,
        "voice": synthesizer.manifest.name,
        "precision": synthesizer.precision,
        "backend": synthesizer.backend.description,
        "machine": _machine(),
        "options": asdict(options),
        "decode": decode,
        "vocoder": None,
    }
    if synthesizer.has_vocoder:
        report["vocoder"] = _measure_vocoder(synthesizer, mels[0].mel, options, frame_seconds)
    return report


def _measure_vocoder(synthesizer: Synthesizer, mel: Any, options: BenchOptions, frame_seconds: float) -> dict[str, Any]:
    synthesizer.vocode(mel[:8])
    seconds = _median_seconds(lambda: synthesizer.vocode(mel), options.repeats)
    return {
        "frames": len(mel),
        "ms_per_frame": 1e3 * seconds / len(mel),
        "rtfx": len(mel) * frame_seconds / seconds,
        "resident_mb": resident_mb(),
    }


def _utterance(synthesizer: Synthesizer, options: BenchOptions, index: int) -> Utterance:
    sizes = synthesizer.manifest.flowtron
    random = np.random.Generator(np.random.Philox(index))
    z = noise.normal((options.frames, sizes.n_mels), seed=index, request=0, stream="prior")
    ids = random.integers(0, sizes.n_text, options.symbols)
    return Utterance(ids, np.float32(PRIOR_SIGMA) * z, speaker=index % sizes.n_speakers, gate_threshold=NEVER)


def _median_seconds(call: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def resident_mb() -> float:
    """Resident memory of this process now, MB."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:  # not Linux
        return float("nan")


def _machine() -> dict[str, Any]:
    return {
        "system": platform.platform(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
    except OSError:
        return platform.processor() or "unknown"


def render(report: dict[str, Any]) -> Group:
    """The report as tables for people."""
    decode = Table(title="Decoder (text and z to mel)")
    for heading in ("batch", "ms a step", "ms a frame", "frames/s", "RTFX", "resident MB"):
        decode.add_column(heading, justify="right")
    for row in report["decode"]:
        decode.add_row(
            str(row["batch"]),
            f"{row['ms_per_step']:.3f}",
            f"{row['ms_per_frame']:.3f}",
            f"{row['frames_per_second']:.0f}",
            f"{row['rtfx']:.2f}",
            f"{row['resident_mb']:.0f}",
        )
    heading = f"{report['voice']} in {report['precision']}, {report['backend']}, {report['machine']['cpu']}"
    parts: list[Any] = [Text(heading), decode]
    if report["vocoder"]:
        vocoder = Table(title="Vocoder (mel to samples, one utterance)")
        for name in ("frames", "ms a frame", "RTFX", "resident MB"):
            vocoder.add_column(name, justify="right")
        v = report["vocoder"]
        vocoder.add_row(str(v["frames"]), f"{v['ms_per_frame']:.3f}", f"{v['rtfx']:.2f}", f"{v['resident_mb']:.0f}")
        parts.append(vocoder)
    return Group(*parts)
