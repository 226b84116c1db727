"""The command line: what a user types, what comes out, and one sentence for everything that is wrong."""

import io
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import fte
from conftest import GOLDEN
from fte import interruption
from fte.bundle import Bundle
from fte.cli import main
from fte.cli.status import INPUT, OUTPUT, USAGE
from fte.constants import LIMITS
from fte.files import claimed
from fte_export.random_voice import TINY_FLOWTRON, TINY_WAVEGLOW
from public_format import save_flowtron, save_waveglow

pytestmark = pytest.mark.usefixtures("one_thread")

FLOWTRON, WAVEGLOW = GOLDEN / "flowtron_two_flows.pt", GOLDEN / "waveglow_tiny.pt"
HELLO_FRAMES = "--max-frames=20"


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    status: int
    out: str
    err: str


@pytest.fixture
def run(monkeypatch, capsys, tmp_path) -> Iterator[Callable[..., Result]]:
    """A function that runs `fte` with the given arguments in an empty folder of its own, and its signal handlers."""
    handlers = {number: signal.getsignal(number) for number in interruption.SIGNALS}
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")

    def command(*arguments: object, stdin: bytes = b"") -> Result:
        monkeypatch.setattr(sys, "argv", ["fte", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        try:
            main()
            status = 0
        except SystemExit as leaving:
            status = int(leaving.code or 0)
        return Result(status, *capsys.readouterr())

    yield command
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def refused(run) -> Callable[..., str]:
    """A function that runs `fte`, demands one sentence, its status and no new file, and gives the sentence."""

    def command(*arguments: object, stdin: bytes = b"", status: int = USAGE) -> str:
        before = sorted(Path().rglob("*"))
        result = run(*arguments, stdin=stdin)
        assert (result.status, result.out) == (status, ""), result.err
        assert sorted(Path().rglob("*")) == before
        assert result.err.startswith("error: ")
        assert result.err.endswith("\n") and result.err.count("\n") == 1
        return result.err.removeprefix("error: ").rstrip("\n")

    return command


@pytest.fixture
def copied(tiny_path, tmp_path) -> Path:
    """A copy of the tiny bundle, to be damaged."""
    return Path(shutil.copytree(tiny_path, tmp_path / "copy"))


def wav(path: Path | str) -> np.ndarray:
    samples, rate = soundfile.read(path, dtype="int16")
    assert rate == 22050
    return samples


# The whole way.


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> tuple[Path, Path]:
    """A Flowtron and a WaveGlow of 80 mel channels in the public format."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return save_flowtron(folder / "flowtron.pt", TINY_FLOWTRON), save_waveglow(folder / "waveglow.pt", TINY_WAVEGLOW)


def test_from_checkpoints_to_speech(run, checkpoints):
    flowtron, waveglow = checkpoints
    done = run("export", "--checkpoint", flowtron, "--waveglow", waveglow, "-o", "trio", "--speaker-names", "a, b,c")
    assert (done.status, done.err) == (0, "")
    for graph in ("encoder", "posterior", "flow_0 fp32", "flow_1_guided int8", "vocoder fp32", "vocoder int8"):
        assert graph in done.out
    assert "FAILED" not in done.out
    assert 'Wrote trio. Try: fte synth --voice trio "Hello." -o hello.wav' in done.out

    told = run("info", "trio")
    assert (told.status, told.err) == (0, "")
    for fact in ("trio", "3: a, b, c", "WaveGlow, 6 flows", "22050 Hz", "fp32, int8", "flowtron.pt", "all as exported"):
        assert fact in told.out

    spoken = run("synth", "Hello.", "--voice", "trio", "--speaker", "b", "-o", "hello.wav", HELLO_FRAMES)
    assert spoken.status == 0
    assert "voice: trio in int8 through ONNX Runtime" in spoken.err and "on cpu" in spoken.err
    assert "hello.wav: 0.23 s of audio" in spoken.err and "the attention follows no text" in spoken.err
    assert wav("hello.wav").shape == (20 * 256,)
    assert len(set(wav("hello.wav").tolist())) > 1000
    assert sorted(path.name for path in Path().iterdir()) == ["hello.wav", "trio"]


def test_a_golden_checkpoint_speaks_without_a_vocoder(run):
    assert run("export", "--checkpoint", FLOWTRON, "-o", "voice", "--precision", "fp32", "--no-verify").status == 0
    assert "none (Griffin-Lim)" in run("info", "voice").out
    assert run("synth", "Hello.", "-v", "voice", HELLO_FRAMES).status == 0
    assert wav("out.wav").shape == (20 * 256,)


def test_speaker_names_come_from_a_file(run):
    Path("names.txt").write_text("\ufeffAnna\n\n Bert \r\nĆarla\n", encoding="utf-8")
    assert run("export", "--checkpoint", FLOWTRON, "-o", "v", "--speaker-names", "names.txt", "--no-verify").status == 0
    assert Bundle.open("v").manifest.speakers == ("Anna", "Bert", "Ćarla")


def test_overwriting_replaces_a_bundle(run):
    for extra in ([], ["--overwrite"]):
        assert run("export", "--checkpoint", FLOWTRON, "-o", "v", "--no-verify", "--name", "x", *extra).status == 0
    assert Bundle.open("v").check_files() == []


def test_the_seed_decides_the_wav(run, tiny_path):
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        run("synth", "Hello.", "--voice", tiny_path, "--seed", seed, "-o", f"{name}.wav", HELLO_FRAMES)
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes()
    assert np.abs(wav("a.wav").astype(int) - wav("c.wav")).max() > 100


def test_a_wav_that_exists_is_replaced(run, tiny_path):
    Path("a.wav").write_text("old")
    assert run("synth", "Hello.", "--voice", tiny_path, "-o", "a.wav", HELLO_FRAMES).status == 0
    assert wav("a.wav").shape == (20 * 256,)


@pytest.mark.parametrize("dash", [["-"], []])
def test_the_text_is_read_from_standard_input(run, tiny_path, dash):
    assert (
        run("synth", *dash, "--voice", tiny_path, "-o", "in.wav", HELLO_FRAMES, stdin="Déjà vu.\n".encode()).status == 0
    )
    run("synth", "Déjà vu.", "--voice", tiny_path, "-o", "argument.wav", HELLO_FRAMES)
    assert Path("in.wav").read_bytes() == Path("argument.wav").read_bytes()


def test_every_line_of_a_file_becomes_a_wav_of_its_own_noise(run, tiny_path):
    Path("lines.txt").write_text("Yes.\n\n  \nYes.\r\nNo.\n", encoding="utf-8")
    done = run("synth", "--text-file", "lines.txt", "--voice", tiny_path, "-o", "wavs/all", HELLO_FRAMES)
    assert done.status == 0
    assert done.err.count("voice: ") == 1
    assert sorted(path.name for path in Path("wavs/all").iterdir()) == ["00001.wav", "00004.wav", "00005.wav"]
    first, second = (wav(f"wavs/all/0000{n}.wav").astype(int) for n in (1, 4))
    assert np.abs(first - second).max() > 100


def test_a_picture_is_drawn_beside_the_wav(run, tiny_path):
    assert run("synth", "Hello.", "--voice", tiny_path, "--plot", "a.png", HELLO_FRAMES).status == 0
    assert Path("a.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in Path().iterdir()) == ["a.png", "out.wav"]


def test_quiet_says_nothing(run, tiny_path):
    done = run("synth", "Hello.", "--voice", tiny_path, "-q", HELLO_FRAMES)
    assert (done.status, done.out, done.err) == (0, "", "")


def test_info_as_json_is_the_manifest(run, tiny_path):
    done = run("info", "--json", tiny_path)
    assert (done.status, done.err) == (0, "")
    assert json.loads(done.out) == json.loads((tiny_path / "manifest.json").read_text(encoding="utf-8"))


def test_version_and_help(run):
    assert run("--version") == Result(0, f"fte {fte.__version__}\n", "")
    done = run("--help")
    assert (done.status, done.err) == (0, "")
    assert all(re.search(rf"\b{name}\b", done.out) for name in ("export", "info", "synth", "bench"))


def test_names_of_others_are_printed_as_they_are(run, copied):
    """Brackets are markup to the library that prints; a closing one without its opening would be a traceback."""
    manifest = json.loads((copied / "manifest.json").read_text(encoding="utf-8"))
    manifest |= {"name": "[/red] :smile:", "warning": "[bold]careful[/b]"}
    (copied / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    told = run("info", copied)
    assert told.status == 0 and "[/red] :smile:" in told.out and "[bold]careful[/b]" in told.out
    spoken = run("synth", "Hi.", "--voice", copied, "-o", "[x][y].wav", HELLO_FRAMES)
    assert spoken.status == 0
    assert all(text in spoken.err for text in ("[/red] :smile:", "[bold]careful[/b]", "[x][y].wav"))


# The tiny voice.


def test_the_tiny_voice_is_made_once_and_kept_in_the_cache(run, tmp_path):
    assert run("synth", "Hello.", HELLO_FRAMES).status == 0
    (made,) = (tmp_path / "cache" / "fte").iterdir()
    assert made.name == f"tiny-{fte.__version__}"
    before = (made / "manifest.json").stat().st_mtime_ns
    assert run("synth", "Hello.", "--voice", "tiny", HELLO_FRAMES).status == 0
    assert (made / "manifest.json").stat().st_mtime_ns == before
    assert Bundle.open(made).manifest.name == "tiny"


def test_two_that_need_the_tiny_voice_at_once_both_get_it(tmp_path):
    main = "import sys; sys.argv[0] = 'fte'; from fte.cli import main; main()"
    command = [sys.executable, "-c", main, "text", "Hello.", "--voice", "tiny"]
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in "ab"]
    assert [(process.communicate()[1], process.returncode) for process in both] == [(b"", 0)] * 2
    assert [path.name for path in (tmp_path / "fte").iterdir()] == [f"tiny-{fte.__version__}"]


def cut(path: Path) -> None:
    (path / "flow_0.int8.bin").write_bytes(b"")


def spoil(path: Path) -> None:
    (path / "manifest.json").write_text('{"format": "fte-vo')


def age(path: Path) -> None:
    (path / "manifest.json").write_text('{"format": "fte-voice", "version": 0}')


def empty(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir()


@pytest.mark.parametrize("damage", [cut, spoil, age, empty])
def test_a_damaged_tiny_voice_in_the_cache_is_made_anew(run, tiny_path, tmp_path, damage):
    cached = Path(shutil.copytree(tiny_path, tmp_path / "cache" / "fte" / f"tiny-{fte.__version__}"))
    damage(cached)
    assert run("synth", "Hello.", "--voice", "tiny", HELLO_FRAMES).status == 0
    assert Bundle.open(cached).check_files() == []
    assert [path.name for path in cached.parent.iterdir()] == [cached.name]


def test_a_cache_that_cannot_be_made_is_an_error(refused, tmp_path):
    (tmp_path / "cache").write_text("a file")
    assert "cannot make the folder" in refused("synth", "Hello.", status=OUTPUT)


# Bad checkpoints.


def broken(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / "broken.pt"
    if kind == "truncated":
        path.write_bytes(FLOWTRON.read_bytes()[:-5000])
    elif kind == "not a checkpoint":
        path.write_text("weights")
    elif kind == "NaN":
        save_flowtron(path, TINY_FLOWTRON, changes={"embedding.weight": np.full((185, 48), np.nan, np.float32)})
    elif kind == "misshapen":
        save_flowtron(path, TINY_FLOWTRON, changes={"flows.0.conv.bias": np.zeros(7, np.float32)})
    return path


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("missing", "does not exist|No such file"),
        ("truncated", "broken.pt is"),
        ("not a checkpoint", "broken.pt is"),
        ("NaN", "has 8880 weights that are not finite numbers, in 1 tensors: embedding.weight"),
        ("misshapen", r"flows.0.conv.bias has the shape \(7,\) instead of \(160,\)"),
    ],
)
def test_a_broken_checkpoint_is_refused(refused, tmp_path, kind, says):
    sentence = refused("export", "--checkpoint", broken(tmp_path, kind), "-o", "voice", status=INPUT)
    assert "broken.pt" in sentence
    assert re.search(says, sentence)


def test_models_in_each_others_place_are_refused(refused):
    assert "WaveGlow" in refused("export", "--checkpoint", WAVEGLOW, "-o", "voice", status=INPUT)
    sentence = refused("export", "--checkpoint", FLOWTRON, "--waveglow", FLOWTRON, "-o", "voice", status=INPUT)
    assert "Flowtron" in sentence and "flowtron_two_flows.pt" in sentence


def test_a_configuration_that_disagrees_is_refused_with_every_disagreement(refused, golden, tmp_path):
    config = json.loads(str(golden("flowtron_two_flows")["config"])) | {"n_flows": 3, "n_hidden": 1024}
    (tmp_path / "config.json").write_text(json.dumps({"model_config": config}))
    config = tmp_path / "config.json"
    sentence = refused("export", "--checkpoint", FLOWTRON, "--config", config, "-o", "voice", status=INPUT)
    assert "n_flows is 3 there and 2 in the tensors" in sentence
    assert "n_hidden is 1024 there and 64 in the tensors" in sentence


def test_a_configuration_that_is_none_is_refused(refused, tmp_path):
    (tmp_path / "config.json").write_text("model_config: {}")
    command = ["export", "--checkpoint", FLOWTRON, "-o", "voice", "--config"]
    assert "config.json is not JSON" in refused(*command, tmp_path / "config.json", status=INPUT)
    assert "no.json does not exist" in refused(*command, tmp_path / "no.json", status=INPUT)


class Hostile:
    """Pickles as a call of os.system."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


def test_a_hostile_checkpoint_is_refused_and_not_run(refused, tmp_path):
    marker = tmp_path / "marker"
    state = dict(torch.load(FLOWTRON, weights_only=True)["state_dict"])
    torch.save({"state_dict": state, "extra": Hostile(f"touch {marker}")}, tmp_path / "hostile.pt")
    sentence = refused("export", "--checkpoint", tmp_path / "hostile.pt", "-o", "voice", status=INPUT)
    assert "hostile.pt" in sentence and "system" in sentence
    assert not marker.exists()
    pickle.loads(pickle.dumps(Hostile(f"touch {marker}")))  # noqa: S301  (the weapon is loaded)
    assert marker.exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--speaker-names", "a,b"], "2 speaker names were given and .* has 3 speakers: give one name for each"),
        (["--speaker-names", "a,b,a"], "two speakers have the name 'a': give each its own"),
        (["--speaker-names", "a,,b"], "'' cannot be the name of a speaker, it is empty"),
        (["--speaker-names", "n" * 5000], "1 speaker names were given"),
        (["--name", "a\x1b[2Jb"], r"'a\\x1b\[2Jb' cannot be the name of a voice"),
        (["--precision", "fp64"], "precision 'fp64' is unknown: choose from fp32, int8, fp16, bf16"),
        (["--precision", " , "], "no precision was asked for: choose from fp32, int8"),
        (["--waveglow", WAVEGLOW], "has 16 mel channels and .* 80: give a vocoder trained on the same mels"),
    ],
)
def test_options_that_do_not_fit_the_checkpoint_are_refused(refused, options, says):
    assert re.search(says, refused("export", "--checkpoint", FLOWTRON, "-o", "voice", *options))


