"""WaveGlow's graph for CPUs: mel and noise in, audio out. (`waveglow_chunk` has the one for GPUs.)

Axes: B batch, T mel frames, M mel channels, G groups of samples (T * hop / group size), C channels of a WN.
Everything runs over (B, G, C), channels last: a dilated convolution is one product over its shifted inputs side by
side, and each layer of a WN runs over tiles of time that stay in the cache, both because they measured faster
(docs/log.md).
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


TILE_FRAMES = 32
"""Mel frames that a layer computes at once, at most."""


def vocoder_graph(arrays: Arrays, sizes: WaveglowSizes, weights: WeightFile, precision: Precision) -> onnx.ModelProto:
    """mel (B, T, M) and noise (B, G, group) -> audio (B, T * hop).

    noise is already multiplied by sigma; its channels stand in the order in which the flows use them: first those
    that all flows transform, then each pair that enters later.
    """
    b = GraphBuilder("vocoder", weights, precision)
    mel = b.input("mel", np.float32, ["B", "T", sizes.n_mels])
    noise = b.input("noise", np.float32, ["B", "G", sizes.n_group])
    tiles = _Tiles(b, mel, noise, sizes)
    condition = _Condition(b, upsample(b, tiles.fill(mel, tiles.frames), arrays, sizes), tiles)
    audio, *later = split_noise(b, tiles.fill(noise, tiles.groups), sizes)
    for k in reversed(range(sizes.n_flows)):
        audio = _inverse_flow(b, audio, condition, tiles, arrays, sizes, k)
        if k % sizes.n_early_every == 0 and k > 0:
            audio = b.op("Concat", later.pop(0), audio, axis=2)
    samples = b.op("Reshape", b.op("Slice", audio, b.ints(0), tiles.valid, b.ints(1)), b.ints(0, -1))
    b.output(samples, "audio", np.float32, ["B", "samples"])
    return b.model()


class _Tiles:
    """The division of time into as few tiles of equal length as possible; the last may lack a few frames."""

    def __init__(self, b: GraphBuilder, mel: str, noise: str, sizes: WaveglowSizes) -> None:
        self._b = b
        self.valid = b.op("Shape", noise, start=1, end=2)
        """G; like every number here, a vector of one."""
        total = b.op("Shape", mel, start=1, end=2)
        self._count = self._quotient_up(total, b.ints(TILE_FRAMES))
        self.frames = self._quotient_up(total, self._count)
        """Frames in a tile."""
        self.groups = b.op("Mul", self.frames, b.ints(sizes.upsample_stride // sizes.n_group))
        """Groups in a tile."""
        zero, one = b.constant(np.int64(0)), b.constant(np.int64(1))
        indices = b.op("Range", zero, b.op("Squeeze", self._count), one)
        self.starts = b.op("Reshape", b.op("Mul", indices, self.groups), b.ints(1, -1, 1))
        """First group of each tile: (1, tiles, 1)."""
        positions = b.op("Add", self.starts, b.op("Range", zero, b.op("Squeeze", self.groups), one))
        self.mask = b.op("Unsqueeze", b.op("Cast", b.op("Less", positions, self.valid), to=1), b.ints(3))
        """1 where a group exists, 0 where the last tile is filled up: (1, tiles, groups, 1)."""

    def _quotient_up(self, dividend: str, divisor: str) -> str:
        b = self._b
        return b.op("Div", b.op("Sub", b.op("Add", dividend, divisor), b.ints(1)), divisor)

    def fill(self, x: str, tile: str) -> str:
        """x (B, T, C) with zeros at the end up to whole tiles of ``tile`` steps."""
        b = self._b
        missing = b.op("Sub", b.op("Mul", self._count, tile), b.op("Shape", x, start=1, end=2))
        return b.op("Pad", x, b.op("Concat", b.ints(0, 0, 0, 0), missing, b.ints(0), axis=0), b.scalar(0))

    def cut(self, x: str) -> str:
        """x (B, tiles * groups, C) -> (B, tiles, groups, C)."""
        b = self._b
        batch, channels = b.op("Shape", x, start=0, end=1), b.op("Shape", x, start=2, end=3)
        return b.op("Reshape", x, b.op("Concat", batch, self._count, self.groups, channels, axis=0))

    def join(self, x: str) -> str:
        """(B, tiles, groups, C) -> (B, tiles * groups, C)."""
        channels = self._b.op("Shape", x, start=3, end=4)
        return self._b.op("Reshape", x, self._b.op("Concat", self._b.ints(0, -1), channels, axis=0))


def split_noise(b: GraphBuilder, noise: str, sizes: WaveglowSizes) -> list[str]:
    """noise (B, G, group) by the flow at which its channels enter."""
    entries = sum(1 for k in range(1, sizes.n_flows) if k % sizes.n_early_every == 0)
    remaining = sizes.n_group - entries * sizes.n_early_size
    return b.split(noise, [remaining] + [sizes.n_early_size] * entries, axis=2) if entries else [noise]


def upsample(b: GraphBuilder, mel: str, arrays: Arrays, sizes: WaveglowSizes) -> str:
    """The transposed convolution, grouped: mel (B, T, M) -> (B, G, M * group), channel index m * group + sample.

    An output frame depends on its own mel frame and the kernel / stride - 1 before it, so the whole is one product of
    these frames side by side. The samples that the public implementation cuts off at the end are never computed.
    """
    m, stride = sizes.n_mels, sizes.upsample_stride
    taps, groups = sizes.upsample_kernel // stride, stride // sizes.n_group
    kernel = arrays["upsample.weight"].reshape(m, m, taps, groups, sizes.n_group)  # in, out, tap, group, sample
    kernel = kernel.transpose(2, 0, 3, 1, 4).reshape(taps * m, groups * m * sizes.n_group)
    bias = np.tile(np.repeat(arrays["upsample.bias"], sizes.n_group), groups)
    padded = b.op("Pad", mel, b.ints(0, taps - 1, 0, 0, 0, 0), b.scalar(0))
    earlier = [b.op("Slice", padded, b.ints(taps - 1 - delay), b.ints(-delay), b.ints(1)) for delay in range(1, taps)]
    frames = b.op("Concat", mel, *earlier, axis=2)
    product = b.op("MatMul", b.narrow(frames), b.narrow_constant(kernel, "upsample.weight"))
    spread = b.op("Add", product, b.narrow_constant(bias, "upsample.bias"))
    batch = b.op("Shape", mel, start=0, end=1)
    return b.op("Reshape", spread, b.op("Concat", batch, b.ints(-1, m * sizes.n_group), axis=0))


class _Condition:
    """The conditioning of every layer in tiles (B, tiles, groups, M * group), in the form that its products read."""

    def __init__(self, b: GraphBuilder, value: str, tiles: _Tiles) -> None:
        self.scales: list[tuple[str, str]] = []
        """In int8: scale and zero point of the values, and of what their quantization lost."""
        if b.precision == "int8":
            coarse, *scale = b.quantize(value)
            lost = b.op("Sub", value, b.op("DequantizeLinear", coarse, *scale))
            fine, *fine_scale = b.quantize(lost)
            self.tiles = [tiles.cut(coarse), tiles.cut(fine)]
            self.scales = [(scale[0], scale[1]), (fine_scale[0], fine_scale[1])]
        else:
            self.tiles = [tiles.cut(value)]


def _inverse_flow(
    b: GraphBuilder, audio: str, condition: _Condition, tiles: _Tiles, arrays: Arrays, sizes: WaveglowSizes, k: int
) -> str:
    """One flow backwards over audio (B, G, c): affine coupling, then the inverse 1x1 convolution, both in fp32."""
    inverse = inverse_mixing(arrays, k)
    half = len(inverse) // 2
    first, second = b.split(audio, [half, half], axis=2)
    offset, negative_s = b.split(_wn(b, first, condition, tiles, arrays, sizes, k), [half, half], axis=2)
    second = b.op("Mul", b.op("Sub", second, offset), b.op("Exp", negative_s))
    return b.linear_fp32(b.op("Concat", first, second, axis=2), inverse, None, f"convinv.{k}.inverse")


def inverse_mixing(arrays: Arrays, k: int) -> NDArray[np.float32]:
    """The inverse (c, c) of flow k's 1x1 convolution, computed in fp64."""
    inverse: NDArray[np.float32] = np.linalg.inv(arrays[f"convinv.{k}.weight"].astype(np.float64)).astype(np.float32)
    return inverse


