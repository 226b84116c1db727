"""The weights of a voice as the native engine reads them: one file of named tensors (safetensors) for each precision.

Rows are outputs and columns inputs throughout, what is computed once is folded in, and only what every frame or every
group of samples reads is narrow. engine/src/voice.cpp is the reader, and docs/engine.md has the table of names.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from fte.bundle import FlowtronSizes, WaveglowSizes
from fte_export.graphs.builder import NARROW, Precision
from fte_export.graphs.waveglow import inverse_mixing
from fte_export.quantize import quantize_rows
from fte_export.writer import Voice

Array = NDArray[np.generic]
Arrays = Mapping[str, NDArray[np.float32]]

MEL_CENTRE = -5.0
"""About the mean of the log mel of speech. In int8, WaveGlow's conditioning is computed from the mel less this: what
the mean contributes is then exact, in the layers' biases, and the bytes are left to what differs from it."""


def engine_file(precision: Precision) -> str:
    """File name of the engine's weights."""
    return f"engine.{precision}.safetensors"


def write_engine_weights(voice: Voice, precision: Precision, path: Path) -> None:
    """Write the engine's weights of a voice."""
    path.touch()
    mode = path.stat().st_mode  # as of any other file; safetensors makes one that nobody else may read
    save_file({name: np.ascontiguousarray(array) for name, array in engine_tensors(voice, precision)}, path)
    path.chmod(mode)


def engine_tensors(voice: Voice, precision: Precision) -> Iterator[tuple[str, Array]]:
    """Name and numbers of every tensor, those of int8 matrices followed by ``name.scale`` (rows)."""
    arrays, sizes = voice.flowtron.arrays, voice.flowtron_sizes
    yield from _encoder(arrays)
    for k in range(sizes.n_flows):
        yield from _flow(arrays, sizes, k, precision)
    if voice.waveglow is not None and voice.waveglow_sizes is not None:
        yield from _vocoder(voice.waveglow.arrays, voice.waveglow_sizes, precision)


def _matrix(name: str, weight: NDArray[np.float32], precision: Precision) -> Iterator[tuple[str, Array]]:
    """A weight matrix (rows, columns) in a precision."""
    if precision == "int8":
        values, scales = quantize_rows(weight)
        yield name, values
        yield f"{name}.scale", scales
    else:
        yield name, weight.astype(NARROW.get(precision, np.float32))


def _exact(name: str, weight: NDArray[np.float32], precision: Precision) -> tuple[str, Array]:
    """A matrix that is not quantized. fp16 has twelve bits, enough beside int8, and is read in half the time."""
    small = precision == "int8" and np.abs(weight).max() < np.finfo(np.float16).max
    return name, weight.astype(np.float16) if small else weight


def _encoder(arrays: Arrays) -> Iterator[tuple[str, Array]]:
    """fp32 in every precision: it runs once an utterance."""
    yield "encoder.embedding", arrays["embedding.weight"]
    yield "encoder.speaker_embedding", arrays["speaker_embedding.weight"]
    i = 0
    while f"encoder.convolutions.{i}.0.weight" in arrays:
        key = f"encoder.convolutions.{i}"
        yield f"{key}.weight", _taps_first(arrays[f"{key}.0.weight"])
        yield f"{key}.bias", arrays[f"{key}.0.bias"]
        yield f"{key}.gain", arrays[f"{key}.1.weight"]
        yield f"{key}.shift", arrays[f"{key}.1.bias"]
        i += 1
    for key, suffix in (("forward", ""), ("backward", "_reverse")):
        yield f"encoder.lstm.{key}.input", arrays[f"encoder.lstm.weight_ih_l0{suffix}"]
        yield f"encoder.lstm.{key}.recurrent", arrays[f"encoder.lstm.weight_hh_l0{suffix}"]
        of_input, of_hidden = (arrays[f"encoder.lstm.bias_{side}_l0{suffix}"] for side in ("ih", "hh"))
        yield f"encoder.lstm.{key}.bias", of_input + of_hidden


