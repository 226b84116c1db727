"""`fte synth --play`: through a player that is a script here, since no machine of the tests has a sound card."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fte import Synthesizer
from fte.cli.player import PLAYERS, find_player, play
from fte.errors import BackendError

MAIN = [sys.executable, "-c", "import sys; sys.argv[0] = 'fte'; from fte.cli import main; main()"]
TEXT = "Kids are talking by the door. Never again!"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A function that installs a player, a shell script, and leaves all others out."""
    folder = tmp_path / "players"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def install(name: str, script: str) -> Path:
        path = folder / name
        path.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
        path.chmod(0o755)
        return path

    return install


def test_the_first_player_that_is_installed_is_taken(installed):
    installed("ffplay", "cat > /dev/null")
    assert Path(find_player(22050)[0]).name == "ffplay" and "22050" in find_player(22050)
    installed("aplay", "cat > /dev/null")
    assert find_player(16000)[1:] == ["-q", "-t", "raw", "-f", "S16_LE", "-c", "1", "-r", "16000", "-"]


def test_where_none_is_installed_the_sentence_names_them(installed):
    with pytest.raises(BackendError, match="none of paplay, aplay, play, ffplay is installed"):
        find_player(22050)
    assert [name for name, *_ in PLAYERS] == ["paplay", "aplay", "play", "ffplay"]


def test_a_player_that_fails_is_quoted(installed):
    installed("aplay", "echo 'ALSA lib: cannot find card 0' >&2; exit 1")
    with pytest.raises(BackendError, match=r"aplay could not play the sound \(ALSA lib: cannot find card 0\)"):
        play(find_player(22050), iter([b"\0" * 1000] * 1000))


def test_no_more_is_taken_than_player_and_pipe_hold(installed):
    """The player reads nothing until it is told to: a pipe of 64 KiB is all that may wait for it."""
    installed("aplay", "sleep 0.5; cat > /dev/null")
    taken: list[float] = []

    def pcm():
        for _ in range(200):
            taken.append(time.monotonic())
            yield b"\0" * 4096

    began = time.monotonic()
    play(find_player(22050), pcm())
    assert len(taken) == 200
    assert sum(moment < began + 0.4 for moment in taken) <= 1 + (1 << 16) // 4096 + 1


@pytest.fixture
def synth(tiny_path, tmp_path, installed, monkeypatch):
    """A function that starts `fte synth --play` in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def start(*arguments: str) -> subprocess.Popen:
        command = [*MAIN, "synth", TEXT, "--voice", str(tiny_path), "--play", *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    return start


def test_what_is_played_is_the_sound_of_the_file(synth, installed, tiny_path):
    installed("aplay", "cat > played.s16")
    process = synth("--max-frames", "40")
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (0, b"")
    assert b"utterance 1, 'Kids are talking by the door.'" in err
    expected = Synthesizer.load(tiny_path, device="cpu").synthesize(TEXT, max_frames=40).samples
    np.testing.assert_allclose(np.fromfile("played.s16", "<i2") / 32768, expected, atol=1e-4)
    assert [path.name for path in Path().iterdir() if path.suffix == ".wav"] == []


def test_it_plays_while_the_rest_is_being_made_and_stops_with_the_user(synth, installed):
    installed("aplay", "echo $$ > pid; head -c 4096 > /dev/null; touch begun; exec cat > /dev/null")
    process = synth("--max-frames", "3000")
    deadline = time.monotonic() + 120
    while not Path("begun").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and b"interrupted" in err
    with pytest.raises(ProcessLookupError):
        os.kill(int(Path("pid").read_text()), 0)


def test_without_a_player_nothing_is_loaded(synth):
    process = synth()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert err.startswith(b"error: --play needs a player and none of ") and err.count(b"\n") == 1
