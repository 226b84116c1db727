"""From checkpoint files to a bundle that was held against torch, the same every time."""

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from conftest import GOLDEN
from fte.bundle import Bundle
from fte.errors import CheckpointError, RequestError, VerificationError
from fte.synthesizer import Synthesizer
from fte_export import pipeline
from fte_export.pipeline import (
    BLOCKS,
    PRECISIONS,
    ExportOptions,
    export_voice,
    file_names,
    parse_precisions,
    verify_files,
    write_voice,
)
from fte_export.quantize import quantize_blocks, quantize_columns
from fte_export.random_voice import TINY_FLOWTRON, TINY_WAVEGLOW, random_voice, tiny_voice
from fte_export.verify import Parity
from public_format import save_flowtron, save_waveglow
from tolerances import assert_close

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL_FLOWTRON = dataclasses.replace(TINY_FLOWTRON, n_mels=16)
"""For golden WaveGlows, which have 16 mel channels."""
TWO_FLOWS = GOLDEN / "flowtron_two_flows.pt"


def silent(_what: str, _done: float) -> None:
    """Progress that nobody watches."""


def export(out: Path, flowtron: Path, **options: Any) -> list[Parity]:
    return export_voice(ExportOptions(flowtron, **options), out, silent)


# Quantization.


def weights(rows: int, columns: int) -> np.ndarray:
    """Normal, with a row of zeros, one of equal values, one of tiny and one of huge values."""
    values = np.random.Generator(np.random.Philox(4)).standard_normal((rows, columns)).astype(np.float32)
    values[1], values[2] = 0, 0.25
    values[3] *= 1e-20
    values[4] *= 1e20
    return values


def test_columns_are_within_half_a_step_of_the_weights():
    weight = weights(9, 37)
    integers, scales = quantize_columns(weight)
    assert (integers.shape, integers.dtype, scales.shape, scales.dtype) == ((37, 9), np.int8, (9,), np.float32)
    for n, row in enumerate(weight.astype(np.float64)):
        step = np.abs(row).max() / 127
        assert np.abs(integers[:, n] * np.float64(scales[n]) - row).max() <= 0.5001 * step
        assert step == 0 or scales[n] == pytest.approx(step, rel=1e-6)
    assert integers.min() >= -127 and integers.flags.c_contiguous


def test_columns_of_zeros_stay_zero_and_the_largest_weight_stays_itself():
    weight = weights(9, 37)
    integers, scales = quantize_columns(weight)
    assert (integers[:, 1] == 0).all() and scales[1] == 1
    assert (integers[:, 2] == 127).all() and scales[2] * np.float32(127) == pytest.approx(0.25)


@pytest.mark.parametrize("columns", [1, 31, 32, 33, 100])
def test_blocks_are_within_half_their_own_step_and_padded_with_zeros(columns):
    weight = weights(5, columns)
    count = -(-columns // 32)
    values, scales = quantize_blocks(weight, 32)
    assert (values.shape, values.dtype, scales.shape, scales.dtype) == (
        (5, count, 32),
        np.uint8,
        (5, count),
        np.float32,
    )
    restored = ((values.astype(np.float64) - 128) * scales[..., None].astype(np.float64)).reshape(5, -1)
    for n in range(5):
        for block in range(count):
            part = slice(32 * block, min(32 * block + 32, columns))
            step = np.abs(weight[n, part].astype(np.float64)).max() / 127
            assert np.abs(restored[n, part] - weight[n, part]).max() <= 0.5001 * step
            assert step == 0 or scales[n, block] == pytest.approx(step, rel=1e-6)
    assert (values.reshape(5, -1)[:, columns:] == 128).all()
    assert (values[1] == 128).all() and (scales[1] == 1).all()
    assert values.min() >= 1


# What is asked for.


@pytest.mark.parametrize(
    ("names", "expected"),
    [(["fp32"], ("fp32",)), (["int8", "fp32"], ("fp32", "int8")), (["int8", "int8"], ("int8",))],
)
def test_precisions_are_taken_once_each(names, expected):
    assert parse_precisions(names) == expected


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["fp32", "fp64"], "precision 'fp64' is unknown: choose from fp32, int8, fp16, bf16"),
        ([""], "precision '' is unknown"),
        ([], "no precision was asked for: choose from fp32, int8, fp16, bf16"),
    ],
)
def test_other_precisions_are_refused(names, says):
    with pytest.raises(RequestError) as error:
        parse_precisions(names)
    assert says in str(error.value)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_bundle_of_one_precision_has_that_one_and_speaks(precision, tmp_path):
    export(tmp_path / "voice", TWO_FLOWS, precisions=(precision,))
    manifest = Bundle.open(tmp_path / "voice").manifest
    assert list(manifest.graphs) == [precision]
    flows = {entry.precision for entry in manifest.files.values() if "flow_" in entry.role}
    assert flows == {precision}
    voice = Synthesizer.load(tmp_path / "voice", device="cpu")
    assert voice.precision == precision
    speech = voice.synthesize("Hello.", seed=3, max_frames=20)
    assert len(speech.samples) == 20 * 256 and np.abs(speech.samples).max() > 0


