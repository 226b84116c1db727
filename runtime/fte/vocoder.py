"""WaveGlow: mel frames to samples, in chunks that join without a seam.

A chunk is computed with frames of context on both sides, whose samples are thrown away. With the full receptive field
as context the chunks are exactly the whole; with less, the error at the joints falls quickly (docs/performance.md).
The noise of a sample depends on its position alone, so neighbouring chunks see the same noise.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from fte import checks, noise
from fte.audio import bias_spectrum
from fte.backends.base import Backend, Float32, check_finite
from fte.bundle import Bundle, WaveglowSizes
from fte.constants import LIMITS
from fte.errors import BundleError, RequestError

CHUNK_FRAMES = 237
"""Default frames of a chunk without its context: 256 with it."""
FIRST_CHUNK_FRAMES = 24
"""Frames of the first chunk of a stream; the next ones double up to the default, so that sound starts early and what
has been given out always lasts for the computing of the next."""
OVERLAP_FRAMES = 8
"""Default frames of context on each side: the worst frame at a joint is then above 50 dB (docs/performance.md)."""
_BIAS_FRAMES = 88
"""Length of the silent mel from which the denoiser's bias spectrum is taken, as in the public implementation."""

NoiseRows = Callable[[int, int], Float32]
"""(first frame, number of frames) -> standard normal noise (frames, hop), group after group within a frame."""


def exact_overlap(sizes: WaveglowSizes) -> int:
    """Frames of context on each side with which chunks are exactly the whole: the receptive field of all flows."""
    groups = int(sizes.n_flows * (2**sizes.n_layers - 1) * (sizes.kernel_size // 2))
    return -(-groups * sizes.n_group // sizes.upsample_stride)


class Vocoder:
    """Runs a bundle's WaveGlow. Raises BundleError where the bundle has none."""

    def __init__(self, bundle: Bundle, backend: Backend, precision: str) -> None:
        self._graph = backend.open(bundle, precision, "vocoder")
        assert bundle.manifest.waveglow is not None  # else the bundle has no such graph
        self.sizes = bundle.manifest.waveglow
        self.hop = self.sizes.upsample_stride
        self._history = self.sizes.upsample_kernel // self.hop - 1
        """Frames before a frame that its upsampling reads: context on the left beside the overlap."""
        self._bias: Float32 | None = None

    def noise_rows(self, seed: int, request: int, part: int = 0) -> NoiseRows:
        """The noise of a request, or of one part of it."""
        return lambda start, count: noise.normal_rows(
            start, count, self.hop, seed=seed, request=request, stream="vocoder", part=part
        )

    def stream(
        self,
        frames: Iterable[Float32],
        noise_rows: NoiseRows,
        *,
        sigma: float,
        chunk: int = CHUNK_FRAMES,
        first_chunk: int | None = None,
        overlap: int = OVERLAP_FRAMES,
    ) -> Iterator[Float32]:
        """Blocks of mel frames (t, M), any t -> blocks of samples (n), each given out as soon as it is settled.

        chunk, first_chunk and overlap in frames; with first_chunk, chunks double from it up to chunk. The same chunks
        are cut however the frames arrive.
        """
        _check_chunks(chunk, overlap)
        size = chunk if first_chunk is None else min(first_chunk, chunk)
        if not sigma >= 0:
            raise RequestError(f"the vocoder's sigma is {sigma}: give a number of at least 0")
        buffer, waiting = np.empty((0, self.sizes.n_mels), np.float32), list[Float32]()
        known, position = 0, 0  # frames that have come, and the next frame to give out
        for block in frames:
            waiting.append(block)
            known += len(block)
            while known >= position + size + overlap:
                buffer, waiting = np.concatenate([buffer, *waiting]), []
                yield self._chunk(buffer, known, position, position + size, overlap, sigma, noise_rows)
                position += size
                buffer = buffer[len(buffer) - (known - max(0, position - overlap - self._history)) :]
                size = min(2 * size, chunk)
        buffer = np.concatenate([buffer, *waiting])
        while position < known:
            stop = min(position + size, known)
            yield self._chunk(buffer, known, position, stop, overlap, sigma, noise_rows)
            position, size = stop, min(2 * size, chunk)

    def _chunk(
        self, buffer: Float32, known: int, start: int, stop: int, overlap: int, sigma: float, noise_rows: NoiseRows
    ) -> Float32:
        """Samples of frames start..stop from a buffer that ends with frame ``known``."""
        first = known - len(buffer)
        left, right = max(first, start - overlap - self._history), min(known, stop + overlap)
        groups = (np.float32(sigma) * noise_rows(left, right - left)).reshape(1, -1, self.sizes.n_group)
        mel = buffer[None, left - first : right - first]
        (samples,) = self._graph.run(["audio"], {"mel": mel, "noise": groups})
        if samples.shape != (1, (right - left) * self.hop):
            raise BundleError(
                f"the vocoder makes {samples.size} samples of {right - left} frames, and the manifest says {self.hop} "
                "of each: export the voice again"
            )
        chunk = np.asarray(samples[0, (start - left) * self.hop : (stop - left) * self.hop], np.float32)
        check_finite(chunk, "the samples")
        return chunk

    def vocode(
        self,
        mel: Float32,
        noise_rows: NoiseRows,
        *,
        sigma: float,
        chunk: int = CHUNK_FRAMES,
        overlap: int = OVERLAP_FRAMES,
    ) -> Float32:
        """mel (T, M) -> samples (T * hop)."""
        check_mel(mel, self.sizes.n_mels)
        return np.concatenate(list(self.stream([mel], noise_rows, sigma=sigma, chunk=chunk, overlap=overlap)))

    def bias_spectrum(self) -> Float32:
        """What this vocoder hums when it has nothing to say (bins): the denoiser subtracts it. Computed once."""
        if self._bias is None:
            silence = np.zeros((_BIAS_FRAMES, self.sizes.n_mels), np.float32)
            no_noise = given_noise(np.zeros((_BIAS_FRAMES, self.hop), np.float32))
            self._bias = bias_spectrum(self.vocode(silence, no_noise, sigma=0.0, chunk=_BIAS_FRAMES))
        return self._bias


def given_noise(rows: Float32) -> NoiseRows:
    """A noise source that reads a given array (T, hop)."""
    return lambda start, count: rows[start : start + count]


def check_mel(mel: Float32, n_mels: int) -> None:
    """Raise RequestError unless mel is (T, n_mels) of 1 to the limit's frames, finite and within the limit."""
    if mel.ndim != 2 or mel.shape[1] != n_mels or not 1 <= len(mel) <= LIMITS.frames:
        raise RequestError(f"mel has shape {mel.shape}: give (T, {n_mels}) with T from 1 to {LIMITS.frames} frames")
    checks.magnitude(mel, "mel", LIMITS.mel)


def _check_chunks(chunk: int, overlap: int) -> None:
    if not 1 <= chunk <= LIMITS.frames or not 0 <= overlap <= LIMITS.frames:
        raise RequestError(
            f"chunk {chunk} and overlap {overlap}: give frames, chunk from 1 and overlap from 0 to {LIMITS.frames}"
        )
