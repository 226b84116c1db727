"""A style: where in a voice's latent space a way of speaking lies, and the small file that keeps it.

A style is a few numbers per mel channel of z, computed once from recordings (`fte.style.means`), so speaking with one
costs no more than speaking without. Legend: M mel channels, T frames, R references. Frames are in playing order.

The file is in the safetensors format (a JSON header, then plain numbers: nothing in it can run) with three tensors of
float32 and, in the header's metadata, the style's other fields as JSON.
"""

import dataclasses
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from fte import checks
from fte.constants import LIMITS
from fte.errors import InputError, OutputError, RequestError
from fte.files import atomic_file

Float32 = npt.NDArray[np.float32]
Aggregation = Literal["time_and_batch", "batch"]
"""What a mean is over: time and references, or references alone, frame by frame."""

NAME_PATTERN = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}"
"""Of a style's name, which also stands in mixes (``happy:0.7``) and in texts (``[happy]``)."""
MAX_SIGMA = 10.0
MAX_LAM = 1e6
MAX_FILE_BYTES = 64 << 20

_FORMAT = "fte-style"
_VERSION = "1"
_SUFFIX = ".safetensors"
_AGGREGATIONS = ("time_and_batch", "batch")
_TENSORS = ("mean", "spread", "utterance_spread")
_NAME = re.compile(NAME_PATTERN)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_UNSHOWABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_MAX_CHANNELS = 4096
_MAX_REFERENCES = 10_000
_MAX_SPEAKERS = 1 << 20
_MAX_NOTE_CHARACTERS = 255
_FAULTS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class ReferenceNote:
    """A recording that a style was computed from."""

    name: str
    """Of the file, without its folder."""
    sha256: str
    """Of the file."""
    frames: int
    """Of its z."""
    label: str | None = None
    """What it was recorded as, such as an emotion."""


@dataclass(frozen=True, slots=True, eq=False)
class Style:
    """A way of speaking in the latent space of one voice. Its arrays are copies that cannot be written to."""

    name: str
    mean: Float32
    """(M,) for time_and_batch, (T, M) for batch, in playing order."""
    spread: Float32
    """(M,): standard deviation of z over frames around the mean."""
    utterance_spread: Float32
    """(M,): standard deviation of the utterances' means over the references; zeros for a single one."""
    sigma: float
    """Suggested standard deviation when sampling around the style."""
    voice_hash: str
    """`Bundle.voice_hash` of the voice whose latent space it lives in."""
    speaker: int | None
    """Id with which z was extracted; None when the speakers' own means were taken out."""
    aggregation: Aggregation
    lam: float
    """The public notebook's small lambda (`fte.style.means`)."""
    references: tuple[ReferenceNote, ...]

    def __post_init__(self) -> None:
        """Raise RequestError with every fault of the fields at once."""
        for name in _TENSORS:
            object.__setattr__(self, name, _frozen(getattr(self, name)))
        if faults := list(_faults(self)):
            more = len(faults) - _FAULTS_SHOWN
            listed = "; ".join([*faults[:_FAULTS_SHOWN], *([f"and {more} more"] if more > 0 else [])])
            raise RequestError(f"this is no usable style, extract it anew: {listed}")

    @property
    def n_mels(self) -> int:
        """M."""
        return int(self.mean.shape[-1])

    def frames(self, count: int) -> Float32:
        """The mean in time, (count, M): one vector for every frame, or the frames again and again, cut at ``count``.

        Raises RequestError for a count outside 1 to LIMITS.frames.
        """
        if not checks.is_whole(count, 1, LIMITS.frames):
            raise RequestError(f"a style was asked for over {checks.shown(count)} frames: give 1 to {LIMITS.frames}")
        return repeated(np.atleast_2d(self.mean), count)


def repeated(rows: Float32, count: int) -> Float32:
    """``rows`` (T, M) from their beginning, again and again, up to ``count``: (count, M)."""
    return rows[np.arange(count) % len(rows)]


def check_voice(style: Style, voice_hash: str, called: str) -> None:
    """Raise RequestError, which names the style as ``called``, when it belongs to another voice."""
    if style.voice_hash != voice_hash:
        raise RequestError(
            f"{called} belongs to voice {style.voice_hash[:12]}, this is {voice_hash[:12]}: extract it with this voice"
        )


