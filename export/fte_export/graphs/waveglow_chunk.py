"""WaveGlow's graph for GPUs: convolutions over (B, C, G), in fp16 or bf16 where that is safe.

Axes: B batch, T mel frames, M mel channels, G groups of samples, C channels of a WN. Inputs and outputs are those of
`fte_export.graphs.waveglow`, whose tiles and stacked products suit the caches of a CPU; a GPU has convolutions that
read their shifted inputs in place.

What a WN computes is narrow, the sum of its skips is not: eight layers add to it and the last product reads it. The
coupling and the 1x1 convolutions between the flows are fp32, as is all that goes from flow to flow, because their
errors multiply through all the flows after them.
"""

import numpy as np
import onnx
from numpy.typing import NDArray

from fte_export.checkpoint import WaveglowSizes
from fte_export.graphs.builder import GraphBuilder, Precision, WeightFile
from fte_export.graphs.waveglow import Arrays, inverse_mixing, split_noise, upsample


def chunk_vocoder_graph(
    arrays: Arrays, sizes: WaveglowSizes, weights: WeightFile, precision: Precision
) -> onnx.ModelProto:
    """mel (B, T, M) and noise (B, G, group) -> audio (B, T * hop); see `vocoder_graph`."""
    b = GraphBuilder("vocoder", weights, precision)
    mel = b.input("mel", np.float32, ["B", "T", sizes.n_mels])
    noise = b.input("noise", np.float32, ["B", "G", sizes.n_group])
    condition = b.op("Transpose", upsample(b, mel, arrays, sizes), perm=[0, 2, 1])
    audio, *later = (b.op("Transpose", part, perm=[0, 2, 1]) for part in split_noise(b, noise, sizes))
    for k in reversed(range(sizes.n_flows)):
        audio = _inverse_flow(b, audio, condition, arrays, sizes, k)
        if k % sizes.n_early_every == 0 and k > 0:
            audio = b.op("Concat", later.pop(0), audio, axis=1)
    samples = b.op("Reshape", b.op("Transpose", audio, perm=[0, 2, 1]), b.ints(0, -1))
    b.output(samples, "audio", np.float32, ["B", "samples"])
    return b.model()


def _inverse_flow(b: GraphBuilder, audio: str, condition: str, arrays: Arrays, sizes: WaveglowSizes, k: int) -> str:
    """One flow backwards over audio (B, c, G): affine coupling, then the inverse 1x1 convolution, both in fp32."""
    inverse = inverse_mixing(arrays, k)
    half = len(inverse) // 2
    first, second = b.split(audio, [half, half], axis=1)
    offset, s = b.split(_wn(b, first, condition, arrays, sizes, f"WN.{k}"), [half, half], axis=1)
    second = b.op("Mul", b.op("Sub", second, offset), b.op("Exp", b.op("Neg", s)))
    return _product(b, b.op("Concat", first, second, axis=1), inverse, f"convinv.{k}.inverse")


def _product(b: GraphBuilder, x: str, weight: NDArray[np.float32], key: str) -> str:
    """A 1x1 convolution of few channels in fp32: weight (N, C) times x (B, C, G)."""
    return b.sum_of_products(b.op("Unsqueeze", x, b.ints(1)), b.constant(weight[:, :, None], key), 2)


def _wn(b: GraphBuilder, x: str, condition: str, arrays: Arrays, sizes: WaveglowSizes, key: str) -> str:
    """WN: x (B, c / 2, G) in fp32 and the narrow conditioning (B, M * group, G) -> [b, s] (B, c, G) in fp32."""
    n = sizes.n_channels
    x = _convolution(b, b.narrow(x), arrays, f"{key}.start")
    skipped = ""
    for i in range(sizes.n_layers):
        own = _convolution(b, x, arrays, f"{key}.in_layers.{i}", dilation=2**i)
        of_condition = _convolution(b, condition, arrays, f"{key}.cond_layer", rows=slice(2 * n * i, 2 * n * (i + 1)))
        tanh, sigmoid = b.split(b.op("Add", own, of_condition), [n, n], axis=1)
        gated = b.op("Mul", b.op("Tanh", tanh), b.op("Sigmoid", sigmoid))
        skip = _convolution(b, gated, arrays, f"{key}.res_skip_layers.{i}")
        if i < sizes.n_layers - 1:
            residual, skip = b.split(skip, [n, n], axis=1)
            x = b.op("Add", x, residual)
        skipped = b.op("Add", skipped, b.wide(skip)) if skipped else b.wide(skip)
    return b.wide(_convolution(b, b.narrow(skipped), arrays, f"{key}.end"))


def _convolution(
    b: GraphBuilder, x: str, arrays: Arrays, key: str, *, dilation: int = 1, rows: slice = slice(None)
) -> str:
    """A narrow 'same' convolution over x (B, C, G) with those ``rows`` of a layer's output channels."""
    weight, bias = arrays[f"{key}.weight"][rows], arrays[f"{key}.bias"][rows]
    part = f".{rows.start}" if rows.start is not None else ""
    operands = [b.narrow_constant(weight, f"{key}.weight{part}"), b.narrow_constant(bias, f"{key}.bias{part}")]
    reach = dilation * (weight.shape[2] // 2)
    return b.op("Conv", x, *operands, dilations=[dilation], pads=[reach, reach])
