"""What this machine and environment have, what stands in the way, and what to do about it.

Each check is a small function that gives lines; one that fails or hangs becomes an error line itself, so that an
examination always ends, with all the others. Facts about the machine come through `Machine`, which tests replace.
"""

import contextlib
import ctypes
import importlib
import importlib.metadata
import os
import platform
import re
import secrets
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from rich.table import Table

from fte.backends.cuda_drivers import open_driver
from fte.backends.int8_sums import form, saturates
from fte.backends.tiny_graph import Value, one_node_model
from fte.backends.trt_library import LIBRARIES, Library
from fte.bundle import Bundle
from fte.errors import BackendError, FteError, import_fault
from fte.files import cache_folder

Status = Literal["ok", "note", "warning", "error"]

DISTRIBUTION = "flowtron-fte"
OLDEST_PYTHON = (3, 11)
MEMORY_GIB = {"int8": 0.4, "fp32": 1.0}
"""About what a voice of the published size takes to speak; docs/performance.md measures int8."""
_CACHE_MIB = 64
"""What the cache should have room for: the tiny voice and some more."""
_PATIENCE_SECONDS = 120.0
"""Far more than the slowest check needs: the first start of a driver, or the hashes of a voice on a slow disk."""

_ONNX_RUNTIMES = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
    "onnxruntime-training",
    "ort-nightly",
    "ort-nightly-gpu",
)
"""Distributions that all hold the import package `onnxruntime`."""
_USED_PROVIDERS = ("CPUExecutionProvider", "CUDAExecutionProvider")
_EXTRAS = {"export": "to export checkpoints", "plot": "for pictures", "style": "to analyse styles"}
"""Extras of our own metadata whose packages are looked for, and their purpose; cpu and gpu have their own check."""
_CUDA_MODULES = {
    "tensorrt": "tensorrt",
    "tensorrt-rtx": "tensorrt_rtx",
    "pycuda": "pycuda.driver",
    "cuda-bindings": "cuda.bindings.driver",
}
"""Distributions for NVIDIA GPUs, and the module that shows whether they work."""
_GPU_REMEDIES = {
    "tensorrt": f"for TensorRT engines on this machine's GPU: install {DISTRIBUTION}[tensorrt]",
    "tensorrt-rtx": f"for TensorRT engines, built without a GPU too: install {DISTRIBUTION}[tensorrt-rtx]",
    "pycuda": "nothing: cuda-bindings serve as well",
    "cuda-bindings": "for TensorRT engines: pip install cuda-bindings",
}
_CUDA_OF_WHEEL = {"tensorrt-cu12": 12, "tensorrt-cu13": 13, "tensorrt-rtx-cu12": 12, "tensorrt-rtx-cu13": 13}
"""Wheels built for one major version of CUDA."""
_OLDEST_DRIVER = {12: 525, 13: 580}
"""First NVIDIA driver of a major version of CUDA, which serves all its minor versions (CUDA Compatibility guide)."""
_OLDEST_CAPABILITY = {13: (7, 5)}
"""First compute capability that the libraries of a major version of CUDA serve (release notes of CUDA 13.0)."""
_CAPABILITY_ATTRIBUTES = (75, 76)
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR (CUdevice_attribute of the CUDA driver API)."""
_DRIVER_ERRORS = {
    34: ("it is the stub of the CUDA toolkit", "take the toolkit's folder of stubs out of LD_LIBRARY_PATH"),
    100: ("it shows no GPU", "unset CUDA_VISIBLE_DEVICES, and give a container its GPU (docker run --gpus all)"),
    802: ("the system is not ready", "start nvidia-fabricmanager, or wait until it has started"),
    803: ("its library and its kernel module differ in version", "restart the machine after the driver's update"),
}
"""Results of cuInit (CUresult of the CUDA driver API): what they mean, and the remedy."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the examination."""

    name: str
    status: Status
    found: str
    remedy: str | None = None


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _requires() -> list[str]:
    try:
        return importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return []


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


