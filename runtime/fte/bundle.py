"""The voice bundle: a folder with `manifest.json` and the files it names. The contract between export and runtime.

Nothing in a bundle is trusted before it is checked: `Bundle.open` validates the manifest and lists every fault at
once, and `Bundle.file` hands a file out only after its SHA-256 was compared.
"""

import dataclasses
import hashlib
import json
import os
import re
import types
import typing
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from fte import checks
from fte.constants import FFT_SIZE, HOP, LIMITS, MEL_FMAX, MEL_FMIN, SAMPLE_RATE
from fte.errors import BundleError
from fte.strict_json import parse_json

FORMAT = "fte-voice"
VERSION = 1
ENGINE_ROLE = "engine"
"""Of the files of weights for the native engine."""
MANIFEST = "manifest.json"

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
"""Of files, roles, precisions and models: no folder, nothing hidden, nothing that a terminal or a shell acts on."""
_UNSHOWABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters and halves of surrogate pairs: no text of a manifest has them."""
_BLOCK = re.compile(r"_block_([1-9][0-9]{0,3})$")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_SIZE = 1 << 20
"""No size of a model (channels, symbols, speakers) is larger than this."""
_MAX_PARTS = 64
"""No model has more flows, and no flow more layers."""
_MAX_FFT_SIZE = 1 << 16
_MAX_FILE_BYTES = 1 << 40
_FAULTS_SHOWN = 1000


@dataclass(frozen=True, slots=True)
class FlowtronSizes:
    """Sizes of a Flowtron, all inferred from its tensors except `dummy_speaker`."""

    n_speakers: int
    n_speaker_dim: int
    n_text: int
    """Number of symbols."""
    n_text_dim: int
    n_flows: int
    n_mels: int
    n_attention: int
    n_hidden: int
    n_lstm_layers: int
    """Layers of each flow's decoder LSTM (the attention LSTM has one)."""
    has_gate: bool
    cumulative_attention: bool
    dummy_speaker: bool
    """Whether the model always uses speaker 0, whatever is asked for."""


@dataclass(frozen=True, slots=True)
class WaveglowSizes:
    """Sizes of a WaveGlow, all inferred from its tensors."""

    n_mels: int
    n_flows: int
    n_group: int
    """Samples in a group."""
    n_early_every: int
    n_early_size: int
    n_layers: int
    """Layers of each WN."""
    n_channels: int
    kernel_size: int
    upsample_kernel: int
    """Samples."""
    upsample_stride: int
    """Samples; equals the hop."""


class Bands(typing.TypedDict):
    """Rate and band edges of mels, Hz, as the functions of `fte.audio` take them."""

    sample_rate: float
    fmin: float
    fmax: float


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """How the voice's mel spectrograms relate to sound."""

    sample_rate: int = SAMPLE_RATE
    """Hz."""
    fft_size: int = FFT_SIZE
    """Samples."""
    hop: int = HOP
    """Samples between frames."""
    mel_fmin: float = MEL_FMIN
    """Hz."""
    mel_fmax: float = MEL_FMAX
    """Hz."""

    @property
    def bands(self) -> Bands:
        """Keywords for the functions of `fte.audio`."""
        return {"sample_rate": self.sample_rate, "fmin": self.mel_fmin, "fmax": self.mel_fmax}


@dataclass(frozen=True, slots=True)
class TextOptions:
    """How text becomes symbols for this voice."""

    arpabet: bool = True
    keep_ambiguous: bool = False
    lowercase: bool = False
    """Letters become lower case: the model saw no capitals (english_cleaners)."""


@dataclass(frozen=True, slots=True)
class Source:
    """A checkpoint the bundle was made from."""

    file: str
    """File name, without its folder."""
    sha256: str


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file of the bundle."""

    role: str
    """What it is: `encoder`, `posterior`, `flow_0`, `flow_0_guided`, `vocoder`, `flow_0_block_16` (16 frames at once),
    `weights_...` of the graphs of one model, or `engine`: all weights for the native engine."""
    precision: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything `manifest.json` says."""

    name: str
    flowtron: FlowtronSizes
    waveglow: WaveglowSizes | None
    symbols: tuple[str, ...]
    """The symbol of each id."""
    speakers: tuple[str, ...]
    """The name of each speaker id."""
    sources: Mapping[str, Source]
    """By model: `flowtron`, `waveglow`."""
    graphs: Mapping[str, Mapping[str, str]]
    """Precision -> role -> file name. A role may name a graph of another precision."""
    files: Mapping[str, FileEntry]
    """By file name."""
    engine: Mapping[str, str] = field(default_factory=dict)
    """Precision -> name of the file of weights for the native engine, in the precisions that it has."""
    audio: AudioFormat = field(default_factory=AudioFormat)
    text: TextOptions = field(default_factory=TextOptions)
    warning: str = ""
    """Something a user of the voice has to know, or nothing."""
    exporter: str = ""
    """Program and version that wrote the bundle."""
    format: str = FORMAT
    version: int = VERSION

    def to_json(self) -> str:
        """The manifest as the text of `manifest.json`."""
        return json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False) + "\n"


