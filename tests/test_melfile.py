"""Mel files: every layout the public tools save is read, and a hostile file costs nothing but a sentence."""

import io
import os
import struct

import numpy as np
import pytest

from fte.constants import LIMITS
from fte.errors import RequestError
from fte.melfile import load_mel, save_mel

M = 80


@pytest.fixture
def mel() -> np.ndarray:
    return np.random.default_rng(0).uniform(-11.5, 2.0, (30, M)).astype(np.float32)


def npy(header: str, data: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    """A .npy file made by hand, so that its header may lie."""
    text = header.encode("latin-1") + b"\n"
    size = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + size + text + data


def claiming(shape: str, descr: str = "'<f4'") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"


# Writing


def test_numpy_reads_what_is_saved(tmp_path, mel):
    save_mel(tmp_path / "a.npy", mel)
    stored = np.load(tmp_path / "a.npy", allow_pickle=False)
    assert stored.dtype == np.dtype("<f4")
    np.testing.assert_array_equal(stored, mel)


def test_the_suffix_may_be_in_capitals_and_stays(tmp_path, mel):
    save_mel(tmp_path / "a.NPY", mel)
    assert [p.name for p in tmp_path.iterdir()] == ["a.NPY"]


@pytest.mark.parametrize(
    ("name", "values", "says"),
    [
        ("a.pt", np.zeros((2, M), np.float32), "must end in .npy"),
        ("a.npy", np.zeros(M, np.float32), "not float32 of shape (80,)"),
        ("a.npy", np.zeros((0, M), np.float32), "not float32 of shape (0, 80)"),
        ("a.npy", np.zeros((2, M), np.int32), "not int32 of shape (2, 80)"),
        ("a.npy", np.full((2, M), np.nan, np.float32), "not finite"),
        ("a.npy", np.full((2, M), 1e300), "not finite"),
    ],
)
def test_what_is_no_mel_is_not_saved(tmp_path, name, values, says):
    with pytest.raises(RequestError) as caught:
        save_mel(tmp_path / name, values)
    assert says in str(caught.value)
    assert list(tmp_path.iterdir()) == []


# Reading


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("layout", ["(T, M)", "(M, T)", "(1, T, M)", "(1, M, T)"])
def test_every_layout_and_width_gives_frames_by_channels(tmp_path, mel, layout, order, dtype):
    stored = mel.T if "(M" in layout or " M, T" in layout else mel
    stored = stored[None] if layout.startswith("(1") else stored
    np.save(tmp_path / "a.npy", np.asarray(stored, dtype, order=order))
    loaded = load_mel(tmp_path / "a.npy", M)
    assert loaded.dtype == np.float32 and loaded.flags.c_contiguous
    np.testing.assert_array_equal(loaded, mel.astype(dtype).astype(np.float32))


def test_a_square_mel_is_taken_as_frames_by_channels(tmp_path):
    square = np.arange(M * M, dtype=np.float32).reshape(M, M) / M
    np.save(tmp_path / "a.npy", square)
    np.testing.assert_array_equal(load_mel(tmp_path / "a.npy", M), square)


def test_the_longer_header_of_numpy_is_read(tmp_path, mel):
    with (tmp_path / "a.npy").open("wb") as handle:
        np.lib.format.write_array(handle, mel, version=(2, 0))
    np.testing.assert_array_equal(load_mel(tmp_path / "a.npy", M), mel)


def test_as_many_frames_as_the_limit_allows_are_read(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((LIMITS.frames, M), np.float16))
    assert load_mel(tmp_path / "a.npy", M).shape == (LIMITS.frames, M)


NO_NPY = "it is no .npy file, which numpy.save writes"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", NO_NPY),
        (b"RIFF....WAVE", NO_NPY),
        (b"PK\x03\x04 an archive", NO_NPY),
        (npy(claiming("(30, 80)"), version=(9, 9)), NO_NPY),
        (npy(claiming("(30, 80)"))[:20], NO_NPY),
        (npy(""), NO_NPY),
        (npy("{"), NO_NPY),
        (npy("(" * 9_000), NO_NPY),
        (npy("-" * 9_000 + "1"), NO_NPY),
        (npy("  '''\n x"), NO_NPY),
        (npy("__import__('os').abort()"), NO_NPY),
        (npy(claiming("(30, 80)", "'no type'")), NO_NPY),
        (npy(claiming("(30, 80)") + " " * 60_000), NO_NPY),
        (npy(claiming("(30, 80)", "'|O'")), "holds object"),
        (npy(claiming("(30, 80)", "'<i4'")), "holds int32"),
        (npy(claiming("(30, 80)", "'<c8'")), "holds complex64"),
        (npy(claiming("(30, 80)", "'<f16'")), "holds float128" if hasattr(np, "float128") else NO_NPY),
        (npy(claiming("(30, 80)", "[('a', '<f4')]")), "holds [('a', '<f4')]"),
        (npy(claiming("()")), "has the shape ()"),
        (npy(claiming("(80,)")), "has the shape (80,)"),
        (npy(claiming("(30, 81)")), "has the shape (30, 81): a mel for this voice must be (frames, 80)"),
        (npy(claiming("(2, 30, 80)")), "has the shape (2, 30, 80)"),
        (npy(claiming("(0, 80)")), "has the shape (0, 80)"),
        (npy(claiming("(-1, 80)")), "has the shape (-1, 80)"),
        (npy(claiming("(1000000000000, 80)")), "has 1000000000000 frames, more than the limit of 10000"),
        (npy(claiming("(80, 10001)")), "has 10001 frames, more than the limit of 10000"),
        (npy(claiming("(30, 80)"), bytes(30 * 80 * 4 - 1)), "ends too early: 9600 bytes of numbers were expected"),
        (npy(claiming("(30, 80)"), bytes(30 * 80 * 4 + 1)), "goes on after its data"),
        (npy(claiming("(1, 80)"), struct.pack("<f", np.nan) * 80), "not finite"),
        (npy(claiming("(1, 80)", "'<f8'"), struct.pack("<d", 1e300) * 80), "not finite"),
    ],
)
@pytest.mark.filterwarnings("ignore:Reading `.npy`")
def test_a_file_that_is_no_mel_is_refused_in_one_sentence(tmp_path, content, says):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(RequestError) as caught:
        load_mel(tmp_path / "a.npy", M)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_nothing_of_a_pickle_is_run(tmp_path):
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    encoded = io.BytesIO()
    np.save(encoded, np.array([[Trap()]]), allow_pickle=True)
    (tmp_path / "a.npy").write_bytes(encoded.getvalue())
    with pytest.raises(RequestError, match="holds object"):
        load_mel(tmp_path / "a.npy", M)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["mel.pt", "mel.PTH"])
def test_a_pytorch_file_is_refused_with_the_way_to_convert_it(tmp_path, name):
    with pytest.raises(RequestError, match=r"numpy\.save\('mel\.npy', torch\.load\('mel\.pt', weights_only=True\)"):
        load_mel(tmp_path / name, M)


@pytest.mark.parametrize(("name", "says"), [("missing.npy", "No such file"), ("", "Is a directory")])
def test_a_file_that_cannot_be_opened_is_a_request_error(tmp_path, name, says):
    with pytest.raises(RequestError, match=f"cannot read .*: {says}"):
        load_mel(tmp_path / name, M)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in the file system")
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.npy")
    with pytest.raises(RequestError, match="a device or a pipe"):
        load_mel(tmp_path / "a.npy", M)