@dataclass(frozen=True)
class Machine:
    """Where the facts come from; each is asked inside a check, where a failure does no harm."""

    version: Callable[[str], str | None] = _version
    """Distribution -> its version, None where it is not installed."""
    requires: Callable[[], list[str]] = _requires
    """What our own metadata asks for, as of PEP 508."""
    load: Callable[[str], Any] = importlib.import_module
    """Imports a module."""
    library: Callable[[str], Any] = ctypes.CDLL
    """Opens a shared library; raises OSError."""
    read: Callable[[str], str] = _read
    """Reads a file of /proc or /sys; "" where there is none."""
    cache: Callable[[], Path] = cache_folder
    python: tuple[int, ...] = sys.version_info[:3]
    cores: Callable[[], int] = lambda: len(os.sched_getaffinity(0))
    """Cores that this process may use."""
    all_cores: Callable[[], int] = lambda: os.cpu_count() or 1
    patience: float = _PATIENCE_SECONDS
    """Seconds that one check may take."""


def examine(machine: Machine | None = None, voice: Path | None = None) -> list[Check]:
    """Run every check, which raises nothing; ``voice``: a bundle to look at as well."""
    machine = machine or Machine()
    checks: dict[str, Callable[[Machine], Iterator[Check]]] = {
        "Python": _python,
        "packages": _packages,
        "ONNX Runtime": _runtimes,
        "providers": _providers,
        "native engine": _native,
        "sound files": _sound,
        "GPU packages": _gpu_packages,
        "GPU": _gpu,
        "engines": _engines,
        "CPU": _cpu,
        "int8": _int8,
        "cores": _cores,
        "memory": _memory,
        "cache": _cache,
    }
    if voice is not None:
        checks["voice"] = lambda _: _bundle(voice)
    with contextlib.redirect_stdout(sys.stderr):  # what libraries print does not belong into the result
        return [line for name, check in checks.items() for line in _guarded(name, partial(check, machine), machine)]


def _guarded(name: str, check: Callable[[], Iterator[Check]], machine: Machine) -> list[Check]:
    """The lines of a check; a failure, or no answer in time, is a line after those that were found until then."""
    lines: list[Check] = []

    def collect() -> None:
        try:
            for line in check():
                lines.append(line)  # one by one: those before a failure count
        except BaseException as error:  # drivers and extension modules raise anything
            told = f"the check itself failed: {type(error).__name__}: {_first_line(error)}"
            lines.append(Check(name, "error", told, "report this"))

    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    thread.join(machine.patience)
    if thread.is_alive():
        told = f"the check gave no answer within {machine.patience:g} s"
        return [*lines, Check(name, "error", told, "see whether a driver or a disk hangs; else report this")]
    return lines


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


# --- Python and packages ---


@dataclass(frozen=True, slots=True)
class _Demand:
    """A package that our metadata asks for."""

    name: str
    least: str
    """Least version, "0" for any."""
    extra: str
    """Extra that asks for it, "" for none."""


def _python(machine: Machine) -> Iterator[Check]:
    text = ".".join(map(str, machine.python))
    if machine.python < OLDEST_PYTHON:
        wanted = ".".join(map(str, OLDEST_PYTHON))
        yield Check("Python", "error", text, f"install Python {wanted} or newer")
    else:
        yield Check("Python", "ok", f"{text} ({platform.python_implementation()}, {platform.machine()})")


def _packages(machine: Machine) -> Iterator[Check]:
    """What fte itself asks for, which must import too; then the packages of its extras."""
    own = machine.version(DISTRIBUTION)
    if own:
        yield Check("fte", "ok", own)
    else:
        yield Check("fte", "warning", "runs from a source tree without an install", "pip install .")
    demands = list(_demands(machine))
    for demand in demands:
        if not demand.extra:
            yield _required(machine, demand)
    for demand in {d.name: d for d in reversed(demands) if d.extra in _EXTRAS}.values():
        yield _optional(machine, demand)


def _demands(machine: Machine) -> Iterator[_Demand]:
    for line in machine.requires():
        specifier, _, marker = line.partition(";")
        name = re.match(r"[A-Za-z0-9._-]+", specifier)
        least = re.search(r">=\s*([0-9.]+)", specifier)
        extra = re.search(r"""extra\s*==\s*["']([^"']+)""", marker)
        if name:
            yield _Demand(name[0], least[1] if least else "0", extra[1] if extra else "")


