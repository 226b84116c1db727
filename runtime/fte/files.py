"""Atomic writes: a file or folder appears whole under its name, or not at all, and takes nobody else's place.

What is being written has a hidden name `.fte-KEY...` in the folder of its target. A lock tells whether its writer is
alive: it goes with the process, however that ends, so that what a killed writer left can be removed.
"""

import contextlib
import ctypes
import errno
import functools
import hashlib
import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from fte import interruption
from fte.errors import FteError, OutputError

try:
    import fcntl
except ImportError:  # not a system that has it
    HAS_LOCKS = False
else:
    HAS_LOCKS = True

Own = Callable[[Path], Iterable[str]]
"""Gives the names of all that a folder holds, where all of it may be deleted; raises FteError where not."""

_HIDDEN = re.compile(r"\.fte-([0-9a-f]{16})(\.[^.]*)?")
_NOREPLACE, _EXCHANGE = 1, 2  # flags of renameat2 in Linux
_AT_FDCWD = -100

_swept: set[Path] = set()
"""Folders whose leftovers this process has removed before it wrote files there."""


def cache_folder() -> Path:
    """Where what can be made again is kept: $XDG_CACHE_HOME/fte, or ~/.cache/fte."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fte"


@contextlib.contextmanager
def atomic_file(path: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Yield the path of an empty file beside ``path``; rename it to ``path`` when the block ends without an exception.

    The temporary name keeps the suffix, because writers of sound and pictures choose their format by it. A link is
    followed: what it points at is replaced, and the link stays.
    Raises OutputError when ``path`` is there and no plain file (a folder, a device) or, without ``overwrite``, anything
    at all, and when it cannot be written.
    """
    target = _target(path)
    temporary, lock = _hidden(target, secrets.token_hex(8), target.suffix), -1
    with _refusal(path):
        _check_file(target, path, overwrite)
        if target.parent not in _swept:
            _swept.add(target.parent)
            _sweep(target.parent)
        try:
            lock = _created(temporary)
            yield temporary
            interruption.check()
            _check_file(target, path, overwrite)
            if overwrite:
                temporary.replace(target)
            else:
                _rename_to_free(temporary, target, path)
        finally:
            temporary.unlink(missing_ok=True)
            _close(lock)


