"""Graphs in fp16 and bf16 on machines that do not compute in these types.

ONNX Runtime has no bf16 on a CPU, and runs fp16 in fp32 without rounding what lies between.
"""

from pathlib import Path

import onnx
from onnx import TensorProto, helper

from fte.backends import OnnxRuntimeBackend
from fte.backends.base import Graph, GraphFiles, Usage
from fte_export.graphs.builder import NARROW

_NARROW = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


def emulated(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with each narrow operator computed in fp32 between casts, its result rounded to its type.

    That is what a GPU does, whose products of narrow numbers are summed in fp32, but for the order of the sums.
    """
    model = onnx.shape_inference.infer_shapes(model)
    graph = model.graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input, *graph.output)}
    kinds |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    narrow = {name: kind for name, kind in kinds.items() if kind in _NARROW}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        nodes += [node] if node.op_type == "Cast" else _between_casts(node, narrow)
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def _between_casts(node: onnx.NodeProto, narrow: dict[str, int]) -> list[onnx.NodeProto]:
    """``node`` with its narrow inputs widened before it and its narrow outputs narrowed after it."""
    before, after = [], []
    for i, name in enumerate(node.input):
        if name in narrow:
            node.input[i] = f"{node.name}.wide_input_{i}"
            before.append(helper.make_node("Cast", [name], [node.input[i]], to=TensorProto.FLOAT))
    for i, name in enumerate(node.output):
        if name in narrow:
            node.output[i] = f"{node.name}.wide_output_{i}"
            after.append(helper.make_node("Cast", [node.output[i]], [name], to=narrow[name]))
    return [*before, node, *after]


class EmulatingBackend(GraphFiles):
    """A backend that runs narrow graphs as `emulated` gives them, and others as they are.

    The folder of a narrow graph must be writable: its emulation stands there, beside the weights, while it is loaded.
    """

    def __init__(self, backend: OnnxRuntimeBackend) -> None:
        self._backend = backend
        self.device = backend.device
        self.block_frames, self.symbol_multiple = backend.block_frames, backend.symbol_multiple

    @property
    def description(self) -> str:
        return f"{self._backend.description}, fp16 and bf16 emulated"

    def usage(self) -> Usage | None:
        return self._backend.usage()

    def load(self, path: Path) -> Graph:
        if not path.name.endswith(tuple(f".{precision}.onnx" for precision in NARROW)):
            return self._backend.load(path)
        emulation = path.with_name(f"emulated.{path.name}")
        try:
            onnx.save(emulated(onnx.load(path, load_external_data=False)), emulation)
            return self._backend.load(emulation)
        finally:
            emulation.unlink(missing_ok=True)
