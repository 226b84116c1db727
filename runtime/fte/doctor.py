"""What this machine and environment have, what stands in the way, and what to do about it.

Each check is a small function that gives lines; one that fails unexpectedly becomes an error line itself, so that an
examination always ends with all the others. Facts about the machine come through `Machine`, which tests replace.
"""

import ctypes
import importlib
import importlib.metadata
import os
import platform
import re
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.table import Table

from fte.backends.tiny_graph import Value, one_node_model
from fte.bundle import Bundle
from fte.errors import FteError
from fte.files import cache_folder

Status = Literal["ok", "note", "warning", "error"]

DISTRIBUTION = "flowtron-fte"
OLDEST_PYTHON = (3, 11)
MEMORY_GIB = {"int8": 0.5, "fp32": 1.5}
"""About what the published pair takes to speak (docs/performance.md), rounded up."""
_CACHE_MIB = 64
_ONNX_RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")
_OPTIONAL = {
    "torch": "to export checkpoints: install flowtron-fte[cpu,export]",
    "onnx": "to export checkpoints: install flowtron-fte[cpu,export]",
    "matplotlib": "for pictures: install flowtron-fte[plot]",
    "tensorrt": "for TensorRT engines on an NVIDIA GPU",
    "tensorrt-rtx-cu13": "for TensorRT-RTX engines on an NVIDIA GPU",
    "pycuda": "for the CUDA runtime",
    "cuda-bindings": "for the CUDA runtime",
}


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the examination."""

    name: str
    status: Status
    found: str
    remedy: str | None = None


@dataclass(frozen=True)
class Machine:
    """Where the facts come from."""

    version: Callable[[str], str | None] = field(default=lambda name: _version(name))
    """Distribution -> its version, None where it is not installed."""
    requires: Callable[[], list[str]] = lambda: importlib.metadata.requires(DISTRIBUTION) or []
    load: Callable[[str], Any] = importlib.import_module
    """Imports a module."""
    library: Callable[[str], Any] = ctypes.CDLL
    """Opens a shared library."""
    read: Callable[[str], str] = lambda path: Path(path).read_text(encoding="utf-8", errors="replace")
    """Reads a file of /proc or /sys."""
    cache: Path = field(default_factory=cache_folder)
    python: tuple[int, ...] = sys.version_info[:3]
    cores: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    all_cores: int = field(default_factory=lambda: os.cpu_count() or 1)


def examine(machine: Machine | None = None, voice: Path | None = None) -> list[Check]:
    """Run every check; ``voice``: a bundle to look at as well."""
    machine = machine or Machine()
    checks: list[Callable[[Machine], Iterator[Check]]] = [
        _python,
        _packages,
        _runtimes,
        _providers,
        _sound,
        _gpu,
        _cpu,
        _cores,
        _memory,
        _cache,
    ]
    found = [line for check in checks for line in _guarded(check.__name__, lambda check=check: check(machine))]  # type: ignore[misc]
    if voice is not None:
        found += _guarded("voice", lambda: _bundle(voice))
    return found


def _guarded(name: str, check: Callable[[], Iterator[Check]]) -> list[Check]:
    """The lines of a check; what it raises is a line of its own, whatever it is: drivers raise anything."""
    lines: list[Check] = []
    try:
        lines.extend(check())
    except Exception as error:
        lines.append(
            Check(name.strip("_"), "error", f"the check itself failed: {type(error).__name__}: {error}", "report this")
        )
    return lines


# --- Python and packages ---


def _python(machine: Machine) -> Iterator[Check]:
    text = ".".join(map(str, machine.python))
    if machine.python < OLDEST_PYTHON:
        wanted = ".".join(map(str, OLDEST_PYTHON))
        yield Check("Python", "error", text, f"install Python {wanted} or newer")
    else:
        yield Check("Python", "ok", f"{text} ({platform.python_implementation()}, {platform.machine()})")


def _packages(machine: Machine) -> Iterator[Check]:
    """What fte itself asks for, with the least versions of its own metadata; then what it can use."""
    own = machine.version(DISTRIBUTION)
    yield (
        Check("fte", "ok", own)
        if own
        else Check("fte", "warning", "runs from a source tree without an install", "pip install .")
    )
    for name, least in _demands(machine):
        have = machine.version(name)
        if have is None:
            yield Check(name, "error", "missing", f"pip install '{name}>={least}'")
        elif _number(have) < _number(least):
            yield Check(name, "error", f"{have}, older than {least}", f"pip install '{name}>={least}'")
        else:
            yield Check(name, "ok", have)
    for name, purpose in _OPTIONAL.items():
        have = machine.version(name)
        yield Check(name, "ok", have) if have else Check(name, "note", "not installed", purpose)


def _demands(machine: Machine) -> Iterator[tuple[str, str]]:
    for line in machine.requires():
        found = re.fullmatch(r"([A-Za-z0-9._-]+)\s*>=\s*([0-9.]+)", line)
        if found:  # others belong to an extra
            yield found[1], found[2]


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _runtimes(machine: Machine) -> Iterator[Check]:
    """ONNX Runtime's builds are one import package: two of them overwrite each other's files."""
    have = {name: version for name in _ONNX_RUNTIMES if (version := machine.version(name))}
    told = ", ".join(f"{name} {version}" for name, version in have.items())
    if not have:
        yield Check("ONNX Runtime", "error", "not installed", "install flowtron-fte[cpu], or flowtron-fte[gpu]")
    elif len(have) > 1:
        keep = "onnxruntime-gpu" if "onnxruntime-gpu" in have else next(iter(have))
        remedy = f"pip uninstall -y {' '.join(have)} && pip install {keep}"
        yield Check("ONNX Runtime", "error", f"{told}: they overwrite each other", remedy)
    else:
        yield Check("ONNX Runtime", "ok", told)


def _providers(machine: Machine) -> Iterator[Check]:
    """A session of one addition on every provider: what is listed need not run."""
    if not any(machine.version(name) for name in _ONNX_RUNTIMES):
        return
    try:
        runtime = machine.load("onnxruntime")
    except Exception as error:
        yield Check("ONNX Runtime", "error", f"does not import: {_first_line(error)}", "reinstall it with NumPy")
        return
    value = Value("x", np.float32, (4,))
    model = one_node_model("Add", [value], Value("y", np.float32, (4,)), {"one": np.ones(4, np.float32)})
    for provider in runtime.get_available_providers():
        yield _provider(runtime, provider, model)


def _provider(runtime: Any, provider: str, model: bytes) -> Check:
    name = provider.removesuffix("ExecutionProvider") + " provider"
    remedy = "check the GPU's driver, CUDA and cuDNN" if "CUDA" in provider or "Tensorrt" in provider else None
    try:
        options = runtime.SessionOptions()
        options.log_severity_level = 4
        session = runtime.InferenceSession(model, options, providers=[provider])
        (got,) = session.run(None, {"x": np.arange(4, dtype=np.float32)})
    except Exception as error:
        return Check(name, "warning", f"installed, but does not run: {_first_line(error)}", remedy)
    if provider not in session.get_providers():
        return Check(name, "warning", "installed, but falls back to the CPU", remedy)
    if not np.array_equal(got, np.arange(1, 5, dtype=np.float32)):
        return Check(name, "error", "runs, and adds wrongly", "do not use it")
    return Check(name, "ok", "runs")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


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


# --- the machine ---


def _gpu(machine: Machine) -> Iterator[Check]:
    """Through the driver's own library: no tool has to be installed."""
    try:
        driver = machine.library("libcuda.so.1")
    except OSError:
        yield Check("GPU", "note", "no NVIDIA driver", "fine for the CPU; else install NVIDIA's driver")
        return
    if code := driver.cuInit(0):
        yield Check("GPU", "warning", f"the driver is there and does not start (error {code})", "check nvidia-smi")
        return
    version = ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(version))
    major, minor = version.value // 1000, version.value % 1000 // 10
    count = ctypes.c_int()
    driver.cuDeviceGetCount(ctypes.byref(count))
    for index in range(count.value):
        yield Check(f"GPU {index}", "ok", _device(driver, index))
    told = f"the driver serves CUDA {major}.{minor}"
    wanted = _cuda_of_runtime(machine)
    if wanted and major < _number(wanted)[0]:
        yield Check("CUDA", "error", f"{told}, this onnxruntime-gpu needs {wanted}", "install a newer NVIDIA driver")
    elif machine.version("tensorrt-rtx-cu13") and major < 13:
        yield Check("CUDA", "warning", f"{told}, tensorrt-rtx-cu13 needs CUDA 13", "install a newer NVIDIA driver")
    else:
        yield Check("CUDA", "ok", told)
    if count.value and not machine.version("onnxruntime-gpu"):
        yield Check("GPU use", "note", "ONNX Runtime is the CPU build", "install flowtron-fte[gpu] in place of [cpu]")


