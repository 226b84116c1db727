"""Separation of labels in the latent space, and its pictures."""

import json
import re

import numpy as np
import pytest

from fte.errors import RequestError
from fte.style.map import draw_map, latent_map
from fte.style.separation import METHODS, centred, project, separation

RANDOM = np.random.Generator(np.random.Philox(5))
EMOTIONS = [e for _ in range(3) for e in ("happy", "sad") for _ in range(8)]
SPEAKERS = [s for s in ("a", "b", "c") for _ in range(16)]


def clusters(emotion: float = 1.0, speaker: float = 8.0, noise: float = 0.6) -> np.ndarray:
    """48 vectors in which the speaker lies along some axes, far apart, and the emotion along another."""
    x = noise * np.random.Generator(np.random.Philox(7)).standard_normal((48, 10))
    x[:, 0] += [emotion if e == "happy" else -emotion for e in EMOTIONS]
    x[:, 0] += [{"a": -speaker, "b": 0.0, "c": speaker}[s] for s in SPEAKERS]
    x[:, 1] += [{"a": speaker, "b": -speaker, "c": speaker}[s] for s in SPEAKERS]
    return x


def test_far_speakers_hide_the_emotion_until_they_are_taken_out():
    x = clusters()
    assert separation(x, SPEAKERS).probe_accuracy == 1.0
    before, after = separation(x, EMOTIONS), separation(x, EMOTIONS, without=SPEAKERS)
    assert before.centroid_accuracy < 0.65 < 0.8 < after.centroid_accuracy
    assert after.silhouette > before.silhouette


def test_a_speaker_taken_out_cannot_be_told_any_more():
    gone = separation(clusters(), SPEAKERS, without=SPEAKERS)
    assert gone.chance == pytest.approx(1 / 3)
    assert gone.centroid_accuracy < 0.55 and gone.probe_accuracy < 0.55


def test_labels_of_chance_are_told_at_chance():
    accuracies = [
        separation(clusters(0, 0), list(np.random.Generator(np.random.Philox(i)).permutation(EMOTIONS))).probe_accuracy
        for i in range(8)
    ]
    assert 0.35 < np.mean(accuracies) < 0.65


def test_the_means_of_test_vectors_are_those_of_the_training_part():
    """Centring with test vectors included would let every fold know a little of its answers."""
    x, y = RANDOM.standard_normal((40, 200)), ["p", "q"] * 20
    leaky = centred(x, np.array(y))
    assert np.allclose([leaky[::2].mean(), leaky[1::2].mean()], 0)
    assert 0.2 < separation(x, y, without=y).probe_accuracy < 0.8


@pytest.mark.parametrize("method", [m for m in METHODS if m != "umap"])
def test_points_are_two_numbers_a_recording_and_the_same_again(method):
    first, second = (project(clusters(), EMOTIONS, method) for _ in range(2))
    assert first.shape == (48, 2) and np.isfinite(first).all()
    np.testing.assert_allclose(first, second, atol=1e-6)


@pytest.mark.parametrize("suffix", [".png", ".svg", ".html"])
def test_a_map_is_drawn(tmp_path, suffix):
    found = latent_map([f"{i}.wav" for i in range(48)], clusters(), EMOTIONS, SPEAKERS)
    draw_map(tmp_path / f"map{suffix}", found)
    assert (tmp_path / f"map{suffix}").stat().st_size > 5000
    record = found.record()
    assert [panel["title"] for panel in record["panels"]] == [
        "emotion",
        "speaker",
        "emotion, speaker taken out",
        "speaker, speaker taken out",
    ]
    json.dumps(record)


def test_names_in_the_page_are_escaped(tmp_path):
    names = ["<script>alert(1)</script>.wav"] * 48
    labels = [f'<b>"{e}' for e in EMOTIONS]
    draw_map(tmp_path / "map.html", latent_map(names, clusters(), labels, SPEAKERS))
    page = (tmp_path / "map.html").read_text("utf-8")
    assert "<script" not in page and "<b>" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r'(src|href)="?http', page)


@pytest.mark.parametrize(
    ("vectors", "labels", "says"),
    [
        (np.zeros((3, 4)), ["a"] * 3, "the vectors have shape (3, 4)"),
        (np.zeros((6, 4)), ["a"] * 5, "5 labels"),
        (np.full((6, 4), np.nan), ["a", "b"] * 3, "not finite"),
        (np.zeros((6, 4)), ["a"] * 6, "two classes"),
        (np.zeros((6, 4)), ["a"] * 5 + ["b"], "two recordings or more"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(vectors, labels, says):
    with pytest.raises(RequestError) as error:
        separation(vectors, labels)
    assert says in str(error.value)


def test_other_suffixes_and_methods_are_refused(tmp_path):
    found = latent_map([str(i) for i in range(48)], clusters(), EMOTIONS, SPEAKERS)
    with pytest.raises(RequestError, match=r"must end in one of \.png"):
        draw_map(tmp_path / "map.jpg", found)
    with pytest.raises(RequestError, match="the method 'mds' is unknown"):
        project(clusters(), EMOTIONS, "mds")
