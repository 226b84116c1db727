"""Atomic writes: a file or folder appears whole under its name, or not at all."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from fte.errors import OutputError


def cache_folder() -> Path:
    """Where what can be made again is kept: $XDG_CACHE_HOME/fte, or ~/.cache/fte."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fte"


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield the path of an empty file beside ``path``; rename it to ``path`` when the block ends without an exception.

    The temporary name keeps the suffix, because writers of sound and pictures choose their format by it. A link is
    followed: what it points at is replaced, and the link stays.
    Raises OutputError when ``path`` is there and no plain file (a folder, a device), or cannot be written.
    """
    target = _target(path)
    temporary = _beside(target, target.suffix)
    with _refusal(path):
        if target.is_dir():
            raise OutputError(f"cannot write {path}: it is a folder")
        if target.exists() and not target.is_file():
            raise OutputError(f"cannot write {path}: it is a device or a pipe, which no file can replace")
        temporary.touch(exist_ok=False)
        try:
            yield temporary
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty folder beside ``path``; rename it to ``path`` when the block ends without an exception.

    Raises OutputError when ``path`` is a file, exists and ``overwrite`` is false, or cannot be written.
    """
    target = _target(path)
    temporary = _beside(target, ".new")
    with _refusal(path):
        if target.exists() and not target.is_dir():
            raise OutputError(f"cannot write {path}: it is a file")
        if target.exists() and not overwrite:
            raise OutputError(f"{path} exists already: choose another name, or --overwrite it")
        temporary.mkdir()
        try:
            yield temporary
            _swap_folder(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _swap_folder(new: Path, target: Path) -> None:
    """Put ``new`` in the place of ``target``; an older folder there is moved aside first and put back on failure."""
    if not target.exists():
        new.replace(target)
        return
    aside = _beside(target, ".old")
    target.replace(aside)
    try:
        new.replace(target)
    except OSError:
        aside.replace(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _target(path: Path) -> Path:
    """``path`` as an absolute path without links, which also stays the same if the working folder changes."""
    return Path(os.path.realpath(path))


def _beside(target: Path, suffix: str) -> Path:
    """A name in the folder of ``target`` that nobody else uses, short whatever the length of the name of ``target``."""
    return target.with_name(f".fte-{secrets.token_hex(8)}{suffix}")


@contextlib.contextmanager
def _refusal(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