def test_an_output_that_is_there_is_not_overwritten_unless_asked(refused):
    Path("voice").mkdir()
    Path("file").write_text("x")
    command = ["export", "--checkpoint", FLOWTRON, "-o"]
    assert "voice exists already" in refused(*command, "voice", status=OUTPUT)
    assert "cannot write file: it is a file" in refused(*command, "file", "--overwrite", status=OUTPUT)
    Path("voice/thesis.pdf").write_text("years of work")
    assert "voice is not overwritten, for only bundles are" in refused(*command, "voice", "--overwrite", status=OUTPUT)
    assert Path("voice/thesis.pdf").read_text() == "years of work"


@pytest.mark.parametrize("out", ["no/voice", "file/voice", "/proc/voice", "n" * 300])
def test_a_bundle_that_cannot_be_written_is_an_error_before_anything_is_read(refused, out):
    Path("file").write_text("x")
    assert f"cannot write {out}" in refused("export", "--checkpoint", "missing.pt", "-o", out, status=OUTPUT)


# Bad bundles.


def test_an_edited_bundle_is_refused(refused, run, copied):
    data = bytearray((copied / "flow_1.int8.bin").read_bytes())
    data[1000] ^= 1
    (copied / "flow_1.int8.bin").write_bytes(data)
    sentence = refused("synth", "Hello.", "--voice", copied, status=INPUT)
    assert "flow_1.int8.bin is not the file that was exported (its SHA-256 differs): export the voice again" in sentence
    told = run("info", copied)
    assert told.status == INPUT
    assert told.err.startswith("error: ") and told.err.count("\n") == 1 and "flow_1.int8.bin is not" in told.err
    assert "all as exported" not in told.out


