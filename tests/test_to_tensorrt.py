"""Engines of the tiny voice, built for GPUs that this machine does not have."""

import dataclasses
import os

import pytest

from fake_cuda import FakeDriver
from fte.backends import open_backend
from fte.backends.engines import EngineStore, Profile
from fte.backends.trt_library import find_library
from fte.bundle import Bundle
from fte.errors import BackendError, EngineError, RequestError
from fte_export.pipeline import write_voice
from fte_export.random_voice import TINY_FLOWTRON, random_voice, tiny_voice
from fte_export.to_tensorrt import BuildOptions, build_engines, roles_of

pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed: pip install tensorrt-rtx-cu13")

SMALL = Profile((1, 2), 32, 32)
ALL_TARGETS = (75, 86, 89, 120)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    path = tmp_path_factory.mktemp("build") / "tiny"
    write_voice(dataclasses.replace(tiny_voice(), blocks=(1, 8)), path, ("fp32", "fp16", "bf16"))
    return Bundle.open(path)


@pytest.fixture(scope="module")
def library():
    return find_library("tensorrt_rtx")


@pytest.fixture
def store(tmp_path):
    return EngineStore(tmp_path)


def build(bundle, library, store, progress=lambda what, done: None, **options):
    options = {"block": 1, "profile": SMALL, "targets": (89,)} | options
    return list(build_engines(bundle, BuildOptions(**options), library, store, progress))


def test_fp16_builds_for_every_generation(bundle, library, store):
    built = build(bundle, library, store, targets=ALL_TARGETS)
    graphs = ["encoder", "flow_0_block_1", "flow_1_block_1", "vocoder"]
    assert [(b.graph, b.key.target) for b, _ in built] == [
        (f"{graph}.fp16.onnx", f"sm_{target}") for graph in graphs for target in ALL_TARGETS
    ]
    assert all(b.size > 10_000 and is_new for b, is_new in built)


def test_bf16_builds_as_of_ampere(bundle, library, store):
    assert len(build(bundle, library, store, precision="bf16", targets=(86, 120))) == 8
    with pytest.raises(BackendError, match=r"cannot build encoder.bf16.onnx: .*HW-specific datatypes"):
        build(bundle, library, store, precision="bf16", targets=(75,))


def test_several_frames_guides_and_the_posterior_pass_build(bundle, library, store):
    built = build(bundle, library, store, block=8, guided=True, posterior=True, profile=Profile((1,), 32, 32))
    assert [b.graph.partition(".")[0] for b, _ in built] == [
        "encoder",
        *(f"flow_{k}{guided}_block_8" for k in (0, 1) for guided in ("", "_guided")),
        "vocoder",
        "posterior",
    ]


def test_cumulative_attention_builds(library, store, tmp_path):
    sizes = dataclasses.replace(TINY_FLOWTRON, cumulative_attention=True, n_flows=1)
    write_voice(dataclasses.replace(random_voice("x", sizes, None), blocks=(1,)), tmp_path / "x", ("fp16",))
    assert len(build(Bundle.open(tmp_path / "x"), library, store, guided=True, targets=(75,))) == 3


def test_what_is_built_is_not_built_again(bundle, library, store):
    first = build(bundle, library, store)
    again = build(bundle, library, store)
    assert [b for b, _ in first] == [b for b, _ in again]
    assert [is_new for _, is_new in again] == [False] * 4


def test_progress_is_told(bundle, library, store):
    told = []
    build(bundle, library, store, progress=lambda what, done: told.append((what, done)))
    assert told[0] == ("encoder for sm_89", 0.0) and told[-1] == ("vocoder for sm_89", 1.0)
    assert any(0 < done < 1 for _, done in told)


def test_an_interrupt_ends_the_build_and_leaves_nothing_half_built(bundle, library, store):
    class Interrupted(BaseException):
        pass

    def interrupt(what, done):
        if done > 0:
            raise Interrupted

    with pytest.raises(Interrupted):
        build(bundle, library, store, progress=interrupt)
    assert list(store.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"precision": "int8"}, "has no blocks of 1 frames in int8: it has none|has no precision 'int8'"),
        ({"precision": "fp8"}, "has no precision 'fp8', but fp32, fp16, bf16"),
        ({"block": 16}, "has no blocks of 16 frames in fp16: it has 1, 8"),
        ({"targets": (90,)}, "does not build for compute capability 90: give 75, 80"),
        ({"targets": ()}, "there is no GPU here to build for: say for which GPUs with --sm"),
    ],
)
def test_what_cannot_be_built(options, says, bundle, library, store):
    with pytest.raises((RequestError, BackendError), match=says):
        build(bundle, library, store, **options)


def test_a_graph_that_is_none_is_refused_in_one_sentence(bundle, library, store, monkeypatch, tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"no graph")
    monkeypatch.setattr(Bundle, "graph", lambda self, precision, role: tmp_path / "bad.onnx")
    with pytest.raises(BackendError, match=r"TensorRT for RTX .* does not understand bad.onnx") as raised:
        build(bundle, library, store)
    assert "\n" not in str(raised.value)


def test_the_block_that_was_built_is_the_one_that_is_used(bundle, library, monkeypatch, tmp_path):
    """And as there is no GPU here, the engine itself is refused, in one sentence."""
    monkeypatch.setattr("fte.backends.cuda.open_driver", FakeDriver)  # of compute capability 8.9
    monkeypatch.setitem(os.environ, "XDG_CACHE_HOME", str(tmp_path))
    build(bundle, library, EngineStore())
    backend = open_backend(bundle, "tensorrt")
    assert backend.block_frames == 1
    with pytest.raises(EngineError, match=r"the engine of encoder.fp16.onnx cannot be loaded by TensorRT for RTX"):
        backend.load(bundle.graph("fp16", "encoder"))


def test_roles_without_a_vocoder(tmp_path):
    write_voice(dataclasses.replace(random_voice("x", TINY_FLOWTRON, None), blocks=(8,)), tmp_path / "x", ("fp16",))
    found = roles_of(Bundle.open(tmp_path / "x"), BuildOptions(block=8))
    assert found == ["encoder", "flow_0_block_8", "flow_1_block_8"]
