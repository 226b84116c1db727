"""The parts of the comparison with the public code that need neither that code nor a quiet machine."""

import sys
from pathlib import Path

import numpy as np
import pytest

from fte.constants import FRAME_SECONDS
from fte.decoder import Decoded
from fte_export.checkpoint import WaveglowSizes
from fte_export.random_voice import PUBLISHED_WAVEGLOW, TINY_FLOWTRON, TINY_WAVEGLOW, random_flowtron, random_waveglow

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import ceiling
import compare_reference as compare
import public_code


@pytest.mark.parametrize(
    ("public", "canonical"),
    [
        ("flows.0.lstm.weight_ih_l1", "flows.0.lstm.weight_ih_l1"),
        ("flows.1.ar_step.gate_layer.linear_layer.bias", "flows.1.gate_layer.bias"),
        ("flows.1.ar_step.dense_layer.layers.0.linear_layer.weight", "flows.1.dense_layer.layers.0.weight"),
        ("flows.0.conv.weight", "flows.0.conv.weight"),
        ("encoder.convolutions.2.0.conv.weight", "encoder.convolutions.2.0.weight"),
        ("encoder.convolutions.2.1.weight", "encoder.convolutions.2.1.weight"),
        ("convinv.3.conv.weight", "convinv.3.weight"),
    ],
)
def test_public_names_become_ours(public: str, canonical: str) -> None:
    assert public_code.canonical_name(public) == canonical
    arrays = {**random_flowtron(TINY_FLOWTRON).arrays, **random_waveglow(TINY_WAVEGLOW).arrays}
    assert canonical in arrays


def test_weight_norm_gives_the_weight_back() -> None:
    arrays = random_waveglow(TINY_WAVEGLOW).arrays
    v = public_code.public_tensor("WN.0.in_layers.1.weight_v", arrays).astype(np.float64)
    g = public_code.public_tensor("WN.0.in_layers.1.weight_g", arrays)
    assert g.shape == (len(v), 1, 1)
    normed = g * v / np.linalg.norm(v.reshape(len(v), -1), axis=1)[:, None, None]
    np.testing.assert_allclose(normed, arrays["WN.0.in_layers.1.weight"], rtol=1e-6)


def test_noise_is_that_of_the_public_order_of_draws() -> None:
    import torch

    found = public_code.drawn_noise(PUBLISHED_WAVEGLOW, 2, seed=5)
    assert found.shape == (64, 8)
    torch.manual_seed(5)
    first, second, third = (torch.empty(1, n, 64).normal_()[0].numpy().T for n in (4, 2, 2))
    np.testing.assert_array_equal(found, np.concatenate([first, second, third], axis=1))


def test_vocoder_work_is_that_of_the_paper_size() -> None:
    """About 82 M multiply-adds for 8 samples, 452 GFLOP for a second, of which the upsampling is a small part."""
    work = ceiling.vocoder_multiply_adds(random_waveglow(PUBLISHED_WAVEGLOW))
    assert 2 * work == pytest.approx(448e9, rel=0.01)


def test_vocoder_work_counts_each_weight_once_a_group() -> None:
    sizes = WaveglowSizes(
        n_mels=2,
        n_flows=1,
        n_group=8,
        n_early_every=4,
        n_early_size=2,
        n_layers=1,
        n_channels=4,
        kernel_size=3,
        upsample_kernel=1024,
        upsample_stride=256,
    )
    mixing, start, condition, dilated, skip, end = 64, 4 * 4, 8 * 16, 8 * 4 * 3, 4 * 4, 8 * 4
    a_group = mixing + start + condition + dilated + skip + end
    a_frame = 2 * 2 * 1024
    expected = 22050 / 8 * a_group + 22050 / 256 * a_frame
    assert ceiling.vocoder_multiply_adds(random_waveglow(sizes)) == round(expected)


def test_floor_is_the_larger_of_reading_and_multiplying() -> None:
    allowed = ceiling.Ceiling(2, 10.0, {"fp32": 10.0}, {"fp32": 100.0})
    assert allowed.seconds("fp32", 10**9, 10**9) == pytest.approx(0.1)
    assert allowed.seconds("fp32", 10**9, 10**12) == pytest.approx(10.0)


def test_difference_of_known_arrays() -> None:
    found = compare.difference(np.array([1.1, -1.0], np.float32), np.array([1.0, -1.0], np.float32))
    assert found.max_abs == pytest.approx(0.1, rel=1e-5)
    assert found.mean_abs == pytest.approx(0.05, rel=1e-5)
    assert found.snr_db == pytest.approx(10 * np.log10(2 / 0.01), rel=1e-5)


def test_difference_of_equal_arrays_is_no_noise() -> None:
    assert compare.difference(np.ones(3, np.float32), np.ones(3, np.float32)).snr_db == float("inf")


def test_attention_parts_in_each_flow_s_own_order() -> None:
    """Rows are in playing order: flow 1 runs backward, so its last row is the first it computed."""
    straight = np.eye(4, dtype=np.float32)
    bent = straight.copy()
    bent[1] = straight[0]

    def decoded(attention: tuple[np.ndarray, ...]) -> Decoded:
        return Decoded(np.zeros((4, 80), np.float32), attention, None)

    assert compare.parting(decoded((bent, bent)), decoded((straight, straight))) == [1, 2]
    assert compare.parting(decoded((straight,)), decoded((straight,))) == [None]


def test_batch_and_vocoder_have_their_own_units() -> None:
    assert compare.per_unit("decode, int8", 1.0, 200) == pytest.approx(5.0)
    assert compare.per_unit(f"{compare.BATCHED}, int8", 1.0, 200) == pytest.approx(5.0 / compare.BATCH)
    assert compare.per_unit("vocode, int8", 1.0, 200) == pytest.approx(1 / (200 * FRAME_SECONDS))


def test_requirements_hold_on_their_side_of_the_target() -> None:
    assert compare.Requirement("faster", 4.0, 4.0).met
    assert not compare.Requirement("faster", 3.9, 4.0).met
    assert compare.Requirement("smaller", 2.9, 3.0, at_most=True).met
    assert not compare.Requirement("smaller", 3.1, 3.0, at_most=True).met


def test_disturbed_rounds_are_repeated_and_the_quietest_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    others = iter([0.9, 0.0, 0.5, 0.05, 0.0])
    made = []

    def one_round(contestants: dict[str, object]) -> compare.Round:
        made.append(list(contestants))
        return compare.Round({"a": float(len(made)), "b": 0.0}, next(others))

    monkeypatch.setattr(compare, "one_round", one_round)
    rounds, results = compare.round_robin({"a": lambda: "result", "b": lambda: None}, repeats=2)
    assert compare.timings_of(rounds)["a"].seconds == (2.0, 4.0)  # the two quiet ones; the fifth was not needed
    assert made == [["a", "b"], ["b", "a"]] * 2
    assert results["a"] == "result"


def test_rounds_end_on_a_machine_that_is_never_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "one_round", lambda contestants: compare.Round({"a": 1.0}, 1.0))
    rounds, _ = compare.round_robin({"a": lambda: None}, repeats=2)
    assert [r.quiet for r in rounds] == [False, False]