def roles_of(flowtron: FlowtronSizes, waveglow: WaveglowSizes | None) -> list[str]:
    """The graphs that a bundle of these models has in each precision; it may have blocks of frames beside them."""
    flows = [f"flow_{k}{suffix}" for k in range(flowtron.n_flows) for suffix in ("", "_guided")]
    return ["encoder", "posterior", *flows] + (["vocoder"] if waveglow else [])


@dataclass(frozen=True)
class Bundle:
    """An opened voice bundle."""

    path: Path
    manifest: Manifest
    _checked: set[str] = field(default_factory=set, repr=False)

    @classmethod
    def open(cls, path: Path | str) -> "Bundle":
        """Read and validate the manifest of the bundle at ``path``.

        Raises BundleError: not a bundle, unknown version, or a sentence for every fault of the manifest.
        """
        path = checks.path(path, "the voice")
        if not os.path.isdir(path):  # noqa: PTH112  (Path.is_dir raises OSError for a name that is too long)
            raise BundleError(f"{path} is not a voice bundle: there is no such folder, give that of an exported voice")
        return cls(path, parse_manifest(_read_manifest(path), str(path / MANIFEST)))

    def file(self, name: str) -> Path:
        """Path of the file ``name``, once its size and SHA-256 are those of the manifest (checked once)."""
        entry = self.manifest.files[name]
        path = self.path / name
        if name in self._checked:
            return path
        if path.is_symlink() or not path.is_file():
            raise BundleError(f"{self.path} lacks its file {name}: copy it again or export the voice again")
        try:
            same = path.stat().st_size == entry.bytes and sha256_of(path) == entry.sha256
        except OSError as error:
            raise BundleError(f"cannot read {path}: {error.strerror or error}") from error
        if not same:
            raise BundleError(f"{path} is not the file that was exported (its SHA-256 differs): export the voice again")
        self._checked.add(name)
        return path

    def graph(self, precision: str, role: str) -> Path:
        """Path of a graph; it and the weight files of the bundle that it may read are checked first.

        Raises BundleError when the bundle has no such precision or role.
        """
        paths = [self.file(name) for name in self.graph_files(precision, role)]
        return paths[-1]

    def graph_files(self, precision: str, role: str) -> list[str]:
        """Names of the weight files that a graph of the bundle may read, and then of the graph itself.

        Raises BundleError when the bundle has no such precision or role.
        """
        if precision not in self.manifest.graphs:
            known = ", ".join(self.manifest.graphs)
            raise BundleError(f"{self.path} has no precision {precision!r}: it was exported with {known}")
        if role not in self.manifest.graphs[precision]:
            raise BundleError(f"{self.path} has no {role}: it was exported without it")
        name = self.manifest.graphs[precision][role]
        return [*weight_files_of(self.manifest, name), name]

    def engine_file(self, precision: str) -> Path:
        """Path of the native engine's weights in a precision. Raises BundleError where the bundle has none."""
        if precision not in self.manifest.engine:
            known = ", ".join(self.manifest.engine) or "no precision"
            raise BundleError(
                f"{self.path} has no weights for the native engine in {precision!r}, only in {known}: export it again"
            )
        return self.file(self.manifest.engine[precision])

    def blocks(self, precision: str) -> list[int]:
        """Frames (K) of the graphs of several frames that every flow has in ``precision``, in ascending order."""
        roles = self.manifest.graphs.get(precision, {})
        found = {int(match[1]) for role in roles if (match := _BLOCK.search(role))}
        flows = [f"flow_{k}{guided}" for k in range(self.manifest.flowtron.n_flows) for guided in ("", "_guided")]
        return sorted(k for k in found if all(f"{flow}_block_{k}" in roles for flow in flows))

    def check(self, names: Iterable[str]) -> None:
        """Compare some files with the manifest, several at once, as `file` does. Raises BundleError for the first."""
        with ThreadPoolExecutor() as pool:  # hashing lets other threads run
            for _ in pool.map(self.file, dict.fromkeys(names)):
                pass

    def check_files(self) -> list[str]:
        """One sentence for each file that is missing or differs; empty when all is well."""
        faults = []
        for name in self.manifest.files:
            try:
                self.file(name)
            except BundleError as error:
                faults.append(str(error))
        return faults

    @cached_property
    def voice_hash(self) -> str:
        """Identifies the voice by its source checkpoints: equal for every export of the same weights."""
        parts = [f"{model}:{source.sha256}" for model, source in sorted(self.manifest.sources.items())]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def weight_files_of(manifest: Manifest, graph: str) -> list[str]:
    """Names of the weight files that the graph file ``graph`` may read: those with its model and precision."""
    model = _model_of(manifest.files[graph].role)
    precision = manifest.files[graph].precision
    role = f"weights_{model}"
    return [n for n, entry in manifest.files.items() if entry.role == role and entry.precision == precision]


