"""A file or folder appears whole under its name or not at all, and what was there before survives a failure."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fte.errors import RequestError
from fte.files import atomic_file, atomic_folder, claimed

AS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
needs_permissions = pytest.mark.skipif(AS_ROOT, reason="root may write everywhere")


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def only_old_and_new(folder: Path) -> list[str]:
    """Of a folder that holds nothing but the files "old" and "new"; what else is there is a stranger's."""
    found = names(folder)
    if strange := set(found) - {"old", "new"}:
        raise RequestError(f"{strange.pop()} is a stranger's")
    return found


@pytest.fixture(params=["in one step", "in several steps"])
def renaming(request, monkeypatch) -> str:
    """With and without a system that exchanges two names, or renames only to a free one, at once."""
    if request.param == "in several steps":
        monkeypatch.setattr("fte.files._renameat2", lambda: None)
    elif sys.platform != "linux":
        pytest.skip("a call of Linux")
    return request.param


def test_a_file_appears_when_the_block_ends(tmp_path):
    with atomic_file(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
        assert not (tmp_path / "a.txt").exists()
    assert (tmp_path / "a.txt").read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


def test_the_temporary_file_has_the_suffix_and_the_folder_of_the_target(tmp_path):
    with atomic_file(tmp_path / "picture.png") as temporary:
        assert temporary.suffix == ".png"
        assert temporary.parent.samefile(tmp_path)


def test_a_file_is_replaced(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with atomic_file(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a.txt").read_text() == "new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, error):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(error), atomic_file(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise error
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_failed_write_is_a_request_error(tmp_path):
    with pytest.raises(RequestError, match=r"cannot write .*a\.txt: No space left"), atomic_file(tmp_path / "a.txt"):
        raise OSError(28, "No space left on device")
    assert names(tmp_path) == []


def test_a_missing_folder_is_a_request_error(tmp_path):
    with pytest.raises(RequestError, match=r"cannot write .*a\.txt"), atomic_file(tmp_path / "no" / "a.txt"):
        pytest.fail("the block must not run")


@pytest.mark.parametrize("writer", [atomic_file, atomic_folder])
@pytest.mark.parametrize("name", ["n" * 300, "file/below"])
def test_a_path_that_cannot_exist_is_a_request_error(tmp_path, writer, name):
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match="cannot write"), writer(tmp_path / name):
        pytest.fail("the block must not run")


@needs_permissions
def test_a_folder_without_write_permission_is_a_request_error(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(RequestError, match="Permission denied"), atomic_file(tmp_path / "a.txt"):
        pytest.fail("the block must not run")


def test_a_folder_is_not_replaced_by_a_file(tmp_path):
    with pytest.raises(RequestError, match="it is a folder"), atomic_file(tmp_path):
        pytest.fail("the block must not run")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in the file system")
def test_a_pipe_is_not_replaced_by_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RequestError, match="a device or a pipe"), atomic_file(tmp_path / "pipe"):
        pytest.fail("the block must not run")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_link_stays_and_its_target_is_replaced(tmp_path):
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with atomic_file(tmp_path / "link") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"


def test_a_name_as_long_as_the_file_system_allows_is_written(tmp_path):
    path = tmp_path / ("n" * 251 + ".txt")
    with atomic_file(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


def test_a_relative_path_is_written_where_it_was_given(tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    with atomic_file(Path("a.txt")) as temporary:
        monkeypatch.chdir(tmp_path / "other")
        temporary.write_text("new")
    assert (tmp_path / "a.txt").read_text() == "new"


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_permissions_are_those_of_any_new_file_and_folder(tmp_path):
    script = (
        "import os, sys; os.umask(0o027)\n"
        "from pathlib import Path; from fte.files import atomic_file, atomic_folder\n"
        "with atomic_file(Path(sys.argv[1], 'file')): pass\n"
        "with atomic_folder(Path(sys.argv[1], 'folder')): pass\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o750


def test_two_writers_of_one_file_both_finish(tmp_path):
    both_inside = threading.Barrier(2, timeout=10)

    def write(text: str) -> None:
        with atomic_file(tmp_path / "a.txt") as temporary:
            temporary.write_text(text)
            both_inside.wait()

    threads = [threading.Thread(target=write, args=(text,)) for text in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "a.txt").read_text() in ("one", "two")
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_appears_when_the_block_ends(tmp_path):
    with atomic_folder(tmp_path / "voice") as temporary:
        (temporary / "manifest.json").write_text("{}")
        assert not (tmp_path / "voice").exists()
    assert names(tmp_path / "voice") == ["manifest.json"]
    assert names(tmp_path) == ["voice"]


def test_a_folder_that_exists_is_kept_unless_asked(tmp_path):
    (tmp_path / "voice").mkdir()
    with pytest.raises(RequestError, match="exists already"), atomic_folder(tmp_path / "voice"):
        pytest.fail("the block must not run")


def test_a_folder_is_overwritten_as_a_whole(tmp_path, renaming):
    (tmp_path / "voice").mkdir()
    (tmp_path / "voice" / "old").touch()
    with atomic_folder(tmp_path / "voice", own=only_old_and_new, overwrite=True) as temporary:
        (temporary / "new").touch()
    assert names(tmp_path / "voice") == ["new"]
    assert names(tmp_path) == ["voice"]


def test_a_failure_leaves_the_old_folder_and_nothing_else(tmp_path):
    (tmp_path / "voice").mkdir()
    (tmp_path / "voice" / "old").touch()
    with (
        pytest.raises(ValueError),
        atomic_folder(tmp_path / "voice", own=only_old_and_new, overwrite=True) as temporary,
    ):
        (temporary / "half").touch()
        raise ValueError
    assert names(tmp_path / "voice") == ["old"]
    assert names(tmp_path) == ["voice"]


def fail_to_rename(monkeypatch: pytest.MonkeyPatch, name: str, times: int) -> None:
    """Let renaming to ``name`` fail, so many times, on a system that exchanges no names."""
    rename, left = Path.rename, [times]

    def flaky(self: Path, target: Path) -> Path:
        if target.name == name and left[0]:
            left[0] -= 1
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr("fte.files._renameat2", lambda: None)
    monkeypatch.setattr(Path, "rename", flaky)


def overwrite_voice(folder: Path) -> None:
    with atomic_folder(folder / "voice", own=only_old_and_new, overwrite=True) as temporary:
        (temporary / "new").touch()


def test_the_old_folder_is_put_back_when_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    (tmp_path / "voice").mkdir()
    (tmp_path / "voice" / "old").touch()
    fail_to_rename(monkeypatch, "voice", times=1)
    with pytest.raises(RequestError, match=r"cannot write .*voice"):
        overwrite_voice(tmp_path)
    assert names(tmp_path / "voice") == ["old"]
    assert names(tmp_path) == ["voice"]


def test_the_old_folder_is_never_deleted_when_it_cannot_be_put_back(tmp_path, monkeypatch):
    (tmp_path / "voice").mkdir()
    (tmp_path / "voice" / "old").touch()
    fail_to_rename(monkeypatch, "voice", times=2)
    with pytest.raises(RequestError):
        overwrite_voice(tmp_path)
    assert [names(entry) for entry in tmp_path.iterdir()] == [["old"]]
    with atomic_folder(tmp_path / "other", own=only_old_and_new):
        pass
    assert ["old"] in [names(entry) for entry in tmp_path.iterdir()]


def test_a_file_is_not_replaced_by_a_folder(tmp_path):
    (tmp_path / "voice").write_text("precious")
    with pytest.raises(RequestError, match="it is a file"), atomic_folder(tmp_path / "voice", overwrite=True):
        pytest.fail("the block must not run")


def test_a_folder_with_a_missing_parent_is_a_request_error(tmp_path):
    with pytest.raises(RequestError, match="cannot write"), atomic_folder(tmp_path / "no" / "voice"):
        pytest.fail("the block must not run")


def test_a_failed_write_into_a_folder_is_a_request_error(tmp_path):
    with pytest.raises(RequestError, match="No space left"), atomic_folder(tmp_path / "voice"):
        raise OSError(28, "No space left on device")
    assert names(tmp_path) == []


# What appears while something is being written.


def put_folder(path: Path) -> None:
    path.mkdir()
    (path / "thesis").write_text("years of work")


APPEARING = {
    "folder": put_folder,
    "empty folder": Path.mkdir,
    "file": lambda path: path.write_text("years of work"),
    "link": lambda path: path.symlink_to(path.parent),
    "dangling link": lambda path: path.symlink_to("nowhere"),
}


def seen(path: Path) -> object:
    """What is at a path, to compare."""
    if path.is_symlink():
        return path.readlink()
    return path.read_text() if path.is_file() else {entry.name: seen(entry) for entry in path.iterdir()}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("appearing", APPEARING)
def test_what_appears_at_the_name_of_a_folder_stays(appearing, overwrite, renaming, tmp_path):
    if overwrite and appearing == "empty folder":
        return  # nothing is lost when that is replaced
    voice = tmp_path / "voice"
    with (
        pytest.raises(RequestError),
        atomic_folder(voice, own=only_old_and_new, overwrite=overwrite) as temporary,
    ):
        (temporary / "new").touch()
        APPEARING[appearing](voice)
        before = seen(voice)
    assert seen(voice) == before
    assert names(tmp_path) == ["voice"]


@pytest.mark.parametrize("appearing", APPEARING)
def test_what_appears_in_the_last_moment_stays(appearing, renaming, tmp_path, monkeypatch):
    """After the last look at the name, and before it is taken."""
    voice = tmp_path / "voice"
    monkeypatch.setattr("fte.files._check_folder", lambda *_: [])
    monkeypatch.setattr("fte.files._mode", lambda _path: None)
    with pytest.raises(RequestError, match="exists already"), atomic_folder(voice) as temporary:
        (temporary / "new").touch()
        APPEARING[appearing](voice)
        before = seen(voice)
    assert seen(voice) == before
    assert names(tmp_path) == ["voice"]


@pytest.mark.parametrize("look", [1, 2, 3])
def test_a_strangers_file_in_a_folder_to_overwrite_is_never_lost(look, renaming, tmp_path):
    """It comes right before one of the looks: at the start, at the end, at what was moved aside."""
    voice, looks = tmp_path / "voice", []
    voice.mkdir()
    (voice / "old").touch()

    def own(folder: Path) -> list[str]:
        looks.append(folder)
        if len(looks) == look:
            (folder / "thesis").write_text("years of work")
        return only_old_and_new(folder)

    with (
        pytest.raises(RequestError, match="thesis is a stranger's"),
        atomic_folder(voice, own=own, overwrite=True) as temporary,
    ):
        (temporary / "new").touch()
    assert seen(voice) == {"old": "", "thesis": "years of work"}
    assert names(tmp_path) == ["voice"]


def test_what_comes_after_the_last_look_is_not_deleted(renaming, tmp_path):
    voice, looks = tmp_path / "voice", []
    voice.mkdir()
    (voice / "old").touch()

    def own(folder: Path) -> list[str]:
        looks.append(folder)
        found = only_old_and_new(folder)
        if len(looks) == 3:
            (folder / "thesis").write_text("years of work")
        return found

    with atomic_folder(voice, own=own, overwrite=True) as temporary:
        (temporary / "new").touch()
    assert seen(voice) == {"new": ""}
    assert [seen(path) for path in tmp_path.iterdir() if path != voice] == [{"thesis": "years of work"}]


@pytest.mark.parametrize("appearing", ["folder", "link", "dangling link"])
def test_what_appears_at_the_name_of_a_file_stays(appearing, tmp_path):
    with pytest.raises(RequestError, match="cannot write"), atomic_file(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
        APPEARING[appearing](tmp_path / "a.txt")
        before = seen(tmp_path / "a.txt")
    assert seen(tmp_path / "a.txt") == before
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("when", ["before", "meanwhile", "in the last moment"])
def test_a_file_that_must_not_be_replaced_stays(when, renaming, tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    if when == "before":
        path.write_text("old")
    if when == "in the last moment":
        monkeypatch.setattr("fte.files._check_file", lambda *_: None)
    with pytest.raises(RequestError, match="exists already"), atomic_file(path, overwrite=False) as temporary:
        assert when != "before"
        temporary.write_text("new")
        path.write_text("old")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


# Claims, and what the dead leave.


def test_a_folder_that_is_being_written_is_refused_to_others(tmp_path):
    with atomic_folder(tmp_path / "voice") as temporary:
        (temporary / "first").touch()
        with (
            pytest.raises(RequestError, match="is being written by another process"),
            atomic_folder(tmp_path / "voice", own=only_old_and_new, overwrite=True),
        ):
            pytest.fail("the block must not run")
        with atomic_folder(tmp_path / "other"):  # beside it, and leaves it alone
            pass
    assert names(tmp_path) == ["other", "voice"]
    assert names(tmp_path / "voice") == ["first"]


def test_a_claim_can_be_waited_for(tmp_path):
    order = []

    def second() -> None:
        with claimed(tmp_path / "voice", wait=True):
            order.append("second")

    with claimed(tmp_path / "voice"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert names(tmp_path) == []


DIES = """
import os, signal, sys
from pathlib import Path
from fte.files import atomic_file, atomic_folder
folder = Path(sys.argv[1])
with atomic_folder(folder / "voice") as voice, atomic_file(folder / "a.wav") as sound:
    (voice / "half").touch()
    sound.write_text("half")
    if sys.argv[2] == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    print("ready", flush=True)
    sys.stdin.read()
"""


def writer(folder: Path, fate: str) -> subprocess.Popen[str]:
    """A process in the middle of writing a folder and a file."""
    command = [sys.executable, "-c", DIES, str(folder), fate]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.skipif(os.name != "posix", reason="POSIX locks")
def test_leftovers_of_the_dead_are_removed_and_those_of_the_living_stay(tmp_path):
    with writer(tmp_path, "dies") as dead:
        pass
    assert dead.returncode == -9
    (tmp_path / ".fte-0123456789abcdef.new").mkdir()  # from before there were locks
    (tmp_path / ".fte-fedcba9876543210.lock").touch()
    assert len(names(tmp_path)) == 5
    with atomic_folder(tmp_path / "other"):
        assert len(names(tmp_path)) == 2  # its own
    assert names(tmp_path) == ["other"]
    with writer(tmp_path, "lives") as living:
        living.stdout.readline()
        there = names(tmp_path)
        with atomic_folder(tmp_path / "third"):
            pass
        assert names(tmp_path) == sorted([*there, "third"])
        living.communicate("")
    assert names(tmp_path) == ["a.wav", "other", "third", "voice"]


def test_the_folder_of_a_dead_writer_is_made_anew(tmp_path):
    with writer(tmp_path, "dies"):
        pass
    with atomic_folder(tmp_path / "voice") as temporary:
        (temporary / "new").touch()
    assert names(tmp_path) == ["voice"]
    assert names(tmp_path / "voice") == ["new"]


def test_what_a_dead_writer_moved_aside_is_removed_only_where_it_may_be(tmp_path):
    from fte.files import _key

    for name, content in (("mine", "old"), ("theirs", "thesis"), ("gone", "old")):
        aside = tmp_path / f".fte-{_key(name)}.old"
        aside.mkdir()
        (aside / content).touch()
        if name != "gone":
            (tmp_path / name).mkdir()
    with atomic_folder(tmp_path / "voice", own=only_old_and_new):
        pass
    left = {name for name in ("mine", "theirs", "gone") if (tmp_path / f".fte-{_key(name)}.old").exists()}
    assert left == {"theirs", "gone"}
    with (
        pytest.raises(RequestError, match="look at it and move it away"),
        atomic_folder(tmp_path / "theirs", own=only_old_and_new, overwrite=True),
    ):
        pytest.fail("the block must not run")


def test_a_file_system_without_locks_is_written_all_the_same(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    (tmp_path / ".fte-0123456789abcdef.new").mkdir()
    with atomic_folder(tmp_path / "voice") as temporary:
        (temporary / "new").touch()
    with atomic_file(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
    assert names(tmp_path) == [".fte-0123456789abcdef.new", "a.txt", "voice"]  # nobody can tell whose that is