@pytest.mark.parametrize("command", [["info"], ["synth", "Hello.", "--voice"], ["bench", "--voice"]])
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"version": 2}, "has manifest version 2 and this fte reads version 1"),
        ({"format": "gguf"}, "is not the manifest of a voice bundle"),
        (
            {"speakers": ["a"], "colour": "red"},
            "colour is unknown; speakers has 1 entries and flowtron.n_speakers is 3",
        ),
    ],
)
def test_a_manifest_that_cannot_be_used_is_refused(refused, copied, command, changes, says):
    manifest = json.loads((copied / "manifest.json").read_text(encoding="utf-8"))
    (copied / "manifest.json").write_text(json.dumps(manifest | changes), encoding="utf-8")
    assert says in refused(*command, copied, status=INPUT)


@pytest.mark.parametrize("voice", ["nowhere", "n" * 300, "a\nb"])
def test_a_voice_that_is_not_there_is_refused(refused, voice):
    says = refused("synth", "Hello.", "--voice", voice, status=INPUT)
    assert "is not a voice bundle: there is no such folder" in says


# Bad requests.


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["Hi.", "--speaker", "dora"], "speaker 'dora' is unknown: this voice has speaker_0, speaker_1, speaker_2"),
        (["Hi.", "--speaker", "3"], "speaker 3 is unknown: this voice has ids 0 to 2"),
        (["Hi.", "--speaker=-1"], "speaker '-1' is unknown"),
        ([""], "the text is empty: give at least one word"),
        (["  "], "the text is empty"),
        (["..."], "nothing in '...' can be pronounced"),
        (["{HH"], "has no partner"),
        (["x" * (LIMITS.text_characters + 1)], f"more than the limit of {LIMITS.text_characters}: split it"),
        (["x" * (LIMITS.symbols + 1)], f"more than the limit of {LIMITS.symbols}: split it into sentences"),
        (["Hi.", "--sigma=-0.5"], "sigma is -0.5: give a number from 0 to 10"),
        (["Hi.", "--sigma", "nan"], "sigma is nan: give a number from 0 to 10"),
        (["Hi.", "--sigma", "inf"], "sigma is inf"),
        (["Hi.", "--vocoder-sigma", "nan"], "the vocoder's sigma is nan"),
        (["Hi.", "--denoiser=-1"], "the denoiser's strength is -1.0: give a number from 0 to 1000"),
        (["Hi.", "--gate-threshold", "nan"], "gate_threshold is nan"),
        (["Hi.", "--max-frames", "0"], "max_frames is 0: give a whole number from 1 to 10000"),
        (["Hi.", "--max-frames", LIMITS.frames + 1], "max_frames is 10001"),
        (["Hi.", "--seed=-1"], "seed"),
        (["Hi.", "--seed", 10**30], "seed"),
        (["Hi.", "--precision", "fp16"], "has no precision 'fp16': it was exported with fp32, int8"),
        (["Hi.", "--device", "tpu"], "device 'tpu' is unknown: choose one of auto, cpu, cuda"),
        (["Hi.", "--threads", "0"], "threads is 0: choose a number from 1 to 1024"),
        (["Hi.", "--plot", "a.jpg"], "cannot draw a.jpg: the name of a picture must end in one of .png, .pdf, .svg"),
        (["Hi.", "-o", "."], "cannot write . as sound: its name must end in one of .wav, "),
        (["Hi.", "-o", "hi.aiff"], "cannot write hi.aiff as sound"),
        (
            ["Hi.", "-o", "hi.opus", "--rate", "22050"],
            ".opus files have no sample rate of 22050 Hz: choose one of 8000, ",
        ),
        (["Hi.", "--rate", "1"], "from 4000 to 192000 Hz, not 1"),
        (["Hi.", "--loudness", "3"], "a loudness must be from -70 to 0 LUFS, not 3"),
        (["Hi.", "--timings", "a.txt"], "cannot write timings to a.txt: its name must end in .json, .srt, .vtt or"),
        (["Hi.", "--save-mel", "a.pt"], "cannot write a.pt: the name of a mel must end in .npy"),
        (["Hi.", "--json", "--timings", "out.json"], "--json and --timings would both write out.json"),
        (["Hi.", "--retries", "4"], "retries is 4: give a whole number from 0 to 3"),
        (["Hi.", "--span-symbols", "0"], "span_symbols is 0"),
        (["Hi.", "--pause=-1"], "pause is -1"),
        (["Hi.", "--raw", "--loudness=-20"], "--loudness cannot be had for standard output: leave it out"),
        (["Hi.", "--from-mel", "a.npy"], "a text and --from-mel were given: leave one of them out"),
    ],
)
def test_a_request_that_cannot_be_spoken_is_refused(refused, tiny_path, arguments, says):
    assert says in refused("synth", "--voice", tiny_path, *arguments)


