"""The voice bundle: a folder with `manifest.json` and the files it names. The contract between export and runtime.

Nothing in a bundle is trusted before it is checked: `Bundle.open` validates the manifest and lists every fault at
once, and `Bundle.file` hands a file out only after its SHA-256 was compared.
"""

import dataclasses
import hashlib
import json
import re
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from fte.constants import FFT_SIZE, HOP, LIMITS, MEL_FMAX, MEL_FMIN, SAMPLE_RATE
from fte.errors import BundleError

FORMAT = "fte-voice"
VERSION = 1
MANIFEST = "manifest.json"

_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_SIZE = 1 << 20
"""No size of a model (channels, symbols, speakers) is larger than this."""


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


@dataclass(frozen=True, slots=True)
class TextOptions:
    """How text becomes symbols for this voice."""

    arpabet: bool = True
    keep_ambiguous: bool = False


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
    """What it is: `encoder`, `posterior`, `flow_0`, `flow_0_guided`, `vocoder`, or `weights` of several graphs."""
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
    """The graphs a bundle of these models has, in each precision."""
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
        path = Path(path)
        if not path.is_dir():
            raise BundleError(f"{path} is not a voice bundle: there is no such folder")
        file = path / MANIFEST
        try:
            with file.open("rb") as handle:
                raw = handle.read(LIMITS.manifest_bytes + 1)
        except OSError as error:
            raise BundleError(f"{path} is not a voice bundle: its {MANIFEST} cannot be read") from error
        if len(raw) > LIMITS.manifest_bytes:
            raise BundleError(f"{file} is larger than {LIMITS.manifest_bytes} bytes, which no manifest is")
        try:
            data = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise BundleError(f"{file} is not valid JSON: the bundle is damaged, export it again") from error
        return cls(path, parse_manifest(data, str(file)))

    def file(self, name: str) -> Path:
        """Path of the file ``name``, once its size and SHA-256 are those of the manifest (checked once)."""
        entry = self.manifest.files[name]
        path = self.path / name
        if name in self._checked:
            return path
        if path.is_symlink() or not path.is_file():
            raise BundleError(f"{self.path} lacks its file {name}: copy it again or export the voice again")
        if path.stat().st_size != entry.bytes or sha256_of(path) != entry.sha256:
            raise BundleError(f"{path} is not the file that was exported (its SHA-256 differs): export the voice again")
        self._checked.add(name)
        return path

    def graph(self, precision: str, role: str) -> Path:
        """Path of a graph; it and the weight files of the bundle that it may read are checked first.

        Raises BundleError when the bundle has no such precision or role.
        """
        if precision not in self.manifest.graphs:
            known = ", ".join(self.manifest.graphs)
            raise BundleError(f"{self.path} has no precision {precision!r}: it was exported with {known}")
        if role not in self.manifest.graphs[precision]:
            raise BundleError(f"{self.path} has no {role}: it was exported without it")
        name = self.manifest.graphs[precision][role]
        for other in weight_files_of(self.manifest, name):
            self.file(other)
        return self.file(name)

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
    return role.removesuffix("_guided")


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parse_manifest(data: object, where: str) -> Manifest:
    """A manifest from parsed JSON; ``where`` names it in errors. Raises BundleError listing every fault."""
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise BundleError(f"{where} is not the manifest of a voice bundle (its format is not {FORMAT!r})")
    if data.get("version") != VERSION:
        raise BundleError(
            f"{where} has manifest version {data.get('version')!r} and this fte reads version {VERSION}: "
            "use the fte that wrote it, or export the voice again"
        )
    faults: list[str] = []
    manifest = _parse(Manifest, data, "", faults)
    if not faults:
        faults += _inconsistencies(manifest)
    if faults:
        raise BundleError(f"{where} is faulty: {'; '.join(faults[:50])}")
    return typing.cast(Manifest, manifest)


