"""What this machine allows: how fast it reads memory and how fast it multiplies, measured before anything is compared.

A decoder at batch 1 reads every weight of a flow step once a frame, so reading bounds it; a vocoder multiplies each
weight with many rows, so multiplying bounds it. The larger of both is the floor of a computation's time.
"""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from fte.bundle import FileEntry, Manifest
from fte.constants import SAMPLE_RATE
from fte_export.checkpoint import Checkpoint, WaveglowSizes

PRECISIONS = ("fp32", "int8")
LARGE_BYTES = 1 << 30
"""A buffer no cache holds, and the least that one timed reading covers."""
_ROWS, _INPUTS, _OUTPUTS = 4096, 1024, 1024
"""Of the products that measure the multiply rate: as many rows as a vocoder's chunk, and twice its width."""
_TRIALS = 20


@dataclass(frozen=True)
class Ceiling:
    """What two numbers bound everything: bytes read and multiply-adds done in a second, by all threads together."""

    threads: int
    memory_gb_per_second: float
    """Reading a buffer larger than every cache."""
    step_gb_per_second: dict[str, float]
    """By precision: reading, again and again, a buffer of the size of one flow step's weights. Caches may hold it."""
    gmac_per_second: dict[str, float]
    """By precision: 1e9 multiply-adds a second of one large product in ONNX Runtime."""

    def seconds(self, precision: str, step_bytes: int, multiply_adds: int) -> float:
        """The floor of a computation that reads a flow step's weights once and does so many multiply-adds."""
        reading = step_bytes / (1e9 * self.step_gb_per_second[precision])
        return max(reading, multiply_adds / (1e9 * self.gmac_per_second[precision]))


@dataclass(frozen=True)
class Work:
    """What the models ask of a machine, whoever computes them."""

    step_bytes: dict[str, int]
    """By precision: weights and scales of the largest flow step."""
    flows: int
    step_multiply_adds: int
    """Of one flow step and one utterance."""
    vocoder_multiply_adds: int
    """Of the vocoder for one second of audio."""


def work_of(manifest: Manifest, waveglow: Checkpoint) -> Work:
    """The work of a bundle's decoder and of the vocoder it was made from."""
    step_bytes = {precision: largest_step(manifest.files.values(), precision) for precision in PRECISIONS}
    return Work(
        step_bytes=step_bytes,
        flows=manifest.flowtron.n_flows,
        step_multiply_adds=step_bytes["fp32"] // 4,  # one row: each weight of the fp32 file is used once
        vocoder_multiply_adds=vocoder_multiply_adds(waveglow),
    )


def largest_step(files: Any, precision: str) -> int:
    """Bytes of the largest weight file of a flow step among the file entries of a bundle."""
    entries: list[FileEntry] = [f for f in files if f.precision == precision and f.role.startswith("weights_flow_")]
    return max(entry.bytes for entry in entries)


def vocoder_multiply_adds(waveglow: Checkpoint) -> int:
    """Multiply-adds for a second of audio: every weight once a group of samples, the upsampling's once a frame."""
    assert isinstance(waveglow.sizes, WaveglowSizes)
    weights = {name: array.size for name, array in waveglow.arrays.items() if name.endswith(".weight")}
    upsampling = weights.pop("upsample.weight")
    frames = SAMPLE_RATE / waveglow.sizes.upsample_stride
    groups = SAMPLE_RATE / waveglow.sizes.n_group
    return round(groups * sum(weights.values()) + frames * upsampling)


def measure_ceiling(step_bytes: dict[str, int]) -> Ceiling:
    """Measure this machine with as many threads as it lets us use; the best of several trials each."""
    threads = len(os.sched_getaffinity(0))
    return Ceiling(
        threads=threads,
        memory_gb_per_second=read_rate(LARGE_BYTES, threads) / 1e9,
        step_gb_per_second={p: read_rate(size, threads) / 1e9 for p, size in step_bytes.items()},
        gmac_per_second={p: multiply_rate(p, threads) / 1e9 for p in step_bytes},
    )


def read_rate(size: int, threads: int) -> float:
    """Bytes a second at which all threads together read a buffer of ``size`` bytes, a small one several times."""
    passes = max(1, LARGE_BYTES // size)
    return passes * size / _best_seconds(reader(size, threads, passes))


def reader(size: int, threads: int, passes: int) -> Callable[[], None]:
    """What reads a buffer of ``size`` bytes so many times, each thread its own part."""
    parts = np.array_split(np.ones(size // 8, np.int64), threads)

    def read(part: NDArray[np.int64]) -> None:
        for _ in range(passes):
            part.max()  # a vectorized reduction, which needs the bytes and little else

    pool = ThreadPoolExecutor(threads)
    return lambda: [None for _ in pool.map(read, parts)].clear()


def multiply_rate(precision: str, threads: int) -> float:
    """Multiply-adds a second of a large product in ONNX Runtime: fp32 MatMul, or MatMulInteger of uint8 and int8."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(_product(precision), options, providers=["CPUExecutionProvider"])
    rows = np.ones((_ROWS, _INPUTS), np.float32 if precision == "fp32" else np.uint8)
    return _ROWS * _INPUTS * _OUTPUTS / _best_seconds(lambda: session.run(None, {"x": rows}))


def _product(precision: str) -> bytes:
    """A model of one product (rows, inputs) x (inputs, outputs) whose second operand is constant."""
    kinds = {
        "fp32": ("MatMul", TensorProto.FLOAT, np.float32, TensorProto.FLOAT),
        "int8": ("MatMulInteger", TensorProto.UINT8, np.int8, TensorProto.INT32),
    }
    operator, x_type, weight_type, y_type = kinds[precision]
    weight = numpy_helper.from_array(np.ones((_INPUTS, _OUTPUTS), weight_type), "w")
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", x_type, [_ROWS, _INPUTS])],
        [helper.make_tensor_value_info("y", y_type, [_ROWS, _OUTPUTS])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(onnx.ModelProto.SerializeToString(model))


def _best_seconds(call: Callable[[], object]) -> float:
    """The shortest of several runs, after one that warms up."""
    call()
    times = []
    for _ in range(_TRIALS):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times)
