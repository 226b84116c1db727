"""Loops through ONNX Runtime with everything bound to a device: between blocks nothing but gates comes to the host."""

import itertools
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fte.backends.base import Array
from fte.errors import BackendError, OutOfMemoryError

FRAME_OUTPUTS = ("mel", "attention", "gate")
"""What a loop gives of each frame."""

_graph_ids = itertools.count(1)
"""CUDA graphs are told apart by a number of our own: one for each set of buffers, for a graph knows their addresses."""


@dataclass(frozen=True)
class Place:
    """Where buffers lie."""

    device: str
    """ "cuda" or "cpu"."""
    index: int = 0
    cuda_graphs: bool = False
    """Whether the session captures what it runs as CUDA graphs."""


class _Side:
    """One of two sets of buffers that take turns: what one block puts out as state is what the next takes in."""

    def __init__(self, session: Any, timed: Mapping[str, Any], outputs: Mapping[str, Any], place: Place) -> None:
        import onnxruntime

        self.timed, self.outputs = timed, outputs
        self.binding = session.io_binding()
        for name, value in timed.items():
            self.binding.bind_ortvalue_input(name, value)
        for name, value in outputs.items():
            self.binding.bind_ortvalue_output(name, value)
        self.options = onnxruntime.RunOptions()
        if place.device == "cuda":
            # the host waits where it collects; a replayed CUDA graph may wait by itself all the same
            self.options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        if place.cuda_graphs:
            self.options.add_run_config_entry("gpu_graph_id", str(next(_graph_ids)))


class Buffers:
    """Everything that a loop over one session needs at one shape: made once, used by one loop after the other."""

    def __init__(
        self, session: Any, frames: int, inputs: Mapping[str, Array], timed: Mapping[str, Array], place: Place
    ) -> None:
        self._session = session
        outputs = _output_shapes(session, {**inputs, **{name: rows[:frames] for name, rows in timed.items()}})
        self.state = [name for name in inputs if f"next_{name}" in outputs]
        self.constant = {name: _empty(a, place) for name, a in inputs.items() if name not in self.state}
        self.sides = [self._side(frames, timed, outputs, place) for _ in range(2)]
        for side, other in (self.sides, reversed(self.sides)):
            for name, value in self.constant.items():
                side.binding.bind_ortvalue_input(name, value)
            for name in self.state:
                side.binding.bind_ortvalue_input(name, other.outputs[f"next_{name}"])

    def _side(self, frames: int, timed: Mapping[str, Array], outputs: Mapping[str, Array], place: Place) -> _Side:
        blocks = {name: _empty(rows[:frames], place, frames) for name, rows in timed.items()}
        return _Side(self._session, blocks, {name: _empty(a, place) for name, a in outputs.items()}, place)

    def fill(self, inputs: Mapping[str, Array]) -> None:
        """Copy the inputs of a new loop to the device."""
        for name, value in self.constant.items():
            value.update_inplace(np.ascontiguousarray(inputs[name]))
        for name in self.state:  # the first block takes its state from where the second side puts it
            self.sides[1].outputs[f"next_{name}"].update_inplace(np.ascontiguousarray(inputs[name]))

    def run(self, side: _Side) -> None:
        self._session.run_with_iobinding(side.binding, side.options)


class BoundLoop:
    """A loop over buffers that stay on the device; at close they are free for the next loop."""

    def __init__(
        self,
        buffers: Buffers,
        frames: int,
        inputs: Mapping[str, Array],
        timed: Mapping[str, Array],
        name: str,
        free: list[Buffers],
    ) -> None:
        self._buffers, self._frames, self._name, self._free = buffers, frames, name, free
        self._timed = {key: whole_blocks(rows, frames) for key, rows in timed.items()}
        self._block = 0
        self._launched: deque[_Side] = deque()
        buffers.fill(inputs)

    def launch(self) -> None:
        assert len(self._launched) < 2, "two blocks are on their way: collect one"
        side = self._buffers.sides[self._block % 2]
        rows = slice(self._block * self._frames, (self._block + 1) * self._frames)
        try:
            for name, value in side.timed.items():
                value.update_inplace(np.ascontiguousarray(self._timed[name][rows]))
            self._buffers.run(side)
        except Exception as error:  # ONNX Runtime raises several unrelated classes
            raise failure(self._name, error) from error
        self._launched.append(side)
        self._block += 1

    def collect(self) -> Mapping[str, Array]:
        side = self._launched.popleft()
        side.binding.synchronize_outputs()
        return {name: side.outputs[name].numpy().copy() for name in FRAME_OUTPUTS if name in side.outputs}

    def close(self) -> None:
        while self._launched:
            self._launched.popleft().binding.synchronize_outputs()
        self._free.append(self._buffers)


class BoundLoops:
    """The loops of one session; the buffers of those that are over wait for the next of the same shape."""

    KEPT_SHAPES = 8

    def __init__(self, session: Any, name: str, place: Place) -> None:
        self._session, self._name, self._place = session, name, place
        self._free: dict[object, list[Buffers]] = {}

    def start(self, frames: int, inputs: Mapping[str, Array], timed: Mapping[str, Array]) -> BoundLoop:
        """See `Graph.loop`."""
        shapes = (
            frames,
            *((name, a.shape) for name, a in inputs.items()),
            *((name, a.shape[1:]) for name, a in timed.items()),
        )
        free = self._free.pop(shapes, [])
        self._free[shapes] = free  # the shape used last stands last
        while len(self._free) > self.KEPT_SHAPES:
            del self._free[next(iter(self._free))]
        try:
            buffers = free.pop() if free else Buffers(self._session, frames, inputs, timed, self._place)
            return BoundLoop(buffers, frames, inputs, timed, self._name, free)
        except Exception as error:  # ONNX Runtime raises several unrelated classes
            raise failure(self._name, error) from error


def failure(name: str, error: Exception) -> BackendError:
    """What ONNX Runtime raised when it ran the graph ``name``, as an error of ours."""
    reason = str(error).strip().splitlines()[0][:300]
    if "Failed to allocate memory" in reason or "out of memory" in reason:
        return OutOfMemoryError(f"the device has no memory left to run {name}: give fewer or shorter texts at once")
    return BackendError(f"{name} failed: {reason}")


def _output_shapes(session: Any, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """An array like each output, found by the names of the inputs' axes."""
    axes: dict[Any, int] = {}
    for value in session.get_inputs():
        sizes = zip(value.shape, inputs[value.name].shape, strict=True)
        axes.update((axis, size) for axis, size in sizes if isinstance(axis, str))
    kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int32)": np.int32}
    return {
        value.name: np.empty([axes.get(axis, axis) for axis in value.shape], kinds[value.type])
        for value in session.get_outputs()
    }


def _empty(like: Array, place: Place, length: int | None = None) -> Any:
    """A buffer on the device for arrays of that shape and type, or of another ``length``."""
    import onnxruntime

    shape: Sequence[int] = like.shape if length is None else (length, *like.shape[1:])
    return onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, like.dtype.type, place.device, place.index)


def whole_blocks(rows: Array, frames: int) -> Array:
    """rows (T, ...) with zeros up to a whole number of blocks of ``frames``."""
    missing = -len(rows) % frames
    return np.concatenate([rows, np.zeros((missing, *rows.shape[1:]), rows.dtype)]) if missing else rows
