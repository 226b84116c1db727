"""`fte doctor`: each remedy appears where it should, on machines that are made up."""

import ctypes
import json
import shutil
import threading
import types
from pathlib import Path

import numpy as np
import onnx
import pytest
from rich.console import Console
from typer.testing import CliRunner

from fte.backends.tiny_graph import Value, one_node_model
from fte.cli import app
from fte.doctor import Check, Machine, examine, render
from fte.errors import BackendError

VERSIONS = {"flowtron-fte": "0.1.0", "numpy": "2.1.0", "soxr": "0.5", "onnxruntime": "1.23.0"}
REQUIRES = [
    "numpy>=1.26",
    "soxr>=0.5.0,<2",
    'onnxruntime>=1.23; extra == "cpu"',
    "onnxruntime-gpu>=1.23; extra == 'gpu'",
    'torch>=2.6; python_version >= "3.11" and extra == "export"',
    'ruff>=0.14; extra == "dev"',
]
FILES = {
    "/proc/cpuinfo": "model name\t: Test CPU\nflags\t\t: fpu avx2 avx512_vnni\n",
    "/proc/meminfo": "MemTotal: 9000000 kB\nMemAvailable: 8388608 kB\n",
    "/proc/self/cgroup": "0::/slice/mine\n",
    "/sys/fs/cgroup/slice/cpu.max": "max 100000\n",
}
GROUP = "/sys/fs/cgroup/slice/mine"
GPU_BUILD = {"onnxruntime": None, "onnxruntime-gpu": "1.31.1"}
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


class Session:
    """An ONNX Runtime session that adds one, and whose int8 product is exact."""

    int8_sum = 64 * 255 * 127

    def __init__(self, model, options, providers, enable_fallback):
        assert not enable_fallback  # it would print to the standard output, and hide the failure
        self.providers, self.options = providers, options

    def run(self, _names, inputs):
        if inputs["x"].dtype == np.uint8:
            return [np.full((1, 16), self.int8_sum, np.int32)]
        return [inputs["x"] + 1]


class CutOff(Session):
    """One on a CPU with AVX2 and without VNNI."""

    int8_sum = 32 * 32767


class NoCuda(Session):
    """One that runs on the CPU only, as where CUDA's libraries are not installed."""

    def __init__(self, model, options, providers, enable_fallback):
        super().__init__(model, options, providers, enable_fallback)
        if providers != [CPU] and ("session.disable_cpu_ep_fallback", "1") in options.entries:
            raise RuntimeError("nodes are assigned to the CPU\nmore")


class AddsWrongly(Session):
    def run(self, _names, _inputs):
        return [np.zeros(4, np.float32)]


class Options:
    def __init__(self):
        self.entries = []

    def add_session_config_entry(self, key, value):
        self.entries.append((key, value))


def runtime(session=Session, providers=(CPU,), cuda_version=""):
    return types.SimpleNamespace(
        get_available_providers=lambda: list(providers),
        set_default_logger_severity=lambda _: None,
        InferenceSession=session,
        SessionOptions=Options,
        cuda_version=cuda_version,
    )


def soundfile(*formats):
    return types.SimpleNamespace(available_formats=lambda: dict.fromkeys(formats, ""), __libsndfile_version__="1.2")


def tensorrt(version, *targets):
    """A TensorRT that builds for those compute capabilities."""
    members = dict.fromkeys(["NONE", "CURRENT", *(f"SM{target}" for target in targets)])
    capability = types.SimpleNamespace(__members__=members)
    return types.SimpleNamespace(__version__=version, ILogger=object, ComputeCapability=capability)


class Driver:
    """libcuda with one GPU. Each function writes where a pointer of its arguments points, and gives 0."""

    def __init__(self, version=13000, fails=0, capability=(8, 9)):
        self.version, self.fails, self.capability = version, fails, capability

    def cuInit(self, _flags):  # noqa: N802
        return self.fails

    def cuDriverGetVersion(self, version):  # noqa: N802
        version._obj.value = self.version
        return 0

    def cuDeviceGetCount(self, count):  # noqa: N802
        count._obj.value = 1
        return 0

    def cuDeviceGet(self, handle, index):  # noqa: N802
        handle._obj.value = index
        return 0

    def cuDeviceGetName(self, name, _size, _handle):  # noqa: N802
        name.value = b"Test GPU"
        return 0

    def cuDeviceTotalMem_v2(self, size, _handle):  # noqa: N802
        size._obj.value = 24 << 30
        return 0

    def cuDeviceGetAttribute(self, value, attribute, _handle):  # noqa: N802
        value._obj.value = self.capability[{75: 0, 76: 1}[attribute]]
        return 0


