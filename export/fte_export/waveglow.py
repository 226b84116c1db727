"""WaveGlow in torch, inference only: the definition every exported form is verified against.

Written after the paper (Prenger et al. 2018) and the behaviour of the public implementation, channels first as there.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from fte_export.checkpoint import Checkpoint, WaveglowSizes


class Waveglow:
    """The vocoder as a function of mel and noise: on the CPU in fp32, until `to` moves it."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        assert isinstance(checkpoint.sizes, WaveglowSizes)
        self.sizes = checkpoint.sizes
        self._weights = {name: torch.from_numpy(array) for name, array in checkpoint.arrays.items()}
        self._inverses = {
            f"convinv.{k}": torch.linalg.inv(self._weights[f"convinv.{k}.weight"].double()).float()[:, :, None]
            for k in range(self.sizes.n_flows)
        }

    def to(self, device: str, dtype: torch.dtype) -> "Waveglow":
        """Move the weights; all tensors given have to be there, in that type."""
        self._weights = {name: weight.to(device, dtype) for name, weight in self._weights.items()}
        self._inverses = {name: inverse.to(device, dtype) for name, inverse in self._inverses.items()}
        return self

    def infer(self, mel: Tensor, noise: Tensor) -> Tensor:
        """mel (B, T, M), noise (B, G, group) already times sigma, channels in order of use -> audio (B, T * hop)."""
        s, w = self.sizes, self._weights
        condition = F.conv_transpose1d(
            mel.transpose(1, 2), w["upsample.weight"], w["upsample.bias"], stride=s.upsample_stride
        )
        condition = condition[:, :, : condition.shape[2] - (s.upsample_kernel - s.upsample_stride)]
        condition = condition.unfold(2, s.n_group, s.n_group).permute(0, 1, 3, 2).flatten(1, 2)
        entries = sum(1 for k in range(1, s.n_flows) if k % s.n_early_every == 0)
        remaining = s.n_group - entries * s.n_early_size
        audio, *later = torch.split(noise.transpose(1, 2), [remaining] + [s.n_early_size] * entries, dim=1)
        for k in reversed(range(s.n_flows)):
            first, second = audio.chunk(2, dim=1)
            b, log_s = self._wn(k, first, condition).chunk(2, dim=1)
            audio = torch.cat([first, (second - b) / torch.exp(log_s)], dim=1)
            audio = F.conv1d(audio, self._inverses[f"convinv.{k}"])
            if k % s.n_early_every == 0 and k > 0:
                audio = torch.cat([later.pop(0), audio], dim=1)
        samples: Tensor = audio.transpose(1, 2).flatten(1)
        return samples

    def _wn(self, k: int, x: Tensor, condition: Tensor) -> Tensor:
        """x (B, c / 2, G) -> (B, c, G)."""
        s, w, n = self.sizes, self._weights, self.sizes.n_channels
        x = F.conv1d(x, w[f"WN.{k}.start.weight"], w[f"WN.{k}.start.bias"])
        conditions = F.conv1d(condition, w[f"WN.{k}.cond_layer.weight"], w[f"WN.{k}.cond_layer.bias"])
        conditions = conditions.reshape(len(condition), s.n_layers, 2 * n, -1)
        output = torch.zeros_like(x)
        for i in range(s.n_layers):
            key = f"WN.{k}.in_layers.{i}"
            dilation = 2**i
            padding = dilation * (s.kernel_size - 1) // 2
            acts = F.conv1d(x, w[f"{key}.weight"], w[f"{key}.bias"], padding=padding, dilation=dilation)
            acts = acts + conditions[:, i]
            acts = torch.tanh(acts[:, :n]) * torch.sigmoid(acts[:, n:])
            key = f"WN.{k}.res_skip_layers.{i}"
            res_skip = F.conv1d(acts, w[f"{key}.weight"], w[f"{key}.bias"])
            if i < s.n_layers - 1:
                x = x + res_skip[:, :n]
            output = output + res_skip[:, -n:]
        return F.conv1d(output, w[f"WN.{k}.end.weight"], w[f"WN.{k}.end.bias"])
