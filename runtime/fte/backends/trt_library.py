"""TensorRT, or TensorRT for RTX: everything in which the two differ, and their engines in numpy's terms.

`tensorrt` builds for the GPU it runs on and times kernels there. `tensorrt_rtx` (tensorrt-rtx-cu13) builds without one,
for the compute capabilities it is told, and compiles kernels when an engine is first run. Their Python interfaces are
the same but for that.
"""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fte.errors import BackendError, EngineError, import_fault

LIBRARIES = {"tensorrt": "flowtron-fte[tensorrt]", "tensorrt_rtx": "flowtron-fte[tensorrt-rtx]"}
"""Import packages in the order of preference, and what installs them."""
LEAST_TENSORRT = (10, 13)
_MOST_MESSAGES = 20

Shape = tuple[int, ...]


def find_library(name: str | None = None) -> "Library":
    """The library of that name, or tensorrt where it can be imported and else tensorrt_rtx.

    Raises BackendError where none is installed, or too old a one, or one that cannot be imported and no other.
    """
    if name is not None and name not in LIBRARIES:
        raise BackendError(f"the library {name!r} is unknown: choose one of {', '.join(LIBRARIES)}")
    broken: list[str] = []
    for candidate in LIBRARIES if name is None else (name,):
        try:
            return Library(candidate, importlib.import_module(candidate))
        except ImportError as error:
            if fault := import_fault(error, [candidate], ""):
                broken.append(fault)
    if broken:
        raise BackendError(broken[0])
    wanted = [LIBRARIES[name]] if name else list(LIBRARIES.values())
    raise BackendError(f"TensorRT engines need a package that is not installed: install {' or '.join(wanted)}")


