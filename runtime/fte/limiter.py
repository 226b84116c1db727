"""Look-ahead limiter: loud sound whose true peak stays below a ceiling, without clipping.

The packages for it only measure, come under a licence that this project cannot take, or limit a whole sound at once, at
some sample rates and without a promise for the peaks between samples; books are longer than memory.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import soxr

Floats = npt.NDArray[np.float32]
Decibels = npt.NDArray[np.float64]

OVERSAMPLING = 4
"""Of the peaks between the samples (ITU-R BS.1770-4, annex 2)."""
_ATTACK = 0.005
"""Seconds in which the gain falls before a peak: the look-ahead."""
_HOLD = 0.010
"""Seconds for which it stays down, so that it does not follow the single periods of a voice from 67 Hz on."""
_RELEASE = 0.06
"""Seconds in which the attenuation in dB then falls to 1/e of itself."""
_NOTHING = 1e-3
"""dB: an attenuation that has fallen below this is none."""
_PART = 1 << 14  # samples at once, which their oversampled magnitudes and gains in float64 multiply


class Limiter:
    """Limits the sound of one channel that comes in blocks; joined, the parts are the same for every cut into blocks.

    What lies below the ceiling, further from peaks than attack, hold and release last, keeps its samples bit for bit.
    """

    def __init__(self, rate: int, ceiling: float) -> None:
        """``ceiling`` is the highest magnitude between the samples, 1 for full scale, ``rate`` in Hz."""
        self._ceiling = ceiling
        self._ahead, hold = max(1, round(_ATTACK * rate)), round(_HOLD * rate)
        self._fall = 1 / (_RELEASE * rate)
        self._oversampler = soxr.ResampleStream(1, OVERSAMPLING, 1, "float32", "HQ")
        window = np.hanning(self._ahead + 3)[1:-1]  # as long as the look-ahead and the sample itself
        self._smoothing = window / window.sum()
        self._samples = np.empty(0, np.float32)  # whose gain is not known yet
        self._between = np.empty(0, np.float32)  # oversampled, less than an interval between two samples
        self._interval = np.zeros(1, np.float32)  # its peak, of the last one that is whole
        self._wanted = np.zeros(hold + self._ahead)  # attenuation, dB, that the hold may still carry on
        self._held = np.zeros(self._ahead)  # attenuation after hold and release that the smoothing still reads
        self._skip = self._ahead  # of the gains: they are late by the look-ahead

    def push(self, samples: Floats) -> Floats:
        """Take samples (n,); give those that are settled, perhaps none."""
        self._samples = np.concatenate([self._samples, samples])
        return self._settle(self._peaks(self._oversampler.resample_chunk(np.ascontiguousarray(samples))))

    def finish(self) -> Floats:
        """The last samples; nothing may be pushed after them."""
        rest = self._oversampler.resample_chunk(np.empty(0, np.float32), last=True)
        silence = np.zeros(OVERSAMPLING * (len(self._samples) + self._ahead), np.float32)  # what brings them out
        return self._settle(self._peaks(np.concatenate([rest, silence])))

    def _peaks(self, oversampled: Floats) -> Floats:
        """Largest magnitude about each sample: in the interval before it, in the one after it, and its own.

        Of the highest frequencies, which the oversampler weakens, only the sample itself tells.
        """
        magnitudes = np.concatenate([self._between, np.abs(oversampled)])
        whole = len(magnitudes) // OVERSAMPLING * OVERSAMPLING
        intervals = np.maximum.reduce([magnitudes[k:whole:OVERSAMPLING] for k in range(OVERSAMPLING)])
        intervals = np.concatenate([self._interval, intervals])
        self._between, self._interval = magnitudes[whole:], intervals[-1:]
        peaks: Floats = np.maximum(intervals[:-1], intervals[1:])
        own = np.abs(self._samples[self._ahead - self._skip :][: len(peaks)])
        peaks[: len(own)] = np.maximum(peaks[: len(own)], own)
        return peaks

    def _settle(self, peaks: Floats) -> Floats:
        gains = self._gains(peaks)[: len(self._samples) + self._skip]
        late = min(self._skip, len(gains))
        self._skip, gains = self._skip - late, gains[late:]
        ready, self._samples = self._samples[: len(gains)], self._samples[len(gains) :]
        return ready * gains

    def _gains(self, peaks: Floats) -> Floats:
        """Gain for each sample, late by the look-ahead: no less than any peak within it asks for."""
        if not len(peaks):
            return np.empty(0, np.float32)
        wanted = np.concatenate([self._wanted, 20 * np.log10(np.maximum(peaks / np.float64(self._ceiling), 1.0))])
        held = self._released(_moving_maximum(wanted, len(self._wanted) + 1))
        smooth = np.concatenate([self._held, held])
        self._wanted, self._held = wanted[len(peaks) :], smooth[len(peaks) :]
        return (10 ** (np.convolve(smooth, self._smoothing, "valid") / -20)).astype(np.float32)

    def _released(self, attenuation: Decibels) -> Decibels:
        """The attenuation (n,) in dB, falling no faster than the release: its logarithm falls along a line."""
        slope = self._fall * np.arange(1 + len(attenuation))
        with np.errstate(divide="ignore"):  # no attenuation has the logarithm -inf, which is right
            logarithm = np.log(np.append(self._held[-1], attenuation))
        held = np.exp(np.maximum.accumulate(logarithm + slope) - slope)[1:]
        return np.where(held < _NOTHING, attenuation, held)


def limited(blocks: Iterable[Floats], rate: int, ceiling: float) -> Iterator[Floats]:
    """The blocks' samples with their true peak below ``ceiling``, without blocks that are empty."""
    limiter = Limiter(rate, ceiling)
    for block in blocks:
        for start in range(0, len(block), _PART):
            if len(settled := limiter.push(block[start : start + _PART])):
                yield settled
    if len(rest := limiter.finish()):
        yield rest


def _moving_maximum(values: Decibels, width: int) -> Decibels:
    """Maximum of every ``width`` values in a row, by doubling."""
    have = 1
    while have < width:
        step = min(have, width - have)
        values = np.maximum(values[:-step], values[step:])
        have += step
    return values
