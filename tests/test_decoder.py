"""The autoregressive loop: batches, gates, guidance and what it refuses."""

import dataclasses

import numpy as np
import pytest

from fte import noise
from fte.backends import Backend, OnnxRuntimeBackend
from fte.bundle import Bundle
from fte.constants import LIMITS
from fte.decoder import NEVER, Arrival, Decoder, Utterance
from fte.errors import OutOfMemoryError, RequestError
from fte_export.pipeline import write_voice
from fte_export.random_voice import TINY_FLOWTRON, random_voice
from tolerances import assert_close

BLOCKS = (1, 8, 16)
VARIANTS = {
    "two_flows": TINY_FLOWTRON,
    "one_flow": dataclasses.replace(TINY_FLOWTRON, n_flows=1),
    "three_flows_cumulative": dataclasses.replace(TINY_FLOWTRON, n_flows=3, cumulative_attention=True),
    "no_gate_one_layer": dataclasses.replace(TINY_FLOWTRON, has_gate=False, n_lstm_layers=1),
}


@pytest.fixture(scope="module")
def decoder(tmp_path_factory, backend):
    """A function: variant and precision -> its decoder."""
    bundles = {}

    def make(variant: str, precision: str = "fp32", backend: Backend = backend) -> Decoder:
        if variant not in bundles:
            path = tmp_path_factory.mktemp("variants") / variant
            voice = random_voice(variant, VARIANTS[variant], None, seed=5)
            write_voice(dataclasses.replace(voice, blocks=BLOCKS), path)
            bundles[variant] = Bundle.open(path)
        return Decoder(bundles[variant], backend, precision)

    return make


def utterances(count: int, gate_threshold: float = NEVER) -> list[Utterance]:
    """Different texts, lengths of text and z, and speakers."""
    random = np.random.Generator(np.random.Philox(3))
    return [
        Utterance(
            text_ids=random.integers(0, 185, 5 + 3 * i),
            z=0.5 * noise.normal((20 + 7 * (i % 4), 80), seed=i, request=0, stream="prior"),
            speaker=i % 3,
            gate_threshold=gate_threshold,
        )
        for i in range(count)
    ]


def threshold_that_stops_differently(decoder: Decoder, batch: list[Utterance]) -> list[Utterance]:
    """Thresholds from each utterance's own gate curve, so that each stops at its own frame."""
    stopping = []
    for i, utterance in enumerate(batch):
        gate = decoder.decode([utterance])[0].gate
        order = gate[::-1] if decoder.sizes.n_flows % 2 == 0 else gate
        # a frame clearly above all before it, so that the last bit of a gate decides nothing
        candidates = [t for t in range(1 + i, len(order)) if order[t] > order[:t].max() + 1e-5]
        t = candidates[0] if candidates else len(order)
        threshold = float(order[t] + order[:t].max()) / 2 if candidates else NEVER
        stopping.append(dataclasses.replace(utterance, gate_threshold=threshold))
    return stopping


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_batch_of_eight_is_the_eight_alone(variant, precision, decoder):
    run = decoder(variant, precision)
    batch = utterances(8)
    if run.sizes.has_gate:
        batch = threshold_that_stops_differently(run, batch)
    together = run.decode(batch)
    for utterance, joint in zip(batch, together, strict=True):
        (alone,) = run.decode([utterance])
        assert_close(joint.mel, alone.mel, "batch", precision)
        for a, b in zip(joint.attention, alone.attention, strict=True):
            assert_close(a, b, "batch", precision)


def test_the_batch_of_eight_really_stops_at_different_frames(decoder):
    run = decoder("two_flows")
    batch = threshold_that_stops_differently(run, utterances(8))
    lengths = {len(d.mel) for d in run.decode(batch)}
    assert len(lengths) >= 4


