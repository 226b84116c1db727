"""Style files: what is saved comes back, and a hostile file costs nothing but a sentence."""

import dataclasses
import json
import os
import struct

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from fte.errors import RequestError
from fte.style.style import MAX_FILE_BYTES, ReferenceNote, Style, load_style, save_style

VOICE, OTHER_VOICE = "1a2b" * 16, "3c4d" * 16
M = 80


def style(**changes) -> Style:
    rng = np.random.default_rng(0)
    fields = {
        "name": "happy",
        "mean": rng.normal(size=M).astype(np.float32),
        "spread": rng.uniform(0.5, 1, M).astype(np.float32),
        "utterance_spread": rng.uniform(0, 0.5, M).astype(np.float32),
        "sigma": 0.5,
        "voice_hash": VOICE,
        "speaker": 0,
        "aggregation": "time_and_batch",
        "lam": 1e-4,
        "references": (ReferenceNote("a.wav", "0" * 64, 31, "happy"), ReferenceNote("ü.flac", "f" * 64, 7, None)),
    }
    return Style(**{**fields, **changes})


# The object


def test_the_arrays_of_a_style_are_copies_that_cannot_be_written_to():
    mean = np.zeros(M, np.float32)
    made = style(mean=mean)
    mean[0] = 1
    assert made.mean[0] == 0
    with pytest.raises(ValueError, match="read-only"):
        made.mean[0] = 2


def test_one_vector_stands_in_every_frame():
    made = style()
    assert made.frames(3).shape == (3, M)
    for row in made.frames(3):
        np.testing.assert_array_equal(row, made.mean)


def test_the_frames_of_a_batch_mean_are_repeated_and_cut():
    rows = np.arange(3 * M, dtype=np.float32).reshape(3, M) / M
    frames = style(mean=rows, aggregation="batch").frames(7)
    np.testing.assert_array_equal(frames[:, 0], np.array([0, 1, 2, 0, 1, 2, 0]))
    np.testing.assert_array_equal(style(mean=rows, aggregation="batch").frames(2), rows[:2])


@pytest.mark.parametrize("count", [0, -1, 10_001])
def test_a_style_over_too_few_or_many_frames_is_refused(count):
    with pytest.raises(RequestError, match=f"over {count} frames: give 1 to 10000"):
        style().frames(count)


def test_all_faults_of_a_style_are_named_at_once():
    with pytest.raises(RequestError) as caught:
        style(name="a/b", spread=np.full(M, -1, np.float32), sigma=11, speaker=-1)
    assert all(name in str(caught.value) for name in ("name is 'a/b'", "spread has values below 0", "sigma", "speaker"))


# What is saved comes back


@pytest.mark.parametrize("changes", [{}, {"speaker": None}, {"mean": np.ones((9, M), np.float32)}], ids=str)
def test_a_style_comes_back_as_it_was_saved(tmp_path, changes):
    if "mean" in changes:
        changes = {**changes, "aggregation": "batch"}
    saved = style(**changes)
    save_style(tmp_path / "happy.safetensors", saved)
    loaded = load_style(tmp_path / "happy.safetensors", VOICE)
    for field in dataclasses.fields(Style):
        np.testing.assert_array_equal(getattr(loaded, field.name), getattr(saved, field.name), err_msg=field.name)
        assert type(getattr(loaded, field.name)) is type(getattr(saved, field.name))


def test_numbers_of_numpy_are_saved_as_numbers(tmp_path):
    save_style(tmp_path / "a.safetensors", style(sigma=np.float32(0.25), speaker=np.int64(2)))
    loaded = load_style(tmp_path / "a.safetensors")
    assert (loaded.sigma, loaded.speaker) == (0.25, 2)


def test_any_reader_of_safetensors_finds_the_numbers_and_the_references(tmp_path):
    save_style(tmp_path / "a.safetensors", style())
    with safetensors.safe_open(tmp_path / "a.safetensors", framework="np") as file:
        np.testing.assert_array_equal(file.get_tensor("spread"), style().spread)
        fields = json.loads(file.metadata()["style"])
    assert fields["voice_hash"] == VOICE
    assert fields["references"][0] == {"name": "a.wav", "sha256": "0" * 64, "frames": 31, "label": "happy"}


def test_a_style_of_two_hundred_recordings_takes_less_than_64_kib(tmp_path):
    """As many as RAVDESS has of one emotion: 24 actors, 2 statements, 2 intensities, 2 repetitions."""
    notes = tuple(ReferenceNote(f"03-01-03-02-01-02-{i:02}.wav", f"{i:064x}", 200, "happy") for i in range(192))
    save_style(tmp_path / "a.safetensors", style(references=notes))
    assert (tmp_path / "a.safetensors").stat().st_size < 64 << 10


