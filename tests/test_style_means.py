"""Means of z against the notebook's formulas in plain Python, and vectors that stand for a label against a search."""

from dataclasses import dataclass

import numpy as np
import pytest

from fte.errors import RequestError
from fte.style.means import centred, mean_style, utterance_means
from fte.style.representative import centroids, representative_styles, representatives

VOICE = "1a2b" * 16
M = 5
ROUNDING = 1e-6
"""Relative error of a float32 mean of a few hundred values computed in float64."""


@dataclass
class Recording:
    z: np.ndarray
    speaker: int | None = 0
    label: str | None = "happy"
    name: str = "a.wav"
    sha256: str = "0" * 64


@pytest.fixture
def evidence() -> list[Recording]:
    rng = np.random.default_rng(0)
    return [Recording(rng.normal(0.3, 1, (frames, M)).astype(np.float32)) for frames in (7, 40, 19)]


def recording(*means: float, frames: int = 3, **changes) -> Recording:
    """A recording whose z has these means over time, and some movement around them."""
    wave = np.linspace(-1, 1, frames)[:, None]
    return Recording((np.array(means) + wave).astype(np.float32), **changes)


# The notebook's formulas, term by term


def shrunk(mean: float, references: int, lam: float) -> float:
    ratio = references / lam
    return ratio * mean / (ratio + 1)


@pytest.mark.parametrize("lam", [1e-4, 1.0, 30.0])
def test_a_mean_over_time_and_references_is_that_of_the_notebook(evidence, lam):
    made = mean_style("a", evidence, voice_hash=VOICE, lam=lam)
    for channel in range(M):
        of_each = [sum(float(row[channel]) for row in e.z) / len(e.z) for e in evidence]
        expected = shrunk(sum(of_each) / 3, 3, lam)
        assert made.mean[channel] == pytest.approx(expected, rel=ROUNDING)


@pytest.mark.parametrize("n_frames", [1, 7, 23, 100])
def test_a_mean_over_references_is_that_of_the_notebook(evidence, n_frames):
    """Each z is put after itself until it is long enough, and cut."""
    made = mean_style("a", evidence, voice_hash=VOICE, aggregation="batch", lam=0.5, n_frames=n_frames)
    long_enough = []
    for e in evidence:
        rows = [list(map(float, row)) for row in e.z]
        while len(rows) < n_frames:
            rows = rows + [list(map(float, row)) for row in e.z]
        long_enough.append(rows[:n_frames])
    assert made.mean.shape == (n_frames, M)
    for t in range(n_frames):
        for channel in range(M):
            expected = shrunk(sum(rows[t][channel] for rows in long_enough) / 3, 3, 0.5)
            assert made.mean[t, channel] == pytest.approx(expected, rel=ROUNDING, abs=1e-7)


def test_a_batch_mean_is_as_long_as_the_longest_reference(evidence):
    assert mean_style("a", evidence, voice_hash=VOICE, aggregation="batch").mean.shape == (40, M)


def test_a_long_reference_counts_no_more_than_a_short_one():
    short, long = recording(1, 1, frames=2), recording(3, 5, frames=200)
    np.testing.assert_allclose(mean_style("a", [short, long], voice_hash=VOICE).mean, [2, 3], rtol=1e-4)


# Spreads


@pytest.mark.parametrize("aggregation", ["time_and_batch", "batch"])
def test_the_spread_is_that_of_frames_drawn_from_a_reference_drawn_at_random(evidence, aggregation):
    made = mean_style("a", evidence, voice_hash=VOICE, aggregation=aggregation)
    weights = np.concatenate([np.full(len(e.z), 1 / (3 * len(e.z))) for e in evidence])
    frames = np.concatenate([e.z for e in evidence]).astype(np.float64)
    covariance = np.cov(frames.T, aweights=weights, ddof=0)
    np.testing.assert_allclose(made.spread, np.sqrt(np.diag(covariance)), rtol=1e-5)


def test_the_spread_of_utterances_is_that_of_their_means():
    made = mean_style("a", [recording(0, 7), recording(2, 7), recording(4, 7)], voice_hash=VOICE)
    np.testing.assert_allclose(made.utterance_spread, [2, 0], atol=1e-6)  # variance ((-2)^2 + 0 + 2^2) / (3 - 1)


def test_a_single_reference_has_no_spread_of_utterances():
    made = mean_style("a", [recording(1, 2)], voice_hash=VOICE)
    np.testing.assert_array_equal(made.utterance_spread, [0, 0])
    np.testing.assert_allclose(made.mean, [1, 2], rtol=1.1e-4)


