"""Mel spectrograms as files of numpy: what ``--save-mel`` writes and a vocoder alone reads."""

from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from fte import checks
from fte.constants import LIMITS
from fte.errors import InputError, RequestError
from fte.files import atomic_file

Floats = npt.NDArray[np.float32]

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
"""Readers of the headers that numpy writes for plain numbers, by version of the format."""
_FLOAT_BYTES = (2, 4, 8)
MOST_CHANNELS = 1 << 20
"""No mel has more channels."""


def save_mel(path: Path | str, mel: npt.ArrayLike) -> None:
    """Write a mel spectrogram (T, M) of finite floats as a .npy file of float32, whole or not at all.

    Raises RequestError for another shape or kind, values that are not finite or beyond the limit, a name that does not
    end in .npy, and a file that cannot be written.
    """
    path, values = checks.path(path, "the file of the mel"), checks.as_array(mel, "the mel")
    if path.suffix.lower() != ".npy":
        raise RequestError(f"cannot write {path}: the name of a mel file must end in .npy")
    if values.ndim != 2 or 0 in values.shape or values.dtype.kind != "f":
        raise RequestError(f"a mel must be floats (frames, channels), not {values.dtype} of shape {values.shape}")
    rounded = _float32(values, "the mel")
    with atomic_file(path) as temporary, temporary.open("wb") as handle:
        np.save(handle, rounded, allow_pickle=False)


def load_mel(path: Path | str, n_mels: int) -> Floats:
    """The mel spectrogram (T, n_mels) of a .npy file; it may be stored as (T, n_mels) or, as the public tools do,
    (n_mels, T), also with a leading axis of 1, in floats of 16, 32 or 64 bits. A square one is taken as (T, n_mels).

    The header is checked before any data are read. Raises RequestError when the file cannot be read, is no such file,
    has more than LIMITS.frames frames, or values that are not finite or beyond the limit.
    """
    path = checks.path(path, "the file of the mel")
    checks.whole(n_mels, "n_mels", 1, MOST_CHANNELS)
    if path.suffix.lower() in (".pt", ".pth"):
        raise InputError(
            f"cannot read {path}: a PyTorch file can run code, so convert it once, in Python, by "
            "numpy.save('mel.npy', torch.load('mel.pt', weights_only=True).cpu().numpy())"
        )
    if path.exists() and not path.is_file() and not path.is_dir():
        raise InputError(f"cannot read {path}: it is a device or a pipe, not a file")  # opening one can wait for ever
    try:
        with path.open("rb") as handle:
            stored = _stored(handle, path, n_mels)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    return _float32(stored if stored.shape[1] == n_mels else stored.T, str(path))


def _stored(handle: BinaryIO, path: Path, n_mels: int) -> npt.NDArray[np.floating]:
    """The array as it lies in the file, (T, n_mels) or (n_mels, T), without an axis of 1 in front."""
    shape, fortran_order, dtype = _header(handle, path)
    if dtype.kind != "f" or dtype.itemsize not in _FLOAT_BYTES:
        raise InputError(f"{path} holds {dtype}: a mel must be floats of 16, 32 or 64 bits")
    sizes = shape[1:] if len(shape) == 3 and shape[0] == 1 else shape
    if len(sizes) != 2 or n_mels not in sizes or min(sizes) < 1:
        raise InputError(
            f"{path} has the shape {shape}: a mel for this voice must be (frames, {n_mels}) or ({n_mels}, frames)"
        )
    frames = sizes[0] if sizes[1] == n_mels else sizes[1]
    if frames > LIMITS.frames:
        raise InputError(f"{path} has {frames} frames, more than the limit of {LIMITS.frames}: cut it in parts")
    expected = frames * n_mels * dtype.itemsize
    data = handle.read(expected + 1)
    if len(data) != expected:
        fault = "ends too early" if len(data) < expected else "goes on after its data"
        raise InputError(f"{path} {fault}: {expected} bytes of numbers were expected, so write the file anew")
    values: npt.NDArray[np.floating] = np.frombuffer(data, dtype).reshape(sizes, order="F" if fortran_order else "C")
    return values


def _header(handle: BinaryIO, path: Path) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """Shape, Fortran order and type, as the file claims them."""
    try:
        shape, fortran_order, dtype = _HEADERS[np.lib.format.read_magic(handle)](handle)
    except OSError:
        raise
    except Exception as error:  # numpy lets through whatever Python's parser makes of a hostile header
        raise InputError(f"cannot read {path}: it is no .npy file, which numpy.save writes") from error
    return shape, fortran_order, dtype


def _float32(values: npt.NDArray[np.floating], name: str) -> Floats:
    with np.errstate(over="ignore"):  # a float64 too large for float32 is reported below
        rounded = np.ascontiguousarray(values, np.float32)
    checks.magnitude(rounded, name, LIMITS.mel)
    return rounded