def _taps_first(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """The weights of a convolution (out, in, taps) -> (out, taps * in), tap after tap."""
    return weight.transpose(0, 2, 1).reshape(len(weight), -1)


def _flow(arrays: Arrays, sizes: FlowtronSizes, k: int, precision: Precision) -> Iterator[tuple[str, Array]]:
    key = f"flows.{k}"
    lstm = f"{key}.attention_lstm"
    yield _exact(f"{lstm}.mel", arrays[f"{lstm}.weight_ih_l0"], precision)
    yield from _matrix(f"{lstm}.recurrent", arrays[f"{lstm}.weight_hh_l0"], precision)
    yield f"{lstm}.bias", arrays[f"{lstm}.bias_ih_l0"] + arrays[f"{lstm}.bias_hh_l0"]
    for layer in range(sizes.n_lstm_layers):
        own, of = f"{key}.lstm.{layer}", f"{key}.lstm"
        inputs = arrays[f"{of}.weight_ih_l{layer}"]
        if layer == 0:
            yield from _matrix(f"{own}.hidden", inputs[:, : sizes.n_hidden], precision)
            yield from _matrix(f"{own}.context", inputs[:, sizes.n_hidden :], precision)
        else:
            yield from _matrix(f"{own}.input", inputs, precision)
        yield from _matrix(f"{own}.recurrent", arrays[f"{of}.weight_hh_l{layer}"], precision)
        yield f"{own}.bias", arrays[f"{of}.bias_ih_l{layer}"] + arrays[f"{of}.bias_hh_l{layer}"]
    yield from _matrix(f"{key}.attention.query", arrays[f"{key}.attention_layer.query.weight"], precision)
    yield f"{key}.attention.energy", arrays[f"{key}.attention_layer.v.weight"].reshape(-1)
    for name in ("key", "value"):
        yield f"{key}.attention.{name}", arrays[f"{key}.attention_layer.{name}.weight"]
    for i in range(2):
        yield from _matrix(f"{key}.dense.{i}.weight", arrays[f"{key}.dense_layer.layers.{i}.weight"], precision)
        yield f"{key}.dense.{i}.bias", arrays[f"{key}.dense_layer.layers.{i}.bias"]
    yield _exact(f"{key}.affine.weight", arrays[f"{key}.conv.weight"][:, :, 0], precision)
    yield f"{key}.affine.bias", arrays[f"{key}.conv.bias"]
    if f"{key}.gate_layer.weight" in arrays:
        gate = arrays[f"{key}.gate_layer.weight"].reshape(-1), arrays[f"{key}.gate_layer.bias"].reshape(-1)
        yield f"{key}.gate", np.concatenate(gate)
    if sizes.cumulative_attention:
        condition = f"{key}.attn_cond_layer"
        yield f"{key}.cumulative.hidden.weight", arrays[f"{condition}.hidden.weight"]
        yield f"{key}.cumulative.hidden.bias", arrays[f"{condition}.hidden.bias"]
        yield f"{key}.cumulative.out.weight", arrays[f"{condition}.out.weight"].transpose(2, 1, 0)
        yield f"{key}.cumulative.out.bias", arrays[f"{condition}.out.bias"]


def _vocoder(arrays: Arrays, sizes: WaveglowSizes, precision: Precision) -> Iterator[tuple[str, Array]]:
    """WaveGlow; its skip layers and `end` are linear, so that each layer adds to what WN gives by one small matrix."""
    m, stride, group = sizes.n_mels, sizes.upsample_stride, sizes.n_group
    taps, phases = sizes.upsample_kernel // stride, stride // group
    kernel = arrays["upsample.weight"].reshape(m, m, taps, phases, group)  # in, out, tap, phase, sample
    upsample = kernel.transpose(3, 1, 4, 2, 0).reshape(stride * m, taps * m)
    bias = np.tile(np.repeat(arrays["upsample.bias"], group), phases)
    centre, mean = np.float32(0), np.zeros((1, m * group))
    if precision == "int8":
        centre = np.float32(MEL_CENTRE)
        mean = (upsample.sum(axis=1, dtype=np.float64) * centre + bias).reshape(phases, m * group)
        bias = np.zeros_like(bias)
    yield "vocoder.centre", centre.reshape(1)
    yield "vocoder.upsample.weight", upsample
    yield "vocoder.upsample.bias", bias
    for k in range(sizes.n_flows):
        yield from _vocoder_flow(arrays, sizes, k, mean, precision)


def _vocoder_flow(
    arrays: Arrays, sizes: WaveglowSizes, k: int, mean: NDArray[np.float64], precision: Precision
) -> Iterator[tuple[str, Array]]:
    """A flow; mean (phases, conditioning channels) is what the conditioning is on top of."""
    n, key, wn = sizes.n_channels, f"vocoder.flows.{k}", f"WN.{k}"
    yield f"{key}.start.weight", arrays[f"{wn}.start.weight"][:, :, 0]
    yield f"{key}.start.bias", arrays[f"{wn}.start.bias"]
    yield f"{key}.mixing", inverse_mixing(arrays, k)
    end = arrays[f"{wn}.end.weight"][:, :, 0].astype(np.float64)
    end_bias = arrays[f"{wn}.end.bias"].astype(np.float64)
    conditions = arrays[f"{wn}.cond_layer.weight"][:, :, 0], arrays[f"{wn}.cond_layer.bias"]
    for i in range(sizes.n_layers):
        own, rows = f"{key}.layers.{i}", slice(2 * n * i, 2 * n * (i + 1))
        weight = _taps_first(arrays[f"{wn}.in_layers.{i}.weight"])
        condition, condition_bias = conditions[0][rows], conditions[1][rows]
        for name, half in (("tanh", slice(0, n)), ("sigmoid", slice(n, 2 * n))):
            yield from _matrix(f"{own}.{name}", weight[half], precision)
            yield from _matrix(f"{own}.condition_{name}", condition[half], precision)
        bias = mean @ condition.astype(np.float64).T + arrays[f"{wn}.in_layers.{i}.bias"] + condition_bias
        phases = sizes.upsample_stride // sizes.n_group
        yield f"{own}.bias", np.broadcast_to(bias, (phases, 2 * n)).reshape(phases, 2, n).astype(np.float32)
        res_skip = arrays[f"{wn}.res_skip_layers.{i}.weight"][:, :, 0]
        res_skip_bias = arrays[f"{wn}.res_skip_layers.{i}.bias"]
        if i < sizes.n_layers - 1:
            yield from _matrix(f"{own}.residual.weight", res_skip[:n], precision)
            yield f"{own}.residual.bias", res_skip_bias[:n]
        yield f"{own}.end", (end @ res_skip[-n:]).astype(np.float32)
        end_bias = end_bias + end @ res_skip_bias[-n:]
    yield f"{key}.end.bias", end_bias.astype(np.float32)
