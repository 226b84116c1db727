"""One picture of an utterance: its mel, the symbols that each frame attended to, and the gate that ends it."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fte.errors import RequestError, import_fault
from fte.files import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

FORMATS = (".png", ".pdf", ".svg")
"""Suffixes of the pictures that are written."""

_SPACE = "␣"
_WIDTH = 12.0  # inches, as all lengths here
_MEL_HEIGHT = 2.6
_GATE_HEIGHT = 1.4
_SYMBOL_HEIGHT = 0.12  # one line of tick labels
_ATTENTION_HEIGHTS = (2.0, 4.5)
_BAR_WIDTH = 0.15
_TITLE_CHARACTERS = 130  # a line of the title
_DPI = 120


def plot_utterance(
    path: Path | str,
    mel: npt.ArrayLike,
    attentions: Sequence[npt.ArrayLike],
    gate: npt.ArrayLike | None,
    symbols: Sequence[str],
    title: str,
    hop_seconds: float,
) -> None:
    """Draw an utterance of T frames and N symbols, and write the picture in the format of the path's suffix.

    ``mel`` (T, channels) log magnitudes; ``attentions[k]`` (T, N) weights of flow k, rows in order of time;
    ``gate`` (T,) probabilities or None; ``symbols`` the N symbols read; ``hop_seconds`` the time between frames.
    Raises RequestError for shapes that do not agree, another suffix, a file that cannot be written, and when matplotlib
    is not installed.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise RequestError(f"cannot draw {path}: the name of a picture must end in one of {', '.join(FORMATS)}")
    spectrum = _checked("the mel spectrogram", mel, (None, None))
    frames = len(spectrum)
    weights = [
        _checked(f"the attention of flow {k}", values, (frames, len(symbols))) for k, values in enumerate(attentions)
    ]
    closing = None if gate is None else _checked("the gate", gate, (frames,))
    if not 0 < hop_seconds < np.inf:
        raise RequestError(f"the time between frames must be more than 0 s, not {hop_seconds}")

    attention_height = float(np.clip(_SYMBOL_HEIGHT * len(symbols), *_ATTENTION_HEIGHTS))
    heights = [_MEL_HEIGHT, *[attention_height] * len(weights), *([] if closing is None else [_GATE_HEIGHT])]
    figure = _figure(sum(heights) + 0.6)
    axes = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    duration = frames * hop_seconds
    _draw_mel(axes[0], spectrum, duration)
    for k, values in enumerate(weights):
        _draw_attention(axes[1 + k], values, symbols, duration, k, attention_height)
    if closing is not None:
        _draw_gate(axes[-1], closing, hop_seconds)
    axes[-1].set_xlabel("time [s]")
    figure.suptitle(_shortened(title), parse_math=False)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=_DPI, format=path.suffix[1:].lower())


def _figure(height: float) -> "Figure":
    """An empty figure that belongs to no window and leaves pyplot's state alone."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        missing = "pictures need matplotlib: install it with pip install 'flowtron-fte[plot]'"
        raise RequestError(import_fault(error, ["matplotlib"], missing)) from error
    return Figure(figsize=(_WIDTH, height), layout="constrained")


def _draw_mel(axes: "Axes", mel: npt.NDArray[np.float64], duration: float) -> None:
    image = axes.imshow(
        mel.T,
        origin="lower",
        aspect="auto",
        cmap="magma",
        extent=(0.0, duration, -0.5, mel.shape[1] - 0.5),
    )
    axes.set_ylabel("mel channel")
    _colour_bar(image, "log magnitude", _MEL_HEIGHT)


def _draw_attention(
    axes: "Axes", weights: npt.NDArray[np.float64], symbols: Sequence[str], duration: float, flow: int, height: float
) -> None:
    image = axes.imshow(
        weights.T,
        origin="lower",
        aspect="auto",
        cmap="viridis",
        vmin=0.0,
        extent=(0.0, duration, -0.5, len(symbols) - 0.5),
    )
    every = max(1, int(np.ceil(len(symbols) * _SYMBOL_HEIGHT / height)))
    ticks = range(0, len(symbols), every)
    axes.set_yticks(ticks, [_readable(symbols[n]) for n in ticks], fontsize=7, parse_math=False)
    for label in axes.get_yticklabels():
        if label.get_text() == _SPACE:  # hangs below the line, and would seem to belong to the symbol there
            label.set_verticalalignment("center")
    axes.set_ylabel(f"symbol, flow {flow}")
    _colour_bar(image, "attention", height)


def _draw_gate(axes: "Axes", gate: npt.NDArray[np.float64], hop_seconds: float) -> None:
    axes.plot((np.arange(len(gate)) + 0.5) * hop_seconds, gate, color="black", linewidth=1.2)
    axes.set_ylim(-0.05, 1.05)
    axes.set_ylabel("gate")
    axes.grid(alpha=0.3)


def _colour_bar(image: "AxesImage", label: str, height: float) -> None:
    axes = image.axes
    axes.figure.colorbar(image, ax=axes, label=label, pad=0.01, aspect=height / _BAR_WIDTH)


def _readable(symbol: str) -> str:
    """A symbol as a tick label: ARPAbet without its mark, and a space that can be seen."""
    if symbol.startswith("@") and len(symbol) > 1:
        return symbol[1:]
    return _SPACE if symbol == " " else symbol


def _shortened(title: str) -> str:
    """The title in lines that fit the picture; what is too long ends in an ellipsis."""
    return "\n".join(textwrap.wrap(title, _TITLE_CHARACTERS, max_lines=2, placeholder=" …"))


def _checked(name: str, values: npt.ArrayLike, shape: tuple[int | None, ...]) -> npt.NDArray[np.float64]:
    """``values`` with the shape asked for, None being any size but 0, or a RequestError that names them."""
    array = np.asarray(values, np.float64)
    fits = array.ndim == len(shape) and all(want in (None, got) for want, got in zip(shape, array.shape, strict=False))
    if not fits or 0 in array.shape:
        wanted = str(shape).replace("None", "any")
        raise RequestError(f"{name} must have the shape {wanted}, not {array.shape}")
    if not np.isfinite(array).all():
        raise RequestError(f"{name} has values that are not finite")
    return array
