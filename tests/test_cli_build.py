"""`fte build`, and choosing backends on the command line."""

import dataclasses
import json

import pytest

from fte_export.pipeline import write_voice
from fte_export.random_voice import tiny_voice
from test_cli import refused, run  # noqa: F401  (fixtures)


@pytest.fixture(scope="module")
def gpu_voice(tmp_path_factory):
    """The tiny voice with graphs for engines."""
    path = tmp_path_factory.mktemp("voices") / "tiny-gpu"
    write_voice(dataclasses.replace(tiny_voice(), blocks=(1,)), path, ("fp32", "fp16"))
    return path


def test_engines_are_built_once(run, gpu_voice, tmp_path):  # noqa: F811
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    options = ["--sm", "89", "--block", "1", "--batch", "1", "--max-text", "32", "--out", tmp_path / "engines"]
    first = run("build", gpu_voice, *options)
    assert first.status == 0 and "flow_1_block_1.fp16.onnx" in first.out.replace("\n", "") and "sm_89" in first.out
    assert len(list((tmp_path / "engines").glob("*.engine"))) == 4
    again = run("build", gpu_voice, *options)
    assert again.out.count("was there") == 4


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--sm", "8.9"], "sm is '8.9': give whole numbers with commas between them"),
        (["--batch", "8,1"], "give 1 to 8 numbers in ascending order"),
        (["--max-text", "2000"], "max_text is 2000: give 1 to 1000"),
        (["--library", "openvino"], "the library 'openvino' is unknown"),
        (["--precision", "bf16", "--sm", "89"], "has no precision 'bf16', but fp32, fp16"),
        (["--block", "16", "--sm", "89"], "has no blocks of 16 frames in fp16: it has 1"),
    ],
)
def test_what_cannot_be_built_is_refused(refused, gpu_voice, options, says):  # noqa: F811
    assert says in refused("build", gpu_voice, *options)


@pytest.mark.parametrize(
    ("options", "says"),
    [(["--block", "7"], "block is 7: give 1, 8, 16 or 32"), (["--precision", "int8"], "precision is 'int8'")],
)
def test_a_build_complains_of_its_own_values_before_a_package(refused, monkeypatch, options, says):  # noqa: F811
    monkeypatch.setattr("fte.backends.trt_library.find_library", lambda _name=None: pytest.fail("looked for a library"))
    assert says in refused("build", "nowhere", *options)


def test_gpus_are_named_for_engines_alone(refused, tmp_path):  # noqa: F811
    says = refused("export", "--checkpoint", tmp_path / "f.pt", "-o", tmp_path / "v", "--sm", "89")
    assert "--sm says for which GPUs engines are built: give --tensorrt with it" in says


def test_engines_are_not_run_on_a_cpu(refused, gpu_voice, tmp_path):  # noqa: F811
    options = ["--backend", "tensorrt", "--device", "cpu"]
    says = refused("synth", "Hi.", "--voice", gpu_voice, *options)
    assert "TensorRT engines run on a GPU" in says


def test_a_bench_leaves_out_what_cannot_be_used_and_says_so(run, gpu_voice):  # noqa: F811
    options = ["--batch", "1", "--frames", "8", "--sentence-frames", "4", "--repeats", "1", "--precision", "fp32"]
    done = run("bench", "--voice", gpu_voice, "--device", "cpu", "--backend", "onnxruntime,tensorrt", *options)
    report = json.loads(done.out.strip().splitlines()[-1])
    assert [row["backend"].split()[0] for row in report["backends"]] == ["ONNX"]
    assert "TensorRT engines run on a GPU" in report["skipped"]["tensorrt"]


def test_a_bench_of_all_sets_pytorch_beside(run, gpu_voice):  # noqa: F811
    options = ["--batch", "1", "--frames", "8", "--sentence-frames", "4", "--repeats", "1", "--precision", "fp32"]
    done = run("bench", "--voice", gpu_voice, "--device", "cpu", "--backend", "all", *options)
    rows = json.loads(done.out.strip().splitlines()[-1])["backends"]
    first = [row["backend"].split()[0] for row in rows]
    assert first in (["native", "ONNX", "PyTorch"], ["ONNX", "PyTorch"])  # the engine is not built everywhere
    assert rows[-1]["batches"][0]["ceiling_fraction"] is not None