def _cuda_of_runtime(machine: Machine) -> str:
    """The CUDA version that the installed ONNX Runtime was built for, by its own build information; "" for none."""
    if not machine.version("onnxruntime-gpu"):
        return ""
    try:
        return str(getattr(machine.load("onnxruntime"), "cuda_version", None) or "")
    except Exception:  # `_providers` reports it
        return ""


def _device(driver: Any, index: int) -> str:
    handle, name, size = ctypes.c_int(), ctypes.create_string_buffer(256), ctypes.c_size_t()
    driver.cuDeviceGet(ctypes.byref(handle), index)
    driver.cuDeviceGetName(name, len(name), handle)
    driver.cuDeviceTotalMem_v2(ctypes.byref(size), handle)
    capability = []
    for attribute in (75, 76):  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
        value = ctypes.c_int()
        driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, handle)
        capability.append(str(value.value))
    told = name.value.decode("utf-8", "replace")
    return f"{told}, compute capability {'.'.join(capability)}, {size.value / 2**30:.0f} GiB"


def _cpu(machine: Machine) -> Iterator[Check]:
    try:
        text = machine.read("/proc/cpuinfo")
    except OSError:
        yield Check("CPU", "note", platform.processor() or "unknown")
        return
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = set((re.search(r"^flags\s*:\s*(.+)$", text, re.MULTILINE) or ["", ""])[1].split())
    known = {"avx2": "AVX2", "avx512_vnni": "AVX-512 VNNI", "avx_vnni": "AVX VNNI", "amx_int8": "AMX"}
    have = [shown for flag, shown in known.items() if flag in flags]
    told = f"{name[1].strip() if name else platform.machine()}: {', '.join(have) or 'no extension that int8 uses'}"
    if {"avx512_vnni", "avx_vnni", "amx_int8"} & flags or not flags:
        yield Check("CPU", "ok", told)
    else:
        yield Check("CPU", "note", told, "int8 is slower without VNNI: compare with --precision fp32")