@pytest.fixture
def look(tmp_path):
    """A function that examines a healthy CPU machine with the changes given, and gives its lines."""

    def run(versions=None, files=None, ort=None, driver=None, libraries=(), modules=None, voice=None, **changes):
        have = VERSIONS | (versions or {})
        there = {
            "fte._native": types.SimpleNamespace(instructions=lambda: "avx2"),
            "onnxruntime": ort or runtime(),
            "soundfile": soundfile("FLAC", "OGG", "MP3"),
        } | (modules or {})

        def library(name):
            if name == "libcuda.so.1" and driver is not None:
                return driver
            if name not in libraries:
                raise OSError(name)
            return None

        def load(name):
            found = there.get(name)
            if isinstance(found, BaseException):
                raise found
            return found

        facts = {
            "version": have.get,
            "requires": lambda: REQUIRES,
            "load": load,
            "library": library,
            "read": lambda path: (FILES | (files or {})).get(path, ""),
            "cache": lambda: tmp_path / "cache",
            "python": (3, 12, 1),
            "cores": lambda: 4,
            "all_cores": lambda: 8,
        }
        return examine(Machine(**(facts | changes)), voice)

    return run


def line_of(lines: list[Check], name: str) -> Check:
    """The gravest line of that name."""
    order = ("ok", "note", "warning", "error")
    return max((line for line in lines if line.name == name), key=lambda line: order.index(line.status))


def test_a_healthy_machine_has_a_remedy_for_what_is_optional_only(look):
    lines = look()
    assert {line.status for line in lines} == {"ok", "note"}
    assert {line.name for line in lines if line.status == "note"} == {
        *("torch", "tensorrt", "tensorrt-rtx", "pycuda", "cuda-bindings", "GPU", "engines")
    }
    assert all((line.remedy is None) == (line.status == "ok") for line in lines)


def test_a_healthy_gpu_machine_has_no_warning(look):
    libraries = ["libcudart.so.13", "libcublasLt.so.13", "libcudnn.so.9"]
    ort = runtime(providers=[CUDA, CPU], cuda_version="13.0")
    lines = look(versions=GPU_BUILD, ort=ort, driver=Driver(), libraries=libraries)
    assert {line.status for line in lines} == {"ok", "note"}
    assert line_of(lines, "CUDA provider") == Check("CUDA provider", "ok", "runs")
    assert line_of(lines, "GPU 0") == Check("GPU 0", "ok", "Test GPU, compute capability 8.9, 24 GiB")
    assert line_of(lines, "CUDA") == Check("CUDA", "ok", "the driver serves CUDA 13.0")


@pytest.mark.parametrize(
    ("flags", "session", "status", "says"),
    [
        ("avx2 avx512_vnni", Session, "ok", "ONNX Runtime: AVX-512 VNNI; native engine: avx2"),
        ("avx2 avx_vnni", Session, "ok", "ONNX Runtime: AVX-VNNI; native engine: avx2"),
        ("avx2 avx512_vnni amx_int8", Session, "ok", "ONNX Runtime: AMX; native engine: avx2"),
        ("avx2", CutOff, "note", "ONNX Runtime: AVX2 without VNNI, with weights without sign"),
        ("avx2 avx512_vnni", CutOff, "note", "ONNX Runtime: AVX2 without VNNI, with"),  # an emulator on such a host
        ("sse2", Session, "ok", "ONNX Runtime: no int8 extension ("),
    ],
)
def test_the_cpus_int8_form_is_told(look, flags, session, status, says):
    line = line_of(look(files={"/proc/cpuinfo": f"flags : {flags}\n"}, ort=runtime(session)), "int8")
    assert (line.status, line.found.startswith(says)) == (status, True), line
    assert (line.remedy is None) == (status == "ok")


def test_the_int8_form_of_arm_is_told(look):
    line = line_of(look(files={"/proc/cpuinfo": "Features : fp asimd asimddp\n"}), "int8")
    assert line.found == "ONNX Runtime: ARM dot product; native engine: avx2"


def test_the_native_engine_is_told_of_and_may_be_missing(look):
    assert line_of(look(), "native engine") == Check("native engine", "ok", "built, and takes avx2 here")
    missing = line_of(look(modules={"fte._native": ModuleNotFoundError("no", name="fte._native")}), "native engine")
    assert (missing.status, missing.found) == ("note", "not part of this installation")
    assert missing.remedy == "for the backend native: install flowtron-fte where GCC or Clang is found"


