"""Memory, streams, events and graphs of one GPU, as objects that refuse to be used wrongly.

Work is enqueued on streams and done in their order; the host waits only where `synchronize` is called. Closing twice,
using what is closed, and mixing devices are errors. What is forgotten is given back when its object goes, or when its
device is closed.
"""

import ctypes
import math
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from fte.backends.cuda_drivers import CudaError, Driver, open_driver

__all__ = ["Capture", "CudaError", "CudaGraph", "Device", "DeviceArray", "Event", "PinnedArray", "Stream"]

MOST_BYTES = 1 << 40
"""No buffer is larger than this."""


class Device:
    """The GPU of an index, in its primary context, which PyTorch, ONNX Runtime and TensorRT use too.

    Raises CudaError where there is no such GPU, or no driver for it.
    """

    def __init__(self, index: int = 0, driver: Driver | None = None) -> None:
        self._driver = open_driver() if driver is None else driver
        count = self._driver.device_count()
        if not 0 <= index < count:
            raise CudaError(f"GPU {index} is not there: this machine has {count}, counted from 0")
        self.index = index
        self.name = self._driver.device_name(index)
        self.compute_capability = self._driver.compute_capability(index)
        self.driver_version = self._driver.version()
        """Newest CUDA version that the driver supports."""
        self.launches = 0
        """Copies, fills and CUDA graphs enqueued so far."""
        self._context = self._driver.retain_context(index)
        self._resources: weakref.WeakSet[_Resource] = weakref.WeakSet()
        self._finalizer = weakref.finalize(self, _quietly, self._driver.release_context, index)

    @property
    def closed(self) -> bool:
        return not self._finalizer.alive

    def use(self) -> Driver:
        """The driver, with this device's context current in this thread. Raises CudaError when closed."""
        if self.closed:
            raise CudaError(f"GPU {self.index} is closed: open it again")
        self._driver.make_current(self._context)
        return self._driver

    def memory(self) -> tuple[int, int]:
        """Free and total memory, bytes."""
        return self.use().memory()

    def stream(self) -> "Stream":
        """A new stream, which does not wait for the default one."""
        return Stream(self)

    def event(self, *, timing: bool = False) -> "Event":
        """A new event; with timing, the time between two of them can be told."""
        return Event(self, timing)

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> "DeviceArray":
        """Memory of the device, its values undefined. Raises OutOfMemoryError."""
        kind, size = _checked_size(shape, dtype)
        driver = self.use()
        pointer = driver.allocate(max(1, size))
        return DeviceArray(_Memory(self, "array", driver.free, pointer), pointer, shape, kind)

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> "PinnedArray":
        """Page-locked memory of the host, from and to which copies run by themselves. Raises OutOfMemoryError."""
        return PinnedArray(self, shape, dtype)

    def wrap(self, owner: Any) -> "DeviceArray":
        """An array over memory of this device that something else owns, by its ``__cuda_array_interface__``.

        ``owner`` is kept alive, and its memory is not freed. Raises CudaError where it is not contiguous.
        """
        interface = getattr(owner, "__cuda_array_interface__", None)
        if not isinstance(interface, dict):
            raise CudaError(f"{type(owner).__name__} has no __cuda_array_interface__: give an array on the GPU")
        shape, kind = tuple(interface["shape"]), np.dtype(interface["typestr"])
        strides = interface.get("strides")
        if strides is not None and tuple(strides) != _contiguous_strides(shape, kind.itemsize):
            raise CudaError(f"an array of shape {shape} has strides {tuple(strides)}: give a contiguous one")
        return DeviceArray(_Memory(self, "array", lambda _: None, owner), int(interface["data"][0]), shape, kind)

    def close(self) -> None:
        """Give everything of this device back that is still open, then its context. Raises CudaError when closed."""
        self.use()
        for resource in list(self._resources):
            if not resource.closed:
                resource.close()
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.closed:
            self.close()


class _Resource:
    """Something of a device that is given back once."""

    def __init__(self, device: Device, what: str, free: Callable[[Any], None], handle: Any) -> None:
        self.device, self._what = device, what
        self._finalizer = weakref.finalize(self, _give_back, weakref.ref(device), free, handle)
        device._resources.add(self)

    @property
    def closed(self) -> bool:
        return not self._finalizer.alive

    def close(self) -> None:
        """Give it back. Raises CudaError when that was done already."""
        self.check_open()
        self._finalizer()

    def check_open(self) -> None:
        if self.closed:
            raise CudaError(f"this {self._what} is closed: it cannot be used or closed again")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.closed:
            self.close()


class _Memory(_Resource):
    """An allocation, which arrays and their parts share."""


