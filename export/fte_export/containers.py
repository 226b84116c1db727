"""The files that hold tensors: torch's zip container, its older one, and safetensors. Nothing in them is run.

A file is mapped into memory, and a tensor is copied out of it only when it is read; before that, its bounds are checked
against the file's.
"""

import io
import json
import math
import mmap
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fte.constants import LIMITS
from fte_export.unpickle import PICKLE_BYTES, Fault, Inert, Storage, StoredTensor, is_count, load_pickle, shown

TENSORS = 100_000
"""Tensors, modules and other entries walked through in one checkpoint."""
DEPTH = 64
"""Modules within modules."""
_DIRECTORY_BYTES = 8 << 20
"""Size of a zip archive's directory or of the header of a safetensors file, bytes."""

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")
_SAFETENSORS_TYPES: Mapping[str, str] = {
    "BF16": "bfloat16",
    "BOOL": "bool",
    "F16": "float16",
    "F32": "float32",
    "F64": "float64",
    **{f"{sign}{bits}": f"{kind}{bits}" for sign, kind in (("I", "int"), ("U", "uint")) for bits in (8, 16, 32, 64)},
}
_TYPES = frozenset(_SAFETENSORS_TYPES.values())

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor that is still in its file."""

    shape: tuple[int, ...]
    read: Callable[[], NDArray[Any]]
    """Gives its values, contiguous and little-endian, in their own type (bfloat16 as float32), or raises Fault."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a checkpoint file holds."""

    tensors: dict[str, Tensor]
    """By the names of the state dictionary."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """The configuration some training scripts store beside the weights."""
    model_class: str = ""
    """Class of a model that was pickled whole, `glow.WaveGlow` for example."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Plain attributes of a model that was pickled whole."""


def map_file(path: Path) -> mmap.mmap:
    """Map a file for reading. Raises Fault when it is none or of a size no checkpoint has, OSError when unreadable."""
    if path.is_dir():
        raise Fault("is a folder, not a checkpoint file")
    if path.exists() and not path.is_file():
        raise Fault("is not a plain file")
    size = path.stat().st_size
    if size == 0:
        raise Fault("is empty")
    if size > LIMITS.checkpoint_bytes:
        raise Fault(f"has {size} bytes, more than the {LIMITS.checkpoint_bytes} a checkpoint may have")
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def read_contents(file: mmap.mmap) -> Contents:
    """The tensors of a checkpoint in any of the containers. Raises Fault."""
    data = np.frombuffer(file, np.uint8)
    start = bytes(data[:64])
    if start.startswith(b"PK\x03\x04"):
        return _from_zip(data)
    if start.startswith(b"\x80"):
        return _from_legacy(data)
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= len(data) - 8:
        return Contents(_from_safetensors(data))
    if start.lstrip().startswith(b"<"):
        raise Fault("is a web page, not a checkpoint: the download needs to be repeated")
    if start.startswith(b"version https://git-lfs"):
        raise Fault("is a Git LFS pointer, not a checkpoint: fetch the file it stands for")
    raise Fault("is no checkpoint: it is neither a file of torch.save nor of safetensors")


# Torch's zip container: PREFIX/data.pkl, PREFIX/data/KEY for each storage.


class _Window:
    """The file as zipfile reads it; a directory that claims to be huge is not read."""

    def __init__(self, data: Bytes) -> None:
        self._data = data
        self._position = 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position}.get(whence, len(self._data)))
        return self._position

    def tell(self) -> int:
        return self._position

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if size > _DIRECTORY_BYTES:
            raise Fault("is damaged: the directory of its archive is too long")
        end = len(self._data) if size < 0 else self._position + size
        found = bytes(self._data[self._position : min(end, self._position + _DIRECTORY_BYTES)])
        self._position += len(found)
        return found


def _from_zip(data: Bytes) -> Contents:
    entries = _zip_entries(data)
    prefix = _zip_prefix(entries)
    if f"{prefix}/byteorder" in entries and bytes(entries[f"{prefix}/byteorder"]()) != b"little":
        raise Fault("was written on a big-endian machine, which is not supported")
    pickled = entries[f"{prefix}/data.pkl"]()
    if len(pickled) > PICKLE_BYTES:
        raise Fault(f"has a pickle of more than {PICKLE_BYTES} bytes, which no checkpoint needs")

    @cache
    def storage_bytes(key: str) -> Bytes:
        if f"{prefix}/data/{key}" not in entries:
            raise Fault(f"is damaged: it lacks the storage {shown(key)!r}")
        return entries[f"{prefix}/data/{key}"]()

    return _find_tensors(load_pickle(io.BytesIO(bytes(pickled))), storage_bytes)


