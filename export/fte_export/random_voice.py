"""Seeded random models: the tiny voice of tests and first steps, and models of the published size for benchmarks.

They have not learnt to speak; what they compute costs what a trained model of the same sizes costs.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fte.bundle import FlowtronSizes, WaveglowSizes
from fte.constants import HOP, N_MELS
from fte_export.checkpoint import Checkpoint
from fte_export.writer import Voice

Arrays = dict[str, NDArray[np.float32]]

PUBLISHED_FLOWTRON = FlowtronSizes(
    n_speakers=1,
    n_speaker_dim=128,
    n_text=185,
    n_text_dim=512,
    n_flows=2,
    n_mels=N_MELS,
    n_attention=640,
    n_hidden=1024,
    n_lstm_layers=2,
    has_gate=True,
    cumulative_attention=False,
    dummy_speaker=False,
)
PUBLISHED_WAVEGLOW = WaveglowSizes(
    n_mels=N_MELS,
    n_flows=12,
    n_group=8,
    n_early_every=4,
    n_early_size=2,
    n_layers=8,
    n_channels=256,
    kernel_size=3,
    upsample_kernel=4 * HOP,
    upsample_stride=HOP,
)
TINY_FLOWTRON = FlowtronSizes(
    n_speakers=3,
    n_speaker_dim=16,
    n_text=185,
    n_text_dim=48,
    n_flows=2,
    n_mels=N_MELS,
    n_attention=40,
    n_hidden=64,
    n_lstm_layers=2,
    has_gate=True,
    cumulative_attention=False,
    dummy_speaker=False,
)
TINY_WAVEGLOW = WaveglowSizes(
    n_mels=N_MELS,
    n_flows=6,
    n_group=8,
    n_early_every=2,
    n_early_size=2,
    n_layers=4,
    n_channels=32,
    kernel_size=3,
    upsample_kernel=4 * HOP,
    upsample_stride=HOP,
)
_TINY_GAIN = 0.05
"""Noise is unpleasant enough when it is soft."""
_GATE_OFFSET = 4
"""Taken from the gate's bias: a random gate is then at about 2 %, so that utterances run to their ceiling."""

WARNING = "This voice is made of random numbers: it has not learnt to speak and says nothing intelligible."


