"""A long text to one file: bounded memory, and what a break changes (nothing)."""

import contextlib
import dataclasses
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from fte import Request
from fte.errors import RequestError
from fte.longform import speak_long

TEXT = "Kids are talking by the door. Dogs are sitting by the door.\n\nNever again! Not for me, thank you very much."
REQUEST = Request(TEXT, seed=4, max_frames=40)


def speak(voice, out, request=REQUEST, **options) -> tuple[np.ndarray, list, int]:
    with speak_long(voice, request, out, **options) as speech:
        return np.array(speech.samples), speech.records(), speech.resumed_at


def break_off(voice, out, after: int, request=REQUEST) -> None:
    """Stop when ``after`` spans are done."""

    class BreakError(Exception):
        pass

    def progress(done: int, _spans: int) -> None:
        if done == after:
            raise BreakError

    with contextlib.suppress(BreakError):
        speak(voice, out, request, progress=progress)


def test_the_samples_are_those_of_the_stream(tiny, tmp_path):
    samples, records, _ = speak(tiny, tmp_path / "book.wav")
    np.testing.assert_array_equal(samples, np.concatenate([c.samples for c in tiny.stream(REQUEST)]))
    assert [r["text"] for r in records][-2:] == ["Never again!", "Not for me, thank you very much."]


def test_the_timings_are_those_of_the_speech(tiny, tmp_path):
    with speak_long(tiny, REQUEST, tmp_path / "book.wav") as speech:
        assert speech.timings() == tiny.synthesize(TEXT, seed=4, max_frames=40).timings


@pytest.mark.parametrize("after", [1, 3, 4])
def test_a_broken_off_speech_goes_on_and_is_the_same(tiny, tmp_path, after):
    whole, records, _ = speak(tiny, tmp_path / "whole.wav")
    break_off(tiny, tmp_path / "book.wav", after)
    samples, resumed_records, resumed_at = speak(tiny, tmp_path / "book.wav")
    assert resumed_at == after
    np.testing.assert_array_equal(samples, whole)
    assert resumed_records == records


def test_nothing_is_left_when_it_is_done(tiny, tmp_path):
    break_off(tiny, tmp_path / "book.wav", 1)
    assert [p.name for p in tmp_path.iterdir()] == ["book.wav.partial"]
    speak(tiny, tmp_path / "book.wav")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "torn", [b'{"spans": 3, "comp', b'{"spans": 9, "completes": true, "frames": 1}\n', b"\xff\n", b"[]\n"]
)
def test_a_torn_journal_counts_up_to_its_last_good_line(tiny, tmp_path, torn):
    break_off(tiny, tmp_path / "book.wav", 2)
    with (tmp_path / "book.wav.partial" / "journal.jsonl").open("ab") as journal:
        journal.write(torn)
    with (tmp_path / "book.wav.partial" / "samples.f32").open("ab") as samples:
        samples.write(b"abcdefg")
    whole, _, _ = speak(tiny, tmp_path / "whole.wav")
    samples, _, resumed_at = speak(tiny, tmp_path / "book.wav")
    assert resumed_at == 2
    np.testing.assert_array_equal(samples, whole)


def test_half_a_span_that_was_cut_in_two_does_not_count(tiny, tmp_path):
    break_off(tiny, tmp_path / "book.wav", 2)
    journal = tmp_path / "book.wav.partial" / "journal.jsonl"
    lines = journal.read_text("utf-8").splitlines(keepends=True)
    half = json.loads(lines[-1]) | {"completes": False, "spans": 1}
    journal.write_text("".join([*lines[:-1], json.dumps(half) + "\n"]), "utf-8")
    _, records, resumed_at = speak(tiny, tmp_path / "book.wav")
    assert resumed_at == 1
    assert len(records) == 4


@pytest.mark.parametrize("change", [{"seed": 5}, {"text": TEXT + " No."}, {"pause": 0.5}])
def test_what_was_broken_off_is_not_gone_on_with_as_another(tiny, tmp_path, change):
    break_off(tiny, tmp_path / "book.wav", 1)
    other = dataclasses.replace(REQUEST, **change)
    with pytest.raises(RequestError, match="another text, voice or options"):
        speak(tiny, tmp_path / "book.wav", other)
    assert speak(tiny, tmp_path / "book.wav", other, restart=True)[2] == 0