@pytest.mark.parametrize("frames", BLOCKS)
@pytest.mark.parametrize("variant", VARIANTS)
class TestBlocks:
    """Decoding several frames at once gives what single frames give, wherever an utterance ends.

    Up to the last bits of a batch: with single frames, utterances that have ended leave it.
    """

    def same(self, variant, frames, decoder, batch):
        one_by_one = decoder(variant).decode(batch)
        backend = OnnxRuntimeBackend("cpu", block_frames=frames)
        backend.symbol_multiple = 32  # as on a GPU: longer padding may change nothing
        in_blocks = decoder(variant, backend=backend).decode(batch)
        for one, block in zip(one_by_one, in_blocks, strict=True):
            assert one.ended == block.ended
            assert_close(block.mel, one.mel, "batch")
            if one.gate is not None:
                assert_close(block.gate, one.gate, "batch")
            for a, b in zip(block.attention, one.attention, strict=True):
                assert_close(a, b, "batch")

    def test_to_the_ceiling(self, variant, frames, decoder):
        self.same(variant, frames, decoder, utterances(3))

    def test_to_where_the_attention_arrives(self, variant, frames, decoder):
        path, flows = [0] * 30 + READ + [11] * 30, decoder(variant).sizes.n_flows
        batch = [guided(path, 12, flows, stop_with_attention=asked) for asked in (True, False)]
        assert [d.ended for d in decoder(variant).decode(batch)] == ["attention", "given"]
        self.same(variant, frames, decoder, batch)

    def test_where_gates_end_them(self, variant, frames, decoder):
        batch = utterances(4)
        if VARIANTS[variant].has_gate:
            batch = threshold_that_stops_differently(decoder(variant), batch)
        self.same(variant, frames, decoder, batch)

    def test_where_attention_ends_them(self, variant, frames, decoder):
        batch = [dataclasses.replace(u, stop_with_attention=True) for u in utterances(3)]
        self.same(variant, frames, decoder, batch)

    def test_with_priors_and_imposed_attention(self, variant, frames, decoder):
        self.same(variant, frames, decoder, with_guidance(utterances(3), VARIANTS[variant].n_flows))


def with_guidance(batch: list[Utterance], n_flows: int) -> list[Utterance]:
    """The first with a prior, the second with an attention, the others as they are."""
    random = np.random.default_rng(8)

    def rows(utterance: Utterance) -> np.ndarray:
        weights = random.random((len(utterance.z), len(utterance.text_ids)), np.float32)
        return weights / weights.sum(axis=1, keepdims=True)

    first, second, *others = batch
    imposed = tuple(rows(second) for _ in range(n_flows))
    prior = dataclasses.replace(first, attention_prior=rows(first))
    return [prior, dataclasses.replace(second, attention=imposed), *others]


def test_blocks_are_the_largest_that_the_backend_takes(decoder):
    assert decoder("two_flows", backend=OnnxRuntimeBackend("cpu", block_frames=12)).flow_role(0) == "flow_0_block_8"


def test_padding_for_the_device_does_not_show_in_a_frame(decoder):
    backend = OnnxRuntimeBackend("cpu", block_frames=8)
    backend.symbol_multiple = 32
    batch = utterances(2)
    frame = next(decoder("two_flows", backend=backend).stream(batch))
    assert frame.attention.shape == (2, max(len(u.text_ids) for u in batch))


def test_int8_has_no_blocks(decoder):
    blocks = OnnxRuntimeBackend("cpu", block_frames=16)
    assert decoder("two_flows", "int8", backend=blocks).flow_role(1) == "flow_1"


def test_a_stream_of_blocks_can_be_left(decoder):
    run = decoder("two_flows", backend=OnnxRuntimeBackend("cpu", block_frames=8))
    frames = run.stream(utterances(2))
    assert [next(frames).index for _ in range(3)] == [0, 1, 2]
    frames.close()
    assert list(frames) == []


def test_frames_stream_in_playing_order(decoder):
    run = decoder("two_flows")
    batch = utterances(3)
    frames = list(run.stream(batch))
    whole = run.decode(batch)
    assert [f.index for f in frames] == list(range(max(len(u.z) for u in batch)))
    for frame in frames:
        for row, mel in zip(frame.rows, frame.mel, strict=True):
            np.testing.assert_array_equal(mel, whole[row].mel[frame.index])