class DeviceArray:
    """A contiguous array in the memory of a device, or a part of one."""

    def __init__(
        self, memory: _Memory, pointer: int, shape: tuple[int, ...], dtype: np.dtype[Any], *, part: bool = False
    ) -> None:
        self._memory, self._pointer, self._part = memory, pointer, part
        self.shape, self.dtype = shape, dtype
        self.nbytes = math.prod(shape) * dtype.itemsize

    @property
    def device(self) -> Device:
        return self._memory.device

    @property
    def closed(self) -> bool:
        return self._memory.closed

    @property
    def pointer(self) -> int:
        """Address on the device. Raises CudaError when the array is closed."""
        self._memory.check_open()
        return self._pointer

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.pointer, False),
            "strides": None,
            "stream": None,
            "version": 3,
        }

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | slice) -> "DeviceArray":
        """Row i, or rows i to j, of the first axis: a part that is closed with its array."""
        if not self.shape:
            raise CudaError("an array without axes has no rows")
        row_bytes = self.nbytes // len(self) if len(self) else 0
        if isinstance(rows, slice):
            if rows.step not in (None, 1):
                raise CudaError(f"rows with a step of {rows.step} are not contiguous: take them with a step of 1")
            start, stop, _ = rows.indices(len(self))
            shape = (max(0, stop - start), *self.shape[1:])
        else:
            if not -len(self) <= rows < len(self):
                raise CudaError(f"row {rows} is not there: the array has {len(self)}")
            start, shape = rows % len(self), self.shape[1:]
        return DeviceArray(self._memory, self.pointer + start * row_bytes, shape, self.dtype, part=True)

    def reshape(self, *shape: int) -> "DeviceArray":
        """The same memory in another shape of as many values."""
        if math.prod(shape) != math.prod(self.shape):
            raise CudaError(f"an array of shape {self.shape} cannot have shape {shape}: give as many values")
        return DeviceArray(self._memory, self.pointer, shape, self.dtype, part=True)

    def close(self) -> None:
        """Free the memory. Raises CudaError when it is freed already, and for a part of an array."""
        if self._part:
            raise CudaError("a part of an array is closed with its array")
        self._memory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.closed:
            self.close()