def test_a_bundle_without_int8_is_smaller_than_one_with_it(tmp_path):
    sizes = {}
    for precisions in (("fp32",), ("int8",), ("fp32", "int8")):
        export(tmp_path / "voice", TWO_FLOWS, precisions=precisions, overwrite=True, verify=False)
        sizes[precisions] = sum(path.stat().st_size for path in (tmp_path / "voice").glob("flow_*.bin"))
    assert sizes["int8",] < 0.5 * sizes["fp32",]
    assert sizes["fp32", "int8"] == sizes["fp32",] + sizes["int8",]


def test_the_bundle_says_where_it_comes_from(tmp_path):
    waveglow = save_waveglow(tmp_path / "glow.pt", TINY_WAVEGLOW)
    export(tmp_path / "anna", TWO_FLOWS, waveglow=waveglow, verify=False)
    manifest = Bundle.open(tmp_path / "anna").manifest
    assert manifest.name == "anna"
    assert manifest.warning == ""
    assert {model: source.file for model, source in manifest.sources.items()} == {
        "flowtron": "flowtron_two_flows.pt",
        "waveglow": "glow.pt",
    }
    expected = "062ee7949c80a88f0287d4dcc0453368f157e15dcd2f8bc791797185f8203d96"
    assert manifest.sources["flowtron"].sha256 == expected
    assert manifest.flowtron == TINY_FLOWTRON and manifest.waveglow == TINY_WAVEGLOW


def test_no_path_of_the_machine_stands_in_a_bundle(tmp_path):
    export(tmp_path / "voice", save_flowtron(tmp_path / "f.pt", TINY_FLOWTRON), verify=False)
    for path in (tmp_path / "voice").iterdir():
        assert str(tmp_path).encode() not in path.read_bytes()


def test_speakers_are_named_in_the_order_of_their_ids(tmp_path):
    export(tmp_path / "voice", TWO_FLOWS, speaker_names=("anna", "bert", "carla"), name="trio", verify=False)
    voice = Synthesizer.load(tmp_path / "voice", device="cpu")
    assert voice.manifest.name == "trio"
    assert [voice.speaker_id(name) for name in ("anna", "bert", "carla")] == [0, 1, 2]


def test_speakers_without_names_are_numbered(tmp_path):
    export(tmp_path / "voice", TWO_FLOWS, verify=False)
    assert Bundle.open(tmp_path / "voice").manifest.speakers == ("speaker_0", "speaker_1", "speaker_2")


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("anna", "bert"), "2 speaker names were given and FILE has 3 speakers: give one name for each"),
        (("anna", "bert", "anna"), "two speakers have the name 'anna': give each its own"),
        (("anna", "", "bert"), "'' cannot be the name of a speaker, it is empty"),
        (("anna", "b\nc", "d"), r"'b\nc' cannot be the name of a speaker, it has characters that cannot be shown"),
    ],
)
def test_names_that_do_not_fit_the_speakers_are_refused(names, says, tmp_path):
    with pytest.raises(RequestError) as error:
        export(tmp_path / "voice", TWO_FLOWS, speaker_names=names)
    assert says in str(error.value).replace(str(TWO_FLOWS), "FILE")
    assert list(tmp_path.iterdir()) == []


