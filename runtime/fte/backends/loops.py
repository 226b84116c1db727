"""Loops over graphs of several frames."""

from collections import deque
from collections.abc import Mapping

import numpy as np

from fte.backends.base import Array, Graph

FRAME_OUTPUTS = ("mel", "attention", "gate")
"""What a loop gives of each frame."""


class HostLoop:
    """A loop whose state is in the host's memory: a block is computed when it is launched."""

    def __init__(self, graph: Graph, frames: int, inputs: Mapping[str, Array], timed: Mapping[str, Array]) -> None:
        self._graph, self._frames = graph, frames
        self._timed = {name: whole_blocks(rows, frames) for name, rows in timed.items()}
        self._state_names = [name for name in inputs if f"next_{name}" in graph.output_names]
        self._inputs = dict(inputs)
        self._outputs = [name for name in FRAME_OUTPUTS if name in graph.output_names]
        self._next = 0
        self._done: deque[dict[str, Array]] = deque()

    def launch(self) -> None:
        block = slice(self._next, self._next + self._frames)
        self._next += self._frames
        timed = {name: rows[block] for name, rows in self._timed.items()}
        names = [*self._outputs, *(f"next_{name}" for name in self._state_names)]
        results = self._graph.run(names, {**self._inputs, **timed})
        count = len(self._outputs)
        self._inputs.update(zip(self._state_names, results[count:], strict=True))
        self._done.append(dict(zip(self._outputs, results[:count], strict=True)))

    def collect(self) -> Mapping[str, Array]:
        return self._done.popleft()

    def close(self) -> None:
        self._done.clear()


def whole_blocks(rows: Array, frames: int) -> Array:
    """rows (T, ...) with zeros up to a whole number of blocks of ``frames``."""
    missing = -len(rows) % frames
    return np.concatenate([rows, np.zeros((missing, *rows.shape[1:]), rows.dtype)]) if missing else rows
