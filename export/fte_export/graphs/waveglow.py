"""WaveGlow's graph at inference: mel and noise in, audio out.

Axes: B batch, T mel frames, M mel channels, G groups of samples (T * hop / group size), C channels of a WN.
Everything runs over (B, G, C), channels last: a dilated convolution is one product over its shifted inputs side by
side, which measured faster than convolutions (docs/log.md).
The mathematics is that of WaveGlow (Prenger et al. 2018) as its public implementation computes it.
"""

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray

from fte_export.checkpoint import WaveglowSizes
from fte_export.graphs.builder import GraphBuilder, Precision, WeightFile

Arrays = Mapping[str, NDArray[np.float32]]
Quantized = tuple[str, str, str]


def vocoder_graph(arrays: Arrays, sizes: WaveglowSizes, weights: WeightFile, precision: Precision) -> onnx.ModelProto:
    """mel (B, T, M) and noise (B, G, group) -> audio (B, T * hop).

    noise is already multiplied by sigma; its channels stand in the order in which the flows use them: first those
    that all flows transform, then each pair that enters later.
    """
    b = GraphBuilder("vocoder", weights, precision)
    mel = b.input("mel", np.float32, ["B", "T", sizes.n_mels])
    noise = b.input("noise", np.float32, ["B", "G", sizes.n_group])
    condition = _Features(b, _upsample(b, mel, arrays, sizes))
    audio, *later = _split_noise(b, noise, sizes)
    for k in reversed(range(sizes.n_flows)):
        audio = _inverse_flow(b, audio, condition, arrays, sizes, k)
        if k % sizes.n_early_every == 0 and k > 0:
            audio = b.op("Concat", later.pop(0), audio, axis=2)
    b.output(b.op("Reshape", audio, b.ints(0, -1)), "audio", np.float32, ["B", "samples"])
    return b.model()


def _split_noise(b: GraphBuilder, noise: str, sizes: WaveglowSizes) -> list[str]:
    entries = sum(1 for k in range(1, sizes.n_flows) if k % sizes.n_early_every == 0)
    remaining = sizes.n_group - entries * sizes.n_early_size
    return b.split(noise, [remaining] + [sizes.n_early_size] * entries, axis=2) if entries else [noise]


def _upsample(b: GraphBuilder, mel: str, arrays: Arrays, sizes: WaveglowSizes) -> str:
    """The transposed convolution, grouped: mel (B, T, M) -> (B, G, M * group), channel index m * group + sample.

    An output frame depends on its own mel frame and the kernel / stride - 1 before it, so the whole is one product of
    these frames side by side. The samples that the public implementation cuts off at the end are never computed.
    """
    m, stride = sizes.n_mels, sizes.upsample_stride
    taps, groups = sizes.upsample_kernel // stride, stride // sizes.n_group
    kernel = arrays["upsample.weight"].reshape(m, m, taps, groups, sizes.n_group)  # in, out, tap, group, sample
    kernel = kernel.transpose(2, 0, 3, 1, 4).reshape(taps * m, groups * m * sizes.n_group)
    bias = np.tile(np.repeat(arrays["upsample.bias"], sizes.n_group), groups)
    shifted = _shifted(b, mel, b.scalar(0), list(range(taps)))
    frames = b.op("Concat", *shifted, axis=2)
    product = b.op("MatMul", frames, b.constant(kernel, "upsample.weight"))
    spread = b.op("Add", product, b.constant(bias, "upsample.bias"))
    batch = b.op("Shape", mel, start=0, end=1)
    return b.op("Reshape", spread, b.op("Concat", batch, b.ints(-1, m * sizes.n_group), axis=0))


def _shifted(b: GraphBuilder, x: str, zero: str, delays: list[int]) -> list[str]:
    """x (B, T, C) delayed by each of ``delays`` steps (negative: ahead), ``zero`` moving in at the ends."""
    before, after = max(0, *delays), max(0, *(-d for d in delays))
    padded = b.op("Pad", x, b.ints(0, before, 0, 0, after, 0), zero)
    views = []
    for delay in delays:
        start, stop = before - delay, -(after + delay)
        end = np.iinfo(np.int64).max if stop == 0 else stop
        views.append(x if delay == 0 else b.op("Slice", padded, b.ints(start), b.ints(end), b.ints(1)))
    return views


class _Features:
    """A tensor that several products read, quantized at most once."""

    def __init__(self, b: GraphBuilder, value: str) -> None:
        self._b, self.value = b, value
        self._quantized: Quantized | None = None
        self._remainder: Quantized | None = None

    @property
    def quantized(self) -> Quantized:
        if self._quantized is None:
            self._quantized = self._b.quantize(self.value)
        return self._quantized

    @property
    def remainder(self) -> Quantized:
        """What quantization lost, quantized in its turn: both together carry about 16 bits."""
        if self._remainder is None:
            lost = self._b.op("Sub", self.value, self._b.op("DequantizeLinear", *self.quantized))
            self._remainder = self._b.quantize(lost)
        return self._remainder