def test_a_vocoder_of_other_mels_is_refused(tmp_path):
    with pytest.raises(RequestError, match=r"has 16 mel channels and .* 80: give a vocoder trained on the same mels"):
        export(tmp_path / "voice", TWO_FLOWS, waveglow=GOLDEN / "waveglow_tiny.pt")
    assert list(tmp_path.iterdir()) == []


def test_the_same_checkpoints_give_the_same_files(tmp_path):
    waveglow = save_waveglow(tmp_path / "glow.pt", TINY_WAVEGLOW)
    for name in ("one", "two"):
        export(tmp_path / name, TWO_FLOWS, waveglow=waveglow, name="same", verify=False)
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two


def test_a_checkpoint_in_the_public_format_gives_the_voice_it_was_made_from(tmp_path):
    """A voice written from memory and the same exported from files differ in their names alone."""
    flowtron, waveglow = (
        save_flowtron(tmp_path / "f.pt", TINY_FLOWTRON),
        save_waveglow(tmp_path / "w.pt", TINY_WAVEGLOW),
    )
    export(tmp_path / "files", flowtron, waveglow=waveglow, verify=False)
    write_voice(random_voice("memory", TINY_FLOWTRON, TINY_WAVEGLOW), tmp_path / "memory")
    for path in (tmp_path / "memory").glob("*.onnx"):
        assert path.read_bytes() == (tmp_path / "files" / path.name).read_bytes()
    for path in (tmp_path / "memory").glob("*.bin"):
        assert path.read_bytes() == (tmp_path / "files" / path.name).read_bytes()


# Every kind of model.

FLOWTRONS = {
    "two flows": {},
    "one flow": {"n_flows": 1},
    "three flows": {"n_flows": 3},
    "cumulative attention": {"cumulative_attention": True},
    "cumulative attention, one flow": {"cumulative_attention": True, "n_flows": 1},
    "no gate, one layer": {"has_gate": False, "n_lstm_layers": 1},
    "one speaker, 20 symbols": {"n_speakers": 1, "n_text": 20},
    "odd sizes": {"n_attention": 7, "n_hidden": 10, "n_text_dim": 6, "n_speaker_dim": 1, "n_mels": 3},
}
WAVEGLOWS = {
    "one flow": {"n_flows": 1},
    "one layer, outputs after every flow": {"n_flows": 3, "n_early_every": 1, "n_layers": 1},
    "large early outputs": {"n_flows": 2, "n_early_every": 1, "n_early_size": 4},
    "group of 4": {"n_group": 4, "n_flows": 3, "n_early_every": 4},
    "group of 2": {"n_group": 2, "n_flows": 2, "n_early_every": 4},
    "kernel of 5": {"n_channels": 8, "kernel_size": 5, "n_flows": 2},
    "kernel of 1": {"kernel_size": 1, "n_flows": 2},
}


def roles(flows: int, vocoder: bool) -> set[str]:
    """The graphs a bundle has to have."""
    expected = {"encoder", "posterior"} | ({"vocoder"} if vocoder else set())
    for k in range(flows):
        expected |= {f"flow_{k}", f"flow_{k}_guided"}
    return expected


def assert_verified(results: list[Parity], flows: int, vocoder: bool) -> None:
    """Every graph was compared in each of its precisions, and passed."""
    single = {"encoder", "posterior"}
    expected = {r if r in single else f"{r} {p}" for r in roles(flows, vocoder) for p in ("fp32", "int8")}
    assert {result.graph for result in results} == expected
    assert all(result.passed for result in results)


@pytest.mark.parametrize(
    "changes", [{}, {"cumulative_attention": True, "n_flows": 1, "has_gate": False}], ids=["usual", "other"]
)
def test_the_graphs_for_gpus_are_verified_blocks_included(changes, tmp_path):
    sizes = dataclasses.replace(TINY_FLOWTRON, **changes)
    results = export(tmp_path / "voice", save_flowtron(tmp_path / "f.pt", sizes, seed=2), precisions=("fp16", "bf16"))
    flows = roles(sizes.n_flows, vocoder=False) - {"encoder", "posterior"}
    graphs = {"encoder", *flows, *(f"{flow}_block_{k}" for flow in flows for k in BLOCKS)}
    assert {r.graph for r in results} == {f"{g} {p}" for g in graphs for p in ("fp16", "bf16")} | {"posterior"}
    assert all(result.passed for result in results)
    outputs = {r.output for r in results if r.graph == "flow_0_block_8 fp16"}
    assert outputs >= {"mel", "attention", "next_state", "next_remaining"}