@pytest.mark.parametrize(
    ("arguments", "says", "status"),
    [
        (["Hi.", "--lexicon", "no.txt"], "cannot read the lexicon no.txt", INPUT),
        (["--from-mel", "a.npy"], "a.npy", INPUT),
        (["Hi.", "--plot", "no/a.png"], "cannot write no/a.png: no is not a folder", OUTPUT),
        (["Hi.", "-o", "no/a.wav"], "cannot write no/a.wav: no is not a folder, choose one that exists", OUTPUT),
        (["Hi.", "-o", "/dev/null/a.wav"], "cannot write /dev/null/a.wav: /dev/null is not a folder", OUTPUT),
        (["Hi.", "-o", "/proc/a.wav", HELLO_FRAMES], "cannot write /proc/a.wav: ", OUTPUT),
        (["Hi.", "-o", f"{'n' * 300}.wav", HELLO_FRAMES], "cannot write nnn", OUTPUT),
    ],
)
def test_a_file_that_cannot_be_read_or_written_is_refused(refused, tiny_path, arguments, says, status):
    assert says in refused("synth", "--voice", tiny_path, *arguments, status=status)


def test_cuda_without_a_usable_gpu_says_what_is_missing(refused, tiny_path, monkeypatch):
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    sentence = refused("synth", "Hi.", "--voice", tiny_path, "--device", "cuda")
    assert "needs ONNX Runtime's CUDA provider" in sentence and "has only CPUExecutionProvider" in sentence
    assert "install flowtron-fte[gpu] in place of flowtron-fte[cpu]" in sentence


