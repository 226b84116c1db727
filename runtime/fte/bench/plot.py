"""One picture of a report: what was measured beside what the machine allows, and the latencies."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fte.bench.report import Report
from fte.errors import RequestError, import_fault
from fte.files import atomic_file
from fte.plot import FORMATS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANEL = (6.0, 3.4)  # inches
_DPI = 120
_MEASURED, _OTHER, _CEILING, _REAL_TIME = "#3b6ea5", "#8fb3d9", "#b5443a", "#555555"
_SHADES = {"p50": "#9cc3e6", "p95": "#4f8dc4", "p99": "#1f4e79"}
_BAR = 0.8


def check_picture(path: Path) -> None:
    """Refuse a picture that could not be drawn, before anything is measured. Raises RequestError."""
    if path.suffix.lower() not in FORMATS:
        raise RequestError(f"cannot draw {path}: the name of a picture must end in one of {', '.join(FORMATS)}")
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        missing = "--plot needs matplotlib: install flowtron-fte[plot] or leave the picture out"
        raise RequestError(import_fault(error, ["matplotlib"], missing)) from error


def plot_report(path: Path, report: Report) -> None:
    """Draw a report, a row of panels for each backend, in the format of the path's suffix. Raises RequestError."""
    check_picture(path)
    from matplotlib.figure import Figure

    backends = report["backends"]
    figure = Figure(figsize=(2 * _PANEL[0], 2 * _PANEL[1] * len(backends)), layout="constrained")
    panels = figure.subplots(2 * len(backends), 2, squeeze=False)
    for i, backend in enumerate(backends):
        (decoder, speed), (first, gaps) = panels[2 * i : 2 * i + 2]
        _draw_decoder(decoder, backend["batches"])
        _draw_speed(speed, backend)
        _draw_latency(first, backend["streams"], "first_audio_ms", "Time to first audio")
        _draw_latency(gaps, backend["streams"], "gap_ms", "Between chunks")
    described = "; ".join(f"{b['precision']}, {b['backend']}" for b in backends)
    figure.suptitle(f"{report['voice']} in {described}\n{report['machine']['cpu']}", fontsize=11, parse_math=False)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=_DPI, format=path.suffix[1:].lower())


def _draw_decoder(axes: "Axes", rows: list[dict[str, Any]]) -> None:
    """Frames a second of each batch; a line above each bar where the machine's ceiling is."""
    places = np.arange(len(rows))
    bars = axes.bar(
        places, [row["frames_per_second"] for row in rows], _BAR, color=_MEASURED, label="measured, part of the ceiling"
    )
    axes.bar_label(bars, [_percent(row["ceiling_fraction"]) for row in rows], fontsize=8)
    ceilings = [row["ceiling_ms_per_frame"] for row in rows]
    if None not in ceilings:
        levels = [1e3 / ms for ms in ceilings]
        axes.hlines(levels, places - _BAR / 2, places + _BAR / 2, color=_CEILING, linewidth=2, label="ceiling")
        if max(levels) > 30 * min(row["frames_per_second"] for row in rows):
            axes.set_yscale("log")  # else the bars of a small voice could not be seen
            axes.set_ylim(bottom=0.5 * min(row["frames_per_second"] for row in rows))
    axes.set_xticks(places, [str(row["batch"]) for row in rows])
    _label(axes, "Decoder", "batch", "frames a second")


def _draw_speed(axes: "Axes", backend: dict[str, Any]) -> None:
    """How many times faster than real time: the vocoder alone, then text to samples by batch."""
    rows, vocoder = backend["batches"], backend["vocoder"]
    bars = {f"batch {row['batch']}": row["end_to_end_rtfx"] for row in rows if row["end_to_end_rtfx"] is not None}
    places = np.arange(len(bars)) + (1 if vocoder else 0)
    drawn = [axes.bar(places, list(bars.values()), _BAR, color=_OTHER, label="text to samples")]
    names = list(bars)
    if vocoder:
        drawn.append(axes.bar([0], [vocoder["rtfx"]], _BAR, color=_MEASURED, label="vocoder alone"))
        names.insert(0, "vocoder")
        if vocoder["ceiling_rtfx"] is not None:
            level = vocoder["ceiling_rtfx"]
            axes.hlines([level], [-_BAR / 2], [_BAR / 2], color=_CEILING, linewidth=2, label="its ceiling")
    for container in drawn:
        axes.bar_label(container, fmt=_rounded, fontsize=8)
    axes.axhline(1, color=_REAL_TIME, linestyle="--", linewidth=1, label="real time")
    axes.set_xticks(np.arange(len(names)), names)
    _label(axes, "Speed", "", "RTFX")


def _draw_latency(axes: "Axes", rows: list[dict[str, Any]], key: str, title: str) -> None:
    """Percentiles by number of streams."""
    known = [row for row in rows if row[key] is not None]
    places = np.arange(len(known))
    width = _BAR / len(_SHADES)
    for i, (percentile, colour) in enumerate(_SHADES.items()):
        heights = [row[key][percentile] for row in known]
        bars = axes.bar(places + (i - 1) * width, heights, width, color=colour, label=percentile)
        axes.bar_label(bars, fmt=_rounded, fontsize=7)
    axes.set_xticks(places, [str(row["streams"]) for row in known])
    _label(axes, title, "concurrent streams", "milliseconds")


def _label(axes: "Axes", title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.margins(y=0.1)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.legend(  # above the panel, where it hides no bar
        fontsize=8,
        ncols=4,
        frameon=False,
        columnspacing=1.2,
        handlelength=1.4,
        loc="lower right",
        bbox_to_anchor=(1, 1),
        borderaxespad=0,
    )


def _rounded(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{100 * fraction:.2g} %"