class _Draw:
    """Draws weights in the order they are asked for."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.Generator(np.random.Philox(seed))
        self.arrays: Arrays = {}

    def uniform(self, name: str, shape: Sequence[int], bound: float) -> None:
        values = self._random.uniform(-bound, bound, tuple(shape))
        self.arrays[name] = values.astype(np.float32)

    def dense(self, name: str, shape: Sequence[int], *, bias: bool = True, scale: float = 1.0) -> None:
        """A weight (out, in, ...) and its bias, within 1 / sqrt(fan in) times ``scale``."""
        bound = scale / np.sqrt(np.prod(shape[1:]))
        self.uniform(f"{name}.weight", shape, bound)
        if bias:
            self.uniform(f"{name}.bias", shape[:1], bound)

    def lstm(self, name: str, layer: int, inputs: int, hidden: int, suffix: str = "") -> None:
        bound = 1 / np.sqrt(hidden)
        for kind, shape in (("ih", (4 * hidden, inputs)), ("hh", (4 * hidden, hidden))):
            self.uniform(f"{name}.weight_{kind}_l{layer}{suffix}", shape, bound)
        for kind in ("ih", "hh"):
            self.uniform(f"{name}.bias_{kind}_l{layer}{suffix}", (4 * hidden,), bound)

    def orthogonal(self, name: str, size: int) -> None:
        values, _ = np.linalg.qr(self._random.standard_normal((size, size)))
        self.arrays[name] = np.ascontiguousarray(values, np.float32)


def random_flowtron(sizes: FlowtronSizes, seed: int = 0) -> Checkpoint:
    """A Flowtron of random weights in the canonical form of `fte_export.checkpoint`."""
    draw = _Draw(seed)
    draw.uniform("embedding.weight", (sizes.n_text, sizes.n_text_dim), 1)
    draw.uniform("speaker_embedding.weight", (sizes.n_speakers, sizes.n_speaker_dim), 1)
    for i in range(3):
        draw.dense(f"encoder.convolutions.{i}.0", (sizes.n_text_dim, sizes.n_text_dim, 5))
        draw.arrays[f"encoder.convolutions.{i}.1.weight"] = np.ones(sizes.n_text_dim, np.float32)
        draw.arrays[f"encoder.convolutions.{i}.1.bias"] = np.zeros(sizes.n_text_dim, np.float32)
    for suffix in ("", "_reverse"):
        draw.lstm("encoder.lstm", 0, sizes.n_text_dim, sizes.n_text_dim // 2, suffix)
    for k in range(sizes.n_flows):
        _draw_flow(draw, f"flows.{k}", sizes, gate=sizes.has_gate and k == sizes.n_flows - 1)
    return _checkpoint(draw.arrays, sizes, f"random-flowtron-{seed}")


def _draw_flow(draw: _Draw, key: str, sizes: FlowtronSizes, *, gate: bool) -> None:
    h, a, d = sizes.n_hidden, sizes.n_attention, sizes.n_text_dim + sizes.n_speaker_dim
    draw.lstm(f"{key}.attention_lstm", 0, sizes.n_mels, h)
    for layer in range(sizes.n_lstm_layers):
        draw.lstm(f"{key}.lstm", layer, h if layer else h + a, h)
    for name, shape in (("query", (a, h)), ("key", (a, d)), ("value", (a, d)), ("v", (1, a))):
        draw.dense(f"{key}.attention_layer.{name}", shape, bias=False)
    if sizes.cumulative_attention:
        draw.dense(f"{key}.attn_cond_layer.hidden", (32, 2, 5))
        draw.dense(f"{key}.attn_cond_layer.out", (d, 32, 3))
    for i in range(2):
        draw.dense(f"{key}.dense_layer.layers.{i}", (h, h))
    draw.dense(f"{key}.conv", (2 * sizes.n_mels, h, 1))
    if gate:
        draw.dense(f"{key}.gate_layer", (1, h + a))
        draw.arrays[f"{key}.gate_layer.bias"] -= _GATE_OFFSET


def random_waveglow(sizes: WaveglowSizes, seed: int = 0, gain: float = 1.0) -> Checkpoint:
    """A WaveGlow of random weights in the canonical form of `fte_export.checkpoint`, its audio times ``gain``."""
    draw = _Draw(seed)
    n, group_mels = sizes.n_channels, sizes.n_mels * sizes.n_group
    draw.dense("upsample", (sizes.n_mels, sizes.n_mels, sizes.upsample_kernel), bias=False, scale=16)
    draw.uniform("upsample.bias", (sizes.n_mels,), 0.1)
    channels = sizes.n_group
    for k in range(sizes.n_flows):
        if k and k % sizes.n_early_every == 0:
            channels -= sizes.n_early_size
        draw.orthogonal(f"convinv.{k}.weight", channels)
        draw.dense(f"WN.{k}.start", (n, channels // 2, 1))
        draw.dense(f"WN.{k}.cond_layer", (2 * n * sizes.n_layers, group_mels, 1))
        for i in range(sizes.n_layers):
            draw.dense(f"WN.{k}.in_layers.{i}", (2 * n, n, sizes.kernel_size))
            outputs = n if i == sizes.n_layers - 1 else 2 * n
            draw.dense(f"WN.{k}.res_skip_layers.{i}", (outputs, n, 1))
        draw.dense(f"WN.{k}.end", (channels, n, 1), scale=0.5)
    draw.arrays["convinv.0.weight"] /= np.float32(gain)  # inverted, it is the last thing done to the audio
    return _checkpoint(draw.arrays, sizes, f"random-waveglow-{seed}")


def _checkpoint(arrays: Arrays, sizes: FlowtronSizes | WaveglowSizes, name: str) -> Checkpoint:
    digest = hashlib.sha256()
    for key in sorted(arrays):
        digest.update(key.encode() + arrays[key].tobytes())
    return Checkpoint(arrays=arrays, sizes=sizes, sha256=digest.hexdigest(), source_name=name)


def tiny_voice(seed: int = 0) -> Voice:
    """A voice of a few megabytes with everything a real one has, but speech."""
    return random_voice("tiny", TINY_FLOWTRON, TINY_WAVEGLOW, seed, gain=_TINY_GAIN)


def random_voice(
    name: str, flowtron: FlowtronSizes, waveglow: WaveglowSizes | None, seed: int = 0, gain: float = 1.0
) -> Voice:
    """A voice of random weights, its audio times ``gain``; it warns of what it is."""
    return Voice(
        name=name,
        flowtron=random_flowtron(flowtron, seed),
        waveglow=None if waveglow is None else random_waveglow(waveglow, seed, gain),
        speakers=tuple(f"speaker_{i}" for i in range(flowtron.n_speakers)),
        warning=WARNING,
    )
