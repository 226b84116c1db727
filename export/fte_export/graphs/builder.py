"""A small writer of ONNX graphs whose large constants lie in one shared, memory-mappable file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from fte.backends.int8_sums import EXACT, INT8_SUMS
from fte.errors import RequestError
from fte_export.quantize import quantize_blocks, quantize_columns

Precision = Literal["fp32", "int8", "fp16", "bf16"]

OPSET = 18
NARROW_OPSET = 22
"""The first in which every operator of these graphs takes bfloat16."""
CONTRIB = "com.microsoft"
IR_VERSION = 10

NARROW: Mapping[Precision, type] = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16}
"""The precisions for GPUs. What is narrow is written in the graph itself, value by value, because TensorRT 11 takes no
other word for it: products with weights, and in WaveGlow what lies between them. Everything else stays fp32: scores
and softmax, cell states, log_s, exp and the affine inverse, WaveGlow's 1x1 inverses, and every input and output."""

_EXTERNAL_BYTES = 4096
"""Constants of at least this size go to the weight file, aligned to this size so that they can be mapped."""

_ONNX_TYPES = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.int64): TensorProto.INT64,
    np.dtype(np.bool_): TensorProto.BOOL,
    np.dtype(np.int8): TensorProto.INT8,
    np.dtype(np.uint8): TensorProto.UINT8,
    np.dtype(np.int32): TensorProto.INT32,
    np.dtype(np.float16): TensorProto.FLOAT16,
    np.dtype(ml_dtypes.bfloat16): TensorProto.BFLOAT16,
}

INT8_BLOCK = 128
"""Inputs that share one scale in a blockwise product; every concatenated part of a state starts a new block."""


