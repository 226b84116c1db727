"""Built engines: what they are kept under, and what is refused."""

import dataclasses
import json
import os

import pytest

from fake_cuda import FakeDriver
from fte.backends import open_backend
from fte.backends.engines import EngineKey, EngineStore, Profile, graph_sha256
from fte.backends.trt_library import Library, find_library
from fte.bundle import Bundle
from fte.errors import BackendError, EngineError, RequestError

TARGETS = ("sm_89", "Fake GPU 0")


@pytest.fixture
def bundle(tiny_path):
    return Bundle.open(tiny_path)


@pytest.fixture
def store(tmp_path):
    return EngineStore(tmp_path / "engines")


def key(bundle, graph="flow_0.fp32.onnx", **changes) -> EngineKey:
    whole = EngineKey(graph_sha256(bundle, graph), "tensorrt_rtx", "1.7.1", "sm_89", "fp32", Profile())
    return dataclasses.replace(whole, **changes)


def find(store, bundle, version="1.7.1", targets=TARGETS):
    return store.find(bundle, "flow_0.fp32.onnx", "tensorrt_rtx", version, targets)


def test_what_is_added_is_found_and_read(store, bundle):
    built = store.add(key(bundle), "flow_0.fp32.onnx", b"an engine", 1.5)
    assert find(store, bundle) == built
    assert built.read() == b"an engine"
    assert store.exact(key(bundle)) == built


def test_the_folder_is_the_users_own(store, bundle):
    store.add(key(bundle), "flow_0.fp32.onnx", b"an engine", 1.5)
    assert store.folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "change",
    [
        {"library": "tensorrt"},
        {"version": "1.8"},
        {"target": "sm_86"},
        {"precision": "fp16"},
        {"profile": Profile(max_text=64)},
        {"graph_sha256": "0" * 64},
    ],
)
def test_engines_that_differ_in_anything_are_kept_apart(change, store, bundle):
    one = store.add(key(bundle), "flow_0.fp32.onnx", b"one", 1)
    other = store.add(key(bundle, **change), "flow_0.fp32.onnx", b"other", 1)
    assert one.path != other.path
    assert store.exact(key(bundle)).read() == b"one"


def test_the_hash_of_a_graph_covers_its_weights(bundle):
    files = dict(bundle.manifest.files)
    files["flow_0.fp32.bin"] = dataclasses.replace(files["flow_0.fp32.bin"], sha256="0" * 64)
    changed = dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, files=files))
    assert graph_sha256(changed, "flow_0.fp32.onnx") != graph_sha256(bundle, "flow_0.fp32.onnx")


def test_the_largest_profile_is_taken(store, bundle):
    store.add(key(bundle, profile=Profile((1,), 32, 64)), "flow_0.fp32.onnx", b"small", 1)
    store.add(key(bundle, profile=Profile((1, 16), 32, 64)), "flow_0.fp32.onnx", b"large", 1)
    store.add(key(bundle, profile=Profile((1, 8), 960, 64)), "flow_0.fp32.onnx", b"middle", 1)
    assert find(store, bundle).read() == b"large"


def test_an_engine_for_this_very_gpu_is_found(store, bundle):
    store.add(key(bundle, target="Fake GPU 0"), "flow_0.fp32.onnx", b"own", 1)
    assert find(store, bundle).read() == b"own"


def test_none_was_built(store, bundle):
    with pytest.raises(EngineError, match=r"flow_0.fp32.onnx has no engine for tensorrt_rtx 1.7.1 on sm_89, none was"):
        find(store, bundle)


@pytest.mark.parametrize(("version", "targets"), [("1.8.0", TARGETS), ("1.7.1", ("sm_120",))])
def test_engines_for_another_version_or_gpu_are_named(version, targets, store, bundle):
    store.add(key(bundle), "flow_0.fp32.onnx", b"x", 1)
    with pytest.raises(EngineError, match=r"there are only engines for tensorrt_rtx 1.7.1 on sm_89: run fte build"):
        find(store, bundle, version, targets)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: path.write_bytes(b"an engin"), "is not of the size it was built with"),
        (lambda path: path.write_bytes(b"an angine"), "its SHA-256 differs"),
        (lambda path: path.unlink(), "cannot read"),
    ],
)
def test_a_damaged_engine_is_refused(damage, says, store, bundle):
    built = store.add(key(bundle), "flow_0.fp32.onnx", b"an engine", 1)
    damage(built.path)
    with pytest.raises(EngineError, match=says):
        find(store, bundle).read()


