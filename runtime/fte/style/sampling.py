"""z for an utterance: drawn from the plain prior, around a style, or from the tails of a style.

Everything here is a function of standard normal values that the caller draws (`fte.noise`), so the same noise gives
the same z. Legend: M mel channels, T frames. Frames are in playing order.
"""

import math

import numpy as np

from fte.errors import RequestError
from fte.style.style import MAX_SIGMA, Float32, Style, is_number

MAX_WEIGHT = 4.0
"""Weights of a style beyond 1 exaggerate it, and soon leave what the voice has ever produced."""
MAX_RADIUS = 10.0


def sample(eps: Float32, sigma: float, means: Float32 | None = None, weight: float = 1.0) -> Float32:
    """z (T, M) ~ N(weight * mean, sigma^2), from standard normal values ``eps`` (T, M).

    means: (T, M) of `Style.frames` or `Ramp.means`, or None for the plain prior, to which weight 0 leads as well.
    Raises RequestError for shapes that differ, and a sigma or weight out of range.
    """
    if not is_number(sigma, 0, MAX_SIGMA):
        raise RequestError(f"sigma is {sigma}: give a number from 0 to {MAX_SIGMA:g}")
    if not is_number(weight, 0, MAX_WEIGHT):
        raise RequestError(f"the weight of the style is {weight}: give a number from 0 to {MAX_WEIGHT:g}")
    if eps.ndim != 2 or (means is not None and means.shape != eps.shape):
        shape = None if means is None else means.shape
        raise RequestError(f"the noise has shape {eps.shape} and the means {shape}: give both as (frames, channels)")
    z = np.float32(sigma) * eps.astype(np.float32)
    return z if means is None else z + np.float32(weight) * means


def tail_offset(style: Style, eps: Float32, radius: float) -> Float32:
    """An offset (M,) to add to the mean of a whole utterance, at a chosen distance in a direction drawn at random.

    After Hodari, Watts and King, "Using generative modelling to produce varied intonation for speech synthesis"
    (SSW 2019): what lies near the centre of the latent space is an average, flat reading, so varied ones are drawn
    from the tails on purpose. Here distances are measured in units of `Style.utterance_spread` in each channel: in
    these, the direction is uniform on the sphere, by standard normal values ``eps`` (M,), and the offset's root mean
    square over the channels IS the radius. So 1 is as far from the style as its own recordings typically lie, and 2
    twice as far. Correlations between channels are not looked at. Channels without spread stay as they are.
    Raises RequestError for a radius outside 0..MAX_RADIUS, noise of another shape or without a direction, and a style
    without spread, which one of a single recording is.
    """
    if not is_number(radius, 0, MAX_RADIUS):
        raise RequestError(f"the radius is {radius}: give a number from 0 to {MAX_RADIUS:g}")
    varied = style.utterance_spread > 0
    if not varied.any():
        raise RequestError(
            f"the style {style.name!r} knows no spread between utterances: extract it from two or more recordings"
        )
    if eps.shape != varied.shape:
        raise RequestError(f"the noise has shape {eps.shape}: give one value for each of the {varied.size} channels")
    direction = np.where(varied, eps.astype(np.float64), 0.0)
    length = float(np.linalg.norm(direction))
    if not (math.isfinite(length) and length > 0):
        raise RequestError("the noise has no direction: give standard normal values")
    scale = radius * math.sqrt(np.count_nonzero(varied)) / length
    offset: Float32 = (scale * direction * style.utterance_spread).astype(np.float32)
    return offset