def _model_of(role: str) -> str:
    """`flow_0` for `flow_0_guided`, `flow_0_block_16` and the like; other roles are models of their own."""
    flow = re.match(r"flow_[0-9]+(?=_|$)", role)
    return flow.group() if flow else role


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def foreign_files(path: Path) -> list[str]:
    """Names of what the folder ``path`` holds beside a bundle's own files; an empty folder holds nothing foreign.

    The bundle need not be whole, nor of this version. Raises BundleError when a folder with something in it has no
    manifest of a bundle, so that nobody replaces it by mistake.
    """
    try:
        entries = sorted(path.iterdir())
    except OSError as error:
        raise BundleError(f"cannot read the folder {path}: {error.strerror or error}") from error
    if not entries:
        return []
    data = _read_manifest(path)
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise BundleError(f"{path} is not a voice bundle: its {MANIFEST} is of something else")
    files = data.get("files")
    own = {MANIFEST, *(files if isinstance(files, dict) else ())}
    return [entry.name for entry in entries if entry.name not in own or entry.is_dir()]


def _read_manifest(folder: Path) -> object:
    """The JSON of a folder's manifest. Raises BundleError."""
    file = folder / MANIFEST
    if file.is_symlink() or not file.is_file():
        raise BundleError(f"{folder} is not a voice bundle: it has no {MANIFEST}")
    try:
        with file.open("rb") as handle:
            raw = handle.read(LIMITS.manifest_bytes + 1)
    except OSError as error:
        raise BundleError(f"cannot read {file}: {error.strerror or error}") from error
    if len(raw) > LIMITS.manifest_bytes:
        raise BundleError(f"{file} is larger than {LIMITS.manifest_bytes} bytes, which no manifest is")
    try:
        return parse_json(raw)
    except ValueError as error:
        raise BundleError(f"{file} is not valid JSON ({error}): the bundle is damaged, export it again") from error


def parse_manifest(data: object, where: str) -> Manifest:
    """A manifest from parsed JSON; ``where`` names it in errors. Raises BundleError listing every fault."""
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise BundleError(f"{where} is not the manifest of a voice bundle: its format is not {FORMAT!r}")
    if data.get("version") != VERSION:
        raise BundleError(
            f"{where} has manifest version {_shown(data.get('version'))} and this fte reads version {VERSION}: "
            "use the fte that wrote it, or export the voice again"
        )
    faults: list[str] = []
    manifest = _parse(Manifest, data, "", faults)
    if faults:
        more = len(faults) - _FAULTS_SHOWN
        listed = "; ".join([*faults[:_FAULTS_SHOWN], *([f"and {more} more"] if more > 0 else [])])
        raise BundleError(f"{where} is faulty, export the voice again: {listed}")
    return typing.cast(Manifest, manifest)


_JSON_NAMES: Mapping[Any, str] = {
    dict: "an object",
    Mapping: "an object",
    list: "a list",
    tuple: "a list",
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    type(None): "null",
}


