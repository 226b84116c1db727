"""From the names and shapes of the public checkpoints to one canonical form, and the sizes that follow from it.

Nothing is read here: a tensor that has to be computed from others (weight norm, layers that older models keep apart)
becomes one whose `read` does so.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fte.bundle import FlowtronSizes, WaveglowSizes
from fte.constants import HOP
from fte_export.budget import Fault, shown
from fte_export.containers import FLOATS, Tensor
from fte_export.unpickle import is_count

Tensors = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]

UPSAMPLE_KERNEL = 4 * HOP
"""Samples; fixed in the public WaveGlow, as is its stride of one hop, which leaves no trace in the tensors."""
_ENCODER_CONVOLUTIONS = 3
_ENCODER_KERNEL = 5
_CONDITIONING_SHAPES = ((32, 2, 5), (32, 3))
"""Cumulative attention's two convolutions: (filters, inputs, kernel), and (filters, kernel) of the second."""
_FAULTS_SHOWN = 1000
_MOST_PARTS = 64
"""Flows of a model and layers of a flow are no more."""

_NOT_FOR_INFERENCE = ("gaussian_mixture.", "mel_encoder.")
_FLOW = re.compile(r"flows\.(\d{1,4})\.(ar_step\.)?(.+)")
_FLOWTRON_NAMES = (
    (re.compile(r"^(encoder\.convolutions\.\d+\.0)\.conv\."), r"\1."),
    (re.compile(r"\.attn_cond_layer\.(?:location_conv_hidden|conv_layers\.0)\.conv\."), ".attn_cond_layer.hidden."),
    (re.compile(r"\.attn_cond_layer\.(?:location_conv_out|conv_layers\.2)\.conv\."), ".attn_cond_layer.out."),
    (re.compile(r"\.linear_layer\."), "."),
)
_MOST_PREFIXES = 6
"""Of names: `module._orig_mod.model.` are three."""


def unwrapped_names(tensors: Tensors) -> Tensors:
    """The tensors without what stands before every name: `module.` of torch's wrappers, `generator.` of a trainer."""
    inner = tensors
    for _ in range(_MOST_PREFIXES):
        if model_of(inner):
            return inner
        prefix = next(iter(inner), "").partition(".")[0] + "."
        if not all(name.startswith(prefix) for name in inner):
            break
        inner = {name.removeprefix(prefix): tensor for name, tensor in inner.items()}
    return tensors


def model_of(tensors: Iterable[str]) -> str | None:
    """Which model the names belong to."""
    roots = {name.partition(".")[0] for name in tensors}
    if "convinv" in roots or {"WN", "upsample"} <= roots:
        return "WaveGlow"
    return "Flowtron" if "flows" in roots or {"encoder", "speaker_embedding"} <= roots else None


# Flowtron.


def flowtron_tensors(tensors: Tensors) -> Tensors:
    """Under canonical names, without what inference does not use. Names that are not the model's stay as they are."""
    found: Tensors = {}
    for name, tensor in tensors.items():
        if not name.startswith(_NOT_FOR_INFERENCE):
            canonical = _flowtron_name(name)
            if canonical not in found:
                found[canonical] = tensor
            elif ".attn_cond_layer." in name:  # whose convolutions the public model has under two names each
                found[canonical] = _twice(found[canonical], tensor, canonical)
            else:
                found[name] = tensor
    return found


def _twice(first: Tensor, second: Tensor, name: str) -> Tensor:
    """One tensor that stands under two names."""
    return Tensor(first.shape, _type_of(first, second), partial(_one_of_two, first, second, name))


def _one_of_two(first: Tensor, second: Tensor, name: str) -> NDArray[Any]:
    values = first.read()
    if first.shape != second.shape or not np.array_equal(values, second.read(), equal_nan=True):
        raise Fault(f"has {name} under two names with different values, so that it is not known which counts")
    return values


def _type_of(*tensors: Tensor) -> str:
    """The element type of what is made of these: theirs where it is no type of weights, so that it is refused."""
    return next((tensor.dtype for tensor in tensors if tensor.dtype not in FLOATS), "float32")


