"""Backends run graphs; none knows speech."""

from pathlib import Path

from fte.backends.base import Backend, Graph
from fte.backends.onnxruntime import OnnxRuntimeBackend
from fte.bundle import Bundle
from fte.errors import BackendError

__all__ = ["BACKENDS", "Backend", "Graph", "OnnxRuntimeBackend", "open_backend"]

BACKENDS = ("auto", "native", "onnxruntime", "onnxruntime-graphs", "onnxruntime-tensorrt", "tensorrt")
"""native is the engine in C++; ONNX Runtime by itself, with blocks of frames captured as CUDA graphs, and with its
TensorRT provider; tensorrt runs the engines of `fte build`."""


def open_backend(
    bundle: Bundle,
    name: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    *,
    trust_engines: Path | None = None,
) -> Backend:
    """The backend of that name for a bundle; "auto" is ONNX Runtime, on the GPU where it computes there.

    trust_engines: a folder of engines to take instead of those in the user's cache; loading an engine runs code in it.
    Raises BackendError where the backend or its device cannot be used here: nothing else is taken in its place.
    """
    if name not in BACKENDS:
        raise BackendError(f"backend {name!r} is unknown: choose one of {', '.join(BACKENDS)}")
    if trust_engines is not None and name != "tensorrt":
        raise BackendError("trust_engines is for engines: choose backend 'tensorrt' with it")
    if name == "native":
        if device == "cuda":
            raise BackendError(
                "the native engine runs on the CPU here: leave device 'cuda' out, or choose another backend"
            )
        from fte.backends.native import NativeBackend

        return NativeBackend(threads)
    if name == "tensorrt":
        if device == "cpu":
            raise BackendError("TensorRT engines run on a GPU: leave device 'cpu' out, or choose backend 'onnxruntime'")
        return _open_tensorrt(bundle, trust_engines)
    if name in ("onnxruntime-graphs", "onnxruntime-tensorrt"):
        if device == "cpu":
            raise BackendError(
                f"backend {name!r} runs on a GPU: leave device 'cpu' out, or choose backend 'onnxruntime'"
            )
        graphs = name == "onnxruntime-graphs"
        return OnnxRuntimeBackend("cuda", threads, cuda_graphs=graphs, tensorrt=not graphs)
    return OnnxRuntimeBackend(device, threads)


def _open_tensorrt(bundle: Bundle, folder: Path | None) -> Backend:
    from fte.backends.cuda import Device
    from fte.backends.engines import EngineStore
    from fte.backends.tensorrt import Engine, TensorRtBackend
    from fte.backends.trt_library import find_library

    library, store = find_library(), EngineStore(folder)
    device = Device()
    targets = (f"sm_{device.compute_capability[0]}{device.compute_capability[1]}", device.name)

    def open_engine(path: Path) -> Engine:
        built = store.find(bundle, path.name, library.name, library.version, targets)
        device.use()  # the library takes the context that is current in this thread
        return library.open_engine(built.read(), path.name)

    try:
        frames = store.block_frames(bundle, library.name, library.version, targets)
    except BackendError:
        device.close()
        raise
    return TensorRtBackend(device, open_engine, library.description, frames)
