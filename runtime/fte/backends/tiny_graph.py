"""Models of a single node as the bytes of an ONNX file, for probes and ceilings: the runtime does without `onnx`.

The fields are those of the public schema (onnx.proto of the ONNX project), in protobuf's wire format.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_IR_VERSION, _OPSET = 8, 17
_ELEMENT_TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "float16": 10}
"""Numbers of TensorProto.DataType."""


@dataclass(frozen=True, slots=True)
class Value:
    """Name, type and shape of an input or output."""

    name: str
    dtype: npt.DTypeLike
    shape: tuple[int, ...]


def one_node_model(
    operator: str, inputs: Sequence[Value], output: Value, constants: Mapping[str, npt.NDArray[np.generic]]
) -> bytes:
    """The file of a model that applies ``operator`` to its inputs, then its constants. Types: those of the table."""
    names = [*(value.name for value in inputs), *constants]
    node = b"".join([*(_bytes(1, name.encode()) for name in names), _bytes(2, output.name.encode())])
    node += _bytes(4, operator.encode())
    graph = _bytes(1, node) + _bytes(2, operator.encode())
    graph += b"".join(_bytes(5, _tensor(name, array)) for name, array in constants.items())
    graph += b"".join(_bytes(11, _value(value)) for value in inputs) + _bytes(12, _value(output))
    return _number(1, _IR_VERSION) + _bytes(7, graph) + _bytes(8, _number(2, _OPSET))


def _tensor(name: str, array: npt.NDArray[np.generic]) -> bytes:
    """A TensorProto with its values in little-endian order."""
    values = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    sizes = b"".join(_number(1, size) for size in array.shape)
    return sizes + _number(2, _ELEMENT_TYPES[array.dtype.name]) + _bytes(8, name.encode()) + _bytes(9, values.tobytes())


def _value(value: Value) -> bytes:
    """A ValueInfoProto."""
    shape = _joined(1, (_number(1, size) for size in value.shape))
    tensor = _number(1, _ELEMENT_TYPES[np.dtype(value.dtype).name]) + _bytes(2, shape)
    return _bytes(1, value.name.encode()) + _bytes(2, _bytes(1, tensor))


def _joined(field: int, parts: Iterable[bytes]) -> bytes:
    return b"".join(_bytes(field, part) for part in parts)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the highest bit says that more follow."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
