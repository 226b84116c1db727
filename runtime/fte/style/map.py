"""Pictures of the latent space: emotion and speaker side by side, as they are and with the speaker taken out."""

import html
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fte.errors import RequestError, import_fault
from fte.files import atomic_file
from fte.style.separation import Method, Separation, centred, project, separation

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
"""Okabe and Ito's palette, which the colour-blind can tell apart."""
MARKERS = "os^DvP*X"
FORMATS = (".png", ".pdf", ".svg", ".html")


@dataclass(frozen=True)
class Panel:
    """One picture of four: the points, coloured by one label."""

    title: str
    points: npt.NDArray[np.float64]
    """(U, 2)."""
    labels: tuple[str, ...]
    numbers: Separation


@dataclass(frozen=True)
class LatentMap:
    """Four panels: emotion and speaker, each as they are and with the speaker taken out."""

    names: tuple[str, ...]
    """Of the recordings."""
    emotions: tuple[str, ...]
    speakers: tuple[str, ...]
    method: Method
    panels: tuple[Panel, ...]

    def record(self) -> dict[str, Any]:
        """The numbers of the panels, for JSON."""
        return {
            "method": self.method,
            "recordings": len(self.names),
            "panels": [{"title": panel.title, **asdict(panel.numbers)} for panel in self.panels],
        }


def latent_map(
    names: Sequence[str],
    vectors: npt.ArrayLike,
    emotions: Sequence[str],
    speakers: Sequence[str],
    method: Method = "pca",
    *,
    seed: int = 0,
) -> LatentMap:
    """Project and measure utterance vectors (U, M). Raises RequestError as `fte.style.separation` does."""
    x = np.asarray(vectors, np.float64)
    panels = []
    for without in (None, speakers):
        shown = x if without is None else centred(x, np.array(speakers))
        suffix = "" if without is None else ", speaker taken out"
        for title, labels in (("emotion", emotions), ("speaker", speakers)):
            numbers = separation(x, labels, without=without, seed=seed)
            panels.append(Panel(f"{title}{suffix}", project(shown, labels, method, seed=seed), tuple(labels), numbers))
    return LatentMap(tuple(names), tuple(emotions), tuple(speakers), method, tuple(panels))


def draw_map(path: Path | str, found: LatentMap) -> None:
    """Write the picture, or with a name in .html an interactive page that needs no network.

    Raises RequestError for another suffix, without matplotlib, and for a file that cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise RequestError(f"cannot draw {path}: the name of a map must end in one of {', '.join(FORMATS)}")
    if suffix == ".html":
        page = _page(found)
        with atomic_file(path) as temporary:
            temporary.write_text(page, encoding="utf-8")
        return
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        missing = "pictures need matplotlib: install flowtron-fte[style]"
        raise RequestError(import_fault(error, ["matplotlib"], missing)) from error
    figure = Figure(figsize=(10, 9.6), layout="constrained")
    for axes, panel in zip(figure.subplots(2, 2).ravel(), found.panels, strict=True):
        _draw_panel(axes, panel, found)
    axis = {"pca": "principal components", "lda": "discriminants, fitted to the shown label"}.get(found.method)
    figure.suptitle(
        f"mean z of {len(found.names)} recordings: {axis or found.method}\n"
        "(colour: what the panel is named after; mark: the other label)"
    )
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=130, format=suffix[1:])


def _draw_panel(axes: Any, panel: Panel, found: LatentMap) -> None:
    """Colours tell the panel's own label, marks the other one."""
    other = found.speakers if panel.title.startswith("emotion") else found.emotions
    kinds = sorted(set(other))
    for colour, label in zip(_cycled(COLOURS, panel.labels), sorted(set(panel.labels)), strict=False):
        for i, kind in enumerate(kinds):
            chosen = [a == label and b == kind for a, b in zip(panel.labels, other, strict=True)]
            x, y = panel.points[chosen].T
            name = label if i == 0 else None
            axes.scatter(x, y, c=colour, marker=MARKERS[i % len(MARKERS)], s=34, alpha=0.85, linewidths=0, label=name)
    axes.set_title(panel.title)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.legend(fontsize=8, framealpha=0.8)
    axes.set_xlabel(_caption(panel.numbers), fontsize=9)


def _cycled(colours: Sequence[str], labels: Sequence[str]) -> list[str]:
    return [colours[i % len(colours)] for i in range(len(set(labels)))]


def _caption(numbers: Separation) -> str:
    return (
        f"probe {numbers.probe_accuracy:.0%}, nearest mean {numbers.centroid_accuracy:.0%} "
        f"({numbers.folds} folds; chance {numbers.chance:.0%}), silhouette {numbers.silhouette:+.2f}"
    )


_SIZE, _MARGIN = 420, 24
_STYLE = (
    "body{font:14px sans-serif;margin:24px}section{display:inline-block;margin:0 24px 24px 0;vertical-align:top}"
    "svg{border:1px solid #ccc}circle{opacity:.85}circle:hover{opacity:1;stroke:#000}p{max-width:420px;margin:6px 0}"
)


def _page(found: LatentMap) -> str:
    """The four panels as SVG; a point tells its recording when pointed at. Names are others': all are escaped."""
    sections = []
    for panel in found.panels:
        colours = dict(zip(sorted(set(panel.labels)), _cycled(COLOURS, panel.labels), strict=True))
        low, high = panel.points.min(axis=0), panel.points.max(axis=0)
        scaled = _MARGIN + (panel.points - low) / np.maximum(high - low, 1e-9) * (_SIZE - 2 * _MARGIN)
        circles = "".join(
            f'<circle cx="{x:.1f}" cy="{_SIZE - y:.1f}" r="5" fill="{colours[label]}"><title>'
            f"{html.escape(name)}: {html.escape(emotion)}, {html.escape(speaker)}</title></circle>"
            for (x, y), label, name, emotion, speaker in zip(
                scaled, panel.labels, found.names, found.emotions, found.speakers, strict=True
            )
        )
        legend = " ".join(
            f'<span style="color:{colour}">&#9679; {html.escape(label)}</span>' for label, colour in colours.items()
        )
        sections.append(
            f"<section><h3>{html.escape(panel.title)}</h3>"
            f'<svg width="{_SIZE}" height="{_SIZE}">{circles}</svg><p>{legend}</p>'
            f"<p>{html.escape(_caption(panel.numbers))}</p></section>"
        )
    record = html.escape(json.dumps(found.record(), indent=1))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Latent space</title>'
        f"<style>{_STYLE}</style><h2>Mean z of {len(found.names)} recordings ({html.escape(found.method)})</h2>"
        f"{''.join(sections)}<details><summary>numbers</summary><pre>{record}</pre></details></html>\n"
    )