def _inverse_flow(
    b: GraphBuilder, audio: str, condition: _Features, arrays: Arrays, sizes: WaveglowSizes, k: int
) -> str:
    """One flow backwards over audio (B, G, c): affine coupling, then the inverse 1x1 convolution, both in fp32."""
    mixing = arrays[f"convinv.{k}.weight"]
    half = len(mixing) // 2
    first, second = b.split(audio, [half, half], axis=2)
    offset, negative_s = b.split(_wn(b, first, condition, arrays, sizes, k), [half, half], axis=2)
    second = b.op("Mul", b.op("Sub", second, offset), b.op("Exp", negative_s))
    inverse = np.linalg.inv(mixing.astype(np.float64)).astype(np.float32)
    return b.linear_fp32(b.op("Concat", first, second, axis=2), inverse, None, f"convinv.{k}.inverse")


def _wn(b: GraphBuilder, x: str, condition: _Features, arrays: Arrays, sizes: WaveglowSizes, k: int) -> str:
    """WN: x (B, G, c / 2) -> [b, -s] (B, G, c)."""
    key = f"WN.{k}"
    x = b.linear_fp32(x, arrays[f"{key}.start.weight"][:, :, 0], arrays[f"{key}.start.bias"], f"{key}.start")
    skipped = ""
    for i in range(sizes.n_layers):
        gated = _gated_layer(b, x, condition, arrays, sizes, key, i)
        last = i == sizes.n_layers - 1
        weight, bias = arrays[f"{key}.res_skip_layers.{i}.weight"][:, :, 0], arrays[f"{key}.res_skip_layers.{i}.bias"]
        n = 0 if last else sizes.n_channels
        features = _Features(b, gated)
        if not last:
            x = b.op("Add", x, _product(b, features, weight[:n], bias[:n], f"{key}.{i}.res"))
        skip = _product(b, features, weight[n:], bias[n:], f"{key}.{i}.skip")
        skipped = b.op("Add", skipped, skip) if skipped else skip
    weight, bias = arrays[f"{key}.end.weight"][:, :, 0], arrays[f"{key}.end.bias"]
    sign = np.ones(len(bias), np.float32)
    sign[len(bias) // 2 :] = -1
    return b.linear_fp32(skipped, weight * sign[:, None], bias * sign, f"{key}.end")


def _product(
    b: GraphBuilder, x: _Features, weight: NDArray[np.float32], bias: NDArray[np.float32] | None, key: str
) -> str:
    if b.precision == "int8":
        return b.linear_quantized(x.quantized, weight, bias, key)
    return b.linear_fp32(x.value, weight, bias, key)


def _gated_layer(
    b: GraphBuilder, x: str, condition: _Features, arrays: Arrays, sizes: WaveglowSizes, key: str, i: int
) -> str:
    """tanh(first half) * sigmoid(second half) of dilated convolution plus conditioning: (B, G, C).

    The halves are products of their own, so that no copy is needed to take them apart. In int8 the conditioning is
    quantized in two steps: it is the largest source of error by 10 dB, because one scale serves all its channels.
    """
    n, taps = sizes.n_channels, sizes.kernel_size
    delays = [-(j - taps // 2) * 2**i for j in range(taps)]
    weight = arrays[f"{key}.in_layers.{i}.weight"].transpose(0, 2, 1).reshape(2 * n, -1)
    condition_weight = arrays[f"{key}.cond_layer.weight"][2 * n * i : 2 * n * (i + 1), :, 0]
    bias = arrays[f"{key}.in_layers.{i}.bias"] + arrays[f"{key}.cond_layer.bias"][2 * n * i : 2 * n * (i + 1)]
    halves = {"tanh": slice(0, n), "sigmoid": slice(n, 2 * n)}
    if b.precision == "int8":
        values, scale, zero = b.quantize(x)
        stacked = (b.op("Concat", *_shifted(b, values, zero, delays), axis=2), scale, zero)
        sums = []
        for name, part in halves.items():
            own = b.linear_quantized(stacked, weight[part], None, f"{key}.{i}.{name}")
            coarse, fine = (
                b.linear_quantized(x, condition_weight[part], y, f"{key}.{i}.cond_{name}")
                for x, y in ((condition.quantized, bias[part]), (condition.remainder, None))
            )
            sums.append(b.op("Add", b.op("Add", own, coarse), fine))
    else:
        stacked_fp32 = b.op("Concat", *_shifted(b, x, b.scalar(0), delays), condition.value, axis=2)
        joint = np.concatenate([weight, condition_weight], axis=1)
        sums = [b.linear_fp32(stacked_fp32, joint[part], bias[part], f"{key}.{i}.{n}") for n, part in halves.items()]
    return b.op("Mul", b.op("Tanh", sums[0]), b.op("Sigmoid", sums[1]))