def _parse(kind: Any, value: Any, where: str, faults: list[str]) -> Any:
    """``value`` as an instance of the annotated type ``kind``; None, and a line in ``faults``, where it is none.

    What has parts comes back with None for the faulty ones, so that the others can still be compared.
    """
    origin = typing.get_origin(kind)
    if isinstance(kind, types.UnionType):  # only X | None occurs
        inner = next(arg for arg in typing.get_args(kind) if arg is not type(None))
        return None if value is None else _parse(inner, value, where, faults)
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        return _parse_dataclass(kind, value, where, faults)
    if origin is tuple and isinstance(value, list):
        item = typing.get_args(kind)[0]
        return tuple(_parse(item, v, f"{where}[{i}]", faults) for i, v in enumerate(value))
    if origin is Mapping and isinstance(value, dict):
        item = typing.get_args(kind)[1]
        faults += [f"{where} has {_shown(k)}, which is not a plain name" for k in value if not _PLAIN_NAME.fullmatch(k)]
        return {k: _parse(item, v, f"{where}.{_plain(k)}", faults) for k, v in value.items()}
    if fault := _scalar_fault(kind, value):
        faults.append(f"{where} is {fault}")
        return None
    return kind(value)


def _scalar_fault(kind: Any, value: Any) -> str:
    """What is wrong with ``value`` as a text, number or truth value, or nothing."""
    if kind is float and type(value) in (int, float):
        return "" if abs(value) < _MAX_SIZE else f"{_shown(value)}, which no frequency is"
    if type(value) is not kind:
        expected = _JSON_NAMES.get(typing.get_origin(kind) or kind, "an object")
        return f"{_JSON_NAMES.get(type(value), type(value).__name__)} and should be {expected}"
    if kind is str and _UNSHOWABLE.search(value):
        return f"{_shown(value)}, which has characters that cannot be shown"
    return ""


def _parse_dataclass(kind: Any, value: dict[str, Any], where: str, faults: list[str]) -> Any:
    hints = typing.get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    dot = f"{where}." if where else ""
    faults += [f"{dot}{_plain(name)} is unknown" for name in value if name not in fields]
    required = [n for n, f in fields.items() if f.default is f.default_factory is dataclasses.MISSING]
    missing = [name for name in required if name not in value]
    faults += [f"{dot}{name} is missing" for name in missing]
    known = {n: _parse(hints[n], v, f"{dot}{n}", faults) for n, v in value.items() if n in fields}
    instance = kind(**dict.fromkeys(missing), **known)
    if kind in _RULES:
        faults += _RULES[kind](instance, dot)
    return instance


def _shown(value: object) -> str:
    """A value of unknown length and content in a few characters that any terminal can show."""
    if isinstance(value, dict | list) or (isinstance(value, int) and abs(value) >= 1 << 64):
        return f"{_JSON_NAMES[type(value)]} too long to show"
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _plain(name: str) -> str:
    return name if _PLAIN_NAME.fullmatch(name) else _shown(name)


def name_fault(name: str) -> str:
    """What is wrong with a name of a voice, a speaker or a source, or nothing."""
    if not name.strip():
        return "it is empty"
    return "it has characters that cannot be shown" if _UNSHOWABLE.search(name) else ""


# What well-formed values may still have wrong. Fields in which a fault was found already are None, as are their parts.


def _outside(dot: str, name: str, value: int | None, least: int, most: int) -> Iterable[str]:
    if value is not None and not least <= value <= most:
        yield f"{dot}{name} is {_shown(value)}, outside {least}..{most}"


def _wrong_sizes(sizes: FlowtronSizes | WaveglowSizes, dot: str) -> Iterable[str]:
    for f in dataclasses.fields(sizes):
        if f.type is int:
            most = _MAX_PARTS if f.name in ("n_flows", "n_layers", "n_lstm_layers") else _MAX_SIZE
            yield from _outside(dot, f.name, getattr(sizes, f.name), 1, most)


def _wrong_waveglow(sizes: WaveglowSizes, dot: str) -> Iterable[str]:
    faults = list(_wrong_sizes(sizes, dot))
    yield from faults
    if faults or None in dataclasses.astuple(sizes):
        return
    last = sizes.n_group - (sizes.n_flows - 1) // sizes.n_early_every * sizes.n_early_size
    if last < 2 or last % 2 or sizes.n_group % 2:
        yield f"{dot}n_group is {sizes.n_group}, of which {last} are left to the last flow, and both should be even"
    if sizes.upsample_stride % sizes.n_group:
        yield f"{dot}upsample_stride is {sizes.upsample_stride}, not a multiple of n_group, {sizes.n_group}"
    if sizes.upsample_kernel < sizes.upsample_stride:
        yield f"{dot}upsample_kernel is {sizes.upsample_kernel}, less than upsample_stride, {sizes.upsample_stride}"