def test_a_failed_save_leaves_nothing(tmp_path):
    with pytest.raises(RequestError, match=r"must end in \.safetensors"):
        save_style(tmp_path / "a.npz", style())
    assert list(tmp_path.iterdir()) == []


# What is refused


def test_a_style_of_another_voice_is_refused_by_name(tmp_path):
    save_style(tmp_path / "happy.safetensors", style())
    with pytest.raises(RequestError) as caught:
        load_style(tmp_path / "happy.safetensors", OTHER_VOICE)
    assert str(caught.value).startswith("happy.safetensors belongs to voice 1a2b1a2b1a2b, this is 3c4d3c4d3c4d")


GOOD_FIELDS = {
    "name": "happy",
    "sigma": 0.5,
    "voice_hash": VOICE,
    "speaker": 0,
    "aggregation": "time_and_batch",
    "lam": 1e-4,
    "references": [{"name": "a.wav", "sha256": "0" * 64, "frames": 31, "label": None}],
}
GOOD_TENSORS = {name: np.ones(4, np.float32) for name in ("mean", "spread", "utterance_spread")}
ABSENT = object()


def without(values: dict, **changes) -> dict:
    return {k: v for k, v in {**values, **changes}.items() if v is not ABSENT}


def file_of(tensors=GOOD_TENSORS, fields=GOOD_FIELDS, **metadata) -> bytes:
    text = fields if isinstance(fields, str) else json.dumps(fields)
    known = {"format": "fte-style", "version": "1", "style": text}
    return safetensors.numpy.save(tensors, without(known, **metadata))


