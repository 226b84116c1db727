"""The files that hold tensors: torch's zip container, its older one, and safetensors. Nothing in them is run.

A file is mapped into memory, and a tensor is copied out of it only when it is read; before that, its bounds are checked
against the file's.
"""

import io
import math
import mmap
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fte.constants import LIMITS
from fte.strict_json import parse_json
from fte_export.budget import DEPTH, Budget, Fault, check_name, shown
from fte_export.unpickle import PICKLE_BYTES, Inert, Storage, StoredTensor, is_count, load_pickle

TENSORS = 100_000
"""Tensors, modules and other entries walked through in one checkpoint."""
_DIRECTORY_BYTES = 8 << 20
"""Size of a zip archive's directory or of the header of a safetensors file, bytes."""
_DIRECTORY_BYTES_PER_OPERATION = 2
"""What parsing either costs."""
_TENSOR_OPERATIONS = 10
"""What making and reading one tensor costs beside its bytes."""
_NAME_BYTES = 200
"""What a name takes in memory beside its letters, with what is kept under it."""
_WRAPPED = 3
"""Dictionaries within dictionaries in which a state dictionary is looked for."""
FLOATS = frozenset({"bfloat16", "float16", "float32", "float64"})
"""Element types of weights."""

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
_TYPES = {name: 2 if name == "bfloat16" else np.dtype(name).itemsize for name in _SAFETENSORS_TYPES.values()}
"""Bytes of an element, by the name of its type."""

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor that is still in its file."""

    shape: tuple[int, ...]
    dtype: str
    """Name of its element type, or of one that no weight has."""
    read: Callable[[], NDArray[Any]]
    """Gives its values, contiguous and little-endian, in their own type (bfloat16 as float32), or raises Fault."""


@dataclass(frozen=True, slots=True)
class Contents:
    """A state dictionary or a model that a checkpoint file holds, and what lies beside it."""

    tensors: dict[str, Tensor]
    """By the names of the state dictionary."""
    place: str = ""
    """The keys under which it lies, as an error message shows them; empty at the top."""
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


def read_contents(file: mmap.mmap, budget: Budget) -> list[Contents]:
    """Everything with tensors in a checkpoint, in any of the containers: at least one. Raises Fault."""
    data = np.frombuffer(file, np.uint8)
    start = bytes(data[:64])
    if start.startswith(b"PK\x03\x04"):
        return _from_zip(data, budget)
    if start.startswith(b"\x80"):
        return _from_legacy(data, budget)
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= len(data) - 8:
        return [Contents(_from_safetensors(data, budget))]
    if start.lstrip().startswith(b"<"):
        raise Fault("is a web page, not a checkpoint: the download needs to be repeated")
    if start.startswith(b"version https://git-lfs"):
        raise Fault("is a Git LFS pointer, not a checkpoint: fetch the file it stands for")
    raise Fault("is no checkpoint: it is neither a file of torch.save nor of safetensors")


# Torch's zip container: PREFIX/data.pkl, PREFIX/data/KEY for each storage.


class _Window:
    """The file as zipfile reads it; a directory that claims to be huge is not read."""

    def __init__(self, data: Bytes, budget: Budget) -> None:
        self._data = data
        self._budget = budget
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
        self._budget.spend(max(0, size) // _DIRECTORY_BYTES_PER_OPERATION)
        end = len(self._data) if size < 0 else self._position + size
        found = bytes(self._data[self._position : min(end, self._position + _DIRECTORY_BYTES)])
        self._position += len(found)
        return found


def _from_zip(data: Bytes, budget: Budget) -> list[Contents]:
    entries = _zip_entries(data, budget)
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

    return _find_tensors(load_pickle(io.BytesIO(bytes(pickled)), budget), storage_bytes, budget)


def _zip_entries(data: Bytes, budget: Budget) -> dict[str, Callable[[], Bytes]]:
    """For each file of the archive, a function that gives its bytes or raises Fault."""
    try:
        with zipfile.ZipFile(_Window(data, budget)) as archive:
            infos, directory = archive.infolist(), archive.start_dir
    except (zipfile.BadZipFile, NotImplementedError, ArithmeticError, LookupError, ValueError, struct.error) as error:
        raise Fault("is a damaged archive: it may have been downloaded in part") from error
    if len({info.filename for info in infos}) != len(infos):
        raise Fault("has two files of one name in its archive")
    return {
        info.filename: partial(_zip_bytes, data, info, start, end, budget)
        for info, start, end in _zip_places(data, infos, directory)
    }


def _zip_places(
    data: Bytes, infos: Sequence[zipfile.ZipInfo], directory: int
) -> Iterator[tuple[zipfile.ZipInfo, int, int]]:
    """Each entry and the room it may have: from its header to the next one's, or to the directory.

    Entries that share bytes would be read and summed up once for each, however often the directory names them.
    """
    ordered = sorted(infos, key=lambda info: info.header_offset)
    ends = [info.header_offset for info in ordered[1:]] + [min(directory, len(data))]
    for info, end in zip(ordered, ends, strict=True):
        if not 0 <= info.header_offset < end:
            raise Fault("is damaged: two files in its archive overlap, or one lies outside of it")
        yield info, info.header_offset, end


def _zip_prefix(entries: Mapping[str, object]) -> str:
    pickles = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise Fault("is an archive, but not one of torch.save")
    prefix = pickles[0].partition("/")[0]
    if f"{prefix}/constants.pkl" in entries:
        raise Fault("is a TorchScript program, not a checkpoint")
    return prefix


def _zip_bytes(data: Bytes, info: zipfile.ZipInfo, start: int, end: int, budget: Budget) -> Bytes:
    """The bytes of a stored file, checked: torch compresses and encrypts nothing."""
    name = shown(info.filename)
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size or info.flag_bits & 1:
        raise Fault(f"has the compressed file {name} in its archive, which torch.save never writes")
    header = bytes(data[start : start + _LOCAL_HEADER.size])
    if len(header) < _LOCAL_HEADER.size or not header.startswith(b"PK\x03\x04"):
        raise Fault(f"is damaged: {name} is not where the directory of its archive says")
    *_, name_length, extra_length = _LOCAL_HEADER.unpack(header)
    start += _LOCAL_HEADER.size + name_length + extra_length
    if start + info.file_size > len(data):
        raise Fault(f"is damaged: {name} ends beyond the end of the file")
    if start + info.file_size > end:
        raise Fault(f"is damaged: {name} overlaps another file in its archive")
    budget.touch(info.file_size)
    found = data[start : start + info.file_size]
    if info.CRC and zlib.crc32(found.data) != info.CRC:  # 0: torch was told to compute none
        raise Fault(f"is damaged: the checksum of {name} is wrong")
    return found


# Torch's older container: five pickles, then the storages one after the other, each after its number of elements.


def _from_legacy(data: Bytes, budget: Budget) -> list[Contents]:
    stream = io.BytesIO(bytes(data[:PICKLE_BYTES]))
    if load_pickle(stream, budget) != _LEGACY_MAGIC:
        raise Fault("is a pickle, but not one of torch.save")
    if load_pickle(stream, budget) != _LEGACY_PROTOCOL:
        raise Fault("is in an unknown version of torch's format")
    system = load_pickle(stream, budget)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise Fault("was written on a big-endian machine, which is not supported")
    storages: dict[str, Storage] = {}
    root = load_pickle(stream, budget, storages)
    order = load_pickle(stream, budget)
    places = _legacy_places(data, stream.tell(), order, storages)

    def storage_bytes(key: str) -> Bytes:
        if key not in places:
            raise Fault(f"is damaged: it lacks the storage {shown(key)!r}")
        return places[key]

    return _find_tensors(root, storage_bytes, budget)


def _legacy_places(data: Bytes, position: int, order: object, storages: Mapping[str, Storage]) -> dict[str, Bytes]:
    """Where the storages lie: one after the other from ``position``, in ``order``."""
    if not isinstance(order, list):
        raise Fault("is damaged: it lacks the list of its storages")
    places: dict[str, Bytes] = {}
    for key in order:
        storage = storages.get(key) if isinstance(key, str) else None
        if storage is None:
            raise Fault("is damaged: it lists a storage that it does not use")
        if key in places:
            raise Fault("is damaged: it lists a storage twice")
        size = storage.count * item_size(storage.dtype)
        if int.from_bytes(bytes(data[position : position + 8]), "little") != storage.count:
            raise Fault("is damaged: a storage is not of the size its pickle says")
        places[key] = data[position + 8 : position + 8 + size]
        position += 8 + size
        if position > len(data):
            raise Fault("is damaged: it ends before its storages do")
    return places


# safetensors: the length of a JSON header, the header, the tensors.


def _from_safetensors(data: Bytes, budget: Budget) -> dict[str, Tensor]:
    length = int.from_bytes(bytes(data[:8]), "little")
    if length > _DIRECTORY_BYTES:
        raise Fault(f"has a header of more than {_DIRECTORY_BYTES} bytes, which no checkpoint needs")
    budget.spend(length // _DIRECTORY_BYTES_PER_OPERATION)
    try:
        header = parse_json(bytes(data[8 : 8 + length]))
    except ValueError as error:
        raise Fault(f"is damaged: its header is not that of a safetensors file ({error})") from error
    try:
        header.pop("__metadata__", None)
        budget.spend(_TENSOR_OPERATIONS * len(header))
        found = {name: _safetensor(data[8 + length :], **entry) for name, entry in header.items()}
        places = sorted(tuple(entry["data_offsets"]) for entry in header.values())
    except (AttributeError, TypeError, ValueError) as error:
        raise Fault("is damaged: its header is not that of a safetensors file") from error
    for name in found:
        check_name(name)
    starts, ends = [0, *(end for _, end in places)], [*(start for start, _ in places), len(data) - 8 - length]
    if starts != ends:
        raise Fault("is damaged: its tensors overlap, or leave gaps between them")
    return found


def _safetensor(data: Bytes, *, dtype: str, shape: list[int], data_offsets: list[int]) -> Tensor:
    start, end = data_offsets
    if not isinstance(dtype, str) or not all(map(is_count, (start, end, *shape))) or len(shape) > 8:
        raise ValueError("an impossible tensor")
    kind = _SAFETENSORS_TYPES.get(dtype, dtype)
    if start > end or end > len(data) or (kind in _TYPES and end - start != math.prod(shape) * item_size(kind)):
        raise ValueError("a tensor whose place is not in the file or has another size")
    strides = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    return Tensor(tuple(shape), kind, partial(_decode, data[start:end], kind, 0, tuple(shape), strides))


# From what a file holds to named tensors.


def _find_tensors(root: object, storage_bytes: Callable[[str], Bytes], budget: Budget) -> list[Contents]:
    """Every state dictionary and every module: the object itself, or what lies under its keys."""
    config = _entries(_entries(root).get("config"))
    found: list[Contents] = []
    for place, holder in _holders(root, budget):
        model = _unwrapped(holder)
        stored = _stored_tensors(model, budget)
        if stored:
            budget.spend(_TENSOR_OPERATIONS * len(stored))
            tensors = {
                name: Tensor(t.shape, t.dtype, partial(_read_stored, t, storage_bytes)) for name, t in stored.items()
            }
            model_class = str(model.class_name) if isinstance(model, Inert) else ""
            found.append(Contents(tensors, place, config, model_class, _entries(model)))
    if not found:
        keys = ", ".join(shown(repr(key), 40) for key in list(_entries(root))[:5])
        raise Fault(f"holds no tensors, neither at its top nor in a dictionary within it (its keys: {keys or 'none'})")
    return found


def _holders(root: object, budget: Budget) -> Iterator[tuple[str, object]]:
    """The object and, one level after the other, what lies under keys in it, each once; modules are not looked into."""
    level, seen = [("", root)], {id(root)}
    for depth in range(_WRAPPED + 1):
        deeper: list[tuple[str, object]] = []
        for place, holder in level:
            yield place, holder
            entries = {} if _is_module(holder) or depth == _WRAPPED else _entries(holder)
            budget.spend(len(entries))
            for key, value in entries.items():
                if isinstance(value, dict | Inert) and id(value) not in seen:
                    budget.hold(_NAME_BYTES)
                    seen.add(id(value))
                    deeper.append((f"{place}.{shown(key, 40)}" if place else shown(key, 40), value))
        level = deeper


def _entries(value: object) -> Mapping[str, Any]:
    """The items of a dictionary, which are under strings; the attributes of an inert object; of anything else none."""
    if isinstance(value, Inert):
        return value.attributes
    return value if isinstance(value, dict) else {}


def _unwrapped(model: object) -> object:
    """The model within torch's wrappers for several GPUs, which have it as their only module."""
    for _ in range(DEPTH):
        modules = _entries(_entries(model).get("_modules")) if isinstance(model, Inert) else {}
        if len(modules) != 1 or "module" not in modules:
            break
        model = modules["module"]
    return model