def test_samples_that_are_missing_are_noticed(tiny, tmp_path):
    break_off(tiny, tmp_path / "book.wav", 2)
    os.truncate(tmp_path / "book.wav.partial" / "samples.f32", 100)
    with pytest.raises(RequestError, match="fewer samples"):
        speak(tiny, tmp_path / "book.wav")


@pytest.mark.parametrize("restart", [False, True])
def test_two_at_once_on_one_file_are_refused(tiny, tmp_path, restart):
    other = dataclasses.replace(REQUEST, text="Something else.")

    def refused() -> None:
        with pytest.raises(RequestError, match="another process"):
            speak(tiny, tmp_path / "book.wav", other, restart=restart)

    with speak_long(tiny, REQUEST, tmp_path / "book.wav", progress=lambda done, _: done == 1 and refused()) as speech:
        refused()  # while it is being written too
        samples, records = np.array(speech.samples), speech.records()
    whole, expected, _ = speak(tiny, tmp_path / "whole.wav")
    np.testing.assert_array_equal(samples, whole)
    assert records == expected
    assert list(tmp_path.iterdir()) == []


def test_a_speech_whose_folder_is_taken_away_is_still_its_own(tiny, tmp_path):
    """Somebody removes the folder, and speaks another text under the same name."""
    other = dataclasses.replace(REQUEST, text="Something else.")

    def progress(done: int, _spans: int) -> None:
        if done == 1 and len(taken) == 0:
            shutil.rmtree(tmp_path / "book.wav.partial")
            break_off(tiny, tmp_path / "book.wav", 1, other)
            taken.append(True)

    taken: list[bool] = []
    samples, records, _ = speak(tiny, tmp_path / "book.wav", progress=progress)
    whole, expected, _ = speak(tiny, tmp_path / "whole.wav")
    np.testing.assert_array_equal(samples, whole)
    assert records == expected
    assert speak(tiny, tmp_path / "book.wav", other)[2] == 1  # the other one is still there to go on with


@pytest.mark.parametrize("kind", ["symbolic", "hard", "to nowhere"])
@pytest.mark.parametrize("name", ["samples.f32", "journal.jsonl"])
@pytest.mark.parametrize("restart", [False, True])
def test_a_link_in_the_folder_is_not_followed(tiny, tmp_path, name, kind, restart):
    partial, precious = tmp_path / "book.wav.partial", tmp_path / "precious"
    partial.mkdir()
    if kind != "to nowhere":
        precious.write_text("years of work")
    if kind == "hard":
        (partial / name).hardlink_to(precious)
    else:
        (partial / name).symlink_to(precious)
    with pytest.raises(RequestError, match=rf"{name} is (a link|no plain file)"):
        speak(tiny, tmp_path / "book.wav", restart=restart)
    assert precious.read_text() == "years of work" if kind != "to nowhere" else not precious.exists()


def test_a_folder_that_is_a_link_is_not_followed(tiny, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "book.wav.partial").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RequestError, match=r"book\.wav\.partial is a link, which is not followed"):
        speak(tiny, tmp_path / "book.wav", restart=True)
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in the file system")
def test_a_pipe_in_the_folder_is_not_waited_for(tiny, tmp_path):
    (tmp_path / "book.wav.partial").mkdir()
    os.mkfifo(tmp_path / "book.wav.partial" / "samples.f32")
    with pytest.raises(RequestError, match="no plain file"):
        speak(tiny, tmp_path / "book.wav")


@pytest.mark.parametrize("restart", [False, True])
def test_a_strangers_file_in_the_folder_stays(tiny, tmp_path, restart):
    break_off(tiny, tmp_path / "book.wav", 1)
    (tmp_path / "book.wav.partial" / "thesis.txt").write_text("years of work")
    speak(tiny, tmp_path / "book.wav", restart=restart)
    assert [path.name for path in tmp_path.rglob("*")] == ["book.wav.partial", "thesis.txt"]


