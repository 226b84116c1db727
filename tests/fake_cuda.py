"""A CUDA driver without a GPU: its memory is the host's, and its streams do nothing before somebody waits for them.

Because work is done as late as it may be, code that forgets to wait reads old values, and its test fails.
"""

import ctypes
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from fte.backends.cuda import CudaError
from fte.errors import OutOfMemoryError

Work = Callable[[], None]


@dataclass
class FakeEvent:
    timing: bool
    after: list[Work] | None = None
    """What must be done before the event is: the work of its stream up to it."""


@dataclass
class FakeStream:
    waiting: list[Work] = field(default_factory=list)
    captured: list[Work] | None = None


class FakeDriver:
    """Implements `fte.backends.cuda_drivers.Driver`. Addresses on the device are made up: the host cannot use them."""

    name = "fake"
    graphs = True

    def __init__(self, *, memory: int = 1 << 30, devices: int = 1, version: tuple[int, int] = (13, 0)) -> None:
        self._total, self._devices, self._version = memory, devices, version
        self._addresses = itertools.count(0x7_0000_0000_0000, 1 << 40)
        self._handles = itertools.count(1)
        self.buffers: dict[int, bytearray] = {}
        self.pinned: dict[int, ctypes.Array] = {}
        self.streams: dict[int, FakeStream] = {}
        self.events: dict[int, FakeEvent] = {}
        self.graphs_made: dict[int, list[Work]] = {}
        self.contexts: list[int] = []
        """Devices whose context is retained."""
        self.current: int | None = None
        self.synchronisations = 0
        """How often the host waited."""

    # --- devices ---

    def version(self) -> tuple[int, int]:
        return self._version

    def device_count(self) -> int:
        return self._devices

    def device_name(self, index: int) -> str:
        return f"Fake GPU {index}"

    def compute_capability(self, index: int) -> tuple[int, int]:
        return 8, 9

    def retain_context(self, index: int) -> int:
        self.contexts.append(index)
        return index

    def release_context(self, index: int) -> None:
        self.contexts.remove(index)

    def make_current(self, context: int) -> None:
        assert context in self.contexts, "the context was released"
        self.current = context

    # --- memory ---

    def memory(self) -> tuple[int, int]:
        return self._total - sum(map(len, self.buffers.values())), self._total

    def allocate(self, size: int) -> int:
        if size > self.memory()[0]:
            raise OutOfMemoryError("the GPU has no memory left: give fewer or shorter texts at once")
        address = next(self._addresses)
        self.buffers[address] = bytearray(b"\xaa" * size)
        return address

    def free(self, pointer: int) -> None:
        del self.buffers[pointer]

    def allocate_pinned(self, size: int) -> int:
        buffer = (ctypes.c_ubyte * size)()
        self.pinned[ctypes.addressof(buffer)] = buffer
        return ctypes.addressof(buffer)

    def free_pinned(self, pointer: int) -> None:
        del self.pinned[pointer]

    def read(self, pointer: int, size: int) -> bytes:
        """Bytes of the device's memory."""
        start, buffer = self._buffer(pointer, size)
        return bytes(buffer[start : start + size])

    def write(self, pointer: int, data: bytes) -> None:
        start, buffer = self._buffer(pointer, len(data))
        buffer[start : start + len(data)] = data

    def _buffer(self, pointer: int, size: int) -> tuple[int, bytearray]:
        for address, buffer in self.buffers.items():
            if address <= pointer and pointer + size <= address + len(buffer):
                return pointer - address, buffer
        raise AssertionError(f"{size} bytes at {pointer:#x} are not allocated on the device")

    # --- streams and events ---

    def create_stream(self) -> int:
        handle = next(self._handles)
        self.streams[handle] = FakeStream()
        return handle

    def destroy_stream(self, stream: int) -> None:
        self._run(stream)
        del self.streams[stream]

    def enqueue(self, stream: int, work: Work) -> None:
        """Put work on a stream, as a kernel would be."""
        own = self.streams[stream]
        (own.waiting if own.captured is None else own.captured).append(work)

    def _run(self, stream: int) -> None:
        waiting = self.streams[stream].waiting
        while waiting:
            waiting.pop(0)()

    def synchronize_stream(self, stream: int) -> None:
        assert self.streams[stream].captured is None, "a stream that is captured cannot be waited for"
        self.synchronisations += 1
        self._run(stream)

    def create_event(self, timing: bool) -> int:
        handle = next(self._handles)
        self.events[handle] = FakeEvent(timing)
        return handle

    def destroy_event(self, event: int) -> None:
        del self.events[event]

    def record(self, event: int, stream: int) -> None:
        own = self.events[event]
        done = [False]
        waiting = self.streams[stream].waiting

        def mark() -> None:
            done[0] = True

        def until_marked() -> None:
            while not done[0]:
                waiting.pop(0)()

        waiting.append(mark)
        own.after = [until_marked]

    def wait(self, stream: int, event: int) -> None:
        after = list(self.events[event].after or [])
        self.enqueue(stream, lambda: [work() for work in after] and None)

    def synchronize_event(self, event: int) -> None:
        self.synchronisations += 1
        for work in self.events[event].after or []:
            work()

    def event_done(self, event: int) -> bool:
        return not self.events[event].after

    def elapsed_ms(self, start: int, stop: int) -> float:
        return 1.0

    # --- work ---

    def copy_to_device(self, target: int, source: int, size: int, stream: int) -> None:
        if any(address <= source < address + len(buffer) for address, buffer in self.pinned.items()):
            self.enqueue(stream, lambda: self.write(target, ctypes.string_at(source, size)))
        else:  # pageable memory is read at once
            data = ctypes.string_at(source, size)
            self.enqueue(stream, lambda: self.write(target, data))

    def copy_to_host(self, target: int, source: int, size: int, stream: int) -> None:
        self.enqueue(stream, lambda: ctypes.memmove(target, self.read(source, size), size) and None)

    def copy_on_device(self, target: int, source: int, size: int, stream: int) -> None:
        self.enqueue(stream, lambda: self.write(target, self.read(source, size)))

    def fill(self, target: int, value: int, size: int, stream: int) -> None:
        self.enqueue(stream, lambda: self.write(target, bytes([value]) * size))

    # --- graphs ---

    def begin_capture(self, stream: int) -> None:
        if not self.graphs:
            raise CudaError("no graphs here")
        self.streams[stream].captured = []

    def end_capture(self, stream: int) -> int:
        work, self.streams[stream].captured = self.streams[stream].captured, None
        assert work is not None, "the stream is not being captured"
        handle = next(self._handles)
        self.graphs_made[handle] = work
        return handle

    def launch(self, graph: int, stream: int) -> None:
        for work in self.graphs_made[graph]:
            self.enqueue(stream, work)

    def destroy_graph(self, graph: int) -> None:
        del self.graphs_made[graph]
