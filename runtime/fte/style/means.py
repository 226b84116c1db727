"""Styles from posterior evidence: the mean of z over recordings, and how far z lies around it.

The mean follows the style transfer notebook of the public implementation. With R references and a small lambda, and
``mean`` the plain average, the centre to sample around is

    ratio = R / lambda,    mu = ratio * mean / (ratio + 1),

the posterior mean of a Gaussian prior N(0, I) for so many observations of variance lambda. The average is

- *time_and_batch*: over the frames of each reference, and then over the references, so that a long one counts no more
  than a short one: one vector (M,);
- *batch*: over the references frame by frame, each repeated in time up to n_frames and cut there: (n_frames, M).

Legend: M mel channels, T frames, R references. Frames are in playing order.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fte.constants import LIMITS
from fte.errors import RequestError
from fte.style.style import MAX_LAM, Aggregation, Float32, ReferenceNote, Style, is_number, repeated

Float64 = npt.NDArray[np.float64]

LAM = 1e-4
"""The public notebook's lambda."""
SIGMA = 0.5
"""Default standard deviation around a style: the public implementation's usual choice (its notebook has 1)."""
MAX_REFERENCES = 10_000


class Observed(Protocol):
    """z of one recording and what is known of it."""

    @property
    def z(self) -> Float32:
        """(T, M), in playing order."""

    @property
    def speaker(self) -> int | None:
        """Id with which z was extracted; None once the speaker's own mean is taken out."""

    @property
    def label(self) -> str | None:
        """What it was recorded as, such as an emotion."""

    @property
    def name(self) -> str:
        """Of its file."""

    @property
    def sha256(self) -> str:
        """Of its file."""


@dataclass(frozen=True, slots=True, eq=False)
class Centred:
    """Evidence without its speaker's own mean."""

    z: Float32
    """(T, M)."""
    label: str | None
    name: str
    sha256: str
    speaker: None = None


def mean_style(
    name: str,
    evidence: Sequence[Observed],
    *,
    voice_hash: str,
    aggregation: Aggregation = "time_and_batch",
    lam: float = LAM,
    sigma: float = SIGMA,
    n_frames: int | None = None,
) -> Style:
    """The style of some recordings: their mean z and its spreads.

    n_frames: length of a batch mean; None takes that of the longest reference.
    `Style.spread` weighs every reference alike, whatever its length, as the mean does, and is taken around the mean
    over time for both aggregations; `Style.utterance_spread` is the sample standard deviation (R - 1) of the
    references' means over time.
    Raises RequestError for no or too much evidence, z that is not finite or of differing channels, evidence of
    several speaker ids, and parameters out of range.
    """
    observed = checked_z(evidence)
    if not is_number(lam, 0, MAX_LAM) or lam == 0:
        raise RequestError(f"lambda is {lam}: give a number above 0 and at most {MAX_LAM:g}")
    means = utterance_means(evidence)
    centre = means.mean(axis=0)
    ratio = len(evidence) / lam
    average = centre if aggregation == "time_and_batch" else _frame_means(observed, n_frames)
    return Style(
        name=name,
        mean=(ratio / (ratio + 1) * average).astype(np.float32),
        spread=np.sqrt(np.mean([np.square(z - centre).mean(axis=0) for z in observed], axis=0)).astype(np.float32),
        utterance_spread=_sample_deviation(means).astype(np.float32),
        sigma=sigma,
        voice_hash=voice_hash,
        speaker=_common_speaker(evidence),
        aggregation=aggregation,
        lam=lam,
        references=tuple(ReferenceNote(e.name, e.sha256, len(e.z), e.label) for e in evidence),
    )


def utterance_means(evidence: Sequence[Observed]) -> Float64:
    """The mean of z over time of each recording, (R, M). Raises RequestError as `mean_style` does."""
    return np.stack([z.mean(axis=0, dtype=np.float64) for z in checked_z(evidence)])


