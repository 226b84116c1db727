"""One vector that stands for an emotion, from the utterance means of its recordings and those of the others.

The usual one is the centroid (Kwon et al., "Emotional speech synthesis based on style embedded Tacotron2 framework",
ITC-CSCC 2019). Um et al. ("Emotional speech synthesis with rich and granularized control", ICASSP 2020, arXiv
1911.01635) put in its place the vector for which the ratio of the distance to the other emotions to the distance to its
own is greatest, and reach weaker intensities on the way from it to neutral, which is `interpolate(neutral, style, t)`.
What is taken from the paper is that criterion; how it is maximised here is our own (see `representatives`).

Legend: M mel channels, R recordings.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from fte.errors import RequestError
from fte.style.means import LAM, SIGMA, Observed, mean_style, utterance_means
from fte.style.style import Float32, Style

Float64 = npt.NDArray[np.float64]


def centroids(evidence: Sequence[Observed]) -> dict[str, Float32]:
    """The mean (M,) of each label's utterance means, labels in order.

    Raises RequestError as `fte.style.means.mean_style` does, and for recordings without a label.
    """
    return {label: points.mean(axis=0).astype(np.float32) for label, points in _by_label(evidence).items()}


def representatives(evidence: Sequence[Observed]) -> dict[str, Float32]:
    """For each label the vector (M,) that stands out most from the others while it stays among its own.

    Maximised is, with mean squared distances (Euclidean, over the M channels),

        J(v) = inter(v) / intra(v),
        intra(v) = mean of ||v - x||^2 over the label's own utterance means x = ||v - c||^2 + s_c,
        inter(v) = mean over the other labels of the mean of ||v - y||^2 over theirs = ||v - o||^2 + s_o,

    where c is the label's centroid, o the mean of the other centroids, and s the mean squared distances from these.
    For any distance from c the numerator is greatest straight away from o, so the maximum lies at
    v = c + a (c - o) / D with D = ||c - o||, and dJ/da = 0 is the quadratic D a^2 + (D^2 + s_o - s_c) a - D s_c = 0,
    whose one root above 0 is the maximum over the whole space: exact, without a search or a seed. Where the label's own
    recordings scatter much more than the others, it would lie far outside of them; a is therefore no more than that of
    the own recording which lies farthest in this direction, and J rises all the way up to there.
    Raises RequestError as `centroids` does, and for fewer than two labels.
    """
    points = _by_label(evidence)
    if len(points) < 2:
        raise RequestError(f"all recordings are of {next(iter(points))!r}: give two or more labels to tell apart")
    return {
        label: _standing_out(own, [other for name, other in points.items() if name != label]).astype(np.float32)
        for label, own in points.items()
    }


def representative_styles(
    evidence: Sequence[Observed], *, voice_hash: str, lam: float = LAM, sigma: float = SIGMA
) -> dict[str, Style]:
    """A style of each label, named after it, whose mean is its representative vector; all else as in `mean_style`."""
    vectors = representatives(evidence)
    return {
        label: dataclasses.replace(
            mean_style(label, [e for e in evidence if e.label == label], voice_hash=voice_hash, lam=lam, sigma=sigma),
            mean=vector,
        )
        for label, vector in vectors.items()
    }


def _standing_out(own: Float64, others: Sequence[Float64]) -> Float64:
    """The vector of `representatives` for points (R, M) among those of other labels."""
    centre: Float64 = own.mean(axis=0)
    away = centre - np.mean([points.mean(axis=0) for points in others], axis=0)
    distance = float(np.linalg.norm(away))
    if distance == 0:  # no direction leads away from the others
        return centre
    direction = away / distance
    own_scatter = _mean_square_distance(own, centre)
    other_scatter = float(np.mean([_mean_square_distance(points, centre - away) for points in others]))
    best = _positive_root(distance, distance**2 + other_scatter - own_scatter, -distance * own_scatter)
    farthest = float(((own - centre) @ direction).max())
    vector: Float64 = centre + min(best, max(farthest, 0.0)) * direction
    return vector


def _mean_square_distance(points: Float64, centre: Float64) -> float:
    return float(np.square(points - centre).sum(axis=1).mean())


def _positive_root(a: float, b: float, c: float) -> float:
    """The root above or at 0 of a x^2 + b x + c, with a > 0 and c <= 0, without cancellation for b > 0."""
    root = math.sqrt(b * b - 4 * a * c)
    if b > 0:
        return -2 * c / (b + root)
    return (root - b) / (2 * a)


def _by_label(evidence: Sequence[Observed]) -> Mapping[str, Float64]:
    """The utterance means (R, M) of each label, labels in order."""
    means = utterance_means(evidence)
    labels = [e.label for e in evidence]
    if nameless := [e.name for e in evidence if e.label is None]:
        raise RequestError(f"{nameless[0]} has no label: give each recording the emotion it was made with")
    return {
        label: means[[own == label for own in labels]]
        for label in sorted({label for label in labels if label is not None})
    }
