"""Options of `fte synth` that do nothing together are refused, each of them in each mode."""

import inspect
from pathlib import Path

import pytest

from fte.cli.combinations import USELESS, flag
from fte.cli.synth import synth
from test_cli import refused, run  # noqa: F401  (fixtures)

MODES = {
    "one": ["Hi."],
    "book": ["--text-file", "t.txt", "-o", "b.wav"],
    "lines": ["--text-file", "t.txt", "-o", "lines"],
    "mel": ["--from-mel", "m.npy"],
    "stdout": ["Hi.", "--raw"],
    "play": ["Hi.", "--play"],
}
VALUES = {
    "out": ["-o", "a.wav"],
    "speaker": ["--speaker", "0"],
    "sigma": ["--sigma", "0.5"],
    "seed": ["--seed", "1"],
    "style": ["--style", "s"],
    "style_weight": ["--style-weight", "1", "--style", "s"],
    "style_tags": ["--style-tags"],
    "tail": ["--tail", "1", "--style", "s"],
    "rhythm": ["--rhythm", "r.wav"],
    "lexicon": ["--lexicon", "l.txt"],
    "guess_unknown": ["--guess-unknown"],
    "retries": ["--retries", "1"],
    "span_symbols": ["--span-symbols", "100"],
    "pause": ["--pause", "1"],
    "gate_threshold": ["--gate-threshold", "0.5"],
    "max_frames": ["--max-frames", "20"],
    "vocoder_sigma": ["--vocoder-sigma", "0.7"],
    "denoiser": ["--denoiser", "0.1"],
    "rate": ["--rate", "22050"],
    "loudness": ["--loudness", "-20"],
    "timings": ["--timings", "a.srt"],
    "save_mel": ["--save-mel", "a.npy"],
    "plot": ["--plot", "a.png"],
    "as_json": ["--json"],
    "restart": ["--restart"],
    "device": ["--device", "cpu"],
    "precision": ["--precision", "fp32"],
    "threads": ["--threads", "1"],
    "backend": ["--backend", "native"],
    "trust_engines": ["--trust-engines", "d", "--backend", "tensorrt"],
    "quiet": ["--quiet"],
}
"""Each option with a value that is its own, beside what it needs."""
REFUSED = {
    "one": "restart",
    "book": "save_mel plot",
    "lines": "timings save_mel plot restart",
    "mel": "speaker sigma style style_weight style_tags tail rhythm lexicon guess_unknown retries span_symbols pause "
    "gate_threshold max_frames timings save_mel plot as_json restart",
    "stdout": "out loudness timings save_mel plot as_json restart",
    "play": "out loudness timings save_mel plot as_json restart",
}
"""The options that each mode has no use for; all others it uses."""


def test_every_option_is_in_the_table():
    parameters = set(inspect.signature(synth).parameters)
    assert set(VALUES) == parameters - {"context", "text", "voice", "text_file", "from_mel", "raw", "to_player"}
    assert set(USELESS) == set(MODES)


@pytest.mark.parametrize("mode", MODES)
def test_what_a_mode_has_no_use_for_is_refused_and_nothing_else(run, mode):  # noqa: F811
    Path("t.txt").write_text("Hi.")
    for name, option in VALUES.items():
        if name == "out" and mode in ("book", "lines"):
            continue  # which is how they are told apart
        result = run("synth", "--voice", "nowhere", *MODES[mode], *option)
        is_useless = f"{flag(name)} cannot be had for" in result.err or f"{flag(name)}, " in result.err
        assert is_useless == (name in REFUSED[mode].split()), (name, result.err)
        assert (result.status == 2) >= is_useless


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--raw", "-o", "a.wav"], "-o cannot be had for standard output: leave it out"),
        (["--raw", "--play"], "--raw and --play were given: leave one of them out"),
        (["--style-weight", "2"], "--style-weight scales a style, and none was given"),
        (["--trust-engines", "d"], "--trust-engines is for engines: give --backend tensorrt with it"),
        (["--threads", "1", "--backend", "tensorrt"], "--threads cannot be had with --backend tensorrt"),
        (["--rhythm", "r.wav", "--retries", "1"], "--retries cannot be had with --rhythm, which settles the length"),
        (["--rhythm", "r.wav", "--pause", "1", "--max-frames", "9"], "--max-frames, --pause cannot be had with"),
        (["--text-file", "t.txt"], "a text and --text-file were given: leave one of them out"),
        (["--from-mel", "m.npy"], "a text and --from-mel were given: leave one of them out"),
    ],
)
def test_pairs_that_do_nothing_together_are_refused(refused, arguments, says):  # noqa: F811
    assert says in refused("synth", "Hi.", "--voice", "nowhere", *arguments)


@pytest.mark.parametrize("way", ["--raw", "--play"])
def test_a_mel_is_neither_streamed_nor_played(refused, way):  # noqa: F811
    assert "--from-mel cannot be " in refused("synth", "--from-mel", "m.npy", way)


def test_a_dash_and_raw_both_mean_standard_output(run, tiny_path):  # noqa: F811
    says = run("synth", "Hi.", "--raw", "-o", "-", "--voice", "nowhere").err
    assert "is not a voice bundle" in says


def test_a_voice_without_a_vocoder_has_none_of_its_options(run, refused):  # noqa: F811
    from test_cli import FLOWTRON

    assert run("export", "--checkpoint", FLOWTRON, "-o", "v", "--precision", "fp32", "--no-verify").status == 0
    for option in (["--denoiser", "0.1"], ["--vocoder-sigma", "0.5"]):
        says = refused("synth", "Hi.", "-v", "v", *option)
        assert f"{option[0]} cannot be had with a voice that has no vocoder" in says
