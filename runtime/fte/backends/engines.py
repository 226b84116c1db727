"""Built engines: files in the user's cache, each with a sidecar that says what it was built from, for and by.

An engine runs code when it is loaded, so only those that were built here are: the cache is the user's own folder, and
another one is read only where it is named together with the word trust. Every engine is held against the hash in its
sidecar before TensorRT sees it, and the sidecar against the graph, library and GPU at hand.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fte.backends.base import SYMBOL_MULTIPLE
from fte.bundle import Bundle, sha256_of, weight_files_of
from fte.constants import LIMITS
from fte.errors import EngineError, OutputError, RequestError
from fte.files import atomic_file, cache_folder
from fte.strict_json import parse_json

FORMAT, VERSION = "fte-engine", 1
_MOST_SIDECAR_BYTES = 1 << 16
_MOST_ENGINE_BYTES = 1 << 36


@dataclass(frozen=True, slots=True)
class Profile:
    """The largest shapes that an engine is built for."""

    batches: tuple[int, ...] = (1, 8)
    """Utterances; for each of these an engine has kernels of its own, for batches up to it."""
    max_text: int = 224
    """Symbols; rounded up to what texts are padded to on a GPU."""
    max_frames: int = 256
    """Mel frames that the vocoder takes at once, context included."""

    def __post_init__(self) -> None:
        """Raise RequestError for a number out of range."""
        if not 1 <= len(self.batches) <= 8 or sorted(set(self.batches)) != list(self.batches):
            raise RequestError(f"batches {self.batches}: give 1 to 8 numbers in ascending order")
        for name, value, most in (
            ("batch", self.batches[0], LIMITS.batch),
            ("batch", self.batches[-1], LIMITS.batch),
            ("max_text", self.max_text, LIMITS.symbols),
            ("max_frames", self.max_frames, LIMITS.frames),
        ):
            if not 1 <= value <= most:
                raise RequestError(f"{name} is {value}: give 1 to {most}")

    @property
    def symbols(self) -> int:
        """max_text as it is built."""
        return -(-self.max_text // SYMBOL_MULTIPLE) * SYMBOL_MULTIPLE


@dataclass(frozen=True, slots=True)
class EngineKey:
    """All that makes two engines differ."""

    graph_sha256: str
    """Of the graph and the weights it reads."""
    library: str
    version: str
    target: str
    """A compute capability, such as sm_89, or the name of the one GPU that the engine runs on."""
    precision: str
    profile: Profile

    @property
    def file(self) -> str:
        """Name of the engine's file, without its suffix: engines of one graph have one beginning."""
        rest = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return f"{self.graph_sha256[:16]}-{hashlib.sha256(rest.encode()).hexdigest()[:16]}"


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """An engine in a folder, as its sidecar describes it."""

    path: Path
    key: EngineKey
    graph: str
    """File name of the graph."""
    sha256: str
    size: int
    """Bytes."""
    seconds: float
    """How long building took."""

    def read(self) -> bytes:
        """The engine. Raises EngineError where it is not the one that was built."""
        try:
            if self.path.is_symlink() or self.path.stat().st_size != self.size:
                raise EngineError(f"{self.path} is not of the size it was built with: build it again with fte build")
            data = self.path.read_bytes()
        except OSError as error:
            raise EngineError(f"cannot read {self.path}: {error.strerror or error}") from error
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise EngineError(f"{self.path} is not what was built (its SHA-256 differs): build it again with fte build")
        return data


def graph_sha256(bundle: Bundle, graph: str) -> str:
    """Hash of a graph of a bundle together with the weights it reads."""
    files = bundle.manifest.files
    hashes = [files[name].sha256 for name in (graph, *weight_files_of(bundle.manifest, graph))]
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