def test_a_link_in_place_of_an_engine_is_refused(store, bundle, tmp_path):
    built = store.add(key(bundle), "flow_0.fp32.onnx", b"an engine", 1)
    (tmp_path / "elsewhere").write_bytes(b"an engine")
    built.path.unlink()
    built.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EngineError, match="is not of the size"):
        find(store, bundle).read()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": "fte-engine", "version": 2}',
        "[" * 100_000,
        "x" * 70_000,
        '{"format": "fte-engine", "version": 1, "key": {"profile": {"batches": [0]}}}',
    ],
)
def test_a_sidecar_that_is_none_is_refused(text, store, bundle):
    built = store.add(key(bundle), "flow_0.fp32.onnx", b"an engine", 1)
    built.path.with_suffix(".json").write_text(text)
    with pytest.raises(EngineError, match="does not describe an engine"):
        find(store, bundle)


@pytest.mark.parametrize(
    ("field", "value"),
    [("bytes", -1), ("bytes", True), ("sha256", 5), ("graph", "a\nb"), ("graph", "x" * 300)],
)
def test_a_sidecar_with_odd_values_is_refused(field, value, store, bundle):
    sidecar = store.add(key(bundle), "flow_0.fp32.onnx", b"an engine", 1).path.with_suffix(".json")
    sidecar.write_text(json.dumps(json.loads(sidecar.read_text()) | {field: value}))
    with pytest.raises(EngineError, match="does not describe an engine"):
        find(store, bundle)


def test_a_sidecar_with_a_key_twice_is_refused(store, bundle):
    sidecar = store.add(key(bundle), "flow_0.fp32.onnx", b"an engine", 1).path.with_suffix(".json")
    sidecar.write_text(sidecar.read_text().replace('"version": 1,', '"version": 1, "version": 1,'))
    with pytest.raises(EngineError, match="the key 'version' stands twice"):
        find(store, bundle)


@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        ({"batches": ()}, "give 1 to 8 numbers in ascending order"),
        ({"batches": (8, 1)}, "give 1 to 8 numbers in ascending order"),
        ({"batches": (0, 1)}, "batch is 0: give 1 to 64"),
        ({"batches": (65,)}, "batch is 65: give 1 to 64"),
        ({"max_text": 1001}, "max_text is 1001: give 1 to 1000"),
        ({"max_frames": 0}, "max_frames is 0: give 1 to 10000"),
    ],
)
def test_profiles_out_of_range_are_refused(numbers, says):
    with pytest.raises(RequestError, match=says):
        Profile(**numbers)


def test_texts_of_the_longest_kind_still_fit_once_they_are_padded():
    assert Profile(max_text=200).symbols == 224


class TestLibrary:
    def test_an_unknown_one(self):
        with pytest.raises(
            BackendError, match="the library 'openvino' is unknown: choose one of tensorrt, tensorrt_rtx"
        ):
            find_library("openvino")

    def test_none_installed(self, monkeypatch):
        def missing(name):
            raise ModuleNotFoundError(name, name=name)

        monkeypatch.setattr("fte.backends.trt_library.importlib.import_module", missing)
        with pytest.raises(BackendError, match=r"install flowtron-fte\[tensorrt\] or flowtron-fte\[tensorrt-rtx\]"):
            find_library()

    def test_too_old_a_tensorrt(self):
        class Old:
            __version__ = "10.9.0"

        with pytest.raises(BackendError, match=r"tensorrt 10\.9\.0 is too old: install 10\.13 or newer"):
            Library("tensorrt", Old)

    def test_what_is_no_engine_is_refused(self):
        pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
        with pytest.raises(
            EngineError, match=r"the engine of x\.onnx cannot be loaded by TensorRT for RTX .* build it again"
        ):
            find_library("tensorrt_rtx").open_engine(b"no engine", "x.onnx")


class TestOpening:
    def test_an_unknown_backend(self, bundle):
        with pytest.raises(BackendError, match="backend 'tpu' is unknown: choose one of auto, native"):
            open_backend(bundle, "tpu")

    def test_engines_do_not_run_on_a_cpu(self, bundle):
        with pytest.raises(BackendError, match="TensorRT engines run on a GPU"):
            open_backend(bundle, "tensorrt", "cpu")

    def test_trust_is_for_engines(self, bundle, tmp_path):
        with pytest.raises(BackendError, match="trust_engines is for engines"):
            open_backend(bundle, "onnxruntime", "cpu", trust_engines=tmp_path)

    def test_a_voice_without_engines(self, bundle, monkeypatch, tmp_path):
        pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
        driver = FakeDriver()
        monkeypatch.setattr("fte.backends.cuda.open_driver", lambda: driver)
        monkeypatch.setitem(os.environ, "XDG_CACHE_HOME", str(tmp_path))
        with pytest.raises(EngineError, match="has no graphs for engines: export it with --precision fp16"):
            open_backend(bundle, "tensorrt")
        assert driver.contexts == []
