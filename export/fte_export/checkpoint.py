"""Any published Flowtron or WaveGlow file -> named arrays and sizes, without running anything from it.

A checkpoint is a pickle, and unpickling one runs whatever it asks for. Here nothing a file names is imported or called:
see `fte_export.unpickle`. The sizes follow from the tensors' shapes, and every tensor is checked against them.
"""

import contextlib
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fte.bundle import FlowtronSizes, WaveglowSizes
from fte.constants import LIMITS
from fte.errors import CheckpointError
from fte.strict_json import parse_json
from fte_export.budget import Budget, Fault, shown
from fte_export.canonical import (
    Shapes,
    Tensors,
    config_faults,
    flowtron_shapes,
    flowtron_sizes,
    flowtron_tensors,
    flowtron_values,
    model_of,
    shape_faults,
    unwrapped_names,
    waveglow_shapes,
    waveglow_sizes,
    waveglow_tensors,
    waveglow_values,
    with_early_outputs_of,
)
from fte_export.containers import FLOATS, Contents, Tensor, item_size, map_file, read_contents

__all__ = [
    "Checkpoint",
    "FlowtronSizes",
    "WaveglowSizes",
    "read_config",
    "read_flowtron",
    "read_tensors",
    "read_waveglow",
]

_EXPANSION = 8
"""Arrays may take this many times the bytes of their file: 2 for fp16, 2 for shared ones, and no more than a few."""
_SMALL = 1 << 16
"""Bytes any file may expand to."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model's weights under canonical names, its sizes, and the file it came from."""

    arrays: dict[str, NDArray[np.float32]]
    """C-contiguous. The names are those of the state dictionary without what says nothing: `module.`, `ar_step.`,
    `linear_layer.`, `conv.` of ConvNorm. WaveGlow's weight norm is applied and its 1x1 matrices are (C, C)."""
    sizes: FlowtronSizes | WaveglowSizes
    sha256: str
    """Of the file."""
    source_name: str
    """Name of the file, without its folder."""


def read_flowtron(
    path: Path, *, config: Mapping[str, Any] | None = None, dummy_speaker: bool | None = None
) -> Checkpoint:
    """Read a Flowtron: a state dictionary, a training checkpoint or a whole module, in any container.

    ``config`` is the public repository's configuration file as a dictionary, or its "model_config" alone; it is
    compared with the tensors. Whether the model always uses speaker 0 does not show in them: ``dummy_speaker`` says it,
    else ``config``, else the checkpoint's own "config", else the attribute of a module pickled whole, else it is false.
    Raises CheckpointError, which names every fault.
    """
    with _one_sentence(path):
        file = map_file(path)
        contents = _model_in(read_contents(file, Budget(len(file))), "Flowtron")
        tensors = flowtron_tensors(unwrapped_names(contents.tensors))
        section = _section(config, "model_config", "Flowtron")
        dummy = dummy_speaker if dummy_speaker is not None else _dummy_speaker(section, contents)
        sizes = flowtron_sizes(tensors, dummy_speaker=dummy)
        _check_shapes(tensors, flowtron_shapes(sizes), "Flowtron")
        _check_config(section, flowtron_values(sizes))
        return Checkpoint(_finite_arrays(tensors, len(file)), sizes, hashlib.sha256(file).hexdigest(), path.name)


def read_waveglow(path: Path, *, config: Mapping[str, Any] | None = None) -> Checkpoint:
    """Read a WaveGlow of any age: a state dictionary, a training checkpoint or a whole module, in any container.

    ``config`` is the public repository's configuration file as a dictionary, or its "waveglow_config" alone; it is
    compared with the tensors.
    Raises CheckpointError, which names every fault.
    """
    with _one_sentence(path):
        file = map_file(path)
        contents = _model_in(read_contents(file, Budget(len(file))), "WaveGlow")
        _check_not_alternating(contents)
        tensors = waveglow_tensors(unwrapped_names(contents.tensors))
        sizes = waveglow_sizes(tensors)
        _check_shapes(tensors, waveglow_shapes(sizes), "WaveGlow")
        section = _section(config, "waveglow_config", "WaveGlow")
        sizes = with_early_outputs_of(section, sizes)
        inner = section.get("WN_config")
        _check_config({**section, **(inner if isinstance(inner, Mapping) else {})}, waveglow_values(sizes))
        return Checkpoint(_finite_arrays(tensors, len(file)), sizes, hashlib.sha256(file).hexdigest(), path.name)


def read_config(path: Path) -> dict[str, Any]:
    """Read the public repositories' `config.json`. Raises CheckpointError when it is no JSON object."""
    with _one_sentence(path):
        if not path.is_file():
            raise Fault("is not a plain file" if path.exists() else "does not exist")
        if path.stat().st_size > LIMITS.manifest_bytes:
            raise Fault(f"has more than the {LIMITS.manifest_bytes} bytes a configuration may have")
        try:
            config = parse_json(path.read_bytes())
        except ValueError as error:
            raise Fault(f"is not JSON: {error}") from error
        if not isinstance(config, dict):
            raise Fault("is not a configuration: it holds no JSON object")
        return config


def read_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """Every tensor of a checkpoint under its own name and in its own type (bfloat16 as float32).

    Where several dictionaries hold tensors, it is that under "state_dict", else under "model", else the top.
    Raises CheckpointError.
    """
    with _one_sentence(path):
        file = map_file(path)
        tensors = _preferred(read_contents(file, Budget(len(file)))).tensors
        _check_expansion(tensors, len(file))
        return {name: np.array(tensor.read(), order="C") for name, tensor in tensors.items()}


