"""The autoregressive loop: batches, gates, guidance and what it refuses."""

import dataclasses

import numpy as np
import pytest

from fte import noise
from fte.bundle import Bundle
from fte.constants import LIMITS
from fte.decoder import NEVER, Decoder, Utterance
from fte.errors import RequestError
from fte_export.pipeline import write_voice
from fte_export.random_voice import TINY_FLOWTRON, random_voice
from tolerances import assert_close

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

    def make(variant: str, precision: str = "fp32") -> Decoder:
        if variant not in bundles:
            path = tmp_path_factory.mktemp("variants") / variant
            write_voice(random_voice(variant, VARIANTS[variant], None, seed=5), path)
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
