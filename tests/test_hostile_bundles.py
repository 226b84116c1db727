"""Bundles whose hashes are right and whose parts do not fit, or do not compute: refused, and never spoken."""

import dataclasses
import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from fte import Request, Synthesizer
from fte.bundle import FlowtronSizes, WaveglowSizes
from fte.errors import BackendError, BundleError, FteError
from fte_export.pipeline import write_voice
from fte_export.random_voice import TINY_FLOWTRON, TINY_WAVEGLOW, random_flowtron, random_waveglow
from fte_export.writer import Voice

REQUEST = Request("One two three.", seed=3, max_frames=24)
try:
    from fte import _native
except ImportError:
    _native = None
needs_native = pytest.mark.skipif(_native is None, reason="the native engine was not built: no C++17 compiler")
BACKENDS = [pytest.param("native", marks=needs_native), "onnxruntime"]
WRONG_SIZES = [
    (model, field.name, change)
    for model, sizes in (("flowtron", FlowtronSizes), ("waveglow", WaveglowSizes))
    for field in dataclasses.fields(sizes)
    if field.name != "dummy_speaker"  # says which speaker is meant: nothing depends on it
    for change in (["not"] if field.type is bool else ["less", "more", "double"])
]


@pytest.fixture
def changed(tiny_path, tmp_path) -> Callable[..., Path]:
    """A function that copies the tiny bundle, with a changed manifest or file, and makes the hashes right."""

    def change(of: Callable[[dict], None] | None = None, **files: Callable[[Path], None]) -> Path:
        path = tmp_path / "voice"
        path.mkdir()
        manifest = json.loads((tiny_path / "manifest.json").read_text())
        for name, entry in manifest["files"].items():
            if name.replace(".", "_") not in files:
                os.link(tiny_path / name, path / name)
                continue
            (path / name).write_bytes((tiny_path / name).read_bytes())
            files[name.replace(".", "_")](path / name)
            data = (path / name).read_bytes()
            entry.update(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
        if of is not None:
            of(manifest)
        (path / "manifest.json").write_text(json.dumps(manifest))
        return path

    return change


def with_size(model: str, name: str, change: str) -> Callable[[dict], None]:
    """Another size in a manifest, and whatever it says itself of the same size."""

    def of(manifest: dict) -> None:
        now = manifest[model][name]
        value = {"not": not now, "less": now - 1, "more": now + 1, "double": 2 * now}[change]
        manifest[model][name] = value
        for part, size in (("symbols", "n_text"), ("speakers", "n_speakers")):
            if name == size:
                manifest[part] = [*manifest[part], *(f"_{i}" for i in range(value))][:value]
        if name == "n_mels":
            manifest["flowtron"][name] = manifest["waveglow"][name] = value
        if name == "upsample_stride":
            manifest["audio"]["hop"] = value

    return of


def speak(path: Path, backend: str, precision: str = "fp32", request: Request = REQUEST) -> np.ndarray:
    return Synthesizer.load(path, "cpu", precision, backend=backend).synthesize(request).samples


def stream(path: Path, backend: str, precision: str = "fp32", request: Request = REQUEST) -> np.ndarray:
    voice = Synthesizer.load(path, "cpu", precision, backend=backend)
    return np.concatenate([chunk.samples for chunk in voice.stream(request)])


def is_sentence(error: Exception) -> bool:
    return "\n" not in str(error) and str(error).isprintable() and len(str(error)) > 20


@needs_native
@pytest.mark.parametrize(("model", "name", "change"), WRONG_SIZES)
def test_the_native_engine_refuses_other_sizes(changed, model, name, change):
    path = changed(with_size(model, name, change))
    with pytest.raises(FteError) as caught:
        Synthesizer.load(path, "cpu", "int8", backend="native")
    assert is_sentence(caught.value)


@pytest.mark.parametrize(("model", "name", "change"), WRONG_SIZES)
def test_onnx_runtime_refuses_other_sizes_or_they_change_nothing(changed, tiny_path, model, name, change):
    path = changed(with_size(model, name, change))
    try:
        found = speak(path, "onnxruntime")
    except FteError as error:
        assert is_sentence(error)
    else:
        np.testing.assert_array_equal(found, speak(tiny_path, "onnxruntime"))


def of_tensors(change: Callable[[dict[str, np.ndarray]], None]) -> Callable[[Path], None]:
    def of(path: Path) -> None:
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)

    return of


def a_value(name: str, value: float) -> Callable[[Path], None]:
    def change(tensors: dict[str, np.ndarray]) -> None:
        tensors[name].reshape(-1)[-1] = value

    return of_tensors(change)


