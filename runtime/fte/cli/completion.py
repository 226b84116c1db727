"""What the shell offers where a value is to be typed: voices, and what the voice on the command line has.

A shell waits for each answer, so nothing is loaded but a manifest, and what cannot be read offers nothing.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import fte
from fte.backends import BACKENDS
from fte.backends.onnxruntime import DEVICES
from fte.bundle import Bundle, Manifest
from fte.errors import FteError
from fte.files import cache_folder

_PRECISIONS = ("int8", "fp32", "fp16", "bf16")


def voices(incomplete: str) -> list[str]:
    """'tiny' and the bundles in the folder that is being typed."""
    written, _, begun = incomplete.rpartition("/")
    folder = Path(incomplete[: len(incomplete) - len(begun)] or ".")
    try:
        found = [path.name for path in sorted(folder.iterdir()) if (path / "manifest.json").is_file()]
    except (OSError, ValueError):  # ValueError: a null character
        found = []
    prefix = f"{written}/" if "/" in incomplete else ""
    return _begun(["tiny", *(prefix + name for name in found)], incomplete)


def devices(incomplete: str) -> list[str]:
    return _begun(DEVICES, incomplete)


def backends(incomplete: str) -> list[str]:
    return _begun(BACKENDS, incomplete)


def precisions(ctx: Any, incomplete: str) -> list[str]:
    """Those of the voice, or all that there are."""
    manifest = _manifest(ctx)
    return _begun(["auto", *(_PRECISIONS if manifest is None else manifest.graphs)], incomplete)


def speakers(ctx: Any, incomplete: str) -> list[str]:
    manifest = _manifest(ctx)
    return _begun([] if manifest is None else manifest.speakers, incomplete)


def styles(ctx: Any, incomplete: str) -> list[str]:
    """The voice's own styles; after "happy:0.7," what comes next."""
    written, comma, begun = incomplete.rpartition(",")
    path = _voice(ctx)
    names = () if path is None else sorted(file.stem for file in (path / "styles").glob("*.safetensors"))
    return [written + comma + name for name in _begun(names, begun)]


def _voice(ctx: Any) -> Path | None:
    """The folder of the voice that the command line names so far; None where there is none yet."""
    name = ctx.params.get("voice")
    if not isinstance(name, str):
        return None
    return _tiny_folder() if name == "tiny" else Path(name)


def _tiny_folder() -> Path:
    """Where the tiny voice is kept once it is made."""
    return cache_folder() / f"tiny-{re.sub(r'[^0-9A-Za-z.]', '_', fte.__version__)}"


def _manifest(ctx: Any) -> Manifest | None:
    path = _voice(ctx)
    try:
        return None if path is None else Bundle.open(path).manifest
    except FteError:
        return None


def _begun(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
