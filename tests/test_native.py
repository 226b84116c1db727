"""The native engine as a backend: golden vectors, its int8 beside ONNX Runtime's, batches, what it refuses."""

import dataclasses
import json

import numpy as np
import pytest

from fte import Request, Synthesizer, noise
from fte.backends import open_backend
from fte.backends.native import BLOCK_FRAMES, NativeBackend
from fte.bundle import Bundle
from fte.decoder import NEVER, Decoder, Utterance
from fte.errors import BackendError, BundleError
from fte.vocoder import Vocoder, given_noise
from fte_export.engine_weights import engine_tensors
from fte_export.pipeline import write_voice
from fte_export.random_voice import TINY_FLOWTRON, random_flowtron, tiny_voice
from fte_export.writer import Voice
from test_golden import INFERENCE, VOCODERS, expected_attention, utterance_of
from tolerances import assert_close

pytest.importorskip("fte._native", reason="the native engine was not built: no C++17 compiler")
INSTRUCTIONS = ("portable", "AVX2", "AVX-512 VNNI")


@pytest.fixture(scope="module")
def native() -> NativeBackend:
    return NativeBackend(threads=2)


@pytest.fixture(params=INSTRUCTIONS, scope="module")
def each_native(request) -> NativeBackend:
    """A backend for each set of instructions that this CPU has."""
    backend = NativeBackend(2, request.param)
    try:
        backend._library.Engine("", "", 1, request.param)
    except ValueError:
        pytest.skip(f"this CPU has no {request.param}")
    except RuntimeError:  # the empty folder: the instructions are there
        pass
    return backend


@pytest.mark.parametrize("name", INFERENCE)
def test_golden_inference(name, golden, golden_bundle, each_native):
    arrays = golden(name)
    decoded = Decoder(golden_bundle(name), each_native, "fp32").decode([utterance_of(arrays)])[0]
    assert_close(decoded.mel, arrays["mel"][0].T, "mel")
    for flow, weights in enumerate(decoded.attention):
        assert_close(weights, expected_attention(arrays, flow, len(decoded.attention)), "attention")


@pytest.mark.parametrize("name", INFERENCE)
def test_golden_encoder(name, golden, golden_bundle, native):
    arrays = golden(name)
    memory = Decoder(golden_bundle(name), native, "fp32").encoder_output([utterance_of(arrays)])
    expected = arrays["encoder_output"]
    assert_close(memory[:, :, : expected.shape[2]], expected, "encoder")


@pytest.mark.parametrize("name", VOCODERS)
def test_golden_vocoder(name, golden, waveglow_bundle, each_native):
    arrays = golden(name)
    bundle = waveglow_bundle(name)
    graph = each_native.open(bundle, "fp32", "vocoder")
    noise_rows = np.concatenate([arrays[f"noise_{i}"] for i in range(3)], axis=1).transpose(0, 2, 1)
    sigma = np.float32(arrays["sigma"])
    mel = np.ascontiguousarray(arrays["mel"].transpose(0, 2, 1))
    (audio,) = graph.run(["audio"], {"mel": mel, "noise": np.ascontiguousarray(sigma * noise_rows)})
    assert_close(audio, arrays["audio"], "audio")


@pytest.mark.parametrize("name", INFERENCE)
def test_int8_is_nearer_to_the_golden_mel_than_onnx_runtimes(name, golden, golden_bundle, native, backend):
    arrays = golden(name)
    expected = arrays["mel"][0].T

    def error(of) -> float:
        mel = Decoder(golden_bundle(name), of, "int8").decode([utterance_of(arrays)])[0].mel
        return float(np.sqrt(np.mean((mel - expected) ** 2)))

    assert error(native) <= error(backend)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_narrow_weights_are_within_their_tolerances(precision, golden, native, tmp_path):
    name = "flowtron_three_flows_temperature"
    arrays = golden(name)
    from conftest import GOLDEN
    from fte_export.checkpoint import read_flowtron

    flowtron = read_flowtron(GOLDEN / f"{name}.pt", config=json.loads(str(arrays["config"])))
    write_voice(Voice(name, flowtron, None, ("a", "b", "c")), tmp_path / "voice", (precision,))
    decoded = Decoder(Bundle.open(tmp_path / "voice"), native, precision).decode([utterance_of(arrays)])[0]
    assert_close(decoded.mel, arrays["mel"][0].T, "mel", precision)


def signal_to_noise(actual, expected) -> float:
    return float(10 * np.log10(np.sum(expected**2) / np.sum((actual - expected) ** 2)))


