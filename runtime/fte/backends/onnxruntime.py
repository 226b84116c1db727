"""Graphs through ONNX Runtime, on the CPU or through its CUDA provider."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fte.backends.base import Array, Graph, Loop
from fte.backends.loops import HostLoop
from fte.errors import BackendError

if TYPE_CHECKING:
    import onnxruntime

DEVICES = ("auto", "cpu", "cuda")

_SPIN_MICROSECONDS = "150"
"""How long an idle thread waits awake. Each graph has its own threads: by default those of the last graph would hold a
core for tens of milliseconds after it, while the next one runs."""

_CUDA_PROVIDER = "CUDAExecutionProvider"
_CPU_PROVIDER = "CPUExecutionProvider"


class OnnxRuntimeBackend:
    """Runs graphs with ONNX Runtime.

    device: "cpu", "cuda" (an error where ONNX Runtime has no usable CUDA provider), or "auto" (cuda where the provider
    is installed, else cpu; `description` says which). threads: of one operator; None takes every core the process may
    use. block_frames: see `Backend`; on a CPU single frames are as fast. Raises BackendError.
    """

    def __init__(self, device: str = "auto", threads: int | None = None, block_frames: int = 0) -> None:
        if device not in DEVICES:
            raise BackendError(f"device {device!r} is unknown: choose one of {', '.join(DEVICES)}")
        if threads is not None and not 1 <= threads <= 1024:
            raise BackendError(f"threads is {threads}: choose a number from 1 to 1024")
        self._ort = _import_onnxruntime()
        available = self._ort.get_available_providers()
        if device == "cuda" and _CUDA_PROVIDER not in available:
            raise BackendError(
                f"device 'cuda' needs ONNX Runtime's CUDA provider and this onnxruntime {self._ort.__version__} has "
                f"only {', '.join(available)}: install flowtron-fte[gpu] in place of flowtron-fte[cpu]"
            )
        self.device = "cuda" if device != "cpu" and _CUDA_PROVIDER in available else "cpu"
        self.block_frames = block_frames
        self.threads = threads or len(os.sched_getaffinity(0))

    @property
    def description(self) -> str:
        return f"ONNX Runtime {self._ort.__version__} on {self.device}, {self.threads} threads"

    def load(self, path: Path) -> Graph:
        options = self._ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.spin_duration_us", _SPIN_MICROSECONDS)
        providers = [_CUDA_PROVIDER, _CPU_PROVIDER] if self.device == "cuda" else [_CPU_PROVIDER]
        try:
            session = self._ort.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # ONNX Runtime raises several unrelated classes
            reason = str(error).strip().splitlines()[0][:300]
            raise BackendError(f"ONNX Runtime cannot load {path.name}: {reason}") from error
        if self.device == "cuda" and _CUDA_PROVIDER not in session.get_providers():
            raise BackendError("ONNX Runtime's CUDA provider failed to start: check the GPU's driver, CUDA and cuDNN")
        return _Session(session, path.name)


class _Session:
    """A loaded graph."""

    def __init__(self, session: "onnxruntime.InferenceSession", name: str) -> None:
        self._session, self._name = session, name
        self.input_names = [value.name for value in session.get_inputs()]
        self.output_names = [value.name for value in session.get_outputs()]

    def run(self, outputs: Sequence[str], inputs: Mapping[str, Array]) -> list[Array]:
        try:
            return list(self._session.run(outputs, inputs))
        except Exception as error:  # ONNX Runtime raises several unrelated classes
            raise BackendError(f"{self._name} failed: {str(error).strip().splitlines()[0][:300]}") from error

    def loop(self, frames: int, inputs: Mapping[str, Array], timed: Mapping[str, Array]) -> Loop:
        return HostLoop(self, frames, inputs, timed)


def _import_onnxruntime() -> "onnxruntime":
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendError(
            "ONNX Runtime is not installed: install flowtron-fte[cpu], or flowtron-fte[gpu] for an NVIDIA GPU"
        ) from error
    return onnxruntime
