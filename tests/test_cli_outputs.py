"""What can be judged before work is judged before work, in every command.

No voice, checkpoint or recording that these commands name is there: a command that looked for one before it judged its
own options would say so instead.
"""

import sys
from pathlib import Path

import pytest
import typer.main

from fte.cli import app
from fte.cli.status import OUTPUT
from test_cli import refused, run  # noqa: F401  (fixtures)

SYNTH = ["synth", "--voice", "nowhere"]
RECORDINGS = ["--voice", "nowhere", "--ravdess", "nowhere"]
EXTRACT = ["style", "extract", *RECORDINGS]
MIX = ["style", "mix", "a:1,b:1", "--voice", "nowhere"]
MAP = ["style", "map", *RECORDINGS]
INTERPOLATE = ["style", "interpolate", "a", "b", "--text", "Hi.", "--voice", "nowhere"]
VARY = ["style", "vary", "a", "--text", "Hi.", "--voice", "nowhere"]
EXPORT = ["export", "--checkpoint", "nowhere.pt"]
BUILD = ["build", "nowhere"]
BENCH = ["bench", "--voice", "nowhere"]

OUTPUTS = [
    ([*SYNTH, "Hi."], "--out", "no/a.wav", "cannot write no/a.wav: no is not a folder"),
    ([*SYNTH, "Hi."], "--out", "folder.wav", "cannot write folder.wav: it is a folder"),
    ([*SYNTH, "Hi."], "--out", "/proc/a.wav", "cannot write /proc/a.wav: "),
    ([*SYNTH, "Hi."], "--out", "link.wav", "cannot write link.wav: "),
    ([*SYNTH, "Hi."], "--out", f"{'n' * 300}.wav", "File name too long"),
    ([*SYNTH, "--from-mel", "nowhere.npy"], "--out", "no/a.wav", "cannot write no/a.wav"),
    ([*SYNTH, "--text-file", "nowhere.txt"], "--out", "no/a.wav", "cannot write no/a.wav"),
    ([*SYNTH, "--text-file", "nowhere.txt"], "--out", "file/wavs", "cannot write file/wavs: "),
    ([*SYNTH, "--text-file", "nowhere.txt"], "--out", "/proc/wavs", "cannot make the folder /proc/wavs: "),
    ([*SYNTH, "Hi."], "--plot", "no/a.png", "cannot write no/a.png"),
    ([*SYNTH, "Hi."], "--timings", "no/a.vtt", "cannot write no/a.vtt"),
    ([*SYNTH, "Hi."], "--save-mel", "no/a.npy", "cannot write no/a.npy"),
    ([*SYNTH, "Hi.", "-o", "taken.wav"], "--json", None, "cannot write taken.json: it is a folder"),
    (EXTRACT, "--out", "no/s.safetensors", "cannot write no/s.safetensors"),
    (MIX, "--out", "no/s.safetensors", "cannot write no/s.safetensors"),
    (MAP, "--out", "no/m.png", "cannot write no/m.png"),
    (INTERPOLATE, "--out", "file/steps", "cannot write file/steps"),
    (VARY, "--out", "file/tails", "cannot write file/tails"),
    (EXPORT, "--out", "no/voice/deep/../../file/x", "cannot write "),
    (EXPORT, "--out", "file/voice", "cannot write file/voice"),
    (BUILD, "--out", "file/engines", "cannot write file/engines"),
    (BENCH, "--json", "no/r.json", "cannot write no/r.json"),
    (BENCH, "--plot", "no/r.png", "cannot write no/r.png"),
]
NAMES = [
    ([*SYNTH, "Hi.", "-o", "a.aiff"], "cannot write a.aiff as sound"),
    ([*SYNTH, "Hi.", "-o", "a.opus", "--loudness", "3"], "a loudness must be"),
    ([*SYNTH, "Hi.", "--plot", "a.jpg"], "the name of a picture must end in"),
    ([*SYNTH, "Hi.", "--timings", "a.txt"], "its name must end in"),
    ([*SYNTH, "Hi.", "--save-mel", "a.pt"], "must end in .npy"),
    ([*SYNTH, "Hi.", "--sigma", "11"], "sigma is 11"),
    ([*SYNTH, "Hi.", "--seed=-1"], "the seed is -1"),
    ([*SYNTH, "Hi.", "--tail", "2"], "a tail is drawn around a style"),
    ([*SYNTH, "Hi.", "--threads", "99999"], "threads is 99999"),
    ([*SYNTH, "Hi.", "--device", "tpu"], "device 'tpu' is unknown"),
    ([*SYNTH, "Hi.", "--backend", "tpu"], "backend 'tpu' is unknown"),
    ([*EXTRACT, "-o", "my style.safetensors"], "'my style' cannot be the name of a style"),
    ([*EXTRACT, "-o", "s.pt"], "must end in .safetensors"),
    ([*EXTRACT, "--name", "my style"], "'my style' cannot be the name of a style"),
    ([*EXTRACT, "--name", "../up"], "'../up' cannot be the name of a style"),
    ([*EXTRACT, "--name", "s", "--sigma", "11"], "sigma is 11"),
    ([*EXTRACT, "--name", "s", "--lambda", "0"], "lambda is 0"),
    ([*EXTRACT, "--name", "s", "--frames", "5"], "--frames is the length of a batch mean"),
    ([*MIX, "-o", "my mix.safetensors"], "'my mix' cannot be the name of a style"),
    ([*MIX, "-o", "mix"], "must end in .safetensors"),
    ([*MAP, "-o", "m.jpg"], "the name of a map must end in"),
    (["style", "representatives", *RECORDINGS, "--name", "x"], "let {label} in it stand for the label"),
    ([*VARY, "-o", "x", "--threads", "0"], "threads is 0"),
    ([*EXPORT, "-o", "v", "--name", "\x1b"], "cannot be the name of a voice"),
    ([*EXPORT, "-o", "v", "--speaker-names", "a,\x1b"], "cannot be the name of a speaker"),
    ([*EXPORT, "-o", "v", "--sm", "89"], "give --tensorrt with it"),
    ([*BUILD, "--block", "7"], "block is 7: give 1, 8, 16 or 32"),
    ([*BUILD, "--precision", "int8"], "precision is 'int8'"),
    ([*BUILD, "--max-text", "2000"], "max_text is 2000"),
    ([*BENCH, "--batch", "0"], "batch"),
    ([*BENCH, "--plot", "r.jpg"], "the name of a picture must end in"),
]
PACKAGES = [
    ([*SYNTH, "Hi.", "--plot", "a.png"], "matplotlib.figure", "install flowtron-fte[plot]"),
    ([*BENCH, "--plot", "a.png"], "matplotlib.figure", "install flowtron-fte[plot]"),
    ([*INTERPOLATE, "-o", "x"], "matplotlib.figure", "install flowtron-fte[style]"),
    ([*VARY, "-o", "x"], "matplotlib.figure", "install flowtron-fte[style]"),
    ([*MAP, "-o", "m.png"], "matplotlib.figure", "install flowtron-fte[style]"),
    ([*MAP, "-o", "m.png"], "sklearn", "install flowtron-fte[style]"),
    ([*MAP, "-o", "m.html", "--method", "umap"], "umap", "install umap-learn"),
]