@pytest.mark.parametrize(
    ("stdin", "says"), [(b"", "the text is empty"), (b"caf\xe9", "the standard input is not UTF-8")]
)
def test_standard_input_without_a_text_is_refused(refused, tiny_path, stdin, says):
    status = INPUT if "UTF-8" in says else USAGE
    assert says in refused("synth", "--voice", tiny_path, stdin=stdin, status=status)


def test_standard_input_that_is_closed_is_refused(tiny_path, tmp_path):
    script = "import sys; sys.stdin = None; sys.argv[0] = 'fte'; from fte.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, "synth", "--voice", tiny_path], capture_output=True, text=True, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (2, "error: there is no standard input: give the text as an argument\n")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot read lines.txt: No such file or directory"),
        (b"", "lines.txt has no text: give a file with something to say on each line"),
        (b" \n\t\n", "lines.txt has no text"),
        (b"caf\xe9\n", "lines.txt is not UTF-8 text: convert it"),
        (b"Fine.\n\n{bad\n", "line 3 of lines.txt: a brace in "),
        (b"Fine.\n" + b"x" * (LIMITS.text_characters + 1), "line 2 of lines.txt: the text has 10001 characters"),
        (b"x" * ((16 << 20) + 1), "lines.txt is larger than 16777216 bytes: split it"),
    ],
)
def test_a_text_file_that_cannot_be_spoken_is_refused_before_its_first_line(refused, tiny_path, content, says):
    """Neither the folder nor the wavs of the lines before the faulty one appear."""
    if content is not None:
        Path("lines.txt").write_bytes(content)
    assert says in refused("synth", "--voice", tiny_path, "--text-file", "lines.txt", "-o", "wavs", status=INPUT)


