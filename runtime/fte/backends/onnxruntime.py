"""Graphs through ONNX Runtime: on the CPU, or on a GPU through its CUDA or its TensorRT provider."""

import contextlib
import functools
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fte.backends.base import BLOCK_FRAMES, SYMBOL_MULTIPLE, Array, Graph, GraphFiles, Loop, Usage
from fte.backends.bound_loop import BoundLoops, Place, failure
from fte.backends.int8_sums import EXACT, INT8_SUMS, PRECISE_OPTION, has_products, needs_mark, saturates
from fte.backends.tiny_graph import Value, one_node_model
from fte.errors import BackendError, import_fault
from fte.files import cache_folder

if TYPE_CHECKING:
    import onnxruntime

DEVICES = ("auto", "cpu", "cuda")

_SPIN_MICROSECONDS = "150"
"""How long an idle thread waits awake. Each graph has its own threads: by default those of the last graph would hold a
core for tens of milliseconds after it, while the next one runs."""

_TENSORRT_PROVIDER = "TensorrtExecutionProvider"
_CUDA_PROVIDER = "CUDAExecutionProvider"
_CPU_PROVIDER = "CPUExecutionProvider"
_saturates = functools.cache(saturates)


class OnnxRuntimeBackend(GraphFiles):
    """Runs graphs with ONNX Runtime.

    device: "cpu", "cuda" (an error where ONNX Runtime has no usable CUDA provider), or "auto" (cuda where its provider
    computes a tiny graph, else cpu; `description` says which). threads: of one operator; None takes every core the
    process may use. block_frames: see `GraphFiles`; by default `BLOCK_FRAMES` on a GPU and single frames on a CPU,
    where they are as fast. On a GPU, cuda_graphs captures the blocks of frames as CUDA graphs, and tensorrt lets ONNX
    Runtime's TensorRT provider take what it can; its engines are kept in the cache.
    Raises BackendError.
    """

    def __init__(
        self,
        device: str = "auto",
        threads: int | None = None,
        *,
        block_frames: int | None = None,
        cuda_graphs: bool = False,
        tensorrt: bool = False,
    ) -> None:
        if device not in DEVICES:
            raise BackendError(f"device {device!r} is unknown: choose one of {', '.join(DEVICES)}")
        if threads is not None and not 1 <= threads <= 1024:
            raise BackendError(f"threads is {threads}: choose a number from 1 to 1024")
        self._ort = _import_onnxruntime()
        if device == "cuda":
            self._demand(_CUDA_PROVIDER)
        on_gpu = device == "cuda" or (device == "auto" and _computes(self._ort, _CUDA_PROVIDER))
        if (tensorrt or cuda_graphs) and not on_gpu:
            raise BackendError("ONNX Runtime's TensorRT provider and CUDA graphs need a GPU: choose device 'cuda'")
        if tensorrt:
            self._demand(_TENSORRT_PROVIDER)
        self.device = "cuda" if on_gpu else "cpu"
        self.threads = threads or len(os.sched_getaffinity(0))
        self.block_frames = (BLOCK_FRAMES if on_gpu else 0) if block_frames is None else block_frames
        self.symbol_multiple = SYMBOL_MULTIPLE if on_gpu else 1
        self._cuda_graphs, self._tensorrt = cuda_graphs, tensorrt

    def _demand(self, provider: str) -> None:
        available = self._ort.get_available_providers()
        if provider not in available:
            name = "TensorRT" if provider == _TENSORRT_PROVIDER else "CUDA"
            raise BackendError(
                f"device 'cuda' needs ONNX Runtime's {name} provider and this onnxruntime {self._ort.__version__} has "
                f"only {', '.join(available)}: install flowtron-fte[gpu] in place of flowtron-fte[cpu]"
            )

    @property
    def description(self) -> str:
        provider = " through its TensorRT provider" if self._tensorrt else ""
        provider += " with CUDA graphs" if self._cuda_graphs else ""
        return f"ONNX Runtime {self._ort.__version__} on {self.device}{provider}, {self.threads} threads"

    def usage(self) -> Usage | None:
        return None

    def load(self, path: Path) -> Graph:
        options = self._ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.spin_duration_us", _SPIN_MICROSECONDS)
        cuda_graphs = self._cuda_graphs and "_block_" in path.name
        try:
            model = path.read_bytes()
            if cut_off := has_products(model) and _saturates(self._ort):
                options.add_session_config_entry(*PRECISE_OPTION)
            if self.device == "cuda":
                _preload(self._ort)
            with _own_file(path) if has_products(model) else contextlib.nullcontext(path) as file:
                session = self._ort.InferenceSession(str(file), options, providers=self._providers(cuda_graphs))
        except Exception as error:  # ONNX Runtime raises several unrelated classes
            raise BackendError(f"ONNX Runtime cannot load {path.name}: {_first_line(error)}") from error
        if cut_off and needs_mark(model) and session.get_modelmeta().custom_metadata_map.get(INT8_SUMS) != EXACT:
            raise BackendError(
                f"{path.name} is of an older export, whose int8 sums are cut off on this CPU, which has no VNNI: "
                "export the voice again, or speak with precision 'fp32' or backend 'native'"
            )
        if self.device == "cuda" and _CUDA_PROVIDER not in session.get_providers():
            raise BackendError("ONNX Runtime's CUDA provider failed to start: check the GPU's driver, CUDA and cuDNN")
        return _Session(session, path.name, Place(self.device, cuda_graphs=cuda_graphs))

    def _providers(self, cuda_graphs: bool) -> list[Any]:
        if self.device == "cpu":
            return [_CPU_PROVIDER]
        cuda = (_CUDA_PROVIDER, {"use_tf32": "0", "enable_cuda_graph": str(int(cuda_graphs))})
        if not self._tensorrt:
            return [cuda, _CPU_PROVIDER]
        cache = cache_folder() / "onnxruntime-tensorrt"
        cache.mkdir(parents=True, exist_ok=True)
        options = {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(cache),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(cache),
            "trt_cuda_graph_enable": str(int(cuda_graphs)),
        }
        return [(_TENSORRT_PROVIDER, options), cuda, _CPU_PROVIDER]