class Library:
    """One of the two. Raises BackendError for a tensorrt that is too old for strongly typed graphs in bf16."""

    def __init__(self, name: str, module: Any) -> None:
        self.name, self.module = name, module
        self.version = str(module.__version__)
        have = tuple(int(part) for part in self.version.split(".")[:2])
        if name == "tensorrt" and have < LEAST_TENSORRT:
            least = ".".join(map(str, LEAST_TENSORRT))
            raise BackendError(f"tensorrt {self.version} is too old: install {least} or newer, or tensorrt_rtx")
        self.log = _make_log(module)

    @property
    def description(self) -> str:
        return f"{'TensorRT' if self.name == 'tensorrt' else 'TensorRT for RTX'} {self.version}"

    @cached_property
    def targets(self) -> tuple[int, ...]:
        """Compute capabilities (89 for 8.9) that it builds for on any machine; none where it needs the GPU itself."""
        members = getattr(getattr(self.module, "ComputeCapability", None), "__members__", {})
        return tuple(sorted(int(member[2:]) for member in members if member[:2] == "SM" and member[2:].isdigit()))

    def new_builder(self) -> Any:
        return self.module.Builder(self.log)

    def new_network(self, builder: Any) -> Any:
        """A network whose types are those of the graph. TensorRT 11 knows no other."""
        typed = getattr(self.module.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
        return builder.create_network(0 if typed is None else 1 << int(typed))

    def new_config(self, builder: Any, target: int | None) -> Any:
        """A configuration for a compute capability, or for the GPU of this machine.

        Raises BackendError for a capability that the library does not build for.
        """
        config = builder.create_builder_config()
        config.clear_flag(self.module.BuilderFlag.TF32)  # what the graph says is fp32 shall be
        if target is not None:
            if target not in self.targets:
                able = ", ".join(map(str, self.targets)) or "the GPU of this machine alone"
                raise BackendError(f"{self.description} does not build for compute capability {target}: give {able}")
            config.num_compute_capabilities = 1
            config.set_compute_capability(getattr(self.module.ComputeCapability, f"SM{target}"), 0)
        return config

    def open_engine(self, data: bytes, name: str) -> "TrtEngine":
        """Deserialise an engine. Raises EngineError where this library or this GPU cannot run it."""
        self.log.messages.clear()
        runtime = self.module.Runtime(self.log)
        engine = runtime.deserialize_cuda_engine(data) if runtime else None
        if engine is None:
            raise EngineError(
                f"the engine of {name} cannot be loaded by {self.description} ({self.log.last()}): build it again with "
                "fte build"
            )
        return TrtEngine(self, runtime, engine, name)


@dataclass(frozen=True, slots=True)
class Limits:
    """What an input may be."""

    dtype: np.dtype[Any]
    least: Shape
    most: Shape


class TrtEngine:
    """An engine of either library; see `fte.backends.tensorrt.Engine`."""

    def __init__(self, library: Library, runtime: Any, engine: Any, name: str) -> None:
        self.library, self.engine, self.name = library, engine, name
        self._runtime = runtime  # must outlive its engines
        module = library.module
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        kinds = {name: np.dtype(module.nptype(engine.get_tensor_dtype(name))) for name in names}
        given = [name for name in names if engine.get_tensor_mode(name) == module.TensorIOMode.INPUT]
        self.profiles: list[dict[str, tuple[Shape, Shape]]] = [
            {name: _range(engine.get_tensor_profile_shape(name, i)) for name in given}
            for i in range(engine.num_optimization_profiles)
        ]
        self.inputs: Mapping[str, Limits] = {
            name: Limits(
                kinds[name],
                tuple(map(min, zip(*(p[name][0] for p in self.profiles), strict=True))),
                tuple(map(max, zip(*(p[name][1] for p in self.profiles), strict=True))),
            )
            for name in given
        }
        self.outputs = {name: kinds[name] for name in names if name not in given}

    def context(self) -> "TrtContext":
        """A new execution context. Raises EngineError where the GPU has no room for it."""
        self.library.log.messages.clear()
        context = self.engine.create_execution_context()
        if context is None:
            raise EngineError(f"{self.name}: no execution context can be made ({self.library.log.last()})")
        return TrtContext(self, context)


class TrtContext:
    """See `fte.backends.tensorrt.Context`."""

    def __init__(self, engine: TrtEngine, context: Any) -> None:
        self._engine, self._context = engine, context

    def set_shapes(self, shapes: Mapping[str, Shape], stream: int) -> Mapping[str, Shape]:
        profile = self._profile(shapes)
        if profile != self._context.active_optimization_profile:
            self._check(self._context.set_optimization_profile_async(profile, stream), f"profile {profile}")
        for name, shape in shapes.items():
            self._check(self._context.set_input_shape(name, shape), f"shape {shape} of {name}")
        return {name: tuple(self._context.get_tensor_shape(name)) for name in self._engine.outputs}

    def _profile(self, shapes: Mapping[str, Shape]) -> int:
        """The first profile in which all shapes lie."""
        for i, ranges in enumerate(self._engine.profiles):
            if all(_within(shape, *ranges[name]) for name, shape in shapes.items()):
                return i
        raise EngineError(f"{self._engine.name} was built for no profile with shapes {dict(shapes)}: use fte build")

    def bind(self, name: str, pointer: int) -> None:
        self._check(self._context.set_tensor_address(name, pointer), f"an address for {name}")

    def enqueue(self, stream: int) -> None:
        self._check(self._context.execute_async_v3(stream), "to run")

    def capturable(self, stream: int) -> bool:
        if not hasattr(self._context, "is_stream_capturable"):
            return True
        return bool(self._context.is_stream_capturable(stream))

    def _check(self, done: bool, what: str) -> None:
        if not done:
            raise EngineError(f"{self._engine.name} refused {what}: {self._engine.library.log.last()}")


def _range(shapes: Sequence[Any]) -> tuple[Shape, Shape]:
    """Smallest and largest of a profile's (smallest, usual, largest)."""
    least, _, most = shapes
    return tuple(least), tuple(most)


def _within(shape: Shape, least: Shape, most: Shape) -> bool:
    return len(shape) == len(most) and all(a <= b <= c for a, b, c in zip(least, shape, most, strict=True))


def _make_log(module: Any) -> Any:
    """A logger of the library that keeps what it is told instead of printing it."""

    class Log(module.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.messages: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (module.ILogger.Severity.ERROR, module.ILogger.Severity.INTERNAL_ERROR):
                self.messages[_MOST_MESSAGES - 1 :] = [message]

        def last(self) -> str:
            """The first message kept, which is mostly the cause of the others, in one line."""
            return " ".join(self.messages[0].split())[:300] if self.messages else "no reason was given"

    return Log()