@pytest.mark.slow
def test_int8_audio_at_published_size_is_nearer_to_fp32_than_onnx_runtimes(tmp_path, native, backend):
    from fte_export.random_voice import PUBLISHED_WAVEGLOW, random_waveglow

    path = tmp_path / "voice"
    write_voice(
        Voice("published", random_flowtron(TINY_FLOWTRON), random_waveglow(PUBLISHED_WAVEGLOW), ("a", "b", "c")), path
    )
    bundle, frames = Bundle.open(path), 16
    generator = np.random.default_rng(0)
    mel = (generator.normal(-5, 2, (frames, 80))).astype(np.float32)
    rows = generator.standard_normal((frames, 256)).astype(np.float32)

    def audio(of, precision):
        return Vocoder(bundle, of, precision).vocode(mel, given_noise(rows), sigma=0.8)

    exact = audio(backend, "fp32")
    assert signal_to_noise(audio(native, "fp32"), exact) > 100
    assert signal_to_noise(audio(native, "int8"), exact) >= signal_to_noise(audio(backend, "int8"), exact)


@pytest.fixture(scope="module")
def utterances() -> list[Utterance]:
    """Twenty of them, more than the engine takes at once, no two alike."""
    generator = np.random.default_rng(3)
    made = []
    for i in range(20):
        symbols, frames = 3 + i, 10 + 3 * (i % 5)
        prior = attention = None
        if i % 4 == 1:
            prior = generator.random((frames, symbols)).astype(np.float32)
        if i % 4 == 2:
            rows = generator.random((2, frames, symbols)).astype(np.float32)
            attention = tuple(rows / rows.sum(axis=2, keepdims=True))
        made.append(
            Utterance(
                generator.integers(0, 185, symbols),
                (0.5 * generator.standard_normal((frames, 80))).astype(np.float32),
                speaker=i % 3,
                gate_threshold=0.4 + 0.03 * (i % 7),
                temperature=1.0 + 0.1 * (i % 2),
                attention=attention,
                attention_prior=prior,
            )
        )
    return made


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_batch_is_bit_for_bit_what_its_utterances_are_alone(precision, tiny_path, native, utterances):
    decoder = Decoder(Bundle.open(tiny_path), native, precision)
    for together, utterance in zip(decoder.decode(utterances), utterances, strict=True):
        alone = decoder.decode([utterance])[0]
        np.testing.assert_array_equal(together.mel, alone.mel)
        assert together.ended == alone.ended


def test_a_batch_is_that_of_onnx_runtime(tiny_path, native, backend, utterances):
    ours, theirs = (Decoder(Bundle.open(tiny_path), of, "fp32").decode(utterances) for of in (native, backend))
    for a, b in zip(ours, theirs, strict=True):
        assert a.ended == b.ended
        assert_close(a.mel, b.mel, "mel")
        for k, weights in enumerate(a.attention):
            assert_close(weights, b.attention[k], "attention")


def test_instructions_that_no_cpu_has_are_refused_before_the_voice_is_read(native):
    with pytest.raises(ValueError, match="no instructions called nonsense"):
        native._library.Engine("", "", 1, "nonsense")


def test_threads_do_not_change_a_bit(tiny_path, utterances):
    bundle = Bundle.open(tiny_path)
    one, three = (Decoder(bundle, NativeBackend(n), "int8").decode(utterances[:4]) for n in (1, 3))
    for a, b in zip(one, three, strict=True):
        np.testing.assert_array_equal(a.mel, b.mel)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_stream_is_the_whole(precision, tiny_path):
    voice = Synthesizer.load(tiny_path, "cpu", precision, threads=2, backend="native")
    request = Request("One two three, four five six.", seed=3, overlap=30)
    whole = voice.synthesize(request).samples
    streamed = np.concatenate([chunk.samples for chunk in voice.stream(request)])
    np.testing.assert_array_equal(streamed, whole)


def test_speech_is_that_of_onnx_runtime(tiny_path, tiny):
    ours = Synthesizer.load(tiny_path, "cpu", "fp32", backend="native").synthesize("Hello there.", seed=1)
    assert_close(ours.samples, tiny.synthesize("Hello there.", seed=1).samples, "audio")


def test_latents_outlive_a_change_of_block(tiny_path, native, utterances, monkeypatch):
    decoder = Decoder(Bundle.open(tiny_path), native, "fp32")
    expected = decoder.decode(utterances[:3])
    monkeypatch.setattr("fte.backends.native.BLOCK_FRAMES", 3)
    other = Decoder(Bundle.open(tiny_path), native, "fp32")
    assert (decoder.block_frames, other.block_frames) == (BLOCK_FRAMES, 3)
    for a, b in zip(expected, other.decode(utterances[:3]), strict=True):
        np.testing.assert_array_equal(a.mel, b.mel)