def with_header(header: object, data: bytes = b"") -> bytes:
    """A safetensors file made by hand, so that its header may lie."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def field(**changes) -> bytes:
    return file_of(fields=without(GOOD_FIELDS, **changes))


def tensor(**changes) -> bytes:
    return file_of(without(GOOD_TENSORS, **changes))


def note(**changes) -> bytes:
    return field(references=[without(GOOD_FIELDS["references"][0], **changes)])


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


META = {"format": "fte-style", "version": "1", "style": json.dumps(GOOD_FIELDS)}
SPEC = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}


def test_the_file_that_the_hostile_ones_are_made_from_is_read(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(file_of())
    assert load_style(tmp_path / "a.safetensors").name == "happy"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "it is no safetensors file"),
        (b"RIFF....WAVE", "it is no safetensors file"),
        (struct.pack("<Q", 1 << 63) + b"{}", "it is no safetensors file"),
        (file_of()[:60], "it is no safetensors file"),
        (file_of()[:-1], "it is damaged"),
        (file_of() + b"more", "it is damaged"),
        (with_header(b"\xff\xfe"), "it is no safetensors file"),
        (with_header(b"[" * 100_000), "its header is not valid JSON"),
        (with_header([]), "JSON but no object"),
        (with_header({}), "something else than a style"),
        (with_header({"__metadata__": 3}), "something else than a style"),
        (with_header({"__metadata__": META, "mean": 3, "spread": SPEC, "utterance_spread": SPEC}), "mean should be"),
        (
            with_header({"__metadata__": META, **{n: {**SPEC, "data_offsets": [0, 1 << 50]} for n in GOOD_TENSORS}}),
            "it is damaged",
        ),
        (with_header({"__metadata__": META, **dict.fromkeys(GOOD_TENSORS, SPEC)}, bytes(16)), "it is damaged"),
        (
            with_header({"__metadata__": META, **{n: {**SPEC, "shape": [0, 1 << 47, 1 << 47]} for n in GOOD_TENSORS}}),
            "it is damaged",
        ),
        (with_header(b'{"mean": 1, "mean": 2}'), "the key 'mean' stands twice in one object"),
        (with_header(b"[" + b'{"":0},' * 1_000_000 + b"0]"), "it has more than 500000 values"),
        (file_of(fields='{"sigma": 1, "sigma": 2}'), "the key 'sigma' stands twice in one object"),
        (file_of(format="else"), "something else than a style"),
        (file_of(version="2"), "it has version '2' and this fte reads version 1"),
        (file_of(version=ABSENT), "it has version None"),
        (file_of(style=ABSENT), "its metadata should be JSON and is missing"),
        (file_of(fields="{"), "its metadata is not valid JSON"),
        (file_of(fields="[]"), "its metadata is JSON but no object"),
        (field(sigma=float("nan")), "its metadata is not valid JSON"),
        (field(sigma=ABSENT, lam=ABSENT, more=1), "its metadata lack sigma, lam and have 'more' besides"),
        (tensor(spread=ABSENT), "its tensors lack spread"),
        (tensor(extra=ones(1)), "its tensors have 'extra' besides"),
        (tensor(mean=np.ones(4)), "mean should be tensors of float32"),
        (tensor(mean=np.ones(4, np.int32)), "mean should be tensors of float32"),
        (tensor(mean=ones(3)), "spread has shape (4,), not (3,)"),
        (tensor(mean=ones(2, 4)), "mean has shape (2, 4), not (M)"),
        (tensor(mean=ones()), "mean has shape (), not (M)"),
        (tensor(mean=ones(0)), "mean has shape (0,)"),
        (tensor(**{n: ones(5000) for n in GOOD_TENSORS}), "mean has shape (5000,)"),
        (file_of({**GOOD_TENSORS, "mean": ones(10_001, 4)}, {**GOOD_FIELDS, "aggregation": "batch"}), "10001 frames"),
        (tensor(mean=ones(4) * np.nan), "mean has values that are not finite"),
        (tensor(utterance_spread=ones(4) * np.inf), "utterance_spread has values that are not finite"),
        (tensor(spread=-ones(4)), "spread has values below 0"),
        (field(name=3), "name is 3"),
        (field(name="../happy"), "name is '../happy'"),
        (field(name="x" * 65), "name is 'xxxx"),
        (field(voice_hash="1a2b"), "voice_hash is '1a2b', not 64 hexadecimal digits"),
        (field(sigma="0.5"), "sigma is '0.5', not a number"),
        (field(sigma=-1), "sigma is -1"),
        (field(sigma=True), "sigma is True"),
        (field(lam=10**300), "lam is a value too long to show"),
        (field(speaker=0.5), "speaker is 0.5, not a whole number"),
        (field(speaker=-1), "speaker is -1"),
        (field(speaker=False), "speaker is False"),
        (field(aggregation=["batch"]), "aggregation is a value too long to show"),
        (field(references=None), "references are not a list"),
        (field(references=[3]), "references[0] is not a name, sha256, frames and label"),
        (field(references=[{"name": "a"}]), "references[0] is not a name, sha256, frames and label"),
        (note(name="\x1b[31m"), "references[0].name is '\\x1b[31m'"),
        (note(label=["happy"]), "references[0].label is a value too long"),
        (note(sha256=3), "references[0].sha256 is 3"),
        (note(frames=0), "references[0].frames is 0"),
        (field(references=[3] * 10_001), "references are not a list of at most 10000"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # safetensors orders its keys anew each time
)
def test_a_file_that_is_no_style_is_refused_in_one_sentence(tmp_path, content, says):
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(RequestError) as caught:
        load_style(tmp_path / "a.safetensors")
    message = str(caught.value)
    assert says in message and "a.safetensors" in message
    assert "\n" not in message and len(message) < 1_000 + len(str(tmp_path))


def test_all_faults_of_a_file_are_named_at_once(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(field(sigma=-1, lam="x", speaker=True))
    with pytest.raises(RequestError, match=r"sigma is -1.*; lam is 'x'.*; speaker is True"):
        load_style(tmp_path / "a.safetensors")


def test_a_file_larger_than_any_style_is_not_read_whole(tmp_path):
    with (tmp_path / "a.safetensors").open("wb") as handle:
        handle.truncate(MAX_FILE_BYTES + (1 << 30))
    with pytest.raises(RequestError, match=f"larger than {MAX_FILE_BYTES} bytes"):
        load_style(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("name", "says"), [("missing.safetensors", "No such file"), ("", "Is a directory"), ("a\0b", "null")]
)
def test_a_file_that_cannot_be_opened_is_a_request_error(tmp_path, name, says):
    with pytest.raises(RequestError, match=f"cannot read .*{says}"):
        load_style(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in the file system")
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.safetensors")
    with pytest.raises(RequestError, match="a device or a pipe"):
        load_style(tmp_path / "a.safetensors")


def test_a_style_that_is_there_is_kept_where_nobody_asked_to_replace_it(tmp_path):
    path = tmp_path / "a.safetensors"
    save_style(path, style())
    before = path.read_bytes()
    with pytest.raises(RequestError, match="exists already"):
        save_style(path, style(sigma=0.25), overwrite=False)
    assert path.read_bytes() == before
    save_style(path, style(sigma=0.25))
    assert load_style(path).sigma == 0.25
