"""The CUDA driver API as plain functions on integers: over `cuda-bindings`, or over `pycuda`.

`fte.backends.cuda` makes objects of these handles and sees that none is used wrongly. Sizes are in bytes.
"""

import ctypes
import importlib.util
import threading
from collections.abc import Callable
from typing import Any, Protocol

from fte.errors import BackendError, OutOfMemoryError

DRIVERS = ("pycuda", "cuda-bindings")
LEAST_VERSION = (12, 0)
"""Oldest CUDA version that a driver may support: graphs are instantiated as of 12.0."""


class CudaError(BackendError):
    """CUDA cannot do what was asked, or was asked for what makes no sense."""


class Driver(Protocol):
    """What the layer needs of CUDA. A context is current in the calling thread before every call but the first six."""

    name: str
    graphs: bool
    """Whether streams can be captured."""

    def version(self) -> tuple[int, int]: ...
    def device_count(self) -> int: ...
    def device_name(self, index: int) -> str: ...
    def compute_capability(self, index: int) -> tuple[int, int]: ...
    def retain_context(self, index: int) -> int: ...
    def release_context(self, index: int) -> None: ...

    def make_current(self, context: int) -> None: ...
    def memory(self) -> tuple[int, int]: ...
    def allocate(self, size: int) -> int: ...
    def free(self, pointer: int) -> None: ...
    def allocate_pinned(self, size: int) -> int: ...
    def free_pinned(self, pointer: int) -> None: ...

    def create_stream(self) -> int: ...
    def destroy_stream(self, stream: int) -> None: ...
    def synchronize_stream(self, stream: int) -> None: ...
    def create_event(self, timing: bool) -> int: ...
    def destroy_event(self, event: int) -> None: ...
    def record(self, event: int, stream: int) -> None: ...
    def wait(self, stream: int, event: int) -> None: ...
    def synchronize_event(self, event: int) -> None: ...
    def event_done(self, event: int) -> bool: ...
    def elapsed_ms(self, start: int, stop: int) -> float: ...

    def copy_to_device(self, target: int, source: int, size: int, stream: int) -> None: ...
    def copy_to_host(self, target: int, source: int, size: int, stream: int) -> None: ...
    def copy_on_device(self, target: int, source: int, size: int, stream: int) -> None: ...
    def fill(self, target: int, value: int, size: int, stream: int) -> None: ...

    def begin_capture(self, stream: int) -> None: ...
    def end_capture(self, stream: int) -> int:
        """The captured work, ready to be launched."""
        ...

    def launch(self, graph: int, stream: int) -> None: ...
    def destroy_graph(self, graph: int) -> None: ...


def open_driver(name: str | None = None) -> Driver:
    """The driver of that name, or pycuda where it is installed and else cuda-bindings.

    Raises CudaError where none is installed, where there is no GPU or no driver for it, or where that is too old.
    """
    if name is not None and name not in DRIVERS:
        raise CudaError(f"the CUDA driver package {name!r} is unknown: choose one of {', '.join(DRIVERS)}")
    makers: dict[str, tuple[str, Callable[[], Driver]]] = {
        "pycuda": ("pycuda", PycudaDriver),
        "cuda-bindings": ("cuda.bindings", BindingsDriver),
    }
    for candidate in DRIVERS if name is None else (name,):
        module, make = makers[candidate]
        if _installed(module):
            return _checked(make())
    wanted = " or ".join(DRIVERS) if name is None else name
    raise CudaError(f"using the GPU needs the package {wanted}: pip install cuda-bindings")


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a parent package is not there
        return False


def _checked(driver: Driver) -> Driver:
    if driver.version() < LEAST_VERSION:
        have, least = (".".join(map(str, version)) for version in (driver.version(), LEAST_VERSION))
        raise CudaError(f"the NVIDIA driver supports CUDA {have} at most and {least} is needed: update the driver")
    if driver.device_count() == 0:
        raise CudaError("the NVIDIA driver finds no GPU: check nvidia-smi and CUDA_VISIBLE_DEVICES")
    return driver


def _no_driver(error: BaseException) -> CudaError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].split(". ")[0][:200]
    return CudaError(f"the NVIDIA driver cannot be used ({reason}): install it, or choose device 'cpu'")


