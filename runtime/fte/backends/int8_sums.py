"""How ONNX Runtime sums int8 products on this CPU: the one place that knows, for graphs, export and `fte doctor`.

With VNNI a product of bytes without sign (activations) and with sign (weights) is summed in 32 bits. On an x86 CPU with
AVX2 and without VNNI ONNX Runtime takes an instruction (vpmaddubsw) that adds two such products in 16 bits and cuts off
what is past 32767, which 2 * 255 * 127 is by far. Its session option `session.x64quantprecision` gives such weights 128
more and a zero point, and takes a kernel for two factors without sign, whose sums are exact; it finds only weights that
are constants of the product's own graph, each for one node. Graphs written so say it in their metadata (`INT8_SUMS`).
MatMulNBits, the products of the flows, are exact everywhere.
"""

import platform
from collections.abc import Collection
from typing import Any

import numpy as np

from fte.backends.tiny_graph import Value, one_node_model

INT8_SUMS = "fte.int8_sums"
"""Key in the metadata of an int8 graph."""
EXACT = "exact"
"""Its value where ONNX Runtime can keep the sums exact on every CPU; graphs of older exports have none."""
PRECISE_OPTION = ("session.x64quantprecision", "1")
"""Entry of a session's configuration. Only for CPUs that need it: with VNNI it makes the products four times slower."""

_PRODUCT = b"MatMulInteger"
_PRODUCT_OF_EXPORTS = b"MatMulIntegerToFloat"
_DEPTH = 64
_ACTIVATION, _WEIGHT = 255, 127
"""The largest there are, so that two products are far past 16 bits."""

_FORMS = {
    "amx_int8": "AMX",
    "avx512_vnni": "AVX-512 VNNI",
    "avx_vnni": "AVX-VNNI",
    "i8mm": "ARM I8MM",
    "asimddp": "ARM dot product",
}
"""Flags of /proc/cpuinfo that sum int8 products in 32 bits, the best first."""


def has_products(model: bytes) -> bool:
    """Whether an ONNX file has products of bytes that a CPU could cut off."""
    return _PRODUCT in model


def needs_mark(model: bytes) -> bool:
    """Whether an ONNX file has such products as `fte export` writes, which `INT8_SUMS` must say to be exact."""
    return _PRODUCT_OF_EXPORTS in model


def saturates(runtime: Any) -> bool:
    """Whether the module ``runtime`` (onnxruntime) cuts sums off at 16 bits on this CPU, found by one tiny product."""
    x = Value("x", np.uint8, (1, _DEPTH))
    weight = np.full((_DEPTH, 16), _WEIGHT, np.int8)
    model = one_node_model("MatMulInteger", [x], Value("y", np.int32, (1, 16)), {"weight": weight})
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    (sums,) = session.run(None, {"x": np.full(x.shape, _ACTIVATION, np.uint8)})
    return bool((np.asarray(sums) != _DEPTH * _ACTIVATION * _WEIGHT).any())


def form(flags: Collection[str], cut_off: bool) -> str:
    """The CPU's int8 form in words: ``flags`` of /proc/cpuinfo, and whether ONNX Runtime's sums are cut off.

    What was measured counts more than the flags, which an emulator may hand on from its host.
    """
    if cut_off:
        return "AVX2 without VNNI"
    known = next((name for flag, name in _FORMS.items() if flag in flags), None)
    return known or f"no int8 extension ({platform.machine()})"
