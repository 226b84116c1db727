"""The whole measurement, as one JSON document and as tables for people."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

import fte
from fte.backends import Backend, OnnxRuntimeBackend
from fte.backends.native import NativeBackend
from fte.bench.ceiling import Ceiling, Work, measure_ceiling, work_of
from fte.bench.machine import machine
from fte.bench.measure import BatchRow, VocoderRow, fixed_request, measure_batches, measure_vocoder
from fte.bench.options import SENTENCES, BenchOptions
from fte.bench.rivals import Rival, measure_rival_batches, measure_rival_vocoder
from fte.bench.streams import StreamRow, measure_streams
from fte.constants import LIMITS
from fte.synthesizer import Synthesizer

SCHEMA = "fte-bench"
VERSION = 1

Report = dict[str, Any]
"""What JSON can hold: see docs/bench.md."""


Show = Callable[[RenderableType], None]
"""Takes a table, or a line of text, for people."""


def run_bench(
    synthesizer: Synthesizer,
    options: BenchOptions,
    show: Show = lambda _: None,
    *,
    others: Sequence[Synthesizer] = (),
    rivals: Sequence[Rival] = (),
    skipped: Mapping[str, str] = MappingProxyType({}),
) -> Report:
    """Measure a voice; ``show`` gets each table as it is known, the machine's ceiling before the voice is timed.

    others: the same voice through other backends; rivals: others that compute models of its sizes; skipped: backends
    that were asked for, and why they are not measured. Times in ms, memory in MB (1e6 bytes).
    Raises RequestError for options out of range, a precision without a ceiling and a voice of other symbols than the
    public ones.
    """
    options.check()
    manifest = synthesizer.manifest
    work = work_of(manifest, synthesizer.precision)
    for sentence in SENTENCES:
        synthesizer.plan(fixed_request(sentence, LIMITS.frames, 0))  # refuses a voice that cannot read them
    report: Report = {
        "schema": SCHEMA,
        "version": VERSION,
        "fte": fte.__version__,
        "voice": manifest.name,
        "machine": machine(),
        "options": asdict(options) | {"streams": list(options.streams)},
        "work": asdict(work),
        "skipped": dict(skipped),
    }
    show(Text(f"{synthesizer.description}; {report['machine']['cpu']}"))
    for name, reason in skipped.items():
        show(Text(f"{name} is left out: {reason}"))
    ceilings: dict[str, Ceiling | None] = {}
    measured = [_measure_backend(voice, options, ceilings, show) for voice in (synthesizer, *others)]
    frame_seconds = synthesizer.hop / synthesizer.sample_rate
    for rival in rivals:
        ceiling = ceilings.get(rival.precision)
        same_work = work if ceiling is None else work_of(manifest, rival.precision)
        measured.append(_measure_rival(rival, options, frame_seconds, same_work, ceiling, show))
    return report | {"backends": measured}


def _measure_backend(
    synthesizer: Synthesizer, options: BenchOptions, ceilings: dict[str, Ceiling | None], show: Show
) -> Report:
    """Measure one backend; ``ceilings`` keeps what was measured of the machine, by precision."""
    backend, precision = synthesizer.backend, synthesizer.precision
    work = work_of(synthesizer.manifest, precision)
    if precision not in ceilings:
        ceilings[precision] = _ceiling(backend, work)
        ceiling = ceilings[precision]
        show(ceiling_table(work, ceiling) if ceiling else Text("No ceiling could be measured for this device."))
    ceiling = ceilings[precision]
    show(Text(backend.description))
    batches = list(measure_batches(synthesizer, options, work, ceiling))
    show(batch_table(batches))
    vocoder = measure_vocoder(synthesizer, options, ceiling) if synthesizer.has_vocoder else None
    show(vocoder_table(vocoder) if vocoder else Text("The voice has no vocoder: samples come from Griffin-Lim."))
    streams = [measure_streams(synthesizer, options, number) for number in options.streams]
    show(Group(*stream_tables(streams)))
    return {
        "backend": backend.description,
        "precision": precision,
        "ceiling": ceiling and asdict(ceiling),
        "batches": [asdict(row) for row in batches],
        "vocoder": vocoder and asdict(vocoder),
        "streams": [asdict(row) for row in streams],
    }


def _ceiling(backend: Backend, work: Work) -> Ceiling | None:
    if isinstance(backend, NativeBackend | OnnxRuntimeBackend) and backend.device == "cpu":
        return measure_ceiling(work, backend.threads)
    from fte.bench.gpu import measure_gpu_ceiling

    return measure_gpu_ceiling(work)


def _measure_rival(
    rival: Rival, options: BenchOptions, frame_seconds: float, work: Work, ceiling: Ceiling | None, show: Show
) -> Report:
    """Measure a rival, against the ceiling of its precision if that is known; it has neither texts nor streams."""
    show(Text(f"{rival.description} in {rival.precision}"))
    batches = list(measure_rival_batches(rival, options, frame_seconds, work, ceiling))
    show(batch_table(batches))
    vocoder = measure_rival_vocoder(rival, options, frame_seconds, ceiling) if work.vocoder_precision else None
    if vocoder:
        show(vocoder_table(vocoder))
    return {
        "backend": rival.description,
        "precision": rival.precision,
        "ceiling": ceiling and asdict(ceiling),
        "batches": [asdict(row) for row in batches],
        "vocoder": vocoder and asdict(vocoder),
        "streams": [],
    }


def ceiling_table(work: Work, ceiling: Ceiling) -> Table:
    """Rates of the machine, what the voice needs, and what follows."""
    table = _table(
        f"Ceiling of this {f'machine (threads: {ceiling.threads})' if ceiling.threads else 'GPU'}",
        "",
        "measured",
        "the voice needs",
        "so at best",
    )
    large, step = ceiling.memory_gb_per_second, ceiling.step_gb_per_second
    table.add_row("reading memory", f"{large:.1f} GB/s", "", "")
    table.add_row(
        f"reading {work.step_bytes / 1e6:.1f} MB again and again",
        f"{step:.1f} GB/s",
        f"{work.frame_bytes / 1e6:.1f} MB a frame",
        f"{1e3 * work.frame_bytes / (1e9 * step):.3f} ms a frame",
    )
    decoding = ceiling.gmac_per_second[work.decoder_precision]
    table.add_row(
        f"decoder multiplies in {work.decoder_precision}",
        f"{decoding:.0f} G/s",
        f"{work.frame_multiply_adds / 1e6:.1f} M a frame",
        f"{1e3 * work.frame_multiply_adds / (1e9 * decoding):.3f} ms a frame",
    )
    if work.vocoder_precision and work.vocoder_multiply_adds:
        table.add_row(
            f"vocoder multiplies in {work.vocoder_precision}",
            f"{ceiling.gmac_per_second[work.vocoder_precision]:.0f} G/s",
            f"{work.vocoder_multiply_adds / 1e9:.1f} G a second of audio",
            f"RTFX {ceiling.vocoder_rtfx:.2f}",
        )
    return table


def batch_table(rows: Sequence[BatchRow]) -> Table:
    on_device = any(row.device_mb is not None for row in rows)
    table = _table(
        "Decoder (text and z to mel), and text to samples",
        *("batch", "ms a frame", "frames/s", "RTFX", "of ceiling", "bound by", "end-to-end RTFX", "peak MB"),
        *(("launches a step", "GPU MB") if on_device else ()),
    )
    for row in rows:
        table.add_row(
            str(row.batch),
            f"{row.ms_per_frame:.3f}",
            f"{row.frames_per_second:.0f}",
            f"{row.rtfx:.2f}",
            _percent(row.ceiling_fraction),
            row.bound or "-",
            _decimal(row.end_to_end_rtfx),
            _number(row.peak_mb),
            *((_decimal(row.launches_per_step), _number(row.device_mb)) if on_device else ()),
        )
    return table


def vocoder_table(row: VocoderRow) -> Table:
    table = _table("Vocoder (mel to samples)", "frames", "ms a frame", "RTFX", "of ceiling", "peak MB")
    table.add_row(
        str(row.frames),
        f"{row.ms_per_frame:.3f}",
        f"{row.rtfx:.2f}",
        _percent(row.ceiling_fraction),
        _number(row.peak_mb),
    )
    return table


def stream_tables(rows: Sequence[StreamRow]) -> list[Table]:
    """Latencies, and what the streams achieve together."""
    latency = _table("Streams: milliseconds", "streams", "", "p50", "p90", "p95", "p99", "max")
    for row in rows:
        for name, times in (("to first audio", row.first_audio_ms), ("between chunks", row.gap_ms)):
            if times is not None:
                figures = (times.p50, times.p90, times.p95, times.p99, times.max)
                latency.add_row(str(row.streams), name, *(f"{value:.1f}" for value in figures))
    total = _table(
        "Streams: throughput, and playback at real time",
        *("streams", "requests", "audio s", "RTFX", "underruns", "starved requests", "starved s", "peak MB"),
    )
    for row in rows:
        total.add_row(
            str(row.streams),
            str(row.requests),
            f"{row.audio_seconds:.0f}",
            f"{row.rtfx:.2f}",
            str(row.underruns),
            str(row.starved_requests),
            f"{row.starved_seconds:.2f}",
            _number(row.peak_mb),
        )
    return [latency, total]


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in headings:
        table.add_column(heading, justify="right" if heading else "left")  # names have no heading
    return table


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.0f} %" if fraction >= 0.1 else f"{100 * fraction:.1f} %"


def _decimal(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"