def _zip_entries(data: Bytes) -> dict[str, Callable[[], Bytes]]:
    """For each file of the archive, a function that gives its bytes or raises Fault."""
    try:
        with zipfile.ZipFile(_Window(data)) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ArithmeticError, LookupError, ValueError, struct.error) as error:
        raise Fault("is a damaged archive: it may have been downloaded in part") from error
    entries: dict[str, Callable[[], Bytes]] = {info.filename: partial(_zip_bytes, data, info) for info in infos}
    if len(entries) != len(infos):
        raise Fault("has two files of one name in its archive")
    return entries


def _zip_prefix(entries: Mapping[str, object]) -> str:
    pickles = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise Fault("is an archive, but not one of torch.save")
    prefix = pickles[0].partition("/")[0]
    if f"{prefix}/constants.pkl" in entries:
        raise Fault("is a TorchScript program, not a checkpoint")
    return prefix


def _zip_bytes(data: Bytes, info: zipfile.ZipInfo) -> Bytes:
    """The bytes of a stored file, checked: torch compresses and encrypts nothing."""
    name = shown(info.filename)
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size or info.flag_bits & 1:
        raise Fault(f"has the compressed file {name} in its archive, which torch.save never writes")
    header = bytes(data[info.header_offset : info.header_offset + _LOCAL_HEADER.size])
    if len(header) < _LOCAL_HEADER.size or not header.startswith(b"PK\x03\x04"):
        raise Fault(f"is damaged: {name} is not where the directory of its archive says")
    *_, name_length, extra_length = _LOCAL_HEADER.unpack(header)
    start = info.header_offset + _LOCAL_HEADER.size + name_length + extra_length
    found = data[start : start + info.file_size]
    if len(found) < info.file_size:
        raise Fault(f"is damaged: {name} ends beyond the end of the file")
    if info.CRC and zlib.crc32(found.data) != info.CRC:  # 0: torch was told to compute none
        raise Fault(f"is damaged: the checksum of {name} is wrong")
    return found


# Torch's older container: five pickles, then the storages one after the other, each after its number of elements.


def _from_legacy(data: Bytes) -> Contents:
    stream = io.BytesIO(bytes(data[:PICKLE_BYTES]))
    if load_pickle(stream) != _LEGACY_MAGIC:
        raise Fault("is a pickle, but not one of torch.save")
    if load_pickle(stream) != _LEGACY_PROTOCOL:
        raise Fault("is in an unknown version of torch's format")
    system = load_pickle(stream)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise Fault("was written on a big-endian machine, which is not supported")
    storages: dict[str, Storage] = {}
    root = load_pickle(stream, storages)
    order = load_pickle(stream)
    places = _legacy_places(data, stream.tell(), order, storages)

    def storage_bytes(key: str) -> Bytes:
        if key not in places:
            raise Fault(f"is damaged: it lacks the storage {shown(key)!r}")
        return places[key]

    return _find_tensors(root, storage_bytes)


def _legacy_places(data: Bytes, position: int, order: object, storages: Mapping[str, Storage]) -> dict[str, Bytes]:
    """Where the storages lie: one after the other from ``position``, in ``order``."""
    if not isinstance(order, list):
        raise Fault("is damaged: it lacks the list of its storages")
    places: dict[str, Bytes] = {}
    for key in order:
        storage = storages.get(key) if isinstance(key, str) else None
        if storage is None:
            raise Fault("is damaged: it lists a storage that it does not use")
        size = storage.count * item_size(storage.dtype)
        if int.from_bytes(bytes(data[position : position + 8]), "little") != storage.count:
            raise Fault("is damaged: a storage is not of the size its pickle says")
        places[key] = data[position + 8 : position + 8 + size]
        position += 8 + size
        if position > len(data):
            raise Fault("is damaged: it ends before its storages do")
    return places


# safetensors: the length of a JSON header, the header, the tensors.


def _from_safetensors(data: Bytes) -> dict[str, Tensor]:
    length = int.from_bytes(bytes(data[:8]), "little")
    if length > _DIRECTORY_BYTES:
        raise Fault(f"has a header of more than {_DIRECTORY_BYTES} bytes, which no checkpoint needs")
    try:
        header = json.loads(bytes(data[8 : 8 + length]))
        header.pop("__metadata__", None)
        return {name: _safetensor(data[8 + length :], **entry) for name, entry in header.items()}
    except (AttributeError, RecursionError, TypeError, ValueError) as error:
        raise Fault("is damaged: its header is not that of a safetensors file") from error