def _is_module(value: object) -> bool:
    return isinstance(value, Inert) and "_modules" in value.attributes


def _stored_tensors(model: object, budget: Budget) -> dict[str, StoredTensor]:
    """A state dictionary's tensors, or those of a module and its submodules under the names of its state dictionary."""
    if isinstance(model, Inert) and _is_module(model):
        return _module_tensors(model, budget)
    entries = _entries(model)
    budget.spend(len(entries))
    found = {name: value for name, value in entries.items() if isinstance(value, StoredTensor)}
    for name in found:
        check_name(name)
    return found


def _module_tensors(model: Inert, budget: Budget) -> dict[str, StoredTensor]:
    """Tensors of a module, depth first; a module that contains itself meets the limits."""
    found: dict[str, StoredTensor] = {}
    pending: list[tuple[str, object, int]] = [("", model, 0)]
    visited = 0
    while pending:
        prefix, module, depth = pending.pop()
        entries = _entries(module)
        own = [_entries(entries.get(kind)) for kind in ("_parameters", "_buffers")]
        below = _entries(entries.get("_modules"))
        parts = sum(map(len, (*own, below)))
        visited += parts
        if visited > TENSORS or depth > DEPTH:
            raise Fault("holds a module with more parts than any model has")
        budget.spend(parts)
        for name, value in chain.from_iterable(tensors.items() for tensors in own):
            if isinstance(value, StoredTensor):
                whole = _joined(prefix, name, budget)
                if whole in found:
                    raise Fault(f"holds two tensors of the name {shown(whole)}, so that it is not known which counts")
                found[whole] = value
        pending.extend(
            (_joined(prefix, name, budget) + ".", part, depth + 1) for name, part in reversed(list(below.items()))
        )
    return found


