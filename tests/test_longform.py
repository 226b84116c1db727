"""A long text to one file: bounded memory, and what a break changes (nothing)."""

import contextlib
import json
import os
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


def break_off(voice, out, after: int) -> None:
    """Stop when ``after`` spans are done."""

    class BreakError(Exception):
        pass

    def progress(done: int, _spans: int) -> None:
        if done == after:
            raise BreakError

    with contextlib.suppress(BreakError):
        speak(voice, out, progress=progress)


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
    import dataclasses

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


def test_two_at_once_on_one_file_are_refused(tiny, tmp_path):
    def progress(done: int, _spans: int) -> None:
        if done == 1:
            with pytest.raises(RequestError, match="another process"):
                speak(tiny, tmp_path / "book.wav")

    speak(tiny, tmp_path / "book.wav", progress=progress)


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