def test_a_style_says_what_it_was_made_from(evidence):
    made = mean_style("happy", evidence, voice_hash=VOICE, sigma=0.7, lam=2e-4)
    assert (made.name, made.voice_hash, made.speaker, made.sigma, made.lam) == ("happy", VOICE, 0, 0.7, 2e-4)
    assert [(n.name, n.sha256, n.frames, n.label) for n in made.references] == [
        ("a.wav", "0" * 64, frames, "happy") for frames in (7, 40, 19)
    ]


# Without the speaker


def two_speakers() -> list[Recording]:
    """The same two emotions, (0, +1) and (0, -1), of speakers at (10, 5) and (-20, 3)."""
    return [
        recording(x, y + up, speaker=speaker, label=label)
        for speaker, (x, y) in enumerate([(10, 5), (-20, 3)])
        for label, up in [("happy", 1), ("sad", -1)]
    ]


def test_without_their_own_means_two_speakers_say_the_same_in_the_same_place():
    means = utterance_means(centred(two_speakers()))
    np.testing.assert_allclose(means, [(0, 1), (0, -1)] * 2, atol=1e-5)


def test_a_speakers_mean_is_that_of_the_utterances_however_long_they_are():
    means = utterance_means(centred([recording(0.0, frames=2), recording(4.0, frames=50)]))
    np.testing.assert_allclose(means, [[-2], [2]], atol=1e-5)


def test_speakers_can_be_named_when_all_were_extracted_with_one_id():
    evidence = [recording(x, label="a") for x in (0.0, 2.0, 100.0, 102.0)]
    means = utterance_means(centred(evidence, ["ann", "ann", "bob", "bob"]))
    np.testing.assert_allclose(means, [[-1], [1], [-1], [1]], atol=1e-4)


def test_a_style_of_centred_evidence_belongs_to_no_speaker():
    happy = [e for e in centred(two_speakers()) if e.label == "happy"]
    made = mean_style("happy", happy, voice_hash=VOICE)
    assert made.speaker is None
    np.testing.assert_allclose(made.mean, [0, 1], atol=1e-4)


# A vector for each label


@pytest.fixture
def labelled() -> list[Recording]:
    rng = np.random.default_rng(1)
    centres = {"angry": (2, 0, 0), "happy": (0, 1, 0), "neutral": (0, 0, 0), "sad": (-1, -1, 1)}
    return [
        recording(*(rng.normal(0, 0.7, 3) + centre), label=label)
        for label, centre in centres.items()
        for _ in range({"angry": 6, "happy": 9, "neutral": 4, "sad": 5}[label])
    ]


def points_of(evidence: list[Recording], label: str) -> np.ndarray:
    return np.array([e.z.mean(axis=0, dtype=np.float64) for e in evidence if e.label == label])


def ratio(vector: np.ndarray, evidence: list[Recording], label: str) -> float:
    """The criterion as it is defined: mean squared distances to every point, other labels counting alike."""
    mean_square = {
        name: np.mean([np.sum((vector - x) ** 2) for x in points_of(evidence, name)])
        for name in sorted({e.label for e in evidence})
    }
    own = mean_square.pop(label)
    return float(np.mean(list(mean_square.values())) / own)


def test_a_centroid_is_the_mean_of_the_labels_utterance_means(labelled):
    for label, vector in centroids(labelled).items():
        expected = sum(points_of(labelled, label)) / len(points_of(labelled, label))
        np.testing.assert_allclose(vector, expected, atol=1e-6)
    assert list(centroids(labelled)) == ["angry", "happy", "neutral", "sad"]


@pytest.mark.parametrize("label", ["angry", "happy", "sad"])
def test_no_vector_nearby_or_far_away_stands_out_more(labelled, label):
    """The closed form against a search over the whole space."""
    vector = representatives(labelled)[label].astype(np.float64)
    best = ratio(vector, labelled, label)
    rng = np.random.default_rng(2)
    for scale in (1e-3, 1e-2, 0.1, 0.5, 2, 10):
        for step in rng.normal(0, scale, (100, 3)):
            assert ratio(vector + step, labelled, label) <= best * (1 + 1e-9)
    assert best > ratio(centroids(labelled)[label].astype(np.float64), labelled, label)


