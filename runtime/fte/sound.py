"""Sound on its way out: sample rate, loudness, files of several formats and streamed PCM.

Everything works in blocks, so that hours of sound (a ``numpy.memmap``) pass through a few megabytes. Loudness is the
programme loudness of ITU-R BS.1770-4 and EBU R 128 for one channel, in LUFS.
"""

import io
import math
import mmap
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from fte import checks
from fte.audio import HIGHEST_RATE, Floats, to_pcm16
from fte.constants import SAMPLE_RATE
from fte.errors import RequestError
from fte.files import atomic_file

LOWEST_RATE = 4_000
"""Lowest sample rate that is written, Hz: the filters of the loudness need 1.7 kHz."""
LONGEST_SECONDS = 100 * 3600
"""Longest sound that is written or measured, seconds."""
GATE = -70.0
"""Absolute gate of the loudness: what is quieter does not count, LUFS."""
PEAK_LIMIT = -1.0
"""Highest true peak after a gain to a wanted loudness, dB of full scale (EBU R 128)."""

_QUALITY = "HQ"  # soxr: rejection of 120 dB, more than 16 bits hold
_BLOCK = 1 << 16  # samples
_WAV_HEADER = 44  # bytes
_WAV_BYTES = (1 << 32) - 1  # a WAV file counts its bytes in 32 bits
_MPEG_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
_OPUS_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)


@dataclass(frozen=True, slots=True)
class SoundFormat:
    """A kind of sound file."""

    suffix: str
    """End of the file's name, in lower case."""
    container: str
    """Name of the container in libsndfile."""
    coding: str
    """Name of the samples' coding in libsndfile; PCM_16 keeps 16 bits a sample, the others are lossy."""
    rates: tuple[int, ...] = ()
    """Sample rates the format has, Hz; empty when it has them all."""

    def usual_rate(self, rate: int) -> int:
        """The rate in Hz that sound of ``rate`` is written in: its own, or the next one up that the format has."""
        if not self.rates or rate in self.rates:
            return rate
        return min((known for known in self.rates if known > rate), default=self.rates[-1])

    def check_rate(self, rate: int) -> None:
        """Raise RequestError unless the format has the sample rate ``rate`` in Hz."""
        _check_rate(rate)
        if self.rates and rate not in self.rates:
            known = ", ".join(map(str, self.rates))
            raise RequestError(f"{self.suffix} files have no sample rate of {rate} Hz: choose one of {known}")


FORMATS = (
    SoundFormat(".wav", "WAV", "PCM_16"),
    SoundFormat(".flac", "FLAC", "PCM_16"),
    SoundFormat(".ogg", "OGG", "VORBIS"),
    SoundFormat(".opus", "OGG", "OPUS", _OPUS_RATES),
    SoundFormat(".mp3", "MP3", "MPEG_LAYER_III", _MPEG_RATES),
)
"""Formats that are written where the installed libsndfile has them."""


@dataclass(frozen=True, slots=True)
class WrittenSound:
    """What ``write_sound`` did."""

    sample_rate: int
    """Of the file, Hz."""
    samples: int
    """In the file."""
    gain: float
    """Applied to every sample, dB; 0 unless a loudness was wanted."""
    loudness: float | None
    """Of the sound after the gain, LUFS; None where none was wanted, and where all of it is below the gate."""
    peak: float
    """Largest magnitude after the gain, before clipping; 1 is full scale."""
    clipped: int
    """Samples above full scale, which were cut to it."""


def sound_format(path: Path | str) -> SoundFormat:
    """The format that the suffix of ``path`` asks for; raises RequestError naming the suffixes there are."""
    suffix = checks.path(path, "the sound file").suffix.lower()
    formats = {f.suffix: f for f in FORMATS if soundfile.check_format(f.container, f.coding)}
    if suffix not in formats:
        raise RequestError(f"cannot write {path} as sound: its name must end in one of {', '.join(formats)}")
    return formats[suffix]


