"""Flowtron and WaveGlow as PyTorch runs them: what every other backend is measured against.

Weights are random, of a voice's sizes: they change nothing about speed. As in the public code, each frame is a row of
calls into PyTorch, and the attention's keys and values are computed anew for each frame; a loop captured as a CUDA
graph, one graph for a frame, spares the launches and nothing else.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from fte.bundle import FlowtronSizes, WaveglowSizes
from fte.errors import BackendError
from fte_export.flowtron import FlowState, Flowtron
from fte_export.random_voice import random_flowtron, random_waveglow
from fte_export.waveglow import Waveglow

_TYPES = {"fp32": torch.float32, "fp16": torch.float16}
_WARM_UP = 3
"""Calls before a capture, in which PyTorch chooses kernels and allocates memory."""


class TorchRival:
    """Random models of given sizes on a device. Raises BackendError where PyTorch lacks the device."""

    def __init__(
        self,
        flowtron: FlowtronSizes,
        waveglow: WaveglowSizes | None,
        device: str,
        precision: str,
        *,
        cuda_graphs: bool = False,
    ) -> None:
        if device == "cuda" and not torch.cuda.is_available():
            raise BackendError("PyTorch finds no GPU here: install its CUDA build, or measure on the CPU")
        self._device, self._type, self._cuda_graphs = device, _TYPES[precision], cuda_graphs
        self.precision = precision
        self.description = f"PyTorch {torch.__version__} {'CUDA graphs' if cuda_graphs else 'eager'} on {device}"
        self._flowtron = Flowtron(random_flowtron(flowtron)).to(device, self._type)
        self._waveglow = Waveglow(random_waveglow(waveglow)).to(device, self._type) if waveglow else None

    @torch.inference_mode()
    def decoding(self, batch: int, frames: int, symbols: int) -> Callable[[], None]:
        """A call that decodes random texts (batch, symbols) and z to (frames, batch, M) mel, and waits for it."""
        sizes = self._flowtron.sizes
        ids = torch.randint(sizes.n_text, (batch, symbols), device=self._device)
        lengths = torch.full((batch,), symbols, device=self._device)
        speakers = torch.zeros(batch, dtype=torch.long, device=self._device)
        z = 0.5 * torch.randn(frames, batch, sizes.n_mels, device=self._device).to(self._type)
        memory, mask = self._flowtron.encode(ids, lengths, speakers)
        steps = [self._step(flow, batch, memory, mask) for flow in range(sizes.n_flows)]

        @torch.inference_mode()
        def decode() -> None:
            self._flowtron.encode(ids, lengths, speakers)
            rows = z
            for step in reversed(steps):
                rows = torch.stack([step(t, row) for t, row in enumerate(rows)]).flip(0)
            self._wait()

        return decode

    def _step(self, flow: int, batch: int, memory: Tensor, mask: Tensor) -> Callable[[int, Tensor], Tensor]:
        """A function: frame number and z (B, M) -> mel (B, M); frame 0 begins anew."""
        state = self._flowtron.initial_state(batch, mask.shape[1])

        def eager(t: int, z: Tensor) -> Tensor:
            nonlocal state
            if t == 0:
                state = self._flowtron.initial_state(batch, mask.shape[1])
            mel, _, _, state = self._flowtron.step(flow, z, state, memory, mask)
            return mel

        return self._captured(flow, batch, memory, mask) if self._cuda_graphs else eager

    def _captured(self, flow: int, batch: int, memory: Tensor, mask: Tensor) -> Callable[[int, Tensor], Tensor]:
        """The same with the frame as a CUDA graph over tensors that stay where they are."""
        z = torch.zeros(batch, self._flowtron.sizes.n_mels, device=self._device, dtype=self._type)
        state = self._flowtron.initial_state(batch, mask.shape[1])
        tensors = _copies(state)
        own = FlowState(tensors[0], list(zip(tensors[1:-1:2], tensors[2:-1:2], strict=True)), tensors[-1])

        def advance() -> Tensor:
            mel, _, _, after = self._flowtron.step(flow, z, own, memory, mask)
            for old, new in zip(tensors, _flat(after), strict=True):
                old.copy_(new)
            return mel

        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP):
                advance()
        side.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            mel = advance()

        def replay(t: int, row: Tensor) -> Tensor:
            if t == 0:
                for tensor in tensors:
                    tensor.zero_()
            z.copy_(row)
            graph.replay()
            return mel.clone()

        return replay

    @torch.inference_mode()
    def vocoding(self, frames: int) -> Callable[[], None]:
        """A call that makes the samples of a mel of ``frames`` frames, and waits for them."""
        assert self._waveglow is not None
        sizes = self._waveglow.sizes
        mel = (-5 + 2 * torch.randn(1, frames, sizes.n_mels, device=self._device)).to(self._type)
        groups = frames * sizes.upsample_stride // sizes.n_group
        noise = 0.6 * torch.randn(1, groups, sizes.n_group, device=self._device).to(self._type)
        waveglow = self._waveglow

        @torch.inference_mode()
        def vocode() -> None:
            waveglow.infer(mel, noise)
            self._wait()

        return vocode

    def _wait(self) -> None:
        if self._device == "cuda":
            torch.cuda.synchronize()


def _flat(state: FlowState) -> list[Tensor]:
    return [state.previous, *(tensor for pair in state.hidden for tensor in pair), state.alignment]


def _copies(state: FlowState) -> list[Tensor]:
    """Tensors of their own for each part of a state."""
    return [tensor.clone() for tensor in _flat(state)]
