"""What benchmarks/gpu_acceptance.py makes of measurements; the measuring itself needs a GPU."""

import sys
from pathlib import Path

import pytest

from fte.errors import BackendError

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import gpu_acceptance


def row(backend: str, precision: str, *steps: float) -> dict:
    batches = [{"batch": batch, "ms_per_step": step} for batch, step in zip((1, 8), steps, strict=True)]
    return {"backend": backend, "precision": precision, "batches": batches}


DOCUMENT = {
    "tests": {"status": 0, "closing_line": "70 passed in 9.00s"},
    "parity": {
        "tensorrt fp16": {"mel error, alone": 1e-3, "mel error, batch of 8": 3e-2, "audio snr db": 40.0},
        "tensorrt bf16": {"mel error, alone": 1.0, "mel error, batch of 8": 1.0},
        "onnxruntime fp16": {"skipped": "no CUDA provider"},
        "seconds": 3.0,
    },
    "bench": {
        "backends": [
            row("ONNX Runtime on cuda", "fp16", 0.9, 1.0),
            row("TensorRT on X", "fp16", 0.1, 0.5),
            row("PyTorch 2 eager on cuda", "fp32", 9.0, 9.0),
            row("PyTorch 2 eager on cuda", "fp16", 2.0, 4.0),
            row("PyTorch 2 CUDA graphs on cuda", "fp16", 0.2, 0.4),
        ]
    },
}


def test_each_demand_stands_beside_what_was_measured():
    found = [(d["measured"], d["met"]) for d in gpu_acceptance.demands(DOCUMENT)]
    assert found == [("70 passed in 9.00s", True), (3e-2, False), (40.0, True), (20.0, True), (8.0, False)]


def test_nothing_is_demanded_of_what_was_skipped():
    skipped = {"skipped": "no GPU"}
    document = {"tests": {"status": 0, "closing_line": "70 skipped in 2.00s"}, "parity": skipped, "bench": skipped}
    assert list(gpu_acceptance.demands(document)) == []


@pytest.mark.parametrize(
    ("error", "key", "text"),
    [
        (BackendError("no GPU here"), "skipped", "no GPU here"),
        (ImportError("No module named 'torch'"), "skipped", "No module named 'torch'"),
        (KeyError("path"), "skipped", "the part before it gave no 'path'"),
        (RuntimeError("CUDA error 700"), "failed", "RuntimeError: CUDA error 700"),
    ],
)
def test_a_part_that_cannot_be_done_says_why(error, key, text):
    def part():
        raise error

    assert gpu_acceptance.attempted(part) == {key: text}
