"""Whatever a caller gives to a public function: what was asked for or a sentence of ours, no error of Python's."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fte import Request, Synthesizer, checks
from fte.audio import read_audio
from fte.bundle import Bundle
from fte.errors import FteError
from fte.melfile import load_mel, save_mel
from fte.sound import write_sound
from fte.style.mixing import interpolate, mix, parse_mix, shares
from fte.style.ramps import (
    Knot,
    Ramp,
    StyledWords,
    parse_styled_text,
    ramp_by_time,
    ramp_by_word,
    ramp_over_words,
)
from fte.style.style import ReferenceNote, Style, load_style, save_style
from fte.text import TextFrontend, read_lexicon
from fte.timings import Timings, write_timings
from styles import style_of

WRONG: list[Any] = [
    None,
    True,
    3.5,
    -1,
    2**70,
    10**5000,
    math.nan,
    math.inf,
    "x",
    "",
    "\x00",
    "\ud800",
    b"x",
    [],
    [None],
    {},
    {"x": None},
    object(),
    len,
    np.float32("nan"),
    np.array(None),
    np.array(["x"]),
    np.zeros((2, 2), complex),
    np.zeros((0, 80), np.float32),
    np.full((3, 80), np.nan, np.float32),
    np.full((3, 80), 3e38),
    np.zeros((2, 3, 4)),
    [[1.0], [1.0, 2.0]],
]
"""Of every kind that somebody may give for anything."""


def walked(function: Callable[..., Any], good: dict[str, Any]) -> list[str]:
    """Every parameter with every wrong value, the others good; what ended in an error that is not ours."""
    function(**good)  # which shows that the walk is of a call that works
    faults = []
    for name in good:
        for value in WRONG:
            try:
                function(**good | {name: value})
            except FteError as error:
                if "\n" in str(error):
                    faults.append(f"{name}={checks.shown(value)}: more than a sentence: {error}")
            except Exception as error:  # what the walk is looking for
                faults.append(f"{name}={checks.shown(value)}: {type(error).__name__}: {error}"[:300])
    return faults


def faults_in(cases: dict[str, tuple[Callable[..., Any], dict[str, Any]]]) -> list[str]:
    return [f"{name}: {fault}" for name, case in cases.items() for fault in walked(*case)]


SPEAK: dict[str, Any] = {"max_frames": 4, "retries": 0, "span_symbols": 100}
REQUEST = {field.name: field.default for field in dataclasses.fields(Request)} | {"text": "Hi.", **SPEAK}


def speaking(voice: Synthesizer) -> dict[str, tuple[Callable[..., Any], dict[str, Any]]]:
    """The methods of a voice, each with arguments that work."""
    z, mel = np.zeros((4, 80), np.float32), np.full((4, 80), -5.0, np.float32)
    tone = np.sin(np.arange(16_000) * 0.05).astype(np.float32) * 0.3
    uniform = np.full((4, 3), 1 / 3, np.float32)
    decoding = {
        "text_ids": [1, 2, 3],
        "z": z,
        "speaker": 0,
        "gate_threshold": 0.5,
        "temperature": 1.0,
        "attention": [uniform, uniform],
        "attention_prior": uniform,
    }
    return {
        "style": (voice.style, {"name": "happy"}),
        "speaker_id": (voice.speaker_id, {"speaker": 0}),
        "transcript": (voice.transcript, {"text": "Hi."}),
        "text_ids": (voice.text_ids, {"text": "Hi."}),
        "plan": (lambda request: voice.plan(request), {"request": "Hi."}),
        "decode": (voice.decode, decoding),
        "decode a batch": (voice.decode, {name: [value] for name, value in decoding.items()}),
        "posterior": (
            voice.posterior,
            {"samples": tone, "sample_rate": 22050, "text": "Hi.", "speaker": 0, "temperature": 1.0},
        ),
        "vocode": (
            voice.vocode,
            {
                "mel": mel,
                "sigma": 0.8,
                "seed": 0,
                "request": 0,
                "noise": np.zeros((4 * 256 // voice.vocoder.sizes.n_group, voice.vocoder.sizes.n_group), np.float32),
                "denoiser": 0.1,
                "chunk": 20,
                "overlap": 2,
            },
        ),
        "stream": (
            lambda request, skip_spans, start_frame: list(
                voice.stream(request, skip_spans=skip_spans, start_frame=start_frame, **SPEAK)
                if isinstance(request, str)
                else voice.stream(request, skip_spans=skip_spans, start_frame=start_frame)
            ),
            {"request": "Hi.", "skip_spans": 0, "start_frame": 0},
        ),
        "synthesize": (voice.synthesize, REQUEST),
        "synthesize_batch": (voice.synthesize_batch, {"requests": [Request("Hi.", **SPEAK)]}),
        "synthesize_batch of one": (
            lambda request: voice.synthesize_batch([request]),
            {"request": Request("Hi.", **SPEAK)},
        ),
    }


def files_and_styles(voice: Synthesizer) -> dict[str, tuple[Callable[..., Any], dict[str, Any]]]:
    """The public functions beside a voice, each with arguments that work; files lie where the test stands."""
    happy, sad = style_of(voice), style_of(voice, "sad")
    fields = {field.name: getattr(happy, field.name) for field in dataclasses.fields(Style)}
    samples = np.zeros(2000, np.float32)
    return {
        "load": (
            Synthesizer.load,
            {
                "path": voice.bundle.path,
                "device": "cpu",
                "precision": "fp32",
                "threads": 1,
                "backend": "onnxruntime",
                "trust_engines": None,
                "lexicon": None,
                "guess_unknown": False,
            },
        ),
        "Synthesizer": (
            Synthesizer,
            {"bundle": voice.bundle, "backend": voice.backend, "precision": "fp32", "frontend": TextFrontend()},
        ),
        "Bundle.open": (Bundle.open, {"path": voice.bundle.path}),
        "Style": (Style, fields),
        "ReferenceNote": (
            lambda **note: style_of(voice, references=(ReferenceNote(**note),)),
            {"name": "a.wav", "sha256": "0" * 64, "frames": 5, "label": None},
        ),
        "Style.frames": (happy.frames, {"count": 4}),
        "save_style": (save_style, {"path": "a.safetensors", "style": happy}),
        "load_style": (load_style, {"path": "a.safetensors", "voice_hash": happy.voice_hash}),
        "mix": (mix, {"styles": {happy: 1.0, sad: 2.0}, "name": "mix"}),
        "weights of a mix": (lambda weight: mix({happy: weight, sad: 1.0}), {"weight": 1.0}),
        "interpolate": (interpolate, {"a": happy, "b": sad, "t": 0.5, "how": "linear", "name": "between"}),
        "parse_mix": (parse_mix, {"text": "happy:0.7,sad:0.3"}),
        "shares": (shares, {"weights": {"happy": 1.0}}),
        "ramp_by_time": (ramp_by_time, {"points": [(0.0, happy), (1.0, None)]}),
        "ramp_by_word": (ramp_by_word, {"points": [(0, "happy"), (1, None)]}),
        "a point of a ramp": (
            lambda position, style: ramp_by_time([(position, style), (1.0, happy)]),
            {"position": 0.0, "style": happy},
        ),
        "Knot": (
            lambda **knot: Ramp((Knot(**knot),), "word").means(4, [0, 2]),
            {"position": 0, "style": happy, "shift": 0},
        ),
        "Ramp": (Ramp, {"knots": (Knot(0, happy),), "unit": "word"}),
        "Ramp.means": (Ramp((Knot(0, happy),), "word").means, {"frames": 4, "word_starts": [0, 2]}),
        "ramp_over_words": (
            ramp_over_words,
            {"ranges": [StyledWords("happy", 0, 1)], "styles": {"happy": happy}, "base": None},
        ),
        "StyledWords": (
            lambda **words: ramp_over_words([StyledWords(**words)], {"happy": happy}),
            {"name": "happy", "start": 0, "stop": 1},
        ),
        "parse_styled_text": (parse_styled_text, {"text": "[happy]Hi[/happy].", "known": ["happy"]}),
        "save_mel": (save_mel, {"path": "a.npy", "mel": np.zeros((3, 80), np.float32)}),
        "load_mel": (load_mel, {"path": "a.npy", "n_mels": 80}),
        "write_sound": (
            write_sound,
            {"path": "a.wav", "samples": samples, "sample_rate": 22050, "rate": 22050, "loudness": -23},
        ),
        "read_audio": (read_audio, {"path": "a.wav"}),
        "write_timings": (write_timings, {"path": "a.json", "timings": Timings((), (), 1.0)}),
        "Timings": (Timings, {"words": (), "symbols": (), "duration": 1.0}),
        "read_lexicon": (read_lexicon, {"path": "words.txt"}),
        "TextFrontend": (
            TextFrontend,
            {"arpabet": True, "keep_ambiguous": False, "lexicon": {"fte": "EH1 F"}, "guess_unknown": False},
        ),
        "TextFrontend.ids": (TextFrontend().ids, {"text": "Hi."}),
        "TextFrontend.stages": (TextFrontend().stages, {"text": "Hi."}),
        "TextFrontend.transcribe": (TextFrontend().transcribe, {"text": "Hi."}),
    }


def test_a_voice_ends_in_no_error_of_pythons(tiny, own_styles):
    assert faults_in(speaking(tiny)) == []


def test_functions_of_files_and_styles_end_in_no_error_of_pythons(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_style("a.safetensors", style_of(tiny))
    save_mel("a.npy", np.zeros((3, 80), np.float32))
    write_sound("a.wav", np.zeros(2000, np.float32))
    (tmp_path / "words.txt").write_text("fte EH1 F\n", "utf-8")
    assert faults_in(files_and_styles(tiny)) == []


def test_the_walk_leaves_out_no_method_of_a_voice_and_no_field(tiny):
    """What is added to the public surface is added to the walk."""
    methods = {name for name in dir(Synthesizer) if not name.startswith("_") and callable(getattr(Synthesizer, name))}
    walked_methods = {name.split(" ")[0] for name in speaking(tiny)} | {"load"}
    assert methods - walked_methods == {"resolved"}  # which `plan` and all that speak begin with
    assert set(REQUEST) == {field.name for field in dataclasses.fields(Request)}
