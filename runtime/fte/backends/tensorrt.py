"""Graphs as TensorRT engines, with their buffers on the GPU.

Every graph has a stream of its own, so a vocoder computes while the decoder goes on. At each shape an engine has one
execution: a context, its buffers, and, from the second run on, a CUDA graph of all that is enqueued. Executions are
kept for the next run of the same shape.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from fte.backends.base import BLOCK_FRAMES, SYMBOL_MULTIPLE, Array, Graph, GraphFiles, Loop, Usage
from fte.backends.bound_loop import FRAME_OUTPUTS
from fte.backends.cuda import CudaGraph, Device, DeviceArray, Event, PinnedArray, Stream
from fte.backends.trt_library import Limits
from fte.errors import BackendError, OutOfMemoryError

Shape = tuple[int, ...]
Resource = TypeVar("Resource", DeviceArray, PinnedArray, Stream, Event, CudaGraph)

_KEPT_SHAPES = 8
"""Shapes of which an engine keeps idle executions: a stream of chunks has about six."""


class Engine(Protocol):
    """A deserialised engine."""

    name: str

    @property
    def inputs(self) -> Mapping[str, Limits]: ...

    @property
    def outputs(self) -> Mapping[str, np.dtype[Any]]: ...

    def context(self) -> "Context":
        """A new execution context."""
        ...


class Context(Protocol):
    """An execution context: one shape and one set of buffers at a time."""

    def set_shapes(self, shapes: Mapping[str, Shape], stream: int) -> Mapping[str, Shape]:
        """Set the shapes of all inputs, for work on the stream with that handle; those of the outputs follow."""
        ...

    def bind(self, name: str, pointer: int) -> None:
        """Let an input or output lie at a device address."""
        ...

    def enqueue(self, stream: int) -> None:
        """Put the computation on the stream with that handle."""
        ...

    def capturable(self, stream: int) -> bool:
        """Whether what `enqueue` does now can be captured as a CUDA graph."""
        ...


class TensorRtBackend(GraphFiles):
    """Runs graphs as engines.

    open_engine: from a graph's file to its engine; it raises BackendError where none was built. block_frames: see
    `GraphFiles`. The device is the caller's to close.
    """

    device = "cuda"
    symbol_multiple = SYMBOL_MULTIPLE

    def __init__(
        self,
        device: Device,
        open_engine: Callable[[Path], Engine],
        library: str = "TensorRT",
        block_frames: int = BLOCK_FRAMES,
    ) -> None:
        self._device, self._open_engine, self._library = device, open_engine, library
        self.block_frames = block_frames

    @property
    def description(self) -> str:
        return f"{self._library} on {self._device.name}"

    def usage(self) -> Usage | None:
        free, total = self._device.memory()
        return Usage(self._device.launches, (total - free) / 1e6)

    def load(self, path: Path) -> Graph:
        return EngineGraph(self._open_engine(path), self._device)


class EngineGraph:
    """A graph as an engine."""

    def __init__(self, engine: Engine, device: Device) -> None:
        self._engine, self._device = engine, device
        self._idle: dict[object, list[_Execution]] = {}
        """By kind and shapes."""
        self._lock = threading.Lock()
        self.input_names = list(engine.inputs)
        self.output_names = list(engine.outputs)

    def run(self, outputs: Sequence[str], inputs: Mapping[str, Array]) -> list[Array]:
        if unknown := [name for name in outputs if name not in self._engine.outputs]:
            raise BackendError(f"{self._engine.name} has no output {unknown[0]!r}")
        with self._borrowed(_Execution, {name: array.shape for name, array in inputs.items()}) as execution:
            return execution.run(outputs, inputs)

    def loop(self, frames: int, inputs: Mapping[str, Array], timed: Mapping[str, Array]) -> Loop:
        shapes = {name: array.shape for name, array in inputs.items()}
        shapes |= {name: (frames, *rows.shape[1:]) for name, rows in timed.items()}
        with ExitStack() as stack:
            execution = stack.enter_context(self._borrowed(_LoopExecution, shapes))
            execution.begin(inputs, timed)
            return EngineLoop(execution, frames, stack.pop_all())

    @contextmanager
    def _borrowed(self, kind: "type[Kind]", shapes: Mapping[str, Shape]) -> "Iterator[Kind]":
        """An execution at these shapes: an idle one, or a new one."""
        self._check(shapes)
        key = kind, frozenset(shapes.items())
        execution = self._take(key) or self._new(kind, shapes)
        assert isinstance(execution, kind)
        try:
            yield execution
        except BaseException:
            execution.close()  # nobody knows what its stream is doing
            raise
        with self._lock:
            self._idle.setdefault(key, []).append(execution)

    def _take(self, key: object) -> "_Execution | None":
        """An idle execution, if there is one; those of the shapes that were not used for longest are closed."""
        with self._lock:
            idle = self._idle.pop(key, [])
            self._idle[key] = idle
            while len(self._idle) > _KEPT_SHAPES:
                _close_all(self._idle.pop(next(iter(self._idle))))
            return idle.pop() if idle else None

    def _new(self, kind: "type[Kind]", shapes: Mapping[str, Shape]) -> "Kind":
        try:
            return kind(self._engine, self._device, shapes)
        except OutOfMemoryError:
            with self._lock:  # what is kept for later can be done without
                for idle in self._idle.values():
                    _close_all(idle)
            return kind(self._engine, self._device, shapes)

    def _check(self, shapes: Mapping[str, Shape]) -> None:
        """Raise BackendError for an input that is missing, unknown, or past what the engine was built for."""
        limits = self._engine.inputs
        if shapes.keys() != limits.keys():
            wrong = ", ".join(sorted(shapes.keys() ^ limits.keys()))
            raise BackendError(
                f"{self._engine.name} takes the inputs {', '.join(limits)}: missing or unknown is {wrong}"
            )
        for name, shape in shapes.items():
            least, most = limits[name].least, limits[name].most
            fits = len(shape) == len(most) and all(
                low <= size <= high for low, size, high in zip(least, shape, most, strict=True)
            )
            if not fits:
                raise BackendError(
                    f"{self._engine.name}: {name} has shape {shape} and the engine was built for {least} to {most}: "
                    "give less at once, or build it with larger limits (fte build --batch, --max-text, --max-frames)"
                )


def _close_all(executions: "list[_Execution]") -> None:
    while executions:
        executions.pop().close()


class _Execution:
    """A context of an engine at one shape, with its buffers, stream and CUDA graph."""

    def __init__(self, engine: Engine, device: Device, shapes: Mapping[str, Shape]) -> None:
        self.device, self.name = device, engine.name
        self._held: list[DeviceArray | PinnedArray | Stream | Event | CudaGraph] = []
        try:
            self.stream = self.hold(device.stream())
            self._context = engine.context()
            results = self._context.set_shapes(shapes, self.stream.handle)
            self.inputs = {n: self.hold(device.empty(s, engine.inputs[n].dtype)) for n, s in shapes.items()}
            self.outputs = {n: self.hold(device.empty(results[n], dtype)) for n, dtype in engine.outputs.items()}
        except BaseException:
            self.close()
            raise
        for name, array in (self.inputs | self.outputs).items():
            self._context.bind(name, array.pointer)
        self._compute = _Repeated(self, self.enqueue)
        self._staging: dict[str, PinnedArray] = {}

    def hold(self, resource: Resource) -> Resource:
        """Close ``resource`` with the execution."""
        self._held.append(resource)
        return resource

    def enqueue(self) -> None:
        self._context.enqueue(self.stream.handle)

    def capturable(self) -> bool:
        """Whether what is enqueued now can be captured."""
        return self._context.capturable(self.stream.handle)

    def staging(self, name: str, like: DeviceArray) -> PinnedArray:
        """Page-locked memory for copies of an input or output."""
        if name not in self._staging:
            self._staging[name] = self.hold(self.device.pinned(like.shape, like.dtype))
        return self._staging[name]

    def upload(self, name: str, values: Array) -> None:
        """Copy an input to the device; the stream must be done with the last such copy."""
        pinned = self.staging(name, self.inputs[name])
        pinned.array[...] = values
        self.stream.upload(self.inputs[name], pinned)

    def run(self, outputs: Sequence[str], inputs: Mapping[str, Array]) -> list[Array]:
        for name, values in inputs.items():
            self.upload(name, values)
        self._compute()
        for name in outputs:
            self.stream.download(self.staging(name, self.outputs[name]), self.outputs[name])
        self.stream.synchronize()
        return [self._staging[name].array.copy() for name in outputs]

    def close(self) -> None:
        while self._held:
            self._held.pop().close()


class _Repeated:
    """Work that is enqueued again and again: as it is the first time, then as a CUDA graph where that can be."""

    def __init__(self, execution: _Execution, enqueue: Callable[[], None]) -> None:
        self._execution, self._enqueue = execution, enqueue
        self._graph: CudaGraph | None = None
        self._ran, self._uncapturable = False, False

    def __call__(self) -> None:
        if self._graph is None and self._ran and not self._uncapturable:
            self._capture()
        if self._graph is None:
            self._enqueue()  # kernels may be compiled and memory allocated now, which no capture allows
            self._ran = True
        else:
            self._graph.launch(self._execution.stream)

    def _capture(self) -> None:
        """Make the graph, or find that there can be none: a network with a loop, such as an LSTM, may refuse."""
        self._uncapturable = not self._execution.capturable()
        if self._uncapturable:
            return
        try:
            with self._execution.stream.capture() as capture:
                self._enqueue()
        except BackendError:
            self._uncapturable = True
        else:
            self._graph = self._execution.hold(capture.graph)


class _LoopExecution(_Execution):
    """An execution of a graph of several frames: its outputs go to two slots in turn, its state back to its inputs."""

    SLOTS = 2
    CAPACITY = 512
    """The buffers of timed inputs grow by this many frames."""

    def __init__(self, engine: Engine, device: Device, shapes: Mapping[str, Shape]) -> None:
        super().__init__(engine, device, shapes)
        self._state = [name for name in self.inputs if f"next_{name}" in self.outputs]
        self._results = [name for name in FRAME_OUTPUTS if name in self.outputs]
        self._step = _Repeated(self, self._enqueue_step)
        self.slots = [self._slot() for _ in range(self.SLOTS)]
        self._timed: dict[str, tuple[PinnedArray, DeviceArray]] = {}

    def _slot(self) -> "_Slot":
        arrays = {
            name: self.device.pinned(self.outputs[name].shape, self.outputs[name].dtype) for name in self._results
        }
        return _Slot({name: self.hold(array) for name, array in arrays.items()}, self.hold(self.device.event()))

    def _enqueue_step(self) -> None:
        self.enqueue()
        for name in self._state:
            self.stream.copy(self.inputs[name], self.outputs[f"next_{name}"])

    def begin(self, inputs: Mapping[str, Array], timed: Mapping[str, Array]) -> None:
        """Put the inputs of a new loop on their way."""
        for name, values in inputs.items():
            self.upload(name, values)
        for name, rows in timed.items():
            pinned, array = self._timed_buffers(name, rows)
            pinned.array[: len(rows)] = rows
            self.stream.upload(array, pinned)

    def _timed_buffers(self, name: str, rows: Array) -> tuple[PinnedArray, DeviceArray]:
        """Buffers for all rows of a timed input, with room for the block that reaches past the last."""
        needed = len(rows) + len(self.inputs[name])
        if name not in self._timed or len(self._timed[name][0].array) < needed:
            shape = (-(-needed // self.CAPACITY) * self.CAPACITY, *rows.shape[1:])
            pinned = self.hold(self.device.pinned(shape, rows.dtype))
            pinned.array[...] = 0
            self._timed[name] = pinned, self.hold(self.device.empty(shape, rows.dtype))
        return self._timed[name]

    def launch(self, first_frame: int, slot: "_Slot") -> None:
        """Enqueue a block: no part of this waits for the device."""
        for name, (_, array) in self._timed.items():
            self.stream.copy(self.inputs[name], array[first_frame : first_frame + len(self.inputs[name])])
        self._step()
        for name, pinned in slot.arrays.items():
            self.stream.download(pinned, self.outputs[name])
        self.stream.record(slot.done)


@dataclass(frozen=True)
class _Slot:
    """Where the outputs of a block arrive in the host's memory."""

    arrays: Mapping[str, PinnedArray]
    done: Event


class EngineLoop:
    """A loop whose state stays in the engine's buffers; the host waits for a block only when it collects it."""

    def __init__(self, execution: _LoopExecution, frames: int, borrowed: ExitStack) -> None:
        self._execution, self._frames, self._borrowed = execution, frames, borrowed
        self._blocks = 0
        self._launched: deque[_Slot] = deque()

    def launch(self) -> None:
        assert len(self._launched) < _LoopExecution.SLOTS, "all slots are on their way: collect one"
        slot = self._execution.slots[self._blocks % _LoopExecution.SLOTS]
        self._execution.launch(self._blocks * self._frames, slot)
        self._launched.append(slot)
        self._blocks += 1

    def collect(self) -> Mapping[str, Array]:
        slot = self._launched.popleft()
        slot.done.synchronize()
        return {name: pinned.array.copy() for name, pinned in slot.arrays.items()}

    def close(self) -> None:
        with self._borrowed:
            self._execution.stream.synchronize()


Kind = TypeVar("Kind", bound=_Execution)