def _required(machine: Machine, demand: _Demand) -> Check:
    name, remedy = demand.name, f"pip install '{demand.name}>={demand.least}'"
    have = machine.version(name)
    if have is None:
        return Check(name, "error", "missing", remedy)
    if _number(have) < _number(demand.least):
        return Check(name, "error", f"{have}, older than {demand.least}", remedy)
    return _imports(machine, name, name, have, "error")


def _optional(machine: Machine, demand: _Demand) -> Check:
    remedy = f"{_EXTRAS[demand.extra]}: install {DISTRIBUTION}[{demand.extra}]"
    have = machine.version(demand.name)
    if have is None:
        return Check(demand.name, "note", "not installed", remedy)
    if _number(have) < _number(demand.least):
        return Check(demand.name, "warning", f"{have}, older than {demand.least}", remedy)
    return Check(demand.name, "ok", have)


def _imports(machine: Machine, name: str, module: str, have: str, status: Status) -> Check:
    """Whether a package that is there can be imported; ``status`` where it cannot."""
    try:
        machine.load(module)
    except Exception as error:
        told = f"{have}, does not import: {_first_line(error)}"
        return Check(name, status, told, f"pip install --force-reinstall {name}")
    return Check(name, "ok", have)


def _number(version: str) -> tuple[int, ...]:
    """Major, minor and patch, 0 where a version has fewer."""
    parts = [int(part) for part in re.findall(r"\d+", version)[:3]]
    return tuple(parts + [0] * (3 - len(parts)))


def _runtimes(machine: Machine) -> Iterator[Check]:
    """ONNX Runtime's builds are one import package: two of them overwrite each other's files."""
    have = {name: version for name in _ONNX_RUNTIMES if (version := machine.version(name))}
    told = ", ".join(f"{name} {version}" for name, version in have.items())
    old = [d for d in _demands(machine) if d.name in have and _number(have[d.name]) < _number(d.least)]
    if not have:
        yield Check("ONNX Runtime", "error", "not installed", f"install {DISTRIBUTION}[cpu], or {DISTRIBUTION}[gpu]")
    elif len(have) > 1:
        keep = "onnxruntime-gpu" if "onnxruntime-gpu" in have else next(iter(have))
        remedy = f"pip uninstall -y {' '.join(have)} && pip install {keep}"
        yield Check("ONNX Runtime", "error", f"{told}: they overwrite each other", remedy)
    elif old:
        remedy = f"pip install '{old[0].name}>={old[0].least}'"
        yield Check("ONNX Runtime", "error", f"{told}, older than {old[0].least}", remedy)
    else:
        yield Check("ONNX Runtime", "ok", told)


def _providers(machine: Machine) -> Iterator[Check]:
    """A session of one addition on every provider: what is listed need not run."""
    have = [name for name in _ONNX_RUNTIMES if machine.version(name)]
    if not have:
        return
    try:
        runtime = machine.load("onnxruntime")
        providers = runtime.get_available_providers()  # what two builds leave imports, and is empty
    except Exception as error:
        remedy = f"pip install --force-reinstall {' '.join(have[:1])} numpy"
        yield Check("ONNX Runtime", "error", f"does not import: {_first_line(error)}", remedy)
        return
    value = Value("x", np.float32, (4,))
    model = one_node_model("Add", [value], Value("y", np.float32, (4,)), {"one": np.ones(4, np.float32)})
    runtime.set_default_logger_severity(4)  # fatal: what a provider lacks is told by our own line
    try:
        for provider in providers:
            yield _provider(machine, runtime, provider, model)
    finally:
        runtime.set_default_logger_severity(2)  # warning, its default


