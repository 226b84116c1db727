"""Any published Flowtron or WaveGlow file -> named arrays and sizes, without running anything from it.

A checkpoint is a pickle, and unpickling one runs whatever it asks for. Here nothing a file names is imported or called:
see `fte_export.unpickle`. The sizes follow from the tensors' shapes, and every tensor is checked against them.
"""

import contextlib
import hashlib
import json
import math
import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fte.bundle import FlowtronSizes, WaveglowSizes
from fte.constants import LIMITS
from fte.errors import CheckpointError
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
from fte_export.containers import Contents, Tensor, map_file, read_contents
from fte_export.unpickle import Fault, shown

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
        file, contents = _open(path)
        tensors = flowtron_tensors(_named(contents, "Flowtron"))
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
        file, contents = _open(path)
        _check_not_alternating(contents)
        tensors = waveglow_tensors(_named(contents, "WaveGlow"))
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
            config = json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise Fault(f"is not JSON: {error}") from error
        if not isinstance(config, dict):
            raise Fault("is not a configuration: it holds no JSON object")
        return config


def read_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """Every tensor of a checkpoint under its own name and in its own type (bfloat16 as float32).

    Raises CheckpointError.
    """
    with _one_sentence(path):
        file, contents = _open(path)
        _check_expansion(contents.tensors, len(file))
        return {name: np.array(tensor.read(), order="C") for name, tensor in contents.tensors.items()}


@contextlib.contextmanager
def _one_sentence(path: Path) -> Iterator[None]:
    """Turn what is wrong with a file into a CheckpointError that begins with its name."""
    try:
        yield
    except Fault as fault:
        raise CheckpointError(f"{path} {fault}") from fault
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error


def _open(path: Path) -> tuple[mmap.mmap, Contents]:
    file = map_file(path)
    return file, read_contents(file)


def _named(contents: Contents, model: str) -> Tensors:
    """The tensors under the model's own names. Raises Fault when they are another model's."""
    tensors = unwrapped_names(contents.tensors)
    found = model_of(tensors)
    if found is None:
        some = ", ".join(shown(name, 60) for name in list(tensors)[:3])
        raise Fault(f"is not a {model} checkpoint: its tensors have other names ({some})")
    if found != model:
        raise Fault(f"is a {found} checkpoint, but a {model} was expected")
    return tensors


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
    """Every tensor, read. Raises Fault when a value is no finite number."""
    _check_expansion(tensors, file_bytes)
    with np.errstate(over="ignore"):  # a float64 too large becomes infinite, which is reported below
        arrays = {name: _array(tensor) for name, tensor in tensors.items()}
    if broken := [name for name, array in arrays.items() if not np.isfinite(array).all()]:
        count = sum(int(np.count_nonzero(~np.isfinite(arrays[name]))) for name in broken)
        raise Fault(
            f"has {count} weights that are not finite numbers, in {len(broken)} tensors: "
            f"{', '.join(broken[:3])}{', ...' if len(broken) > 3 else ''}"
        )
    return arrays


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return np.array(tensor.read(), dtype=np.float32, order="C")


def _check_expansion(tensors: Tensors, file_bytes: int) -> None:
    """A few bytes of a hostile file can claim to be terabytes: every element of a tensor may be the same one."""
    size = sum(4 * math.prod(tensor.shape) for tensor in tensors.values())
    if size > _EXPANSION * file_bytes + _SMALL:
        raise Fault(f"claims to hold {size} bytes of weights, which a file of {file_bytes} bytes cannot")