def test_traces_are_complete_when_the_stream_ends(decoder):
    run, batch = decoder("two_flows"), utterances(2)
    decoding = run.start(batch)
    for _ in decoding.frames():
        pass
    assert [[w.shape for w in decoding.attention[flow]] for flow in range(2)] == [
        [(len(u.z), len(u.text_ids)) for u in batch] for _ in range(2)
    ]


def test_the_decoders_own_attention_imposed_gives_the_same_mel(decoder):
    run, (utterance,) = decoder("three_flows_cumulative"), utterances(1)
    (free,) = run.decode([utterance])
    (imposed,) = run.decode([dataclasses.replace(utterance, attention=free.attention)])
    assert_close(imposed.mel, free.mel, "batch")


def test_imposed_attention_is_what_the_result_reports(decoder):
    run, (utterance,) = decoder("two_flows"), utterances(1)
    random = np.random.Generator(np.random.Philox(1))
    weights = tuple(random.dirichlet(np.ones(5), len(utterance.z)).astype(np.float32) for _ in range(2))
    (result,) = run.decode([dataclasses.replace(utterance, attention=weights)])
    for reported, given in zip(result.attention, weights, strict=True):
        np.testing.assert_array_equal(reported, given)


def test_imposed_attention_in_a_batch_leaves_the_others_alone(decoder):
    run = decoder("two_flows")
    first, second = utterances(2)
    alone = run.decode([second])[0]
    weights = tuple(np.full((len(first.z), len(first.text_ids)), 0.2, np.float32) for _ in range(2))
    joint = run.decode([dataclasses.replace(first, attention=weights), second])[1]
    assert_close(joint.mel, alone.mel, "batch")


def test_a_prior_of_ones_changes_nothing(decoder):
    run, (utterance,) = decoder("two_flows"), utterances(1)
    prior = np.ones((len(utterance.z), len(utterance.text_ids)), np.float32)
    (with_prior,) = run.decode([dataclasses.replace(utterance, attention_prior=prior)])
    assert_close(with_prior.mel, run.decode([utterance])[0].mel, "batch")


def test_a_prior_on_one_symbol_moves_the_attention_there(decoder):
    run, (utterance,) = decoder("two_flows"), utterances(1)
    prior = np.full((len(utterance.z), len(utterance.text_ids)), 1e-6, np.float32)
    prior[:, 2] = 1
    (result,) = run.decode([dataclasses.replace(utterance, attention_prior=prior)])
    assert all((weights[:, 2] > 0.99).all() for weights in result.attention)


def test_a_prior_stays_with_its_frames_when_the_gate_ends_a_backward_flow_early(decoder):
    """The frames kept are the last ones of z, and so are the prior's rows, in every flow."""
    run = decoder("two_flows")
    utterance = threshold_that_stops_differently(run, utterances(1))[0]
    frames = len(run.decode([utterance])[0].mel)
    assert frames < len(utterance.z)
    prior = np.full((len(utterance.z), len(utterance.text_ids)), 1e-6, np.float32)
    prior[:, 0] = 1
    prior[-frames:, 0], prior[-frames:, 3] = 1e-6, 1
    thresholds = run.decode([dataclasses.replace(utterance, attention_prior=prior, gate_threshold=NEVER)])[0].gate
    stopped = dataclasses.replace(
        utterance, attention_prior=prior, gate_threshold=float(thresholds[-frames:].max()) - 1e-6
    )
    (result,) = run.decode([stopped])
    assert len(result.mel) <= frames
    assert all((weights[:, 3] > 0.99).all() for weights in result.attention)


def test_temperature_belongs_to_the_utterance(decoder):
    run = decoder("two_flows")
    first, second = utterances(2)
    hot = dataclasses.replace(first, temperature=0.1)
    joint = run.decode([hot, second])
    assert_close(joint[0].mel, run.decode([hot])[0].mel, "batch")
    assert_close(joint[1].mel, run.decode([second])[0].mel, "batch")
    assert np.abs(joint[0].attention[0] - run.decode([first])[0].attention[0]).max() > 1e-3


