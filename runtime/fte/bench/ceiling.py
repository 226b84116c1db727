"""What the machine allows a voice: how fast it reads memory and how fast it multiplies, against what the models need.

A decoder at batch 1 reads every weight of a flow step once a frame, so reading bounds it; a vocoder multiplies each
weight with many rows, so multiplying bounds it. The larger of the two is the floor of a computation's time (Williams,
Waterman and Patterson, "Roofline: an insightful visual performance model", CACM 2009).
"""

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fte.backends import OnnxRuntimeBackend
from fte.backends.tiny_graph import Value, one_node_model
from fte.bundle import FlowtronSizes, Manifest, WaveglowSizes, weight_files_of
from fte.errors import RequestError

LARGE_BYTES = 1 << 29
"""A buffer that no cache holds, and the least that one timed reading covers."""
TRIAL_SECONDS = 0.6
"""How long each rate is tried; the best trial counts."""
_LEAST_TRIALS = 5
_ROWS, _INPUTS, _OUTPUTS = 4096, 1024, 1024
"""Of the products that measure the multiply rate: as many rows as a vocoder's chunk, and twice its width."""
_PRODUCTS = {
    "fp32": ("MatMul", np.float32, np.float32, np.float32),
    "int8": ("MatMulInteger", np.uint8, np.int8, np.int32),
}
"""By precision: operator, and the types of rows, weights and results."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a voice asks of a machine in one of its precisions."""

    decoder_precision: str
    step_bytes: int
    """Weights and scales of the largest flow step."""
    frame_bytes: int
    """The same of all flows together: what a frame at batch 1 reads."""
    frame_multiply_adds: int
    """Of all flows, for a frame of one utterance."""
    vocoder_precision: str | None
    """None without a vocoder."""
    vocoder_multiply_adds: int | None
    """For a second of audio."""


@dataclass(frozen=True, slots=True)
class Ceiling:
    """Measured rates of all threads together, and what they allow a voice."""

    threads: int
    """Of the CPU, or 0 for a GPU as a whole."""
    memory_gb_per_second: float
    """Reading a buffer larger than every cache; on a GPU copying one, both ways counted."""
    step_gb_per_second: float
    """The same, again and again, with a buffer of the size of one flow step's weights. Caches may hold it."""
    gmac_per_second: dict[str, float]
    """By precision: 1e9 multiply-adds a second of one large product."""
    decode_ms_per_frame: float
    """Floor at batch 1."""
    vocoder_rtfx: float | None
    """Most seconds of audio in a second; None without a vocoder."""

    def step_seconds(self, work: Work, batch: int) -> float:
        """Floor of a frame of ``batch`` utterances: each weight is read once, and multiplied with every row."""
        return max(*_floors(work, batch, self.step_gb_per_second, self.gmac_per_second))

    def bound(self, work: Work, batch: int) -> str:
        """Which floor is the higher one: "reading" or "multiplying"."""
        reading, multiplying = _floors(work, batch, self.step_gb_per_second, self.gmac_per_second)
        return "reading" if reading >= multiplying else "multiplying"


def _floors(work: Work, batch: int, gb_per_second: float, gmac_per_second: dict[str, float]) -> tuple[float, float]:
    """Seconds that reading and multiplying take at least."""
    reading = work.frame_bytes / (1e9 * gb_per_second)
    multiplying = batch * work.frame_multiply_adds / (1e9 * gmac_per_second[work.decoder_precision])
    return reading, multiplying


def work_of(manifest: Manifest, precision: str) -> Work:
    """The work of a bundle in ``precision``."""
    graphs = manifest.graphs[precision]
    flows = [graphs[f"flow_{k}"] for k in range(manifest.flowtron.n_flows)]
    read = [sum(manifest.files[name].bytes for name in weight_files_of(manifest, graph)) for graph in flows]
    vocoder = manifest.files[graphs["vocoder"]].precision if manifest.waveglow else None
    decoder = manifest.files[flows[0]].precision
    waveglow, rate = manifest.waveglow, manifest.audio.sample_rate
    return Work(
        decoder_precision=decoder,
        step_bytes=max(read),
        frame_bytes=sum(read),
        frame_multiply_adds=frame_multiply_adds(manifest.flowtron),
        vocoder_precision=vocoder,
        vocoder_multiply_adds=None if waveglow is None else vocoder_multiply_adds(waveglow, rate),
    )


def frame_multiply_adds(sizes: FlowtronSizes) -> int:
    """Multiply-adds of all flows for a frame: every weight once, without what grows with the text (scores, sums)."""
    h, a, m = sizes.n_hidden, sizes.n_attention, sizes.n_mels
    attention = 4 * h * (m + h) + a * h + a
    lstm = 4 * h * (h + a + h) + (sizes.n_lstm_layers - 1) * 4 * h * (h + h)
    output = 2 * h * h + 2 * m * h
    return sizes.n_flows * (attention + lstm + output) + (h + a if sizes.has_gate else 0)