def test_options_that_exclude_each_other_are_refused(refused, tiny_path):
    Path("lines.txt").write_text("Hi.\n")
    command = ["synth", "--voice", tiny_path, "--text-file", "lines.txt", "-o", "wavs"]
    assert "--plot cannot be had for a file of lines" in refused(*command, "--plot", "a.png")
    assert "a text and --text-file were given: leave one of them out" in refused(*command, "Hello.")


def test_a_folder_for_wavs_that_cannot_be_made_is_refused(refused, tiny_path):
    Path("lines.txt").write_text("Hi.\n")
    command = ["synth", "--voice", tiny_path, "--text-file", "lines.txt", HELLO_FRAMES, "-o"]
    assert "cannot write lines.txt/wavs: " in refused(*command, "lines.txt/wavs", status=OUTPUT)
    assert "cannot write lines.txt: " in refused(*command, "lines.txt", status=OUTPUT)
    assert "cannot make the folder /proc/wavs: " in refused(*command, "/proc/wavs", status=OUTPUT)


@pytest.mark.parametrize("arguments", [["sing"], ["synth", "--sigma", "much"], ["export"], ["info"], ["--loud"]])
def test_arguments_that_are_none_end_with_status_2_and_the_usage(run, arguments):
    result = run(*arguments)
    assert result.status == 2
    assert "Usage: fte" in result.err and "Traceback" not in result.err


def test_a_path_that_is_no_text_does_not_end_in_a_traceback(tiny_path, tmp_path):
    """Bytes that are no UTF-8 reach the program as halves of surrogate pairs, which no stream can encode."""
    script = "import sys; sys.argv[0] = 'fte'; from fte.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, "synth", "Hi.", "--voice", tiny_path, "-o", b"caf\xe9.wav", HELLO_FRAMES],
        capture_output=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0
    assert [os.fsencode(path.name) for path in tmp_path.iterdir()] == [b"caf\xe9.wav"]


# Interruptions.


def started(folder: Path, *arguments: object) -> subprocess.Popen[str]:
    """`fte` in a process of its own."""
    command = "import sys; sys.argv[0] = 'fte'; from fte.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", command, *map(str, arguments)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_signals,
    )