@pytest.fixture
def desk(run) -> None:  # noqa: F811
    """A file, a folder in the place of a file, a link into nowhere, and a folder in the place of a sidecar."""
    Path("file").write_text("x")
    Path("folder.wav").mkdir()
    Path("taken.json").mkdir()
    Path("link.wav").symlink_to("no/a.wav")


@pytest.mark.parametrize(("command", "option", "value", "says"), OUTPUTS)
def test_an_output_that_cannot_be_written_is_refused_before_work(desk, refused, command, option, value, says):  # noqa: F811
    arguments = [option] if value is None else [option, value]
    assert says in refused(*command, *arguments, status=OUTPUT)


def test_every_output_of_every_command_is_in_the_table():
    found = set()
    groups = [((), typer.main.get_command(app))]
    for path, command in groups:
        groups += [((*path, name), inner) for name, inner in getattr(command, "commands", {}).items()]
        options = {option for param in command.params for option in param.opts}
        found |= {(path, option) for option in options & {"--out", "--plot", "--timings", "--save-mel"}}
    tested = {(tuple(command[: 1 + (command[0] == "style")]), option) for command, option, _, _ in OUTPUTS}
    assert found - tested == set()
    assert {(("synth",), "--json"), (("bench",), "--json")} <= tested


@pytest.mark.parametrize(("command", "says"), NAMES, ids=lambda value: " ".join(value) if type(value) is list else "")
def test_names_and_numbers_are_judged_before_work(refused, command, says):  # noqa: F811
    assert says in refused(*command)


@pytest.mark.parametrize(("command", "module", "says"), PACKAGES)
def test_a_package_that_is_missing_is_told_before_work(refused, monkeypatch, command, module, says):  # noqa: F811
    monkeypatch.setitem(sys.modules, module, None)
    assert says in refused(*command)


def test_an_export_of_engines_asks_for_their_library_before_work(refused, monkeypatch):  # noqa: F811
    for module in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, module, None)
    assert "TensorRT engines need a package" in refused(*EXPORT, "-o", "v", "--tensorrt")


def test_recordings_without_the_label_are_refused_before_a_voice_is_loaded(refused):  # noqa: F811
    data = Path(__file__).parent / "data" / "ravdess_like"
    options = ["--voice", "nowhere", "--ravdess", data, "--keep-unaligned"]
    says = refused("style", "extract", *options, "--name", "s", "--label", "bored")
    assert "no recording has the label 'bored': they have " in says
    says = refused("style", "extract", *options, "--name", "s", "--speaker-independent", "--emotion", "bored")
    assert "emotion 'bored' is unknown in RAVDESS" in says
