"""Every golden array of the public Flowtron and WaveGlow, reproduced through the exported graphs."""

import json

import numpy as np
import pytest

from fte.decoder import NEVER, Decoder, Utterance
from fte.synthesizer import Synthesizer
from fte.vocoder import exact_overlap
from tolerances import LEAST_SNR_DB, assert_close

INFERENCE = (
    "flowtron_two_flows",
    "flowtron_gate_stops",
    "flowtron_three_flows_temperature",
    "flowtron_cumulative_attention",
    "flowtron_dummy_speaker_no_gate",
    "flowtron_attention_prior",
)
FORWARD = INFERENCE[:-1]
VOCODERS = ("waveglow_tiny", "waveglow_small_flows")


def utterance_of(arrays) -> Utterance:
    return Utterance(
        text_ids=arrays["text_ids"][0],
        z=np.ascontiguousarray(arrays["z"][0].T),
        speaker=int(arrays["speaker_id"][0]),
        gate_threshold=float(arrays["gate_threshold"]),
        temperature=float(arrays["temperature"]),
        attention_prior=arrays["attn_prior"][0] if "attn_prior" in arrays else None,
    )


@pytest.fixture(scope="module")
def decoded(golden, golden_bundle, backend):
    """A function: golden name and precision -> what the exported graphs decode, computed once."""
    made = {}

    def decode(name, precision="fp32"):
        if (name, precision) not in made:
            decoder = Decoder(golden_bundle(name), backend, precision)
            made[name, precision] = decoder.decode([utterance_of(golden(name))])[0]
        return made[name, precision]

    return decode


def expected_attention(arrays, flow: int, n_flows: int) -> np.ndarray:
    """Golden attention counts flows in order of execution, and a backward flow's rows in its own order."""
    rows = arrays[f"attention_{n_flows - 1 - flow}"]
    return rows[::-1] if flow % 2 else rows


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("name", INFERENCE)
class TestInference:
    def test_mel(self, name, precision, golden, decoded):
        assert_close(decoded(name, precision).mel, golden(name)["mel"][0].T, "mel", precision)

    def test_attention_of_every_flow(self, name, precision, golden, decoded):
        arrays, attention = golden(name), decoded(name, precision).attention
        for flow, weights in enumerate(attention):
            assert_close(weights, expected_attention(arrays, flow, len(attention)), "attention", precision)


@pytest.mark.parametrize("name", INFERENCE)
def test_encoder_output(name, golden, golden_bundle, backend):
    arrays = golden(name)
    memory = Decoder(golden_bundle(name), backend, "fp32").encoder_output([utterance_of(arrays)])
    expected = arrays["encoder_output"]
    assert_close(memory[:, :, : expected.shape[2]], expected, "encoder")


def test_gate_ends_the_utterance_at_the_golden_frame(decoded):
    result = decoded("flowtron_gate_stops")
    assert len(result.mel) == 22  # of 60 frames of z


def test_only_the_frame_that_ends_the_utterance_exceeds_the_gate_threshold(golden, decoded):
    """The last flow has the gate and runs backward here, so that frame is the utterance's first."""
    gate = decoded("flowtron_gate_stops").gate
    assert np.flatnonzero(gate > golden("flowtron_gate_stops")["gate_threshold"]).tolist() == [0]


@pytest.mark.parametrize("name", FORWARD)
class TestForward:
    """Of a padded batch, beyond an utterance's length the golden values mean nothing."""

    def run(self, name, golden, golden_bundle, backend):
        arrays = golden(name)
        inputs = {
            "text_ids": arrays["fwd_text_ids"],
            "text_lengths": arrays["fwd_text_lengths"],
            "speaker_ids": arrays["fwd_speaker_ids"],
            "mel": arrays["fwd_mel"].transpose(0, 2, 1),
            "mel_lengths": arrays["fwd_mel_lengths"],
        }
        return arrays, posterior(golden_bundle(name), backend, inputs, float(arrays["temperature"]))

    def test_z_log_s_attention_and_gate(self, name, golden, golden_bundle, backend):
        arrays, outputs = self.run(name, golden, golden_bundle, backend)
        expected = {"z": arrays["fwd_z"].transpose(0, 2, 1)}
        for k in range(json.loads(str(arrays["config"]))["n_flows"]):
            expected[f"log_s_{k}"] = arrays[f"fwd_log_s_{k}"].transpose(0, 2, 1)
            expected[f"attention_{k}"] = arrays[f"fwd_attention_{k}"]
        if "gate_logits" in outputs:
            expected["gate_logits"] = arrays["fwd_gate_logits"]
        for output, values in expected.items():
            for b, length in enumerate(arrays["fwd_mel_lengths"]):
                assert_close(outputs[output][b, :length], values[b, :length], "posterior")

    def test_first_utterance_alone(self, name, golden, golden_bundle, backend):
        arrays = golden(name)
        inputs = {
            "text_ids": arrays["fwd_text_ids"][:1],
            "text_lengths": arrays["fwd_text_lengths"][:1],
            "speaker_ids": arrays["fwd_speaker_ids"][:1],
            "mel": arrays["fwd_mel"][:1].transpose(0, 2, 1),
            "mel_lengths": arrays["fwd_mel_lengths"][:1],
        }
        outputs = posterior(golden_bundle(name), backend, inputs, float(arrays["temperature"]))
        assert_close(outputs["z"], arrays["fwd_z_single"].transpose(0, 2, 1), "posterior")