def test_this_machine_can_be_examined():
    lines = examine()
    assert not [line for line in lines if line.found.startswith("the check")]
    assert line_of(lines, "CPU provider") == Check("CPU provider", "ok", "runs")
    assert line_of(lines, "Python").status == "ok"


def test_the_graph_of_the_probe_is_one_that_onnx_accepts():
    value = Value("x", np.float32, (4,))
    model = onnx.load_from_string(
        one_node_model("Add", [value], Value("y", np.float32, (4,)), {"one": np.ones(4, np.float32)})
    )
    onnx.checker.check_model(model, full_check=True)
    assert [(node.op_type, list(node.input), list(node.output)) for node in model.graph.node] == [
        ("Add", ["x", "one"], ["y"])
    ]


@pytest.mark.parametrize(
    ("changes", "name", "status", "found", "remedy"),
    [
        ({"python": (3, 9, 7)}, "Python", "error", "3.9.7", "install Python 3.11 or newer"),
        ({"versions": {"numpy": None}}, "numpy", "error", "missing", "pip install 'numpy>=1.26'"),
        ({"versions": {"numpy": "1.24.4"}}, "numpy", "error", "older than 1.26", "pip install 'numpy>=1.26'"),
        ({"versions": {"soxr": "0.4"}}, "soxr", "error", "older than 0.5.0", "pip install 'soxr>=0.5.0'"),
        (
            {"modules": {"soxr": ImportError("numpy.core.multiarray failed to import")}},
            "soxr",
            "error",
            "0.5, does not import: numpy.core.multiarray",
            "pip install --force-reinstall soxr",
        ),
        ({"versions": {"torch": "2.1.0"}}, "torch", "warning", "older than 2.6", "flowtron-fte[export]"),
        ({}, "torch", "note", "not installed", "to export checkpoints: install flowtron-fte[export]"),
        ({"versions": {"flowtron-fte": None}}, "fte", "warning", "source tree", "pip install ."),
        ({"versions": {"onnxruntime": None}}, "ONNX Runtime", "error", "not installed", "flowtron-fte[cpu]"),
        ({"versions": {"onnxruntime": "1.20"}}, "ONNX Runtime", "error", "older than 1.23", "'onnxruntime>=1.23'"),
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
            "pip install --force-reinstall onnxruntime numpy",
        ),
        (
            {"modules": {"onnxruntime": types.ModuleType("onnxruntime")}},
            "ONNX Runtime",
            "error",
            "no attribute 'get_available_providers'",
            "pip install --force-reinstall onnxruntime numpy",
        ),
        ({"modules": {"soundfile": OSError("sndfile library not found")}}, "sound files", "error", "not found", "pip"),
        ({"modules": {"soundfile": soundfile("FLAC", "OGG")}}, "sound files", "warning", "without MP3", "--upgrade"),
        (
            {"versions": {"tensorrt-cu12": "10.1", "tensorrt-cu13": "11.4"}},
            "tensorrt",
            "warning",
            "overwrite each other",
            "pip uninstall -y tensorrt-cu12 tensorrt-cu13 && pip install tensorrt-cu13",
        ),
        (
            {"versions": {"pycuda": "2025.1"}, "modules": {"pycuda.driver": ImportError("libcuda.so.1: no such file")}},
            "pycuda",
            "warning",
            "2025.1, does not import: libcuda.so.1",
            "--force-reinstall pycuda",
        ),
        ({"driver": Driver(fails=100)}, "GPU", "warning", "shows no GPU (error 100)", "CUDA_VISIBLE_DEVICES"),
        ({"driver": Driver(fails=999)}, "GPU", "warning", "does not start (error 999)", "nvidia-smi"),
        ({"driver": Driver()}, "GPU use", "note", "no onnxruntime-gpu", "flowtron-fte[gpu]"),
        (
            {"driver": Driver(12040), "versions": {"tensorrt-rtx-cu13": "1.1"}},
            "CUDA",
            "error",
            "serves CUDA 12.4, tensorrt-rtx-cu13 needs 13",
            "install NVIDIA's driver 580 or newer",
        ),
        (
            {"driver": Driver(12040), "versions": GPU_BUILD, "ort": runtime(cuda_version="13.0")},
            "CUDA",
            "error",
            "serves CUDA 12.4, onnxruntime-gpu needs 13",
            "install NVIDIA's driver 580 or newer, or onnxruntime-gpu for CUDA 12",
        ),
        (
            {"driver": Driver(capability=(7, 0)), "versions": GPU_BUILD, "ort": runtime(cuda_version="13.0")},
            "GPU 0",
            "warning",
            "compute capability 7.0, 24 GiB; CUDA 13 needs 7.5",
            "onnxruntime-gpu for CUDA 12",
        ),
        (
            {"files": {"/proc/cpuinfo": "model name : Old\nflags : sse2\n"}},
            "CPU",
            "note",
            "Old: no extension",
            "--precision fp32",
        ),
        ({"files": {f"{GROUP}/cpu.max": "150000 100000"}}, "cores", "warning", "quota of 1.5", "--threads 1"),
        ({"files": {"/sys/fs/cgroup/slice/cpu.max": "300000 100000"}}, "cores", "warning", "of 3.0", "--threads 3"),
        (
            {
                "files": {
                    "/proc/self/cgroup": "4:memory:/m\n3:cpu,cpuacct:/c\n",
                    "/sys/fs/cgroup/cpu/c/cpu.cfs_quota_us": "200000\n",
                    "/sys/fs/cgroup/cpu/c/cpu.cfs_period_us": "100000\n",
                }
            },
            "cores",
            "warning",
            "quota of 2.0",
            "--threads 2",
        ),
        ({"files": {"/proc/meminfo": "MemAvailable: 100000 kB"}}, "memory", "warning", "0.1 GiB", "about 0.4 GiB"),
        ({"files": {"/proc/meminfo": "MemAvailable: 800000 kB"}}, "memory", "note", "0.8 GiB", "--precision int8"),
        ({"files": {"/proc/meminfo": ""}}, "memory", "note", "does not tell", ""),
        (
            {"files": {f"{GROUP}/memory.max": "400000000", f"{GROUP}/memory.current": "300000000"}},
            "memory",
            "warning",
            "0.1 GiB",
            "int8",
        ),
        (
            {
                "files": {
                    "/proc/self/cgroup": "4:memory:/m\n",
                    "/sys/fs/cgroup/memory/m/memory.limit_in_bytes": "400000000",
                    "/sys/fs/cgroup/memory/m/memory.usage_in_bytes": "300000000",
                }
            },
            "memory",
            "warning",
            "0.1 GiB",
            "int8",
        ),
        ({"cache": lambda: Path("/proc/nowhere/fte")}, "cache", "error", "/proc/nowhere", "XDG_CACHE_HOME"),
    ],
)
def test_what_is_wrong_is_told_with_its_remedy(look, changes, name, status, found, remedy):
    line = line_of(look(**changes), name)
    assert (line.status, found in line.found, remedy in (line.remedy or "")) == (status, True, True), line


