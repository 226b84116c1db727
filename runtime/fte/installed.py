"""Voices that go by a name of their own: the one place that knows them, for programs and for the command line."""

import re
from pathlib import Path

import fte
from fte import checks
from fte.bundle import Bundle
from fte.errors import BackendError, BundleError, OutputError, import_fault
from fte.files import cache_folder, claimed

TINY = "tiny"
"""A voice of random weights, which speaks no words: to try things with."""
EXPORT_PACKAGES = ("torch", "onnx", "ml_dtypes", "onnxruntime", "fte_export")
"""What exporting and the tiny voice import beside what speaking does."""


def voice_path(name: Path | str) -> Path:
    """The folder of a voice, given by that or by its name; "tiny" is made on first use and kept in the user's cache.

    A `Path`, and a text with a separator in it such as "./tiny", is always a folder.
    Raises RequestError for what is no path, BackendError where the tiny voice has to be made and the exporter is
    missing, and OutputError where it cannot be kept.
    """
    folder = checks.path(name, "the voice")
    return tiny_path() if name == TINY else folder


def tiny_path() -> Path:
    """The folder of the tiny voice in the user's cache, made there if it is missing or damaged."""
    cache = cache_folder()
    path = cache / f"{TINY}-{re.sub(r'[^0-9A-Za-z.]', '_', fte.__version__)}"
    if _is_sound(path):
        return path
    try:
        from fte_export.pipeline import write_voice
        from fte_export.random_voice import tiny_voice
    except ImportError as error:
        missing = (
            f"the tiny voice is made on the spot, which needs the package {error.name!r}: "
            "install flowtron-fte[cpu,export] or name the folder of a voice"
        )
        raise BackendError(import_fault(error, EXPORT_PACKAGES, missing)) from error
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {cache}: {error.strerror or error}") from error
    with claimed(cache / TINY, wait=True):  # another process may be making it
        if not _is_sound(path):
            write_voice(tiny_voice(), path)
    return path


def _is_sound(path: Path) -> bool:
    """Whether a bundle can be used as it is, by every backend."""
    try:
        bundle = Bundle.open(path)
        return bool(bundle.manifest.engine) and not bundle.check_files()
    except BundleError:
        return False