def _provider(machine: Machine, runtime: Any, provider: str, model: bytes) -> Check:
    name = provider.removesuffix("ExecutionProvider") + " provider"
    try:
        got = _one_more(runtime, provider, model)
    except Exception as error:
        if provider not in _USED_PROVIDERS:
            return Check(name, "note", "does not run", "nothing: fte does not use it")
        if provider == "CUDAExecutionProvider":
            return Check(name, "warning", _why_no_cuda(machine, runtime, error), _CUDA_REMEDY)
        return Check(name, "error", f"does not run: {_first_line(error)}", "reinstall ONNX Runtime")
    if not np.array_equal(got, np.arange(1, 5, dtype=np.float32)):
        return Check(name, "error", "runs, and adds wrongly", "do not use it")
    return Check(name, "ok", "runs")


def _one_more(runtime: Any, provider: str, model: bytes) -> Any:
    """0, 1, 2, 3 plus one, computed by ``provider`` and no other; raises what ONNX Runtime raises."""
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    if provider != "CPUExecutionProvider":
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    session = runtime.InferenceSession(model, options, providers=[provider], enable_fallback=0)
    (got,) = session.run(None, {"x": np.arange(4, dtype=np.float32)})
    return got


_CUDA_REMEDY = "give --device cpu, or mend it: GPU, driver, and CUDA and cuDNN where LD_LIBRARY_PATH finds them"


def _why_no_cuda(machine: Machine, runtime: Any, error: Exception) -> str:
    """ONNX Runtime logs the library it lacks and raises something else: look for the libraries themselves."""
    major = _cuda_major(runtime)
    wanted = ["libcuda.so.1", "libcudnn.so.9"]
    if major:
        wanted[1:1] = [f"libcudart.so.{major}", f"libcublasLt.so.{major}"]
    lacking = [library for library in wanted if not _opens(machine, library)]
    reason = f"{', '.join(lacking)} not found" if lacking else _first_line(error)
    return f"installed, but does not run: {reason}"


def _opens(machine: Machine, library: str) -> bool:
    try:
        machine.library(library)
    except OSError:
        return False
    return True


def _cuda_major(runtime: Any) -> int:
    """Major version of CUDA that an ONNX Runtime was built for, by its own build information; 0 for none."""
    return _number(str(getattr(runtime, "cuda_version", None) or ""))[0]


def _native(machine: Machine) -> Iterator[Check]:
    try:
        engine = machine.load("fte._native")
    except ImportError as error:
        if fault := import_fault(error, ["fte._native"], ""):
            yield Check("native engine", "error", fault, f"install {DISTRIBUTION} anew")
            return
        remedy = f"for the backend native: install {DISTRIBUTION} where GCC or Clang is found"
        yield Check("native engine", "note", "not part of this installation", remedy)
    else:
        yield Check("native engine", "ok", f"built, and takes {engine.instructions()} here")


def _sound(machine: Machine) -> Iterator[Check]:
    try:
        soundfile = machine.load("soundfile")
    except Exception as error:
        yield Check("sound files", "error", _first_line(error), "pip install --force-reinstall soundfile")
        return
    formats = soundfile.available_formats()
    missing = [name for name in ("FLAC", "OGG", "MP3") if name not in formats]
    version = soundfile.__libsndfile_version__
    if missing:
        told = f"libsndfile {version} without {', '.join(missing)}"
        yield Check("sound files", "warning", told, "pip install --upgrade soundfile: its wheel has them all")
    else:
        yield Check("sound files", "ok", f"libsndfile {version} with flac, ogg and mp3")


# --- GPU ---


def _gpu_packages(machine: Machine) -> Iterator[Check]:
    """What can use a GPU beside ONNX Runtime; two builds of TensorRT overwrite each other as well."""
    for name, module in _CUDA_MODULES.items():
        builds = [wheel for wheel in _CUDA_OF_WHEEL if wheel.startswith(f"{name}-cu") and machine.version(wheel)]
        have = machine.version(name) or (machine.version(builds[0]) if builds else None)
        if have is None:
            yield Check(name, "note", "not installed", _GPU_REMEDIES[name])
        elif len(builds) > 1:
            remedy = f"pip uninstall -y {' '.join(builds)} && pip install {builds[-1]}"
            yield Check(name, "warning", f"{' and '.join(builds)}: they overwrite each other", remedy)
        else:
            yield _imports(machine, name, module, have, "warning")