def _joined(prefix: str, name: str, budget: Budget) -> str:
    """A longer name, paid for: every tensor of a module bears the names of all modules around it."""
    check_name(name)
    budget.hold(_NAME_BYTES + 4 * (len(prefix) + len(name)))
    check_name(whole := prefix + name)
    return whole


def item_size(dtype: str) -> int:
    """Bytes of an element. Raises Fault for a type no weight has."""
    if dtype not in _TYPES:
        raise Fault(f"holds a tensor of the type {shown(dtype)}, which no weight has")
    return _TYPES[dtype]


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
    kind = "<u2" if dtype == "bfloat16" else np.dtype(dtype).newbyteorder("<")
    last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    if 0 not in shape and (last + 1) * size > len(data):
        raise Fault("is damaged: a tensor reaches beyond the end of its storage")
    try:
        if 0 in shape:
            return np.empty(shape, np.float32 if dtype == "bfloat16" else kind)
        found: NDArray[Any] = np.ndarray(shape, kind, data.data, offset * size, [stride * size for stride in strides])
    except (OverflowError, ValueError) as error:
        raise Fault("is damaged: a tensor has an impossible shape") from error
    if dtype != "bfloat16":
        return found
    wide = found.astype(np.uint32)
    wide <<= 16
    return wide.view(np.float32)
