"""The CUDA layer, on a fake driver everywhere and on each real one where there is a GPU."""

import gc
import importlib.util
import subprocess
import sys
import types

import numpy as np
import pytest

from fake_cuda import FakeDriver
from fte.backends import cuda_drivers
from fte.backends.cuda import CudaError, Device
from fte.backends.cuda_drivers import BindingsDriver, open_driver
from fte.errors import OutOfMemoryError


def has_gpu() -> bool:
    try:
        open_driver("cuda-bindings")
    except CudaError:
        return False
    return True


def real_driver(name: str):
    """A driver of a package, or a skip that says why there is none."""
    try:
        return open_driver(name)
    except CudaError as error:
        pytest.skip(str(error))


@pytest.fixture(
    params=[
        "fake",
        pytest.param("cuda-bindings", marks=pytest.mark.gpu),
        pytest.param("pycuda", marks=pytest.mark.gpu),
    ]
)
def device(request):
    driver = FakeDriver() if request.param == "fake" else real_driver(request.param)
    with Device(0, driver) as opened:
        yield opened


def numbers(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def fetched(device: Device, array) -> np.ndarray:
    with device.stream() as stream, device.pinned(array.shape, array.dtype) as pinned:
        stream.download(pinned, array)
        stream.synchronize()
        return pinned.array.copy()


class TestCopies:
    def test_what_is_uploaded_comes_back(self, device):
        with device.stream() as stream, device.empty((3, 4), np.float32) as array:
            stream.upload(array, numbers(3, 4))
            stream.synchronize()
            np.testing.assert_array_equal(fetched(device, array), numbers(3, 4))

    def test_a_numpy_array_may_change_after_its_upload(self, device):
        values = numbers(5)
        with device.stream() as stream, device.empty((5,), np.float32) as array:
            stream.upload(array, values)
            values[:] = -1
            stream.synchronize()
            np.testing.assert_array_equal(fetched(device, array), numbers(5))

    def test_pinned_memory_is_uploaded_and_downloaded(self, device):
        with device.pinned((6,), np.int32) as source, device.empty((6,), np.int32) as array, device.stream() as stream:
            source.array[:] = 7
            stream.upload(array, source)
            stream.synchronize()
            assert fetched(device, array).tolist() == [7] * 6

    def test_parts_are_rows_of_the_same_memory(self, device):
        with device.stream() as stream, device.empty((4, 3), np.float32) as array:
            stream.upload(array, numbers(4, 3))
            stream.copy(array[0], array[3])
            stream.copy(array[1:2], array[-2:-1])
            stream.synchronize()
            np.testing.assert_array_equal(fetched(device, array), numbers(4, 3)[[3, 2, 2, 3]])

    def test_bytes_are_filled(self, device):
        with device.stream() as stream, device.empty((2, 2), np.uint8) as array:
            stream.fill(array, 5)
            stream.synchronize()
            assert fetched(device, array).tolist() == [[5, 5], [5, 5]]

    def test_an_array_of_no_values_can_be_made_and_copied(self, device):
        with device.stream() as stream, device.empty((0, 3), np.float32) as array:
            stream.upload(array, numbers(0, 3))
            stream.synchronize()
            assert fetched(device, array).shape == (0, 3)


class TestOrder:
    def test_a_stream_waits_for_an_event_of_another(self, device):
        with device.stream() as first, device.stream() as second, device.event() as event:
            source, target = device.empty((3,), np.float32), device.empty((3,), np.float32)
            first.upload(source, numbers(3))
            first.record(event)
            second.wait(event)
            second.copy(target, source)
            second.synchronize()
            np.testing.assert_array_equal(fetched(device, target), numbers(3))

    def test_the_host_waits_for_an_event(self, device):
        with device.stream() as stream, device.event() as event, device.pinned((3,), np.float32) as pinned:
            array = device.empty((3,), np.float32)
            stream.upload(array, numbers(3))
            stream.download(pinned, array)
            stream.record(event)
            event.synchronize()
            np.testing.assert_array_equal(pinned.array, numbers(3))

    def test_time_passes_between_events(self, device):
        with device.event(timing=True) as start, device.event(timing=True) as stop, device.stream() as stream:
            stream.record(start)
            stream.record(stop)
            stop.synchronize()
            assert stop.elapsed_ms(start) >= 0


class TestGraphs:
    def test_captured_work_is_done_at_each_launch_and_not_before(self, device):
        with device.stream() as stream:
            source, target = device.empty((2,), np.float32), device.empty((2,), np.float32)
            stream.fill(target, 0)
            with stream.capture() as capture:
                stream.copy(target, source)
            for value in (1, 2):
                stream.upload(source, np.full(2, value, np.float32))
                stream.synchronize()
                assert fetched(device, target).tolist() == [value - 1] * 2
                capture.graph.launch(stream)
                stream.synchronize()
                assert fetched(device, target).tolist() == [value] * 2

    def test_an_error_within_a_capture_ends_it(self, device):
        with device.stream() as stream, device.empty((2,), np.float32) as array:
            with pytest.raises(ZeroDivisionError), stream.capture():
                _ = 1 / 0
            stream.upload(array, numbers(2))
            stream.synchronize()
            np.testing.assert_array_equal(fetched(device, array), numbers(2))

    def test_a_graph_is_not_there_before_its_capture_ends(self, device):
        with device.stream() as stream, stream.capture() as capture:
            stream.fill(device.empty((1,), np.uint8), 0)
            with pytest.raises(CudaError, match="no graph before the capture has ended"):
                _ = capture.graph

    def test_a_graph_counts_as_one_launch(self, device):
        with device.stream() as stream:
            array = device.empty((1,), np.uint8)
            with stream.capture() as capture:
                for _ in range(5):
                    stream.fill(array, 1)
            before = device.launches
            capture.graph.launch(stream)
            assert device.launches == before + 1


class TestMisuse:
    @pytest.mark.parametrize("kind", ["stream", "event", "array", "pinned array", "graph"])
    def test_closing_twice_and_use_after_it(self, kind, device):
        stream = device.stream()
        if kind == "graph":
            with stream.capture() as capture:
                stream.fill(device.empty((1,), np.uint8), 0)
            thing, use = capture.graph, lambda: capture.graph.launch(stream)
        elif kind == "stream":
            thing, use = stream, stream.synchronize
        elif kind == "event":
            thing = device.event()
            use = thing.synchronize
        elif kind == "array":
            thing = device.empty((1,), np.uint8)
            use = lambda: stream.fill(thing, 0)  # noqa: E731
        else:
            thing = device.pinned((1,), np.uint8)
            use = lambda: thing.array  # noqa: E731
        thing.close()
        with pytest.raises(CudaError, match=f"this {kind} is closed"):
            use()
        with pytest.raises(CudaError, match=f"this {kind} is closed"):
            thing.close()

    def test_a_part_ends_with_its_array(self, device):
        array = device.empty((2,), np.uint8)
        part = array[1:]
        with pytest.raises(CudaError, match="a part of an array is closed with its array"):
            part.close()
        array.close()
        with pytest.raises(CudaError, match="this array is closed"):
            _ = part.pointer

    @pytest.mark.parametrize(
        ("target", "source", "says"),
        [
            ((3,), np.zeros(4, np.float32), r"shape \(3,\) of float32 cannot be copied as shape \(4,\) of float32"),
            ((3,), np.zeros(3, np.int32), r"of float32 cannot be copied as shape \(3,\) of int32"),
            ((2, 3), np.zeros((3, 2), np.float32).T, "not contiguous: give np.ascontiguousarray of it"),
        ],
    )
    def test_what_does_not_match(self, target, source, says, device):
        stream, array = device.stream(), device.empty(target, np.float32)
        with pytest.raises(CudaError, match=says):
            stream.upload(array, source)

    @pytest.mark.parametrize(
        ("misuse", "says"),
        [
            (lambda a: a[3], "row 3 is not there: the array has 3"),
            (lambda a: a[::2], "rows with a step of 2 are not contiguous"),
            (lambda a: a.reshape(4), r"an array of shape \(3,\) cannot have shape \(4,\)"),
            (lambda a: a[0][0], "an array without axes has no rows"),
        ],
    )
    def test_parts_that_are_not_there(self, misuse, says, device):
        with device.empty((3,), np.float32) as array, pytest.raises(CudaError, match=says):
            misuse(array)

    @pytest.mark.parametrize("shape", [(-1,), (1 << 41,)])
    def test_sizes_that_no_array_has(self, shape, device):
        with pytest.raises(CudaError, match="cannot be allocated"):
            device.empty(shape, np.uint8)

    def test_time_needs_events_that_were_recorded_with_timing(self, device):
        with device.event() as plain, device.event(timing=True) as timed:
            for start, stop in ((plain, timed), (timed, timed)):
                with pytest.raises(CudaError, match="two events made with timing=True that were both recorded"):
                    stop.elapsed_ms(start)


class TestOthersMemory:
    def test_an_array_is_seen_by_its_interface(self, device):
        array = device.empty((2, 3), np.float32)
        interface = array[1:].__cuda_array_interface__
        assert interface["shape"] == (1, 3) and interface["typestr"] == "<f4" and interface["version"] == 3
        assert interface["data"] == (array.pointer + 12, False)

    def test_memory_of_others_is_used_and_not_freed(self, device):
        with device.stream() as stream, device.empty((2, 3), np.float32) as array:
            borrowed = device.wrap(array)
            stream.upload(borrowed, numbers(2, 3))
            stream.synchronize()
            borrowed.close()
            np.testing.assert_array_equal(fetched(device, array), numbers(2, 3))

    def test_memory_with_gaps_is_refused(self, device):
        interface = {"shape": (2, 3), "typestr": "<f4", "strides": (24, 4), "data": (0, False), "version": 3}
        with pytest.raises(CudaError, match=r"strides \(24, 4\): give a contiguous one"):
            device.wrap(types.SimpleNamespace(__cuda_array_interface__=interface))

    def test_what_is_not_on_a_gpu_is_refused(self, device):
        with pytest.raises(CudaError, match="ndarray has no __cuda_array_interface__"):
            device.wrap(numbers(3))


class TestBookkeeping:
    """On the fake driver, which knows what is open."""

    def test_a_closed_device_has_given_everything_back(self):
        driver = FakeDriver()
        device = Device(0, driver)
        stream, array, pinned = device.stream(), device.empty((4,), np.float32), device.pinned((4,), np.float32)
        with stream.capture() as capture:
            stream.upload(array, pinned)
        device.event()
        pinned.close()
        device.close()
        assert capture.graph.closed
        assert not any((driver.buffers, driver.pinned, driver.streams, driver.events, driver.graphs_made))
        assert driver.contexts == []

    def test_what_is_forgotten_is_given_back(self):
        driver = FakeDriver()
        with Device(0, driver) as device:
            device.empty((4,), np.float32)
            device.event()
            gc.collect()
            assert not driver.buffers and not driver.events

    def test_pinned_memory_lives_as_long_as_a_view_of_it(self):
        driver = FakeDriver()
        with Device(0, driver) as device:
            pinned = device.pinned((4,), np.float32)
            view = pinned.array[1:]
            pinned.close()
            view[:] = 3
            assert len(driver.pinned) == 1
            del view
            gc.collect()
            assert not driver.pinned

    def test_a_part_keeps_its_memory(self):
        driver = FakeDriver()
        with Device(0, driver) as device:
            part = device.empty((4,), np.float32)[2:]
            gc.collect()
            assert len(driver.buffers) == 1
            del part
            gc.collect()
            assert not driver.buffers

    def test_a_closed_device_is_an_error(self):
        device = Device(0, FakeDriver())
        device.close()
        for use in (device.stream, device.memory, device.close):
            with pytest.raises(CudaError, match="GPU 0 is closed"):
                use()

    def test_things_of_two_devices_do_not_mix(self):
        driver = FakeDriver(devices=2)
        with Device(0, driver) as one, Device(1, driver) as two:
            stream, array = one.stream(), two.empty((2,), np.float32)
            misuses = [
                lambda: stream.upload(array, numbers(2)),
                lambda: stream.copy(one.empty((2,), np.float32), array),
                lambda: stream.fill(array, 0),
                lambda: stream.record(two.event()),
                lambda: stream.wait(two.event()),
                lambda: stream.download(two.pinned((2,), np.float32), one.empty((2,), np.float32)),
            ]
            for misuse in misuses:
                with pytest.raises(CudaError, match="of another device object"):
                    misuse()

    def test_each_call_has_its_context(self):
        driver = FakeDriver(devices=2)
        with Device(0, driver) as one, Device(1, driver) as two:
            one.empty((1,), np.uint8)
            assert driver.current == 0
            two.empty((1,), np.uint8)
            assert driver.current == 1

    def test_no_memory_left(self):
        with Device(0, FakeDriver(memory=100)) as device:
            with pytest.raises(OutOfMemoryError, match="the GPU has no memory left"):
                device.empty((101,), np.uint8)
            device.empty((100,), np.uint8)  # the failed one took nothing

    def test_a_device_that_is_not_there(self):
        with pytest.raises(CudaError, match="GPU 2 is not there: this machine has 1, counted from 0"):
            Device(2, FakeDriver())

    def test_nothing_is_done_before_somebody_waits(self):
        """The fake itself: were it eager, a missing wait would go unnoticed."""
        with Device(0, FakeDriver()) as device, device.pinned((1,), np.uint8) as pinned:
            stream, array = device.stream(), device.empty((1,), np.uint8)
            pinned.array[:] = 9
            stream.fill(array, 1)
            stream.download(pinned, array)
            assert pinned.array[0] == 9
            stream.synchronize()
            assert pinned.array[0] == 1


class StubApi(types.ModuleType):
    """`cuda.bindings.driver` as far as a test needs it: each call is noted and answered."""

    class CUresult:
        CUDA_SUCCESS, CUDA_ERROR_OUT_OF_MEMORY, CUDA_ERROR_NOT_READY, CUDA_ERROR_NO_DEVICE = range(4)

    class CUstreamCaptureMode:
        CU_STREAM_CAPTURE_MODE_THREAD_LOCAL = 1

    def __init__(self, **answers):
        super().__init__("driver")
        self.calls, self._answers = [], answers

    def __getattr__(self, name):
        if not name.startswith("cu"):
            raise AttributeError(name)

        def call(*arguments):
            self.calls.append((name, *arguments))
            return self._answers.get(name, (0,))

        return call


@pytest.fixture
def bindings(monkeypatch):
    """A function: answers by name -> a BindingsDriver over them."""

    def make(**answers):
        api = StubApi(**answers)
        package = types.ModuleType("cuda.bindings")
        package.driver = api
        monkeypatch.setitem(sys.modules, "cuda", types.ModuleType("cuda"))
        monkeypatch.setitem(sys.modules, "cuda.bindings", package)
        return BindingsDriver(), api

    return make


class TestBindings:
    def test_no_memory_is_told_apart(self, bindings):
        driver, _ = bindings(cuMemAlloc=(1, 0))
        with pytest.raises(OutOfMemoryError):
            driver.allocate(8)

    def test_other_failures_name_the_call(self, bindings):
        driver, _ = bindings(cuStreamSynchronize=(3,))
        with pytest.raises(CudaError, match="cuStreamSynchronize failed"):
            driver.synchronize_stream(5)

    def test_a_capture_becomes_a_graph_and_the_draft_goes(self, bindings):
        driver, api = bindings(cuStreamEndCapture=(0, 11), cuGraphInstantiate=(0, 12))
        driver.begin_capture(5)
        assert driver.end_capture(5) == 12
        assert api.calls[1:] == [
            ("cuStreamBeginCapture", 5, 1),
            ("cuStreamEndCapture", 5),
            ("cuGraphInstantiate", 11, 0),
            ("cuGraphDestroy", 11),
        ]

    def test_an_event_that_is_not_ready_is_no_failure(self, bindings):
        driver, _ = bindings(cuEventQuery=(2,))
        assert driver.event_done(7) is False

    def test_the_version_is_split(self, bindings):
        driver, _ = bindings(cuDriverGetVersion=(0, 12080))
        assert driver.version() == (12, 8)

    def test_the_copies_have_target_source_size_stream(self, bindings):
        driver, api = bindings()
        driver.copy_to_device(1, 2, 3, 4)
        driver.copy_to_host(1, 2, 3, 4)
        driver.copy_on_device(1, 2, 3, 4)
        names = ["cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync", "cuMemcpyDtoDAsync"]
        assert api.calls[1:] == [(name, 1, 2, 3, 4) for name in names]


class StubPycuda(types.ModuleType):
    """`pycuda.driver` as far as memory and streams go; it notes which calls came without a context."""

    class Error(Exception):
        pass

    class MemoryError(Error):
        pass

    def __init__(self):
        super().__init__("pycuda.driver")
        self.stack, self.most, self.calls = [], 0, []
        stub = self

        class Context:
            def push(self):
                stub.stack.append(self)

            @staticmethod
            def pop():
                stub.stack.pop()

        class Device:
            count = staticmethod(lambda: 1)

            def __init__(self, index):
                pass

            def name(self):
                return "Stub"

            def compute_capability(self):
                return 8, 6

            def retain_primary_context(self):
                return Context()

        class Stream:
            handle = 77

            def __init__(self, flags):
                stub.note("Stream", flags)

            def synchronize(self):
                stub.note("synchronize")

        self.Context, self.Device, self.Stream = Context, Device, Stream

    def note(self, *call):
        assert len(self.stack) == 1, "a context is current, and only one"
        self.calls.append(call)

    def init(self):
        pass

    def get_driver_version(self):
        return 13000

    def mem_get_info(self):
        self.note("mem_get_info")
        return 5, 7

    def mem_alloc(self, size):
        self.note("mem_alloc", size)
        raise self.MemoryError("cuMemAlloc failed: out of memory")

    def memset_d8_async(self, *arguments):
        self.note("memset_d8_async", *arguments)
        raise self.Error("invalid value")


class TestPycuda:
    @pytest.fixture
    def stub(self, monkeypatch):
        stub = StubPycuda()
        package = types.ModuleType("pycuda")
        package.driver = stub
        monkeypatch.setitem(sys.modules, "pycuda", package)
        monkeypatch.setitem(sys.modules, "pycuda.driver", stub)
        monkeypatch.setattr(cuda_drivers, "_installed", lambda module: module == "pycuda")
        return stub

    def test_no_context_is_left_on_its_stack(self, stub):
        with Device(0, open_driver()) as device:
            assert (device.name, device.compute_capability, device.driver_version) == ("Stub", (8, 6), (13, 0))
            assert device.memory() == (5, 7)
            with device.stream() as stream:
                assert stream.handle == 77
                stream.synchronize()
        assert [call[0] for call in stub.calls] == ["mem_get_info", "Stream", "synchronize"]
        assert stub.stack == []

    def test_its_errors_are_ours(self, stub):
        driver = open_driver("pycuda")
        driver.make_current(driver.retain_context(0))
        with pytest.raises(OutOfMemoryError, match="the GPU has no memory left"):
            driver.allocate(8)
        stream = driver.create_stream()
        with pytest.raises(CudaError, match="pycuda failed: invalid value"):
            driver.fill(1, 0, 1, stream)
        assert stub.stack == []

    def test_graphs_need_cuda_bindings_beside_it(self, stub):
        driver = open_driver("pycuda")
        driver.make_current(driver.retain_context(0))
        assert not driver.graphs
        with pytest.raises(CudaError, match="pycuda has no CUDA graphs: pip install cuda-bindings beside it"):
            driver.begin_capture(driver.create_stream())


class TestOpening:
    @pytest.mark.parametrize(
        ("driver", "says"),
        [
            (FakeDriver(version=(11, 8)), "the NVIDIA driver supports CUDA 11.8 at most and 12.0 is needed"),
            (FakeDriver(devices=0), "the NVIDIA driver finds no GPU: check nvidia-smi"),
        ],
    )
    def test_drivers_that_do_not_do(self, driver, says, monkeypatch):
        monkeypatch.setattr(cuda_drivers, "_installed", lambda module: True)
        monkeypatch.setattr(cuda_drivers, "PycudaDriver", lambda: driver)
        with pytest.raises(CudaError, match=says):
            open_driver()

    def test_without_any_package(self, monkeypatch):
        monkeypatch.setattr(cuda_drivers, "_installed", lambda module: False)
        with pytest.raises(CudaError, match="needs the package pycuda or cuda-bindings: pip install cuda-bindings"):
            open_driver()

    def test_an_unknown_package(self):
        with pytest.raises(CudaError, match="'cupy' is unknown: choose one of pycuda, cuda-bindings"):
            open_driver("cupy")

    @pytest.mark.skipif(importlib.util.find_spec("cuda") is None, reason="cuda-bindings is not installed")
    @pytest.mark.skipif(has_gpu(), reason="this machine has a GPU")
    def test_without_a_driver_the_package_says_so(self):
        with pytest.raises(CudaError, match=r"the NVIDIA driver cannot be used \(.*\): install it, or choose"):
            open_driver("cuda-bindings")

    def test_what_is_left_at_exit_makes_no_noise(self):
        script = (
            "import sys; sys.path.insert(0, sys.argv[1])\n"
            "from fake_cuda import FakeDriver\n"
            "from fte.backends.cuda import Device\n"
            "device = Device(0, FakeDriver())\n"
            "keep = device.stream(), device.empty((3,), 'f4'), device.pinned((3,), 'f4')"
        )
        folder = __file__.rpartition("/")[0]
        done = subprocess.run([sys.executable, "-c", script, folder], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
