"""Styles between styles: weighted mixes, and the way from one to another.

Every number of the outcome is the weighted mean of the styles' own (the spreads too: they are those of a way of
speaking in between, not of a choice at random among the styles). Legend: M mel channels, T frames.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from fte import checks
from fte.errors import RequestError
from fte.style.style import NAME_PATTERN, Float32, Style, is_number

Float64 = npt.NDArray[np.float64]

EXTRAPOLATION = 1.0
"""How far `interpolate` goes past either end, as a share of the way between the styles."""
MAX_PARTS = 64
"""Styles in one mix."""
MAX_WEIGHT = 1e6

_MAX_MIX_CHARACTERS = 8_192
_PART = re.compile(rf"({NAME_PATTERN})(?:\s*:\s*(\d{{0,12}}\.?\d{{1,12}}))?", re.ASCII)
_PARALLEL = 1e-6
"""Sine of the angle below which two directions are taken as one line, radians."""


def parse_mix(text: str) -> dict[str, float]:
    """The weights of ``happy:0.7,sad:0.3`` by name, as they are written; a name alone weighs 1.

    Raises RequestError for what is not of this form, a name that stands twice, and weights that `mix` refuses.
    """
    checks.text(text, "the mix")
    if len(text) > _MAX_MIX_CHARACTERS:
        raise RequestError(f"the mix has {len(text)} characters: give at most {_MAX_MIX_CHARACTERS}")
    weights: dict[str, float] = {}
    for part in text.split(","):
        found = _PART.fullmatch(part.strip())
        if found is None:
            raise RequestError(f"{part.strip()[:60]!r} is no part of a mix: write it as happy:0.7,sad:0.3")
        name, weight = found.groups()
        if name in weights:
            raise RequestError(f"the style {name!r} stands twice in the mix: give it one weight")
        weights[name] = 1.0 if weight is None else float(weight)
    shares(weights)
    return weights


def shares(weights: Mapping[str, float]) -> dict[str, float]:
    """The weights divided by their sum, so that they need not sum to 1.

    Raises RequestError for none or too many, a weight that is negative or not finite, and a sum of zero.
    """
    if not isinstance(weights, Mapping):
        raise checks.refuse(weights, "the mix", "a mapping of styles to their weights")
    if not 1 <= len(weights) <= MAX_PARTS:
        raise RequestError(f"the mix has {len(weights)} styles: give 1 to {MAX_PARTS}")
    for name, weight in weights.items():
        if not is_number(weight, 0, MAX_WEIGHT):
            raise checks.refuse(weight, f"the weight of {name!r}", f"a number from 0 to {MAX_WEIGHT:g}")
    total = sum(weights.values())
    if total == 0:
        raise RequestError("all weights of the mix are 0: give at least one style some weight")
    return {name: weight / total for name, weight in weights.items()}


def mix(styles: Mapping[Style, float], name: str = "mix") -> Style:
    """The weighted mean of some styles; the weights are divided by their sum (`shares`).

    As soon as one of the styles has a mean for each frame, so has the mix, over the frames of the longest.
    Raises RequestError as `shares` does, and for styles of different voices or speakers.
    """
    checks.mapping(checks.kind(Style), checks.anything)(styles, "the mix")
    parts = list(styles)
    by_place = shares({f"{style.name} (style {place})": styles[style] for place, style in enumerate(parts, 1)})
    return _weighted(parts, list(by_place.values()), name)


def interpolate(
    a: Style, b: Style, t: float, how: Literal["linear", "spherical"] = "linear", name: str | None = None
) -> Style:
    """The style at ``t`` on the way from ``a`` (0) to ``b`` (1); with a neutral ``a``, ``t`` is the intensity of ``b``.

    linear: mean (1 - t) a + t b. spherical: the direction turns at a constant rate (slerp: Shoemake, "Animating
    rotation with quaternion curves", 1985) while the length changes linearly, frame by frame for batch means; of a
    mean without a direction, all zeros, the way is a straight line.
    t may leave 0..1 by EXTRAPOLATION: the mean goes on beyond the style, everything else stays as at its end.
    Raises RequestError for a t out of range, styles of different voices or speakers, and opposite directions, between
    which no way is the shortest.
    """
    for style, end in ((a, "a"), (b, "b")):
        checks.kind(Style)(style, end)
    checks.number(t, "t", -EXTRAPOLATION, 1 + EXTRAPOLATION)
    checks.one_of(("linear", "spherical"))(how, "the way between the styles")
    inner = min(max(float(t), 0.0), 1.0)
    between = _weighted([a, b], [1 - inner, inner], f"{a.name}-{b.name}"[:64] if name is None else name)
    from_mean, to_mean = _means([a, b])
    if how == "spherical":
        return dataclasses.replace(between, mean=_slerp(from_mean, to_mean, t).astype(np.float32))
    return dataclasses.replace(between, mean=((1 - t) * from_mean + t * to_mean).astype(np.float32))


def check_same_space(styles: Sequence[Style]) -> None:
    """Raise RequestError unless the styles are of one voice, size and speaker, so that they can be added."""
    first = styles[0]
    for other in styles[1:]:
        if other.voice_hash != first.voice_hash:
            raise RequestError(
                f"the style {other.name!r} belongs to voice {other.voice_hash[:12]} and {first.name!r} to "
                f"{first.voice_hash[:12]}: combine styles of one voice"
            )
        if other.n_mels != first.n_mels:
            raise RequestError(
                f"the style {other.name!r} has {other.n_mels} channels and {first.name!r} {first.n_mels}: "
                "combine styles of one voice"
            )
        if other.speaker != first.speaker:
            raise RequestError(
                f"the style {other.name!r} was extracted {_as_whom(other)} and {first.name!r} {_as_whom(first)}: "
                "extract both in the same way"
            )


def _as_whom(style: Style) -> str:
    return "without its speakers' means" if style.speaker is None else f"as speaker {style.speaker}"


def _weighted(styles: Sequence[Style], weights: Sequence[float], name: str) -> Style:
    """The weighted mean of styles; the weights sum to 1."""
    check_same_space(styles)
    longest = any(style.aggregation == "batch" for style in styles)
    return Style(
        name=name,
        mean=_sum(weights, _means(styles)),
        spread=_sum(weights, [style.spread for style in styles]),
        utterance_spread=_sum(weights, [style.utterance_spread for style in styles]),
        sigma=float(np.dot(weights, [style.sigma for style in styles])),
        voice_hash=styles[0].voice_hash,
        speaker=styles[0].speaker,
        aggregation="batch" if longest else "time_and_batch",
        lam=float(np.dot(weights, [style.lam for style in styles])),
        references=tuple(dict.fromkeys(note for style in styles for note in style.references)),
    )


def _means(styles: Sequence[Style]) -> list[Float32]:
    """The means of styles as arrays of one shape: (M,), or (T, M) over the longest where one of them has frames."""
    lengths = [len(style.mean) for style in styles if style.aggregation == "batch"]
    return [style.frames(max(lengths)) if lengths else style.mean for style in styles]


def _sum(weights: Sequence[float], arrays: Sequence[Float32]) -> Float32:
    total = np.zeros(arrays[0].shape)
    for weight, array in zip(weights, arrays, strict=True):
        total += weight * array
    return total.astype(np.float32)


def _slerp(a: Float32, b: Float32, t: float) -> Float64:
    """Spherical interpolation of the vectors along the last axis; lengths linearly, and never below 0."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    length_a, length_b = (np.linalg.norm(v, axis=-1, keepdims=True) for v in (a, b))
    has_direction = (length_a > 0) & (length_b > 0)
    unit_a = np.divide(a, length_a, out=np.zeros_like(a), where=has_direction)
    unit_b = np.divide(b, length_b, out=np.zeros_like(b), where=has_direction)
    # Both by the chord, since the arc cosine loses half the digits near 0 and pi.
    apart, together = (np.linalg.norm(unit_b + sign * unit_a, axis=-1, keepdims=True) for sign in (-1, 1))
    angle = 2 * np.arctan2(apart, together)
    sine = np.sin(angle)
    if (has_direction & (together < _PARALLEL)).any():
        raise RequestError("the two styles lie in opposite directions, with no shortest way around: go the linear way")
    curved = has_direction & (sine > _PARALLEL)
    safe = np.where(curved, sine, 1.0)
    direction = (np.sin((1 - t) * angle) * unit_a + np.sin(t * angle) * unit_b) / safe
    length = np.maximum((1 - t) * length_a + t * length_b, 0.0)
    turned: Float64 = np.where(curved, length * direction, (1 - t) * a + t * b)
    return turned
