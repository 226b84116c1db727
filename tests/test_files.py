"""A file or folder appears whole under its name or not at all, and what was there before survives a failure."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fte.errors import RequestError
from fte.files import atomic_file, atomic_folder

AS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
needs_permissions = pytest.mark.skipif(AS_ROOT, reason="root may write everywhere")


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


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


def test_a_folder_is_overwritten_as_a_whole(tmp_path):
    (tmp_path / "voice").mkdir()
    (tmp_path / "voice" / "old").touch()
    with atomic_folder(tmp_path / "voice", overwrite=True) as temporary:
        (temporary / "new").touch()
    assert names(tmp_path / "voice") == ["new"]
    assert names(tmp_path) == ["voice"]


def test_a_failure_leaves_the_old_folder_and_nothing_else(tmp_path):
    (tmp_path / "voice").mkdir()
    (tmp_path / "voice" / "old").touch()
    with pytest.raises(ValueError), atomic_folder(tmp_path / "voice", overwrite=True) as temporary:
        (temporary / "half").touch()
        raise ValueError
    assert names(tmp_path / "voice") == ["old"]
    assert names(tmp_path) == ["voice"]


def fail_to_rename(monkeypatch: pytest.MonkeyPatch, *forbidden: str) -> None:
    """Let renaming fail for sources with one of these suffixes."""
    replace = Path.replace

    def flaky(self: Path, target: Path) -> Path:
        if self.suffix in forbidden:
            raise OSError(5, "Input/output error")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", flaky)


def test_the_old_folder_is_put_back_when_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    (tmp_path / "voice").mkdir()
    (tmp_path / "voice" / "old").touch()
    fail_to_rename(monkeypatch, ".new")
    with pytest.raises(RequestError, match=r"cannot write .*voice"), atomic_folder(tmp_path / "voice", overwrite=True):
        pass
    assert names(tmp_path / "voice") == ["old"]
    assert names(tmp_path) == ["voice"]


def test_the_old_folder_is_never_deleted_when_it_cannot_be_put_back(tmp_path, monkeypatch):
    (tmp_path / "voice").mkdir()
    (tmp_path / "voice" / "old").touch()
    fail_to_rename(monkeypatch, ".new", ".old")
    with pytest.raises(RequestError), atomic_folder(tmp_path / "voice", overwrite=True):
        pass
    assert [names(entry) for entry in tmp_path.iterdir()] == [["old"]]


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
