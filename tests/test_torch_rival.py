"""The models as PyTorch runs them, that others are measured against."""

import pytest
import torch

from fte.errors import BackendError
from fte_export.random_voice import TINY_FLOWTRON, TINY_WAVEGLOW
from fte_export.torch_rival import TorchRival


def test_every_frame_of_every_flow_is_computed(one_thread, monkeypatch):
    rival = TorchRival(TINY_FLOWTRON, None, "cpu", "fp32")
    steps = []
    step = rival._flowtron.step
    monkeypatch.setattr(rival._flowtron, "step", lambda flow, *rest: steps.append(flow) or step(flow, *rest))
    rival.decoding(batch=2, frames=5, symbols=7)()
    assert steps == [1] * 5 + [0] * 5


def test_it_vocodes(one_thread):
    assert TorchRival(TINY_FLOWTRON, TINY_WAVEGLOW, "cpu", "fp32").vocoding(frames=4)() is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_an_error():
    with pytest.raises(BackendError, match="PyTorch finds no GPU here"):
        TorchRival(TINY_FLOWTRON, None, "cuda", "fp16")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no GPU here")
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("cuda_graphs", [False, True])
def test_it_runs_on_a_gpu(precision, cuda_graphs):
    rival = TorchRival(TINY_FLOWTRON, TINY_WAVEGLOW, "cuda", precision, cuda_graphs=cuda_graphs)
    rival.decoding(batch=2, frames=5, symbols=7)()
    rival.vocoding(frames=4)()
