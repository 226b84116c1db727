"""`fte export` from beginning to end: read, write, verify, rename into place."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from fte.backends import OnnxRuntimeBackend
from fte.bundle import ENGINE_ROLE, MANIFEST, FileEntry, FlowtronSizes, foreign_files, name_fault, roles_of
from fte.errors import BundleError, OutputError, RequestError, VerificationError
from fte.files import atomic_folder
from fte_export.checkpoint import read_config, read_flowtron, read_waveglow
from fte_export.config import VoiceFormat, read_format
from fte_export.engine_weights import engine_file, write_engine_weights
from fte_export.graphs.builder import NARROW, Precision
from fte_export.writer import (
    Voice,
    file_entry,
    graph_file,
    graph_roles,
    make_manifest,
    precision_of,
    write_graphs,
    write_manifest,
)

if TYPE_CHECKING:
    from fte_export.verify import Parity

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
DEFAULT_PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")
BLOCKS = (1, 8, 16, 32)
"""Frames of the blocks that a GPU decodes at once, in a bundle with a precision for GPUs."""

_READ, _WRITE = 0.15, 0.35
"""Fractions of an export's time that reading and writing take; verifying takes the rest."""

Progress = Callable[[str, float], None]
"""Called with what is being done and the fraction done so far, 0 to 1."""


@dataclass(frozen=True)
class ExportOptions:
    """What the user of `fte export` can choose."""

    flowtron: Path
    waveglow: Path | None = None
    config: Path | None = None
    """The public repository's config.json: what no tensor shows, and sizes to check the checkpoint against."""
    precisions: tuple[str, ...] = DEFAULT_PRECISIONS
    speaker_names: tuple[str, ...] = ()
    name: str = ""
    verify: bool = True
    overwrite: bool = False


def parse_precisions(names: Sequence[str]) -> tuple[Precision, ...]:
    """The precisions asked for, without repetition. Raises RequestError for one that is unknown."""
    for name in names:
        if name not in PRECISIONS:
            raise RequestError(f"precision {name!r} is unknown: choose from {', '.join(PRECISIONS)}")
    found = tuple(p for p in PRECISIONS if p in names)
    if not found:
        raise RequestError(f"no precision was asked for: choose from {', '.join(PRECISIONS)}")
    return found


def read_voice(options: ExportOptions, name: str) -> Voice:
    """Read and check the checkpoints. Raises CheckpointError and RequestError."""
    config = None if options.config is None else read_config(options.config)
    flowtron = read_flowtron(options.flowtron, config=config)
    audio_and_text = (
        VoiceFormat() if config is None else read_format(config, str(options.config), flowtron.sizes.n_mels)
    )
    waveglow = None
    if options.waveglow is not None:
        waveglow = read_waveglow(options.waveglow, config=config if config and "waveglow_config" in config else None)
        if waveglow.sizes.n_mels != flowtron.sizes.n_mels:
            raise RequestError(
                f"{options.waveglow} has {waveglow.sizes.n_mels} mel channels and {options.flowtron} "
                f"{flowtron.sizes.n_mels}: give a vocoder trained on the same mels"
            )
    assert isinstance(flowtron.sizes, FlowtronSizes)
    speakers = options.speaker_names or tuple(f"speaker_{i}" for i in range(flowtron.sizes.n_speakers))
    if len(speakers) != flowtron.sizes.n_speakers:
        raise RequestError(
            f"{len(speakers)} speaker names were given and {options.flowtron} has {flowtron.sizes.n_speakers} "
            "speakers: give one name for each"
        )
    blocks = BLOCKS if any(precision in NARROW for precision in options.precisions) else ()
    voice = Voice(options.name or name, flowtron, waveglow, speakers, format=audio_and_text, blocks=blocks)
    _check_names(voice)
    return voice


def _check_names(voice: Voice) -> None:
    """Raise RequestError for a name that no manifest takes."""
    if repeated := [name for name, count in Counter(voice.speakers).items() if count > 1]:
        raise RequestError(f"two speakers have the name {repeated[0]!r}: give each its own")
    sources = [model.source_name for model in (voice.flowtron, voice.waveglow) if model is not None]
    for what, names in (("voice", [voice.name]), ("speaker", voice.speakers), ("checkpoint", sources)):
        for name in names:
            if fault := name_fault(name):
                raise RequestError(f"{name!a} cannot be the name of a {what}, {fault}: choose another name")


