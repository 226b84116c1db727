"""What the commands share: consoles, options, and the reading and checking of files."""

import os
import re
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

import fte
from fte.bundle import Bundle
from fte.errors import BackendError, BundleError, RequestError, import_fault
from fte.files import cache_folder

EXPORT_PACKAGES = ("torch", "onnx", "ml_dtypes", "onnxruntime", "fte_export")
"""What exporting and the tiny voice import beside what speaking does."""
_TEXT_FILE_BYTES = 16 << 20

on_interruption = "nothing was left half-written"
"""What to say to a user who stopped the command; a command that can be gone on with says so instead."""

# Names and texts of others are printed as they are: no markup, no emoji codes.
out_console = Console(markup=False, emoji=False, highlight=False)
err_console = Console(stderr=True, markup=False, emoji=False, highlight=False)

VoiceArgument = Annotated[
    str, typer.Argument(metavar="VOICE", help="Folder of a voice bundle, or 'tiny' for a random one.")
]
VoiceOption = Annotated[
    str, typer.Option("--voice", "-v", metavar="VOICE", help="Folder of a voice bundle, or 'tiny' for a random one.")
]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda or auto.")]
PrecisionOption = Annotated[
    str, typer.Option(help="One of the bundle's precisions, or auto: int8 on a CPU, fp16 on a GPU.")
]
BackendOption = Annotated[
    str,
    typer.Option(
        help="auto, native (C++, on CPUs), onnxruntime, onnxruntime-graphs, onnxruntime-tensorrt, or tensorrt for the "
        "engines of fte build."
    ),
]
TrustEnginesOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Take engines from this folder. An engine runs code when it is loaded: trust who built it."
    ),
]
ThreadsOption = Annotated[int | None, typer.Option(help="Threads of the backend; every core by default.")]


def say(message: str, style: str | None = None) -> None:
    """One line on standard error, whatever a path or a name in it holds."""
    shown = re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda match: ascii(match[0])[1:-1], message)
    err_console.print(shown, style=style, soft_wrap=True)


def progress_bar() -> Progress:
    """A bar on a terminal, gone when it ends; nothing elsewhere, so that a log holds the result or the error alone."""
    columns = (TextColumn("{task.description:<32}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    return Progress(
        *columns, TimeElapsedColumn(), console=err_console, transient=True, disable=not err_console.is_terminal
    )


def check_place(path: Path, *, is_folder: bool = False) -> None:
    """Refuse an output that could not be written before anything is computed; a folder may still have to be made."""
    places = [path, *path.absolute().parents] if is_folder else [path.parent]
    nearest = next((p for p in places if os.path.lexists(p)), path.parent)
    if not os.path.isdir(nearest):  # noqa: PTH112  (Path.is_dir raises OSError for a name that is too long)
        raise RequestError(f"cannot write {path}: {nearest} is not a folder, choose one that exists")
    if not is_folder and os.path.isdir(path):  # noqa: PTH112
        raise RequestError(f"cannot write {path}: it is a folder, give the name of a file")


def make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"cannot make the folder {path}: {error.strerror or error}") from error


def read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return _decoded(file.read(_TEXT_FILE_BYTES + 1), str(path))
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror or error}") from error


def read_stdin() -> str:
    if sys.stdin is None:
        raise RequestError("there is no standard input: give the text as an argument")
    return _decoded(sys.stdin.buffer.read(_TEXT_FILE_BYTES + 1), "the standard input")


def _decoded(data: bytes, where: str) -> str:
    if len(data) > _TEXT_FILE_BYTES:
        raise RequestError(f"{where} is larger than {_TEXT_FILE_BYTES} bytes: split it")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(f"{where} is not UTF-8 text: convert it") from error


def voice_path(name: str) -> Path:
    """The folder of a voice; 'tiny' is made on first use and kept in the user's cache."""
    if name != "tiny":
        return Path(name)
    cache = cache_folder()
    path = cache / f"tiny-{re.sub(r'[^0-9A-Za-z.]', '_', fte.__version__)}"
    if _is_sound(path):
        return path
    try:
        from fte_export.pipeline import write_voice
        from fte_export.random_voice import tiny_voice
    except ImportError as error:
        missing = (
            f"the tiny voice is made on the spot, which needs the package {error.name!r}: "
            "install flowtron-fte[cpu,export] or name a voice with --voice"
        )
        raise BackendError(import_fault(error, EXPORT_PACKAGES, missing)) from error
    make_folder(cache)
    write_voice(tiny_voice(), path)
    return path


def _is_sound(path: Path) -> bool:
    """Whether a bundle can be used as it is, by every backend."""
    try:
        bundle = Bundle.open(path)
        return bool(bundle.manifest.engine) and not bundle.check_files()
    except BundleError:
        return False