def test_a_block_that_stops_otherwise_than_single_frames_is_found(tmp_path, monkeypatch):
    """The utterance that a gate has ended goes on in the graph."""
    write = pipeline.write_files

    def write_wrong(voice: Any, precisions: Any, folder: Path, progress: Any) -> None:
        write(voice, precisions, folder, progress)
        path = folder / "flow_1_block_8.fp16.onnx"
        model = onnx.load(path, load_external_data=False)
        stop = next(node for node in model.graph.node if node.op_type == "Where" and "greater" in node.input[0])
        stop.input[1] = stop.input[2]
        onnx.save(model, path)

    monkeypatch.setattr(pipeline, "write_files", write_wrong)
    with pytest.raises(VerificationError, match=r"flow_1_block_8 fp16"):
        export(tmp_path / "voice", TWO_FLOWS, precisions=("fp16",))


@pytest.mark.parametrize("changes", FLOWTRONS.values(), ids=FLOWTRONS.keys())
def test_every_kind_of_flowtron_is_exported_and_verified(changes, tmp_path):
    sizes = dataclasses.replace(TINY_FLOWTRON, **changes)
    results = export(tmp_path / "voice", save_flowtron(tmp_path / "f.pt", sizes, seed=2))
    assert_verified(results, sizes.n_flows, vocoder=False)
    bundle = Bundle.open(tmp_path / "voice")
    assert bundle.manifest.flowtron == sizes
    assert set(bundle.manifest.graphs["int8"]) == roles(sizes.n_flows, vocoder=False)
    assert bundle.check_files() == []


@pytest.mark.parametrize("changes", WAVEGLOWS.values(), ids=WAVEGLOWS.keys())
def test_every_layout_of_waveglow_is_exported_and_verified(changes, tmp_path):
    sizes = dataclasses.replace(TINY_WAVEGLOW, n_mels=16, **changes)
    flowtron = save_flowtron(tmp_path / "f.pt", dataclasses.replace(SMALL_FLOWTRON, n_flows=1))
    results = export(tmp_path / "voice", flowtron, waveglow=save_waveglow(tmp_path / "w.pt", sizes))
    assert_verified(results, 1, vocoder=True)
    found = Bundle.open(tmp_path / "voice").manifest.waveglow
    leave_early = sizes.n_early_every < sizes.n_flows
    alike = found if leave_early else dataclasses.replace(found, n_early_every=sizes.n_early_every)
    assert alike == sizes  # where nothing leaves early, the file does not say when it would


@pytest.mark.parametrize("name", ["cumulative_attention", "three_flows_temperature", "dummy_speaker_no_gate"])
def test_golden_flowtrons_are_exported_with_their_configuration(name, golden, tmp_path):
    config = json.loads(str(golden(f"flowtron_{name}")["config"]))
    (tmp_path / "config.json").write_text(json.dumps({"model_config": config}))
    results = export(tmp_path / "voice", GOLDEN / f"flowtron_{name}.pt", config=tmp_path / "config.json")
    assert_verified(results, config["n_flows"], vocoder=False)
    sizes = Bundle.open(tmp_path / "voice").manifest.flowtron
    assert (sizes.has_gate, sizes.cumulative_attention, sizes.dummy_speaker) == (
        config["use_gate_layer"],
        config["use_cumm_attention"],
        config["dummy_speaker_embedding"],
    )


@pytest.mark.parametrize("name", ["tiny", "small_flows"])
def test_golden_waveglows_are_exported_beside_a_flowtron_of_their_mels(name, tmp_path):
    flowtron = save_flowtron(tmp_path / "f.pt", SMALL_FLOWTRON)
    results = export(tmp_path / "voice", flowtron, waveglow=GOLDEN / f"waveglow_{name}.pt")
    assert_verified(results, 2, vocoder=True)


