"""The loop over TensorRT engines, on fake engines and a fake GPU whose work is done only when somebody waits."""

import dataclasses
import threading

import numpy as np
import pytest

from fake_cuda import FakeDriver
from fake_engine import FakeEngine
from fte.backends.cuda import Device
from fte.backends.tensorrt import TensorRtBackend
from fte.bundle import Bundle
from fte.decoder import Decoder
from fte.errors import BackendError, OutOfMemoryError
from fte.synthesizer import Synthesizer
from fte_export.pipeline import write_voice
from fte_export.random_voice import TINY_FLOWTRON, TINY_WAVEGLOW, random_voice
from test_decoder import threshold_that_stops_differently, utterances, with_guidance
from tolerances import assert_close

VARIANTS = {
    "two_flows": TINY_FLOWTRON,
    "three_flows_cumulative": dataclasses.replace(TINY_FLOWTRON, n_flows=3, cumulative_attention=True),
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    made = {}

    def make(variant="two_flows"):
        if variant not in made:
            path = tmp_path_factory.mktemp("engines") / variant
            voice = random_voice(variant, VARIANTS[variant], TINY_WAVEGLOW, seed=5)
            write_voice(dataclasses.replace(voice, blocks=(8,)), path, ("fp32",))
            made[variant] = Bundle.open(path)
        return made[variant]

    return make


class Machine:
    """A fake GPU and the backend on it."""

    def __init__(self, **engine_options):
        self.driver = FakeDriver()
        self.device = Device(0, self.driver)
        self.backend = TensorRtBackend(
            self.device, lambda path: FakeEngine(path, self.driver, **engine_options), block_frames=8
        )


@pytest.fixture
def machine():
    made = Machine()
    yield made
    made.device.close()
    assert not any((made.driver.buffers, made.driver.streams, made.driver.events, made.driver.graphs_made))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", ["plain", "gates", "guided"])
def test_decoding_is_that_of_the_cpu(variant, kind, bundle, backend, machine):
    reference = Decoder(bundle(variant), backend, "fp32")
    batch = utterances(3)
    if kind == "gates":
        batch = threshold_that_stops_differently(reference, batch)
    elif kind == "guided":
        batch = with_guidance(batch, VARIANTS[variant].n_flows)
    decoder = Decoder(bundle(variant), machine.backend, "fp32")
    for _ in range(3):  # as it is, then captured, then replayed
        for ours, expected in zip(decoder.decode(batch), reference.decode(batch), strict=True):
            assert_close(ours.mel, expected.mel, "batch")
            assert ours.ended == expected.ended
            for a, b in zip(ours.attention, expected.attention, strict=True):
                assert_close(a, b, "batch")


def test_speaking_is_that_of_the_cpu(bundle, backend, machine):
    ours, reference = (Synthesizer(bundle(), b, "fp32") for b in (machine.backend, backend))
    options = {"seed": 3, "max_frames": 60, "retries": 0}
    for text in ("Hello there.", "And again.", "Hello there."):
        expected = reference.synthesize(text, **options)
        assert_close(ours.synthesize(text, **options).samples, expected.samples, "audio")


def test_the_host_waits_once_a_block(bundle, machine):
    decoder = Decoder(bundle(), machine.backend, "fp32")
    (utterance,) = utterances(1)  # 20 frames: 3 blocks in each of 2 flows
    decoder.decode([utterance])
    before = machine.driver.synchronisations
    decoder.decode([utterance])
    encoder, blocks, closing = 1, 3, 1
    assert machine.driver.synchronisations - before == encoder + 2 * (blocks + closing)


def test_a_block_is_a_handful_of_launches(bundle, machine):
    """Of 8 frames: z in, the graph, and mel, attention and gate out; the states never leave."""
    decoder = Decoder(bundle(), machine.backend, "fp32")
    (utterance,) = utterances(1)
    counts = []
    for frames in (8, 16):  # one block and two
        longer = dataclasses.replace(utterance, z=np.zeros((frames, 80), np.float32))
        for _ in range(3):
            decoder.decode([longer])
        before = machine.backend.usage().launches
        decoder.decode([longer])
        counts.append(machine.backend.usage().launches - before)
    one_block_of_each_flow = counts[1] - counts[0]
    assert one_block_of_each_flow == (1 + 1 + 2) + (1 + 1 + 3)  # flow 0, and flow 1, which has the gate


def test_nothing_is_allocated_for_a_shape_that_was_seen(bundle, machine):
    decoder = Decoder(bundle(), machine.backend, "fp32")
    decoder.decode(utterances(2))
    held = set(machine.driver.buffers), set(machine.driver.streams)
    decoder.decode(utterances(2))
    assert (set(machine.driver.buffers), set(machine.driver.streams)) == held


def test_texts_of_like_length_share_their_buffers(bundle, machine):
    decoder = Decoder(bundle(), machine.backend, "fp32")
    short, longer = utterances(2)
    decoder.decode([short])
    held = set(machine.driver.buffers)
    decoder.decode([longer])
    assert set(machine.driver.buffers) == held


@pytest.mark.parametrize("options", [{"captures": False}, {"refuses": True}])
def test_what_cannot_be_captured_is_enqueued_each_time(options, bundle, backend):
    machine = Machine(**options)
    decoder, reference = Decoder(bundle(), machine.backend, "fp32"), Decoder(bundle(), backend, "fp32")
    for _ in range(3):
        (ours,), (expected,) = decoder.decode(utterances(1)), reference.decode(utterances(1))
        assert_close(ours.mel, expected.mel, "batch")
    assert not machine.driver.graphs_made


def test_streams_in_threads_do_not_mix(bundle, backend, machine):
    decoder, reference = Decoder(bundle(), machine.backend, "fp32"), Decoder(bundle(), backend, "fp32")
    batch = utterances(4)
    decoder.load()
    found = {}

    def decode(i):
        found[i] = decoder.decode([batch[i]])[0].mel

    threads = [threading.Thread(target=decode, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, utterance in enumerate(batch):
        assert_close(found[i], reference.decode([utterance])[0].mel, "batch")


def test_a_stream_that_is_left_gives_its_buffers_back(bundle, machine):
    decoder = Decoder(bundle(), machine.backend, "fp32")
    decoder.decode(utterances(1))
    held = set(machine.driver.buffers)
    frames = decoder.stream(utterances(1))
    next(frames)
    frames.close()
    decoder.decode(utterances(1))
    assert set(machine.driver.buffers) == held


def test_a_batch_past_the_profile_is_refused(bundle):
    machine = Machine(most={"B": 2, "N": 200})
    decoder = Decoder(bundle(), machine.backend, "fp32")
    with pytest.raises(BackendError, match=r"text_ids has shape \(3, 32\) and the engine was built for \(1, 1\) to"):
        decoder.decode(utterances(3))
    assert len(decoder.decode(utterances(2))) == 2


def test_a_text_past_the_profile_is_refused(bundle):
    machine = Machine(most={"B": 8, "N": 16})
    with pytest.raises(BackendError, match="build it with larger limits"):
        Decoder(bundle(), machine.backend, "fp32").decode(utterances(1))


def test_idle_buffers_make_room(bundle):
    """What is kept for shapes seen before is given up when memory is short."""
    machine = Machine()
    decoder = Decoder(bundle(), machine.backend, "fp32")
    decoder.decode(utterances(8))
    machine.driver._total = machine.driver._total - machine.driver.memory()[0]  # nothing is free
    decoder.decode(utterances(1))


def test_what_does_not_fit_at_all_is_told(bundle):
    machine = Machine()
    machine.driver._total = 1000
    with pytest.raises(OutOfMemoryError, match="the GPU has no memory left"):
        Decoder(bundle(), machine.backend, "fp32").decode(utterances(2))


def test_inputs_and_outputs_that_are_not_there(bundle, machine):
    graph = machine.backend.load(bundle().graph("fp32", "encoder"))
    with pytest.raises(BackendError, match="missing or unknown is speaker_ids, text_lengths"):
        graph.run(["memory"], {"text_ids": np.zeros((1, 3), np.int64)})
    with pytest.raises(BackendError, match="has no output 'mel'"):
        graph.run(["mel"], {})
