"""What the commands share: consoles, options, and the reading and checking of files."""

import contextlib
import importlib
import os
import re
import stat
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from fte import installed
from fte.backends import BACKENDS
from fte.backends.onnxruntime import DEVICES
from fte.bundle import Bundle
from fte.cli import completion
from fte.errors import BundleError, InputError, OutputError, RequestError, import_fault

_TEXT_FILE_BYTES = 16 << 20
_MOST_THREADS = 1024
_KINDS = {
    ".pt": "a checkpoint",
    ".pth": "a checkpoint",
    ".ckpt": "a checkpoint",
    ".safetensors": "a checkpoint or a style",
    ".json": "JSON",
    ".txt": "a text",
    ".npy": "a mel",
}
"""What a file that is no sound is likely to be, by its suffix."""

on_interruption = "nothing was left half-written"
"""What to say to a user who stopped the command; a command that can be gone on with says so instead."""

# Names and texts of others are printed as they are: no markup, no emoji codes.
out_console = Console(markup=False, emoji=False, highlight=False)
err_console = Console(stderr=True, markup=False, emoji=False, highlight=False)

VoiceArgument = Annotated[
    str,
    typer.Argument(
        metavar="VOICE",
        help="Folder of a voice bundle, or 'tiny' for a random one.",
        autocompletion=completion.voices,
    ),
]
VoiceOption = Annotated[
    str,
    typer.Option(
        "--voice",
        "-v",
        metavar="VOICE",
        help="Folder of a voice bundle, or 'tiny' for a random one.",
        autocompletion=completion.voices,
    ),
]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda or auto.", autocompletion=completion.devices)]
PrecisionOption = Annotated[
    str,
    typer.Option(
        help="One of the bundle's precisions, or auto: int8 on a CPU, fp16 on a GPU.",
        autocompletion=completion.precisions,
    ),
]
BackendOption = Annotated[
    str,
    typer.Option(
        help="auto, native (C++, on CPUs), onnxruntime, onnxruntime-graphs, onnxruntime-tensorrt, or tensorrt for the "
        "engines of fte build.",
        autocompletion=completion.backends,
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
    with contextlib.suppress(OSError):  # a full disk behind it must not hide what the exit status tells
        err_console.print(shown, style=style, soft_wrap=True)


def progress_bar() -> Progress:
    """A bar on a terminal, gone when it ends; nothing elsewhere, so that a log holds the result or the error alone."""
    columns = (TextColumn("{task.description:<32}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    return Progress(
        *columns, TimeElapsedColumn(), console=err_console, transient=True, disable=not err_console.is_terminal
    )


def check_place(path: Path, *, is_folder: bool = False) -> None:
    """Refuse an output that could not be written before anything is computed; a folder may still have to be made."""
    target = Path(os.path.realpath(path))  # a link is followed, as when the file is written
    places = [target, *target.parents] if is_folder else [target.parent]
    nearest = next((p for p in places if os.path.lexists(p)), target.parent)
    if is_folder and os.path.isfile(target):  # noqa: PTH113  (Path.is_file raises OSError for a name that is too long)
        raise OutputError(f"cannot write {path}: it is a file")
    if not os.path.isdir(nearest):  # noqa: PTH112  (as above)
        shown = nearest if is_folder else path.parent
        raise OutputError(f"cannot write {path}: {shown} is not a folder, choose one that exists")
    if not is_folder:
        _check_file(path, target)
    _check_writable(nearest, f"cannot make the folder {path}" if nearest != target and is_folder else None, path)


def _check_file(path: Path, target: Path) -> None:
    """Refuse what no plain file can replace, and a name that the file system does not take."""
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    if stat.S_ISDIR(mode):
        raise OutputError(f"cannot write {path}: it is a folder, give the name of a file")
    if not stat.S_ISREG(mode):
        raise OutputError(f"cannot write {path}: it is a device or a pipe, which no file can replace")


def _check_writable(folder: Path, what: str | None, path: Path) -> None:
    """Refuse a folder in which no file can be made, by making one without a name."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"{what or f'cannot write {path}'}: {error.strerror or error}") from error


def check_machine(device: str, backend: str, threads: int | None) -> None:
    """Refuse names and numbers that no machine, or not this one, could take. Raises RequestError."""
    if device not in DEVICES:
        raise RequestError(f"device {device!r} is unknown: choose one of {', '.join(DEVICES)}")
    if backend not in BACKENDS:
        raise RequestError(f"backend {backend!r} is unknown: choose one of {', '.join(BACKENDS)}")
    if threads is None:
        return
    if not 1 <= threads <= _MOST_THREADS:
        raise RequestError(f"threads is {threads}: choose a number from 1 to {_MOST_THREADS}")
    cores = len(os.sched_getaffinity(0))
    if threads > cores:
        raise RequestError(
            f"threads is {threads} and this process may use {cores} of the machine's cores, beyond which threads wait "
            f"for each other: choose a number from 1 to {cores}"
        )


def check_precision(bundle: Bundle, precision: str) -> None:
    """Refuse a precision that a voice does not have. Raises RequestError."""
    if precision != "auto" and precision not in bundle.manifest.graphs:
        known = ", ".join(bundle.manifest.graphs)
        raise RequestError(f"{bundle.path} has no precision {precision!r}: it was exported with {known}")


def check_package(module: str, need: str, remedy: str) -> None:
    """Refuse work at whose end a package would be missing. Raises RequestError."""
    package = module.partition(".")[0]
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise RequestError(import_fault(error, [package], f"{need} needs {package}: {remedy}")) from error


def make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {path}: {error.strerror or error}") from error


def read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return _decoded(file.read(_TEXT_FILE_BYTES + 1), str(path))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def read_stdin() -> str:
    if sys.stdin is None:
        raise RequestError("there is no standard input: give the text as an argument")
    if sys.stdin.isatty():
        say("type the text, and end it with Ctrl-D on a line of its own")
    return _decoded(sys.stdin.buffer.read(_TEXT_FILE_BYTES + 1), "the standard input")


def _decoded(data: bytes, where: str) -> str:
    if len(data) > _TEXT_FILE_BYTES:
        raise InputError(f"{where} is larger than {_TEXT_FILE_BYTES} bytes: split it")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{where} is not UTF-8 text: convert it") from error


def voice_path(name: str) -> Path:
    """The folder of a voice that is named on the command line, as `fte.installed` finds it."""
    if name != "tiny":
        _check_no_file(Path(name))
    return installed.voice_path(name)


def _check_no_file(path: Path) -> None:
    """Refuse a file in the place of a voice, and say what it is. Raises BundleError."""
    if not os.path.isfile(path):  # noqa: PTH113  (Path.is_file raises OSError for a name that is too long)
        return
    import soundfile

    try:
        what = f"a sound file ({soundfile.info(path).format})"
    except RuntimeError:  # the base of soundfile's errors
        what = _KINDS.get(path.suffix.lower(), "a file")
    raise BundleError(f"{path} is {what}, and a voice is a folder: give one that fte export made, or 'tiny'")
