"""Sound in numbers: mel analysis, its approximate inverse, the denoiser and WAV files.

The analysis is the one the published models were trained with: a centred short-time Fourier transform (STFT) with
reflected edges and a periodic Hann window, magnitudes in Slaney's mel bands, natural logarithm. Spectra are (T, bins)
and mels (T, channels), T frames HOP samples apart. Everything is computed in float64 and rounded to float32 (complex64)
at the end, a block of frames at a time: ten minutes of sound are analysed in about 200 MB.
"""

import wave
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from fte import checks
from fte.constants import FFT_SIZE, HOP, LIMITS, LOG_FLOOR, MEL_FMAX, MEL_FMIN, N_MELS, SAMPLE_RATE
from fte.errors import InputError, RequestError
from fte.files import atomic_file

Floats = npt.NDArray[np.float32]
Spectrum = npt.NDArray[np.complex64]

BINS = FFT_SIZE // 2 + 1
"""Frequencies of one STFT frame, from 0 to SAMPLE_RATE / 2."""
READ_SECONDS = 600
"""Longest sound file that is read, seconds."""
_CANCELLED = 0.1
"""Part of the power expected of a mix below which its channels cancel each other out."""
HIGHEST_RATE = 192_000
"""Highest sample rate of a sound file, Hz."""
LOUDEST_MEL = 20.0
"""Mel values above this are no logarithms of magnitudes: a full-scale tone stays below 4."""

_EDGE = FFT_SIZE // 2  # samples added by reflection before the first and after the last
_OVERLAP = FFT_SIZE // HOP  # frames that cover one sample
_BLOCK = 512  # frames computed at once: 4 MB of float64
_PCM_SCALE = 1 << 15
_TINY = np.finfo(np.float32).tiny  # keeps a quotient of zeros at zero
_WINDOW: npt.NDArray[np.float64] = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(FFT_SIZE) / FFT_SIZE)


def mel_filterbank(
    n_mels: int = N_MELS, fmin: float = MEL_FMIN, fmax: float = MEL_FMAX, sample_rate: float = SAMPLE_RATE
) -> Floats:
    """Triangular mel filters of unit area, shape (n_mels, BINS); the array is shared, so it is read-only.

    Scale and normalisation are those of M. Slaney's Auditory Toolbox (Interval Research, TR 1998-010). ``fmin`` and
    ``fmax`` are the outer edges in Hz. Raises RequestError for no channels or edges outside 0 to sample_rate / 2.
    """
    if n_mels < 1:
        raise RequestError(f"a mel spectrogram needs at least one channel, not {n_mels}")
    if not 0.0 <= fmin < fmax <= sample_rate / 2:
        raise RequestError(f"mel bands must lie between 0 and {sample_rate / 2:g} Hz, not {fmin:g} to {fmax:g} Hz")
    return _mel_filterbank(n_mels, fmin, fmax, sample_rate)


@lru_cache(maxsize=8)
def _mel_filterbank(n_mels: int, fmin: float, fmax: float, sample_rate: float) -> Floats:
    ends = _hz_to_mel(np.array([fmin, fmax]))
    edges = _mel_to_hz(np.linspace(ends[0], ends[1], n_mels + 2))
    lower, centre, upper = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    bins = np.arange(BINS) * (sample_rate / FFT_SIZE)
    rising, falling = (bins - lower) / (centre - lower), (upper - bins) / (upper - centre)
    filters = np.maximum(0.0, np.minimum(rising, falling)) * (2.0 / (upper - lower))
    return _read_only(filters.astype(np.float32))


# Slaney's mel scale: linear below 1 kHz (3 mel to 200 Hz), then 27 mel to a factor of 6.4.
_LINEAR_HZ_PER_MEL = 200.0 / 3.0
_LOG_START_HZ = 1000.0
_LOG_START_MEL = _LOG_START_HZ / _LINEAR_HZ_PER_MEL
_LOG_MELS_PER_NEPER = 27.0 / np.log(6.4)