def _gpu(machine: Machine) -> Iterator[Check]:
    """Through the driver's own library: no tool has to be installed."""
    try:
        driver = machine.library("libcuda.so.1")
    except OSError:
        yield Check("GPU", "note", "no NVIDIA driver", "fine for the CPU; else install NVIDIA's driver")
        return
    if code := driver.cuInit(0):
        why, remedy = _DRIVER_ERRORS.get(code, ("it does not start", "see what nvidia-smi says"))
        yield Check("GPU", "warning", f"the driver's library is there: {why} (error {code})", remedy)
        return
    version = _asked(driver, "cuDriverGetVersion")
    major, minor = version // 1000, version % 1000 // 10
    demands = dict(_cuda_demands(machine))
    yield from _driver_checks(major, minor, demands)
    count = _asked(driver, "cuDeviceGetCount")
    for index in range(count):
        yield _device(driver, index, demands)
    if count and not machine.version("onnxruntime-gpu"):
        yield Check("GPU use", "note", "no onnxruntime-gpu", f"install {DISTRIBUTION}[gpu] in place of [cpu]")


def _engines(machine: Machine) -> Iterator[Check]:
    """Which library `fte build` and the backend tensorrt would take, what it builds for, and whether it runs here."""
    have = [name for name in LIBRARIES if _has_library(machine, name)]
    if not have:
        yield Check("engines", "note", "no TensorRT to build or run them", _GPU_REMEDIES["tensorrt-rtx"])
        return
    library = Library(have[0], machine.load(have[0]))
    able = ", ".join(map(str, library.targets)) or "the GPU of this machine"
    told = f"{library.description} builds them for {able}"
    try:
        driver = open_driver()
        target = int("".join(map(str, driver.compute_capability(0))))
    except BackendError as error:
        yield Check(
            "engines", "note", f"{told}, and runs none here: {_first_line(error)}", "nothing, unless to run them"
        )
        return
    if library.targets and target not in library.targets:
        remedy = f"install {DISTRIBUTION}[tensorrt] in its place"
        yield Check("engines", "warning", f"{told}, not for this GPU ({target})", remedy)
    else:
        yield Check("engines", "ok", f"{told}, and can run them")


def _has_library(machine: Machine, name: str) -> bool:
    """Whether a library is installed, by its own name or as the wheel for one version of CUDA."""
    distribution = name.replace("_", "-")
    wheels = [wheel for wheel in _CUDA_OF_WHEEL if wheel.startswith(f"{distribution}-cu")]
    return any(machine.version(wheel) for wheel in (distribution, *wheels))


def _cuda_demands(machine: Machine) -> Iterator[tuple[str, int]]:
    """Installed packages that need a major version of CUDA, and that version."""
    if machine.version("onnxruntime-gpu"):
        with contextlib.suppress(Exception):  # `_providers` tells of it
            if major := _cuda_major(machine.load("onnxruntime")):
                yield "onnxruntime-gpu", major
    yield from ((name, major) for name, major in _CUDA_OF_WHEEL.items() if machine.version(name))


def _driver_checks(major: int, minor: int, demands: dict[str, int]) -> Iterator[Check]:
    told = f"the driver serves CUDA {major}.{minor}"
    late = {name: needed for name, needed in demands.items() if needed > major}
    for name, needed in late.items():
        oldest = _OLDEST_DRIVER.get(needed)
        remedy = f"install NVIDIA's driver {oldest} or newer" if oldest else "install a newer NVIDIA driver"
        yield Check("CUDA", "error", f"{told}, {name} needs {needed}", f"{remedy}, or {name} for CUDA {major}")
    if not late:
        yield Check("CUDA", "ok", told)