def test_a_vector_stays_within_the_reach_of_its_own_recordings():
    """Where its own scatter exceeds all else, the criterion alone would put the vector far outside."""
    wide = [recording(x, y, label="wide") for x, y in [(-3, 0), (3.5, 1), (0, -4), (0, 4)]]
    narrow = [recording(x, 0.0, label="narrow") for x in (-0.1, 0.1)]
    vector = representatives([*wide, *narrow])["wide"].astype(np.float64)
    centre = points_of(wide, "wide").mean(axis=0)
    away = centre / np.linalg.norm(centre)  # the other label lies around 0
    farthest = max(float((x - centre) @ away) for x in points_of(wide, "wide"))
    np.testing.assert_allclose(vector, centre + farthest * away, atol=1e-5)
    values = [ratio(centre + a * away, [*wide, *narrow], "wide") for a in np.linspace(0, farthest, 50)]
    assert np.all(np.diff(values) > 0)


def test_a_label_with_the_centre_of_all_others_is_stood_for_by_its_centroid():
    evidence = [recording(x, label=label) for x, label in [(0, "a"), (0, "a"), (-1, "b"), (1, "b")]]
    np.testing.assert_allclose(representatives(evidence)["a"], [0], atol=1e-6)


def test_a_label_of_one_recording_is_stood_for_by_it(labelled):
    lone = [*labelled, recording(3, 3, 3, label="lone")]
    np.testing.assert_allclose(representatives(lone)["lone"], [3, 3, 3], atol=1e-5)


def test_representative_styles_have_these_vectors_and_the_spreads_of_their_own_recordings(labelled):
    made = representative_styles(labelled, voice_hash=VOICE)
    own = mean_style("x", [e for e in labelled if e.label == "sad"], voice_hash=VOICE)
    assert list(made) == [style.name for style in made.values()] == ["angry", "happy", "neutral", "sad"]
    np.testing.assert_array_equal(made["sad"].mean, representatives(labelled)["sad"])
    np.testing.assert_array_equal(made["sad"].utterance_spread, own.utterance_spread)
    assert made["sad"].references == own.references


# What is refused


@pytest.mark.parametrize(
    ("changed", "options", "says"),
    [
        ([], {}, "from 0 recordings"),
        ([recording(1)] * 10_001, {}, "from 10001 recordings"),
        ([recording(1), recording(1, 2, name="b.wav")], {}, r"z of b\.wav has shape \(3, 2\)"),
        ([Recording(np.zeros(3, np.float32))], {}, r"z of a\.wav has shape \(3,\)"),
        ([Recording(np.zeros((0, 3), np.float32))], {}, r"has shape \(0, 3\)"),
        ([recording(1), recording(np.nan, name="b.wav")], {}, r"z of b\.wav has values that are not finite"),
        ([recording(1, speaker=0), recording(1, speaker=3)], {}, r"as different speakers \(0, 3\)"),
        ([recording(1)], {"lam": 0}, "lambda is 0"),
        ([recording(1)], {"lam": float("nan")}, "lambda is nan"),
        ([recording(1)], {"sigma": -1}, "sigma is -1"),
        ([recording(1)], {"aggregation": "batch", "n_frames": 0}, "n_frames is 0"),
        ([recording(1)], {"aggregation": "batch", "n_frames": 10_001}, "n_frames is 10001"),
        ([recording(1)], {"aggregation": "time"}, "aggregation is 'time'"),
    ],
)
def test_evidence_and_options_that_make_no_style_are_refused(changed, options, says):
    with pytest.raises(RequestError, match=says):
        mean_style("a", changed, voice_hash=VOICE, **options)


@pytest.mark.parametrize(
    ("evidence", "speakers", "says"),
    [
        ([recording(1), recording(2), recording(3, speaker=1)], None, "speaker 1 has a single recording"),
        ([recording(1), recording(2)], ["ann"], "1 speakers are given for 2 recordings"),
        ([recording(1, speaker=None)] * 2, None, "taken out of this evidence already"),
    ],
)
def test_speakers_that_cannot_be_taken_out_are_refused(evidence, speakers, says):
    with pytest.raises(RequestError, match=says):
        centred(evidence, speakers)


@pytest.mark.parametrize(
    ("evidence", "says"),
    [
        ([recording(1), recording(1, label=None, name="b.wav")], r"b\.wav has no label"),
        ([recording(1), recording(2)], "all recordings are of 'happy'"),
    ],
)
def test_labels_that_cannot_be_told_apart_are_refused(evidence, says):
    with pytest.raises(RequestError, match=says):
        representatives(evidence)