def test_pickled_modules_are_exported(tmp_path):
    results = export(tmp_path / "voice", GOLDEN / "flowtron_pickled_module.pt")
    assert_verified(results, Bundle.open(tmp_path / "voice").manifest.flowtron.n_flows, vocoder=False)


def test_a_dummy_speaker_makes_all_speakers_sound_alike_and_nothing_else_does(golden, tmp_path):
    config = json.loads(str(golden("flowtron_dummy_speaker_no_gate")["config"]))
    z = np.random.Generator(np.random.Philox(1)).standard_normal((6, 80)).astype(np.float32)
    for dummy in (True, False):
        (tmp_path / "config.json").write_text(json.dumps({"model_config": config | {"dummy_speaker_embedding": dummy}}))
        source = GOLDEN / "flowtron_dummy_speaker_no_gate.pt"
        export(tmp_path / "voice", source, config=tmp_path / "config.json", verify=False, overwrite=True)
        voice = Synthesizer.load(tmp_path / "voice", device="cpu", precision="fp32")
        first, second = (voice.decode([11, 50, 60], z, speaker=who).mel for who in (0, 2))
        if dummy:
            np.testing.assert_array_equal(first, second)
        else:
            assert np.abs(first - second).max() > 1e-3


def test_a_voice_of_other_symbols_takes_ids_and_says_so_of_text(tmp_path):
    sizes = dataclasses.replace(TINY_FLOWTRON, n_text=20, n_flows=1)
    export(tmp_path / "voice", save_flowtron(tmp_path / "f.pt", sizes), verify=False)
    voice = Synthesizer.load(tmp_path / "voice", device="cpu", precision="fp32")
    assert voice.manifest.symbols[:2] == ("id0", "id1")
    assert voice.decode([0, 19], np.zeros((3, 80), np.float32)).mel.shape == (3, 80)
    with pytest.raises(RequestError, match="decode symbol ids instead of text"):
        voice.synthesize("Hello.")


# Verification.


@pytest.fixture(scope="module")
def small_voice():
    """A voice with two flows and a vocoder, all of 16 mel channels."""
    return random_voice("small", SMALL_FLOWTRON, dataclasses.replace(TINY_WAVEGLOW, n_mels=16, n_flows=2), seed=9)


@pytest.fixture(scope="module")
def small_path(small_voice, tmp_path_factory):
    path = tmp_path_factory.mktemp("small") / "voice"
    write_voice(small_voice, path)
    return path


