"""TensorRT engines without TensorRT or a GPU: their answers come from ONNX Runtime, when their stream gets to them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx

from fake_cuda import FakeDriver
from fte.backends import OnnxRuntimeBackend
from fte.backends.trt_library import Limits
from fte.errors import EngineError


@dataclass
class FakeEngine:
    """Implements `fte.backends.tensorrt.Engine` over an ONNX graph; every axis with a name may be 1 to ``most``."""

    path: Path
    driver: FakeDriver
    most: Mapping[str, int] = field(default_factory=lambda: {"B": 8, "N": 200})
    captures: bool = True
    """Whether it says that it can be captured."""
    refuses: bool = False
    """Whether it refuses all the same when it comes to it."""

    def __post_init__(self) -> None:
        self.name = self.path.name
        self._graph = OnnxRuntimeBackend("cpu").load(self.path)
        model = onnx.load(self.path, load_external_data=False)
        self.inputs = {value.name: self._limits(value) for value in model.graph.input}
        self._outputs = {value.name: (_dtype(value), _axes(value)) for value in model.graph.output}
        self.outputs = {name: dtype for name, (dtype, _) in self._outputs.items()}
        self._axes = {value.name: _axes(value) for value in model.graph.input}

    def _limits(self, value: onnx.ValueInfoProto) -> Limits:
        axes = _axes(value)
        most = tuple(self.most.get(axis, 1 << 20) if isinstance(axis, str) else axis for axis in axes)
        return Limits(_dtype(value), tuple(1 if isinstance(axis, str) else axis for axis in axes), most)

    def context(self) -> "FakeContext":
        return FakeContext(self)


class FakeContext:
    """Reads its inputs' addresses and writes its outputs' when it is computed, as an engine does."""

    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._pointers: dict[str, int] = {}
        self.enqueued = 0

    def set_shapes(self, shapes, stream):
        engine = self._engine
        sizes = {
            axis: size for name, shape in shapes.items() for axis, size in zip(engine._axes[name], shape, strict=True)
        }
        results = {name: tuple(sizes.get(a, a) for a in axes) for name, (_, axes) in engine._outputs.items()}
        if "samples" in engine._outputs.get("audio", (None, ()))[1]:
            results["audio"] = (sizes["B"], sizes["G"] * shapes["noise"][2])
        self._shapes = {**shapes, **results}
        return results

    def bind(self, name, pointer):
        self._pointers[name] = pointer

    def capturable(self, stream):
        return self._engine.captures

    def enqueue(self, stream):
        self.enqueued += 1
        if self._engine.refuses and self._engine.driver.streams[stream].captured is not None:
            raise EngineError("a loop cannot be captured")
        self._engine.driver.enqueue(stream, self._compute)

    def _compute(self):
        engine, driver = self._engine, self._engine.driver
        inputs = {}
        for name, limits in engine.inputs.items():
            size = int(np.prod(self._shapes[name])) * limits.dtype.itemsize
            data = np.frombuffer(driver.read(self._pointers[name], size), limits.dtype)
            inputs[name] = data.reshape(self._shapes[name])
        names = list(engine.outputs)
        for name, values in zip(names, engine._graph.run(names, inputs), strict=True):
            assert values.shape == self._shapes[name], name
            driver.write(self._pointers[name], np.ascontiguousarray(values).tobytes())


def _axes(value: onnx.ValueInfoProto) -> tuple[str | int, ...]:
    return tuple(axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim)


def _dtype(value: onnx.ValueInfoProto) -> np.dtype:
    return onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