@contextlib.contextmanager
def atomic_folder(path: Path, *, own: Own | None = None, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty folder beside ``path``; rename it to ``path`` when the block ends without an exception.

    ``path`` is claimed for as long as that takes. With ``overwrite`` the folder takes the place of one of which ``own``
    says that all of it may be deleted, at the start and again at the end.
    Raises OutputError when another process is writing ``path``, when ``path`` is a file, when it exists, or appears
    meanwhile, and may not be replaced, and when it cannot be written.
    """
    target, replaceable = _target(path), own if overwrite else None
    with _refusal(path), claimed(path) as key:
        _check_folder(target, path, replaceable)
        _sweep(target.parent, own, key)
        temporary, aside = (_hidden(target, key, suffix) for suffix in (".new", ".old"))
        if _mode(aside) is not None:
            raise OutputError(f"cannot write {path}: a killed run moved {aside} aside, so look at it and move it away")
        try:
            temporary.mkdir()
            yield temporary
            interruption.check()
            with interruption.held_back():
                _put(temporary, target, path, replaceable)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def claimed(path: Path, *, wait: bool = False) -> Iterator[str]:
    """Be the only process that writes ``path``; yield the key of its hidden names.

    Raises OutputError, unless it should ``wait``, where another process has claimed it, and where nothing can be
    written beside it. On file systems without locks nobody can claim anything; the key is then one of a kind.
    """
    target = _target(path)
    key = _key(target.name)
    with _refusal(path):
        lock, locked = _claim(target.parent, key, wait=wait)
    try:
        if lock is None:
            raise OutputError(f"{path} is being written by another process: let it end, or choose another name")
        yield key if locked else secrets.token_hex(8)
    finally:
        _release(target.parent, key, lock)


def lock_file(descriptor: int, *, wait: bool = False) -> bool:
    """Lock an open file until it is closed or the process ends; False where somebody else has it.

    Raises OSError where the file system has no locks.
    """
    if not HAS_LOCKS:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is still the one at ``path``, not deleted nor replaced."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


# Claims and leftovers


def _claim(folder: Path, key: str, *, wait: bool = False) -> tuple[int | None, bool]:
    """The open lock file of a key, None where another process has it; and whether it is locked."""
    path = folder / f".fte-{key}.lock"
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            if not lock_file(lock, wait=wait):
                os.close(lock)
                return None, False
        except OSError:
            return lock, False
        except BaseException:
            os.close(lock)
            raise
        if is_at(lock, path):  # not removed by who had it before
            return lock, True
        os.close(lock)


def _release(folder: Path, key: str, lock: int | None) -> None:
    if lock is not None:
        with contextlib.suppress(OSError):
            (folder / f".fte-{key}.lock").unlink()
        os.close(lock)


def _created(path: Path) -> int:
    """Create an empty file and lock it; the open file, or -1 where the system has no locks."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        if not HAS_LOCKS:  # where an open file cannot be renamed either
            os.close(file)
            return -1
        with contextlib.suppress(OSError):
            lock_file(file, wait=True)
        if is_at(file, path):  # not removed as a leftover before it was locked
            return file
        os.close(file)


def _close(file: int) -> None:
    if file >= 0:
        os.close(file)


def _sweep(folder: Path, own: Own | None = None, claimed_key: str = "") -> None:
    """Remove what writers that are no longer alive left in ``folder``."""
    if not HAS_LOCKS:
        return
    names: list[str] = []
    with contextlib.suppress(OSError):
        names = [path.name for path in folder.iterdir()]
    hidden = [found for name in names if (found := _HIDDEN.fullmatch(name))]
    keys = {_key(name) for name in names} if hidden else set()
    for found in hidden:
        path, key = folder / found[0], found[1]
        with contextlib.suppress(OSError):
            if found[2] == ".lock" or stat.S_ISDIR(os.lstat(path).st_mode):
                _sweep_key(folder, key, own if key in keys else None, is_claimed=key == claimed_key)
            else:
                _sweep_file(path)


def _sweep_key(folder: Path, key: str, own: Own | None, *, is_claimed: bool) -> None:
    """Remove the folders of a key that nobody else has claimed.

    What was moved aside is removed only with ``own``: where there is something in its place, and when it may be.
    """
    lock, locked = (None, True) if is_claimed else _claim(folder, key)
    try:
        if not locked:
            return
        new, aside = (folder / f".fte-{key}{suffix}" for suffix in (".new", ".old"))
        if _mode(new) is not None:
            shutil.rmtree(new, ignore_errors=True)
        if own is not None and _mode(aside) is not None:
            with contextlib.suppress(FteError):
                _remove(aside, own(aside))
    finally:
        _release(folder, key, lock)


def _sweep_file(path: Path) -> None:
    file = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        if lock_file(file) and is_at(file, path) and stat.S_ISREG(os.fstat(file).st_mode):
            path.unlink()
    finally:
        os.close(file)


# Into place


def _check_file(target: Path, path: Path, overwrite: bool) -> None:
    """Raise OutputError where ``target`` is there and may not be replaced by a file."""
    mode = _mode(target)
    if mode is None:
        return
    if stat.S_ISDIR(mode):
        raise OutputError(f"cannot write {path}: it is a folder")
    if stat.S_ISLNK(mode):
        raise OutputError(f"cannot write {path}: it has become a link meanwhile")
    if not stat.S_ISREG(mode):
        raise OutputError(f"cannot write {path}: it is a device or a pipe, which no file can replace")
    if not overwrite:
        raise _exists(path)


def _check_folder(target: Path, path: Path, own: Own | None) -> Iterable[str]:
    """What may be deleted in ``target``. Raises OutputError where it is there and no folder may replace it, or ``own``
    raises.
    """
    mode = _mode(target)
    if mode is None:
        return ()
    if not stat.S_ISDIR(mode):
        raise OutputError(f"cannot write {path}: it is a file")
    if own is None:
        raise _exists(path)
    return own(target)


def _put(new: Path, target: Path, path: Path, own: Own | None) -> None:
    """Give a folder its name, in the place of an older one only where ``own`` says that all of that may be deleted."""
    _check_folder(target, path, own)
    if _mode(target) is None:
        _rename_to_free(new, target, path)
        return
    aside = new.with_suffix(".old")
    new.rename(aside)  # should the process die now, the one that is moved aside has this name
    new_is_aside = True
    try:
        _exchange(aside, target, path)
        new_is_aside = False
        names = _check_folder(aside, path, own)
    except BaseException:
        if not new_is_aside:  # what came out is not what was looked at before
            _exchange(aside, target, path)
        aside.rename(new)
        raise
    _remove(aside, names)


def _remove(folder: Path, names: Iterable[str]) -> None:
    """Delete these files and the folder, unless there is more in it by now."""
    for name in names:
        with contextlib.suppress(OSError):
            (folder / name).unlink()
    with contextlib.suppress(OSError):
        folder.rmdir()


def _exchange(a: Path, b: Path, path: Path) -> None:
    """Let two folders change their names; at once where the system can."""
    if _rename_by_flag(a, b, _EXCHANGE):
        return
    aside = _hidden(b, secrets.token_hex(8), ".old")
    b.rename(aside)
    try:
        _rename_to_free(a, b, path)
    except BaseException:
        _rename_to_free(aside, b, path)
        raise
    aside.rename(a)


def _rename_to_free(source: Path, target: Path, path: Path) -> None:
    """Rename where nothing has the new name. Raises OutputError where something has, an empty folder included."""
    try:
        if not _rename_by_flag(source, target, _NOREPLACE):
            (_folder_to_free if source.is_dir() else _file_to_free)(source, target)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise _exists(path) from error
        raise


def _folder_to_free(source: Path, target: Path) -> None:
    """An empty folder takes the name first: that fails where anything has it, and a folder may replace it."""
    target.mkdir()
    try:
        source.rename(target)
    except BaseException:
        with contextlib.suppress(OSError):
            target.rmdir()
        raise


def _file_to_free(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError as error:  # a file system without links
        if _mode(target) is not None:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from error
        source.rename(target)


def _rename_by_flag(source: Path, target: Path, flag: int) -> bool:
    """Linux's renameat2; False where the system or the file system has no such thing."""
    call = _renameat2()
    if call is None:
        return False
    if call(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), flag) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(source), None, str(target))


@functools.cache
def _renameat2() -> Callable[..., int] | None:
    if sys.platform != "linux":
        return None
    found: Callable[..., int] | None = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    return found


# Names and errors


def _target(path: Path) -> Path:
    """``path`` as an absolute path without links, which also stays the same if the working folder changes."""
    return Path(os.path.realpath(path))


def _hidden(target: Path, key: str, suffix: str) -> Path:
    """A hidden name in the folder of ``target``, short whatever the length of the name of ``target``."""
    return target.parent / f".fte-{key}{suffix}"


def _key(name: str) -> str:
    """What the hidden names beside ``name`` are known by."""
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:16]


def _mode(path: Path) -> int | None:
    """The type and permissions of what is at ``path`` itself, a link not followed; None where there is nothing."""
    try:
        return os.lstat(path).st_mode
    except FileNotFoundError:
        return None


def _exists(path: Path) -> OutputError:
    return OutputError(f"{path} exists already: choose another name, or --overwrite it")


@contextlib.contextmanager
def _refusal(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
