"""The graphs for GPUs: fp16 and bf16, decided value by value. (Blocks of frames: test_decoder.)"""

import dataclasses
import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from conftest import GOLDEN
from fte.bundle import Bundle
from fte.decoder import Decoder
from fte.errors import RequestError
from fte.synthesizer import Synthesizer
from fte_export.checkpoint import read_flowtron, read_waveglow
from fte_export.emulate import EmulatingBackend
from fte_export.graphs.builder import NARROW, GraphBuilder, WeightFile
from fte_export.pipeline import write_voice
from fte_export.random_voice import TINY_FLOWTRON, random_flowtron, tiny_voice
from fte_export.writer import Voice
from test_golden import INFERENCE, VOCODERS, expected_attention, snr_db, utterance_of
from tolerances import assert_close

NARROW_TYPES = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
WIDE_OPERATORS = {"Softmax", "Exp", "Log", "Sub", "Div", "Greater"}
"""Of scores and their softmax, log_s and the affine inverse, and gates: no operand of theirs may be narrow."""
SNR_DB = {"fp16": 60, "bf16": 40}
"""Of golden audio; measured 73 and 54 dB at least."""


@pytest.fixture(scope="module")
def narrow_bundle(tmp_path_factory, golden):
    """A function: golden Flowtron, or WaveGlow beside a random Flowtron -> their bundle in both narrow precisions."""
    made: dict[str, Bundle] = {}

    def export(name: str) -> Bundle:
        if name not in made:
            config = json.loads(str(golden(name)["config"]))
            if name.startswith("waveglow"):
                waveglow = read_waveglow(GOLDEN / f"{name}.pt", config=config)
                flowtron = random_flowtron(dataclasses.replace(TINY_FLOWTRON, n_mels=waveglow.sizes.n_mels))
            else:
                waveglow, flowtron = None, read_flowtron(GOLDEN / f"{name}.pt", config=config)
            path = tmp_path_factory.mktemp("narrow") / name
            write_voice(Voice(name, flowtron, waveglow, ("anna", "bert", "carla")), path, list(NARROW))
            made[name] = Bundle.open(path)
        return made[name]

    return export


@pytest.mark.parametrize("precision", list(NARROW))
@pytest.mark.parametrize("name", INFERENCE)
def test_golden_mel_and_attention(name, precision, golden, narrow_bundle, backend):
    arrays = golden(name)
    decoder = Decoder(narrow_bundle(name), EmulatingBackend(backend), precision)
    (decoded,) = decoder.decode([utterance_of(arrays)])
    assert_close(decoded.mel, arrays["mel"][0].T, "mel", precision)
    for flow, weights in enumerate(decoded.attention):
        assert_close(weights, expected_attention(arrays, flow, len(decoded.attention)), "attention", precision)


@pytest.mark.parametrize("precision", list(NARROW))
@pytest.mark.parametrize("name", VOCODERS)
def test_golden_audio(name, precision, golden, narrow_bundle, backend):
    arrays = golden(name)
    voice = Synthesizer(narrow_bundle(name), EmulatingBackend(backend), precision)
    noise = np.concatenate([arrays[f"noise_{i}"][0] for i in range(3)]).T
    samples = voice.vocode(arrays["mel"][0].T, noise=noise, sigma=float(arrays["sigma"]))
    assert snr_db(samples, arrays["audio"][0]) > SNR_DB[precision]


@pytest.fixture(scope="module")
def tiny_bundle(tmp_path_factory):
    path = tmp_path_factory.mktemp("narrow") / "tiny"
    write_voice(dataclasses.replace(tiny_voice(), blocks=(8,)), path, list(NARROW))
    return Bundle.open(path)


@pytest.fixture(scope="module")
def tiny_models(tiny_bundle):
    """The narrow graphs of the tiny voice by (precision, role), with the types of their values."""
    models = {}
    for precision, graphs in tiny_bundle.manifest.graphs.items():
        for role in graphs.keys() - {"encoder", "posterior"}:
            model = onnx.load(tiny_bundle.graph(precision, role), load_external_data=False)
            models[precision, role] = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    return models


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    values = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {tensor.name: tensor.data_type for tensor in model.graph.initializer}


def test_what_is_sensitive_stays_wide(tiny_models):
    for (precision, _), model in tiny_models.items():
        types = types_of(model)
        for node in model.graph.node:
            if node.op_type in WIDE_OPERATORS:
                assert NARROW_TYPES[precision] not in {types[name] for name in node.input}, node.name


def test_inputs_and_outputs_are_not_narrow(tiny_models):
    for (precision, _), model in tiny_models.items():
        ends = (*model.graph.input, *model.graph.output)
        assert NARROW_TYPES[precision] not in {value.type.tensor_type.elem_type for value in ends}


def test_most_weights_are_narrow(tiny_models):
    for (precision, role), model in tiny_models.items():
        sizes = {True: 0, False: 0}
        for tensor in model.graph.initializer:
            sizes[tensor.data_type == NARROW_TYPES[precision]] += int(np.prod(tensor.dims))
        assert sizes[True] > 0.9 * sum(sizes.values()), (precision, role)


def test_onnx_finds_no_fault_in_them(tiny_bundle):
    for path in tiny_bundle.path.glob("*.onnx"):
        onnx.checker.check_model(path, full_check=True)


def test_a_weight_that_fp16_cannot_hold_is_refused():
    builder = GraphBuilder("flow", WeightFile("flow.fp16.bin"), "fp16")
    with pytest.raises(RequestError, match="dense has values that fp16 cannot hold: choose fp32 or bf16"):
        builder.narrow_constant(np.array([1e6], np.float32), "dense")


def test_emulation_rounds_to_the_narrow_type(tmp_path, backend):
    """1 + 2^-11 lies half-way between two fp16 numbers; ONNX Runtime by itself would not round it."""
    builder = GraphBuilder("flow", WeightFile("x.fp16.bin"), "fp16")
    x = builder.input("x", np.float32, ["B", 1])
    builder.output(builder.linear(x, np.ones((1, 1), np.float32), None, "one"), "y", np.float32, ["B", 1])
    onnx.save(builder.model(), tmp_path / "x.fp16.onnx")
    graph = EmulatingBackend(backend).load(tmp_path / "x.fp16.onnx")
    (y,) = graph.run(["y"], {"x": np.array([[1 + 2**-11 - 2**-20]], np.float32)})
    assert y == 1