def initializers(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Of a graph and of the bodies of its Scans."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from initializers(attribute.g)


def place_of(folder: Path, graph: str, name: str) -> tuple[Path, int, int]:
    """The file, offset and length in bytes of a constant whose name contains ``name``."""
    for tensor in initializers(onnx.load(folder / graph, load_external_data=False).graph):
        if name in tensor.name and tensor.data_location == onnx.TensorProto.EXTERNAL:
            entries = {entry.key: entry.value for entry in tensor.external_data}
            return folder / entries["location"], int(entries["offset"]), int(entries["length"])
    raise AssertionError(f"{graph} has no large constant {name}")


def add_to_one_weight(path: Path, offset: int, length: int) -> None:
    values = np.frombuffer(path.read_bytes(), np.float32, length // 4, offset).copy()
    values[len(values) // 2] += 10 * np.abs(values).max()
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(values.tobytes())


def halve_bytes(path: Path, offset: int, length: int) -> None:
    """Integers of 8 bits, all moved far from what they were."""
    values = np.frombuffer(path.read_bytes(), np.uint8, length, offset)
    with path.open("r+b") as file:
        file.seek(offset)
        file.write((values // 2).tobytes())


WRONG = {
    "encoder": ("encoder.fp32.onnx", "lstm.w", add_to_one_weight, "encoder memory"),
    "keys": ("encoder.fp32.onnx", "flows.1.key", add_to_one_weight, "encoder keys_1"),
    "values": ("encoder.fp32.onnx", "flows.0.value", add_to_one_weight, "encoder values_0"),
    "posterior": ("posterior.fp32.onnx", "flows.1.dense_layer", add_to_one_weight, "posterior z"),
    "first flow": ("flow_0.fp32.onnx", "dense_layer.layers.1", add_to_one_weight, "flow_0 fp32 mel"),
    "guided flow": ("flow_1_guided.fp32.onnx", "dense_layer.layers.0", add_to_one_weight, "flow_1_guided fp32 mel"),
    "vocoder": ("vocoder.fp32.onnx", "WN.0", add_to_one_weight, "vocoder fp32 audio"),
    "int8 flow": ("flow_0.int8.onnx", "lstm.0.int8", halve_bytes, "flow_0 int8 next_state"),
    "int8 vocoder": ("vocoder.int8.onnx", "cond_tanh.int8", halve_bytes, "vocoder int8 audio"),
}


@pytest.mark.parametrize(("graph", "weight", "damage", "says"), WRONG.values(), ids=WRONG.keys())
def test_a_graph_with_a_wrong_weight_fails_and_is_named(graph, weight, damage, says, small_voice, small_path, tmp_path):
    folder = Path(shutil.copytree(small_path, tmp_path / "voice"))
    damage(*place_of(folder, graph, weight))
    with pytest.raises(VerificationError) as error:
        verify_files(small_voice, ("fp32", "int8"), folder, silent)
    assert says in str(error.value)
    wrong = graph.partition(".")[0].removesuffix("_guided")
    others = {"encoder", "posterior", "flow_0", "flow_1", "vocoder"} - {wrong}
    assert [name for name in others if f" {name}" in str(error.value)] == []


def test_graphs_of_another_voice_fail(small_voice, tmp_path):
    other = random_voice("other", SMALL_FLOWTRON, dataclasses.replace(TINY_WAVEGLOW, n_mels=16, n_flows=2), seed=10)
    write_voice(other, tmp_path / "voice")
    with pytest.raises(VerificationError) as error:
        verify_files(small_voice, ("fp32", "int8"), tmp_path / "voice", silent)
    for graph in ("encoder", "posterior", "flow_0 fp32", "flow_1_guided int8", "vocoder fp32", "vocoder int8"):
        assert graph in str(error.value)


def test_an_export_that_fails_its_verification_leaves_nothing(monkeypatch, tmp_path):
    """The weights are changed between writing and verifying, as a faulty exporter would write them."""

    write = pipeline.write_files

    def write_wrong(voice: Any, precisions: Any, folder: Path, progress: Any) -> None:
        write(voice, precisions, folder, progress)
        add_to_one_weight(*place_of(folder, "flow_1.fp32.onnx", "dense_layer.layers.1"))

    monkeypatch.setattr(pipeline, "write_files", write_wrong)
    with pytest.raises(VerificationError, match="flow_1 fp32 mel"):
        export(tmp_path / "voice", TWO_FLOWS)
    assert list(tmp_path.iterdir()) == []
    export(tmp_path / "voice", TWO_FLOWS, verify=False)  # the user may insist
    assert Bundle.open(tmp_path / "voice").manifest.name == "voice"


def test_progress_rises_to_the_end(tmp_path):
    steps: list[tuple[str, float]] = []
    export_voice(ExportOptions(TWO_FLOWS), tmp_path / "voice", lambda what, done: steps.append((what, done)))
    fractions = [done for _, done in steps]
    assert fractions == sorted(fractions) and fractions[0] == 0 and fractions[-1] == pytest.approx(1)
    assert {"reading checkpoints", "wrote flow_1.int8.bin", "verified flow_1_guided int8"} <= {
        what for what, _ in steps
    }


def test_int8_speech_from_a_checkpoint_is_close_to_fp32_speech(tmp_path):
    export(tmp_path / "voice", TWO_FLOWS, verify=False)
    fp32, int8 = (
        Synthesizer.load(tmp_path / "voice", device="cpu", precision=p).synthesize("Hello.", max_frames=30).mel
        for p in ("fp32", "int8")
    )
    assert_close(int8, fp32, "mel", "int8")


# Overwriting.


def test_a_bundle_is_replaced_only_when_asked(tmp_path):
    export(tmp_path / "voice", TWO_FLOWS, precisions=("fp32",), verify=False)
    before = (tmp_path / "voice" / "manifest.json").read_bytes()
    with pytest.raises(RequestError, match="exists already: choose another name, or --overwrite it"):
        export(tmp_path / "voice", TWO_FLOWS, precisions=("int8",))
    assert (tmp_path / "voice" / "manifest.json").read_bytes() == before
    export(tmp_path / "voice", TWO_FLOWS, precisions=("int8",), overwrite=True)
    assert list(Bundle.open(tmp_path / "voice").manifest.graphs) == ["int8"]
    assert not (tmp_path / "voice" / "flow_0.fp32.onnx").exists()


def test_an_empty_folder_and_a_damaged_bundle_may_be_overwritten(tmp_path):
    (tmp_path / "voice").mkdir()
    export(tmp_path / "voice", TWO_FLOWS, verify=False, overwrite=True)
    (tmp_path / "voice" / "flow_0.int8.bin").unlink()
    (tmp_path / "voice" / "flow_1.int8.bin").write_bytes(b"")
    export(tmp_path / "voice", TWO_FLOWS, verify=False, overwrite=True)
    assert Bundle.open(tmp_path / "voice").check_files() == []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"thesis.pdf": "years of work"}, "it has no manifest.json"),
        ({"manifest.json": '{"format": "gguf"}', "model.bin": "x"}, "its manifest.json is of something else"),
        ({"manifest.json": "{", "model.bin": "x"}, "is not valid JSON"),
        (
            {"manifest.json": '{"format": "fte-voice", "files": {"a.bin": {}}}', "a.bin": "x", "speech.wav": "y"},
            "it holds more than a bundle ('speech.wav')",
        ),
    ],
)
def test_a_folder_of_something_else_is_never_overwritten(content, says, tmp_path):
    folder = tmp_path / "precious"
    folder.mkdir()
    for name, text in content.items():
        (folder / name).write_text(text)
    with pytest.raises(RequestError) as error:
        export(folder, TWO_FLOWS, overwrite=True)
    assert "precious is not overwritten" in str(error.value) and says in str(error.value)
    assert {path.name: path.read_text() for path in folder.iterdir()} == content
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("precisions", [("fp32",), ("fp32", "int8"), PRECISIONS])
def test_the_names_of_a_bundles_files_are_known_before_they_are_written(precisions, tmp_path):
    voice = dataclasses.replace(tiny_voice(), blocks=(1, 8))
    write_voice(voice, tmp_path / "voice", precisions)
    assert {path.name for path in (tmp_path / "voice").iterdir()} == file_names(voice, precisions)


@pytest.mark.parametrize("manifest", ["kept", "lost", "of another version"])
def test_a_voice_in_memory_replaces_no_strangers_file(manifest, tiny_path, tmp_path):
    folder = Path(shutil.copytree(tiny_path, tmp_path / "voice"))
    if manifest != "kept":
        (folder / "manifest.json").write_text("{" if manifest == "lost" else '{"format": "fte-voice", "version": 0}')
    write_voice(tiny_voice(), folder)
    assert Bundle.open(folder).check_files() == []
    (folder / "thesis.pdf").write_text("years of work")
    with pytest.raises(RequestError, match=r"it holds more than a bundle \('thesis.pdf'\)"):
        write_voice(tiny_voice(), folder)
    assert (folder / "thesis.pdf").read_text() == "years of work"


def test_a_failed_overwriting_keeps_the_old_bundle(tmp_path):
    export(tmp_path / "voice", TWO_FLOWS, verify=False)
    before = {path.name: path.read_bytes() for path in (tmp_path / "voice").iterdir()}
    with pytest.raises(CheckpointError):
        export(tmp_path / "voice", GOLDEN / "waveglow_tiny.pt", overwrite=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "voice").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["voice"]


def test_the_voice_is_named_like_its_folder_however_that_is_written(tmp_path, monkeypatch):
    (tmp_path / "anna").mkdir()
    monkeypatch.chdir(tmp_path / "anna")
    export(Path(), TWO_FLOWS, verify=False, overwrite=True)
    assert Bundle.open(tmp_path / "anna").manifest.name == "anna"
