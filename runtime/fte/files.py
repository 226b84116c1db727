"""Atomic writes: a file or folder appears whole under its name, or not at all."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fte.errors import RequestError


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` when the block ends without an exception.

    The temporary name keeps the suffix, because writers of sound and pictures choose their format by it.
    Raises RequestError when the folder does not exist or cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        raise RequestError(f"cannot write {path}: it is a folder")
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    except OSError as error:
        raise RequestError(f"cannot write {path}: {error.strerror or error}") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise RequestError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; rename it to ``path`` when the block ends without an exception.

    Raises RequestError when ``path`` exists and ``overwrite`` is false, or its parent cannot be written.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise RequestError(f"{path} exists already: choose another name or allow overwriting it")
    try:
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    except OSError as error:
        raise RequestError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        yield temporary
        os.chmod(temporary, 0o777 & ~_umask())
        _swap_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _swap_folder(new: Path, path: Path) -> None:
    """Put ``new`` in the place of ``path``; an older folder there is moved aside first and put back on failure."""
    if not path.exists():
        os.replace(new, path)
        return
    aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
    os.replace(path, aside / path.name)
    try:
        os.replace(new, path)
    except OSError:
        os.replace(aside / path.name, path)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