class EngineStore:
    """A folder of engines: by default the user's cache."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = cache_folder() / "engines" if folder is None else folder

    def add(self, key: EngineKey, graph: str, data: Any, seconds: float) -> BuiltEngine:
        """Write an engine (any buffer) and its sidecar, the sidecar last. Raises RequestError where that fails."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise OutputError(f"cannot make the folder {self.folder}: {error.strerror or error}") from error
        path = self.folder / f"{key.file}.engine"
        with atomic_file(path) as temporary:
            temporary.write_bytes(data)
            sha256, size = sha256_of(temporary), temporary.stat().st_size
        built = BuiltEngine(path, key, graph, sha256, size, round(seconds, 3))
        with atomic_file(path.with_suffix(".json")) as temporary:
            temporary.write_text(_sidecar(built), encoding="utf-8")
        return built

    def of_graph(self, sha256: str) -> Iterator[BuiltEngine]:
        """The engines of a graph. Raises EngineError for a sidecar that is none."""
        for path in sorted(self.folder.glob(f"{sha256[:16]}-*.json")):
            built = _read_sidecar(path)
            if built.key.graph_sha256 == sha256:
                yield built

    def exact(self, key: EngineKey) -> BuiltEngine | None:
        """The engine of that key, if there is one."""
        return next((built for built in self.of_graph(key.graph_sha256) if built.key == key), None)

    def find(self, bundle: Bundle, graph: str, library: str, version: str, targets: tuple[str, ...]) -> BuiltEngine:
        """The engine of a graph for this library and one of the names of this GPU; that of the largest profile.

        Raises EngineError that says what there is where none fits.
        """
        there = list(self.of_graph(graph_sha256(bundle, graph)))
        fitting = [b for b in there if (b.key.library, b.key.version) == (library, version) and b.key.target in targets]
        if fitting:
            return max(
                fitting, key=lambda b: (b.key.profile.batches[-1], b.key.profile.symbols, b.key.profile.max_frames)
            )
        wanted = f"{library} {version} on {targets[0]}"
        others = ", ".join(sorted({f"{b.key.library} {b.key.version} on {b.key.target}" for b in there}))
        found = f"there are only engines for {others}" if others else "none was built"
        raise EngineError(f"{graph} has no engine for {wanted}, {found}: run fte build {bundle.path}")

    def block_frames(self, bundle: Bundle, library: str, version: str, targets: tuple[str, ...]) -> int:
        """The longest block of frames for which the first flow has an engine, in whatever precision.

        Raises EngineError that says what there is where it has none.
        """
        missing: EngineError | None = None
        for precision in bundle.manifest.graphs:
            for frames in reversed(bundle.blocks(precision)):
                graph = bundle.manifest.graphs[precision][f"flow_0_block_{frames}"]
                try:
                    self.find(bundle, graph, library, version, targets)
                except EngineError as error:
                    missing = missing or error
                else:
                    return frames
        raise missing or EngineError(f"{bundle.path} has no graphs for engines: export it with --precision fp16")


def _sidecar(built: BuiltEngine) -> str:
    document = {
        "format": FORMAT,
        "version": VERSION,
        "graph": built.graph,
        "key": dataclasses.asdict(built.key),
        "sha256": built.sha256,
        "bytes": built.size,
        "seconds": built.seconds,
    }
    return json.dumps(document, indent=1) + "\n"


def _read_sidecar(path: Path) -> BuiltEngine:
    """Raises EngineError where the file is not such a document."""
    try:
        if path.is_symlink() or os.path.getsize(path) > _MOST_SIDECAR_BYTES:  # noqa: PTH202
            raise ValueError("it is a link, or too large")
        document = parse_json(path.read_text(encoding="utf-8"))
        if (document["format"], document["version"]) != (FORMAT, VERSION):
            raise ValueError("it is of another format")
        key = document["key"]
        profile = Profile(**{**key["profile"], "batches": tuple(key["profile"]["batches"])})
        built = BuiltEngine(
            path=path.with_suffix(".engine"),
            key=EngineKey(**{**key, "profile": profile}),
            graph=document["graph"],
            sha256=document["sha256"],
            size=document["bytes"],
            seconds=float(document["seconds"]),
        )
        texts = (*dataclasses.astuple(built.key)[:5], built.graph, built.sha256)
        if not all(isinstance(text, str) and text.isprintable() and len(text) < 200 for text in texts):
            raise ValueError("a text in it is none")
        if type(built.size) is not int or not 0 < built.size < _MOST_ENGINE_BYTES:
            raise ValueError("its size is none")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, RequestError) as error:
        raise EngineError(f"{path} does not describe an engine ({error}): delete it, and run fte build") from error
    return built