def _flowtron_name(name: str) -> str:
    if match := _FLOW.fullmatch(name):
        flow, backward, rest = match.groups()
        if bool(backward) != bool(int(flow) % 2):
            return f"{name} (in the wrong direction of time)"  # and so under no name of the model
        name = f"flows.{flow}.{rest}"
    for pattern, replacement in _FLOWTRON_NAMES:
        name = pattern.sub(replacement, name)
    return name


def flowtron_sizes(tensors: Mapping[str, Tensor], *, dummy_speaker: bool) -> FlowtronSizes:
    """The sizes, each from the first of several tensors that is there."""
    size = partial(_size, tensors)
    text = size(("embedding.weight", 1), ("encoder.convolutions.0.0.weight", 0))
    memory = size(("flows.0.attention_layer.key.weight", 1))
    return FlowtronSizes(
        n_speakers=size(("speaker_embedding.weight", 0)),
        n_speaker_dim=size(("speaker_embedding.weight", 1)) or max(0, memory - text),
        n_text=size(("embedding.weight", 0)),
        n_text_dim=text,
        n_flows=_count(tensors, r"flows\.(\d{1,4})\..+"),
        n_mels=size(("flows.0.attention_lstm.weight_ih_l0", 1), ("flows.1.attention_lstm.weight_ih_l0", 1)),
        n_attention=size(("flows.0.attention_layer.query.weight", 0), ("flows.0.attention_layer.key.weight", 0)),
        n_hidden=size(("flows.0.attention_lstm.weight_hh_l0", 1), ("flows.0.conv.weight", 1)),
        n_lstm_layers=_count(tensors, r"flows\.0\.lstm\.weight_hh_l(\d{1,4})"),
        has_gate=any(".gate_layer." in name for name in tensors),
        cumulative_attention=any(".attn_cond_layer." in name for name in tensors),
        dummy_speaker=dummy_speaker,
    )


