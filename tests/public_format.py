"""Random models saved as the public repositories save theirs, so that export can begin with files."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fte.bundle import FlowtronSizes, WaveglowSizes
from fte_export.random_voice import random_flowtron, random_waveglow

_FLOWTRON_NAMES = (
    (r"^(flows\.\d*[13579])\.", r"\1.ar_step."),
    (r"\.(query|key|value|v|layers\.\d|gate_layer)\.(weight|bias)$", r".\1.linear_layer.\2"),
    (r"^(encoder\.convolutions\.\d\.0)\.", r"\1.conv."),
    (r"\.attn_cond_layer\.(hidden|out)\.", r".attn_cond_layer.location_conv_\1.conv."),
)


def save_flowtron(path: Path, sizes: FlowtronSizes, seed: int = 0, changes: Mapping[str, Any] | None = None) -> Path:
    """Save a random Flowtron as ``{"state_dict": ...}``; ``changes`` replaces tensors by their public names."""
    state = {public_flowtron_name(key): array for key, array in random_flowtron(sizes, seed).arrays.items()}
    return _save(path, {**state, **(changes or {})})


def public_flowtron_name(key: str) -> str:
    """The public repository's name of a tensor of a Flowtron."""
    for pattern, replacement in _FLOWTRON_NAMES:
        key = re.sub(pattern, replacement, key)
    return key


def save_waveglow(path: Path, sizes: WaveglowSizes, seed: int = 0) -> Path:
    """Save a random WaveGlow, its weight norm taken out, as ``{"state_dict": ...}``."""
    arrays = random_waveglow(sizes, seed).arrays
    return _save(
        path,
        {
            key.replace(".weight", ".conv.weight") if "convinv" in key else key: (
                array[:, :, None] if "convinv" in key else array
            )
            for key, array in arrays.items()
        },
    )


def _save(path: Path, state: Mapping[str, Any]) -> Path:
    torch.save({"state_dict": {key: torch.from_numpy(np.array(array)) for key, array in state.items()}}, path)
    return path