def with_(**changes) -> Utterance:
    return dataclasses.replace(utterances(1)[0], **changes)


@pytest.mark.parametrize(
    ("utterance", "says"),
    [
        (with_(text_ids=np.array([], np.int64)), "text_ids has shape (0,)"),
        (with_(text_ids=np.array([185])), "ids from 185 to 185"),
        (with_(text_ids=np.array([-1])), "ids from -1"),
        (with_(text_ids=np.zeros(LIMITS.symbols + 1, np.int64)), f"between 1 and {LIMITS.symbols}"),
        (with_(z=np.zeros((4, 79), np.float32)), "z has shape (4, 79)"),
        (with_(z=np.zeros((0, 80), np.float32)), "z has shape (0, 80)"),
        (with_(z=np.full((4, 80), np.nan, np.float32)), "not finite"),
        (with_(speaker=3), "speaker 3 is unknown"),
        (with_(temperature=0.0), "temperature is 0.0"),
        (with_(gate_threshold=float("nan")), "gate_threshold is nan"),
        (with_(attention_prior=np.ones((4, 5), np.float32)), "attention_prior has shape (4, 5)"),
        (with_(attention=(np.ones((20, 5), np.float32),)), "attention is given for 1 flows"),
        (with_(attention=(np.ones((20, 4), np.float32),) * 2), "attention of flow 0 has shape (20, 4)"),
        (with_(attention_prior=-np.ones((20, 5), np.float32)), "negative"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(utterance, says, decoder):
    with pytest.raises(RequestError) as error:
        decoder("two_flows").decode([utterance])
    assert says in str(error.value)


def test_an_empty_batch_and_one_past_the_limit_are_refused(decoder):
    run = decoder("two_flows")
    with pytest.raises(RequestError, match="0 utterances"):
        run.decode([])
    with pytest.raises(RequestError, match=f"{LIMITS.batch + 1} utterances"):
        run.decode(utterances(1) * (LIMITS.batch + 1))


# --- ending with the attention ---


def path_attention(path: list[int], symbols: int) -> np.ndarray:
    """One-hot weights (T, N) of a path in playing order."""
    return np.eye(symbols, dtype=np.float32)[np.array(path)]


def guided(path: list[int], symbols: int, flows: int, **options) -> Utterance:
    weights = path_attention(path, symbols)
    z = 0.5 * noise.normal((len(path), 80), seed=1, request=0, stream="prior")
    ids = np.arange(symbols) + 10
    return Utterance(ids, z, attention=(weights,) * flows, gate_threshold=NEVER, **options)


READ = [s for s in range(12) for _ in range(4)]
"""Twelve symbols of four frames each."""
AFTER = Arrival.SETTLED_FRAMES + Arrival.FADING_FRAMES


@pytest.mark.parametrize("variant", ["no_gate_one_layer", "two_flows"])
def test_a_backward_flow_ends_where_its_attention_reaches_the_beginning(variant, decoder):
    """Playing order is the reverse of that flow's: the frames dropped are the first ones."""
    waits = [0] * 100
    (decoded,) = decoder(variant).decode([guided(waits + READ, 12, 2, stop_with_attention=True)])
    assert decoded.ended == "attention"
    # it arrives at symbol 1, one of the last two, with the fourth frame from the end of READ's beginning
    assert len(decoded.mel) == 40 + AFTER
    np.testing.assert_array_equal(decoded.attention[0][-40:], path_attention(READ[8:], 12))


def test_a_forward_flow_ends_where_its_attention_reaches_the_end(decoder):
    (decoded,) = decoder("one_flow").decode([guided(READ + [11] * 100, 12, 1, stop_with_attention=True)])
    assert (decoded.ended, len(decoded.mel)) == ("attention", 40 + AFTER)


@pytest.mark.parametrize("symbols", [2, 3])
def test_a_text_of_two_or_three_symbols_is_read_at_its_very_last(symbols, decoder):
    """Its last two are nearly all of it: "A." would be over before the sound of its letter is."""
    path = [s for s in range(symbols) for _ in range(20)]
    (decoded,) = decoder("one_flow").decode([guided(path + [symbols - 1] * 50, symbols, 1, stop_with_attention=True)])
    assert (decoded.ended, len(decoded.mel)) == ("attention", 20 * (symbols - 1) + AFTER)


@pytest.mark.parametrize(
    "path",
    [
        [11] * 150,  # never read anything
        [0, 1, 2] * 10 + [11] * 100,  # jumped over most of the text
        READ[:40] + [11, 11, 5] * 30,  # glances
        READ[:40] * 3,  # never arrives
    ],
    ids=["stuck", "jumped", "glances", "short"],
)
def test_attention_that_has_not_read_the_text_ends_nothing(path, decoder):
    (decoded,) = decoder("one_flow").decode([guided(path, 12, 1, stop_with_attention=True)])
    assert (decoded.ended, len(decoded.mel)) == ("given", len(path))


def test_attention_ends_nothing_unless_asked(decoder):
    (decoded,) = decoder("one_flow").decode([guided(READ + [11] * 100, 12, 1)])
    assert len(decoded.mel) == len(READ) + 100


def test_in_a_batch_each_utterance_ends_with_its_own_attention(decoder):
    paths = [READ + [11] * 60, [s for s in range(12) for _ in range(2)] + [11] * 60, [3] * 70]
    decoded = decoder("one_flow").decode([guided(path, 12, 1, stop_with_attention=True) for path in paths])
    assert [len(d.mel) for d in decoded] == [40 + AFTER, 20 + AFTER, 70]
    assert [d.ended for d in decoded] == ["attention", "attention", "given"]


def test_a_gate_that_fires_goes_before_the_attention(decoder):
    run = decoder("two_flows")
    utterance = dataclasses.replace(guided([0] * 100 + READ, 12, 2, stop_with_attention=True), gate_threshold=0.0)
    (decoded,) = run.decode([utterance])
    assert (decoded.ended, len(decoded.mel)) == ("gate", 1)


def test_frames_can_be_had_again(decoder):
    decoding = decoder("two_flows").start(utterances(3))
    first, again = list(decoding.frames()), list(decoding.frames())
    for a, b in zip(first, again, strict=True):
        assert a.index == b.index
        for name in ("rows", "mel", "attention"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_lengths_are_settled_before_the_first_frame(decoder):
    run = decoder("two_flows")
    batch = threshold_that_stops_differently(run, utterances(4))
    decoding = run.start(batch)
    for _ in decoding.settle():
        pass
    known = [len(weights) for weights in decoding.attention[1]]
    assert known == [len(d.mel) for d in run.decode(batch)]
    assert set(decoding.ended) <= {"gate", "ceiling"}


class SmallDevice(OnnxRuntimeBackend):
    """A device with no memory for more than ``most`` utterances."""

    def __init__(self, most: int) -> None:
        super().__init__("cpu")
        self.most, self.batches = most, list[int]()

    def load(self, path):
        graph = super().load(path)
        run = graph.run

        def limited(outputs, inputs):
            if "text_ids" in inputs:
                self.batches.append(len(inputs["text_ids"]))
                if len(inputs["text_ids"]) > self.most:
                    raise OutOfMemoryError("no memory")
            return run(outputs, inputs)

        graph.run = limited
        return graph


def test_a_batch_that_does_not_fit_is_decoded_in_halves(decoder):
    device = SmallDevice(3)
    batch = utterances(5)
    halves = decoder("two_flows", backend=device).decode(batch)
    assert device.batches == [5, 3, 2]
    for half, whole in zip(halves, decoder("two_flows").decode(batch), strict=True):
        assert_close(half.mel, whole.mel, "batch")


def test_a_batch_is_halved_once(decoder):
    device = SmallDevice(1)
    with pytest.raises(OutOfMemoryError, match="no memory"):
        decoder("two_flows", backend=device).decode(utterances(4))
    assert device.batches == [4, 2]


def test_one_utterance_cannot_be_halved(decoder):
    with pytest.raises(OutOfMemoryError, match="no memory"):
        decoder("two_flows", backend=SmallDevice(0)).decode(utterances(1))
