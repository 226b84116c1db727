"""The public implementation as the other side of a comparison: PyPI `flowtron` and `waveglow`, on a CPU.

Install both with `pip install --no-deps flowtron==22.12.28 waveglow==22.12.28`. Their code asks for CUDA tensor types
by name; on a CPU these names are given the CPU types before it is imported. Nothing else of it is changed.
"""

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fte.decoder import NEVER
from fte_export.checkpoint import Checkpoint, FlowtronSizes, WaveglowSizes

_RENAMED = (
    (re.compile(r"^(flows\.\d+)\.ar_step\."), r"\1."),
    (re.compile(r"\.linear_layer\."), "."),
    (re.compile(r"^(encoder\.convolutions\.\d+\.0)\.conv\."), r"\1."),
    (re.compile(r"^(convinv\.\d+)\.conv\."), r"\1."),
)
"""From the public names of tensors to ours (`fte_export.checkpoint.Checkpoint`)."""


def canonical_name(name: str) -> str:
    """Our name of a tensor of the public models. Not for cumulative attention, which is not compared."""
    for pattern, replacement in _RENAMED:
        name = pattern.sub(replacement, name)
    return name


def public_tensor(name: str, arrays: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """The value of the public tensor ``name``; a weight under weight norm has its own length: g = |v|."""
    name = canonical_name(name)
    if name.endswith(".weight_v"):
        return arrays[name.removesuffix("_v")]
    if name.endswith(".weight_g"):
        weight = arrays[name.removesuffix("_g")].astype(np.float64)
        lengths = np.sqrt(np.sum(weight**2, axis=tuple(range(1, weight.ndim)), keepdims=True))
        return np.asarray(lengths, np.float32)
    return arrays[name]


def flowtron(checkpoint: Checkpoint) -> Any:
    """The public Flowtron with our weights, for inference."""
    _prepare()
    from flowtron.flowtron import Flowtron

    s = checkpoint.sizes
    assert isinstance(s, FlowtronSizes)
    model = Flowtron(
        n_speakers=s.n_speakers,
        n_speaker_dim=s.n_speaker_dim,
        n_text=s.n_text,
        n_text_dim=s.n_text_dim,
        n_flows=s.n_flows,
        n_mel_channels=s.n_mels,
        n_hidden=s.n_hidden,
        n_attn_channels=s.n_attention,
        n_lstm_layers=s.n_lstm_layers,
        use_gate_layer=s.has_gate,
        mel_encoder_n_hidden=0,
        n_components=0,
        fixed_gaussian=True,
        mean_scale=0.0,
        dummy_speaker_embedding=s.dummy_speaker,
        use_cumm_attention=s.cumulative_attention,
    )
    return _with_weights(model, checkpoint)


def waveglow(checkpoint: Checkpoint) -> Any:
    """The public WaveGlow with our weights under weight norm, for inference."""
    _prepare()
    from waveglow.glow import WaveGlow

    s = checkpoint.sizes
    assert isinstance(s, WaveglowSizes)
    wn = {"n_layers": s.n_layers, "n_channels": s.n_channels, "kernel_size": s.kernel_size}
    return _with_weights(WaveGlow(s.n_mels, s.n_flows, s.n_group, s.n_early_every, s.n_early_size, wn), checkpoint)


def save_checkpoints(flowtron_model: Any, waveglow_model: Any, folder: Path) -> tuple[Path, Path]:
    """Write both models as they are published: Flowtron's state dictionary, and WaveGlow as a whole module."""
    paths = folder / "flowtron.pt", folder / "waveglow.pt"
    torch.save({"state_dict": flowtron_model.state_dict()}, paths[0])
    torch.save({"model": waveglow_model}, paths[1])
    return paths


def fused(model: Any) -> Any:
    """A public WaveGlow without weight norm, which is how its own inference script runs it."""
    return model.remove_weightnorm(model)


def decode(model: Any, text_ids: NDArray[np.int64], z: NDArray[np.float32], speaker: int = 0) -> NDArray[np.float32]:
    """One utterance through the public Flowtron, its gate never firing: text_ids (N) and z (T, M) -> mel (T, M)."""
    with torch.inference_mode():
        residual = torch.from_numpy(z.T[None].copy())
        speakers, ids = torch.tensor([[speaker]]), torch.from_numpy(text_ids[None])
        mel, _ = model.infer(residual, speakers, ids, gate_threshold=NEVER)
        return np.ascontiguousarray(mel[0].numpy().T, np.float32)


def vocode(model: Any, mel: NDArray[np.float32], *, sigma: float, seed: int) -> NDArray[np.float32]:
    """One mel (T, M) through the public WaveGlow: samples (T * hop). Its noise is that of `drawn_noise`."""
    with torch.inference_mode():
        torch.manual_seed(seed)
        audio: Tensor = model.infer(torch.from_numpy(mel.T[None].copy()), sigma=sigma)
        return np.asarray(audio[0].numpy(), np.float32)


def drawn_noise(sizes: WaveglowSizes, frames: int, seed: int) -> NDArray[np.float32]:
    """The noise the public WaveGlow draws after `torch.manual_seed(seed)`, in our layout: (groups, group size)."""
    torch.manual_seed(seed)
    entries = sum(1 for k in range(1, sizes.n_flows) if k % sizes.n_early_every == 0)
    channels = [sizes.n_group - entries * sizes.n_early_size] + [sizes.n_early_size] * entries
    groups = frames * sizes.upsample_stride // sizes.n_group
    draws = [torch.FloatTensor(1, n, groups).normal_()[0] for n in channels]
    return np.ascontiguousarray(torch.cat(draws).numpy().T)


def _prepare() -> None:
    """Name the CPU types as the public code asks for them, and spare the reader what torch says of its age."""
    warnings.filterwarnings("ignore", message=".*deprecated.*")
    for name in ("FloatTensor", "LongTensor", "HalfTensor"):
        setattr(torch.cuda, name, getattr(torch, name))


def _with_weights(model: Any, checkpoint: Checkpoint) -> Any:
    """``model`` with every tensor of ``checkpoint``, in inference mode."""
    state = {
        name: torch.from_numpy(public_tensor(name, checkpoint.arrays).copy()).reshape(tensor.shape)
        for name, tensor in model.state_dict().items()
    }
    model.load_state_dict(state)
    return model.eval()