class TestRefusals:
    def test_cuda(self, tiny_path):
        with pytest.raises(BackendError, match="native engine runs on the CPU"):
            open_backend(Bundle.open(tiny_path), "native", "cuda")

    @pytest.mark.parametrize("threads", [0, -1, 257])
    def test_threads(self, tiny_path, native, threads):
        with pytest.raises(BackendError, match="threads is"):
            NativeBackend(threads)
        with pytest.raises(ValueError, match="threads"):
            native._library.Engine(str(tiny_path), "fp32", threads)

    def test_styles(self, tiny_path, native):
        with pytest.raises(BackendError, match="does not extract styles"):
            native.open(Bundle.open(tiny_path), "fp32", "posterior")

    def test_a_voice_without_vocoder(self, golden_bundle, native):
        with pytest.raises(BundleError, match="no vocoder"):
            native.open(golden_bundle("flowtron_two_flows"), "fp32", "vocoder")

    def test_an_unknown_flow(self, tiny_path, native):
        with pytest.raises(BundleError, match="flow_2"):
            native.open(Bundle.open(tiny_path), "fp32", "flow_2")

    def test_a_bundle_from_before_the_engine(self, tiny_path, native, tmp_path):
        manifest = json.loads((tiny_path / "manifest.json").read_text())
        del manifest["engine"]
        (tmp_path / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(BundleError, match="no weights for the native engine"):
            native.open(Bundle.open(tmp_path), "fp32", "encoder")

    def test_changed_weights(self, native, tmp_path):
        write_voice(tiny_voice(), tmp_path / "voice", ("fp32",))
        file = tmp_path / "voice" / "engine.fp32.safetensors"
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
        with pytest.raises(BundleError, match="SHA-256"):
            native.open(Bundle.open(tmp_path / "voice"), "fp32", "encoder")

    def test_arrays_of_a_wrong_shape(self, tiny_path, native):
        engine = native._engine(Bundle.open(tiny_path), "fp32")
        ids = np.array([1, 2], np.int64)
        with pytest.raises(ValueError, match="memory"):
            engine.encode(ids, 0, np.zeros((3, 64), np.float32))
        with pytest.raises(ValueError, match="ids"):
            engine.encode(np.array([999], np.int64), 0, np.zeros((1, 64), np.float32))
        with pytest.raises(ValueError, match="speaker"):
            engine.encode(ids, 3, np.zeros((2, 64), np.float32))
        with pytest.raises(TypeError):
            engine.encode(ids, 0, np.zeros((2, 64), np.float64))
        with pytest.raises(ValueError, match="noise"):
            engine.vocode(np.zeros((2, 80), np.float32), np.zeros((3, 8), np.float32), np.zeros(512, np.float32))


def test_the_weights_of_an_engine_are_those_of_the_checkpoint():
    voice = tiny_voice()
    arrays = voice.flowtron.arrays
    exact, int8 = (dict(engine_tensors(voice, precision)) for precision in ("fp32", "int8"))
    weight = arrays["flows.0.lstm.weight_ih_l0"]
    hidden = TINY_FLOWTRON.n_hidden
    np.testing.assert_array_equal(exact["flows.0.lstm.0.hidden"], weight[:, :hidden])
    np.testing.assert_array_equal(exact["flows.0.lstm.0.context"], weight[:, hidden:])
    restored = int8["flows.0.lstm.0.hidden"] * int8["flows.0.lstm.0.hidden.scale"][:, None]
    step = np.abs(weight[:, :hidden]).max(axis=1, keepdims=True) / 127
    assert (np.abs(restored - weight[:, :hidden]) <= 0.501 * step).all()
    assert set(int8) - set(exact) == {f"{name}.scale" for name, array in int8.items() if array.dtype == np.int8}


def test_a_request_for_no_gate_is_obeyed(tiny_path, native):
    z = noise.normal((25, 80), seed=1, request=0, stream="prior")
    utterance = Utterance(np.arange(5), z, gate_threshold=NEVER)
    decoder = Decoder(Bundle.open(tiny_path), native, "int8")
    assert len(decoder.decode([utterance])[0].mel) == 25
    assert len(decoder.decode([dataclasses.replace(utterance, gate_threshold=0.0)])[0].mel) == 1