def write_sound(
    path: Path | str,
    samples: npt.ArrayLike,
    sample_rate: int = SAMPLE_RATE,
    *,
    rate: int | None = None,
    loudness: float | None = None,
) -> WrittenSound:
    """Write (n,) float samples as a mono file in the format of the path's suffix, whole or not at all.

    ``rate`` is the sample rate of the file in Hz: by default ``sample_rate``, or the next one up that the format has.
    ``loudness`` is the programme loudness wanted, in LUFS: one gain for the whole, smaller than wanted where the true
    peak would pass PEAK_LIMIT (nothing is compressed), and none where all is below the gate. Samples above full scale
    are cut, and counted in the result. All this is about what is encoded: lossy formats then change the loudness
    (measured: below 0.1 LU for harmonic tones, up to 2.2 LU for noise) and the peaks (up to 3.5 dB in Opus, which moves
    phases).
    Raises RequestError for a format, rate or loudness that does not exist, samples that are not one row of finite
    floats, more of them than the format or LONGEST_SECONDS allow, and a file that cannot be written.
    """
    path = checks.path(path, "the sound file")
    kind = sound_format(path)
    _check_rate(sample_rate)
    rate = kind.usual_rate(sample_rate) if rate is None else rate
    kind.check_rate(rate)
    check_loudness(loudness)
    values = _row(samples)
    if not len(values):
        raise RequestError(f"cannot write {path}: there are no samples to write")
    _check_length(path, kind, len(values), sample_rate, rate)

    def blocks() -> Iterator[Floats]:
        return _regrouped(_converted(_blocks(values), sample_rate, rate), _BLOCK)

    gain, reached = (0.0, None) if loudness is None else _gain_to(loudness, blocks, rate)
    factor = np.float32(10 ** (gain / 20))
    try:
        with atomic_file(path) as temporary:
            count, peak, clipped = _encode(temporary, kind, rate, (block * factor for block in blocks()))
    except RuntimeError as error:  # the base of soundfile's errors; FLAC lacks a few odd rates above 65,535 Hz
        raise RequestError(f"cannot write {path}: libsndfile refuses {kind.suffix} files of {rate} Hz") from error
    return WrittenSound(rate, count, gain, reached, peak, clipped)


def pcm_chunks(
    chunks: Iterable[npt.ArrayLike], sample_rate: int = SAMPLE_RATE, *, rate: int | None = None, header: bool = False
) -> Iterator[bytes]:
    """Chunks of float samples as mono signed 16-bit little-endian PCM, each given out as soon as it is settled.

    ``rate`` is the sample rate given out in Hz, by default ``sample_rate``; a conversion holds back the last few dozen
    milliseconds until more come. ``header`` puts a WAV header in front whose sizes are all ones, the sign for a stream
    of unknown length. Samples above full scale are cut.
    Raises RequestError, before anything is given out, for a rate that does not exist, and later for a chunk that is
    not one row of finite floats.
    """
    rate = sample_rate if rate is None else rate
    _check_rate(sample_rate)
    _check_rate(rate)
    return _pcm_chunks(chunks, sample_rate, rate, header)


def _pcm_chunks(chunks: Iterable[npt.ArrayLike], sample_rate: int, rate: int, header: bool) -> Iterator[bytes]:
    if header:
        yield _stream_header(rate)
    for converted in _converted(chunks, sample_rate, rate):
        yield to_pcm16(converted).astype("<i2", copy=False).tobytes()


def _stream_header(rate: int) -> bytes:
    """WAV header of mono 16-bit PCM of unknown length."""
    unknown = _WAV_BYTES
    layout = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
    return struct.pack("<4sI4s", b"RIFF", unknown, b"WAVE") + layout + struct.pack("<4sI", b"data", unknown)


# Sample rate


class Resampler:
    """Sample rate conversion by soxr of sound that comes in chunks; joined, the parts are what ``resample`` gives.

    The parts come late by the filter's length: 22,050 to 48,000 Hz holds back less than 0.1 s. Equal rates change
    nothing.
    """

    def __init__(self, rate_in: int, rate_out: int) -> None:
        """Raises RequestError for rates (Hz) outside LOWEST_RATE to HIGHEST_RATE."""
        _check_rate(rate_in)
        _check_rate(rate_out)
        equal = rate_in == rate_out
        self._stream: Any = None if equal else soxr.ResampleStream(rate_in, rate_out, 1, "float32", _QUALITY)

    def push(self, samples: npt.ArrayLike) -> Floats:
        """Take (n,) float samples; give those that are settled, perhaps none.

        Raises RequestError unless the samples are one row of finite floats.
        """
        values = _finite(samples)
        return values if self._stream is None else self._feed(values)

    def finish(self) -> Floats:
        """The last samples; nothing may be pushed after them."""
        rest = np.empty(0, np.float32)
        return rest if self._stream is None else self._feed(rest, last=True)

    def _feed(self, values: Floats, *, last: bool = False) -> Floats:
        done: Floats = self._stream.resample_chunk(np.ascontiguousarray(values), last=last)
        return done