class BindingsDriver:
    """CUDA's driver API through NVIDIA's own `cuda-bindings`."""

    graphs = True

    def __init__(self) -> None:
        try:
            from cuda.bindings import driver

            self._api = driver
            self._call("cuInit", 0)
        except CudaError:
            raise
        except Exception as error:  # a missing libcuda is told of by various classes
            raise _no_driver(error) from error
        self.name = "cuda-bindings"

    def _call(self, function: str, *arguments: Any) -> Any:
        """Call the API: what it gives besides its status, nothing for nothing and one thing by itself."""
        status, *results = getattr(self._api, function)(*arguments)
        if status != self._api.CUresult.CUDA_SUCCESS:
            if status == self._api.CUresult.CUDA_ERROR_OUT_OF_MEMORY:
                raise OutOfMemoryError("the GPU has no memory left: give fewer or shorter texts at once")
            raise CudaError(f"{function} failed: {getattr(status, 'name', status)}")
        return results[0] if len(results) == 1 else tuple(results)

    def version(self) -> tuple[int, int]:
        number = int(self._call("cuDriverGetVersion"))
        return number // 1000, number % 1000 // 10

    def device_count(self) -> int:
        return int(self._call("cuDeviceGetCount"))

    def _device(self, index: int) -> Any:
        return self._call("cuDeviceGet", index)

    def device_name(self, index: int) -> str:
        name: bytes = self._call("cuDeviceGetName", 256, self._device(index))
        return name.split(b"\0")[0].decode("ascii", "replace")

    def compute_capability(self, index: int) -> tuple[int, int]:
        attributes = self._api.CUdevice_attribute
        wanted = (
            attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
            attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
        )
        major, minor = (int(self._call("cuDeviceGetAttribute", a, self._device(index))) for a in wanted)
        return major, minor

    def retain_context(self, index: int) -> int:
        return int(self._call("cuDevicePrimaryCtxRetain", self._device(index)))

    def release_context(self, index: int) -> None:
        self._call("cuDevicePrimaryCtxRelease", self._device(index))

    def make_current(self, context: int) -> None:
        self._call("cuCtxSetCurrent", context)

    def memory(self) -> tuple[int, int]:
        free, total = self._call("cuMemGetInfo")
        return int(free), int(total)

    def allocate(self, size: int) -> int:
        return int(self._call("cuMemAlloc", size))

    def free(self, pointer: int) -> None:
        self._call("cuMemFree", pointer)

    def allocate_pinned(self, size: int) -> int:
        return int(self._call("cuMemHostAlloc", size, 0))

    def free_pinned(self, pointer: int) -> None:
        self._call("cuMemFreeHost", pointer)

    def create_stream(self) -> int:
        return int(self._call("cuStreamCreate", int(self._api.CUstream_flags.CU_STREAM_NON_BLOCKING)))

    def destroy_stream(self, stream: int) -> None:
        self._call("cuStreamDestroy", stream)

    def synchronize_stream(self, stream: int) -> None:
        self._call("cuStreamSynchronize", stream)

    def create_event(self, timing: bool) -> int:
        flags = self._api.CUevent_flags
        return int(
            self._call("cuEventCreate", int(flags.CU_EVENT_DEFAULT if timing else flags.CU_EVENT_DISABLE_TIMING))
        )

    def destroy_event(self, event: int) -> None:
        self._call("cuEventDestroy", event)

    def record(self, event: int, stream: int) -> None:
        self._call("cuEventRecord", event, stream)

    def wait(self, stream: int, event: int) -> None:
        self._call("cuStreamWaitEvent", stream, event, 0)

    def synchronize_event(self, event: int) -> None:
        self._call("cuEventSynchronize", event)

    def event_done(self, event: int) -> bool:
        (status,) = self._api.cuEventQuery(event)
        if status not in (self._api.CUresult.CUDA_SUCCESS, self._api.CUresult.CUDA_ERROR_NOT_READY):
            raise CudaError(f"cuEventQuery failed: {getattr(status, 'name', status)}")
        return bool(status == self._api.CUresult.CUDA_SUCCESS)

    def elapsed_ms(self, start: int, stop: int) -> float:
        return float(self._call("cuEventElapsedTime", start, stop))

    def copy_to_device(self, target: int, source: int, size: int, stream: int) -> None:
        self._call("cuMemcpyHtoDAsync", target, source, size, stream)

    def copy_to_host(self, target: int, source: int, size: int, stream: int) -> None:
        self._call("cuMemcpyDtoHAsync", target, source, size, stream)

    def copy_on_device(self, target: int, source: int, size: int, stream: int) -> None:
        self._call("cuMemcpyDtoDAsync", target, source, size, stream)

    def fill(self, target: int, value: int, size: int, stream: int) -> None:
        self._call("cuMemsetD8Async", target, value, size, stream)

    def begin_capture(self, stream: int) -> None:
        # only this thread's calls are held against the capture: others may allocate meanwhile
        self._call("cuStreamBeginCapture", stream, self._api.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)

    def end_capture(self, stream: int) -> int:
        graph = self._call("cuStreamEndCapture", stream)
        try:
            return int(self._call("cuGraphInstantiate", graph, 0))
        finally:
            self._call("cuGraphDestroy", graph)

    def launch(self, graph: int, stream: int) -> None:
        self._call("cuGraphLaunch", graph, stream)

    def destroy_graph(self, graph: int) -> None:
        self._call("cuGraphExecDestroy", graph)