def flowtron_shapes(sizes: FlowtronSizes) -> Shapes:
    """Every tensor of a Flowtron and its shape."""
    text = sizes.n_text_dim
    shapes: Shapes = {
        "speaker_embedding.weight": (sizes.n_speakers, sizes.n_speaker_dim),
        "embedding.weight": (sizes.n_text, text),
    }
    for i in range(_ENCODER_CONVOLUTIONS):
        key = f"encoder.convolutions.{i}"
        shapes |= _with_bias(f"{key}.0", (text, text, _ENCODER_KERNEL)) | _with_bias(f"{key}.1", (text,))
    for suffix in ("", "_reverse"):
        shapes |= _lstm("encoder.lstm", f"0{suffix}", text, text // 2)
    for k in range(sizes.n_flows):
        shapes |= _flow_shapes(f"flows.{k}", sizes, gate=sizes.has_gate and k == sizes.n_flows - 1)
    return shapes


def _flow_shapes(key: str, sizes: FlowtronSizes, *, gate: bool) -> Shapes:
    hidden, attention, memory = sizes.n_hidden, sizes.n_attention, sizes.n_text_dim + sizes.n_speaker_dim
    shapes = _lstm(f"{key}.attention_lstm", "0", sizes.n_mels, hidden)
    for layer in range(sizes.n_lstm_layers):
        shapes |= _lstm(f"{key}.lstm", str(layer), hidden if layer else hidden + attention, hidden)
    shapes |= {
        f"{key}.attention_layer.query.weight": (attention, hidden),
        f"{key}.attention_layer.key.weight": (attention, memory),
        f"{key}.attention_layer.value.weight": (attention, memory),
        f"{key}.attention_layer.v.weight": (1, attention),
    }
    for i in range(2):
        shapes |= _with_bias(f"{key}.dense_layer.layers.{i}", (hidden, hidden))
    shapes |= _with_bias(f"{key}.conv", (2 * sizes.n_mels, hidden, 1))
    if sizes.cumulative_attention:
        first, second = _CONDITIONING_SHAPES
        shapes |= _with_bias(f"{key}.attn_cond_layer.hidden", first)
        shapes |= _with_bias(f"{key}.attn_cond_layer.out", (memory, *second))
    if gate:
        shapes |= _with_bias(f"{key}.gate_layer", (1, hidden + attention))
    return shapes


def _lstm(key: str, layer: str, inputs: int, hidden: int) -> Shapes:
    return {
        f"{key}.weight_ih_l{layer}": (4 * hidden, inputs),
        f"{key}.weight_hh_l{layer}": (4 * hidden, hidden),
        f"{key}.bias_ih_l{layer}": (4 * hidden,),
        f"{key}.bias_hh_l{layer}": (4 * hidden,),
    }


def _with_bias(key: str, shape: tuple[int, ...]) -> Shapes:
    return {f"{key}.weight": shape, f"{key}.bias": shape[:1]}


# WaveGlow.

_NORMED = ((".weight_g", ".weight_v"), (".parametrizations.weight.original0", ".parametrizations.weight.original1"))
"""How torch's two weight norms name the lengths and directions of a weight."""
_NORMED_AT_ONCE = 1 << 18
"""Elements of a weight that are computed at once, which stay in a core's cache."""
_CONVINV = re.compile(r"convinv\.(\d{1,4})\.(?:conv\.)?weight")
_OLD_CONDITION = re.compile(r"(WN\.\d{1,4})\.cond_layers\.0\.weight")
_OLD_SKIP = re.compile(r"(WN\.\d{1,4})\.skip_layers\.(\d{1,4})\.weight")


def waveglow_tensors(tensors: Tensors) -> Tensors:
    """Under canonical names, weight norm applied and layers joined. Names that are not the model's stay as they are."""
    found = _without_weight_norm(tensors)
    for name in list(found):
        if match := _OLD_CONDITION.fullmatch(name):
            _join_conditions(found, match[1])
        elif match := _OLD_SKIP.fullmatch(name):
            _join_residual_and_skip(found, match[1], match[2])
        elif (match := _CONVINV.fullmatch(name)) and found[name].shape[2:] == (1,):
            _squeeze(found, name, f"convinv.{match[1]}.weight")
    return found


def _without_weight_norm(tensors: Tensors) -> Tensors:
    found = dict(tensors)
    for name in tensors:
        for lengths, directions in _NORMED:
            key = name.removesuffix(directions)
            if key != name and f"{key}{lengths}" in found and f"{key}.weight" not in found:
                _apply_norm(found, f"{key}.weight", f"{key}{lengths}", name)
    return found


def _apply_norm(found: Tensors, name: str, lengths: str, directions: str) -> None:
    """Replace a weight's lengths and directions by the weight, where they fit each other."""
    g, v = found[lengths], found[directions]
    if v.shape and g.shape == (v.shape[0], *(1 for _ in v.shape[1:])):
        del found[lengths], found[directions]
        found[name] = Tensor(v.shape, _type_of(g, v), partial(_normed, g, v))


def _normed(lengths: Tensor, directions: Tensor) -> NDArray[np.float32]:
    """g * v / |v|, with the norm over all axes but the first: Salimans and Kingma 2016.

    In double precision, row by row: whole, that would take several times the memory of the weight.
    """
    lengths_read, directions_read = lengths.read(), directions.read()
    weight = np.empty(directions_read.shape, np.float32)
    rows = max(1, _NORMED_AT_ONCE * len(weight) // max(1, weight.size))
    with np.errstate(all="ignore"):  # what is not finite, or a direction of zeros gives, is reported later
        for start in range(0, len(weight), rows):
            part = slice(start, start + rows)
            g, v = lengths_read[part].astype(np.float64), directions_read[part].astype(np.float64)
            norm = np.sqrt(np.sum(v * v, axis=tuple(range(1, v.ndim)), keepdims=True))
            norm[np.isinf(norm)] = np.nan  # else a direction too large would pass as one of zeros
            weight[part] = g * (v / norm)
    return weight


def _squeeze(found: Tensors, name: str, squeezed: str) -> None:
    """Give a matrix of (C, C, 1) as (C, C), where none is there under that name."""
    if squeezed == name or squeezed not in found:
        matrix = found.pop(name)
        found[squeezed] = Tensor(matrix.shape[:2], matrix.dtype, partial(_squeezed, matrix))


def _squeezed(matrix: Tensor) -> NDArray[Any]:
    return matrix.read()[:, :, 0]


def _join_conditions(found: Tensors, key: str) -> None:
    """Put one `cond_layer` in the place of one per layer, in their order."""
    layers = 1
    while f"{key}.cond_layers.{layers}.weight" in found:
        layers += 1
    for leaf in ("weight", "bias"):
        _join(found, [f"{key}.cond_layers.{i}.{leaf}" for i in range(layers)], f"{key}.cond_layer.{leaf}")


def _join_residual_and_skip(found: Tensors, key: str, layer: str) -> None:
    """Put `res_skip_layers` in the place of the two; the last layer has no residual part."""
    for leaf in ("weight", "bias"):
        residual, skip = f"{key}.res_layers.{layer}.{leaf}", f"{key}.skip_layers.{layer}.{leaf}"
        parts = [residual, skip] if residual in found else [skip]
        _join(found, parts, f"{key}.res_skip_layers.{layer}.{leaf}")


def _join(found: Tensors, names: Sequence[str], joined: str) -> None:
    """Replace the named tensors by one, joined along the first axis, where they fit each other."""
    if joined in found or not all(name in found and found[name].shape for name in names):
        return
    parts = [found[name] for name in names]
    shape = (sum(part.shape[0] for part in parts), *parts[0].shape[1:])
    if all(part.shape[1:] == shape[1:] for part in parts):
        for name in names:
            del found[name]
        found[joined] = Tensor(shape, _type_of(*parts), partial(_concatenated, parts))


def _concatenated(parts: Sequence[Tensor]) -> NDArray[Any]:
    return np.concatenate([part.read() for part in parts])


def waveglow_sizes(tensors: Mapping[str, Tensor]) -> WaveglowSizes:
    """The sizes, each from the first of several tensors that is there."""
    size = partial(_size, tensors)
    flows = _count(tensors, r"(?:WN|convinv)\.(\d{1,4})\..+")
    channels = [size((f"convinv.{k}.weight", 0), (f"WN.{k}.end.weight", 0)) for k in range(flows)]
    every, early = _early_outputs(channels)
    return WaveglowSizes(
        n_mels=size(("upsample.weight", 0), ("upsample.bias", 0)),
        n_flows=flows,
        n_group=channels[0],
        n_early_every=every,
        n_early_size=early,
        n_layers=_count(tensors, r"WN\.0\.in_layers\.(\d{1,4})\..+"),
        n_channels=size(("WN.0.start.weight", 0), ("WN.0.end.weight", 1)),
        kernel_size=size(("WN.0.in_layers.0.weight", 2), ("WN.0.in_layers.1.weight", 2)),
        upsample_kernel=UPSAMPLE_KERNEL,
        upsample_stride=HOP,
    )


def _early_outputs(channels: Sequence[int]) -> tuple[int, int]:
    """After how many flows how many channels leave, from the channels of each flow.

    Where none ever leaves, the model says nothing of either: any interval of at least its flows describes it.
    """
    for k, count in enumerate(channels):
        if count != channels[0]:
            return k, channels[0] - count
    return len(channels), 2


def waveglow_shapes(sizes: WaveglowSizes) -> Shapes:
    """Every tensor of a WaveGlow and its shape."""
    mels, width = sizes.n_mels, sizes.n_channels
    shapes: Shapes = {"upsample.weight": (mels, mels, sizes.upsample_kernel), "upsample.bias": (mels,)}
    for k in range(sizes.n_flows):
        channels = sizes.n_group - k // sizes.n_early_every * sizes.n_early_size
        key = f"WN.{k}"
        shapes[f"convinv.{k}.weight"] = (channels, channels)
        shapes |= _with_bias(f"{key}.start", (width, channels // 2, 1))
        shapes |= _with_bias(f"{key}.cond_layer", (2 * width * sizes.n_layers, mels * sizes.n_group, 1))
        shapes |= _with_bias(f"{key}.end", (channels, width, 1))
        for i in range(sizes.n_layers):
            outputs = width if i == sizes.n_layers - 1 else 2 * width
            shapes |= _with_bias(f"{key}.in_layers.{i}", (2 * width, width, sizes.kernel_size))
            shapes |= _with_bias(f"{key}.res_skip_layers.{i}", (outputs, width, 1))
    return shapes


# Both.


def _size(tensors: Mapping[str, Tensor], *places: tuple[str, int]) -> int:
    """The length of an axis of the first tensor that is there and has it, else 0."""
    for name, axis in places:
        if name in tensors and len(tensors[name].shape) > axis:
            return tensors[name].shape[axis]
    return 0


def _count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    """How many different numbers stand in names of the form of ``pattern``, within what a model can have."""
    matches = map(re.compile(pattern).fullmatch, tensors)
    return min(max(1, len({match[1] for match in matches if match})), _MOST_PARTS)


def shape_faults(tensors: Mapping[str, Tensor], expected: Shapes) -> list[str]:
    """Every missing tensor, every one of another shape than expected and every one that is none of the model's."""
    faults = [f"{name} is missing" for name in expected if name not in tensors]
    for name, tensor in tensors.items():
        if name not in expected:
            faults.append(f"{shown(name)} is not part of the model")
        elif tensor.shape != expected[name]:
            faults.append(f"{name} has the shape {tensor.shape} instead of {expected[name]}")
        elif 0 in tensor.shape:
            faults.append(f"{name} is empty")
    more = len(faults) - _FAULTS_SHOWN
    return [*faults[:_FAULTS_SHOWN], f"and {more} more"] if more > 0 else faults


def config_faults(config: Mapping[str, Any], values: Mapping[str, int | bool]) -> list[str]:
    """Every entry of a configuration that contradicts the value that follows from the tensors."""
    return [
        f"{key} is {shown(repr(config[key]))} there and {value} in the tensors"
        for key, value in values.items()
        if key in config and (bool(config[key]) if isinstance(value, bool) else config[key]) != value
    ]


def flowtron_values(sizes: FlowtronSizes) -> dict[str, int | bool]:
    """The sizes under the names of the public configuration file."""
    return {
        "n_speakers": sizes.n_speakers,
        "n_speaker_dim": sizes.n_speaker_dim,
        "n_text": sizes.n_text,
        "n_text_dim": sizes.n_text_dim,
        "n_flows": sizes.n_flows,
        "n_mel_channels": sizes.n_mels,
        "n_attn_channels": sizes.n_attention,
        "n_hidden": sizes.n_hidden,
        "n_lstm_layers": sizes.n_lstm_layers,
        "use_gate_layer": sizes.has_gate,
        "use_cumm_attention": sizes.cumulative_attention,
    }


def waveglow_values(sizes: WaveglowSizes) -> dict[str, int | bool]:
    """The sizes under the names of the public configuration file, its inner WN_config included."""
    return {
        "n_mel_channels": sizes.n_mels,
        "n_flows": sizes.n_flows,
        "n_group": sizes.n_group,
        "n_early_every": sizes.n_early_every,
        "n_early_size": sizes.n_early_size,
        "n_layers": sizes.n_layers,
        "n_channels": sizes.n_channels,
        "kernel_size": sizes.kernel_size,
    }


def with_early_outputs_of(config: Mapping[str, Any], sizes: WaveglowSizes) -> WaveglowSizes:
    """The sizes with the configuration's early outputs, if those lead to the same channels in every flow."""
    every, size = (config.get(key) for key in ("n_early_every", "n_early_size"))
    if not (is_count(every) and is_count(size) and every):
        return sizes
    flows = range(sizes.n_flows)
    same = all(k // every * size == k // sizes.n_early_every * sizes.n_early_size for k in flows)
    return replace(sizes, n_early_every=every, n_early_size=size) if same else sizes
