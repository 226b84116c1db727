"""int8 on every CPU: no sum of products is cut off at 16 bits where a CPU has AVX2 and no VNNI."""

import os
import platform
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from fte.backends import OnnxRuntimeBackend
from fte.backends import onnxruntime as ort_backend
from fte.backends.int8_sums import EXACT, INT8_SUMS, PRECISE_OPTION
from fte.errors import BackendError
from test_golden import snr_db
from tolerances import LEAST_SNR_DB, assert_close

pytestmark = pytest.mark.usefixtures("one_thread")

QEMU = shutil.which("qemu-x86_64")
X86_LINUX = sys.platform == "linux" and platform.machine() == "x86_64"
INT16 = 2**15 - 1


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and the bodies of its Scans."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from graphs(attribute.g)


def products(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes that multiply bytes without sign and bytes with sign."""
    return (n for n in graph.node if n.op_type.startswith(("MatMulInteger", "DynamicQuantizeMatMul", "QLinear")))


def largest_pair(weight: np.ndarray, largest_activation: int = 255) -> int:
    """The largest sum of two neighbouring products, of one sign, that a weight (K, N) can give."""
    pairs = np.pad(weight.astype(np.int64), ((0, len(weight) % 2), (0, 0))).reshape(-1, 2, weight.shape[1])
    return largest_activation * max(int(np.maximum(sign * pairs, 0).sum(1).max()) for sign in (1, -1))


def test_each_weight_of_a_product_is_a_constant_of_its_own_graph_for_one_node(tiny_path):
    """What ONNX Runtime asks of weights before it replaces them by ones that give exact sums."""
    count = 0
    for path in tiny_path.glob("*.int8.onnx"):
        model = onnx.load(path, load_external_data=False)
        assert {entry.key: entry.value for entry in model.metadata_props} == {INT8_SUMS: EXACT}
        for graph in graphs(model.graph):
            constants = {tensor.name for tensor in graph.initializer}
            readers = Counter(name for node in graph.node for name in node.input)
            for node in products(graph):
                assert node.input[1] in constants and readers[node.input[1]] == 1, f"{path.name}: {node.name}"
                count += 1
    layers = 6 * 4
    assert count == layers * 8 - 6  # two halves of three products, residual and skip; no residual in the last layers


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="other CPUs have exact sums")
def test_no_product_that_is_run_without_vnni_can_exceed_16_bits(tiny_path, tmp_path):
    """By the graph that ONNX Runtime makes of the file: weights without sign are summed in 32 bits."""
    folder = Path(shutil.copytree(tiny_path, tmp_path / "voice"))  # beside the weight files
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry(*PRECISE_OPTION)
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 4  # a word about optimized models not being portable
    onnxruntime.InferenceSession(str(folder / "vocoder.int8.onnx"), options, providers=["CPUExecutionProvider"])
    signed = unsigned = 0
    for graph in graphs(onnx.load(folder / "optimized.onnx").graph):
        constants = {tensor.name: tensor for tensor in graph.initializer}
        for node in products(graph):
            weight = numpy_helper.to_array(constants[node.input[1]])
            if weight.dtype == np.uint8:
                unsigned += 1
            else:
                assert largest_pair(weight) <= INT16, node.name
                signed += 1
    assert unsigned > 100 and signed + unsigned == 6 * 4 * 8 - 6


def test_pairs_are_judged_by_their_signs():
    assert largest_pair(np.array([[64], [64]])) == 32640 <= INT16 < largest_pair(np.array([[65], [64]]))
    assert largest_pair(np.array([[127], [-127], [1]])) == 127 * 255


# Bundles of older exports.


@pytest.fixture
def without_vnni(monkeypatch):
    """ONNX Runtime as it would find a CPU with AVX2 alone."""
    monkeypatch.setattr(ort_backend, "_saturates", lambda _runtime: True)


def vocoder_inputs() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    mel = generator.normal(-5, 2, (1, 3, 80)).astype(np.float32)
    return {"mel": mel, "noise": 0.6 * generator.standard_normal((1, 96, 8)).astype(np.float32)}


def test_a_graph_of_an_older_export_is_refused_where_its_sums_would_be_cut_off(tiny_path, tmp_path, without_vnni):
    old = Path(shutil.copytree(tiny_path, tmp_path / "old"))
    model = onnx.load(old / "vocoder.int8.onnx", load_external_data=False)
    del model.metadata_props[:]
    onnx.save(model, old / "vocoder.int8.onnx")
    backend = OnnxRuntimeBackend("cpu")
    with pytest.raises(BackendError) as error:
        backend.load(old / "vocoder.int8.onnx")
    assert str(error.value) == (
        "vocoder.int8.onnx is of an older export, whose int8 sums are cut off on this CPU, which has no VNNI: "
        "export the voice again, or speak with precision 'fp32' or backend 'native'"
    )
    for graph in ("flow_0.int8.onnx", "vocoder.fp32.onnx"):  # whose sums are exact everywhere
        backend.load(old / graph)


def test_a_graph_of_an_older_export_speaks_where_sums_are_exact(tiny_path, tmp_path, monkeypatch):
    monkeypatch.setattr(ort_backend, "_saturates", lambda _runtime: False)
    old = Path(shutil.copytree(tiny_path, tmp_path / "old"))
    model = onnx.load(old / "vocoder.int8.onnx", load_external_data=False)
    del model.metadata_props[:]
    onnx.save(model, old / "vocoder.int8.onnx")
    audio = [
        OnnxRuntimeBackend("cpu").load(path / "vocoder.int8.onnx").run(["audio"], vocoder_inputs())[0]
        for path in (old, tiny_path)
    ]
    assert np.array_equal(audio[0], audio[1])


def test_the_form_without_vnni_gives_the_same_samples(tiny_path, backend, without_vnni):
    audio = backend.load(tiny_path / "vocoder.int8.onnx").run(["audio"], vocoder_inputs())[0]
    exact = backend.load(tiny_path / "vocoder.fp32.onnx").run(["audio"], vocoder_inputs())[0]
    assert snr_db(audio, exact) > LEAST_SNR_DB["audio", "int8"]


# Another CPU, emulated.

SPEAK = """
import sys, numpy as np, onnxruntime
from fte.backends import OnnxRuntimeBackend, int8_sums
from fte.bundle import Bundle

folder, given, result = sys.argv[1:]
arrays = dict(np.load(given))
vocoder_inputs = {name: arrays.pop(name) for name in ("mel", "noise")}
backend = OnnxRuntimeBackend("cpu", 1)
bundle = Bundle.open(folder)
found = {"saturates": np.array(int8_sums.saturates(onnxruntime))}
(found["audio"],) = backend.open(bundle, "int8", "vocoder").run(["audio"], vocoder_inputs)
(found["flow"],) = backend.open(bundle, "int8", "flow_0").run(["mel"], arrays)
try:
    from fte.backends.native import NativeBackend
    native = NativeBackend(1)
    found["native"] = native.open(bundle, "int8", "vocoder").run(["audio"], vocoder_inputs)[0]
    found["instructions"] = np.array(native.description)
except Exception as error:
    found["no_native"] = np.array(str(error))
np.savez(result, **found)
"""


def test_a_voice_of_hard_links_speaks_as_it_is(tiny_path, tmp_path, backend):
    """Package managers and backups make such copies, and ONNX Runtime refuses them for the weights of a Scan's body."""
    shutil.copytree(tiny_path, tmp_path / "linked", copy_function=os.link)
    for name in ("vocoder.int8.onnx", "vocoder.fp32.onnx"):
        (linked,), (plain,) = (
            backend.load(folder / name).run(["audio"], vocoder_inputs()) for folder in (tmp_path / "linked", tiny_path)
        )
        np.testing.assert_array_equal(linked, plain)


@pytest.fixture(scope="module")
def flow_inputs(tiny_path) -> dict[str, np.ndarray]:
    """What a frame of the first flow reads, of one utterance of five symbols."""
    graph = onnx.load(tiny_path / "flow_0.int8.onnx", load_external_data=False).graph
    generator, sizes = np.random.default_rng(1), {"B": 1, "N": 5}
    inputs = {}
    for value in graph.input:
        shape = [axis.dim_value or sizes[axis.dim_param] for axis in value.type.tensor_type.shape.dim]
        inputs[value.name] = (0.5 * generator.standard_normal(shape)).astype(np.float32)
    return inputs | {"text_mask": np.ones((1, 5), np.float32), "temperature": np.ones((1, 1), np.float32)}


@pytest.fixture(scope="module")
def emulated(tiny_path, flow_inputs, tmp_path_factory) -> dict[str, np.ndarray]:
    """What a process of its own makes in int8 of a mel and of a frame, on a CPU with AVX2 and without VNNI."""
    if not X86_LINUX:
        pytest.skip("emulated CPUs are x86-64 under Linux")
    if QEMU is None:
        pytest.skip("qemu-x86_64 is not installed: apt-get install qemu-user")
    folder = tmp_path_factory.mktemp("emulated")
    np.savez(folder / "given.npz", **vocoder_inputs(), **flow_inputs)
    command = [QEMU, "-cpu", "Haswell", sys.executable, "-c", SPEAK, str(tiny_path)]
    command += [str(folder / name) for name in ("given.npz", "found.npz")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(folder / "found.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def test_the_emulated_cpu_is_the_one_that_was_asked_for(emulated):
    """Without this the tests below could pass on a CPU that has VNNI after all."""
    assert bool(emulated["saturates"])
    if "instructions" in emulated:
        assert "on cpu, AVX2," in str(emulated["instructions"])


def test_int8_audio_on_a_cpu_without_vnni_is_within_40_db_of_fp32(emulated, tiny_path, backend):
    exact = backend.load(tiny_path / "vocoder.fp32.onnx").run(["audio"], vocoder_inputs())[0]
    assert snr_db(emulated["audio"], exact) > LEAST_SNR_DB["audio", "int8"]


def test_an_int8_flow_on_a_cpu_without_vnni_is_within_the_tolerance_of_fp32(emulated, tiny_path, backend, flow_inputs):
    (exact,) = backend.load(tiny_path / "flow_0.fp32.onnx").run(["mel"], flow_inputs)
    assert_close(emulated["flow"], exact, "mel", "int8")


def test_native_int8_on_a_cpu_without_vnni_is_within_40_db_of_fp32(emulated, tiny_path, backend):
    pytest.importorskip("fte._native", reason="the native engine was not built: no C++17 compiler")
    assert "native" in emulated, emulated.get("no_native")
    exact = backend.load(tiny_path / "vocoder.fp32.onnx").run(["audio"], vocoder_inputs())[0]
    assert snr_db(emulated["native"], exact) > LEAST_SNR_DB["audio", "int8"]
