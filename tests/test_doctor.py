"""`fte doctor`: each remedy appears where it should, on machines that are made up."""

import ctypes
import json
import types
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from fte.cli import app
from fte.doctor import Check, Machine, examine

VERSIONS = {"flowtron-fte": "0.1.0", "numpy": "2.1.0", "typer": "0.15.1", "onnxruntime": "1.23.0"}
REQUIRES = ["numpy>=1.26", "typer>=0.15", 'torch>=2.6; extra == "export"']
FILES = {
    "/proc/cpuinfo": "model name\t: Test CPU\nflags\t\t: fpu avx2 avx512_vnni\n",
    "/proc/meminfo": "MemTotal: 9000000 kB\nMemAvailable: 8388608 kB\n",
    "/sys/fs/cgroup/cpu.max": "max 100000\n",
}


class Session:
    """An ONNX Runtime session that adds one."""

    def __init__(self, model, options, providers):
        self.providers = providers

    def run(self, _names, inputs):
        return [inputs["x"] + 1]

    def get_providers(self):
        return self.providers


def runtime(session=Session, providers=("CPUExecutionProvider",), cuda_version=None):
    return types.SimpleNamespace(
        get_available_providers=lambda: list(providers),
        InferenceSession=session,
        SessionOptions=types.SimpleNamespace,
        cuda_version=cuda_version,
    )


class Driver:
    """libcuda with one GPU."""

    def __init__(self, version=13000, fails=0):
        self.version, self.fails = version, fails

    def cuInit(self, _flags):  # noqa: N802
        return self.fails

    def cuDriverGetVersion(self, version):  # noqa: N802
        version._obj.value = self.version

    def cuDeviceGetCount(self, count):  # noqa: N802
        count._obj.value = 1

    def cuDeviceGet(self, handle, index):  # noqa: N802
        handle._obj.value = index

    def cuDeviceGetName(self, name, _size, _handle):  # noqa: N802
        name.value = b"Test GPU"

    def cuDeviceTotalMem_v2(self, size, _handle):  # noqa: N802
        size._obj.value = 24 << 30

    def cuDeviceGetAttribute(self, value, attribute, _handle):  # noqa: N802
        value._obj.value = {75: 8, 76: 9}[attribute]


@pytest.fixture
def look(tmp_path):
    """A function that examines a healthy CPU machine with the changes given, and gives the lines by name."""

    def run(versions=None, files=None, ort=None, driver=None, requires=REQUIRES, **changes) -> dict[str, Check]:
        have = {k: v for k, v in (VERSIONS | (versions or {})).items() if v}
        texts = FILES | (files or {})
        sound = types.SimpleNamespace(
            available_formats=lambda: {"FLAC": "", "OGG": "", "MP3": ""}, __libsndfile_version__="1.2"
        )
        modules = {"onnxruntime": ort or runtime(), "soundfile": sound} | changes.pop("modules", {})

        def library(name):
            if driver is None:
                raise OSError(name)
            return driver

        def read(path):
            if texts.get(path) is None:
                raise FileNotFoundError(path)
            return texts[path]

        def load(name):
            if isinstance(modules[name], Exception):
                raise modules[name]
            return modules[name]

        options = {"cache": tmp_path / "cache", "python": (3, 12, 1), "cores": 4, "all_cores": 8} | changes
        machine = Machine(
            version=have.get, requires=lambda: list(requires), load=load, library=library, read=read, **options
        )
        return {line.name: line for line in examine(machine)}

    return run


def test_a_healthy_machine_has_no_remedy_but_for_what_is_optional(look):
    lines = look()
    assert {line.status for line in lines.values()} == {"ok", "note"}
    assert all(line.remedy is None for line in lines.values() if line.status == "ok")


def test_this_machine_can_be_examined():
    lines = examine()
    assert not [line for line in lines if "the check itself failed" in line.found]
    by_name = {line.name: line for line in lines}
    assert by_name["CPU provider"] == Check("CPU provider", "ok", "runs")
    assert by_name["Python"].status == "ok"