def _cores(machine: Machine) -> Iterator[Check]:
    quota = _quota(machine)
    told = f"{machine.cores} of {machine.all_cores} allowed" + (f", a quota of {quota:.1f}" if quota else "")
    if quota and quota < machine.cores:
        remedy = f"give --threads {max(1, int(quota))}: more threads than the quota wait for each other"
        yield Check("cores", "warning", told, remedy)
    else:
        yield Check("cores", "ok", told)


def _quota(machine: Machine) -> float | None:
    """Cores that the control group grants (cgroup v2 cpu.max, in microseconds a period), None without a limit."""
    try:
        limit, period = machine.read("/sys/fs/cgroup/cpu.max").split()
    except (OSError, ValueError):
        return None
    return None if limit == "max" else int(limit) / int(period)


def _memory(machine: Machine) -> Iterator[Check]:
    try:
        text = machine.read("/proc/meminfo")
    except OSError:
        yield Check("memory", "note", "this system does not tell")
        return
    found = re.search(r"^MemAvailable:\s*(\d+) kB", text, re.MULTILINE)
    free = int(found[1]) / 2**20 if found else float("nan")
    try:
        limit = int(machine.read("/sys/fs/cgroup/memory.max")) - int(machine.read("/sys/fs/cgroup/memory.current"))
        free = min(free, limit / 2**30)
    except (OSError, ValueError):
        pass
    told = f"{free:.1f} GiB free"
    for precision, needed in MEMORY_GIB.items():
        if free < needed:
            remedy = f"a published voice takes about {needed:g} GiB in {precision}: close something"
            yield Check("memory", "warning", told, remedy)
            return
    yield Check("memory", "ok", told)


def _cache(machine: Machine) -> Iterator[Check]:
    """The folder must take a file, which is removed again."""
    remedy = "set XDG_CACHE_HOME to a folder that you may write"
    try:
        machine.cache.mkdir(parents=True, exist_ok=True)
        probe = machine.cache / f".probe-{secrets.token_hex(8)}"
        probe.write_bytes(b"fte")
        probe.unlink()
        free = shutil.disk_usage(machine.cache).free / 2**20
    except OSError as error:
        yield Check("cache", "error", f"{machine.cache}: {error.strerror or error}", remedy)
        return
    told = f"{machine.cache}, {free / 1024:.1f} GiB free"
    yield Check("cache", "warning", told, remedy) if free < _CACHE_MIB else Check("cache", "ok", told)


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
    styles = {"ok": "green", "note": "blue", "warning": "yellow", "error": "red"}
    table = Table(show_header=False, box=None)
    for column in ("status", "name", "found"):
        table.add_column(column, no_wrap=column != "found")
    for check in checks:
        found = check.found if check.remedy is None else f"{check.found}\n-> {check.remedy}"
        table.add_row(check.status, check.name, found, style=styles[check.status] if check.status != "ok" else None)
    return table