def _hz_to_mel(hz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    above = _LOG_START_MEL + _LOG_MELS_PER_NEPER * np.log(np.maximum(hz, _LOG_START_HZ) / _LOG_START_HZ)
    return np.where(hz < _LOG_START_HZ, hz / _LINEAR_HZ_PER_MEL, above)


def _mel_to_hz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    above = _LOG_START_HZ * np.exp(np.maximum(mel - _LOG_START_MEL, 0.0) / _LOG_MELS_PER_NEPER)
    return np.where(mel < _LOG_START_MEL, mel * _LINEAR_HZ_PER_MEL, above)


def stft(samples: npt.ArrayLike) -> Spectrum:
    """Short-time spectrum of (n,) samples, shape (n // HOP + 1, BINS); frame t is centred on sample t * HOP.

    Raises RequestError unless the samples are one row of finite floats, longer than half a window.
    """
    frames = _frames(_reflected(_checked(samples, longer_than=_EDGE)))
    spectrum = np.empty((len(frames), BINS), np.complex64)
    for block in _blocks(len(frames)):
        spectrum[block] = _analyse(frames[block])
    return spectrum


def istft(spectrum: npt.ArrayLike, length: int | None = None) -> Floats:
    """The samples whose STFT is nearest to a (T, BINS) spectrum in the least-squares sense (Griffin and Lim 1984).

    ``length`` is the number of samples, by default (T - 1) * HOP and at most T * HOP, where the windows still cover
    them. Raises RequestError for another shape, values that are not finite, or a length beyond that.
    """
    values = np.asarray(spectrum)
    if values.ndim != 2 or values.shape[0] < 1 or values.shape[1] != BINS:
        raise RequestError(f"a spectrum must have the shape (frames, {BINS}), not {values.shape}")
    longest = len(values) * HOP
    length = longest - HOP if length is None else length
    if not 0 <= length <= longest:
        raise RequestError(f"{len(values)} frames give at most {longest} samples, not {length}")
    if not np.isfinite(values).all():
        raise RequestError("the spectrum has values that are not finite")
    overlap = _OverlapAdd()
    parts = [overlap.add(_synthesise(values[block])) for block in _blocks(len(values))]
    return np.concatenate([*parts, overlap.rest()])[_EDGE : _EDGE + length]


def mel_spectrogram(
    samples: npt.ArrayLike,
    n_mels: int = N_MELS,
    *,
    sample_rate: float = SAMPLE_RATE,
    fmin: float = MEL_FMIN,
    fmax: float = MEL_FMAX,
) -> Floats:
    """Natural logarithm of the mel magnitudes of (n,) samples at ``sample_rate``, shape (n // HOP + 1, n_mels).

    Magnitudes below LOG_FLOOR are raised to it. Raises RequestError as ``stft`` and ``mel_filterbank`` do.
    """
    frames = _frames(_reflected(_checked(samples, longer_than=_EDGE)))
    filters = mel_filterbank(n_mels, fmin, fmax, sample_rate).T.astype(np.float64)
    mel = np.empty((len(frames), n_mels), np.float32)
    for block in _blocks(len(frames)):
        mel[block] = np.log(np.maximum(np.abs(_analyse(frames[block])) @ filters, LOG_FLOOR))
    return mel


def griffin_lim(
    mel: npt.ArrayLike,
    *,
    iterations: int = 60,
    momentum: float = 0.99,
    seed: int = 0,
    sample_rate: float = SAMPLE_RATE,
    fmin: float = MEL_FMIN,
    fmax: float = MEL_FMAX,
) -> Floats:
    """Sound with about the mel spectrogram (T, n_mels) that is given, T * HOP samples: to listen without a vocoder.

    "A fast Griffin-Lim algorithm" (Perraudin, Balazs and Sondergaard 2013), with non-negative magnitudes fitted to the
    mel and random first phases drawn from ``seed``: the same arguments give the same samples.
    Raises RequestError for another shape, values that are no log magnitudes, or more frames than the limits allow.
    """
    values = np.asarray(mel, np.float64)
    if values.ndim != 2 or 0 in values.shape:
        raise RequestError(f"a mel spectrogram must have the shape (frames, channels), not {values.shape}")
    if len(values) > LIMITS.frames:
        raise RequestError(f"the mel spectrogram has {len(values)} frames, more than the limit of {LIMITS.frames}")
    if not (values <= LOUDEST_MEL).all():
        raise RequestError(f"the mel spectrogram has values that are not numbers or above {LOUDEST_MEL:g}")
    if iterations < 0 or seed < 0:
        raise RequestError(f"Griffin-Lim takes iterations and a seed from 0 on, not {iterations} and {seed}")
    if not 0.0 <= momentum <= 1.0:
        raise RequestError(f"the momentum of Griffin-Lim must be from 0 to 1, not {momentum:g}")
    length = len(values) * HOP
    # One frame more than asked for, so that the frames reach the last sample; and enough for the edges to be reflected.
    values = np.pad(values, ((0, max(1, _OVERLAP - len(values))), (0, 0)), mode="edge")
    magnitudes = _magnitudes(values, mel_filterbank(values.shape[1], fmin, fmax, sample_rate))
    phases = np.random.Generator(np.random.Philox(seed)).random(magnitudes.shape, np.float32)
    spectrum = magnitudes * np.exp(2j * np.pi * phases).astype(np.complex64)
    previous = np.zeros_like(spectrum)
    for _ in range(iterations):
        consistent = stft(istft(spectrum))
        ahead = consistent + np.float32(momentum) * (consistent - previous)
        spectrum = magnitudes * ahead / np.maximum(np.abs(ahead), _TINY)
        previous = consistent
    return istft(spectrum)[:length]


def _magnitudes(mel: npt.NDArray[np.float64], bands: Floats | None = None) -> Floats:
    """Non-negative STFT magnitudes (T, BINS) whose mel bands are close to exp(mel).

    The pseudo-inverse, clipped, and then the multiplicative updates of Lee and Seung (2000), which keep the sign.
    """
    filters = (mel_filterbank(mel.shape[1]) if bands is None else bands).astype(np.float64)
    target = np.exp(mel)
    magnitudes: npt.NDArray[np.float64] = np.maximum(target @ np.linalg.pinv(filters).T, LOG_FLOOR)
    magnitudes[:, ~filters.any(axis=0)] = 0.0
    wanted = target @ filters
    for _ in range(30):
        magnitudes *= wanted / np.maximum(magnitudes @ filters.T @ filters, _TINY)
    return magnitudes.astype(np.float32)


def bias_spectrum(bias_audio: npt.ArrayLike) -> Floats:
    """Magnitudes (BINS,) of the first STFT frame of what a vocoder makes of silence: the tones it always adds.

    Raises RequestError as ``stft`` does.
    """
    first_window = _checked(bias_audio)[:FFT_SIZE]
    magnitudes: Floats = np.abs(stft(first_window)[0])
    return magnitudes


def denoise(samples: npt.ArrayLike, bias: npt.ArrayLike, strength: float) -> Floats:
    """Subtract ``strength`` times the (BINS,) magnitudes of ``bias`` from the spectrum of (n,) samples; n come back.

    Magnitudes stop at zero and phases stay: the denoiser published with WaveGlow. That one gives whole hops only, the
    first n // HOP * HOP samples, and these are equal here. Strength 0 changes nothing.
    Raises RequestError for a negative strength, another shape or values that are not finite.
    """
    parts = denoise_chunks([samples], bias, strength)
    return np.concatenate([np.empty(0, np.float32), *parts])


def denoise_chunks(chunks: Iterable[npt.ArrayLike], bias: npt.ArrayLike, strength: float) -> Iterator[Floats]:
    """``denoise`` for sound that comes in chunks of any length: joined, what it yields is the same to the last bit.

    A sample is yielded when the windows over it are complete, at most FFT_SIZE samples later. Sound that ends before
    half a window is full is continued with zeros, because there is too little to reflect.
    Raises RequestError as ``denoise`` does.
    """
    wanted = np.asarray(bias, np.float64)
    if wanted.shape != (BINS,):
        raise RequestError(f"a bias spectrum must have the shape ({BINS},), not {wanted.shape}")
    if not (np.isfinite(wanted) & (wanted >= 0)).all():
        raise RequestError("the bias spectrum has values that are negative or not finite")
    if not (np.isfinite(strength) and strength >= 0):
        raise RequestError(f"the strength of the denoiser must be 0 or more, not {strength}")
    pieces = (piece for chunk in chunks for piece in _pieces(_checked(chunk)))
    return pieces if strength == 0 else _denoised(pieces, strength * wanted)


def _pieces(samples: Floats) -> Iterator[Floats]:
    return (samples[start : start + _BLOCK * HOP] for start in range(0, len(samples), _BLOCK * HOP))


def _denoised(pieces: Iterable[Floats], floor: npt.NDArray[np.float64]) -> Iterator[Floats]:
    """The pieces with ``floor`` subtracted from the magnitudes of their common spectrum."""
    overlap = _OverlapAdd()
    waiting = np.empty(0, np.float32)  # from the first sample of the next frame on
    edge = _EDGE  # samples before the first one, still to be dropped from the result
    for piece in _with_reflected_ends(pieces):
        waiting = np.concatenate([waiting, piece])
        if len(waiting) < FFT_SIZE:
            continue
        frames = _frames(waiting)
        spectrum = _analyse(frames)
        magnitudes = np.abs(spectrum)
        spectrum *= np.maximum(magnitudes - floor, 0.0) / np.maximum(magnitudes, _TINY)
        done = overlap.add(_synthesise(spectrum))
        waiting = waiting[len(done) :]
        yield done[edge:]
        edge = max(0, edge - len(done))
    yield overlap.rest()[edge : len(waiting) - _EDGE]


def _with_reflected_ends(pieces: Iterable[Floats]) -> Iterator[Floats]:
    """The pieces with half a window of reflection before the first sample and after the last."""
    recent = np.empty(0, np.float32)
    started = False
    for piece in pieces:
        recent = np.concatenate([recent, piece])
        if started:
            yield piece
        elif len(recent) > _EDGE:
            started = True
            yield recent[_EDGE:0:-1]
            yield recent
        if started:
            recent = recent[-_EDGE - 1 :]
    if started:
        yield recent[-2::-1]
    else:
        yield np.pad(recent, (0, _EDGE + 1 - len(recent)))[_EDGE:0:-1]
        yield np.pad(recent, (0, _EDGE))


def to_pcm16(samples: npt.ArrayLike) -> npt.NDArray[np.int16]:
    """Samples from -1 to 1 as 16-bit integers, rounded, and clipped where they are louder.

    Raises RequestError unless the samples are one row of finite floats.
    """
    scaled = np.rint(_checked(samples) * np.float32(_PCM_SCALE))
    pcm: npt.NDArray[np.int16] = np.clip(scaled, -_PCM_SCALE, _PCM_SCALE - 1).astype(np.int16)
    return pcm


def write_wav(path: Path | str, samples: npt.ArrayLike, sample_rate: int = SAMPLE_RATE) -> None:
    """Write (n,) samples as a mono WAV file of 16-bit PCM, whole or not at all.

    Raises RequestError for samples that ``to_pcm16`` refuses and for a file that cannot be written.
    """
    pcm = to_pcm16(samples)
    if not 1 <= sample_rate <= HIGHEST_RATE:
        raise RequestError(f"the sample rate must be from 1 to {HIGHEST_RATE} Hz, not {sample_rate}")
    with atomic_file(Path(path)) as temporary, wave.open(str(temporary), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(pcm.itemsize)
        file.setframerate(int(sample_rate))
        file.writeframes(pcm.tobytes())


def read_audio(path: Path | str) -> tuple[Floats, int]:
    """The samples (n,) of a sound file, its channels averaged, and its sample rate in Hz.

    Channels that cancel each other out, such as two of opposite polarity, are not averaged: the strongest is taken.
    Raises RequestError when the file cannot be read, is no sound file, is empty, is longer than READ_SECONDS, or has
    values that are not finite.
    """
    path = checks.path(path, "the sound file")
    if path.exists() and not path.is_file() and not path.is_dir():
        raise InputError(f"cannot read {path}: it is a device or a pipe, not a file")  # opening one can wait for ever
    try:
        with path.open("rb") as handle, soundfile.SoundFile(handle.fileno(), closefd=False) as sound:
            rate = int(sound.samplerate)
            if rate > HIGHEST_RATE:
                raise InputError(f"{path} has a sample rate of {rate} Hz, more than the limit of {HIGHEST_RATE} Hz")
            if sound.frames > READ_SECONDS * rate:
                raise InputError(f"{path} is {sound.frames / rate:.0f} s long, more than the limit of {READ_SECONDS} s")
            blocks = _mono_blocks(sound)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except RuntimeError as error:  # the base of soundfile's errors
        raise InputError(f"cannot read {path}: it is not a sound file of a known format") from error
    samples = np.concatenate(blocks) if blocks else np.empty(0, np.float32)
    if not len(samples):
        raise InputError(f"cannot use {path}: it has no samples")
    if not np.isfinite(samples).all():
        raise InputError(f"cannot use {path}: it has samples that are not finite")
    return samples, rate


def _mono_blocks(sound: soundfile.SoundFile) -> list[Floats]:
    """One channel of a sound, block by block: a file of many channels is never in memory as a whole."""
    mixed: list[Floats] = []
    mixed_power, powers = 0.0, np.zeros(sound.channels)
    for block in _file_blocks(sound):
        mixed.append(block.mean(axis=1, dtype=np.float32))
        if sound.channels > 1:
            mixed_power += float(np.square(mixed[-1], dtype=np.float64).sum())
            powers += np.square(block, dtype=np.float64).sum(axis=0)
    # Channels that have nothing to do with each other mix to 1/n of their mean power; far below it, they cancel.
    if mixed_power >= _CANCELLED * powers.mean() / sound.channels:
        return mixed
    sound.seek(0)
    strongest = int(powers.argmax())
    return [np.ascontiguousarray(block[:, strongest]) for block in _file_blocks(sound)]


def _file_blocks(sound: soundfile.SoundFile) -> Iterator[Floats]:
    """Blocks (n, channels)."""
    while len(block := sound.read(1 << 16, dtype="float32", always_2d=True)):
        yield block


def _checked(samples: npt.ArrayLike, *, longer_than: int = -1) -> Floats:
    """``samples`` as float32, or a RequestError that says what is wrong with them."""
    values: npt.NDArray[np.floating] = checks.as_array(samples, "samples")
    if values.ndim != 1:
        raise RequestError(f"samples must be one row of numbers (n,), not of shape {values.shape}")
    if values.dtype.kind != "f":
        raise RequestError(f"samples must be floats from -1 to 1, not {values.dtype}")
    if len(values) <= longer_than:
        raise RequestError(f"{len(values)} samples are too few to analyse: at least {longer_than + 1} are needed")
    with np.errstate(over="ignore"):  # a float64 too large for float32 is reported below
        rounded = values.astype(np.float32, copy=False)
    if not np.isfinite(rounded).all():
        raise RequestError("the samples have values that are not finite")
    return rounded


def _reflected(samples: Floats) -> Floats:
    return np.pad(samples, _EDGE, mode="reflect")


def _frames(padded: Floats) -> Floats:
    """Every window of a signal whose edges are in place, shape (T, FFT_SIZE), without a copy."""
    return np.lib.stride_tricks.sliding_window_view(padded, FFT_SIZE)[::HOP]


def _blocks(frames: int) -> Iterator[slice]:
    return (slice(start, start + _BLOCK) for start in range(0, frames, _BLOCK))


def _analyse(frames: Floats) -> npt.NDArray[np.complex128]:
    """Spectra (T, BINS) of frames (T, FFT_SIZE)."""
    return np.fft.rfft(frames * _WINDOW)


def _synthesise(spectrum: npt.NDArray[np.complexfloating]) -> npt.NDArray[np.float64]:
    """Windowed frames (T, FFT_SIZE) of spectra (T, BINS)."""
    return np.fft.irfft(spectrum.astype(np.complex128, copy=False), FFT_SIZE) * _WINDOW


class _OverlapAdd:
    """Frames in order -> samples: the sum of the frames over a sample, divided by the sum of their squared windows.

    Each sample adds its frames in order of time however the frames are grouped, so that chunks give the same bits.
    """

    def __init__(self) -> None:
        self._sum = np.zeros((_OVERLAP - 1, HOP))
        self._weight = np.zeros((_OVERLAP - 1, HOP))

    def add(self, frames: npt.NDArray[np.float64]) -> Floats:
        """Take frames (T, FFT_SIZE); give the T * HOP samples that no later frame will touch."""
        count = len(frames)
        total = np.concatenate([self._sum, np.zeros((count, HOP))])
        weight = np.concatenate([self._weight, np.zeros((count, HOP))])
        parts, window = frames.reshape(count, _OVERLAP, HOP), np.square(_WINDOW).reshape(_OVERLAP, HOP)
        for part in reversed(range(_OVERLAP)):  # the last part of a frame meets the first part of a later one
            total[part : part + count] += parts[:, part]
            weight[part : part + count] += window[part]
        self._sum, self._weight = total[count:], weight[count:]
        return _quotient(total[:count], weight[:count])

    def rest(self) -> Floats:
        """The last FFT_SIZE - HOP samples."""
        return _quotient(self._sum, self._weight)


def _quotient(total: npt.NDArray[np.float64], weight: npt.NDArray[np.float64]) -> Floats:
    return (total / np.maximum(weight, _TINY)).astype(np.float32).ravel()


def _read_only(array: Floats) -> Floats:
    array.setflags(write=False)
    return array