def _wn(
    b: GraphBuilder, x: str, condition: _Condition, tiles: _Tiles, arrays: Arrays, sizes: WaveglowSizes, k: int
) -> str:
    """WN: x (B, G, c / 2) -> [b, -s] (B, G, c)."""
    key = f"WN.{k}"
    x = b.linear_fp32(x, arrays[f"{key}.start.weight"][:, :, 0], arrays[f"{key}.start.bias"], f"{key}.start")
    x = b.op("Mul", x, tiles.join(tiles.mask))
    skipped = ""
    for i in range(sizes.n_layers):
        x, skipped = _layer(b, x, skipped, condition, tiles, arrays, sizes, key, i)
    weight, bias = arrays[f"{key}.end.weight"][:, :, 0], arrays[f"{key}.end.bias"]
    sign = np.ones(len(bias), np.float32)
    sign[len(bias) // 2 :] = -1
    return b.linear_fp32(skipped, weight * sign[:, None], bias * sign, f"{key}.end")


def _layer(
    b: GraphBuilder,
    x: str,
    skipped: str,
    condition: _Condition,
    tiles: _Tiles,
    arrays: Arrays,
    sizes: WaveglowSizes,
    key: str,
    i: int,
) -> tuple[str, str]:
    """Layer i of a WN, tile by tile: the next x ('' after the last layer) and the sum of what was skipped so far.

    Beyond the last group x stays zero, as the padding of a convolution is.
    """
    n, last, reach = sizes.n_channels, i == sizes.n_layers - 1, 2**i * (sizes.kernel_size // 2)
    source, scale = _padded_source(b, x, reach)
    body = b.body(f"{key}.{i}")
    start = body.op("Reshape", body.input(f"{body.prefix}start", np.int64, [1, 1]), b.ints(1))
    mask = body.input(f"{body.prefix}mask", np.float32, [1, "tile", 1])
    parts = [
        body.input(f"{body.prefix}condition_{j}", np.uint8 if scale else np.float32, ["B", "tile", "C"])
        for j in range(len(condition.tiles))
    ]

    end = body.op("Add", start, tiles.groups)

    def window(value: str, more: int = 0) -> str:
        return body.op("Slice", value, start, body.op("Add", end, b.ints(more)) if more else end, b.ints(1))

    gated = _gated_layer(body, window(source, 2 * reach), scale, parts, condition, tiles.groups, arrays, sizes, key, i)
    weight, bias = arrays[f"{key}.res_skip_layers.{i}.weight"][:, :, 0], arrays[f"{key}.res_skip_layers.{i}.bias"]
    features = body.quantize(gated) if scale else gated
    residual = 0 if last else n
    if not last:
        moved = body.op("Add", window(x), _product(body, features, weight[:n], bias[:n], f"{key}.{i}.res"))
        body.output(body.op("Mul", moved, mask), f"{body.prefix}x", np.float32, ["B", "tile", n])
    skip = _product(body, features, weight[residual:], bias[residual:], f"{key}.{i}.skip")
    if skipped:
        skip = body.op("Add", window(skipped), skip)
    body.output(skip, f"{body.prefix}skipped", np.float32, ["B", "tile", n])
    outputs = [tiles.join(stacked) for stacked in b.scan(body, [tiles.starts, tiles.mask, *condition.tiles], axis=1)]
    return ("", outputs[0]) if last else (outputs[0], outputs[1])


def _padded_source(b: GraphBuilder, x: str, reach: int) -> tuple[str, tuple[str, ...]]:
    """What the dilated convolution reads, with ``reach`` zeros at both ends; in int8 also its scale and zero point."""
    pads = b.ints(0, reach, 0, 0, reach, 0)
    if b.precision == "int8":
        values, scale, zero = b.quantize(x)
        return b.op("Pad", values, pads, zero), (scale, zero)
    return b.op("Pad", x, pads, b.scalar(0)), ()


def _product(
    b: GraphBuilder, x: str | Quantized, weight: NDArray[np.float32], bias: NDArray[np.float32], key: str
) -> str:
    if isinstance(x, str):
        return b.linear_fp32(x, weight, bias, key)
    return b.linear_quantized(x, weight, bias, key)


def _gated_layer(
    b: GraphBuilder,
    window: str,
    scale: tuple[str, ...],
    parts: list[str],
    condition: _Condition,
    groups: str,
    arrays: Arrays,
    sizes: WaveglowSizes,
    key: str,
    i: int,
) -> str:
    """tanh(first half) * sigmoid(second half) of dilated convolution plus conditioning: (B, groups, C).

    The halves are products of their own, so that no copy is needed to take them apart. In int8 the conditioning is
    quantized in two steps: it is the largest source of error by 10 dB, because one scale serves all its channels.
    """
    n, taps = sizes.n_channels, sizes.kernel_size
    shifted = [
        b.op("Slice", window, b.ints(j * 2**i), b.op("Add", groups, b.ints(j * 2**i)), b.ints(1)) for j in range(taps)
    ]
    weight = arrays[f"{key}.in_layers.{i}.weight"].transpose(0, 2, 1).reshape(2 * n, -1)
    condition_weight = arrays[f"{key}.cond_layer.weight"][2 * n * i : 2 * n * (i + 1), :, 0]
    bias = arrays[f"{key}.in_layers.{i}.bias"] + arrays[f"{key}.cond_layer.bias"][2 * n * i : 2 * n * (i + 1)]
    halves = {"tanh": slice(0, n), "sigmoid": slice(n, 2 * n)}
    sums = []
    if scale:
        stacked = (b.op("Concat", *shifted, axis=2), scale[0], scale[1])
        coarse, fine = ((part, *scales) for part, scales in zip(parts, condition.scales, strict=True))
        for name, half in halves.items():
            own = b.linear_quantized(stacked, weight[half], None, f"{key}.{i}.{name}")
            of_coarse = b.linear_quantized(coarse, condition_weight[half], bias[half], f"{key}.{i}.cond_{name}")
            of_fine = b.linear_quantized(fine, condition_weight[half], None, f"{key}.{i}.cond_{name}")
            sums.append(b.op("Add", b.op("Add", own, of_coarse), of_fine))
    else:
        joint = np.concatenate([weight, condition_weight], axis=1)
        inputs = b.op("Concat", *shifted, *parts, axis=2)
        sums = [b.linear_fp32(inputs, joint[half], bias[half], f"{key}.{i}.{name}") for name, half in halves.items()]
    return b.op("Mul", b.op("Tanh", sums[0]), b.op("Sigmoid", sums[1]))