def vocoder_multiply_adds(sizes: WaveglowSizes, sample_rate: int) -> int:
    """Multiply-adds for a second of audio: every weight once a group of samples, the upsampling's once a frame.

    Per group, with C channels: a WN has in each layer 2 C conditions of every mel channel of the group, 2 C C taps, and
    2 C C of residual and skip (C C in the last one), and its start and end; a 1x1 convolution mixes a flow's channels.
    """
    n, layers, group = sizes.n_channels, sizes.n_layers, sizes.n_group
    wn = 2 * n * layers * sizes.n_mels * group + layers * 2 * n * n * sizes.kernel_size + (2 * layers - 1) * n * n
    channels = [group - k // sizes.n_early_every * sizes.n_early_size for k in range(sizes.n_flows)]
    per_group = sum(wn + c // 2 * n + c * n + c * c for c in channels)
    per_frame = sizes.n_mels * sizes.n_mels * sizes.upsample_kernel
    return round(sample_rate / group * per_group + sample_rate / sizes.upsample_stride * per_frame)


def measure_ceiling(work: Work, threads: int) -> Ceiling:
    """Measure this machine with as many threads as the backend has.

    Raises BackendError without ONNX Runtime, and RequestError for a precision in which a CPU does not compute.
    """
    precisions = dict.fromkeys(filter(None, (work.decoder_precision, work.vocoder_precision)))
    for used in precisions:
        if used not in _PRODUCTS:
            raise RequestError(f"precision {used!r} has no ceiling on a CPU: measure one of {', '.join(_PRODUCTS)}")
    step = read_rate(work.step_bytes, threads) / 1e9
    gmac = {precision: multiply_rate(precision, threads) / 1e9 for precision in precisions}
    return ceiling_of(work, threads, read_rate(LARGE_BYTES, threads) / 1e9, step, gmac)


def ceiling_of(work: Work, threads: int, memory: float, step: float, gmac: dict[str, float]) -> Ceiling:
    """What measured rates allow: memory and step in GB/s, gmac in 1e9 multiply-adds a second by precision."""
    vocoder = work.vocoder_precision and gmac[work.vocoder_precision]
    return Ceiling(
        threads=threads,
        memory_gb_per_second=memory,
        step_gb_per_second=step,
        gmac_per_second=gmac,
        decode_ms_per_frame=1e3 * max(_floors(work, 1, step, gmac)),
        vocoder_rtfx=1e9 * vocoder / work.vocoder_multiply_adds if vocoder and work.vocoder_multiply_adds else None,
    )


def read_rate(size: int, threads: int) -> float:
    """Bytes a second at which all threads together read a buffer of ``size`` bytes, a small one several times."""
    buffer = np.ones(max(threads, size // 8), np.int64)
    passes = max(1, LARGE_BYTES // buffer.nbytes)
    # One call a thread, however small its part: a view that repeats the part costs neither memory nor Python's time.
    parts = [np.broadcast_to(part, (passes, len(part))) for part in np.array_split(buffer, threads)]

    def read(part: NDArray[np.int64]) -> None:
        part.max(axis=1)  # a vectorized reduction, which needs the bytes and little else

    with ThreadPoolExecutor(threads) as pool:
        return passes * buffer.nbytes / best_seconds(lambda: list(pool.map(read, parts)))


def multiply_rate(precision: str, threads: int) -> float:
    """Multiply-adds a second of a large product in ONNX Runtime: fp32 MatMul, or MatMulInteger of uint8 and int8."""
    operator, row_type, weight_type, result_type = _PRODUCTS[precision]
    model = one_node_model(
        operator,
        [Value("x", row_type, (_ROWS, _INPUTS))],
        Value("y", result_type, (_ROWS, _OUTPUTS)),
        {"w": np.ones((_INPUTS, _OUTPUTS), weight_type)},
    )
    with tempfile.TemporaryDirectory(prefix="fte-") as folder:
        path = Path(folder, f"product.{precision}.onnx")
        path.write_bytes(model)
        graph = OnnxRuntimeBackend("cpu", threads).load(path)
    rows = np.ones((_ROWS, _INPUTS), row_type)
    return _ROWS * _INPUTS * _OUTPUTS / best_seconds(lambda: graph.run(["y"], {"x": rows}))


def best_seconds(call: Callable[[], object]) -> float:
    """The shortest of several runs, after one that warms up."""
    call()
    times: list[float] = []
    while len(times) < _LEAST_TRIALS or sum(times) < TRIAL_SECONDS:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times)