def test_a_minor_version_of_cuda_newer_than_the_drivers_is_no_fault(look):
    lines = look(driver=Driver(13000), versions=GPU_BUILD, ort=runtime(cuda_version="13.2"))
    assert line_of(lines, "CUDA").status == "ok"


def test_a_group_that_is_full_of_cached_files_has_memory_left(look):
    files = {f"{GROUP}/memory.max": str(4 << 30), f"{GROUP}/memory.current": str(4 << 30)}
    lines = look(files=files | {f"{GROUP}/memory.stat": f"anon 0\ninactive_file {3 << 30}\n"})
    assert line_of(lines, "memory") == Check("memory", "ok", "3.0 GiB free")


def test_a_provider_is_usable_when_it_runs_without_the_cpus_help(look):
    lines = look(versions=GPU_BUILD, ort=runtime(NoCuda, [CUDA, CPU], "13.0"), libraries=["libcudart.so.13"])
    line = line_of(lines, "CUDA provider")
    assert line.status == "warning"
    assert line.found == "installed, but does not run: libcuda.so.1, libcublasLt.so.13, libcudnn.so.9 not found"
    assert "--device cpu" in line.remedy
    assert line_of(lines, "CPU provider").status == "ok"


def test_a_provider_that_lacks_no_library_is_told_with_the_reason_of_onnx_runtime(look):
    libraries = ["libcudart.so.13", "libcublasLt.so.13", "libcudnn.so.9"]
    lines = look(ort=runtime(NoCuda, [CUDA], "13.0"), libraries=libraries, driver=Driver())
    assert line_of(lines, "CUDA provider").found == "installed, but does not run: nodes are assigned to the CPU"


def test_a_provider_that_fte_does_not_use_may_fail(look):
    line = line_of(look(ort=runtime(NoCuda, ["TensorrtExecutionProvider"])), "Tensorrt provider")
    assert (line.status, line.remedy) == ("note", "nothing: fte does not use it")


def test_a_provider_that_adds_wrongly_is_told(look):
    assert line_of(look(ort=runtime(AddsWrongly)), "CPU provider").status == "error"