def _device(driver: Any, index: int, demands: dict[str, int]) -> Check:
    device = _asked(driver, "cuDeviceGet", index)
    name, size = ctypes.create_string_buffer(256), ctypes.c_size_t()
    _ask(driver, "cuDeviceGetName", name, len(name), device)
    _ask(driver, "cuDeviceTotalMem_v2", ctypes.byref(size), device)
    major, minor = (_asked(driver, "cuDeviceGetAttribute", attribute, device) for attribute in _CAPABILITY_ATTRIBUTES)
    told = f"{name.value.decode('utf-8', 'replace')}, compute capability {major}.{minor}"
    told += f", {size.value / 2**30:.0f} GiB"
    for package, cuda in demands.items():
        least = _OLDEST_CAPABILITY.get(cuda, (0, 0))
        if (major, minor) < least:
            told += f"; CUDA {cuda} needs {least[0]}.{least[1]}"
            return Check(f"GPU {index}", "warning", told, f"install {package} for CUDA 12, or give --device cpu")
    return Check(f"GPU {index}", "ok", told)


def _ask(driver: Any, function: str, *arguments: Any) -> None:
    if code := getattr(driver, function)(*arguments):
        raise RuntimeError(f"{function} gives error {code}")


def _asked(driver: Any, function: str, *arguments: Any) -> int:
    """The number that a function of the driver writes where its first argument points."""
    value = ctypes.c_int()
    _ask(driver, function, ctypes.byref(value), *arguments)
    return value.value


# --- the machine ---


def _cpu(machine: Machine) -> Iterator[Check]:
    text = machine.read("/proc/cpuinfo")
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = _flags(machine)
    known = {"avx2": "AVX2", "avx512_vnni": "AVX-512 VNNI", "avx_vnni": "AVX VNNI", "amx_int8": "AMX"}
    told = name[1].strip() if name else platform.processor() or platform.machine()
    if not flags:  # another architecture or system: nothing to go by
        yield Check("CPU", "ok", told)
        return
    told += f": {', '.join(shown for flag, shown in known.items() if flag in flags) or 'no extension that int8 uses'}"
    if {"avx512_vnni", "avx_vnni", "amx_int8"} & flags:
        yield Check("CPU", "ok", told)
    else:
        yield Check("CPU", "note", told, "int8 is slower without VNNI: compare with --precision fp32")


def _flags(machine: Machine) -> set[str]:
    """The CPU's extensions by their names in /proc/cpuinfo: "flags" on x86, "Features" on ARM."""
    text = machine.read("/proc/cpuinfo")
    return set((re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE) or ["", ""])[1].split())


def _int8(machine: Machine) -> Iterator[Check]:
    """In which form int8 products are computed, and whether ONNX Runtime needs another one for exact sums."""
    told, cut_off = [], False
    with contextlib.suppress(Exception):  # what is wrong with either has its own line
        cut_off = saturates(machine.load("onnxruntime"))
        told.append(f"ONNX Runtime: {form(_flags(machine), cut_off)}")
    with contextlib.suppress(Exception):
        told.append(f"native engine: {machine.load('fte._native').instructions()}")
    if cut_off:
        told[0] += ", with weights without sign, as its sums of signed ones are cut off"
        yield Check("int8", "note", "; ".join(told), "export voices of older versions again: they are refused here")
    elif told:
        yield Check("int8", "ok", "; ".join(told))


def _cores(machine: Machine) -> Iterator[Check]:
    cores, quota = machine.cores(), _quota(machine)
    told = f"{cores} of {machine.all_cores()} allowed"
    if quota and quota < cores:
        remedy = f"give --threads {max(1, int(quota))}: more threads than the quota wait for each other"
        yield Check("cores", "warning", f"{told}, a quota of {quota:.1f}", remedy)
    else:
        yield Check("cores", "ok", told)