def _parse(kind: Any, value: Any, where: str, faults: list[str]) -> Any:
    """``value`` as an instance of the annotated type ``kind``; what does not fit is added to ``faults``."""
    origin = typing.get_origin(kind)
    if isinstance(kind, types.UnionType):  # only X | None occurs
        inner = next(arg for arg in typing.get_args(kind) if arg is not type(None))
        return None if value is None else _parse(inner, value, where, faults)
    if dataclasses.is_dataclass(kind):
        return _parse_dataclass(kind, value, where, faults)
    if origin is tuple and isinstance(value, list):
        item = typing.get_args(kind)[0]
        return tuple(_parse(item, v, f"{where}[{i}]", faults) for i, v in enumerate(value))
    if origin is Mapping and isinstance(value, dict):
        item = typing.get_args(kind)[1]
        return {k: _parse(item, v, f"{where}.{k}", faults) for k, v in value.items()}
    if kind is float and type(value) in (int, float):
        return float(value)
    if origin is None and type(value) is kind:
        return value
    faults.append(f"{where or 'the whole'} is {type(value).__name__}, not {getattr(origin or kind, '__name__', kind)}")
    return None


def _parse_dataclass(kind: Any, value: Any, where: str, faults: list[str]) -> Any:
    if not isinstance(value, dict):
        faults.append(f"{where or 'the whole'} is not an object")
        return None
    hints = typing.get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    dot = f"{where}." if where else ""
    faults += [f"{dot}{name} is unknown" for name in value if name not in fields]
    required = [n for n, f in fields.items() if f.default is f.default_factory is dataclasses.MISSING]
    missing = [name for name in required if name not in value]
    faults += [f"{dot}{name} is missing" for name in missing]
    parsed = {n: _parse(hints[n], v, f"{dot}{n}", faults) for n, v in value.items() if n in fields}
    return None if missing else kind(**parsed)


def _inconsistencies(manifest: Manifest) -> Iterable[str]:
    """What a well-formed manifest may still have wrong."""
    for model, sizes in (("flowtron", manifest.flowtron), ("waveglow", manifest.waveglow)):
        for f in dataclasses.fields(sizes) if sizes else ():
            value = getattr(sizes, f.name)
            if type(value) is int and not 1 <= value <= _MAX_SIZE:
                yield f"{model}.{f.name} is {value}, outside 1..{_MAX_SIZE}"
    if len(manifest.symbols) != manifest.flowtron.n_text:
        yield f"symbols has {len(manifest.symbols)} entries and the model {manifest.flowtron.n_text}"
    if len(manifest.speakers) != manifest.flowtron.n_speakers:
        yield f"speakers has {len(manifest.speakers)} entries and the model {manifest.flowtron.n_speakers}"
    if manifest.waveglow and manifest.waveglow.n_mels != manifest.flowtron.n_mels:
        yield f"waveglow has {manifest.waveglow.n_mels} mel channels and flowtron {manifest.flowtron.n_mels}"
    if manifest.waveglow and manifest.waveglow.upsample_stride != manifest.audio.hop:
        yield f"waveglow's stride is {manifest.waveglow.upsample_stride} and the hop {manifest.audio.hop}"
    audio = manifest.audio
    if not (0 < audio.hop <= audio.fft_size <= 1 << 16 and 1000 <= audio.sample_rate <= 192_000):
        yield f"audio is out of range: {audio}"
    for name, entry in manifest.files.items():
        if not _FILE_NAME.fullmatch(name):
            yield f"{name!r} is not a plain file name"
        if not _SHA256.fullmatch(entry.sha256) or entry.bytes < 0:
            yield f"the hash or size of {name} is malformed"
    for model, source in manifest.sources.items():
        if not _SHA256.fullmatch(source.sha256):
            yield f"the hash of source {model} is malformed"
    yield from _graph_inconsistencies(manifest)


def _graph_inconsistencies(manifest: Manifest) -> Iterable[str]:
    if not manifest.graphs:
        yield "graphs is empty"
    for precision, graphs in manifest.graphs.items():
        for role in roles_of(manifest.flowtron, manifest.waveglow):
            if role not in graphs:
                yield f"graphs.{precision} lacks {role}"
        for role, name in graphs.items():
            if name not in manifest.files:
                yield f"graphs.{precision}.{role} names {name}, which is not among the files"
