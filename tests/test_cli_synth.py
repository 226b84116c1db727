"""`fte synth`: what it writes beside and instead of a wav."""

import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import fte
from fte import Synthesizer
from fte.bundle import Bundle

MAIN = [sys.executable, "-c", "import sys; sys.argv[0] = 'fte'; from fte.cli import main; main()"]
TEXT = "Kids are talking by the door. Never again!"


@pytest.fixture
def synth(tiny_path, tmp_path, monkeypatch):
    """A function that runs `fte synth` in an empty folder and gives the finished process."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, stdin: bytes = b"", check: bool = True) -> subprocess.CompletedProcess:
        short = [] if "--from-mel" in arguments else ["--max-frames", "40"]
        command = [*MAIN, "synth", "--voice", str(tiny_path), *short, *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, check=check)

    return run


@pytest.fixture(scope="module")
def spoken(tiny_path):
    """What the text sounds like in int8, which the command line takes on a CPU."""
    return Synthesizer.load(tiny_path, device="cpu").synthesize(TEXT, max_frames=40)


def pcm(data: bytes) -> np.ndarray:
    return np.frombuffer(data, "<i2") / 32768


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3"])
def test_the_suffix_chooses_the_format(synth, spoken, kind):
    synth(TEXT, "-o", f"a.{kind}")
    with soundfile.SoundFile(f"a.{kind}") as sound:
        assert sound.format == kind.upper()
        assert sound.samplerate == 22050
        assert sound.frames == pytest.approx(len(spoken.samples), abs=2500)


def test_sample_rate_and_loudness_are_those_asked_for(synth):
    done = synth(TEXT, "-o", "a.flac", "--rate", "16000", "--loudness", "-30")
    assert soundfile.info("a.flac").samplerate == 16000
    assert b"to -30.0 LUFS" in done.stderr


def test_raw_pcm_is_the_sound_of_the_file(synth, spoken):
    done = synth(TEXT, "--raw")
    np.testing.assert_allclose(pcm(done.stdout), spoken.samples, atol=1e-4)
    assert done.stderr == b""
    assert not list(Path().iterdir())


def test_a_dash_writes_a_wav_of_unknown_length(synth, spoken):
    done = synth(TEXT, "-o", "-", "--rate", "44100")
    samples, rate = soundfile.read(io.BytesIO(done.stdout))
    assert rate == 44100
    assert len(samples) == pytest.approx(2 * len(spoken.samples), abs=2)


def test_pcm_comes_while_the_rest_is_being_made(tiny_path, tmp_path):
    """The reader takes the first chunk, and only then the rest of some thousand frames can be done."""
    arguments = ["synth", TEXT, "--voice", str(tiny_path), "--raw", "--max-frames", "3000"]
    with subprocess.Popen([*MAIN, *arguments], cwd=tmp_path, stdout=subprocess.PIPE) as process:
        first = process.stdout.read(2 * 256 * 20)
        assert len(first) == 2 * 256 * 20
        assert process.poll() is None
        rest = process.stdout.read()
    assert process.returncode == 0
    assert (len(first) + len(rest)) % 512 == 0


def test_a_reader_that_goes_away_ends_it_without_a_word(tiny_path, tmp_path):
    arguments = ["synth", TEXT, "--voice", str(tiny_path), "--raw", "--max-frames", "3000"]
    with subprocess.Popen([*MAIN, *arguments], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.read(100)
        process.stdout.close()
        said = process.stderr.read()
    assert (process.returncode, said) == (141, b"")


def test_the_sidecar_says_how_the_sound_was_made(synth, tiny_path):
    synth(TEXT, "-o", "a.wav", "--seed", "5", "--json")
    record = json.loads(Path("a.json").read_text("utf-8"))
    assert record["fte"] == fte.__version__
    assert record["voice"]["hash"] == Bundle.open(tiny_path).voice_hash
    assert record["text_sha256"] == hashlib.sha256(TEXT.encode()).hexdigest()
    assert record["options"]["seed"] == 5 and record["precision"] == "int8"
    assert record["sound"]["file"] == "a.wav"
    assert record["sound"]["samples"] == soundfile.info("a.wav").frames
    assert [span["text"] for span in record["spans"]] == ["Kids are talking by the door.", "Never again!"]
    assert record["spans"][0]["attempts"][0] == {"seed": 5, "sigma": 0.5, "parts": 1, "verdict": "unaligned"}


@pytest.mark.parametrize("name", ["a.srt", "a.vtt", "a.TextGrid", "times.json"])
def test_timings_are_written_in_the_format_of_their_name(synth, name):
    synth(TEXT, "-o", "a.wav", "--timings", name)
    content = Path(name).read_text("utf-8")
    marks = {"a.srt": " --> ", "a.vtt": "WEBVTT\n\n00:00:0", "a.TextGrid": "IntervalTier", "times.json": '"words"'}
    assert marks[name] in content


def test_a_mel_goes_to_a_file_and_back_to_sound(synth):
    synth("Never again!", "-o", "a.wav", "--save-mel", "a.npy")
    synth("--from-mel", "a.npy", "-o", "b.wav")
    a, b = (soundfile.read(name)[0] for name in ("a.wav", "b.wav"))
    snr = 10 * np.log10(np.square(a).sum() / np.square(a - b).sum())
    assert snr > 45  # the stream's first chunks are shorter, so the joints differ


def test_a_book_and_what_is_written_with_it(synth):
    Path("book.txt").write_text(f"{TEXT}\n\n{TEXT}", "utf-8")
    synth("--text-file", "book.txt", "-o", "book.flac", "--json", "--timings", "book.srt")
    assert sorted(path.name for path in Path().iterdir()) == ["book.flac", "book.json", "book.srt", "book.txt"]
    assert len(json.loads(Path("book.json").read_text("utf-8"))["spans"]) == 4


def test_an_interrupted_book_says_how_to_go_on(tiny_path, tmp_path):
    (tmp_path / "book.txt").write_text("Kids are talking by the door. " * 400, "utf-8")
    arguments = ["synth", "--text-file", "book.txt", "-o", "book.wav", "--voice", str(tiny_path)]
    with subprocess.Popen([*MAIN, *arguments], cwd=tmp_path, stderr=subprocess.PIPE) as process:
        journal = tmp_path / "book.wav.partial" / "journal.jsonl"
        while not (journal.exists() and journal.stat().st_size > 2000) and process.poll() is None:
            os.sched_yield()
        process.terminate()
        said = process.stderr.read()
    assert process.returncode == 143
    assert said == b"error: interrupted; run the same command again to go on from there\n"
    assert journal.exists()


def test_a_lexicon_changes_what_is_said(synth):
    Path("words.txt").write_text("kids D AO1 G Z\n", "utf-8")
    synth(TEXT, "-o", "a.wav")
    synth(TEXT, "-o", "b.wav", "--lexicon", "words.txt")
    assert Path("a.wav").read_bytes() != Path("b.wav").read_bytes()


def test_standard_input_is_spoken_to_standard_output(synth, spoken):
    done = synth("--raw", stdin=TEXT.encode())
    np.testing.assert_allclose(pcm(done.stdout), spoken.samples, atol=1e-4)