def resample(samples: npt.ArrayLike, rate_in: int, rate_out: int) -> Floats:
    """(n,) float samples at ``rate_in`` Hz as about n * rate_out / rate_in samples at ``rate_out`` Hz.

    Equal rates change nothing. Raises RequestError for rates outside LOWEST_RATE to HIGHEST_RATE, samples that are not
    one row of finite floats, and more than LONGEST_SECONDS of them.
    """
    _check_rate(rate_in)
    values = _row(samples)
    _check_seconds(len(values) / rate_in)
    parts = list(_converted(_blocks(values), rate_in, rate_out))
    return np.concatenate(parts) if parts else np.empty(0, np.float32)


def _converted(chunks: Iterable[npt.ArrayLike], rate_in: int, rate_out: int) -> Iterator[Floats]:
    """The chunks at another sample rate, without those that are empty."""
    resampler = Resampler(rate_in, rate_out)
    for chunk in chunks:
        if len(settled := resampler.push(chunk)):
            yield settled
    if len(rest := resampler.finish()):
        yield rest


# Loudness: ITU-R BS.1770-4, annexes 1 and 2

_SEGMENTS_IN_BLOCK = 4  # of 0.1 s each: blocks of 0.4 s that overlap by three quarters
_SEGMENTS_AT_ONCE = 10
_OFFSET = -0.691  # LU, so that a tone of 997 Hz at full scale in one channel has -3.01 LUFS
_RELATIVE_GATE = -10.0  # LU below the loudness of what passes the absolute gate
_OVERSAMPLING = 4  # for the true peak


def integrated_loudness(blocks: Iterable[npt.ArrayLike], sample_rate: int) -> float:
    """Programme loudness in LUFS of one channel that comes in blocks of any length; ``-inf`` when all is below GATE.

    Takes less than 1 MB of memory an hour of sound. A sound shorter than a gating block of 0.4 s, which the standard
    leaves open, is continued with silence to that length.
    Raises RequestError for a rate outside LOWEST_RATE to HIGHEST_RATE, a block that is not one row of finite floats,
    and more sound than LONGEST_SECONDS.
    """
    _check_rate(sample_rate)
    segments = np.concatenate([np.empty(0), *_segment_powers(_parts(blocks), sample_rate)])
    segments = np.pad(segments, (0, max(0, _SEGMENTS_IN_BLOCK - len(segments))))
    powers = np.lib.stride_tricks.sliding_window_view(segments, _SEGMENTS_IN_BLOCK).mean(axis=1)
    loud = powers[powers > _power(GATE)]
    if not len(loud):
        return -math.inf
    loud = loud[loud > loud.mean() * 10 ** (_RELATIVE_GATE / 10)]
    return _OFFSET + 10 * math.log10(loud.mean())


def true_peak(blocks: Iterable[npt.ArrayLike]) -> float:
    """Largest magnitude between the samples of one channel that comes in blocks, 1 for full scale; 0 for no samples.

    Estimated by fourfold oversampling, which may read up to 0.7 dB low for tones near the highest frequency.
    Raises RequestError for a block that is not one row of finite floats.
    """
    oversampler = soxr.ResampleStream(1, _OVERSAMPLING, 1, "float32", _QUALITY)
    peak = 0.0
    for part in _parts(blocks):
        peak = max(peak, _peak(part), _peak(oversampler.resample_chunk(np.ascontiguousarray(part))))
    return max(peak, _peak(oversampler.resample_chunk(np.empty(0, np.float32), last=True)))


def _gain_to(loudness: float, blocks: Callable[[], Iterator[Floats]], rate: int) -> tuple[float, float | None]:
    """Gain in dB towards a loudness, held by the true peak, and the loudness it leads to (None: below the gate)."""
    measured = integrated_loudness(blocks(), rate)
    if measured == -math.inf:
        return 0.0, None
    gain = min(loudness - measured, PEAK_LIMIT - 20 * math.log10(true_peak(blocks())))
    return gain, measured + gain


