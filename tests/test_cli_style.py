"""`fte style`: from recordings to styles to speech."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from fte.cli import app
from fte.errors import RequestError
from fte.style.posterior import analysed
from fte.style.style import load_style

DATA = Path(__file__).parent / "data" / "ravdess_like"


@pytest.fixture
def voice(tiny_path, tmp_path, monkeypatch) -> Path:
    """A copy of the tiny voice, which may be given styles, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(tiny_path, tmp_path / "voice"))


def run(*arguments: object):
    done = CliRunner().invoke(app, ["style", *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done


def extract(voice: Path, *options: object):
    # the tiny voice has not learnt to attend, so that no recording seems to say its text
    return run("extract", "--voice", voice, "--ravdess", DATA, "--keep-unaligned", *options)


def test_styles_of_a_voice_are_extracted_listed_mixed_and_spoken(voice):
    emotions = sorted({path.stem.split("-")[2] for path in DATA.rglob("*.wav")})[:2]
    for emotion in emotions:
        extract(voice, "--emotion", int(emotion), "--name", f"style{emotion}")
    a, b = (f"style{emotion}" for emotion in emotions)
    listed = run("list", voice).output
    assert f"{a}: time_and_batch" in listed and f"{b}: time_and_batch" in listed
    run("mix", f"{a}:3,{b}:1", "-o", "mix.safetensors", "--voice", voice)
    means = {name: load_style(voice / "styles" / f"{name}.safetensors").mean for name in (a, b)}
    np.testing.assert_allclose(load_style("mix.safetensors").mean, 0.75 * means[a] + 0.25 * means[b], atol=1e-6)
    assert Path("mix.safetensors").stat().st_size < 64 << 10
    spoken = {}
    for style in ("", a, f"{a}:1,{b}:1", "mix.safetensors"):
        options = ["--style", style] if style else []
        arguments = ["synth", "Kids are talking.", "--voice", str(voice), "-o", "x.wav", "--max-frames", "30", "-q"]
        assert CliRunner().invoke(app, [*arguments, *options]).exit_code == 0
        spoken[style] = Path("x.wav").read_bytes()
    assert len(set(spoken.values())) == 4


def test_a_style_without_its_speaker_says_so(voice):
    extract(voice, "--speaker-independent", "--actor", "1", "-o", "s.safetensors")
    style = load_style("s.safetensors")
    assert style.speaker is None
    np.testing.assert_allclose(style.mean, 0, atol=1e-3)  # over all emotions nothing is left


def test_what_was_left_out_is_told_with_its_reason(voice):
    shutil.copytree(DATA, "mixed", ignore=shutil.ignore_patterns("*.md"))
    Path("mixed/notes.wav").write_bytes(b"")
    done = run("extract", "--voice", voice, "--ravdess", "mixed", "--keep-unaligned", "-o", "s.safetensors")
    assert "left out notes.wav: its name is not that of a RAVDESS recording" in done.stderr


def test_interpolation_and_variation_write_wavs_and_a_picture(voice):
    extract(voice, "--name", "all")
    short = ["--text", "Kids are talking.", "--voice", voice, "--max-frames", 30]
    run("interpolate", "all", "all", "--steps", 3, "-o", "steps", *short)
    assert sorted(p.name for p in Path("steps").iterdir()) == ["0.00.wav", "0.50.wav", "1.00.wav", "renditions.png"]
    assert Path("steps/0.00.wav").read_bytes() == Path("steps/1.00.wav").read_bytes()
    run("vary", "all", "--tail", 2, "--count", 2, "-o", "tails", *short)
    first, second = (soundfile.read(f"tails/{name}.wav")[0] for name in ("00", "01"))
    assert np.abs(first - second).max() > 1e-3


def test_tags_in_a_text_give_its_words_their_style(voice):
    extract(voice, "--name", "all")
    arguments = ["synth", "--voice", str(voice), "--max-frames", "30", "-q", "-o"]
    tagged = CliRunner().invoke(app, [*arguments, "a.wav", "[all]Kids are[/all] talking.", "--style-tags"])
    assert tagged.exit_code == 0
    assert CliRunner().invoke(app, [*arguments, "b.wav", "Kids are talking."]).exit_code == 0
    assert Path("a.wav").read_bytes() != Path("b.wav").read_bytes()
    with pytest.raises(RequestError, match="there is no style 'joy'"):
        run_synth = CliRunner().invoke(app, [*arguments, "c.wav", "[joy]Kids[/joy] are.", "--style-tags"])
        raise run_synth.exception


def test_the_list_of_styles_is_one_json_document(voice):
    assert json.loads(run("list", voice, "--json").stdout) == []
    extract(voice, "--name", "all", "--threads", 1)
    (record,) = json.loads(run("list", voice, "--json").stdout)
    assert record["style"] == record["name"] == "all" and record["aggregation"] == "time_and_batch"


def test_representatives_are_named_as_asked(voice):
    options = ["--voice", voice, "--ravdess", DATA, "--actor", "1,2", "--keep-unaligned"]
    run("representatives", *options, "--name", "ravdess-{label}")
    styles = [load_style(path) for path in sorted((voice / "styles").glob("*.safetensors"))]
    assert [style.name for style in styles] == ["ravdess-happy", "ravdess-neutral", "ravdess-sad"]
    refused = CliRunner().invoke(app, ["style", "representatives", *map(str, options), "--name", "x/{label}"])
    assert "'x/happy' cannot be the name of a style" in str(refused.exception)


def test_each_label_gets_its_representative(voice):
    run("representatives", "--voice", voice, "--ravdess", DATA, "--actor", "1,2", "--keep-unaligned")
    styles = {p.stem: load_style(p) for p in (voice / "styles").glob("*.safetensors")}
    assert set(styles) == {"neutral", "happy", "sad"}
    assert np.abs(styles["happy"].mean - styles["sad"].mean).max() > 1e-3


def test_styles_of_a_voice_are_replaced_only_when_asked(voice):
    options = ["--voice", str(voice), "--ravdess", str(DATA), "--keep-unaligned"]
    extract(voice, "--emotion", "happy", "--name", "happy")
    before = (voice / "styles" / "happy.safetensors").read_bytes()
    for command in (["extract", "--name", "happy"], ["representatives"]):
        refused = CliRunner().invoke(app, ["style", *command, *options])
        assert "happy.safetensors exists already: choose another name, or --overwrite it" in str(refused.exception)
        assert (voice / "styles" / "happy.safetensors").read_bytes() == before
        assert CliRunner().invoke(app, ["style", *command, *options, "--overwrite"]).exit_code == 0
        before = (voice / "styles" / "happy.safetensors").read_bytes()


def test_the_rhythm_of_a_recording_gives_its_length(voice):
    recording = DATA / "Actor_01" / "03-01-01-01-01-01-01.wav"
    text = "Kids are talking by the door."
    arguments = ["synth", text, "--voice", str(voice), "-q", "-o", "x.wav", "--rhythm", str(recording)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    samples, rate = soundfile.read(recording)
    spoken = soundfile.info("x.wav")
    trimmed = len(analysed(samples.astype(np.float32), rate, 80))
    assert spoken.frames == 256 * trimmed


def test_show_prints_one_json_document(voice):
    extract(voice, "-o", "s.safetensors", "--aggregation", "batch", "--frames", 50)
    (record,) = json.loads(run("show", "s.safetensors", "--json").stdout)
    assert record["aggregation"] == "batch" and record["channels"] == 80
    assert load_style("s.safetensors").mean.shape == (50, 80)


def test_a_map_is_drawn_with_its_numbers(voice):
    first, second = sorted(DATA.rglob("*.wav"))[:2]
    lines = [f"{p}|Kids are talking.|{s}|{label}" for label in ("x", "y") for s in (0, 1) for p in (first, second)]
    Path("list.txt").write_text("\n".join(lines), "utf-8")
    done = run("map", "--voice", voice, "--filelist", "list.txt", "-o", "map.png", "--keep-unaligned", "--json")
    record = json.loads(done.stdout)
    assert record["recordings"] == 8 and len(record["panels"]) == 4
    assert Path("map.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["map", "--ravdess", DATA, "-o", "m.png", "--keep-unaligned"], "two recordings or more each"),
        (["map", "--ravdess", DATA, "-o", "m.jpg"], "the name of a map must end in one of"),
        (["map", "--ravdess", DATA, "-o", "m.png", "--method", "mds"], "the method 'mds' is unknown"),
        (["extract", "-o", "s.safetensors"], "give recordings by one of --ravdess, --filelist and --folder"),
        (["extract", "--ravdess", DATA], "neither --out nor --name"),
        (["extract", "--ravdess", "empty", "-o", "s.safetensors"], "empty"),
        (["extract", "--ravdess", DATA, "-o", "s.safetensors", "--emotion", "bored"], "bored"),
        (["extract", "--ravdess", DATA, "-o", "s.safetensors", "--aggregation", "mean"], "aggregation 'mean'"),
        (["extract", "--folder", DATA, "-o", "s.safetensors", "--emotion", "happy"], "are for --ravdess"),
        (["mix", "happy:1", "-o", "m.safetensors"], "cannot read happy.safetensors"),
        (["interpolate", "a", "b", "--text", "x", "-o", "f", "--steps", "1"], "1 steps"),
        (["interpolate", "a", "b", "--text", "x", "-o", "f", "--how", "round"], "the way 'round'"),
        (["vary", "a", "--text", "x", "-o", "f", "--tail=-1"], "no style 'a'"),
        (["vary", "a", "--text", "x", "-o", "f", "--count", "0"], "0 renditions"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_sentence(voice, arguments, says):
    Path("empty").mkdir()
    with pytest.raises(RequestError) as error:
        run(*arguments, "--voice", voice)
    assert says in str(error.value) and "\n" not in str(error.value)