class PinnedArray:
    """An array in page-locked memory of the host; the memory goes when the last numpy view of it does."""

    def __init__(self, device: Device, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        kind, size = _checked_size(shape, dtype)
        driver = device.use()
        pointer = driver.allocate_pinned(max(1, size))
        buffer = (ctypes.c_ubyte * max(1, size)).from_address(pointer)
        weakref.finalize(buffer, _give_back, weakref.ref(device), driver.free_pinned, pointer)
        self.device, self.pointer = device, pointer
        self.shape, self.dtype, self.nbytes = shape, kind, size
        self._array: npt.NDArray[Any] | None = np.ctypeslib.as_array(buffer)[:size].view(kind).reshape(shape)

    @property
    def array(self) -> npt.NDArray[Any]:
        """The memory as a numpy array. Raises CudaError when closed."""
        if self._array is None:
            raise CudaError("this pinned array is closed: it cannot be used or closed again")
        return self._array

    @property
    def closed(self) -> bool:
        return self._array is None

    def close(self) -> None:
        """Let go of the memory; copies to or from it must be done. Raises CudaError when closed."""
        self.array  # noqa: B018  (raises)
        self._array = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.closed:
            self.close()


class Event(_Resource):
    """A mark in the work of a stream."""

    def __init__(self, device: Device, timing: bool) -> None:
        driver = device.use()
        self._handle, self._timing = driver.create_event(timing), timing
        self._recorded = False
        super().__init__(device, "event", driver.destroy_event, self._handle)

    @property
    def handle(self) -> int:
        self.check_open()
        return self._handle

    def synchronize(self) -> None:
        """Wait until the work before the mark is done."""
        self.device.use().synchronize_event(self.handle)

    @property
    def done(self) -> bool:
        """Whether the work before the mark is done."""
        return self.device.use().event_done(self.handle)

    def elapsed_ms(self, start: "Event") -> float:
        """Milliseconds from ``start`` to this event. Raises CudaError where one has no timing or was never recorded."""
        if not (self._timing and start._timing and self._recorded and start._recorded):
            raise CudaError("time is told between two events made with timing=True that were both recorded")
        return self.device.use().elapsed_ms(start.handle, self.handle)


class CudaGraph(_Resource):
    """Captured work, launched as one."""

    def __init__(self, device: Device, handle: int) -> None:
        self._handle = handle
        super().__init__(device, "graph", device.use().destroy_graph, handle)

    def launch(self, stream: "Stream") -> None:
        """Enqueue the work on a stream of the same device."""
        self.check_open()
        _check_device(self.device, stream.device, "a graph", "a stream")
        self.device.use().launch(self._handle, stream.handle)
        stream.count()


class Capture:
    """What `Stream.capture` yields; `graph` is there once its block has ended."""

    def __init__(self) -> None:
        self._graph: CudaGraph | None = None

    @property
    def graph(self) -> CudaGraph:
        if self._graph is None:
            raise CudaError("there is no graph before the capture has ended")
        return self._graph


class Stream(_Resource):
    """A queue of work."""

    def __init__(self, device: Device) -> None:
        driver = device.use()
        self._handle = driver.create_stream()
        self._capturing = False
        super().__init__(device, "stream", driver.destroy_stream, self._handle)

    @property
    def handle(self) -> int:
        self.check_open()
        return self._handle

    def upload(self, target: DeviceArray, source: PinnedArray | npt.NDArray[Any]) -> None:
        """Copy from the host. Pinned memory must stay as it is until then; a numpy array is read at once."""
        array = source.array if isinstance(source, PinnedArray) else source
        self._check_copy(target, array.shape, array.dtype)
        if not array.flags.c_contiguous:
            raise CudaError(f"an array of shape {array.shape} is not contiguous: give np.ascontiguousarray of it")
        pointer = source.pointer if isinstance(source, PinnedArray) else array.ctypes.data
        self.device.use().copy_to_device(target.pointer, pointer, target.nbytes, self.handle)
        self.count()

    def download(self, target: PinnedArray, source: DeviceArray) -> None:
        """Copy to page-locked memory, which holds the values once the stream has been waited for."""
        self._check_copy(source, target.array.shape, target.dtype)
        _check_device(self.device, target.device, "a stream", "a pinned array")
        self.device.use().copy_to_host(target.pointer, source.pointer, source.nbytes, self.handle)
        self.count()

    def copy(self, target: DeviceArray, source: DeviceArray) -> None:
        """Copy on the device."""
        self._check_copy(target, source.shape, source.dtype)
        _check_device(self.device, source.device, "a stream", "an array")
        self.device.use().copy_on_device(target.pointer, source.pointer, source.nbytes, self.handle)
        self.count()

    def fill(self, target: DeviceArray, value: int) -> None:
        """Set every byte to ``value``."""
        if not 0 <= value < 256:
            raise CudaError(f"a byte cannot be {value}: give 0 to 255")
        _check_device(self.device, target.device, "a stream", "an array")
        self.device.use().fill(target.pointer, value, target.nbytes, self.handle)
        self.count()

    def _check_copy(self, array: DeviceArray, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        _check_device(self.device, array.device, "a stream", "an array")
        if array.shape != shape or array.dtype != dtype:
            raise CudaError(
                f"shape {array.shape} of {array.dtype} cannot be copied as shape {shape} of {dtype}: give the same"
            )

    def count(self) -> None:
        """Count one piece of work, unless it is only being captured."""
        if not self._capturing:
            self.device.launches += 1

    def record(self, event: Event) -> None:
        """Mark this place in the stream."""
        _check_device(self.device, event.device, "a stream", "an event")
        self.device.use().record(event.handle, self.handle)
        event._recorded = True

    def wait(self, event: Event) -> None:
        """Let what is enqueued from now on wait for the event, without the host waiting."""
        _check_device(self.device, event.device, "a stream", "an event")
        self.device.use().wait(self.handle, event.handle)

    def synchronize(self) -> None:
        """Wait until everything enqueued is done."""
        self.device.use().synchronize_stream(self.handle)

    @contextmanager
    def capture(self) -> Iterator[Capture]:
        """Collect what is enqueued in the block as a graph instead of doing it."""
        driver = self.device.use()
        if self._capturing:
            raise CudaError("this stream is being captured already")
        driver.begin_capture(self.handle)
        self._capturing = True
        capture = Capture()
        try:
            yield capture
        except BaseException:
            with suppress(CudaError):  # a capture that was broken by the error cannot be ended well
                driver.destroy_graph(driver.end_capture(self.handle))
            raise
        else:
            capture._graph = CudaGraph(self.device, driver.end_capture(self.handle))
        finally:
            self._capturing = False


def _give_back(device: "weakref.ref[Device]", free: Callable[[Any], None], handle: Any) -> None:
    """Free something of a device that is still open; with its context everything of it goes."""
    owner = device()
    if owner is not None and not owner.closed:
        _quietly(owner.use)
        _quietly(free, handle)


def _quietly(call: Callable[..., Any], *arguments: Any) -> None:
    """Call from a finalizer, where nobody could catch an error."""
    with suppress(Exception):
        call(*arguments)


def _check_device(own: Device, other: Device, what: str, other_what: str) -> None:
    if own is not other:
        raise CudaError(f"{what} of GPU {own.index} cannot take {other_what} of another device object: use one device")


def _checked_size(shape: tuple[int, ...], dtype: npt.DTypeLike) -> tuple[np.dtype[Any], int]:
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    if any(axis < 0 for axis in shape) or size > MOST_BYTES or kind.hasobject:
        raise CudaError(
            f"shape {shape} of {kind} cannot be allocated: give axes of at least 0, up to {MOST_BYTES} bytes"
        )
    return kind, size


def _contiguous_strides(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    return tuple(itemsize * math.prod(shape[i + 1 :]) for i in range(len(shape)))
