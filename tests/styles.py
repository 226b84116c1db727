"""A style of a voice, for tests."""

from typing import Any

import numpy as np

from fte import Synthesizer
from fte.style.style import ReferenceNote, Style


def style_of(voice: Synthesizer, name: str = "happy", **changes: Any) -> Style:
    """A style of a voice, with fields changed."""
    fields: dict[str, Any] = {
        "name": name,
        "mean": np.full(80, 0.1, np.float32),
        "spread": np.ones(80, np.float32),
        "utterance_spread": np.ones(80, np.float32),
        "sigma": 0.5,
        "voice_hash": voice.bundle.voice_hash,
        "speaker": 0,
        "aggregation": "time_and_batch",
        "lam": 1e-4,
        "references": (ReferenceNote("a.wav", "0" * 64, 5),),
    }
    return Style(**fields | changes)
