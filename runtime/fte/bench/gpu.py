"""What a GPU allows a voice: copies timed by events on the device, and one large product."""

import tempfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from fte.backends import OnnxRuntimeBackend
from fte.backends.cuda import Device
from fte.backends.tiny_graph import Value, one_node_model
from fte.bench.ceiling import LARGE_BYTES, Ceiling, Work, best_seconds, ceiling_of
from fte.errors import BackendError

_SIDE = 8192
"""Of the square product that measures the multiply rate: 550 G multiply-adds, beside which its launch is nothing."""
_TRIALS = 5
_TYPES = {"fp32": np.float32, "fp16": np.float16, "bf16": np.float16}
"""Of the product by precision; bf16 multiplies as fast as fp16 on every GPU that has both."""


def measure_gpu_ceiling(work: Work) -> Ceiling | None:
    """Measure the first GPU; None where CUDA, or ONNX Runtime's provider for it, cannot be used from here."""
    precisions = dict.fromkeys(filter(None, (work.decoder_precision, work.vocoder_precision)))
    try:
        with Device() as device:
            memory = copy_rate(device, LARGE_BYTES) / 1e9
            step = copy_rate(device, work.step_bytes) / 1e9
        gmac = {precision: gpu_multiply_rate(precision) / 1e9 for precision in precisions}
    except BackendError:
        return None
    return ceiling_of(work, 0, memory, step, gmac)


def copy_rate(device: Device, size: int) -> float:
    """Bytes a second at which ``size`` bytes are read and written on the device, half of them each way."""
    half = max(1, size // 2)
    copies = max(4, 8 * LARGE_BYTES // size)
    with ExitStack() as stack:
        source, target = (stack.enter_context(device.empty((half,), np.uint8)) for _ in range(2))
        start, stop = (stack.enter_context(device.event(timing=True)) for _ in range(2))
        stream = stack.enter_context(device.stream())
        stream.fill(source, 0)
        milliseconds = []
        for _ in range(_TRIALS):
            stream.record(start)
            for _ in range(copies):
                stream.copy(target, source)
            stream.record(stop)
            stop.synchronize()
            milliseconds.append(stop.elapsed_ms(start))
    return 2 * half * copies / (1e-3 * min(milliseconds))


def gpu_multiply_rate(precision: str) -> float:
    """Multiply-adds a second of a large product through ONNX Runtime, its operands on the device."""
    kind = _TYPES[precision]
    shape = (_SIDE, _SIDE)
    model = one_node_model("MatMul", [Value("x", kind, shape)], Value("y", kind, shape), {"w": np.ones(shape, kind)})
    with tempfile.TemporaryDirectory(prefix="fte-") as folder:
        path = Path(folder, f"product.{precision}.onnx")
        path.write_bytes(model)
        graph = OnnxRuntimeBackend("cuda").load(path)
    loop = graph.loop(1, {"x": np.ones(shape, kind)}, {})

    def product() -> None:
        loop.launch()
        loop.collect()

    try:
        return _SIDE**3 / best_seconds(product)
    finally:
        loop.close()