def heed_signals() -> None:
    """The tests may run under nohup."""
    for number in interruption.SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def wait_for(process: subprocess.Popen[str], found: Callable[[], bool]) -> None:
    """Return as soon as ``found``; fail when the process ends before."""
    deadline = time.monotonic() + 60
    while not found():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("number", interruption.SIGNALS)
def test_an_interrupted_export_leaves_the_old_bundle_and_nothing_else(number, tiny_path, checkpoints, tmp_path):
    shutil.copytree(tiny_path, tmp_path / "voice")
    process = started(
        tmp_path, "export", "--checkpoint", checkpoints[0], "--waveglow", checkpoints[1], "-o", "voice", "--overwrite"
    )
    wait_for(process, lambda: any(tmp_path.glob(".fte-*/*.onnx")))  # in the middle of writing
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (128 + number, "", "error: interrupted; nothing was left half-written\n")
    assert [path.name for path in tmp_path.iterdir()] == ["voice"]
    assert Bundle.open(tmp_path / "voice").manifest.name == "tiny"
    assert Bundle.open(tmp_path / "voice").check_files() == []


def test_a_second_interruption_does_not_stop_the_cleaning_up(run, monkeypatch):
    rmtree = shutil.rmtree

    def interrupted_rmtree(path: Path, **options: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        rmtree(path, **options)

    monkeypatch.setattr("fte.files.shutil.rmtree", interrupted_rmtree)
    monkeypatch.setattr("fte_export.pipeline.read_voice", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    result = run("export", "--checkpoint", FLOWTRON, "-o", "voice")
    assert result == Result(128 + signal.SIGTERM, "", "error: interrupted; nothing was left half-written\n")
    assert list(Path().iterdir()) == []


def test_an_interrupted_reading_of_lines_keeps_whole_wavs_only(tiny_path, tmp_path):
    (tmp_path / "lines.txt").write_text("Hello there.\n" * 5000)
    process = started(tmp_path, "synth", "--text-file", "lines.txt", "--voice", tiny_path, "-o", "wavs", "--threads", 1)
    wait_for(process, lambda: (tmp_path / "wavs" / "00001.wav").exists())
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    assert err.endswith("error: interrupted; nothing was left half-written\n") and "Traceback" not in err
    found = sorted(path.name for path in (tmp_path / "wavs").iterdir())
    assert 1 <= len(found) < 5000
    assert found == [f"{n:05d}.wav" for n in range(1, len(found) + 1)]
    assert all(len(wav(tmp_path / "wavs" / name)) % 256 == 0 for name in found)


def test_under_nohup_a_closed_terminal_interrupts_nothing(tiny_path, tmp_path):
    (tmp_path / "lines.txt").write_text("Hello there.\n" * 3)
    script = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); "
    main = "import sys; sys.argv[0] = 'fte'; from fte.cli import main; main()"
    arguments = ["synth", "--text-file", "lines.txt", "--voice", str(tiny_path), "-o", "wavs", "--max-frames", "200"]
    with subprocess.Popen([sys.executable, "-c", script + main, *arguments], cwd=tmp_path, text=True) as process:
        wait_for(process, lambda: (tmp_path / "wavs" / "00001.wav").exists())
        process.send_signal(signal.SIGHUP)
    assert process.returncode == 0
    assert len(list((tmp_path / "wavs").iterdir())) == 3


def started_export(folder: Path, *options: str) -> subprocess.Popen[str]:
    """An export that is being written when this returns."""
    process = started(folder, "export", "--checkpoint", FLOWTRON, "-o", "voice", *options)
    wait_for(process, lambda: any(folder.glob(".fte-*/*.onnx")))
    return process


def test_what_appears_where_an_export_goes_is_kept(tmp_path):
    process = started_export(tmp_path)
    (tmp_path / "voice").mkdir()
    (tmp_path / "voice" / "thesis.txt").write_text("years of work")
    _, err = process.communicate(timeout=60)
    assert (process.returncode != 0, err.count("\n")) == (True, 1)
    assert err.startswith("error: voice exists already")
    assert [path.name for path in tmp_path.rglob("*")] == ["voice", "thesis.txt"]


def test_a_strangers_file_put_into_a_voice_that_is_being_replaced_is_kept(tiny_path, tmp_path):
    shutil.copytree(tiny_path, tmp_path / "voice")
    process = started_export(tmp_path, "--overwrite")
    (tmp_path / "voice" / "thesis.txt").write_text("years of work")
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "voice is not overwritten, for it holds more than a bundle ('thesis.txt')" in err
    assert (tmp_path / "voice" / "thesis.txt").read_text() == "years of work"
    assert Bundle.open(tmp_path / "voice").manifest.name == "tiny"
    assert [path.name for path in tmp_path.iterdir()] == ["voice"]


@pytest.mark.parametrize("extra", [[], ["--overwrite"]])
def test_an_export_to_a_name_that_is_being_written_is_refused_at_once(run, extra, monkeypatch):
    monkeypatch.setattr("fte_export.pipeline.read_voice", lambda *_: pytest.fail("nothing must be read"))
    with claimed(Path("voice")):
        result = run("export", "--checkpoint", FLOWTRON, "-o", "voice", *extra)
    assert (result.status != 0, result.out) == (True, "")
    assert result.err == "error: voice is being written by another process: let it end, or choose another name\n"
    assert list(Path().iterdir()) == []


def test_what_a_killed_export_left_is_removed_by_the_next(run):
    process = started_export(Path())
    process.kill()
    process.communicate()
    assert any(Path().glob(".fte-*"))
    assert run("export", "--checkpoint", FLOWTRON, "-o", "other", "--no-verify").status == 0
    assert [path.name for path in Path().iterdir()] == ["other"]


# Standard output.

SHOWING = {
    "info": ("info", "VOICE"),
    "info as JSON": ("info", "VOICE", "--json"),
    "text": ("text", "Hello."),
    "doctor": ("doctor",),
    "help": ("synth", "--help"),
    "version": ("--version",),
    "sound": ("synth", "Hello.", "--voice", "VOICE", "--raw", HELLO_FRAMES),
}


def shown(arguments: tuple[str, ...], voice: Path, redirection: str) -> tuple[int, str]:
    """Exit status and standard error of `fte` with its output sent somewhere by a shell."""
    main = "import sys; sys.argv[0] = 'fte'; from fte.cli import main; main()"
    command = [sys.executable, "-c", main, *(str(voice) if a == "VOICE" else a for a in arguments)]
    done = subprocess.run(["sh", "-c", f'"$@" {redirection}', "sh", *command], capture_output=True, text=True)
    return done.returncode, done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("arguments", SHOWING.values(), ids=SHOWING)
def test_a_full_disk_behind_standard_output_is_one_sentence(arguments, tiny_path):
    status, err = shown(arguments, tiny_path, "> /dev/full")
    assert (status != 0, err) == (True, "error: cannot write to standard output: No space left on device\n")


@pytest.mark.parametrize("arguments", SHOWING.values(), ids=SHOWING)
def test_a_standard_output_that_is_closed_is_one_sentence(arguments, tiny_path):
    status, err = shown(arguments, tiny_path, ">&-")
    assert status != 0
    assert err.startswith("error: ") and err.count("\n") == 1 and "closed" in err


@pytest.mark.parametrize("arguments", [SHOWING["info"], SHOWING["help"]], ids=["info", "help"])
def test_a_reader_of_standard_output_that_went_away_ends_it_without_a_word(arguments, tiny_path):
    reading, writing = os.pipe()
    os.close(reading)
    main = "import sys; sys.argv[0] = 'fte'; from fte.cli import main; main()"
    command = [sys.executable, "-c", main, *(str(tiny_path) if a == "VOICE" else a for a in arguments)]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_what_needs_no_standard_output_works_without_one(tiny_path, tmp_path):
    arguments = ("synth", "Hello.", "--voice", "VOICE", HELLO_FRAMES, "-q", "-o", str(tmp_path / "a.wav"))
    assert shown(arguments, tiny_path, ">&-") == (0, "")
    assert len(wav(tmp_path / "a.wav"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_behind_standard_error_hides_the_sentence_alone(tiny_path):
    assert shown(("info", "nothing"), tiny_path, "2> /dev/full") == (3, "")


def test_a_pipe_that_must_not_be_waited_for_gets_everything(tiny_path):
    """Such as a parent's that is written by others too: what does not fit at once is written when it does."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    main = "import sys; sys.argv[0] = 'fte'; from fte.cli import main; main()"
    arguments = ["synth", "Hello.", "--voice", str(tiny_path), "--raw", "--max-frames", "900", "--gate-threshold", "1"]
    with subprocess.Popen([sys.executable, "-c", main, *arguments], stdout=writing, stderr=subprocess.PIPE) as process:
        os.close(writing)
        time.sleep(3)  # until it is full
        with os.fdopen(reading, "rb") as pipe:
            data = pipe.read()
        assert process.stderr.read() == b""
    assert process.returncode == 0
    assert len(data) > 1 << 16