def moved_by_a_byte(path: Path) -> None:
    """Every tensor begins a byte later, in a file of one byte more."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    for entry in (entry for name, entry in header.items() if name != "__metadata__"):
        entry["data_offsets"] = [offset + 1 for offset in entry["data_offsets"]]
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"\0" + data[8 + size :])


SCALE = "flows.0.lstm.0.recurrent.scale"
DAMAGE = {
    "one tensor less": of_tensors(lambda t: t.pop("flows.1.gate")),
    "one tensor more": of_tensors(lambda t: t.update({"flows.2.gate": t["flows.1.gate"]})),
    "another shape": of_tensors(lambda t: t.update({"flows.1.gate": t["flows.1.gate"][:-1]})),
    "another type": of_tensors(lambda t: t.update({"flows.1.gate": t["flows.1.gate"].astype(np.float16)})),
    "nan": a_value("vocoder.flows.0.layers.0.bias", np.nan),
    "inf": a_value("encoder.embedding", np.inf),
    "huge": a_value("flows.0.affine.bias", 1e30),
    "a scale of nan": a_value(SCALE, np.nan),
    "a scale of inf": a_value(SCALE, np.inf),
    "a scale below zero": a_value(SCALE, -1.0),
    "a scale of zero": a_value(SCALE, 0.0),
    "the lowest int8": a_value("flows.0.lstm.0.recurrent", -128),
    "a byte off": moved_by_a_byte,
}


@needs_native
@pytest.mark.parametrize("damage", DAMAGE)
def test_the_native_engine_refuses_damaged_weights_when_it_opens_them(changed, damage):
    path = changed(engine_int8_safetensors=DAMAGE[damage])
    with pytest.raises(FteError) as caught:
        Synthesizer.load(path, "cpu", "int8", backend="native")
    assert is_sentence(caught.value) and "export the voice again" in str(caught.value)


@pytest.fixture(scope="module")
def overflowing(tmp_path_factory) -> Path:
    """A voice of finite weights whose vocoder overflows: e to the 300, in every precision."""
    path = tmp_path_factory.mktemp("overflowing") / "voice"
    waveglow = random_waveglow(TINY_WAVEGLOW)
    arrays = dict(waveglow.arrays)
    half = arrays["WN.0.end.bias"].size // 2
    arrays["WN.0.end.bias"] = np.concatenate([np.ones(half), np.full(half, -300.0)]).astype(np.float32)
    voice = Voice("o", random_flowtron(TINY_FLOWTRON), dataclasses.replace(waveglow, arrays=arrays), ("a", "b", "c"))
    write_voice(voice, path, ("fp32", "int8", "fp16"))
    return path


@pytest.mark.parametrize("precision", ["fp32", "int8", "fp16"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_samples_that_are_not_finite_are_an_error(overflowing, backend, precision):
    for way in (speak, stream):
        with pytest.raises(BundleError, match="came out infinite or as no number") as caught:
            way(overflowing, backend, precision)
        assert is_sentence(caught.value)


def test_numbers_that_are_none_in_a_graph_are_an_error(changed):
    def no_numbers(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[: len(data) // 2] = b"\xff" * (len(data) // 2)
        path.write_bytes(bytes(data))

    path = changed(flow_0_fp32_bin=no_numbers)
    for way in (speak, stream):
        with pytest.raises(BundleError, match="came out infinite or as no number"):
            way(path, "onnxruntime")


@needs_native
def test_what_stands_in_errors_is_one_printable_line(tiny_path):
    with pytest.raises(RuntimeError) as caught:
        _native.Engine(str(tiny_path), "x\n\x1b[31m" + "y" * 5000, 1)
    assert is_sentence(caught.value) and len(str(caught.value)) < 1200
    with pytest.raises(RuntimeError, match="empty"):
        _native.Engine("", "fp32", 1)


def in_child(work: Callable[[], None]) -> int:
    """The status of a child of a fork that does ``work``, and is ended where it hangs."""
    child = os.fork()
    if child == 0:
        signal.alarm(300)
        try:
            work()
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    return os.waitpid(child, 0)[1]


@pytest.fixture
def spoken(tiny_path) -> tuple[Synthesizer, np.ndarray]:
    voice = Synthesizer.load(tiny_path, "cpu", "int8", threads=2, backend="native")
    return voice, voice.synthesize(REQUEST).samples


@needs_native
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
class TestForks:
    def test_a_child_speaks_as_its_parent(self, spoken):
        voice, expected = spoken

        def work() -> None:
            np.testing.assert_array_equal(voice.synthesize(REQUEST).samples, expected)
            streamed = np.concatenate([chunk.samples for chunk in voice.stream(REQUEST)])
            assert len(streamed) == len(expected)

        for _ in range(3):
            assert in_child(work) == 0
        np.testing.assert_array_equal(voice.synthesize(REQUEST).samples, expected)

    def test_a_child_of_multiprocessing_does(self, spoken):
        voice, expected = spoken
        _INHERITED[:] = [voice]
        with multiprocessing.get_context("fork").Pool(2) as pool:
            for found in pool.map_async(_speak_in_pool, range(4)).get(timeout=300):
                np.testing.assert_array_equal(found, expected)

    def test_a_stream_that_was_open_says_so_in_the_child(self, spoken):
        voice, _ = spoken
        stream = voice.stream(Request("One two three, four five six, seven.", seed=3))
        next(stream)

        def work() -> None:
            with pytest.raises(BackendError, match="open when the process forked"):
                list(stream)

        assert in_child(work) == 0
        assert len(list(stream)) > 0


_INHERITED: list[Synthesizer] = []
"""The voice that a pool's processes speak with."""


def _speak_in_pool(_number: int) -> np.ndarray:
    return _INHERITED[0].synthesize(REQUEST).samples


@pytest.mark.parametrize("backend", BACKENDS)
def test_ending_with_an_open_stream_prints_nothing(tiny_path, backend):
    code = (
        "import sys; from fte import Request, Synthesizer\n"
        "voice = Synthesizer.load(sys.argv[1], 'cpu', 'int8', threads=2, backend=sys.argv[2])\n"
        "stream = voice.stream(Request('One two three, four five six, seven eight nine.', seed=3))\n"
        "next(stream)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tiny_path), backend], capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