def _safetensor(data: Bytes, *, dtype: str, shape: list[int], data_offsets: list[int]) -> Tensor:
    start, end = data_offsets
    if not isinstance(dtype, str) or not all(map(is_count, (start, end, *shape))) or len(shape) > 8:
        raise ValueError("an impossible tensor")
    kind = _SAFETENSORS_TYPES.get(dtype, dtype)
    if end > len(data) or (kind in _TYPES and end - start != math.prod(shape) * item_size(kind)):
        raise ValueError("a tensor whose place is not in the file or has another size")
    strides = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    return Tensor(tuple(shape), partial(_decode, data[start:end], kind, 0, tuple(shape), strides))


# From what a file holds to named tensors.


def _find_tensors(root: object, storage_bytes: Callable[[str], Bytes]) -> Contents:
    """The first of "state_dict", "model" and the object itself that is a state dictionary or a module."""
    top = _entries(root)
    for candidate in (top.get("state_dict"), top.get("model"), root):
        model = _unwrapped(candidate)
        stored = _stored_tensors(model)
        if stored:
            tensors = {name: Tensor(t.shape, partial(_read_stored, t, storage_bytes)) for name, t in stored.items()}
            model_class = str(model.class_name) if isinstance(model, Inert) else ""
            return Contents(tensors, _entries(top.get("config")), model_class, _entries(model))
    raise Fault('holds no tensors: neither under "state_dict" or "model" nor at its top')


def _entries(value: object) -> Mapping[str, Any]:
    """The items of a dictionary, which are under strings; the attributes of an inert object; of anything else none."""
    if isinstance(value, Inert):
        return value.attributes
    return value if isinstance(value, dict) else {}


def _unwrapped(model: object) -> object:
    """The model within torch's wrappers for several GPUs, which have it as their only module."""
    for _ in range(DEPTH):
        modules = _entries(_entries(model).get("_modules")) if isinstance(model, Inert) else {}
        if list(modules) != ["module"]:
            break
        model = modules["module"]
    return model


def _stored_tensors(model: object) -> dict[str, StoredTensor]:
    """A state dictionary's tensors, or those of a module and its submodules under the names of its state dictionary."""
    entries = _entries(model)
    if not isinstance(model, Inert) or "_modules" not in entries:
        return {name: value for name, value in entries.items() if isinstance(value, StoredTensor)}
    return dict(_walk_module(model))


def _walk_module(model: Inert) -> Iterator[tuple[str, StoredTensor]]:
    """Names and tensors of a module, depth first; a module that contains itself meets the limits."""
    pending: list[tuple[str, object, int]] = [("", model, 0)]
    visited = 0
    while pending:
        prefix, module, depth = pending.pop()
        entries = _entries(module)
        own = {**_entries(entries.get("_parameters")), **_entries(entries.get("_buffers"))}
        below = _entries(entries.get("_modules"))
        visited += len(own) + len(below)
        if visited > TENSORS or depth > DEPTH or any(len(name) > 100 for name in (*own, *below)):
            raise Fault("holds a module with more parts than any model has")
        yield from ((prefix + name, value) for name, value in own.items() if isinstance(value, StoredTensor))
        pending.extend((f"{prefix}{name}.", part, depth + 1) for name, part in reversed(list(below.items())))


def item_size(dtype: str) -> int:
    """Bytes of an element. Raises Fault for a type no weight has."""
    if dtype not in _TYPES:
        raise Fault(f"holds a tensor of the type {shown(dtype)}, which no weight has")
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def _read_stored(tensor: StoredTensor, storage_bytes: Callable[[str], Bytes]) -> NDArray[Any]:
    storage = tensor.storage
    unit = item_size(storage.dtype)
    data = storage_bytes(storage.key)[storage.first * unit : (storage.first + storage.count) * unit]
    if len(data) < storage.count * unit:
        raise Fault(f"is damaged: the storage {shown(storage.key)} is shorter than its pickle says")
    return _decode(data, tensor.dtype, tensor.offset, tensor.shape, tensor.strides)


def _decode(data: Bytes, dtype: str, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> NDArray[Any]:
    """The values of a tensor in ``data``; offset and strides in elements. May be a view of the file."""
    size = item_size(dtype)
    if 0 in shape:
        return np.empty(shape, np.float32)
    last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    if (last + 1) * size > len(data):
        raise Fault("is damaged: a tensor reaches beyond the end of its storage")
    kind = "<u2" if dtype == "bfloat16" else np.dtype(dtype).newbyteorder("<")
    try:
        found: NDArray[Any] = np.ndarray(shape, kind, data.data, offset * size, [stride * size for stride in strides])
    except ValueError as error:
        raise Fault("is damaged: a tensor has an impossible shape") from error
    return (found.astype(np.uint32) << 16).view(np.float32) if dtype == "bfloat16" else found