def export_voice(options: ExportOptions, out: Path, progress: Progress) -> "list[Parity]":
    """Write the bundle ``out`` from checkpoints, whole or not at all; return how each graph compares with torch.

    Raises CheckpointError, RequestError, and VerificationError when a graph is past its tolerance.
    """
    precisions = parse_precisions(options.precisions)
    own = partial(_files_of_bundle, out)
    with atomic_folder(out, own=own, overwrite=options.overwrite) as folder:
        progress("reading checkpoints", 0.0)
        voice = read_voice(options, Path(os.path.realpath(out)).name)
        write_files(voice, precisions, folder, progress)
        if not options.verify:
            return []
        return verify_files(voice, precisions, folder, progress)


def _files_of_bundle(out: Path, folder: Path) -> list[str]:
    """The files of a bundle that ``out`` may replace.

    Raises OutputError where the folder has anything in it but a bundle: replacing it would delete that.
    """
    names = [path.name for path in folder.iterdir()]
    try:
        foreign = foreign_files(folder)  # looks at the folder again: what comes between is foreign, or stays
    except BundleError as error:
        reason = str(error).replace(str(folder), str(out))
        raise OutputError(f"{out} is not overwritten, for only bundles are: {reason}") from error
    if foreign:
        shown = ", ".join(ascii(name) for name in foreign[:3]) + (", ..." if len(foreign) > 3 else "")
        raise OutputError(
            f"{out} is not overwritten, for it holds more than a bundle ({shown}): move that or choose another name"
        )
    return names


def write_voice(voice: Voice, out: Path, precisions: Sequence[Precision] = DEFAULT_PRECISIONS) -> None:
    """Write a voice that is in memory as the bundle ``out``, replacing one that is there, damaged or not.

    Raises OutputError where ``out`` is a folder with anything in it but files of such a bundle.
    """
    new = file_names(voice, precisions)

    def own(folder: Path) -> list[str]:
        names = [path.name for path in folder.iterdir()]
        return names if new.issuperset(names) else _files_of_bundle(out, folder)  # whatever its manifest says

    with atomic_folder(out, own=own, overwrite=True) as folder:
        write_files(voice, precisions, folder)


def file_names(voice: Voice, precisions: Sequence[Precision]) -> set[str]:
    """Names of all files of a bundle."""
    models = [m for m in roles_of(voice.flowtron_sizes, voice.waveglow_sizes) if not m.endswith("_guided")]
    weights = {f"{model}.{precision_of(model, precision)}.bin" for model in models for precision in precisions}
    return {MANIFEST, *_graph_files(voice, precisions), *weights, *map(engine_file, precisions)}


def write_files(
    voice: Voice, precisions: Sequence[Precision], folder: Path, progress: Progress = lambda _what, _done: None
) -> None:
    """Write a voice's graphs, weights and manifest into an existing folder, and what the native engine reads."""
    graphs = _graph_files(voice, precisions)
    shared = sum("_guided" in graph or "_block_" in graph for graph in graphs)
    expected = 2 * len(graphs) - shared  # a guided graph or a block shares the weight file of its flow
    expected += len(precisions)
    files: dict[str, FileEntry] = {}
    for name, entry in chain(write_graphs(voice, precisions, folder), _write_engine(voice, precisions, folder)):
        files[name] = entry
        progress(f"wrote {name}", _READ + _WRITE * len(files) / expected)
    write_manifest(make_manifest(voice, precisions, files), folder)


def _write_engine(voice: Voice, precisions: Sequence[Precision], folder: Path) -> Iterator[tuple[str, FileEntry]]:
    """Write the native engine's weights in each precision; yield each file's name and entry as it is done."""
    for precision in precisions:
        name = engine_file(precision)
        write_engine_weights(voice, precision, folder / name)
        yield name, file_entry(folder / name, ENGINE_ROLE, precision)


def _graph_files(voice: Voice, precisions: Sequence[Precision]) -> set[str]:
    """File names of the graphs of a bundle; precisions share some of them."""
    return {graph_file(role, precision) for precision in precisions for role in graph_roles(voice, precision)}


def verify_files(voice: Voice, precisions: Sequence[Precision], folder: Path, progress: Progress) -> "list[Parity]":
    """Compare the graphs in ``folder`` with torch. Raises VerificationError naming every output past its tolerance."""
    from fte_export.verify import verify  # imports torch

    expected = len(_graph_files(voice, precisions))
    results: list[Parity] = []
    graphs: set[str] = set()
    for parity in verify(voice, precisions, folder, OnnxRuntimeBackend("cpu")):
        results.append(parity)
        graphs.add(parity.graph)
        progress(f"verified {parity.graph}", _READ + _WRITE + (1 - _READ - _WRITE) * len(graphs) / expected)
    failed = [f"{p.graph} {p.output} (error {p.error:.2g}, SNR {p.snr_db:.1f} dB)" for p in results if not p.passed]
    if failed:
        raise VerificationError(
            f"exported graphs differ from the checkpoint by more than they may: {', '.join(failed)}; "
            "choose another precision, and report it"
        )
    return results
