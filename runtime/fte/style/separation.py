"""How far emotions and speakers lie apart in the latent space, and points to draw.

Everything is over utterance vectors: one mean of z over time for each recording, (U, M). Accuracies are cross-validated
with whatever is fitted (standardisation, the speakers' means, discriminants, probes) fitted within the folds on the
training part alone. That leaves one thing given: to take a speaker's mean out of a test vector one must know the
speaker, which whoever uses speaker-independent styles does.

scikit-learn does the work; umap-learn where it is asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fte.errors import RequestError, import_fault

Float64 = npt.NDArray[np.float64]
Method = Literal["pca", "lda", "tsne", "umap"]
METHODS: tuple[Method, ...] = ("pca", "lda", "tsne", "umap")
MAX_POINTS = 10_000
FOLDS = 5


@dataclass(frozen=True, slots=True)
class Separation:
    """How well a label can be told from the vectors."""

    classes: int
    chance: float
    """Accuracy of always guessing the commonest class."""
    silhouette: float
    """Mean silhouette of the standardised vectors (Rousseeuw 1987), -1 to 1."""
    centroid_accuracy: float
    """Of the nearest class mean, cross-validated."""
    probe_accuracy: float
    """Of logistic regression, cross-validated."""
    folds: int


def separation(
    vectors: npt.ArrayLike,
    labels: Sequence[str],
    *,
    without: Sequence[str] | None = None,
    seed: int = 0,
) -> Separation:
    """How far the classes of ``labels`` lie apart in vectors (U, M).

    without: another label, such as the speaker, whose class means are taken out first; within each fold the means are
    those of the training part. Raises RequestError for shapes that differ, fewer than two classes, and a class of a
    single vector.
    """
    from sklearn.metrics import silhouette_score
    from sklearn.model_selection import StratifiedKFold
    from sklearn.preprocessing import StandardScaler

    x, y = _checked(vectors, labels)
    others = None if without is None else np.array(without)
    if others is not None and len(others) != len(x):
        raise RequestError(f"{len(others)} labels to take out were given for {len(x)} vectors: give one for each")
    counts = np.unique(y, return_counts=True)[1]
    folds = int(min(FOLDS, counts.min()))
    right: dict[str, list[bool]] = {"centroid": [], "probe": []}
    for train, test in StratifiedKFold(folds, shuffle=True, random_state=seed).split(x, y):
        a, b = x[train], x[test]
        if others is not None:
            a, b = centred(a, others[train]), _centred_by(b, others[test], a, others[train])
        scaler = StandardScaler().fit(a)
        a, b = scaler.transform(a), scaler.transform(b)
        for name, model in _models(seed):
            right[name] += list(model.fit(a, y[train]).predict(b) == y[test])
    whole = StandardScaler().fit_transform(x if others is None else centred(x, others))
    return Separation(
        classes=len(counts),
        chance=float(counts.max() / len(y)),
        silhouette=float(silhouette_score(whole, y)),
        centroid_accuracy=float(np.mean(right["centroid"])),
        probe_accuracy=float(np.mean(right["probe"])),
        folds=folds,
    )


def _models(seed: int) -> list[tuple[str, Any]]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import NearestCentroid

    return [("centroid", NearestCentroid()), ("probe", LogisticRegression(max_iter=2000, random_state=seed))]


def centred(vectors: Float64, labels: npt.NDArray[np.str_]) -> Float64:
    """Vectors (U, M) with the mean of each class taken out."""
    return _centred_by(vectors, labels, vectors, labels)


def _centred_by(
    vectors: Float64, labels: npt.NDArray[np.str_], fitted: Float64, fitted_labels: npt.NDArray[np.str_]
) -> Float64:
    """Vectors with the class means of ``fitted`` taken out; a class it lacks loses the mean of all."""
    out = vectors.copy()
    for label in np.unique(labels):
        of_class = fitted_labels == label
        out[labels == label] -= fitted[of_class].mean(axis=0) if of_class.any() else fitted.mean(axis=0)
    return out


def project(vectors: npt.ArrayLike, labels: Sequence[str], method: Method = "pca", *, seed: int = 0) -> Float64:
    """Points (U, 2) of vectors (U, M) for a picture: standardised, then projected.

    lda is fitted to ``labels`` on all points and so shows them further apart than new ones would lie: trust the numbers
    of `separation`. Two classes have a single discriminant; the first principal component is the other axis.
    Raises RequestError for shapes that differ, an unknown method and umap without the package.
    """
    from sklearn.decomposition import PCA
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.manifold import TSNE
    from sklearn.preprocessing import StandardScaler

    x, y = _checked(vectors, labels)
    x = StandardScaler().fit_transform(x)
    if method == "pca":
        points = PCA(2, random_state=seed).fit_transform(x)
    elif method == "lda":
        points = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto").fit(x, y).transform(x)[:, :2]
        if points.shape[1] == 1:
            points = np.hstack([points, PCA(1, random_state=seed).fit_transform(x)])
    elif method == "tsne":
        perplexity = min(30.0, (len(x) - 1) / 3)
        points = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(x)
    elif method == "umap":
        try:
            import umap
        except ImportError as error:
            missing = "the method umap needs the package umap-learn: install it, or take pca"
            raise RequestError(import_fault(error, ["umap"], missing)) from error
        points = umap.UMAP(random_state=seed).fit_transform(x)
    else:
        raise RequestError(f"the method {method!r} is unknown: choose one of {', '.join(METHODS)}")
    return np.asarray(points, np.float64)


def _checked(vectors: npt.ArrayLike, labels: Sequence[str]) -> tuple[Float64, npt.NDArray[np.str_]]:
    x, y = np.asarray(vectors, np.float64), np.array(labels)
    if x.ndim != 2 or not 4 <= len(x) <= MAX_POINTS or len(x) != len(y):
        raise RequestError(
            f"the vectors have shape {x.shape} and there are {len(y)} labels: give (U, M) and U labels, "
            f"4 to {MAX_POINTS} of them"
        )
    if not np.isfinite(x).all():
        raise RequestError("the vectors have values that are not finite: leave those recordings out")
    counts = np.unique(y, return_counts=True)[1]
    if len(counts) < 2 or counts.min() < 2:
        raise RequestError("labels must have two classes or more, of two recordings or more each: add recordings")
    return x, y
