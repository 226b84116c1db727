"""Symmetric int8 weights: per output channel, and in blocks along the input."""

import numpy as np
from numpy.typing import NDArray

_LEVELS = 127.0
"""Largest magnitude used of int8, so that the range is symmetric."""


def _scaled(weight: NDArray[np.float32], axis: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Integers (as floats) and the scales along ``axis``; a scale of an all-zero group is 1."""
    scale = np.abs(weight).max(axis, keepdims=True) / np.float32(_LEVELS)
    scale = np.where(scale == 0, np.float32(1), scale).astype(np.float32)
    return np.rint(weight / scale), np.squeeze(scale, axis)


def quantize_columns(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """weight (N, K) -> int8 (K, N) for a product on the right, with scales (N), one per output channel."""
    integers, scale = _scaled(weight, axis=1)
    return np.ascontiguousarray(integers.astype(np.int8).T), scale


def quantize_blocks(weight: NDArray[np.float32], block: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """weight (N, K) -> uint8 with zero point 128 (N, K/block, block) and scales (N, K/block), K padded with zeros.

    The layout is that of ONNX Runtime's MatMulNBits with 8 bits.
    """
    n, k = weight.shape
    count = -(-k // block)
    padded = np.zeros((n, count * block), np.float32)
    padded[:, :k] = weight
    integers, scale = _scaled(padded.reshape(n, count, block), axis=2)
    return (integers + 128).astype(np.uint8), scale


def quantize_rows(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """weight (N, K) -> int8 (N, K) with scales (N), one per output channel."""
    integers, scale = _scaled(weight, axis=1)
    return integers.astype(np.int8), scale