@pytest.mark.parametrize(
    ("changes", "name", "status", "found", "remedy"),
    [
        ({"python": (3, 9, 7)}, "Python", "error", "3.9.7", "install Python 3.11 or newer"),
        ({"versions": {"numpy": None}}, "numpy", "error", "missing", "pip install 'numpy>=1.26'"),
        ({"versions": {"numpy": "1.24.4"}}, "numpy", "error", "older than 1.26", "pip install 'numpy>=1.26'"),
        ({"versions": {"flowtron-fte": None}}, "fte", "warning", "source tree", "pip install ."),
        ({"versions": {"onnxruntime": None}}, "ONNX Runtime", "error", "not installed", "flowtron-fte[cpu]"),
        (
            {"versions": {"onnxruntime-gpu": "1.23.0"}},
            "ONNX Runtime",
            "error",
            "overwrite each other",
            "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu",
        ),
        (
            {"modules": {"onnxruntime": ImportError("numpy.core.multiarray failed to import")}},
            "ONNX Runtime",
            "error",
            "does not import: numpy.core.multiarray",
            "reinstall",
        ),
        ({"modules": {"soundfile": OSError("sndfile library not found")}}, "sound files", "error", "not found", "pip"),
        ({"driver": Driver(fails=100)}, "GPU", "warning", "does not start (error 100)", "nvidia-smi"),
        ({"driver": Driver()}, "GPU use", "note", "CPU build", "flowtron-fte[gpu]"),
        (
            {"driver": Driver(12040), "versions": {"tensorrt-rtx-cu13": "1.1"}},
            "CUDA",
            "warning",
            "serves CUDA 12.4, tensorrt-rtx-cu13 needs CUDA 13",
            "driver",
        ),
        (
            {
                "driver": Driver(12040),
                "versions": {"onnxruntime": None, "onnxruntime-gpu": "1.31"},
                "ort": runtime(cuda_version="13.0"),
            },
            "CUDA",
            "error",
            "this onnxruntime-gpu needs 13.0",
            "install a newer NVIDIA driver",
        ),
        (
            {"files": {"/proc/cpuinfo": "model name : Old\nflags : sse2\n"}},
            "CPU",
            "note",
            "no extension",
            "--precision fp32",
        ),
        ({"files": {"/sys/fs/cgroup/cpu.max": "150000 100000"}}, "cores", "warning", "quota of 1.5", "--threads 1"),
        ({"files": {"/proc/meminfo": "MemAvailable: 100000 kB"}}, "memory", "warning", "0.1 GiB", "0.5 GiB in int8"),
        ({"files": {"/proc/meminfo": "MemAvailable: 1000000 kB"}}, "memory", "warning", "1.0 GiB", "1.5 GiB in fp32"),
        (
            {"files": {"/sys/fs/cgroup/memory.max": "400000000", "/sys/fs/cgroup/memory.current": "300000000"}},
            "memory",
            "warning",
            "0.1 GiB",
            "int8",
        ),
        ({"cache": Path("/proc/nowhere/fte")}, "cache", "error", "/proc/nowhere", "XDG_CACHE_HOME"),
    ],
)
def test_what_is_wrong_is_told_with_its_remedy(look, changes, name, status, found, remedy):
    line = look(**changes)[name]
    assert (line.status, found in line.found, remedy in (line.remedy or "")) == (status, True, True), line


def test_a_provider_is_only_usable_when_it_runs(look):
    class Fails(Session):
        def __init__(self, model, options, providers):
            if providers == ["CUDAExecutionProvider"]:
                raise RuntimeError("libcublasLt.so.12 is missing\nmore")
            super().__init__(model, options, providers)

    lines = look(ort=runtime(Fails, ["CUDAExecutionProvider", "CPUExecutionProvider"]))
    assert lines["CUDA provider"].status == "warning"
    assert lines["CUDA provider"].found == "installed, but does not run: libcublasLt.so.12 is missing"
    assert lines["CPU provider"].status == "ok"


def test_a_provider_that_falls_back_or_adds_wrongly_is_told(look):
    class FallsBack(Session):
        def get_providers(self):
            return ["CPUExecutionProvider"]

    class AddsWrongly(Session):
        def run(self, _names, _inputs):
            return [np.zeros(4, np.float32)]

    cuda = ["CUDAExecutionProvider"]
    assert "falls back" in look(ort=runtime(FallsBack, cuda))["CUDA provider"].found
    assert look(ort=runtime(AddsWrongly, cuda))["CUDA provider"].status == "error"


def test_a_gpu_is_named_with_its_capability_and_memory(look):
    lines = look(driver=Driver())
    assert lines["GPU 0"].found == "Test GPU, compute capability 8.9, 24 GiB"
    assert lines["CUDA"].found == "the driver serves CUDA 13.0"


def test_a_check_that_fails_is_a_line_and_the_others_go_on(look):
    class Broken(Driver):
        def cuDriverGetVersion(self, version):  # noqa: N802
            raise ctypes.ArgumentError("no")

    lines = look(driver=Broken())
    assert "the check itself failed: ArgumentError: no" in lines["gpu"].found
    assert lines["cache"].status == "ok"


def test_nothing_is_left_in_the_cache(look, tmp_path):
    look()
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_command_prints_json_and_ends_with_2_where_something_is_broken(tiny_path, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    healthy = CliRunner().invoke(app, ["doctor", "--json", "--voice", str(tiny_path)])
    lines = {line["name"]: line for line in json.loads(healthy.stdout)}
    assert lines["voice"]["status"] == "ok" and "int8" in lines["voice"]["found"]
    broken = CliRunner().invoke(app, ["doctor", "--voice", str(tmp_path)])
    assert broken.exit_code == 2
    assert "export it again" in broken.stdout