def posterior(bundle, backend, inputs, temperature=1.0):
    """Run the posterior graph as the public implementation computes it: padding is not hidden from neighbours."""
    graph = backend.load(bundle.graph("fp32", "posterior"))
    batch, symbols = inputs["text_ids"].shape
    inputs = inputs | {
        "mel": np.ascontiguousarray(inputs["mel"]),
        "temperature": np.full((batch, 1), temperature, np.float32),
        "prior": np.ones((batch, inputs["mel"].shape[1], symbols), np.float32),
    }
    if "neighbour_mask" in graph.input_names:
        inputs["neighbour_mask"] = np.ones((batch, symbols), np.float32)
    return dict(zip(graph.output_names, graph.run(graph.output_names, inputs), strict=True))


@pytest.mark.parametrize("name", VOCODERS)
class TestWaveglow:
    def golden_noise(self, arrays):
        return np.concatenate([arrays[f"noise_{i}"][0] for i in range(3)]).T

    def test_audio_in_one_piece(self, name, golden, waveglow_bundle, backend):
        arrays = golden(name)
        voice = Synthesizer(waveglow_bundle(name), backend, "fp32")
        samples = voice.vocode(
            arrays["mel"][0].T, noise=self.golden_noise(arrays), sigma=float(arrays["sigma"]), chunk=1000
        )
        assert_close(samples, arrays["audio"][0], "audio")

    def test_audio_in_small_exact_chunks(self, name, golden, waveglow_bundle, backend):
        arrays = golden(name)
        voice = Synthesizer(waveglow_bundle(name), backend, "fp32")
        overlap = exact_overlap(voice.vocoder.sizes)
        samples = voice.vocode(
            arrays["mel"][0].T, noise=self.golden_noise(arrays), sigma=float(arrays["sigma"]), chunk=3, overlap=overlap
        )
        assert_close(samples, arrays["audio"][0], "audio")

    def test_int8_audio_is_within_40_db(self, name, golden, waveglow_bundle, backend):
        arrays = golden(name)
        voice = Synthesizer(waveglow_bundle(name), backend, "int8")
        samples = voice.vocode(arrays["mel"][0].T, noise=self.golden_noise(arrays), sigma=float(arrays["sigma"]))
        assert snr_db(samples, arrays["audio"][0]) > LEAST_SNR_DB["audio", "int8"]


def snr_db(actual, expected) -> float:
    return 10 * np.log10(np.square(expected).sum() / np.square(actual - expected).sum())


def test_a_recording_goes_to_z_and_back(golden, golden_bundle, backend):
    """Real speech through a random model: decoding the posterior z of a mel gives that mel."""
    mel = np.ascontiguousarray(golden("mel_spectrogram")["mel"].T)
    bundle = golden_bundle("flowtron_two_flows")
    ids = np.arange(17) + 50
    inputs = {
        "text_ids": ids[None],
        "text_lengths": np.array([17]),
        "speaker_ids": np.array([2]),
        "mel": mel[None],
        "mel_lengths": np.array([len(mel)]),
    }
    z = posterior(bundle, backend, inputs)["z"][0]
    (back,) = Decoder(bundle, backend, "fp32").decode([Utterance(ids, z, speaker=2, gate_threshold=NEVER)])
    assert_close(back.mel, mel, "round_trip")