def _segment_powers(blocks: Iterable[Floats], rate: int) -> Iterator[npt.NDArray[np.float64]]:
    """Mean squares of the K-weighted signal over segments of 0.1 s; an unfinished last one only in short sounds.

    The weighting is a product of spectra, over windows that start one segment early: its impulse response, decaying
    with 38 Hz, has sunk by 200 dB within a segment.
    """
    segment = round(rate / 10)
    window = np.zeros((1 + _SEGMENTS_AT_ONCE) * segment)
    response = _k_weighting(rate, np.fft.rfftfreq(len(window), 1 / rate))
    seconds = 0.0
    for part in _regrouped(blocks, _SEGMENTS_AT_ONCE * segment):
        short = seconds == 0.0 and len(part) < _SEGMENTS_IN_BLOCK * segment
        seconds += len(part) / rate
        _check_seconds(seconds)
        window[:segment] = window[-segment:]
        window[segment:] = 0.0
        window[segment : segment + len(part)] = part
        weighted = np.fft.irfft(np.fft.rfft(window) * response, len(window))[segment:]
        count = _SEGMENTS_IN_BLOCK if short else len(part) // segment
        yield np.square(weighted).reshape(-1, segment)[:count].mean(axis=1)


def _k_weighting(rate: int, hz: npt.NDArray[np.floating]) -> npt.NDArray[np.complex128]:
    """Response of the K-weighting at the frequencies ``hz``: a shelf for the head, then a high pass.

    The standard tabulates both filters for 48 kHz only. Other rates take the analogue filters behind that table, as
    found by B. De Man ("Evaluation of implementations of the EBU R128 loudness measurement", AES 145, 2018).
    """
    delay = np.exp(-2j * np.pi * hz / rate)  # z^-1
    return _head_shelf(rate, delay) * _high_pass(rate, delay)


def _head_shelf(rate: int, delay: npt.NDArray[np.complex128]) -> npt.NDArray[np.complex128]:
    k, q = math.tan(math.pi * 1681.974450955533 / rate), 0.7071752369554196
    high = 10 ** (3.999843853973347 / 20)
    middle = high**0.4996667741545416
    zeros = (high + middle * k / q + k * k, 2 * (k * k - high), high - middle * k / q + k * k)
    return _biquad(zeros, _poles(k, q), delay)


def _high_pass(rate: int, delay: npt.NDArray[np.complex128]) -> npt.NDArray[np.complex128]:
    k, q = math.tan(math.pi * 38.13547087602444 / rate), 0.5003270373238773
    poles = _poles(k, q)
    # The table divides the poles by their first coefficient, but not the zeros.
    return _biquad((poles[0], -2 * poles[0], poles[0]), poles, delay)


Quadratic = tuple[float, float, float]


def _poles(k: float, q: float) -> Quadratic:
    return 1 + k / q + k * k, 2 * (k * k - 1), 1 - k / q + k * k


def _biquad(zeros: Quadratic, poles: Quadratic, delay: npt.NDArray[np.complex128]) -> npt.NDArray[np.complex128]:
    response: npt.NDArray[np.complex128] = np.polyval(zeros[::-1], delay) / np.polyval(poles[::-1], delay)
    return response


def _power(loudness: float) -> float:
    """Mean square of the weighted signal at a loudness in LUFS."""
    return float(10 ** ((loudness - _OFFSET) / 10))


# Files


class _Sink(io.FileIO):
    """A file for an encoder, which keeps the first error of writing: libsndfile forgets those it meets at the end."""

    error: OSError | None = None

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """All of ``data`` is taken, so that the encoder goes on; ``check`` tells the truth."""
        try:
            rest = memoryview(data)
            while len(rest) and self.error is None:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.error = error
        return len(data)

    def check(self) -> None:
        if self.error is not None:
            raise self.error


def _encode(path: Path, kind: SoundFormat, rate: int, blocks: Iterable[Floats]) -> tuple[int, float, int]:
    """Write blocks of samples; give their number, the largest magnitude and how many were above full scale.

    libsndfile calls back to write, and what is raised there is lost. Signals raise in the main thread alone, so the
    encoder has a thread of its own.
    """
    stop = threading.Event()
    with ThreadPoolExecutor(1, "fte-encoder") as thread:
        try:
            return thread.submit(_encode_blocks, path, kind, rate, blocks, stop).result()
        finally:
            stop.set()


