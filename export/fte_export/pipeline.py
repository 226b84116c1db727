"""`fte export` from beginning to end: read, write, verify, rename into place."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from fte.backends import OnnxRuntimeBackend
from fte.bundle import ENGINE_ROLE, FileEntry, FlowtronSizes, foreign_files, name_fault
from fte.errors import BundleError, RequestError, VerificationError
from fte.files import atomic_folder
from fte_export.checkpoint import read_config, read_flowtron, read_waveglow
from fte_export.config import VoiceFormat, read_format
from fte_export.engine_weights import engine_file, write_engine_weights
from fte_export.graphs.builder import NARROW, Precision
from fte_export.writer import Voice, file_entry, graph_file, graph_roles, make_manifest, write_graphs, write_manifest

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
    if options.overwrite:
        _check_replaceable(out)
    with atomic_folder(out, overwrite=options.overwrite) as folder:
        progress("reading checkpoints", 0.0)
        voice = read_voice(options, Path(os.path.realpath(out)).name)
        write_files(voice, precisions, folder, progress)
        if not options.verify:
            return []
        return verify_files(voice, precisions, folder, progress)


def _check_replaceable(out: Path) -> None:
    """Raise RequestError when ``out`` is a folder with anything in it but a bundle: replacing it would delete that."""
    if not os.path.isdir(out):  # noqa: PTH112  (Path.is_dir raises OSError for a name that is too long)
        return
    try:
        foreign = foreign_files(out)
    except BundleError as error:
        raise RequestError(f"{out} is not overwritten, for only bundles are: {error}") from error
    if foreign:
        shown = ", ".join(ascii(name) for name in foreign[:3]) + (", ..." if len(foreign) > 3 else "")
        raise RequestError(
            f"{out} is not overwritten, for it holds more than a bundle ({shown}): move that or choose another name"
        )


def write_voice(voice: Voice, out: Path, precisions: Sequence[Precision] = DEFAULT_PRECISIONS) -> None:
    """Write a voice that is in memory as the bundle ``out``, replacing one that is there."""
    with atomic_folder(out, overwrite=True) as folder:
        write_files(voice, precisions, folder)


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