class PycudaDriver:
    """CUDA through `pycuda`, whose objects are kept by their handles; it has no graphs, which `cuda-bindings` adds.

    pycuda keeps a stack of contexts for each thread and ends the program where one is left on it, so the context is
    pushed for each call and popped after it.
    """

    def __init__(self) -> None:
        try:
            import pycuda.driver

            self._api = pycuda.driver
            self._api.init()
        except Exception as error:  # a missing libcuda is told of by various classes
            raise _no_driver(error) from error
        self.name = "pycuda"
        self._bindings = BindingsDriver() if _installed("cuda.bindings") else None
        self.graphs = self._bindings is not None
        self._objects: dict[int, Any] = {}
        self._current = threading.local()

    def _keep(self, handle: int, thing: Any) -> int:
        self._objects[handle] = thing
        return handle

    def _do(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Call within this thread's context. Raises CudaError in pycuda's words."""
        self._objects[self._current.context].push()
        try:
            return call(*arguments)
        except self._api.MemoryError as error:
            raise OutOfMemoryError("the GPU has no memory left: give fewer or shorter texts at once") from error
        except self._api.Error as error:
            raise CudaError(f"pycuda failed: {error}") from error
        finally:
            self._api.Context.pop()

    def version(self) -> tuple[int, int]:
        number = int(self._api.get_driver_version())
        return number // 1000, number % 1000 // 10

    def device_count(self) -> int:
        return int(self._api.Device.count())

    def device_name(self, index: int) -> str:
        return str(self._api.Device(index).name())

    def compute_capability(self, index: int) -> tuple[int, int]:
        major, minor = self._api.Device(index).compute_capability()
        return major, minor

    def retain_context(self, index: int) -> int:
        context = self._api.Device(index).retain_primary_context()
        return self._keep(id(context), context)

    def release_context(self, index: int) -> None:
        """pycuda lets the context go with its objects."""

    def make_current(self, context: int) -> None:
        self._current.context = context

    def memory(self) -> tuple[int, int]:
        free, total = self._do(self._api.mem_get_info)
        return free, total

    def allocate(self, size: int) -> int:
        memory = self._do(self._api.mem_alloc, size)
        return self._keep(int(memory), memory)

    def free(self, pointer: int) -> None:
        self._do(self._objects.pop(pointer).free)

    def allocate_pinned(self, size: int) -> int:
        array = self._do(self._api.pagelocked_empty, size, "uint8")
        return self._keep(array.ctypes.data, array)

    def free_pinned(self, pointer: int) -> None:
        self._do(self._objects.pop(pointer).base.free)

    def create_stream(self) -> int:
        stream = self._do(self._api.Stream, 1)  # CU_STREAM_NON_BLOCKING
        return self._keep(int(stream.handle), stream)

    def destroy_stream(self, stream: int) -> None:
        self._do(self._objects.pop, stream)

    def synchronize_stream(self, stream: int) -> None:
        self._do(self._objects[stream].synchronize)

    def create_event(self, timing: bool) -> int:
        event = self._do(self._api.Event, 0 if timing else self._api.event_flags.DISABLE_TIMING)
        return self._keep(id(event), event)

    def destroy_event(self, event: int) -> None:
        self._do(self._objects.pop, event)

    def record(self, event: int, stream: int) -> None:
        self._do(self._objects[event].record, self._objects[stream])

    def wait(self, stream: int, event: int) -> None:
        self._do(self._objects[stream].wait_for_event, self._objects[event])

    def synchronize_event(self, event: int) -> None:
        self._do(self._objects[event].synchronize)

    def event_done(self, event: int) -> bool:
        return bool(self._do(self._objects[event].query))

    def elapsed_ms(self, start: int, stop: int) -> float:
        return float(self._do(self._objects[stop].time_since, self._objects[start]))

    def copy_to_device(self, target: int, source: int, size: int, stream: int) -> None:
        self._do(self._api.memcpy_htod_async, target, _host(source, size), self._objects[stream])

    def copy_to_host(self, target: int, source: int, size: int, stream: int) -> None:
        self._do(self._api.memcpy_dtoh_async, _host(target, size), source, self._objects[stream])

    def copy_on_device(self, target: int, source: int, size: int, stream: int) -> None:
        self._do(self._api.memcpy_dtod_async, target, source, size, self._objects[stream])

    def fill(self, target: int, value: int, size: int, stream: int) -> None:
        self._do(self._api.memset_d8_async, target, value, size, self._objects[stream])

    def _graph_api(self) -> "BindingsDriver":
        if self._bindings is None:
            raise CudaError("pycuda has no CUDA graphs: pip install cuda-bindings beside it")
        return self._bindings

    def begin_capture(self, stream: int) -> None:
        self._do(self._graph_api().begin_capture, stream)

    def end_capture(self, stream: int) -> int:
        return int(self._do(self._graph_api().end_capture, stream))

    def launch(self, graph: int, stream: int) -> None:
        self._do(self._graph_api().launch, graph, stream)

    def destroy_graph(self, graph: int) -> None:
        self._do(self._graph_api().destroy_graph, graph)


def _host(pointer: int, size: int) -> Any:
    """Host memory at an address, as what pycuda copies from and to."""
    return (ctypes.c_ubyte * size).from_address(pointer)
