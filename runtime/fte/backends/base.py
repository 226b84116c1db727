"""What every backend offers: graphs loaded from files, run on named arrays."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fte.bundle import Bundle
from fte.errors import BundleError

Array = NDArray[Any]
Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

BLOCK_FRAMES = 16
"""Frames decoded at once on a GPU, where a bundle has such graphs: a fifth of a second of sound."""
SYMBOL_MULTIPLE = 32
"""Texts are padded to a multiple of this on a GPU: buffers and CUDA graphs are kept by shape."""


class Loop(Protocol):
    """A graph of K frames (`flow_0_block_16`) run block after block, its state kept where it is computed."""

    def launch(self) -> None:
        """Start the next block; may return before it is done. Two blocks may be on their way at most."""
        ...

    def collect(self) -> Mapping[str, Array]:
        """Wait for the oldest block that was launched: mel (K, B, M), attention (K, B, N), and gate (K, B) if any.

        The arrays are the caller's own.
        """
        ...

    def close(self) -> None:
        """Give back what the loop holds; blocks on their way are abandoned."""
        ...


class Graph(Protocol):
    """A loaded graph."""

    @property
    def input_names(self) -> Sequence[str]: ...

    @property
    def output_names(self) -> Sequence[str]: ...

    def run(self, outputs: Sequence[str], inputs: Mapping[str, Array]) -> list[Array]:
        """Compute the named outputs, in that order. The arrays returned are the caller's own."""
        ...

    def loop(self, frames: int, inputs: Mapping[str, Array], timed: Mapping[str, Array]) -> Loop:
        """Start a loop over this graph of ``frames`` (K) frames.

        inputs: what stays the same from block to block, and the state before the first frame: an input ``x`` for which
        the graph has an output ``next_x``. timed: (T, B, ...), of which each block reads the next K rows.
        """
        ...


@dataclass(frozen=True, slots=True)
class Usage:
    """What a device did for this process."""

    launches: int
    """Kernels, copies and CUDA graphs enqueued since the backend was made; a graph counts once."""
    memory_mb: float
    """Memory of the device in use now, by all processes, MB."""


class Backend(Protocol):
    """A way to run graphs on a device."""

    device: str
    """ "cpu" or "cuda"."""
    symbol_multiple: int
    """Texts are padded to a multiple of this many symbols, so that few shapes occur; 1 for none."""
    exact_in_company: bool
    """Whether an utterance's results do not depend on those that it is decoded with, bit for bit."""

    @property
    def description(self) -> str:
        """The device and library in words, for people."""
        ...

    def usage(self) -> Usage | None:
        """What the device did so far, or None where the backend cannot tell."""
        ...

    def open(self, bundle: Bundle, precision: str, role: str) -> Graph:
        """Load a bundle's graph. Raises BundleError where the bundle lacks it, BackendError where it cannot run here.

        The role of several frames of a flow at once is `flow_0_block_16`, and so on.
        """
        ...

    def blocks(self, bundle: Bundle, precision: str) -> int:
        """Frames that a flow of the bundle is decoded in at once (K), or 0 for one at a time."""
        ...

    def check(self, bundle: Bundle, precision: str) -> None:
        """Compare all files that speaking may open with what was exported, so that no request finds a fault later.

        Raises BundleError for one that differs, and where the bundle lacks the precision.
        """
        ...


class GraphFiles:
    """The part of a backend that is the same wherever a graph is a file of the bundle."""

    exact_in_company = False
    """A matrix product over more rows adds up in another order, and a last bit may change an int8 level."""
    block_frames: int
    """Frames that a flow is decoded in at once, at most, where the bundle has graphs for it; 0 for one at a time."""

    def load(self, path: Path) -> Graph:
        """Load the graph at ``path``. Raises BackendError when it cannot be run here."""
        raise NotImplementedError

    def open(self, bundle: Bundle, precision: str, role: str) -> Graph:
        return self.load(bundle.graph(precision, role))

    def check(self, bundle: Bundle, precision: str) -> None:
        block = self.blocks(bundle, precision)
        flows = [f"flow_{k}{guided}" for k in range(bundle.manifest.flowtron.n_flows) for guided in ("", "_guided")]
        roles = ["encoder", *(f"{flow}_block_{block}" if block else flow for flow in flows)]
        roles += ["vocoder"] if bundle.manifest.waveglow else []
        bundle.check(name for role in roles for name in bundle.graph_files(precision, role))

    def blocks(self, bundle: Bundle, precision: str) -> int:
        return max((k for k in bundle.blocks(precision) if k <= self.block_frames), default=0)


def check_finite(values: Float32, what: str) -> None:
    """Raise BundleError unless what a graph computed is finite: it must be neither played nor lost on its way."""
    if not math.isfinite(np.vdot(values, values)):  # a product is half the time of isfinite, in every frame
        raise BundleError(
            f"{what} came out infinite or as no number: the voice's weights are damaged or too large for this "
            "precision, or the request is far from speech; try precision 'fp32'"
        )
