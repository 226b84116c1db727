"""Flowtron's graphs: encoder, one flow step (plain and guided), posterior pass.

Axes: B batch, N text symbols, T mel frames, M mel channels, D text + speaker channels, A attention channels, S state.
The mathematics is that of Flowtron (Valle et al. 2020) as its public implementation computes it; see docs/export.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from fte_export.checkpoint import FlowtronSizes
from fte_export.graphs.builder import NARROW, GraphBuilder, Precision, WeightFile

Arrays = Mapping[str, NDArray[np.float32]]

NORM_EPSILON = 1e-5
PRIOR_EPSILON = 1e-20
MASKED_SCORE = -1e30
"""Added to the score of padding: finite, so that a row of nothing but padding gives numbers, not NaN."""


def encoder_graph(
    arrays: Arrays, sizes: FlowtronSizes, weights: WeightFile, precision: Precision = "fp32"
) -> onnx.ModelProto:
    """text_ids, text_lengths, speaker_ids -> memory (B, N, D) and, per flow k, keys_k (B, A, N) and values_k (B, N, A).

    Keys stand with symbols last: the scores of a frame are then a row vector times a matrix, which runs four times
    faster than a matrix times a column. In fp16 and bf16 its convolutions, its LSTM and the projections are narrow.
    """
    b = GraphBuilder("encoder", weights, precision)
    memory, _, _ = _encode(b, arrays, sizes)
    b.output(memory, "memory", np.float32, ["B", "N", sizes.n_text_dim + sizes.n_speaker_dim])
    for k in range(sizes.n_flows):
        key, value = (arrays[f"flows.{k}.attention_layer.{name}.weight"] for name in ("key", "value"))
        keys = _keys_of(b, b.op("Transpose", memory, perm=[0, 2, 1]), key, f"flows.{k}")
        b.output(keys, f"keys_{k}", np.float32, ["B", sizes.n_attention, "N"])
        values = b.linear(memory, value, None, f"flows.{k}.value")
        b.output(values, f"values_{k}", np.float32, ["B", "N", sizes.n_attention])
    return b.model()


def _keys_of(b: GraphBuilder, memory: str, weight: NDArray[np.float32], key: str) -> str:
    """Attention keys (B, A, N) of a memory (B, D, N), symbols last in both."""
    return b.wide(b.op("MatMul", b.narrow_constant(weight, f"{key}.key.weight"), b.narrow(memory)))


def _encode(b: GraphBuilder, arrays: Arrays, sizes: FlowtronSizes) -> tuple[str, str, str]:
    """Memory (B, N, D), mask (B, N) of ones and zeros, and text lengths (B); declares the text inputs."""
    ids = b.input("text_ids", np.int64, ["B", "N"])
    lengths = b.input("text_lengths", np.int64, ["B"])
    speakers = b.input("speaker_ids", np.int64, ["B"])
    mask = _length_mask(b, lengths, ids)
    channel_mask = b.op("Unsqueeze", mask, b.ints(1))
    counts = b.op("Unsqueeze", b.op("Cast", lengths, to=1), b.ints(1, 2))

    embedded = b.op("Gather", b.constant(arrays["embedding.weight"], "embedding"), ids)
    x = b.op("Transpose", embedded, perm=[0, 2, 1])
    i = 0
    while f"encoder.convolutions.{i}.0.weight" in arrays:
        x = _encoder_layer(b, x, channel_mask, counts, arrays, f"encoder.convolutions.{i}")
        i += 1
    if b.precision in NARROW:
        hidden = _scanned_bidirectional_lstm(b, b.op("Transpose", x, perm=[0, 2, 1]), lengths, mask, arrays)
    else:
        hidden = _bidirectional_lstm(b, b.op("Transpose", x, perm=[2, 0, 1]), lengths, arrays, sizes.n_text_dim // 2)

    if sizes.dummy_speaker:
        speakers = b.op("Mul", speakers, b.constant(np.int64(0)))
    speaker = b.op("Gather", b.constant(arrays["speaker_embedding.weight"], "speaker_embedding"), speakers)
    shape = b.op("Concat", b.op("Shape", ids), b.ints(sizes.n_speaker_dim), axis=0)
    spread = b.op("Expand", b.op("Unsqueeze", speaker, b.ints(1)), shape)
    return b.op("Concat", hidden, spread, axis=2), mask, lengths


def _length_mask(b: GraphBuilder, lengths: str, like: str) -> str:
    """(B, N) for ``like`` (B, N): 1 at valid positions, 0 at padding."""
    valid = b.op("Less", _positions(b, like), b.op("Unsqueeze", lengths, b.ints(1)))
    return b.op("Cast", valid, to=1)


def _positions(b: GraphBuilder, like: str) -> str:
    """0, 1, 2, ... along the second axis of ``like``: (1, its length)."""
    size = b.op("Gather", b.op("Shape", like), b.constant(np.int64(1)))
    positions = b.op("Range", b.constant(np.int64(0)), size, b.constant(np.int64(1)))
    return b.op("Unsqueeze", positions, b.ints(0))


def _encoder_layer(b: GraphBuilder, x: str, mask: str, counts: str, arrays: Arrays, key: str) -> str:
    """x (B, C, N) -> relu(instance norm(conv(x))), statistics over valid positions only."""
    x = b.op("Mul", x, mask)
    weight, bias = arrays[f"{key}.0.weight"], arrays[f"{key}.0.bias"]
    pad = weight.shape[2] // 2
    operands = [b.narrow_constant(weight, f"{key}.0.weight"), b.narrow_constant(bias, f"{key}.0.bias")]
    x = b.wide(b.op("Conv", b.narrow(x), *operands, pads=[pad, pad]))
    mean = b.op("Div", b.op("ReduceSum", b.op("Mul", x, mask), b.ints(2), keepdims=1), counts)
    centred = b.op("Mul", b.op("Sub", x, mean), mask)
    variance = b.op("Div", b.op("ReduceSum", b.op("Mul", centred, centred), b.ints(2), keepdims=1), counts)
    deviation = b.op("Sqrt", b.op("Add", variance, b.scalar(NORM_EPSILON)))
    gain = b.constant(arrays[f"{key}.1.weight"][:, None], f"{key}.1.weight")
    offset = b.constant(arrays[f"{key}.1.bias"][:, None], f"{key}.1.bias")
    return b.op("Relu", b.op("Add", b.op("Mul", b.op("Div", centred, deviation), gain), offset))


def _bidirectional_lstm(b: GraphBuilder, x: str, lengths: str, arrays: Arrays, hidden: int) -> str:
    """x (N, B, C) -> (B, N, 2 * hidden); each direction starts at the ends of the valid part."""
    packed = [_onnx_lstm_weights(arrays, "encoder.lstm", 0, suffix) for suffix in ("", "_reverse")]
    w, r, bias = (np.stack(parts) for parts in zip(*packed, strict=True))
    operands = [b.constant(w, "encoder.lstm.w"), b.constant(r, "encoder.lstm.r"), b.constant(bias, "encoder.lstm.b")]
    steps = b.op("Cast", lengths, to=6)
    y = b.op("LSTM", x, *operands, steps, direction="bidirectional", hidden_size=hidden)
    y = b.op("Transpose", y, perm=[2, 0, 1, 3])
    return b.op("Reshape", y, b.ints(0, 0, -1))


def _scanned_bidirectional_lstm(b: GraphBuilder, x: str, lengths: str, mask: str, arrays: Arrays) -> str:
    """x (B, N, C) -> (B, N, 2 * hidden), zeros at padding: narrow products with the input, all that recurs in fp32.

    TensorRT's parser takes no LSTM operator in a narrow type.
    """
    rows = b.op("Unsqueeze", mask, b.ints(2))
    order = _reversal(b, mask, lengths)
    forward = _scanned_lstm(b, x, arrays, "")
    backward = _reorder_frames(b, _scanned_lstm(b, _reorder_frames(b, x, order), arrays, "_reverse"), order)
    return b.op("Mul", b.op("Concat", forward, backward, axis=2), rows)


def _scanned_lstm(b: GraphBuilder, x: str, arrays: Arrays, suffix: str) -> str:
    """One direction: x (B, N, C) -> (B, N, H)."""
    key, names = f"encoder.lstm{suffix}", ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    w, r, *biases = (arrays[f"encoder.lstm.{name}_l0{suffix}"] for name in names)
    size = r.shape[1]
    inputs = b.linear(x, w, biases[0] + biases[1], f"{key}.input")
    shape = b.op("Concat", b.op("Shape", x, start=0, end=1), b.ints(size), axis=0)
    zeros = b.op("Expand", b.scalar(0), shape)

    body = b.body(key)
    hidden, cell = (body.input(f"{body.prefix}{name}", np.float32, ["B", size]) for name in ("hidden", "cell"))
    row = body.input(f"{body.prefix}input", np.float32, ["B", 4 * size])
    gates = body.op("Add", row, body.linear_fp32(hidden, r, None, f"{key}.hidden"))
    i, f, g, o = body.split(gates, [size] * 4)
    kept = body.op("Mul", body.op("Sigmoid", f), cell)
    cell = body.op("Add", kept, body.op("Mul", body.op("Sigmoid", i), body.op("Tanh", g)))
    hidden = body.op("Mul", body.op("Sigmoid", o), body.op("Tanh", cell))
    for name, value in (("next_hidden", hidden), ("next_cell", cell), ("output", hidden)):
        body.output(value, f"{body.prefix}{name}", np.float32, ["B", size])
    return b.scan(body, [inputs], states=[zeros, zeros], axis=1)[-1]


def _onnx_lstm_weights(arrays: Arrays, key: str, layer: int, suffix: str = "") -> tuple[NDArray[np.float32], ...]:
    """torch's gates (i, f, g, o) in ONNX's order (i, o, f, g): W (4H, K), R (4H, H), bias (8H)."""

    def reorder(array: NDArray[np.float32]) -> NDArray[np.float32]:
        i, f, g, o = np.split(array, 4)
        return np.concatenate([i, o, f, g])

    parts = [
        reorder(arrays[f"{key}.{name}_l{layer}{suffix}"]) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    ]
    return parts[0], parts[1], np.concatenate(parts[2:])


# --- one flow step ------------------------------------------------------------------------------------------------


def state_size(sizes: FlowtronSizes) -> int:
    """Floats of a flow's recurrent state: h and c of every LSTM layer, and the previous output frame."""
    return 2 * (1 + sizes.n_lstm_layers) * sizes.n_hidden + sizes.n_mels