class _Place(NamedTuple):
    """Where a constant lies in a weight file, and what it is."""

    offset: int
    length: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class WeightFile:
    """The large constants of one or several graphs; a constant asked for twice under one key is stored once."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._chunks: list[tuple[int, NDArray[Any]]] = []
        self._places: dict[str, _Place] = {}
        self._end = 0

    def place(self, key: str) -> _Place | None:
        """Where the constant ``key`` lies, or None if it is not stored."""
        return self._places.get(key)

    def store(self, key: str, array: NDArray[Any]) -> _Place:
        """Store ``array`` under a new ``key``."""
        offset = -(-self._end // _EXTERNAL_BYTES) * _EXTERNAL_BYTES
        self._chunks.append((offset, array))
        self._end = offset + array.nbytes
        self._places[key] = _Place(offset, array.nbytes, array.shape, array.dtype)
        return self._places[key]

    def write(self, folder: Path) -> Path:
        """Write the file into ``folder``; return its path."""
        path = folder / self.name
        with path.open("wb") as file:
            for offset, array in self._chunks:
                file.seek(offset)
                file.write(np.ascontiguousarray(array).view(np.uint8).data)  # bfloat16 has no buffer of its own
        return path


@dataclass
class GraphBuilder:
    """Collects nodes; methods return the names of the values they make.

    ``precision`` decides how `linear` multiplies; other methods name theirs.
    """

    name: str
    weights: WeightFile
    precision: Precision = "fp32"
    prefix: str = ""
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[TensorProto] = field(default_factory=list)
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    outputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    parent: "GraphBuilder | None" = None
    _count: int = 0
    _constants: dict[str, str] = field(default_factory=dict)

    def fresh(self, stem: str) -> str:
        """A value name that this graph has not used."""
        self._count += 1
        return f"{self.prefix}{stem}_{self._count}"

    def input(self, name: str, dtype: type, axes: Sequence[str | int]) -> str:
        """Declare a graph input whose axes are names (dynamic) or sizes."""
        self.inputs.append(helper.make_tensor_value_info(name, _ONNX_TYPES[np.dtype(dtype)], list(axes)))
        return name

    def output(self, value: str, name: str, dtype: type, axes: Sequence[str | int]) -> None:
        """Give ``value`` out under ``name``."""
        self.nodes.append(helper.make_node("Identity", [value], [name], name=f"{self.prefix}output_{name}"))
        self.outputs.append(helper.make_tensor_value_info(name, _ONNX_TYPES[np.dtype(dtype)], list(axes)))

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Append a node with one output."""
        return self.ops(kind, *inputs, outputs=1, domain=domain, **attributes)[0]

    def ops(self, kind: str, *inputs: str, outputs: int, domain: str = "", **attributes: Any) -> list[str]:
        """Append a node with several outputs."""
        names = [self.fresh(kind.lower()) for _ in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=names[0], domain=domain, **attributes))
        return names

    def constant(self, array: Any, key: str = "") -> str:
        """A constant; ``key`` names large ones in the weight file, so that graphs of one file can share them.

        ``array`` may be a function that makes it: it is not called where ``key`` is known.
        """
        if self.parent is not None:
            return self.parent.constant(array, key)
        if key and key in self._constants:
            return self._constants[key]
        name = self._initializer(array, key or self.fresh("constant"), key)
        if key:
            self._constants[key] = name
        return name

    def own_constant(self, array: NDArray[Any], key: str) -> str:
        """A constant for one node alone, in the graph of that node even where it is a Scan's body.

        Its bytes lie in the weight file once for each ``key``. ONNX Runtime replaces the weights of an int8 product
        only where they are such (`fte.backends.int8_sums`).
        """
        return self._initializer(array, self.fresh(f"{key}_of"), key)

    def _initializer(self, array: Any, name: str, key: str) -> str:
        """An initializer ``name`` with the content of ``key``, which lies in the weight file if it is large."""
        place = self.weights.place(key)
        if place is None:
            array = np.asarray(array() if callable(array) else array)
            if key and array.nbytes >= _EXTERNAL_BYTES:
                place = self.weights.store(key, array)
        self.initializers.append(
            numpy_helper.from_array(np.ascontiguousarray(array), name) if place is None else self._external(name, place)
        )
        return name

    def _external(self, name: str, place: _Place) -> TensorProto:
        tensor = TensorProto(name=name, dims=place.shape, data_type=_ONNX_TYPES[place.dtype])
        tensor.data_location = TensorProto.EXTERNAL
        entries = (("location", self.weights.name), ("offset", place.offset), ("length", place.length))
        for entry, value in entries:
            tensor.external_data.add(key=entry, value=str(value))
        return tensor

    def scalar(self, value: float) -> str:
        """A float32 constant without axes."""
        return self.constant(np.float32(value), f"scalar_{value!r}")

    def ints(self, *values: int) -> str:
        """An int64 vector constant, for axes and sizes."""
        return self.constant(np.array(values, np.int64), "ints_" + "_".join(map(str, values)))

    def split(self, value: str, sizes: Sequence[int], axis: int = -1) -> list[str]:
        """Cut ``value`` along ``axis`` into parts of the given sizes."""
        return self.ops("Split", value, self.ints(*sizes), outputs=len(sizes), axis=axis)

    def linear(self, x: str, weight: NDArray[np.float32], bias: NDArray[np.float32] | None, key: str) -> str:
        """x (B, K) times weight (N, K) transposed, plus bias (N): (B, N). For few rows: the product reads weights.

        In int8 both operands are quantized in blocks of `INT8_BLOCK` along K, each row of x by itself, so that what
        an utterance gives never depends on the batch it is in. In fp16 and bf16 the operands and the product are
        narrow, the bias is added in fp32.
        """
        if self.precision == "int8":
            blocks, scales = quantize_blocks(weight, INT8_BLOCK)
            operands = [x, self.constant(blocks, f"{key}.int8"), self.constant(scales, f"{key}.scale")]
            if bias is not None:
                operands += ["", "", self.constant(bias, f"{key}.bias")]
            n, k = weight.shape
            sizes = {"K": k, "N": n, "bits": 8, "block_size": INT8_BLOCK, "accuracy_level": 4}
            return self.op("MatMulNBits", *operands, domain=CONTRIB, **sizes)
        if self.precision in NARROW:
            columns = self.narrow_constant(weight.T, f"{key}.weight")
            product = self.wide(self.op("MatMul", self.narrow(x), columns))
            return product if bias is None else self.op("Add", product, self.constant(bias, f"{key}.bias"))
        return self.linear_fp32(x, weight, bias, key)

    def narrow(self, x: str) -> str:
        """An fp32 value in the narrow type of this graph's precision; unchanged where it has none."""
        if self.precision not in NARROW:
            return x
        return self.op("Cast", x, to=_ONNX_TYPES[np.dtype(NARROW[self.precision])])

    def wide(self, x: str) -> str:
        """A narrow value in fp32; unchanged where this graph's precision has no narrow type."""
        return self.op("Cast", x, to=TensorProto.FLOAT) if self.precision in NARROW else x

    def narrow_constant(self, array: NDArray[np.float32], key: str) -> str:
        """A constant in the narrow type, or in fp32 where this graph's precision has none.

        Raises RequestError for a value that fp16 cannot hold.
        """

        def converted() -> NDArray[Any]:
            with np.errstate(over="ignore"):
                values: NDArray[Any] = np.ascontiguousarray(array.astype(NARROW.get(self.precision, np.float32)))
            if not np.isfinite(values.astype(np.float32)).all():
                raise RequestError(f"{key} has values that {self.precision} cannot hold: choose fp32 or bf16")
            return values

        return self.constant(converted, key)

    def linear_fp32(self, x: str, weight: NDArray[np.float32], bias: NDArray[np.float32] | None, key: str) -> str:
        """The same product in fp32 whatever the precision: x (..., K), weight (N, K) -> (..., N)."""
        if self.precision in NARROW:
            rows = self.op("Unsqueeze", x, self.ints(-2))
            product = self.sum_of_products(rows, self.constant(weight, f"{key}.rows"), -1)
        else:
            product = self.op("MatMul", x, self.constant(lambda: np.ascontiguousarray(weight.T), f"{key}.weight"))
        return product if bias is None else self.op("Add", product, self.constant(bias, f"{key}.bias"))

    def sum_of_products(self, x: str, y: str, axis: int) -> str:
        """x * y summed over an axis in fp32, for small products in narrow graphs: TensorRT has no others on Turing."""
        return self.op("ReduceSum", self.op("Mul", x, y), self.ints(axis), keepdims=0)

    def quantize(self, x: str) -> tuple[str, str, str]:
        """Dynamic quantization to uint8 of a whole tensor: values, scale, zero point."""
        values, scale, zero = self.ops("DynamicQuantizeLinear", x, outputs=3)
        return values, scale, zero

    def linear_quantized(
        self, x: tuple[str, str, str], weight: NDArray[np.float32], bias: NDArray[np.float32] | None, key: str
    ) -> str:
        """A quantized x (..., K) from `quantize` times weight (N, K) transposed, int8 per output channel, plus bias."""
        values, scale, zero = x
        columns, column_scales = quantize_columns(weight)
        own = self.own_constant(columns, f"{key}.int8")
        operands = [values, own, scale, self.constant(column_scales, f"{key}.scale")]
        operands += [zero, ""] + ([] if bias is None else [self.constant(bias, f"{key}.bias")])
        return self.op("MatMulIntegerToFloat", *operands, domain=CONTRIB)

    def body(self, name: str) -> "GraphBuilder":
        """A builder for the body of a Scan of this graph; it may name this graph's values and shares its constants."""
        return GraphBuilder(name, self.weights, self.precision, prefix=f"{self.prefix}{name}.", parent=self)

    def with_idle_state(self) -> "GraphBuilder":
        """This body with a state that it passes on as it is: TensorRT's parser takes no Scan without one."""
        state = self.input(f"{self.prefix}idle", np.float32, [1])
        self.output(state, f"{self.prefix}next_idle", np.float32, [1])
        self.inputs.insert(0, self.inputs.pop())
        self.outputs.insert(0, self.outputs.pop())
        return self

    def scan(self, body: "GraphBuilder", scanned: Sequence[str], *, states: Sequence[str] = (), axis: int) -> list[str]:
        """Run ``body`` once for each slice along ``axis`` of the scanned values.

        The body's inputs are the states, then the slices; its outputs the next states, then what is stacked along
        ``axis``. Returns the final states and the stacked outputs.
        """
        if not states:
            return self.scan(body.with_idle_state(), scanned, states=[self.scalar(0)], axis=axis)[1:]
        names = [self.fresh("scan") for _ in body.outputs]
        attributes: dict[str, Any] = {
            "body": body.graph(),
            "num_scan_inputs": len(scanned),
            "scan_input_axes": [axis] * len(scanned),
            "scan_output_axes": [axis] * (len(names) - len(states)),
        }
        self.nodes.append(helper.make_node("Scan", [*states, *scanned], names, name=names[0], **attributes))
        return names

    def graph(self) -> onnx.GraphProto:
        """The graph alone, as the body of a Scan needs it."""
        return helper.make_graph(self.nodes, self.name, self.inputs, self.outputs, self.initializers)

    def model(self) -> onnx.ModelProto:
        """The finished model; its weight file has to be written beside it."""
        opsets = [helper.make_opsetid("", NARROW_OPSET if self.precision in NARROW else OPSET)]
        if self.precision == "int8":
            opsets.append(helper.make_opsetid(CONTRIB, 1))
        model = helper.make_model(self.graph(), opset_imports=opsets, ir_version=IR_VERSION, producer_name="fte")
        if self.precision == "int8":
            helper.set_model_props(model, {INT8_SUMS: EXACT})
        return model