@contextlib.contextmanager
def _one_sentence(path: Path) -> Iterator[None]:
    """Turn what is wrong with a file into a CheckpointError that begins with its name."""
    try:
        yield
    except Fault as fault:
        raise CheckpointError(f"{path} {fault}") from fault
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error


def _preferred(found: Sequence[Contents]) -> Contents:
    """The one that public training scripts mean, or the only one. Raises Fault, which names them, else."""
    by_place = {contents.place: contents for contents in found}
    for place in ("state_dict", "model", ""):
        if place in by_place:
            return by_place[place]
    if len(found) > 1:
        raise Fault(f"holds tensors in several dictionaries, under {_places(found)}: save one of them alone")
    return found[0]


def _model_in(found: Sequence[Contents], model: str) -> Contents:
    """The only one of ``found`` whose tensors have the model's names. Raises Fault when there are none or several."""
    fitting = [contents for contents in found if model_of(unwrapped_names(contents.tensors)) == model]
    if not fitting:
        raise Fault(_no_model(found, model))
    if len(fitting) > 1:
        raise Fault(
            f"holds {len(fitting)} models that could be the {model}, under {_places(fitting)}: save one of them alone, "
            'as torch.save({"state_dict": ...}, path)'
        )
    return fitting[0]


def _no_model(found: Sequence[Contents], model: str) -> str:
    """What a file holds in place of the model."""
    for contents in found:
        if other := model_of(unwrapped_names(contents.tensors)):
            return f"is a {other} checkpoint, but a {model} was expected"
    some = ", ".join(shown(name, 60) for name in list(found[0].tensors)[:3])
    where = f"the tensors under {_places(found)}" if any(contents.place for contents in found) else "its tensors"
    return f"is not a {model} checkpoint: {where} have other names ({some})"


def _places(found: Sequence[Contents]) -> str:
    named = [f'"{contents.place}"' if contents.place else "no key" for contents in found]
    return ", ".join(named[:6]) + (", ..." if len(named) > 6 else "")


def _check_not_alternating(contents: Contents) -> None:
    """Refuse the very first WaveGlow, whose odd flows exchange the halves; its tensors look like any other's."""
    if "glow_old." in contents.model_class:
        raise Fault(
            "is a WaveGlow of the kind of waveglow_old.pt (glow_old.py), which computes something else with the same "
            "weights and is not supported: use a later one, such as waveglow_256channels_universal_v5.pt"
        )


def _check_shapes(tensors: Tensors, expected: Shapes, model: str) -> None:
    if faults := shape_faults(tensors, expected):
        raise Fault(f"is not a {model} checkpoint that can be used: {'; '.join(faults)}")


def _section(config: Mapping[str, Any] | None, name: str, model: str) -> Mapping[str, Any]:
    """The model's part of a configuration: that under ``name``, or all of it where there is none."""
    if config is None:
        return {}
    section = config.get(name, config)
    if not isinstance(section, Mapping) or "n_flows" not in section:
        raise Fault(f"cannot be compared with a configuration that describes no {model}: it lacks n_flows")
    return section


def _check_config(section: Mapping[str, Any], values: Mapping[str, int | bool]) -> None:
    if faults := config_faults(section, values):
        raise Fault(f"contradicts its configuration: {'; '.join(faults)}")


def _dummy_speaker(section: Mapping[str, Any], contents: Contents) -> bool:
    own, inner = contents.config, contents.config.get("model_config")
    for source in (section, inner if isinstance(inner, Mapping) else {}, own, contents.attributes):
        value = source.get("dummy_speaker_embedding")
        if isinstance(value, bool | int):
            return bool(value)
    return False


def _finite_arrays(tensors: Tensors, file_bytes: int) -> dict[str, NDArray[np.float32]]:
    """Every tensor, read. Raises Fault when a value is none that a weight can have."""
    if others := [f"{name} ({shown(tensor.dtype)})" for name, tensor in tensors.items() if tensor.dtype not in FLOATS]:
        raise Fault(f"has tensors of numbers that are not floating-point, which no weights are: {_some(others)}")
    _check_expansion(tensors, file_bytes)
    with np.errstate(all="ignore"):  # a float64 too large becomes infinite, which is reported below
        arrays = {name: _array(tensor) for name, tensor in tensors.items()}
    # A comparison with NaN is false, and so is one with an infinite value: one pass tells both.
    if wrong := [name for name, array in arrays.items() if not _within(array, LIMITS.weight)]:
        if broken := [name for name in wrong if not np.isfinite(arrays[name]).all()]:
            count = sum(int(np.count_nonzero(~np.isfinite(arrays[name]))) for name in broken)
            raise Fault(f"has {count} weights that are not finite numbers, in {len(broken)} tensors: {_some(broken)}")
        raise Fault(
            f"has weights beyond {LIMITS.weight:g}, which no trained model has, in {len(wrong)} tensors: {_some(wrong)}"
        )
    return arrays


def _within(array: NDArray[np.float32], limit: float) -> bool:
    return bool(-limit <= array.min() and array.max() <= limit)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return np.array(tensor.read(), dtype=np.float32, order="C")


def _check_expansion(tensors: Tensors, file_bytes: int) -> None:
    """A few bytes of a hostile file can claim to be terabytes: every element of a tensor may be the same one."""
    size = sum(max(4, item_size(tensor.dtype)) * math.prod(tensor.shape) for tensor in tensors.values())
    if size > _EXPANSION * file_bytes + _SMALL:
        raise Fault(f"claims to hold {size} bytes of weights, which a file of {file_bytes} bytes cannot")
