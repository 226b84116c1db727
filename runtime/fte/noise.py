"""Gaussian noise that belongs to a request: the same for one seed alone, in a batch, in chunks or whole.

Counter-based random numbers (Philox4x64-10: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2,
3", SC 2011) have no history: any block is computed from its key and counter alone. The layout, for anyone who draws the
same noise elsewhere, in unsigned 64-bit words, the least significant first:

- key: (seed, request); counter: (block within the row, row, stream, part), stream 0 for "prior", 1 for "vocoder" and
  2 for "tail", part the number of a span of a long text, 0 for the first or only one;
- each block gives four words, and each pair of words (u, v) gives two normals by Box and Muller (1958):
  radius = sqrt(-2 ln a), angle = 2 pi b, the values radius * cos(angle) and radius * sin(angle),
  with a = ((u >> 11) + 1) / 2^53 and b = (v >> 11) / 2^53, in float64 and rounded to float32 at the end.

Box-Muller takes a fixed number of words, which a ziggurat does not, so value i of a row has its place before anything
is drawn. The words are the same everywhere; the logarithm and the cosine may differ between platforms in the last bit
of float64, which the rounding to float32 hides but for rare ties.
"""

import math
import operator
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from fte.errors import RequestError

Stream = Literal["prior", "vocoder", "tail"]
"""What the noise is for: no two share a value."""

SEED_LIMIT = 1 << 63
"""Seeds, request numbers and rows lie in [0, SEED_LIMIT)."""

_STREAMS: dict[str, int] = {"prior": 0, "vocoder": 1, "tail": 2}
_WORDS_A_BLOCK = 4
_ROW = 1 << 64  # the counter is one 256-bit number; its second word counts rows
_COUNTER = 1 << 256


def normal(shape: Sequence[int], *, seed: int, request: int, stream: Stream, part: int = 0) -> npt.NDArray[np.float32]:
    """Standard normal values of a shape; its last axis is a row, and the rows before it count from 0.

    ``normal((T, M), ...)`` therefore equals ``normal_rows(0, T, M, ...)``, and a larger T only appends rows.
    Raises RequestError for a seed, request or part outside [0, 2**63), an unknown stream or a negative size.
    """
    sizes = tuple(_whole(size, "an axis of the noise") for size in shape)
    width = sizes[-1] if sizes else 1
    rows = math.prod(sizes[:-1])
    return normal_rows(0, rows, width, seed=seed, request=request, stream=stream, part=part).reshape(sizes)


def normal_rows(
    start: int, count: int, width: int, *, seed: int, request: int, stream: Stream, part: int = 0
) -> npt.NDArray[np.float32]:
    """Rows ``start`` to ``start + count`` of a request's standard normal noise, shape (count, width).

    Row r depends on (seed, request, stream, part, r) only, and a narrower row is the beginning of a wider one: no row
    costs the drawing of those before it. Each row costs some 4 us besides its values, so let a row be a mel frame
    rather than a sample.
    Raises RequestError for a seed, request, part or row outside [0, 2**63), an unknown stream or a negative size.
    """
    key = (_whole(seed, "the seed"), _whole(request, "the request number"))
    start, count = _whole(start, "the first row of the noise"), _whole(count, "the number of rows")
    width = _whole(width, "the width of a row")
    _whole(start + count, "the last row of the noise")
    if stream not in _STREAMS:
        raise RequestError(f"the noise stream {stream!r} is unknown: use one of {', '.join(_STREAMS)}")
    counter = (0, start, _STREAMS[stream], _whole(part, "the part of the request"))
    words = _rows_of_words(key, counter, count, width)
    return _box_muller(words)[:, :width]


def _rows_of_words(
    key: tuple[int, int], counter: tuple[int, int, int, int], count: int, width: int
) -> npt.NDArray[np.uint64]:
    """Raw Philox output of ``count`` rows, each from block 0 on, shape (count, width rounded up to an even number)."""
    even = width + width % 2
    generator = np.random.Philox(key=np.array(key, np.uint64), counter=np.array(counter, np.uint64))
    generator.advance(_COUNTER - 1)  # numpy counts up before each block, so the first would be block 1
    blocks = -(-even // _WORDS_A_BLOCK)
    words = np.empty((count, even), np.uint64)
    for row in words:
        row[:] = generator.random_raw(even)
        generator.advance(_ROW - blocks)
    return words


def _box_muller(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.float32]:
    """Standard normals from pairs of words along the last axis, which has an even length."""
    unit = (words >> np.uint64(11)).astype(np.float64)
    radius = np.sqrt(-2.0 * np.log((unit[:, 0::2] + 1.0) * 2.0**-53))
    angle = unit[:, 1::2] * (2.0 * np.pi * 2.0**-53)
    values = np.empty(words.shape, np.float32)
    values[:, 0::2] = radius * np.cos(angle)
    values[:, 1::2] = radius * np.sin(angle)
    return values


def _whole(value: object, name: str) -> int:
    """``value`` as an int in [0, 2**63), or a RequestError that names it."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = -1
    if not 0 <= number < SEED_LIMIT or isinstance(value, bool):
        raise RequestError(f"{name} must be a whole number from 0 to 2**63 - 1, not {value!r}")
    return number