@pytest.mark.parametrize("error", [ctypes.ArgumentError("no"), SystemExit("no")])
def test_a_check_that_fails_is_a_line_and_the_others_go_on(look, error):
    class Broken(Driver):
        def cuDriverGetVersion(self, _version):  # noqa: N802
            raise error

    lines = look(driver=Broken())
    assert line_of(lines, "GPU").found == f"the check itself failed: {type(error).__name__}: no"
    assert line_of(lines, "cache").status == "ok"


def test_an_error_of_the_driver_is_a_line(look):
    class Broken(Driver):
        def cuDeviceGetCount(self, _count):  # noqa: N802
            return 3

    line = line_of(look(driver=Broken()), "GPU")
    assert (line.status, "cuDeviceGetCount gives error 3" in line.found) == ("error", True)


def test_a_check_that_hangs_is_a_line_and_the_others_go_on(look):
    released = threading.Event()

    class Hangs(Driver):
        def cuInit(self, _flags):  # noqa: N802
            released.wait(10)

    lines = look(driver=Hangs(), patience=0.2)
    released.set()
    assert line_of(lines, "GPU").found == "the check gave no answer within 0.2 s"
    assert line_of(lines, "cache").status == "ok"


def test_nothing_is_left_in_the_cache(look, tmp_path):
    look()
    assert list((tmp_path / "cache").iterdir()) == []


def test_names_of_others_do_not_steer_the_terminal():
    console = Console(width=80)
    with console.capture() as shown:
        console.print(render([Check("voice", "ok", "\x1b]0;title\x07")]))
    assert "\x1b]" not in shown.get()
    assert "\\x1b]0;title\\x07" in shown.get()


def test_the_command_prints_one_json_document_whatever_libraries_print(tiny_path, tmp_path, monkeypatch):
    import onnxruntime

    def chatty():
        print("a library's own words")
        return [CPU]

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(onnxruntime, "get_available_providers", chatty)
    told = CliRunner().invoke(app, ["doctor", "--json", "--voice", str(tiny_path)])
    lines = {line["name"]: line for line in json.loads(told.stdout)}
    assert lines["voice"]["status"] == "ok"
    assert "int8" in lines["voice"]["found"]
    assert lines["CPU provider"]["status"] == "ok"


@pytest.mark.parametrize("broken", [True, False])
def test_the_command_ends_with_2_where_something_is_broken_and_with_0_elsewhere(monkeypatch, broken):
    lines = [Check("voice", "error" if broken else "warning", "edited", "export it again")]
    monkeypatch.setattr("fte.doctor.examine", lambda voice: lines)
    told = CliRunner().invoke(app, ["doctor"])
    assert told.exit_code == (2 if broken else 0)
    assert "-> export it again" in told.stdout


def test_a_voice_that_was_edited_is_told(look, tiny_path, tmp_path):
    voice = tmp_path / "voice"
    shutil.copytree(tiny_path, voice)
    graph = next(voice.rglob("*.onnx"))
    graph.write_bytes(graph.read_bytes() + b"x")
    line = line_of(look(voice=voice), "voice")
    assert (line.status, graph.name in line.found, line.remedy) == ("error", True, "export it again")


class TestEngines:
    """What `fte build` would take."""

    def line(self, look, monkeypatch, *targets, gpu=None):
        def open_driver():
            if gpu is None:
                raise BackendError("the NVIDIA driver cannot be used")
            return types.SimpleNamespace(compute_capability=lambda _: gpu)

        monkeypatch.setattr("fte.doctor.open_driver", open_driver)
        modules = {"tensorrt_rtx": tensorrt("1.7.1", *targets)}
        return line_of(look(versions={"tensorrt-rtx-cu13": "1.7.1"}, modules=modules), "engines")

    def test_it_says_what_is_built_where_nothing_runs(self, look, monkeypatch):
        found = self.line(look, monkeypatch, 75, 89)
        assert found.status == "note"
        assert found.found.startswith("TensorRT for RTX 1.7.1 builds them for 75, 89, and runs none here: the NVIDIA")

    def test_a_gpu_that_it_builds_for(self, look, monkeypatch):
        assert self.line(look, monkeypatch, 75, 89, gpu=(8, 9)).status == "ok"

    def test_a_gpu_that_it_does_not_build_for(self, look, monkeypatch):
        found = self.line(look, monkeypatch, 75, 89, gpu=(9, 0))
        assert (found.status, found.remedy) == ("warning", "install flowtron-fte[tensorrt] in its place")
        assert "not for this GPU (90)" in found.found

    def test_too_old_a_library_is_told(self, look):
        lines = look(versions={"tensorrt": "10.9.0"}, modules={"tensorrt": tensorrt("10.9.0")})
        assert "tensorrt 10.9.0 is too old" in line_of(lines, "engines").found