def _wrong_audio(audio: AudioFormat, dot: str) -> Iterable[str]:
    yield from _outside(dot, "sample_rate", audio.sample_rate, 1000, 192_000)
    yield from _outside(dot, "fft_size", audio.fft_size, 1, _MAX_FFT_SIZE)
    yield from _outside(dot, "hop", audio.hop, 1, min(audio.fft_size or _MAX_FFT_SIZE, _MAX_FFT_SIZE))
    edges = (0, audio.mel_fmin, audio.mel_fmax, (audio.sample_rate or 0) / 2)
    if None not in (*edges, audio.sample_rate) and not 0 <= edges[1] < edges[2] <= edges[3]:
        yield f"{dot}mel_fmin and {dot}mel_fmax are {edges[1]:g} and {edges[2]:g}, not two edges from 0 to {edges[3]:g}"


def _wrong_file(entry: FileEntry, dot: str) -> Iterable[str]:
    yield from _outside(dot, "bytes", entry.bytes, 0, _MAX_FILE_BYTES)
    yield from _wrong_hash(entry, dot)


def _wrong_hash(entry: FileEntry | Source, dot: str) -> Iterable[str]:
    if entry.sha256 is not None and not _SHA256.fullmatch(entry.sha256):
        yield f"{dot}sha256 is {_shown(entry.sha256)}, not 64 hexadecimal digits"


def _wrong_manifest(manifest: Manifest, _dot: str) -> Iterable[str]:
    """What contradicts something else in the manifest."""
    symbols, speakers = (None if part is None else len(part) for part in (manifest.symbols, manifest.speakers))
    flowtron, waveglow = manifest.flowtron, manifest.waveglow
    if flowtron:
        yield from _differ("symbols has", symbols, "entries and flowtron.n_text is", flowtron.n_text)
        yield from _differ("speakers has", speakers, "entries and flowtron.n_speakers is", flowtron.n_speakers)
    if flowtron and waveglow:
        yield from _differ("waveglow.n_mels is", waveglow.n_mels, "and flowtron.n_mels is", flowtron.n_mels)
    if waveglow and manifest.audio:
        yield from _differ(
            "waveglow.upsample_stride is", waveglow.upsample_stride, "and audio.hop is", manifest.audio.hop
        )
    for name, count in Counter(manifest.speakers or ()).items():
        if count > 1 and name is not None:
            yield f"speakers has {_shown(name)} {count} times"
    if manifest.sources is not None:
        models = {"flowtron": flowtron, "waveglow": waveglow}
        yield from (
            f"sources lacks {model}" for model, sizes in models.items() if sizes and model not in manifest.sources
        )
    yield from _wrong_graphs(manifest)
    for precision, name in (manifest.engine or {}).items():
        yield from _wrong_graph(f"engine.{_plain(precision)}", ENGINE_ROLE, name, manifest.files)


def _differ(one: str, a: int | None, other: str, b: int | None) -> Iterable[str]:
    if a is not None and b is not None and a != b:
        yield f"{one} {_shown(a)} {other} {_shown(b)}"


def _wrong_graphs(manifest: Manifest) -> Iterable[str]:
    if manifest.graphs is None:
        return
    if not manifest.graphs:
        yield "graphs is empty"
    roles: list[str] = []
    if manifest.flowtron and manifest.flowtron.n_flows in range(1, _MAX_PARTS + 1):
        roles = roles_of(manifest.flowtron, manifest.waveglow)
    for precision, graphs in manifest.graphs.items():
        if graphs is None:
            continue
        where = f"graphs.{_plain(precision)}"
        yield from (f"{where} lacks {role}" for role in roles if role not in graphs)
        for role, name in graphs.items():
            yield from _wrong_graph(f"{where}.{_plain(role)}", role, name, manifest.files)


def _wrong_graph(where: str, role: str, name: str | None, files: Mapping[str, FileEntry] | None) -> Iterable[str]:
    if name is None or files is None:
        return
    if name not in files:
        yield f"{where} names {_plain(name)}, which is not among the files"
    elif files[name] and files[name].role not in (role, None):
        yield f"{where} names {_plain(name)}, whose role is {_plain(files[name].role)}"


_RULES: Mapping[type, Callable[[Any, str], Iterable[str]]] = {
    FlowtronSizes: _wrong_sizes,
    WaveglowSizes: _wrong_waveglow,
    AudioFormat: _wrong_audio,
    FileEntry: _wrong_file,
    Source: _wrong_hash,
    Manifest: _wrong_manifest,
}