def flow_arrays(arrays: Arrays, sizes: FlowtronSizes, flow: int) -> Arrays:
    """``arrays`` with what the graphs of a flow multiply with: the products of each LSTM joined, signs folded in."""
    key = f"flows.{flow}"
    lstms = [(f"{key}.attention_lstm", 0), *((f"{key}.lstm", layer) for layer in range(sizes.n_lstm_layers))]
    joined = {f"{name}.{layer}": _joined_lstm(arrays, name, layer) for name, layer in lstms}
    joined[f"{key}.conv_inverse"] = _affine_weights(arrays, key, log_s_sign=-1)
    weights = {f"{name}.weight": weight for name, (weight, _) in joined.items()}
    return {**arrays, **weights, **{f"{name}.bias": bias for name, (_, bias) in joined.items()}}


def _joined_lstm(arrays: Arrays, key: str, layer: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weight (4H, H + K) over [h, x] and bias (4H); gate rows reordered to (i, f, o, g), so that one sigmoid serves.

    h stands first: its channels then fill whole int8 blocks, and the mel frame, of another scale, has its own.
    """

    def reorder(array: NDArray[np.float32]) -> NDArray[np.float32]:
        i, f, g, o = np.split(array, 4)
        return np.concatenate([i, f, o, g])

    parts = [arrays[f"{key}.weight_{side}_l{layer}"] for side in ("hh", "ih")]
    bias = arrays[f"{key}.bias_ih_l{layer}"] + arrays[f"{key}.bias_hh_l{layer}"]
    return reorder(np.concatenate(parts, axis=1)), reorder(bias)


def flow_graph(
    arrays: Arrays, sizes: FlowtronSizes, flow: int, weights: WeightFile, precision: Precision, *, guided: bool = False
) -> onnx.ModelProto:
    """One frame of one flow at inference: z (B, M) and state (B, S) -> mel (B, M), attention (B, N), state, gate (B).

    arrays are those of `flow_arrays`. The guided graph also takes ``prior`` (B, N), ``imposed`` (B, N) and
    ``is_imposed`` (B, 1): an attention prior, and attention weights that replace the computed ones where is_imposed is
    true. It shares the plain graph's weights.
    """
    b = GraphBuilder(f"flow_{flow}", weights, precision)
    z = b.input("z", np.float32, ["B", sizes.n_mels])
    state = _declare_state(b, sizes)
    text = _Text(b, sizes, guided)
    guide = _Guide(*(b.input(name, np.float32, ["B", "N"]) for name in ("prior", "imposed"))) if guided else None
    frame = _frame(b, z, state, text, guide, arrays, sizes, f"flows.{flow}")
    b.output(frame.mel, "mel", np.float32, ["B", sizes.n_mels])
    b.output(frame.attention, "attention", np.float32, ["B", "N"])
    _output_state(b, frame.state, sizes)
    if frame.gate:
        b.output(b.op("Squeeze", frame.gate, b.ints(-1)), "gate", np.float32, ["B"])
    return b.model()


def flow_block_graph(
    arrays: Arrays,
    sizes: FlowtronSizes,
    flow: int,
    frames: int,
    weights: WeightFile,
    precision: Precision,
    *,
    guided: bool = False,
) -> onnx.ModelProto:
    """``frames`` (K) frames of one flow in one graph, of `flow_arrays`: nobody looks at a gate before they are done.

    z (K, B, M), state (B, S) and remaining (B, 1), the frames that each utterance may still have -> mel (K, B, M),
    attention (K, B, N), gate (K, B), next_state and next_remaining. An utterance ends with the frame whose gate exceeds
    its ``gate_threshold`` (B, 1) or when nothing remains; from then on its state stays, and its rows are zeros.
    The guided graph takes prior and imposed as (K, B, N). It shares the weights of `flow_graph`.
    """
    b = GraphBuilder(f"flow_{flow}_block_{frames}", weights, precision)
    key = f"flows.{flow}"
    z = _frames_of(b, b.input("z", np.float32, [frames, "B", sizes.n_mels]), frames)
    state = _declare_state(b, sizes)
    remaining = b.input("remaining", np.int32, ["B", 1])
    threshold = b.input("gate_threshold", np.float32, ["B", 1]) if _has_gate(arrays, key) else ""
    text = _Text(b, sizes, guided)
    guides: list[_Guide | None] = [None] * frames
    if guided:
        given = [_frames_of(b, b.input(n, np.float32, [frames, "B", "N"]), frames) for n in ("prior", "imposed")]
        guides = [_Guide(prior, imposed) for prior, imposed in zip(*given, strict=True)]

    done: list[_Frame] = []
    for row, guide in zip(z, guides, strict=True):
        speaks = b.op("Greater", remaining, b.constant(np.int32(0), "int32_0"))
        frame = _frame(b, row, state, text, guide, arrays, sizes, key)
        state = _hold(b, speaks, frame.state, state)
        mel, attention, gate = (v and b.op("Where", speaks, v, b.scalar(0)) for v in frame[:3])
        done.append(_Frame(mel, attention, gate, state))
        remaining = _count_down(b, remaining, frame.gate, threshold)

    b.output(_stack(b, [frame.mel for frame in done]), "mel", np.float32, [frames, "B", sizes.n_mels])
    b.output(_stack(b, [frame.attention for frame in done]), "attention", np.float32, [frames, "B", "N"])
    _output_state(b, state, sizes)
    b.output(remaining, "next_remaining", np.int32, ["B", 1])
    if threshold:
        gates = b.op("Concat", *(frame.gate for frame in done), axis=1)
        b.output(b.op("Transpose", gates, perm=[1, 0]), "gate", np.float32, [frames, "B"])
    return b.model()


def _frames_of(b: GraphBuilder, x: str, frames: int) -> list[str]:
    """x (K, ...) as its K rows (...)."""
    return [b.op("Squeeze", row, b.ints(0)) for row in b.split(x, [1] * frames, axis=0)]


def _stack(b: GraphBuilder, rows: list[str]) -> str:
    """K values (...) -> (K, ...)."""
    return b.op("Concat", *(b.op("Unsqueeze", row, b.ints(0)) for row in rows), axis=0)


def _count_down(b: GraphBuilder, remaining: str, gate: str, threshold: str) -> str:
    """Frames that each utterance may still have (B, 1) after a frame with ``gate`` ('' without one)."""
    none = b.constant(np.int32(0), "int32_0")
    left = b.op("Sub", remaining, b.constant(np.int32(1), "int32_1"))
    if threshold:
        left = b.op("Where", b.op("Greater", gate, threshold), none, left)
    return b.op("Max", left, none)


class _State(NamedTuple):
    """What a flow carries from frame to frame, as names of values."""

    recurrent: tuple[str, ...]
    """The output frame before (B, M), then h and c (B, H) of the attention LSTM and of each decoder layer."""
    alignment: str
    """[sum of past weights, last weights] (B, 2, N), or '' without cumulative attention."""


def _declare_state(b: GraphBuilder, sizes: FlowtronSizes) -> _State:
    state = b.input("state", np.float32, ["B", state_size(sizes)])
    alignment = b.input("alignment", np.float32, ["B", 2, "N"]) if sizes.cumulative_attention else ""
    return _State(tuple(b.split(state, [sizes.n_mels] + [sizes.n_hidden] * (2 * (1 + sizes.n_lstm_layers)))), alignment)


def _output_state(b: GraphBuilder, state: _State, sizes: FlowtronSizes) -> None:
    b.output(b.op("Concat", *state.recurrent, axis=1), "next_state", np.float32, ["B", state_size(sizes)])
    if state.alignment:
        b.output(state.alignment, "next_alignment", np.float32, ["B", 2, "N"])


def _hold(b: GraphBuilder, speaks: str, new: _State, old: _State) -> _State:
    """The new state of utterances that speak (B, 1), the old one of those that have ended."""
    pairs = zip(new.recurrent, old.recurrent, strict=True)
    recurrent = tuple(b.op("Where", speaks, *pair) for pair in pairs)
    if not new.alignment:
        return _State(recurrent, "")
    rows = b.op("Unsqueeze", speaks, b.ints(2))
    return _State(recurrent, b.op("Where", rows, new.alignment, old.alignment))


class _Guide(NamedTuple):
    """What guides the attention of one frame, as names of values (B, N)."""

    prior: str
    imposed: str


class _Frame(NamedTuple):
    """What one frame of a flow gives, as names of values."""

    mel: str
    """(B, M)."""
    attention: str
    """(B, N)."""
    gate: str
    """(B, 1), or '' in a flow without one."""
    state: _State


def _frame(
    b: GraphBuilder,
    z: str,
    state: _State,
    text: "_Text",
    guide: _Guide | None,
    arrays: Arrays,
    sizes: FlowtronSizes,
    key: str,
) -> _Frame:
    """One frame of one flow: z (B, M) and the state before -> mel, attention, gate and the state after."""
    previous, hidden, cell, *deeper = state.recurrent
    x, cell = _lstm_cell(b, previous, hidden, cell, arrays, f"{key}.attention_lstm", 0)
    context, attention = text.attend(x, state.alignment, guide, arrays, key)
    recurrent = [x, cell]
    x = b.op("Concat", x, context, axis=1)
    gate = _gate(b, x, arrays, key) if _has_gate(arrays, key) else ""
    for layer in range(sizes.n_lstm_layers):
        hidden, cell = deeper[2 * layer : 2 * layer + 2]
        x, cell = _lstm_cell(b, x, hidden, cell, arrays, f"{key}.lstm", layer)
        recurrent += [x, cell]
    mel = _inverse_affine(b, z, _dense(b, x, arrays, key), arrays, key)
    alignment = _advance_alignment(b, state.alignment, attention) if state.alignment else ""
    return _Frame(mel, attention, gate, _State((mel, *recurrent), alignment))


def _has_gate(arrays: Arrays, key: str) -> bool:
    return f"{key}.gate_layer.weight" in arrays


def _gate(b: GraphBuilder, decoder_input: str, arrays: Arrays, key: str) -> str:
    """sigmoid(gate_layer(x)): (B, 1), fp32 in every precision because it decides where an utterance stops."""
    weight, bias = arrays[f"{key}.gate_layer.weight"], arrays[f"{key}.gate_layer.bias"]
    return b.op("Sigmoid", b.linear_fp32(decoder_input, weight, bias, f"{key}.gate"))


def _lstm_cell(
    b: GraphBuilder, x: str, hidden: str, cell: str, arrays: Arrays, key: str, layer: int
) -> tuple[str, str]:
    """One step of an LSTM as one product over [h, x]: the next h and c."""
    weight, bias = arrays[f"{key}.{layer}.weight"], arrays[f"{key}.{layer}.bias"]
    size = len(bias) // 4
    gates = b.linear(b.op("Concat", hidden, x, axis=1), weight, bias, f"{key}.{layer}")
    sigmoids, candidate = b.split(gates, [3 * size, size])
    i, f, o = b.split(b.op("Sigmoid", sigmoids), [size] * 3)
    cell = b.op("Add", b.op("Mul", f, cell), b.op("Mul", i, b.op("Tanh", candidate)))
    return b.op("Mul", o, b.op("Tanh", cell)), cell


def _dense(b: GraphBuilder, x: str, arrays: Arrays, key: str) -> str:
    """Two layers of tanh(linear): (B, H)."""
    for i in range(2):
        layer = f"{key}.dense_layer.layers.{i}"
        x = b.op("Tanh", b.linear(x, arrays[f"{layer}.weight"], arrays[f"{layer}.bias"], layer))
    return x


def _affine_weights(arrays: Arrays, key: str, log_s_sign: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The 1x1 convolution that gives [log_s, b], the rows of log_s times ``log_s_sign``."""
    weight, bias = arrays[f"{key}.conv.weight"][:, :, 0], arrays[f"{key}.conv.bias"]
    sign = np.ones(len(bias), np.float32)
    sign[: len(bias) // 2] = log_s_sign
    return weight * sign[:, None], bias * sign


def _inverse_affine(b: GraphBuilder, z: str, x: str, arrays: Arrays, key: str) -> str:
    """(z - b) / exp(log_s), in fp32: its error feeds every later frame."""
    weight, bias = arrays[f"{key}.conv_inverse.weight"], arrays[f"{key}.conv_inverse.bias"]
    channels = len(bias) // 2
    negative_log_s, offset = b.split(b.linear_fp32(x, weight, bias, f"{key}.conv_inverse"), [channels] * 2)
    return b.op("Mul", b.op("Sub", z, offset), b.op("Exp", negative_log_s))


class _Text:
    """What the attention of every frame reads of the text: declares those inputs, and attends to them."""

    def __init__(self, b: GraphBuilder, sizes: FlowtronSizes, guided: bool) -> None:
        self._b = b
        if sizes.cumulative_attention:
            self._memory = b.input("memory", np.float32, ["B", sizes.n_text_dim + sizes.n_speaker_dim, "N"])
        else:
            self._keys = b.input("keys", np.float32, ["B", sizes.n_attention, "N"])
        self._values = b.input("values", np.float32, ["B", "N", sizes.n_attention])
        self._mask = b.input("text_mask", np.float32, ["B", "N"])
        self._temperature = b.input("temperature", np.float32, ["B", 1])
        self._is_imposed = b.input("is_imposed", bool, ["B", 1]) if guided else ""
        self._bias = _score_bias(b, self._mask)

    def attend(self, hidden: str, alignment: str, guide: _Guide | None, arrays: Arrays, key: str) -> tuple[str, str]:
        """Context (B, A) and weights (B, N) for the attention LSTM's output (B, H)."""
        b = self._b
        keys = self._conditioned_keys(alignment, arrays, key) if alignment else self._keys
        query = b.linear(hidden, arrays[f"{key}.attention_layer.query.weight"], None, f"{key}.query")
        weights = _score(b, query, keys, self._bias, self._temperature, arrays, key)
        if guide:
            guided = _with_prior(b, weights, guide.prior, self._bias)
            weights = b.op("Where", self._is_imposed, guide.imposed, guided)
        if b.precision in NARROW:
            return b.sum_of_products(b.op("Unsqueeze", weights, b.ints(2)), self._values, 1), weights
        context = b.op("MatMul", b.op("Unsqueeze", weights, b.ints(1)), self._values)
        return b.op("Squeeze", context, b.ints(1)), weights

    def _conditioned_keys(self, alignment: str, arrays: Arrays, key: str) -> str:
        mask = self._b.op("Unsqueeze", self._mask, self._b.ints(1))
        return _conditioned_keys(self._b, self._memory, alignment, mask, arrays, key)


def _advance_alignment(b: GraphBuilder, alignment: str, attention: str) -> str:
    """[sum of weights, last weights] (B, 2, N) after a frame with ``attention`` (B, N)."""
    total, _ = b.split(alignment, [1, 1], axis=1)
    latest = b.op("Unsqueeze", attention, b.ints(1))
    return b.op("Concat", b.op("Add", total, latest), latest, axis=1)


def _score_bias(b: GraphBuilder, mask: str) -> str:
    """What is added to the scores: 0 at symbols, a very low score at padding."""
    return b.op("Mul", b.op("Sub", mask, b.scalar(1)), b.scalar(-MASKED_SCORE))


def _score(b: GraphBuilder, query: str, keys: str, bias: str, temperature: str, arrays: Arrays, key: str) -> str:
    """softmax(v . tanh(query + key) / temperature) over valid symbols: (B, N)."""
    energy = b.op("Tanh", b.op("Add", b.op("Unsqueeze", query, b.ints(2)), keys))
    vector = arrays[f"{key}.attention_layer.v.weight"]
    if b.precision in NARROW:
        scores = b.sum_of_products(energy, b.constant(vector.T, f"{key}.v_column"), 1)
    else:
        scores = b.op("Squeeze", b.op("MatMul", b.constant(vector, f"{key}.v"), energy), b.ints(1))
    return b.op("Softmax", b.op("Add", b.op("Div", scores, temperature), bias), axis=-1)


def _with_prior(b: GraphBuilder, weights: str, prior: str, bias: str) -> str:
    """softmax(log(weights + eps) + log(prior + eps)) over valid symbols."""
    floor = b.scalar(PRIOR_EPSILON)
    logs = b.op("Add", b.op("Log", b.op("Add", weights, floor)), b.op("Log", b.op("Add", prior, floor)))
    return b.op("Softmax", b.op("Add", logs, bias), axis=-1)


def _conditioned_keys(b: GraphBuilder, memory: str, alignment: str, mask: str, arrays: Arrays, key: str) -> str:
    """Cumulative attention: keys (B, A, N) of the memory (B, D, N) gated by two convolutions over the past alignment.

    The hidden layer is masked: the second convolution would otherwise see, past the end of a short text in a batch,
    what it does not see when that text is alone.
    """

    def convolve(x: str, name: str) -> str:
        weight, bias = arrays[f"{key}.attn_cond_layer.{name}.weight"], arrays[f"{key}.attn_cond_layer.{name}.bias"]
        pad = weight.shape[2] // 2
        operands = [b.constant(weight, f"{key}.cond.{name}.weight"), b.constant(bias, f"{key}.cond.{name}.bias")]
        return b.op("Conv", x, *operands, pads=[pad, pad])

    hidden = b.op("Mul", b.op("Relu", convolve(alignment, "hidden")), mask)
    conditioned = b.op("Mul", memory, b.op("Sigmoid", convolve(hidden, "out")))
    return _keys_of(b, conditioned, arrays[f"{key}.attention_layer.key.weight"], key)


# --- posterior ----------------------------------------------------------------------------------------------------


def posterior_graph(arrays: Arrays, sizes: FlowtronSizes, weights: WeightFile) -> onnx.ModelProto:
    """Text and mel (B, T, M) -> z (B, T, M), per flow log_s_k (B, T, M) and attention_k (B, T, N), gate_logits (B, T).

    Inputs: text_ids, text_lengths, speaker_ids, mel, mel_lengths (B), temperature (B, 1), prior (B, T, N) in playing
    order (ones for none; without effect in cumulative attention, as in the public implementation) and, with cumulative
    attention, neighbour_mask (B, N): what the second convolution over the alignment sees of the padding, the text mask
    for results that do not depend on the batch, ones for those of the public implementation.
    log_s, attention and gate are in each flow's own order of frames: row 0 of a backward flow is the last frame.
    """
    b = GraphBuilder("posterior", weights)
    memory, mask, _ = _encode(b, arrays, sizes)
    mel = b.input("mel", np.float32, ["B", "T", sizes.n_mels])
    lengths = b.input("mel_lengths", np.int64, ["B"])
    temperature = b.input("temperature", np.float32, ["B", 1])
    prior = b.input("prior", np.float32, ["B", "T", "N"])
    neighbour_mask = b.input("neighbour_mask", np.float32, ["B", "N"]) if sizes.cumulative_attention else ""
    memory_last = b.op("Transpose", memory, perm=[0, 2, 1])
    text = _PosteriorText(memory, memory_last, _score_bias(b, mask), temperature, neighbour_mask)
    backward = _reversal(b, mel, lengths)

    for k in range(sizes.n_flows):
        if k % 2:
            mel, prior = _reorder_frames(b, mel, backward), _reorder_frames(b, prior, backward)
        mel, log_s, attention, gate = _posterior_flow(b, mel, prior, text, arrays, sizes, f"flows.{k}")
        if k % 2:
            mel, prior = _reorder_frames(b, mel, backward), _reorder_frames(b, prior, backward)
        b.output(log_s, f"log_s_{k}", np.float32, ["B", "T", sizes.n_mels])
        b.output(attention, f"attention_{k}", np.float32, ["B", "T", "N"])
        if gate:
            b.output(gate, "gate_logits", np.float32, ["B", "T"])
    b.output(mel, "z", np.float32, ["B", "T", sizes.n_mels])
    return b.model()


def _reversal(b: GraphBuilder, mel: str, lengths: str) -> str:
    """Frame indices (B, T) that reverse each utterance within its own length and leave its padding in place."""
    positions = _positions(b, mel)
    ends = b.op("Unsqueeze", lengths, b.ints(1))
    mirrored = b.op("Sub", b.op("Sub", ends, b.constant(np.int64(1))), positions)
    return b.op("Where", b.op("Less", positions, ends), mirrored, positions)


def _reorder_frames(b: GraphBuilder, x: str, order: str) -> str:
    """x (B, T, C) with its frames in ``order`` (B, T)."""
    return b.op("GatherND", x, b.op("Unsqueeze", order, b.ints(2)), batch_dims=1)


@dataclass(frozen=True)
class _PosteriorText:
    """What every flow's attention reads of the text, as names of values."""

    memory: str
    """(B, N, D)."""
    memory_symbols_last: str
    """(B, D, N)."""
    bias: str
    temperature: str
    neighbour_mask: str


def _posterior_flow(
    b: GraphBuilder, mel: str, prior: str, text: _PosteriorText, arrays: Arrays, sizes: FlowtronSizes, key: str
) -> tuple[str, str, str, str]:
    """A whole flow with teacher forcing: mel (B, T, M) -> z, log_s, attention, gate logits ('' without a gate)."""
    delayed = b.op("Pad", mel, b.ints(0, 1, 0, 0, -1, 0))
    hidden = _sequence_lstm(b, delayed, arrays, f"{key}.attention_lstm", 0)
    queries = b.linear_fp32(hidden, arrays[f"{key}.attention_layer.query.weight"], None, f"{key}.query")
    attention = _scan_attention(b, queries, prior, text, arrays, sizes, key)
    values = b.linear_fp32(text.memory, arrays[f"{key}.attention_layer.value.weight"], None, f"{key}.value")
    x = b.op("Concat", hidden, b.op("MatMul", attention, values), axis=2)
    gate = ""
    if _has_gate(arrays, key):
        weight, gate_bias = arrays[f"{key}.gate_layer.weight"], arrays[f"{key}.gate_layer.bias"]
        gate = b.op("Squeeze", b.linear_fp32(x, weight, gate_bias, f"{key}.gate"), b.ints(-1))
    for layer in range(sizes.n_lstm_layers):
        x = _sequence_lstm(b, x, arrays, f"{key}.lstm", layer)
    for i in range(2):
        dense = f"{key}.dense_layer.layers.{i}"
        x = b.op("Tanh", b.linear_fp32(x, arrays[f"{dense}.weight"], arrays[f"{dense}.bias"], dense))
    affine = b.linear_fp32(x, *_affine_weights(arrays, key, log_s_sign=1), f"{key}.conv_forward")
    log_s, offset = b.split(affine, [sizes.n_mels] * 2)
    return b.op("Add", b.op("Mul", b.op("Exp", log_s), mel), offset), log_s, attention, gate


def _sequence_lstm(b: GraphBuilder, x: str, arrays: Arrays, key: str, layer: int) -> str:
    """x (B, T, C) -> (B, T, H). Padding stands at the end, so it needs no lengths."""
    w, r, bias = (array[None] for array in _onnx_lstm_weights(arrays, key, layer))
    operands = [b.constant(a, f"{key}.{layer}.onnx_{n}") for n, a in (("w", w), ("r", r), ("b", bias))]
    y = b.op("LSTM", b.op("Transpose", x, perm=[1, 0, 2]), *operands, hidden_size=r.shape[-1])
    return b.op("Transpose", b.op("Squeeze", y, b.ints(1)), perm=[1, 0, 2])


def _scan_attention(
    b: GraphBuilder, queries: str, prior: str, text: _PosteriorText, arrays: Arrays, sizes: FlowtronSizes, key: str
) -> str:
    """Attention (B, T, N), frame by frame: (B, T, N, A) energies at once would take gigabytes."""
    cumulative = sizes.cumulative_attention
    body = b.body(f"{key}.attention")
    states = [body.input(body.prefix + "alignment", np.float32, ["B", 2, "N"])] if cumulative else []
    query = body.input(body.prefix + "query", np.float32, ["B", sizes.n_attention])
    prior_row = body.input(body.prefix + "prior", np.float32, ["B", "N"])
    if cumulative:
        mask = body.op("Unsqueeze", text.neighbour_mask, body.ints(1))
        keys = _conditioned_keys(body, text.memory_symbols_last, states[0], mask, arrays, key)
    else:
        keys = _keys_of(b, text.memory_symbols_last, arrays[f"{key}.attention_layer.key.weight"], key)
    weights = _score(body, query, keys, text.bias, text.temperature, arrays, key)
    if cumulative:
        body.output(_advance_alignment(body, states[0], weights), body.prefix + "next", np.float32, ["B", 2, "N"])
    else:
        weights = _with_prior(body, weights, prior_row, text.bias)
    body.output(weights, body.prefix + "weights", np.float32, ["B", "N"])

    initial = [_zero_alignment(b, text.bias)] if cumulative else []
    return b.scan(body, [queries, prior], states=initial, axis=1)[-1]


def _zero_alignment(b: GraphBuilder, bias: str) -> str:
    """Zeros (B, 2, N) for a bias (B, N)."""
    zeros = b.op("Unsqueeze", b.op("Mul", bias, b.scalar(0)), b.ints(1))
    return b.op("Concat", zeros, zeros, axis=1)
