"""Exit statuses: one table, which docs/cli.md shows, and every kind of error in it."""

import json
import os
import pty
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fte.cli import status
from fte.errors import FteError
from test_cli import FLOWTRON, refused, run  # noqa: F401  (fixtures)

MAIN = [sys.executable, "-c", "import sys; sys.argv[0] = 'fte'; from fte.cli import main; main()"]
DOCUMENT = Path(__file__).parents[1] / "docs" / "cli.md"


def kinds(parent: type[FteError] = FteError) -> list[type[FteError]]:
    return [parent, *(kind for child in parent.__subclasses__() for kind in kinds(child))]


def test_the_page_shows_the_table():
    rows = re.findall(r"^\| (\d+) \| (.+?) \|$", DOCUMENT.read_text("utf-8"), re.MULTILINE)
    shown = [int(number) for number, _ in rows]
    named = [status.OK, status.USAGE, status.INPUT, status.OUTPUT, status.VERIFICATION]
    signals = [
        status.status_of_signal(number) for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGTERM)
    ]
    assert shown == [*named, *signals] == [0, 2, 3, 4, 5, 129, 130, 141, 143]


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_every_kind_of_error_has_its_status(run, monkeypatch, kind):  # noqa: F811
    expected = {
        "CheckpointError": 3,
        "BundleError": 3,
        "InputError": 3,
        "OutputError": 4,
        "VerificationError": 5,
    }.get(kind.__name__, 2 if kind.__module__ == "fte.errors" else None)

    def fail(*_: object) -> None:
        raise kind("it is wrong")

    monkeypatch.setattr("fte.cli.info.voice_path", fail)
    result = run("info", "x")
    assert result.err == "error: it is wrong\n"
    if expected is None:  # a child of one of them
        expected = status.status_of(kind.__mro__[1]("x"))
    assert result.status == expected


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["synth", "Hi.", "--nope"], 2),
        (["synth", "Hi.", "--sigma", "abc"], 2),
        (["synth", "Hi.", "--sigma", "11"], 2),
        (["info", "nowhere"], 3),
        (["export", "--checkpoint", "nowhere.pt", "-o", "v"], 3),
        (["synth", "--text-file", "nowhere.txt"], 3),
        (["synth", "Hi.", "-o", "no/a.wav"], 4),
        (["--version"], 0),
    ],
)
def test_commands_end_with_the_status_of_their_fault(run, command, expected):  # noqa: F811
    assert run(*command).status == expected


def test_an_export_that_differs_from_its_checkpoint_has_a_status_of_its_own(run, monkeypatch):  # noqa: F811
    import fte_export.verify

    class Off:
        graph, output, passed, error, snr_db = "flow_0", "mel", False, 1.0, 3.0

    monkeypatch.setattr(fte_export.verify, "verify", lambda *_: iter([Off()]))
    result = run("export", "--checkpoint", FLOWTRON, "-o", "v", "--precision", "fp32")
    assert result.status == 5 and "differ from the checkpoint" in result.err
    assert not Path("v").exists()


@pytest.mark.parametrize("fault", [MemoryError(), RuntimeError("can't start new thread"), OSError(12, "no memory")])
def test_a_machine_without_memory_gets_one_sentence(refused, monkeypatch, fault):  # noqa: F811
    def fail(*_: object) -> None:
        raise fault

    monkeypatch.setattr("fte.cli.info.voice_path", fail)
    assert "there is not enough memory" in refused("info", "x")


def test_other_faults_of_python_are_not_hidden(run, monkeypatch):  # noqa: F811
    def fail(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr("fte.cli.info.voice_path", fail)
    with pytest.raises(RuntimeError, match="a fault of ours"):
        run("info", "x")


@pytest.mark.parametrize("megabytes", [260, 340])
def test_a_limited_address_space_never_ends_in_a_traceback(tiny_path, tmp_path, megabytes):
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))

    command = [*MAIN, "synth", "Hi.", "--voice", str(tiny_path), "--max-frames", "20", "-o", "a.wav"]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, preexec_fn=limit, env=environment)
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 2)
    assert done.returncode == 0 or done.stderr.splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_reader_that_went_away_gets_silence(tiny_path, tmp_path, options):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*MAIN, "info", str(tiny_path), *options], stdout=writing, stderr=subprocess.PIPE, cwd=tmp_path
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_file_in_the_place_of_a_voice_is_named(refused, tmp_path):  # noqa: F811
    import numpy as np
    import soundfile

    soundfile.write("hello.wav", np.zeros(100), 22050)
    Path("notes.txt").write_text("Hi.")
    Path("model.pt").write_bytes(b"PK")
    for name, what in (("hello.wav", "a sound file (WAV)"), ("notes.txt", "a text"), ("model.pt", "a checkpoint")):
        says = refused("info", name, status=3)
        assert says == f"{name} is {what}, and a voice is a folder: give one that fte export made, or 'tiny'"


def test_a_flag_is_shown_without_a_value(run):  # noqa: F811
    for command in (["synth"], ["export"], ["style", "extract"], []):
        shown = run(*command, "--help").out
        assert "--help" in shown and "<bool>" not in shown


@pytest.mark.parametrize(
    ("option", "suggested"),
    [("--nope", []), ("--loudnes", ["--loudness"]), ("--textfile", ["--text-file"]), ("--xyzzy", [])],
)
def test_only_options_that_are_alike_are_suggested(run, option, suggested):  # noqa: F811
    said = run("synth", "Hi.", option).err
    assert f"No such option: {option}" in said
    assert re.findall(r"--[a-z-]+", said.partition("No such option:")[2])[1:] == suggested


@pytest.mark.parametrize(("option", "value"), [("--sigma", "abc"), ("--threads", "many"), ("--seed", "1.5")])
def test_a_value_that_is_refused_is_repeated(run, option, value):  # noqa: F811
    said = " ".join(run("synth", "Hi.", option, value).err.replace("│", " ").split())
    assert f"Invalid value for '{option}': '{value}' was given; " in said


def test_more_threads_than_cores_are_refused(refused, monkeypatch):  # noqa: F811
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0, 1})
    for command in (["synth", "Hi."], ["bench"], ["style", "extract", "--name", "s", "--ravdess", "nowhere"]):
        says = refused(*command, "--voice", "nowhere", "--threads", "99")
        assert says.startswith("threads is 99 and this process may use 2 of the machine's cores")
        assert says.endswith("choose a number from 1 to 2")


def test_a_terminal_is_told_that_a_text_is_awaited(tmp_path):
    """On standard error, so that what comes out can still be piped."""
    ours, theirs = pty.openpty()
    os.write(ours, b"Hello.\n\x04")
    done = subprocess.run([*MAIN, "text", "--json"], stdin=theirs, capture_output=True, cwd=tmp_path, timeout=120)
    os.close(ours)
    os.close(theirs)
    assert (done.returncode, json.loads(done.stdout)["cleaned"]) == (0, "Hello.")
    assert done.stderr == b"type the text, and end it with Ctrl-D on a line of its own\n"


def test_a_report_is_the_one_line_on_standard_output(run, tiny_path):  # noqa: F811
    options = ["--batch", "1", "--frames", "8", "--sentence-frames", "4", "--repeats", "1"]
    done = run("bench", "--voice", tiny_path, *options)
    assert done.status == 0
    assert json.loads(done.out)["schema"] == "fte-bench" and done.out.count("\n") == 1
    assert "Decoder (text and z to mel)" in done.err