def save_style(path: Path | str, style: Style, *, overwrite: bool = True) -> None:
    """Write a style as a .safetensors file, whole or not at all.

    Raises RequestError for a name that does not end in .safetensors, a file that cannot be written and, without
    ``overwrite``, one that is there.
    """
    path = checks.path(path, "the file of the style")
    checks.kind(Style)(style, "style")
    if path.suffix.lower() != _SUFFIX:
        raise RequestError(f"cannot write {path}: the name of a style file must end in {_SUFFIX}")
    fields = {f.name: getattr(style, f.name) for f in dataclasses.fields(style) if f.name not in _TENSORS}
    fields["references"] = [dataclasses.asdict(note) for note in style.references]
    text = json.dumps(fields, separators=(",", ":"), default=np.generic.item)
    metadata = {"format": _FORMAT, "version": _VERSION, "style": text}
    encoded = safetensors.numpy.save({name: getattr(style, name) for name in _TENSORS}, metadata)
    if len(encoded) > MAX_FILE_BYTES:
        raise OutputError(f"cannot write {path}: it would be larger than {MAX_FILE_BYTES} bytes, so use fewer frames")
    with atomic_file(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(encoded)


def load_style(path: Path | str, voice_hash: str | None = None) -> Style:
    """The style of a file; with ``voice_hash``, only if it is of that voice.

    Raises RequestError when the file cannot be read, is larger than MAX_FILE_BYTES, is no style or one of an unknown
    version, belongs to another voice, or has faulty fields, which are all named.
    """
    path = checks.path(path, "the file of the style")
    data = _read(path)
    try:
        fields = _fields(data)
    except _NoStyleError as error:
        raise InputError(f"cannot read {path}: {error}") from error
    try:
        style = Style(**fields)
    except RequestError as error:
        raise InputError(f"{path}: {error}") from error
    if voice_hash is not None:
        check_voice(style, checks.text(voice_hash, "voice_hash"), path.name)
    return style


class _NoStyleError(ValueError):
    """Why the bytes of a file are not those of a style."""


def _read(path: Path) -> bytes:
    """A file's bytes, of which there are few enough."""
    try:
        if path.exists() and not path.is_file() and not path.is_dir():  # opening a pipe can wait for ever
            raise InputError(f"cannot read {path}: it is a device or a pipe, not a file")
        with path.open("rb") as handle:
            data = handle.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    if len(data) > MAX_FILE_BYTES:
        raise InputError(f"cannot read {path}: it is larger than {MAX_FILE_BYTES} bytes, which no style is")
    return data


def _fields(data: bytes) -> dict[str, Any]:
    """The fields of a style, by name and of whatever type, as the bytes of a file have them."""
    header = _header(data)
    metadata = header.pop("__metadata__", None)
    if not isinstance(metadata, dict) or metadata.get("format") != _FORMAT:
        raise _NoStyleError("it is a safetensors file of something else than a style")
    if metadata.get("version") != _VERSION:
        raise _NoStyleError(
            f"it has version {_shown(metadata.get('version'))} and this fte reads version {_VERSION}: "
            "use the fte that wrote it, or extract the style anew"
        )
    fields = _json_object(metadata.get("style"), "its metadata")
    expected = [f.name for f in dataclasses.fields(Style) if f.name not in _TENSORS]
    _check_keys(fields, expected, "metadata")
    _check_keys(header, _TENSORS, "tensors")
    if wrong := [n for n in _TENSORS if not isinstance(header[n], dict) or header[n].get("dtype") != "F32"]:
        raise _NoStyleError(f"{_listed(wrong)} should be tensors of float32: extract the style anew")
    try:
        tensors = safetensors.numpy.load(data)
    except (safetensors.SafetensorError, ValueError) as error:
        raise _NoStyleError(f"it is damaged ({error}), extract the style anew") from error
    return {**fields, **tensors, "references": _notes(fields["references"])}


def _header(data: bytes) -> dict[str, Any]:
    """The JSON in front of a safetensors file, which begins with its length in bytes (unsigned 64 bits)."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 + size:
        raise _NoStyleError("it is no safetensors file, which a style is")
    try:
        text = data[8 : 8 + size].decode()
    except UnicodeDecodeError as error:
        raise _NoStyleError("it is no safetensors file, which a style is") from error
    return _json_object(text, "its header")


def _json_object(text: object, name: str) -> dict[str, Any]:
    if not isinstance(text, str):
        raise _NoStyleError(f"{name} should be JSON and is missing: extract the style anew")
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _NoStyleError(f"{name} is not valid JSON, extract the style anew") from error
    if not isinstance(value, dict):
        raise _NoStyleError(f"{name} is JSON but no object: extract the style anew")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _check_keys(found: dict[str, Any], expected: tuple[str, ...] | list[str], where: str) -> None:
    """Name what is missing and what is unknown."""
    faults = []
    if missing := [name for name in expected if name not in found]:
        faults.append(f"lack {_listed(missing)}")
    if unknown := sorted(set(found).difference(expected)):
        faults.append(f"have {_listed([_shown(name) for name in unknown])} besides")
    if faults:
        raise _NoStyleError(f"its {where} {' and '.join(faults)}, extract the style anew")


def _notes(value: object) -> object:
    """JSON as reference notes where it has their form; the rest is left for the style to complain about."""
    if not isinstance(value, list) or len(value) > _MAX_REFERENCES:
        return value
    names = {f.name for f in dataclasses.fields(ReferenceNote)}
    return tuple(ReferenceNote(**v) if isinstance(v, dict) and set(v) == names else v for v in value)


def _frozen(values: object) -> object:
    """A copy that nobody can write to, as float32; what is no array of floats is left for `_faults` to name."""
    if not isinstance(values, np.ndarray) or values.dtype.kind != "f":
        return values
    with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, which is a fault
        copy = np.array(values, np.float32, order="C")
    copy.setflags(write=False)
    return copy


# What a style may have wrong. Its fields may be anything: a file says what they are.


def _faults(style: Style) -> Iterator[str]:
    yield from _wrong_arrays(style)
    yield from _wrong_plain_fields(style)
    if not isinstance(style.references, tuple) or len(style.references) > _MAX_REFERENCES:
        yield f"references are not a list of at most {_MAX_REFERENCES}"
    else:
        for index, note in enumerate(style.references):
            yield from _wrong_note(note, f"references[{index}]")


def _wrong_arrays(style: Style) -> Iterator[str]:
    arrays: dict[str, Any] = {name: getattr(style, name) for name in _TENSORS}
    for name, values in arrays.items():
        if not isinstance(values, np.ndarray) or values.dtype != np.float32:
            yield f"{name} is not an array of floats"
        elif not np.isfinite(values).all():
            yield f"{name} has values that are not finite"
        elif (largest := np.abs(values).max(initial=0.0)) > LIMITS.latent:
            yield f"{name} has a value of magnitude {largest:g}, above {LIMITS.latent:g}"
        elif name != "mean" and (values < 0).any():
            yield f"{name} has values below 0, which no standard deviation has"
    if all(isinstance(values, np.ndarray) for values in arrays.values()):
        is_batch = isinstance(style.aggregation, str) and style.aggregation == "batch"
        yield from _wrong_shapes(style.mean.shape, style.spread.shape, style.utterance_spread.shape, is_batch=is_batch)


def _wrong_shapes(
    mean: tuple[int, ...], spread: tuple[int, ...], utterance_spread: tuple[int, ...], *, is_batch: bool
) -> Iterator[str]:
    expected = ("T", "M") if is_batch else ("M",)
    channels = mean[-1] if mean else 0
    if len(mean) != len(expected) or not 1 <= channels <= _MAX_CHANNELS:
        yield f"mean has shape {mean}, not ({', '.join(expected)}) with 1 to {_MAX_CHANNELS} channels"
        return
    if len(mean) == 2 and not 1 <= mean[0] <= LIMITS.frames:
        yield f"mean has {mean[0]} frames, not 1 to {LIMITS.frames}"
    for name, shape in (("spread", spread), ("utterance_spread", utterance_spread)):
        if shape != (channels,):
            yield f"{name} has shape {shape}, not ({channels},) as the mean has channels"


def _wrong_plain_fields(style: Style) -> Iterator[str]:
    yield from _wrong_text("name", style.name, _NAME, "letters, digits, dots, dashes and underscores, at most 64")
    yield from _wrong_text("voice_hash", style.voice_hash, _SHA256, "64 hexadecimal digits")
    yield from _wrong_number("sigma", style.sigma, 0.0, MAX_SIGMA)
    yield from _wrong_number("lam", style.lam, 0.0, MAX_LAM)
    if style.speaker is not None:
        yield from _wrong_whole("speaker", style.speaker, 0, _MAX_SPEAKERS - 1)
    if not isinstance(style.aggregation, str) or style.aggregation not in _AGGREGATIONS:
        yield f"aggregation is {_shown(style.aggregation)}, not one of {', '.join(_AGGREGATIONS)}"


def _wrong_note(note: object, where: str) -> Iterator[str]:
    if not isinstance(note, ReferenceNote):
        yield f"{where} is not a name, sha256, frames and label"
        return
    for part, value in (("name", note.name), ("label", note.label)):
        if value is None and part == "label":
            continue
        if not isinstance(value, str) or len(value) > _MAX_NOTE_CHARACTERS or _UNSHOWABLE.search(value):
            yield f"{where}.{part} is {_shown(value)}, not a text of at most {_MAX_NOTE_CHARACTERS} characters"
    yield from _wrong_text(f"{where}.sha256", note.sha256, _SHA256, "64 hexadecimal digits")
    yield from _wrong_whole(f"{where}.frames", note.frames, 1, LIMITS.frames)


def _wrong_text(name: str, value: object, pattern: re.Pattern[str], expected: str) -> Iterator[str]:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        yield f"{name} is {_shown(value)}, not {expected}"


def _wrong_number(name: str, value: object, least: float, most: float) -> Iterator[str]:
    if not is_number(value, least, most):
        yield f"{name} is {_shown(value)}, not a number from {least:g} to {most:g}"


def _wrong_whole(name: str, value: object, least: int, most: int) -> Iterator[str]:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not least <= value <= most:
        yield f"{name} is {_shown(value)}, not a whole number from {least} to {most}"


def is_number(value: object, least: float, most: float) -> bool:
    """Whether ``value`` is a real number within the (finite) bounds."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating | np.integer):
        return False
    return bool(least <= value <= most)  # which NaN never is


def _shown(value: object) -> str:
    """A value of unknown length and content in a few characters that any terminal can show."""
    return "a value too long to show" if isinstance(value, list | dict | tuple) else checks.shown(value)


def _listed(names: list[str]) -> str:
    shown = names[:_FAULTS_SHOWN]
    return ", ".join([*shown, *([f"and {len(names) - len(shown)} more"] if len(names) > len(shown) else [])])