class _Session:
    """A loaded graph."""

    def __init__(self, session: "onnxruntime.InferenceSession", name: str, place: Place) -> None:
        self._session, self._name = session, name
        self._loops = BoundLoops(session, name, place)
        self.input_names = [value.name for value in session.get_inputs()]
        self.output_names = [value.name for value in session.get_outputs()]

    def run(self, outputs: Sequence[str], inputs: Mapping[str, Array]) -> list[Array]:
        try:
            return list(self._session.run(outputs, inputs))
        except Exception as error:  # ONNX Runtime raises several unrelated classes
            raise failure(self._name, error) from error

    def loop(self, frames: int, inputs: Mapping[str, Array], timed: Mapping[str, Array]) -> Loop:
        return self._loops.start(frames, inputs, timed)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300]


def _computes(ort: Any, provider: str) -> bool:
    """Whether a provider is there and computes a tiny graph: one that is listed may lack its libraries or a GPU."""
    if provider not in ort.get_available_providers():
        return False
    value = Value("x", np.float32, (1,))
    model = one_node_model("Neg", [value], Value("y", np.float32, (1,)), {})
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if provider != _CPU_PROVIDER:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        _preload(ort)
        session = ort.InferenceSession(model, options, providers=[provider], enable_fallback=0)
        return bool(session.run(["y"], {"x": np.ones(1, np.float32)})[0][0] == -1)
    except Exception:  # ONNX Runtime raises several unrelated classes
        return False


def _preload(ort: Any) -> None:
    """Load CUDA and cuDNN from their Python packages where they are installed as such."""
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()


@contextlib.contextmanager
def _own_file(path: Path) -> Iterator[Path]:
    """A graph whose weights the body of a Scan reads, in a place where their file has one name alone.

    ONNX Runtime refuses such weights in a file with several hard links, which package managers and backups make.
    """
    weights = path.with_suffix(".bin")
    if not weights.is_file() or weights.stat().st_nlink == 1:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="fte-") as folder:
        for file in (path, weights):
            shutil.copyfile(file, Path(folder) / file.name)
        yield Path(folder) / path.name


def _import_onnxruntime() -> "onnxruntime":
    try:
        import onnxruntime
    except ImportError as error:
        missing = "ONNX Runtime is not installed: install flowtron-fte[cpu], or flowtron-fte[gpu] for an NVIDIA GPU"
        raise BackendError(import_fault(error, ["onnxruntime"], missing)) from error
    return onnxruntime
