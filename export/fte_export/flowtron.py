"""Flowtron in torch, inference only: the definition every exported form is verified against.

Written after the paper (Valle et al. 2020) and the behaviour of the public implementation, over named arrays from
`fte_export.checkpoint`. Plain rather than fast.
Axes: B batch, N symbols, T frames, M mel, D memory, A attention, H hidden.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from fte_export.checkpoint import Checkpoint, FlowtronSizes

_EPSILON = 1e-20


@dataclass
class FlowState:
    """What one flow carries from frame to frame."""

    previous: Tensor
    """The last output frame (B, M)."""
    hidden: list[tuple[Tensor, Tensor]]
    """(h, c), each (B, H): the attention LSTM first, then the decoder's layers."""
    alignment: Tensor
    """[sum of past attention weights, last weights] (B, 2, N)."""


@dataclass(frozen=True)
class Posterior:
    """What the forward pass gives; per-flow lists are in each flow's own order of frames."""

    z: Tensor
    log_s: list[Tensor]
    attention: list[Tensor]
    gate_logits: Tensor | None


class Flowtron:
    """The model's parts as functions of torch tensors: on the CPU in fp32, until `to` moves it."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        assert isinstance(checkpoint.sizes, FlowtronSizes)
        self.sizes = checkpoint.sizes
        self._weights = _tensors(checkpoint.arrays)
        self._encoder_lstm = self._lstm("encoder.lstm", bidirectional=True)

    def to(self, device: str, dtype: torch.dtype) -> "Flowtron":
        """Move the weights; all tensors given have to be there, in that type."""
        self._weights = {name: weight.to(device, dtype) for name, weight in self._weights.items()}
        self._encoder_lstm = self._lstm("encoder.lstm", bidirectional=True).to(device, dtype)
        return self

    def _lstm(self, key: str, *, bidirectional: bool = False) -> torch.nn.LSTM:
        named = {name.removeprefix(f"{key}."): w for name, w in self._weights.items() if name.startswith(f"{key}.")}
        layers = sum(1 for name in named if name.startswith("weight_hh") and not name.endswith("_reverse"))
        hidden = named["weight_hh_l0"].shape[1]
        lstm = torch.nn.LSTM(
            named["weight_ih_l0"].shape[1], hidden, layers, batch_first=True, bidirectional=bidirectional
        )
        lstm.load_state_dict(named)
        return lstm.eval()

    def encode(self, text_ids: Tensor, text_lengths: Tensor, speaker_ids: Tensor) -> tuple[Tensor, Tensor]:
        """ids (B, N), lengths (B), speakers (B) -> memory (B, N, D) and mask (B, N) of booleans."""
        w = self._weights
        mask = torch.arange(text_ids.shape[1], device=text_ids.device) < text_lengths[:, None]
        x = F.embedding(text_ids, w["embedding.weight"]).transpose(1, 2)
        i = 0
        while f"encoder.convolutions.{i}.0.weight" in w:
            key = f"encoder.convolutions.{i}"
            kernel = w[f"{key}.0.weight"]
            x = F.conv1d(x * mask[:, None], kernel, w[f"{key}.0.bias"], padding=kernel.shape[2] // 2)
            x = F.relu(_masked_instance_norm(x, mask[:, None], w[f"{key}.1.weight"], w[f"{key}.1.bias"]))
            i += 1
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            x.transpose(1, 2), text_lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        hidden, _ = torch.nn.utils.rnn.pad_packed_sequence(
            self._encoder_lstm(packed)[0], batch_first=True, total_length=text_ids.shape[1]
        )
        speakers = speaker_ids * 0 if self.sizes.dummy_speaker else speaker_ids
        speaker = F.embedding(speakers, w["speaker_embedding.weight"])[:, None].expand(-1, text_ids.shape[1], -1)
        return torch.cat([hidden, speaker], dim=2), mask

    def projections(self, flow: int, memory: Tensor) -> dict[str, Tensor]:
        """The flow's attention keys and values (B, N, A) of the memory, which do not depend on time."""
        key = f"flows.{flow}.attention_layer"
        return {name: memory @ self._weights[f"{key}.{name}.weight"].T for name in ("key", "value")}

    def initial_state(self, batch: int, symbols: int) -> FlowState:
        """All zeros."""
        like = self._weights["embedding.weight"]
        zeros = like.new_zeros(batch, self.sizes.n_hidden)
        return FlowState(
            like.new_zeros(batch, self.sizes.n_mels),
            [(zeros, zeros)] * (1 + self.sizes.n_lstm_layers),
            like.new_zeros(batch, 2, symbols),
        )

    def step(
        self,
        flow: int,
        z: Tensor,
        state: FlowState,
        memory: Tensor,
        mask: Tensor,
        *,
        temperature: float = 1.0,
        prior: Tensor | None = None,
        imposed: Tensor | None = None,
        is_imposed: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor | None, FlowState]:
        """One frame at inference: z (B, M) -> mel (B, M), attention (B, N), gate (B) or None, the next state.

        ``imposed`` (B, N) replaces the computed attention, where ``is_imposed`` (B, 1) is true if that is given.
        """
        key = f"flows.{flow}"
        query = self._cell(f"{key}.attention_lstm", 0, state.previous, state.hidden[0])
        attention = self._attend(key, query[0], memory, mask, state.alignment, temperature, prior)
        if imposed is not None:
            attention = imposed if is_imposed is None else torch.where(is_imposed, imposed, attention)
        context = (attention[:, None] @ (memory @ self._weights[f"{key}.attention_layer.value.weight"].T))[:, 0]
        decoder_input = torch.cat([query[0], context], dim=1)
        hidden, x = [query], decoder_input
        for layer in range(self.sizes.n_lstm_layers):
            hidden.append(self._cell(f"{key}.lstm", layer, x, state.hidden[1 + layer]))
            x = hidden[-1][0]
        log_s, b = self._affine(key, x)
        mel = (z - b) / torch.exp(log_s)
        gate_logits = self._gate_logits(key, decoder_input)
        gate = None if gate_logits is None else torch.sigmoid(gate_logits)
        alignment = torch.stack([state.alignment[:, 0] + attention, attention], dim=1)
        return mel, attention, gate, FlowState(mel, hidden, alignment)

    def posterior(
        self,
        text_ids: Tensor,
        text_lengths: Tensor,
        speaker_ids: Tensor,
        mel: Tensor,
        mel_lengths: Tensor,
        prior: Tensor | None = None,
        temperature: float = 1.0,
    ) -> Posterior:
        """Text and mel (B, T, M) -> z (B, T, M), log_s and attention of every flow, gate logits (B, T)."""
        memory, mask = self.encode(text_ids, text_lengths, speaker_ids)
        log_s, attention, gate = [], [], None
        for k in range(self.sizes.n_flows):
            backward = k % 2 == 1
            x = _reverse_within(mel, mel_lengths) if backward else mel
            p = prior if prior is None or not backward else _reverse_within(prior, mel_lengths)
            x, flow_log_s, weights, gate = self._flow_forward(f"flows.{k}", x, memory, mask, p, temperature)
            mel = _reverse_within(x, mel_lengths) if backward else x
            log_s.append(flow_log_s)
            attention.append(weights)
        return Posterior(mel, log_s, attention, gate)

    def _flow_forward(
        self, key: str, mel: Tensor, memory: Tensor, mask: Tensor, prior: Tensor | None, temperature: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        delayed = F.pad(mel, (0, 0, 1, -1))
        hidden = self._lstm(f"{key}.attention_lstm")(delayed)[0]
        alignment = torch.zeros(len(mel), 2, memory.shape[1])
        rows = []
        for t in range(mel.shape[1]):
            row_prior = None if prior is None or self.sizes.cumulative_attention else prior[:, t]
            rows.append(self._attend(key, hidden[:, t], memory, mask, alignment, temperature, row_prior))
            alignment = torch.stack([alignment[:, 0] + rows[-1], rows[-1]], dim=1)
        attention = torch.stack(rows, dim=1)
        context = attention @ (memory @ self._weights[f"{key}.attention_layer.value.weight"].T)
        decoder_input = torch.cat([hidden, context], dim=2)
        log_s, b = self._affine(key, self._lstm(f"{key}.lstm")(decoder_input)[0])
        return torch.exp(log_s) * mel + b, log_s, attention, self._gate_logits(key, decoder_input)

    def _cell(self, key: str, layer: int, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        weights = [self._weights[f"{key}.{name}_l{layer}"] for name in names]
        hidden, cell = torch.lstm_cell(x, state, *weights)
        return hidden, cell

    def _attend(
        self,
        key: str,
        hidden: Tensor,
        memory: Tensor,
        mask: Tensor,
        alignment: Tensor,
        temperature: float,
        prior: Tensor | None,
    ) -> Tensor:
        """Additive attention of hidden (B, H) over memory: weights (B, N)."""
        w = self._weights
        if self.sizes.cumulative_attention:
            memory = memory * self._conditioning(key, alignment, mask)
        keys = memory @ w[f"{key}.attention_layer.key.weight"].T
        query = hidden @ w[f"{key}.attention_layer.query.weight"].T
        scores = torch.tanh(query[:, None] + keys) @ w[f"{key}.attention_layer.v.weight"][0] / temperature
        weights = torch.softmax(scores.masked_fill(~mask, -torch.inf), dim=1)
        if prior is None:
            return weights
        logs = torch.log(weights + _EPSILON) + torch.log(prior + _EPSILON)
        return torch.softmax(logs.masked_fill(~mask, -torch.inf), dim=1)

    def _conditioning(self, key: str, alignment: Tensor, mask: Tensor) -> Tensor:
        """Cumulative attention: the factor (B, N, D) on the memory, from past alignment (B, 2, N)."""
        w = {name: self._weights[f"{key}.attn_cond_layer.{name}"] for name in _CONDITIONING_NAMES}
        hidden = F.relu(
            F.conv1d(alignment, w["hidden.weight"], w["hidden.bias"], padding=w["hidden.weight"].shape[2] // 2)
        )
        hidden = hidden * mask[:, None]
        out = F.conv1d(hidden, w["out.weight"], w["out.bias"], padding=w["out.weight"].shape[2] // 2)
        return torch.sigmoid(out).transpose(1, 2)

    def _affine(self, key: str, x: Tensor) -> tuple[Tensor, Tensor]:
        """Decoder LSTM output (..., H) -> log_s and b (..., M)."""
        for i in range(2):
            layer = f"{key}.dense_layer.layers.{i}"
            x = torch.tanh(F.linear(x, self._weights[f"{layer}.weight"], self._weights[f"{layer}.bias"]))
        out = F.linear(x, self._weights[f"{key}.conv.weight"][:, :, 0], self._weights[f"{key}.conv.bias"])
        log_s, b = out.chunk(2, dim=-1)
        return log_s, b

    def _gate_logits(self, key: str, decoder_input: Tensor) -> Tensor | None:
        if f"{key}.gate_layer.weight" not in self._weights:
            return None
        weight, bias = (self._weights[f"{key}.gate_layer.{name}"] for name in ("weight", "bias"))
        return F.linear(decoder_input, weight, bias)[..., 0]


_CONDITIONING_NAMES = ("hidden.weight", "hidden.bias", "out.weight", "out.bias")


def _tensors(arrays: Mapping[str, NDArray[np.float32]]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _masked_instance_norm(x: Tensor, mask: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x (B, C, N) normalised over the valid positions of each channel (variance without Bessel's correction)."""
    count = mask.sum(2, keepdim=True)
    mean = (x * mask).sum(2, keepdim=True) / count
    variance = (((x - mean) * mask) ** 2).sum(2, keepdim=True) / count
    return (x - mean) / torch.sqrt(variance + 1e-5) * weight[:, None] + bias[:, None]


def _reverse_within(x: Tensor, lengths: Tensor) -> Tensor:
    """x (B, T, C) with each row's first ``length`` frames reversed and its padding left in place."""
    out = x.clone()
    for row, length in enumerate(lengths.tolist()):
        out[row, :length] = x[row, :length].flip(0)
    return out