GOOD = {"spans": 1, "completes": True, "frames": 3, "record": {"verdict": "ok"}, "words": [], "symbols": []}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"completes": None, "frames": None}, "a 'completes' of it is None"),
        ({"frames": "abc"}, "a 'frames' of it is 'abc'"),
        ({"frames": 1e3}, "a 'frames' of it is 1000.0"),
        ({"frames": -1}, "a 'frames' of it is -1 after 0"),
        ({"frames": 10**30}, "a 'frames' of it is 1000"),
        ({"spans": True}, "a 'spans' of it is True"),
        ({"record": {}}, "a 'record' of it has no verdict"),
        ({"words": [["a", 0, "b", ""]]}, "one of the 'words' of it is"),
        ({"words": [["a", 0, 1]]}, "one of the 'words' of it is"),
        ({"symbols": [["a", 0, math.nan]]}, "one of the 'symbols' of it is"),
        ({"symbols": [7]}, "one of the 'symbols' of it is 7"),
        ({"words": {}}, "a 'words' of it is {}"),
    ],
)
def test_a_line_of_the_journal_that_is_wrong_is_one_sentence(tiny, tmp_path, change, says):
    break_off(tiny, tmp_path / "book.wav", 1)
    journal = tmp_path / "book.wav.partial" / "journal.jsonl"
    header = journal.read_text("utf-8").splitlines(keepends=True)[0]
    journal.write_text(header + json.dumps(GOOD | change) + "\n", "utf-8")
    with pytest.raises(RequestError) as error:
        speak(tiny, tmp_path / "book.wav")
    assert f"is damaged, {says}" in str(error.value) and "--restart" in str(error.value)
    assert speak(tiny, tmp_path / "book.wav", restart=True)[2] == 0


def test_a_line_of_the_journal_that_lacks_something_is_one_sentence(tiny, tmp_path):
    break_off(tiny, tmp_path / "book.wav", 1)
    journal = tmp_path / "book.wav.partial" / "journal.jsonl"
    header = journal.read_text("utf-8").splitlines(keepends=True)[0]
    journal.write_text(header + '{"spans": 1}\n', "utf-8")
    with pytest.raises(RequestError, match="a line of it has no 'completes'"):
        speak(tiny, tmp_path / "book.wav")


@pytest.mark.parametrize("header", [b"", b'{"request": "ab', b"[" * 100_000 + b"\n"])
def test_samples_without_a_journal_of_theirs_are_not_cut(tiny, tmp_path, header):
    break_off(tiny, tmp_path / "book.wav", 1)
    partial = tmp_path / "book.wav.partial"
    (partial / "journal.jsonl").write_bytes(header)
    before = (partial / "samples.f32").read_bytes()
    with pytest.raises(RequestError, match="--restart"):
        speak(tiny, tmp_path / "book.wav")
    assert (partial / "samples.f32").read_bytes() == before


def test_a_process_that_is_killed_half_way_goes_on(tiny_path, tmp_path):
    """The command line, killed without a chance to clean up."""
    text = " ".join(f"Kids are talking by door number {i}." for i in range(24))
    (tmp_path / "book.txt").write_text(text, "utf-8")
    main = "import sys; sys.argv[0] = 'fte'; from fte.cli import main; main()"
    arguments = ["synth", "--text-file", "book.txt", "--voice", str(tiny_path), "--max-frames", "40"]
    command = [sys.executable, "-c", main, *arguments]
    with subprocess.Popen([*command, "-o", "book.wav"], cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        journal, deadline = tmp_path / "book.wav.partial" / "journal.jsonl", time.monotonic() + 60
        while not (journal.exists() and journal.read_bytes().count(b"\n") > 6) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "book.wav").exists()
    resumed = subprocess.run([*command, "-o", "book.wav"], cwd=tmp_path, capture_output=True, text=True, check=True)
    subprocess.run([*command, "-o", "whole.wav"], cwd=tmp_path, capture_output=True, check=True)
    assert "went on after" in resumed.stderr
    assert (tmp_path / "book.wav").read_bytes() == (tmp_path / "whole.wav").read_bytes()