def _encode_blocks(
    path: Path, kind: SoundFormat, rate: int, blocks: Iterable[Floats], stop: threading.Event
) -> tuple[int, float, int]:
    """As `_encode`; what is written when it is told to ``stop`` is of no use."""
    count, peak, clipped = 0, 0.0, 0
    with _Sink(path, "wb") as sink:
        with soundfile.SoundFile(sink, "w", rate, 1, format=kind.container, subtype=kind.coding) as encoder:
            for block in blocks:
                if stop.is_set():
                    break
                count, peak = count + len(block), max(peak, _peak(block))
                clipped += int(np.count_nonzero(np.abs(block) > 1.0))
                encoder.write(to_pcm16(block) if kind.coding == "PCM_16" else np.clip(block, -1.0, 1.0))
                sink.check()
        sink.check()
    return count, peak, clipped


def _check_length(path: Path, kind: SoundFormat, samples: int, sample_rate: int, rate: int) -> None:
    seconds = samples / sample_rate
    _check_seconds(seconds)
    if kind.container == "WAV" and _WAV_HEADER + 2 * math.ceil(seconds * rate) > _WAV_BYTES:
        raise RequestError(
            f"cannot write {path}: {seconds / 3600:.1f} hours at {rate} Hz pass the 4 GiB of a WAV file, "
            "so write .flac, which loses nothing either, or take a lower sample rate"
        )


# What is asked of samples and numbers


def _check_rate(rate: int) -> None:
    if not (isinstance(rate, int) and LOWEST_RATE <= rate <= HIGHEST_RATE):
        raise RequestError(
            f"a sample rate must be a whole number from {LOWEST_RATE} to {HIGHEST_RATE} Hz, not {checks.shown(rate)}"
        )


def check_loudness(loudness: float | None) -> None:
    if loudness is not None and (not isinstance(loudness, Real) or not GATE <= loudness <= 0):
        raise RequestError(
            f"a loudness must be from {GATE:g} to 0 LUFS, not {checks.shown(loudness)}: speech is often at -16 or -23"
        )


def _check_seconds(seconds: float) -> None:
    if seconds > LONGEST_SECONDS:
        raise RequestError(f"the sound is longer than the limit of {LONGEST_SECONDS / 3600:g} hours: give it in parts")


def _row(samples: npt.ArrayLike) -> npt.NDArray[np.floating]:
    """``samples`` as an array (n,) of floats, not copied, its values not looked at yet."""
    values: npt.NDArray[np.floating] = checks.as_array(samples, "samples")
    if values.ndim != 1:
        raise RequestError(f"samples must be one row of numbers (n,), not of shape {values.shape}")
    if values.dtype.kind != "f":
        raise RequestError(f"samples must be floats from -1 to 1, not {values.dtype}")
    return values


def _finite(samples: npt.ArrayLike) -> Floats:
    with np.errstate(over="ignore"):  # a float64 too large for float32 is reported below
        values = _row(samples).astype(np.float32, copy=False)
    if not np.isfinite(values).all():
        raise RequestError("the samples have values that are not finite")
    return values


def _blocks(values: npt.NDArray[np.floating]) -> Iterator[npt.NDArray[np.floating]]:
    base: Any = values
    while isinstance(base, np.ndarray):
        base = base.base
    for start in range(0, len(values), _BLOCK):
        yield values[start : start + _BLOCK]
        if isinstance(base, mmap.mmap):
            base.madvise(mmap.MADV_DONTNEED)  # else a mapped file counts as memory of this process as a whole


def _parts(blocks: Iterable[npt.ArrayLike]) -> Iterator[Floats]:
    """The blocks' samples, checked, a bounded number at once."""
    return (_finite(part) for block in blocks for part in _blocks(_row(block)))


def _regrouped(parts: Iterable[Floats], size: int) -> Iterator[Floats]:
    """The same samples in parts of exactly ``size``, the last perhaps shorter."""
    waiting = np.empty(0, np.float32)
    for part in parts:
        waiting = np.concatenate([waiting, part])
        whole = len(waiting) // size * size
        yield from waiting[:whole].reshape(-1, size)
        waiting = waiting[whole:]
    if len(waiting):
        yield waiting


def _peak(samples: npt.NDArray[np.floating]) -> float:
    return float(np.abs(samples).max(initial=0.0))