def centred(evidence: Sequence[Observed], speakers: Sequence[Hashable] | None = None) -> list[Centred]:
    """The evidence with each speaker's own mean, that of the speaker's utterance means, taken out of every frame.

    What is left is how an utterance differs from its speaker's others, so centre ALL the recordings before choosing
    those of one emotion: of a speaker heard in one emotion only, that emotion is taken out too.
    speakers: who speaks in each recording; None takes the ids with which z was extracted. Give them when all were
    extracted with one id, as the public notebook does.
    Raises RequestError as `mean_style` does, for as many speakers as not recordings, for a speaker with a single
    recording, of which nothing would be left, and for evidence that is centred already.
    """
    means = utterance_means(evidence)
    if any(e.speaker is None for e in evidence):
        raise RequestError("the speaker's mean is taken out of this evidence already: give it as it was extracted")
    who = [e.speaker for e in evidence] if speakers is None else list(speakers)
    if len(who) != len(evidence):
        raise RequestError(f"{len(who)} speakers are given for {len(evidence)} recordings: give one for each")
    rows: dict[Hashable, list[int]] = {}
    for row, speaker in enumerate(who):
        rows.setdefault(speaker, []).append(row)
    if lonely := [speaker for speaker, own in rows.items() if len(own) < 2]:
        raise RequestError(
            f"speaker {lonely[0]!r} has a single recording, of which nothing is left without the speaker's mean: "
            "give two or more of each speaker"
        )
    own_mean = {speaker: means[own].mean(axis=0) for speaker, own in rows.items()}
    return [
        Centred((e.z - own_mean[speaker]).astype(np.float32), e.label, e.name, e.sha256)
        for e, speaker in zip(evidence, who, strict=True)
    ]


def checked_z(evidence: Sequence[Observed]) -> list[Float32]:
    """z (T, M) of each recording, or a RequestError that names the recording whose z cannot be used."""
    if not 1 <= len(evidence) <= MAX_REFERENCES:
        raise RequestError(f"a style was asked for from {len(evidence)} recordings: give 1 to {MAX_REFERENCES}")
    channels = evidence[0].z.shape[-1] if evidence[0].z.ndim else 0
    for e in evidence:
        if e.z.ndim != 2 or not 1 <= len(e.z) <= LIMITS.frames or e.z.shape[1] != channels or not channels:
            raise RequestError(
                f"z of {e.name} has shape {e.z.shape}: give (frames, channels) with at most {LIMITS.frames} frames "
                "and the same channels for all"
            )
        if not np.isfinite(e.z).all():
            raise RequestError(f"z of {e.name} has values that are not finite: leave this recording out")
    return [e.z for e in evidence]


def _frame_means(observed: Sequence[Float32], n_frames: int | None) -> Float64:
    """The mean over references frame by frame, (n_frames, M)."""
    count = max(len(z) for z in observed) if n_frames is None else n_frames
    if not 1 <= count <= LIMITS.frames:
        raise RequestError(f"n_frames is {count}: give 1 to {LIMITS.frames}")
    total = np.zeros((count, observed[0].shape[1]))
    for z in observed:  # a running sum: all at once could be gigabytes
        total += repeated(z, count)
    return total / len(observed)


def _sample_deviation(means: Float64) -> Float64:
    """Standard deviation over rows (R, M) with R - 1 in the denominator; zeros for a single row."""
    deviation: Float64 = means.std(axis=0, ddof=1) if len(means) > 1 else np.zeros(means.shape[1])
    return deviation


def _common_speaker(evidence: Sequence[Observed]) -> int | None:
    speakers = {e.speaker for e in evidence}
    if len(speakers) > 1:
        shown = ", ".join(sorted(map(str, speakers))[:10])
        raise RequestError(
            f"the recordings were extracted as different speakers ({shown}): extract all with one speaker id, "
            "or take each speaker's own mean out"
        )
    return speakers.pop()
