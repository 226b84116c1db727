"""Renditions of one text above each other: their mels, and their pitch where pyworld is installed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fte.errors import RequestError, import_fault
from fte.files import atomic_file

Float32 = npt.NDArray[np.float32]

MAX_RENDITIONS = 24
_WIDTH, _HEIGHT, _PITCH_HEIGHT = 10.0, 1.1, 2.2  # inches
_PITCH_SECONDS = 0.005


@dataclass(frozen=True)
class Rendition:
    """One way a text was spoken."""

    name: str
    mel: Float32
    """(T, M) log magnitudes."""
    samples: Float32
    """(n) from -1 to 1."""


def check_figure() -> None:
    """Raise RequestError where nothing could be drawn, before anything is spoken."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        missing = "pictures need matplotlib: install flowtron-fte[style]"
        raise RequestError(import_fault(error, ["matplotlib"], missing)) from error
    pitch_tracker()


def draw_renditions(path: Path, renditions: Sequence[Rendition], sample_rate: int, title: str) -> None:
    """Write a picture of the mels, one below the other, on one scale of time and of level; pitch curves at the bottom.

    The pitch is WORLD's (Morise et al. 2016), by the package pyworld; without it there is no such panel.
    Raises RequestError as ``check_figure`` does, for none or too many renditions, and a file that cannot be written.
    """
    if not 1 <= len(renditions) <= MAX_RENDITIONS:
        raise RequestError(f"{len(renditions)} renditions are to be drawn: give 1 to {MAX_RENDITIONS}")
    check_figure()
    from matplotlib.figure import Figure

    curves = [pitch(r.samples, sample_rate) for r in renditions]
    has_pitch = any(curve is not None for curve in curves)
    heights = [_HEIGHT] * len(renditions) + [_PITCH_HEIGHT] * has_pitch
    figure = Figure(figsize=(_WIDTH, sum(heights) + 0.8), layout="constrained")
    axes = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    low = min(float(np.percentile(r.mel, 1)) for r in renditions)
    high = max(float(r.mel.max()) for r in renditions)
    for panel, r in zip(axes, renditions, strict=False):
        seconds = len(r.samples) / sample_rate
        extent = (0.0, seconds, -0.5, r.mel.shape[1] - 0.5)
        panel.imshow(r.mel.T, origin="lower", aspect="auto", cmap="magma", extent=extent, vmin=low, vmax=high)
        panel.set_ylabel(r.name, rotation=0, ha="right", va="center", parse_math=False)
        panel.set_yticks([])
    if has_pitch:
        _draw_pitch(axes[-1], renditions, curves)
    axes[-1].set_xlim(0, max(len(r.samples) for r in renditions) / sample_rate)
    axes[-1].set_xlabel("time [s]")
    figure.suptitle(title if len(title) <= 110 else f"{title[:107]}...", parse_math=False)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=130, format=path.suffix[1:].lower())


def _draw_pitch(axes: Any, renditions: Sequence[Rendition], curves: Sequence[Float32 | None]) -> None:
    import matplotlib

    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(renditions)))
    for r, curve, colour in zip(renditions, curves, colours, strict=True):
        if curve is not None:
            axes.plot(np.arange(len(curve)) * _PITCH_SECONDS, curve, color=colour, linewidth=1.2, label=r.name)
    axes.set_ylabel("pitch [Hz]")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper right", fontsize=7, ncols=min(8, len(renditions)))


def pitch_tracker() -> Any:
    """The package pyworld, None where it is not installed. Raises RequestError where it is and cannot be imported."""
    try:
        import pyworld
    except ImportError as error:
        if fault := import_fault(error, ["pyworld"], ""):
            raise RequestError(fault) from error
        return None
    return pyworld


def pitch(samples: Float32, sample_rate: int) -> Float32 | None:
    """F0 in Hz every 5 ms, NaN where unvoiced; None without pyworld. Raises RequestError where pyworld is broken."""
    pyworld = pitch_tracker()
    if pyworld is None:
        return None
    values = samples.astype(np.float64)
    found, times = pyworld.harvest(values, sample_rate, frame_period=1000 * _PITCH_SECONDS)
    refined = pyworld.stonemask(values, found, times, sample_rate)
    return np.where(refined > 0, refined, np.nan).astype(np.float32)