def _control_groups(machine: Machine, controller: str) -> Iterator[PurePosixPath]:
    """Folders of the control groups that bound this process, the innermost first (cgroups(7)).

    Version 2 has one tree, version 1 one of each controller. A container may see its own group as the root, whatever
    the path says: folders that are not there are for the caller to pass over.
    """
    for line in machine.read("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = PurePosixPath("/sys/fs/cgroup", controller if controllers else "")
        own = PurePosixPath(path.lstrip("/"))
        yield from (root / part for part in (own, *own.parents))


def _quota(machine: Machine) -> float | None:
    """Cores that the control groups grant, None without a limit."""
    grants = [_grant(machine, group) for group in _control_groups(machine, "cpu")]
    return min((grant for grant in grants if grant), default=None)


def _grant(machine: Machine, group: PurePosixPath) -> float | None:
    """Microseconds of computing over those of a period; no limit is "max" in version 2 and -1 in version 1."""
    text = machine.read(f"{group}/cpu.max")
    text = text or machine.read(f"{group}/cpu.cfs_quota_us") + " " + machine.read(f"{group}/cpu.cfs_period_us")
    numbers = re.fullmatch(r"\s*(\d+)\s+([1-9]\d*)\s*", text)
    return int(numbers[1]) / int(numbers[2]) if numbers else None


def _memory(machine: Machine) -> Iterator[Check]:
    available = re.search(r"^MemAvailable:\s*(\d+) kB", machine.read("/proc/meminfo"), re.MULTILINE)
    free = [int(available[1]) * 1024] if available else []
    free += [left for group in _control_groups(machine, "memory") if (left := _left(machine, group)) is not None]
    if not free:
        yield Check("memory", "note", "this system does not tell how much is free")
        return
    gib = max(0, min(free)) / 2**30
    told = f"{gib:.1f} GiB free"
    if gib < MEMORY_GIB["int8"]:
        remedy = f"a voice of the published size takes about {MEMORY_GIB['int8']} GiB in int8: free some"
        yield Check("memory", "warning", told, remedy)
    elif gib < MEMORY_GIB["fp32"]:
        remedy = f"give --precision int8: fp32 takes about {MEMORY_GIB['fp32']} GiB in the published size"
        yield Check("memory", "note", told, remedy)
    else:
        yield Check("memory", "ok", told)


def _left(machine: Machine, group: PurePosixPath) -> int | None:
    """Bytes until a control group's limit, None without one. Cached files that nobody reads any more give way."""
    limit = machine.read(f"{group}/memory.max") or machine.read(f"{group}/memory.limit_in_bytes")
    used = machine.read(f"{group}/memory.current") or machine.read(f"{group}/memory.usage_in_bytes")
    if not limit.strip().isdigit() or not used.strip().isdigit():
        return None
    stat = machine.read(f"{group}/memory.stat")
    cached = re.findall(r"^(?:total_)?inactive_file (\d+)$", stat, re.MULTILINE)  # total_: version 1, with its children
    return int(limit) - int(used) + max(map(int, cached), default=0)


def _cache(machine: Machine) -> Iterator[Check]:
    """The folder must take a file, which is removed again."""
    remedy = "set XDG_CACHE_HOME to a folder that you may write"
    folder = machine.cache()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{secrets.token_hex(8)}"
        try:
            probe.write_bytes(b"fte")
        finally:
            probe.unlink(missing_ok=True)
        free = shutil.disk_usage(folder).free / 2**20
    except OSError as error:
        yield Check("cache", "error", f"{folder}: {error.strerror or error}", remedy)
        return
    if free < _CACHE_MIB:
        yield Check("cache", "warning", f"{folder}, only {free:.0f} MiB free", "free some, or set XDG_CACHE_HOME")
    else:
        yield Check("cache", "ok", f"{folder}, {free / 1024:.1f} GiB free")


def _bundle(path: Path) -> Iterator[Check]:
    try:
        bundle = Bundle.open(path)
        faults = bundle.check_files()
    except FteError as error:
        yield Check("voice", "error", str(error), "export it again")
        return
    if faults:
        yield Check("voice", "error", "; ".join(faults), "export it again")
    else:
        yield Check("voice", "ok", f"{bundle.manifest.name}: {', '.join(bundle.manifest.graphs)}")


def render(checks: list[Check]) -> Table:
    """The lines as a table for people."""
    styles = {"ok": None, "note": "blue", "warning": "yellow", "error": "red"}
    table = Table(show_header=False, box=None)
    for column in ("status", "name", "found"):
        table.add_column(column, no_wrap=column != "found")
    for check in checks:
        found = _plain(check.found) + (f"\n-> {_plain(check.remedy)}" if check.remedy else "")
        table.add_row(check.status, _plain(check.name), found, style=styles[check.status])
    return table


def _plain(text: str) -> str:
    """``text`` with control characters spelt out: names of others must not steer a terminal."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda match: ascii(match[0])[1:-1], text)
