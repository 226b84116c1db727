"""Times the public implementation and this one on the same weights, in turn, in one run.

    pip install --no-deps flowtron==22.12.28 waveglow==22.12.28
    python benchmarks/compare_reference.py --json benchmarks/results/compare_reference_cpu.json

Both run random weights of the published size on the CPU with as many threads as they take by default. First the
machine's ceiling is measured and stated (`ceiling.py`); then the contestants run round-robin, so that whatever else
the machine does hits all alike, and rounds in which other processes worked are repeated. Ratios are those of medians.
Linux only: memory and load are read from /proc. The last line printed is the report as JSON, or the path it was
written to; the exit status is 1 when a target is missed.
"""

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import public_code
from ceiling import PRECISIONS, Ceiling, Work, measure_ceiling, reader, work_of
from fte import Synthesizer, noise
from fte.constants import FRAME_SECONDS
from fte.decoder import NEVER, Decoded, Utterance
from fte.speech import PRIOR_SIGMA, VOCODER_SIGMA
from fte_export.checkpoint import Checkpoint
from fte_export.pipeline import ExportOptions, export_voice
from fte_export.random_voice import PUBLISHED_FLOWTRON, PUBLISHED_WAVEGLOW, random_flowtron, random_waveglow

Float32 = NDArray[np.float32]

PARTS = ("export", "memory", "decode", "vocoder", "drift")
BATCH = 8
"""Utterances of the larger batch."""
BATCHED = f"decode {BATCH}"
READING = "steps, reading"
"""Not a contestant: reads as many bytes as the flow steps' int8 weights are, as often."""
SYMBOLS = 80
"""Symbols of every timed text."""
DRIFT_FRAMES = (100, 400)
DRIFT_UTTERANCES = 4
CONTROL = 1e-4
"""Standard deviation of what is added to z to see how far the model itself carries a small change."""
SETTLE_SECONDS = 0.2
"""Between two contestants: the idle threads of the one before still spin for a while, and would slow the next down."""
QUIET_CORES = 0.1
"""A round is quiet when other processes kept no more cores busy: torch's threads wait for each other at every operator,
so that one busy core slows the public code down several times more than ours."""
MOST_ROUNDS = 2
"""Rounds run for each one asked for, where the machine is not quiet."""
SEED = 1
SENTENCES = (
    "It is well known that deep generative models have a rich latent space.",
    "She opened the window and let the cold morning air into the room.",
    "Nobody could have guessed how the long journey was going to end.",
    "The quick brown fox jumps over the lazy dog, and then it sleeps.",
)
"""Spoken by the trained voice and in the measurement of memory."""

_out, _err = Console(width=120), Console(stderr=True)


@dataclass(frozen=True)
class Options:
    """What is measured."""

    frames: int = 200
    """Mel frames of every timed utterance; the gate never fires."""
    repeats: int = 4
    """Counted rounds after one that warms up."""
    skip: tuple[str, ...] = ()
    """Parts left out: see PARTS."""
    trained: Path | None = None
    """A trained Flowtron whose int8 drift is measured beside that of random weights."""
    voice_dir: Path | None = None
    """Keeps checkpoints and bundle for the next run."""

    def wants(self, part: str) -> bool:
        return part not in self.skip


@dataclass(frozen=True)
class Round:
    """Every contestant once."""

    seconds: dict[str, float]
    """By contestant."""
    others: float
    """Cores that other processes kept busy meanwhile, on average."""

    @property
    def quiet(self) -> bool:
        return self.others <= QUIET_CORES


@dataclass(frozen=True)
class Timing:
    """One contestant's rounds."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def minimum(self) -> float:
        return min(self.seconds)


@dataclass(frozen=True)
class Requirement:
    """A figure that this implementation has to reach."""

    name: str
    reached: float
    target: float
    unit: str = ""
    at_most: bool = False

    @property
    def met(self) -> bool:
        return self.reached <= self.target if self.at_most else self.reached >= self.target


@dataclass(frozen=True)
class Difference:
    """How far a signal lies from the one it should be."""

    max_abs: float
    mean_abs: float
    snr_db: float
    """Power of the expected signal over that of the difference."""


@dataclass(frozen=True)
class Cost:
    """What a process of its own took."""

    seconds: float
    peak_mb: float
    """Largest resident memory, MB."""


@dataclass
class Results:
    """Everything measured, as far as it was asked for."""

    timings: dict[str, Timing] = field(default_factory=dict)
    """By "part, contestant"."""
    parity: dict[str, Any] = field(default_factory=dict)
    requirements: list[Requirement] = field(default_factory=list)
    drift: list[dict[str, Any]] = field(default_factory=list)
    costs: dict[str, Cost] = field(default_factory=dict)
    others: list[float] = field(default_factory=list)
    """Cores that other processes kept busy in each round."""


@dataclass(frozen=True)
class Voices:
    """The same weights, in the public code and in ours."""

    public_flowtron: Any
    public_waveglow: Any
    """Under weight norm, as published."""
    ours: dict[str, Synthesizer]
    """Through ONNX Runtime, by precision."""
    native: dict[str, Synthesizer]
    """Through the native engine, by precision."""

    @property
    def contestants(self) -> dict[str, Synthesizer]:
        """Ours by the name that stands in the tables."""
        return self.ours | {f"native {precision}": voice for precision, voice in self.native.items()}


# --- the voice ----------------------------------------------------------------------------------------------------


def prepare(options: Options, folder: Path, results: Results) -> tuple[Voices, Checkpoint]:
    """Both implementations with the same weights; ours through `fte export` of public checkpoints, measured."""
    flowtron, waveglow = random_flowtron(PUBLISHED_FLOWTRON), random_waveglow(PUBLISHED_WAVEGLOW)
    models = public_code.flowtron(flowtron), public_code.waveglow(waveglow)
    bundle = folder / "voice"
    measured = options.wants("export")
    if measured or not bundle.exists():
        _say("exporting" if measured else "exporting without verification, not measured")
        cost = export(*public_code.save_checkpoints(*models, folder), bundle, verify=measured)
        if measured:
            results.costs["export"] = cost
            results.requirements += [
                Requirement("export and verify, published size", cost.seconds, 180, "s", at_most=True),
                Requirement("export and verify, peak memory", cost.peak_mb * 1e6 / 2**30, 8, "GiB", at_most=True),
            ]
    ours = {precision: Synthesizer.load(bundle, "cpu", precision) for precision in PRECISIONS}
    native = {precision: Synthesizer.load(bundle, "cpu", precision, backend="native") for precision in PRECISIONS}
    return Voices(*models, ours, native), waveglow


_EXPORT = "from fte.cli import main; main()"
_SPEAK = """
import sys
from fte import Synthesizer
voice = Synthesizer.load(sys.argv[1], device="cpu", precision="int8")
speech = voice.synthesize(sys.argv[2], gate_threshold=2.0, max_frames=int(sys.argv[3]))
assert len(speech.mel) == int(sys.argv[3]) and "torch" not in sys.modules
"""
_PEAK = """
import atexit
def peak():
    lines = open("/proc/self/status").read().splitlines()
    print(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
atexit.register(peak)
"""
"""Prints the process's largest resident memory in KiB at its end. (The ru_maxrss of a child begins at the size of the
process that started it, so it says nothing here.)"""


def run_measured(code: str, *arguments: str) -> Cost:
    """Run Python code in a process of its own."""
    started = time.perf_counter()
    command = [sys.executable, "-c", _PEAK + code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"the measured process failed: {done.stderr[-2000:]}")
    return Cost(seconds, int(done.stdout.split()[-1]) * 1024 / 1e6)


def export(flowtron: Path, waveglow: Path, bundle: Path, *, verify: bool) -> Cost:
    """`fte export` of both checkpoints in all precisions."""
    arguments = ["export", "--checkpoint", flowtron, "--waveglow", waveglow, "--out", bundle, "--overwrite"]
    return run_measured(_EXPORT, *map(str, arguments), "--verify" if verify else "--no-verify")


def measure_memory(voices: Voices, options: Options, results: Results) -> None:
    """Resident memory of one int8 synthesis, vocoder included, in a process without torch."""
    bundle = str(voices.ours["int8"].bundle.path)
    cost = run_measured(_SPEAK, bundle, SENTENCES[0], str(options.frames))
    results.costs["synthesis_int8"] = cost
    memory = cost.peak_mb * 1e6 / 2**30
    results.requirements.append(Requirement("resident memory, int8 synthesis", memory, 3, "GiB", at_most=True))


# --- timing -------------------------------------------------------------------------------------------------------


def round_robin(contestants: dict[str, Callable[[], Any]], repeats: int) -> tuple[list[Round], dict[str, Any]]:
    """Run all contestants once to warm up, then in rounds; return the quietest ``repeats`` rounds and the results.

    There are rounds until so many were quiet, but no more than `MOST_ROUNDS` times ``repeats``. How quiet a round was
    is known from the work of other processes alone, never from the times.
    """
    results = {}
    for name, call in contestants.items():
        _say(f"warming up: {name}")
        results[name] = call()
    rounds: list[Round] = []
    while sum(r.quiet for r in rounds) < repeats and len(rounds) < MOST_ROUNDS * repeats:
        order = list(contestants)[:: -1 if len(rounds) % 2 else 1]
        rounds.append(one_round({name: contestants[name] for name in order}))
        _say(f"round {len(rounds)}: other work kept {rounds[-1].others:.2f} cores busy")
    return sorted(rounds, key=lambda r: r.others)[:repeats], results


def one_round(contestants: dict[str, Callable[[], Any]]) -> Round:
    """Time each contestant once."""
    busy, seconds = BusyCores(), {}
    for name, call in contestants.items():
        time.sleep(SETTLE_SECONDS)
        started = time.perf_counter()
        call()
        seconds[name] = time.perf_counter() - started
    return Round(seconds, busy.others())


def timings_of(rounds: Sequence[Round]) -> dict[str, Timing]:
    """The times of each contestant."""
    return {name: Timing(tuple(r.seconds[name] for r in rounds)) for name in rounds[0].seconds}


class BusyCores:
    """Tells how many cores other processes, and other guests of the host, kept busy since it was made."""

    def __init__(self) -> None:
        self._started = self._now()

    @staticmethod
    def _now() -> tuple[float, float]:
        """Time, and seconds of all cores spent on others until now."""
        fields = [int(ticks) for ticks in Path("/proc/stat").read_text(encoding="ascii").split()[1:9]]
        idle = fields[3] + fields[4]
        own = os.times()
        return time.perf_counter(), (sum(fields) - idle) / os.sysconf("SC_CLK_TCK") - own.user - own.system

    def others(self) -> float:
        then, now = self._started, self._now()
        return max(0.0, (now[1] - then[1]) / (now[0] - then[0]))


def utterances(count: int, frames: int) -> list[Utterance]:
    """Random symbols and z; the gate never fires."""
    made = []
    for i in range(count):
        ids = np.random.Generator(np.random.Philox(i)).integers(0, PUBLISHED_FLOWTRON.n_text, SYMBOLS)
        z = PRIOR_SIGMA * noise.normal((frames, PUBLISHED_FLOWTRON.n_mels), seed=SEED, request=i, stream="prior")
        made.append(Utterance(ids, z.astype(np.float32), gate_threshold=NEVER))
    return made


def speech_like_mel(frames: int) -> Float32:
    """Log magnitudes in the range of speech, between silence (-11.5) and loud (about 1): (frames, M)."""
    rows = noise.normal((frames, PUBLISHED_WAVEGLOW.n_mels), seed=SEED, request=BATCH, stream="prior")
    return np.asarray(-5 + 2 * rows, np.float32)


def decode_contestants(voices: Voices, frames: int) -> dict[str, Callable[[], Any]]:
    """Decoding, encoder included."""
    batch = utterances(BATCH, frames)
    first = batch[0]
    calls: dict[str, Callable[[], Any]] = {
        "decode, public": lambda: public_code.decode(voices.public_flowtron, first.text_ids, first.z)
    }
    for name, voice in voices.contestants.items():
        calls[f"decode, {name}"] = lambda v=voice: v.decoder.decode([first])[0].mel  # type: ignore[misc]
        calls[f"{BATCHED}, {name}"] = lambda v=voice: v.decoder.decode(batch)  # type: ignore[misc]
    return calls


def step_contestants(voices: Voices, frames: int, work: Work) -> dict[str, Callable[[], Any]]:
    """All flows over ``frames`` frames without encoder and decoder, and reading as many weights in the same rounds."""
    voice, sizes = voices.contestants["native int8"], PUBLISHED_FLOWTRON
    drawn = np.random.Generator(np.random.Philox(SEED))
    values = drawn.standard_normal((1, SYMBOLS, sizes.n_attention), np.float32)
    inputs = {
        "keys": values.transpose(0, 2, 1),
        "values": values,
        "text_mask": np.ones((1, SYMBOLS), bool),
        "temperature": np.ones((1, 1), np.float32),
        "remaining": np.full((1, 1), frames, np.int32),
    }
    timed = {"z": drawn.standard_normal((frames, 1, sizes.n_mels), np.float32)}
    flows = [voice.backend.open(voice.bundle, voice.precision, f"flow_{k}") for k in range(work.flows)]

    def steps() -> None:
        for flow in flows:
            flow.loop(frames, inputs, timed).collect()

    return {
        "steps, native int8": steps,
        READING: reader(work.step_bytes["int8"], len(os.sched_getaffinity(0)), work.flows * frames),
    }


def vocoder_contestants(voices: Voices, frames: int) -> dict[str, Callable[[], Any]]:
    """Vocoding of one mel with the same noise: the public code whole, ours in its default chunks."""
    mel = speech_like_mel(frames)
    fused = public_code.fused(voices.public_waveglow)
    drawn = public_code.drawn_noise(PUBLISHED_WAVEGLOW, frames, SEED)
    calls: dict[str, Callable[[], Any]] = {
        "vocode, public": lambda: public_code.vocode(fused, mel, sigma=VOCODER_SIGMA, seed=SEED)
    }
    for name, voice in voices.contestants.items():
        calls[f"vocode, {name}"] = lambda v=voice: v.vocode(mel, noise=drawn)  # type: ignore[misc]
    return calls


def speak_contestants(voices: Voices, frames: int) -> dict[str, Callable[[], Any]]:
    """Symbols to samples, decoder and vocoder after each other."""
    first, drawn = utterances(1, frames)[0], public_code.drawn_noise(PUBLISHED_WAVEGLOW, frames, SEED)

    def speak(voice: Synthesizer) -> Float32:
        return voice.vocode(voice.decoder.decode([first])[0].mel, noise=drawn)

    names = ("int8", "native int8")
    return {f"speak, {name}": lambda v=voices.contestants[name]: speak(v) for name in names}  # type: ignore[misc]


def measure_times(voices: Voices, options: Options, results: Results, work: Work, floor: dict[str, float]) -> None:
    """Time what was asked for, check that both implementations compute the same, and hold the ratios to the targets."""
    contestants: dict[str, Callable[[], Any]] = {}
    if options.wants("decode"):
        contestants |= decode_contestants(voices, options.frames)
        contestants |= step_contestants(voices, options.frames, work)
    if options.wants("vocoder"):
        contestants |= vocoder_contestants(voices, options.frames)
    if options.wants("decode") and options.wants("vocoder"):
        contestants |= speak_contestants(voices, options.frames)
    rounds, outputs = round_robin(contestants, options.repeats)
    results.timings, results.others = timings_of(rounds), [r.others for r in rounds]
    if options.wants("decode"):
        z = utterances(1, options.frames)[0].z
        results.parity["decode"] = decode_parity(outputs, z)
        results.requirements += decode_requirements(results.timings)
    if options.wants("vocoder"):
        results.parity["vocode"] = vocoder_parity(voices, outputs, options.frames)
        results.requirements += vocoder_requirements(results.timings, results.parity["vocode"], options.frames)
    if "speak, native int8" in results.timings:
        rtf = per_unit("speak", results.timings["speak, native int8"].median, options.frames)
        results.requirements.append(Requirement("symbols to samples, native int8", rtf, 1.0, "RTF", at_most=True))


def ratio(timings: dict[str, Timing], slow: str, fast: str) -> float:
    """How many times faster ``fast`` is, by medians."""
    return timings[slow].median / timings[fast].median


def decode_requirements(timings: dict[str, Timing]) -> list[Requirement]:
    targets = {"fp32": 4.0, "int8": 18.0, "native int8": 25.0}
    alone = [
        Requirement(f"decode, {name}: times public", ratio(timings, "decode, public", f"decode, {name}"), target, "x")
        for name, target in targets.items()
    ]
    native = "decode, native int8"
    alone += [
        Requirement(f"{native}: times ONNX Runtime", ratio(timings, "decode, int8", native), 1.1, "x"),
        Requirement(f"{native}: of reading", ratio(timings, READING, native), 0.6),
        Requirement("flow steps, native int8: of reading", ratio(timings, READING, "steps, native int8"), 0.6),
    ]
    batched = [
        Requirement(
            f"batch {BATCH}, {p}: frames/s over batch 1",
            BATCH * ratio(timings, f"decode, {p}", f"{BATCHED}, {p}"),
            3.0,
            "x",
        )
        for p in PRECISIONS
    ]
    return alone + batched


def vocoder_requirements(timings: dict[str, Timing], parity: dict[str, Any], frames: int) -> list[Requirement]:
    targets = {"fp32": 1.1, "int8": 1.75, "native int8": 3.5}
    speed = [
        Requirement(f"WaveGlow, {name}: times public", ratio(timings, "vocode, public", f"vocode, {name}"), target, "x")
        for name, target in targets.items()
    ]
    rtf = per_unit("vocode", timings["vocode, native int8"].median, frames)
    snr, native_snr = (parity[f"{name}_against_fp32"]["snr_db"] for name in ("int8", "native int8"))
    return [
        *speed,
        Requirement("WaveGlow, native int8", rtf, 0.85, "RTF", at_most=True),
        Requirement("WaveGlow, int8: SNR against fp32", snr, 40.0, "dB"),
        Requirement("WaveGlow, native int8: SNR against fp32", native_snr, snr, "dB"),
    ]


# --- agreement ----------------------------------------------------------------------------------------------------

SAME_MEL = 1e-3
"""Largest difference of a mel value between the public code and ours in fp32."""
SAME_AUDIO_DB = 60.0
"""Least signal-to-noise ratio of our fp32 audio, computed whole, against the public code's."""


def difference(actual: Float32, expected: Float32) -> Difference:
    """Compare two arrays of one shape."""
    error = np.asarray(actual, np.float64) - expected
    noise_power, power = float(np.sum(error**2)), float(np.sum(np.asarray(expected, np.float64) ** 2))
    snr = 10 * np.log10(power / noise_power) if noise_power and power else float("inf")
    return Difference(float(np.abs(error).max()), float(np.abs(error).mean()), float(snr))


def decode_parity(outputs: dict[str, Any], z: Float32) -> dict[str, Any]:
    """Our fp32 mels beside the public one. ``model``: the same without z, of which random weights change little."""
    public, found = outputs["decode, public"], {}
    for prefix in ("", "native "):
        ours = outputs[f"decode, {prefix}fp32"]
        found[f"{prefix}mel"] = asdict(difference(ours, public))
        found[f"{prefix}model"] = asdict(difference(ours - z, public - z))
        if found[f"{prefix}mel"]["max_abs"] > SAME_MEL:
            raise RuntimeError(f"the two decoders do not compute the same: {found[f'{prefix}mel']}")
    return found


def vocoder_parity(voices: Voices, outputs: dict[str, Any], frames: int) -> dict[str, Any]:
    """Our audio beside the public code's: fp32 in default chunks and whole; and int8 beside our fp32."""
    drawn = public_code.drawn_noise(PUBLISHED_WAVEGLOW, frames, SEED)
    whole = voices.ours["fp32"].vocode(speech_like_mel(frames), noise=drawn, chunk=frames)
    public, chunked = outputs["vocode, public"], outputs["vocode, fp32"]
    found = {
        "whole_against_public": asdict(difference(whole, public)),
        "chunks_against_public": asdict(difference(chunked, public)),
        "int8_against_fp32": asdict(difference(outputs["vocode, int8"], chunked)),
        "native fp32_against_fp32": asdict(difference(outputs["vocode, native fp32"], chunked)),
        "native int8_against_fp32": asdict(difference(outputs["vocode, native int8"], chunked)),
    }
    if not found["native fp32_against_fp32"]["snr_db"] >= SAME_AUDIO_DB:
        raise RuntimeError(f"our two vocoders do not compute the same: {found['native fp32_against_fp32']}")
    if not found["whole_against_public"]["snr_db"] >= SAME_AUDIO_DB:
        raise RuntimeError(f"the two vocoders do not compute the same: {found['whole_against_public']}")
    return found


# --- drift of int8 ------------------------------------------------------------------------------------------------


def measure_drift(name: str, voices: dict[str, Synthesizer], asked: Sequence[Utterance]) -> dict[str, Any]:
    """int8 beside fp32 over whole utterances: running freely, and with the attention of fp32 imposed on int8.

    ``control`` is fp32 beside itself, running freely from a z moved by `CONTROL` times noise: what the model makes of
    a small change, whoever computes it.
    """
    fp32, int8 = voices["fp32"].decoder, voices["int8"].decoder
    expected = fp32.decode(asked)
    free = int8.decode(asked)
    imposed = int8.decode([replace(u, attention=d.attention) for u, d in zip(asked, expected, strict=True)])
    control = fp32.decode([moved(u, i) for i, u in enumerate(asked)])
    return {
        "voice": name,
        "frames": len(asked[0].z),
        "free": _differences(free, expected, asked),
        "same_attention": _differences(imposed, expected, asked),
        "control": _differences(control, expected, asked),
    }


def moved(utterance: Utterance, request: int) -> Utterance:
    """The utterance with its z moved a little."""
    change = noise.normal(utterance.z.shape, seed=SEED + 1, request=request, stream="prior")
    return replace(utterance, z=(utterance.z + CONTROL * change).astype(np.float32))


def _differences(actual: Sequence[Decoded], expected: Sequence[Decoded], asked: Sequence[Utterance]) -> dict[str, Any]:
    """Of each utterance: the mel; ``model``, the mel less z; and where each flow's attention parts."""
    rows = list(zip(actual, expected, asked, strict=True))
    return {
        "mel": [asdict(difference(a.mel, e.mel)) for a, e, _ in rows],
        "model": [asdict(difference(a.mel - u.z, e.mel - u.z)) for a, e, u in rows],
        "attention_parts_after": [parting(a, e) for a, e, _ in rows],
    }


def parting(actual: Decoded, expected: Decoded) -> list[int | None]:
    """Of each flow, how many frames it computed before the most attended symbol differs; None if it never does."""
    found: list[int | None] = []
    for flow, (a, e) in enumerate(zip(actual.attention, expected.attention, strict=True)):
        differs = (a.argmax(axis=1) != e.argmax(axis=1))[:: -1 if flow % 2 else 1]
        found.append(int(differs.argmax()) if differs.any() else None)
    return found


def trained_voices(checkpoint: Path, folder: Path) -> dict[str, dict[str, Synthesizer]]:
    """A trained Flowtron, exported for this run, through ONNX Runtime and through the native engine in int8."""
    export_voice(ExportOptions(checkpoint, verify=False), folder / "trained", lambda _what, _done: None)
    ours = {precision: Synthesizer.load(folder / "trained", "cpu", precision) for precision in PRECISIONS}
    native = Synthesizer.load(folder / "trained", "cpu", "int8", backend="native")
    return {"": ours, ", native": ours | {"int8": native}}


def spoken(voice: Synthesizer, frames: int) -> list[Utterance]:
    """The sentences as utterances of ``voice``, by each speaker in turn; the gate never fires."""
    sizes = voice.manifest.flowtron
    made = []
    for i, text in enumerate(SENTENCES[:DRIFT_UTTERANCES]):
        z = PRIOR_SIGMA * noise.normal((frames, sizes.n_mels), seed=SEED, request=i, stream="prior")
        ids = np.array(voice.text_ids(text), np.int64)
        made.append(Utterance(ids, z.astype(np.float32), speaker=i % sizes.n_speakers, gate_threshold=NEVER))
    return made


def measure_drifts(voices: Voices, options: Options, folder: Path, results: Results) -> None:
    """The drift of random weights and, if given, of a trained model, at every length."""
    _say("measuring the drift of int8")
    trained = None if options.trained is None else trained_voices(options.trained, folder)
    random = {"": voices.ours, ", native": voices.ours | {"int8": voices.native["int8"]}}
    for frames in DRIFT_FRAMES:
        for engine, ours in random.items():
            results.drift.append(measure_drift(f"random{engine}", ours, utterances(DRIFT_UTTERANCES, frames)))
        for engine, ours in (trained or {}).items():
            results.drift.append(measure_drift(f"trained{engine}", ours, spoken(ours["fp32"], frames)))


# --- report -------------------------------------------------------------------------------------------------------


def floors(ceiling: Ceiling, work: Work, frames: int) -> dict[str, float]:
    """Seconds below which no timed contestant of ours can go on this machine, by its name; the encoder not counted."""
    found = {}
    for p in PRECISIONS:
        for name, rows in (("decode", 1), (BATCHED, BATCH)):
            step = ceiling.seconds(p, work.step_bytes[p], rows * work.step_multiply_adds)
            found[f"{name}, {p}"] = frames * work.flows * step
        multiplying = work.vocoder_multiply_adds / (1e9 * ceiling.gmac_per_second[p])
        found[f"vocode, {p}"] = frames * FRAME_SECONDS * multiplying
        found[f"speak, {p}"] = found[f"decode, {p}"] + found[f"vocode, {p}"]
    for name in list(found):
        found[name.replace(", ", ", native ")] = found[name]
    return found


def per_unit(name: str, seconds: float, frames: int) -> float:
    """A contestant's time in its unit: ms a frame of one utterance for decoding, RTF for vocoding."""
    if name.startswith(("vocode", "speak")):
        return seconds / (frames * FRAME_SECONDS)
    return 1e3 * seconds / (frames * batch_of(name))


def ceiling_table(ceiling: Ceiling, work: Work, floor: dict[str, float], frames: int) -> Table:
    """What the machine allows, stated before anything is measured."""
    table = Table(title=f"Ceiling, {ceiling.threads} threads: the machine and what the models ask of it")
    table.add_column("")
    for precision in PRECISIONS:
        table.add_column(precision, justify="right")
    memory, audio = ceiling.memory_gb_per_second, work.vocoder_multiply_adds / 1e9
    rows: list[tuple[str, int, dict[str, float]]] = [
        ("read memory, GB/s", 1, dict.fromkeys(PRECISIONS, memory)),
        ("weights of a flow step, MB", 1, {p: size / 1e6 for p, size in work.step_bytes.items()}),
        ("read a buffer of that size again and again, GB/s", 1, ceiling.step_gb_per_second),
        ("multiply-adds, 1e9 a second", 0, ceiling.gmac_per_second),
        ("WaveGlow, 1e9 multiply-adds for a second of audio", 0, dict.fromkeys(PRECISIONS, audio)),
    ]
    for kind in ("decode", BATCHED, "vocode"):
        names = {p: f"{kind}, {p}" for p in PRECISIONS}
        rows.append((f"floor, {unit_of(kind)}", 2, {p: per_unit(n, floor[n], frames) for p, n in names.items()}))
    for name, digits, values in rows:
        table.add_row(name, *(f"{values[p]:.{digits}f}" for p in PRECISIONS))
    return table


def unit_of(name: str) -> str:
    """What `per_unit` gives, in words."""
    if name.startswith("vocode"):
        return "WaveGlow, RTF"
    if name.startswith("speak"):
        return "symbols to samples, RTF"
    if name.startswith("steps"):
        return "flow steps alone, ms a frame"
    return f"decode batch {batch_of(name)}, ms a frame"


def batch_of(name: str) -> int:
    """Utterances that a contestant computes at once."""
    return BATCH if name.startswith(BATCHED) else 1


def times_table(results: Results, floor: dict[str, float], frames: int) -> Table:
    """Every contestant's median and minimum in its unit, and the fraction of the ceiling that its median reaches."""
    table = Table(title=f"Public code and ours, {frames} frames")
    for heading in ("", "contestant", "median", "minimum", "times public", "of the ceiling"):
        table.add_column(heading, justify="left" if heading in ("", "contestant") else "right")
    for name, timing in sorted(results.timings.items(), key=lambda item: unit_of(item[0])):
        public = f"{name.split(maxsplit=1)[0].rstrip(',')}, public"
        times = f"{batch_of(name) * ratio(results.timings, public, name):.2f}" if public in results.timings else ""
        table.add_row(
            unit_of(name),
            name.split(", ")[1],
            f"{per_unit(name, timing.median, frames):.3f}",
            f"{per_unit(name, timing.minimum, frames):.3f}",
            times,
            f"{floor[name] / timing.median:.0%}" if name in floor else "",
        )
    return table


DRIFT_KINDS = {
    "free": "int8",
    "same_attention": "int8, fp32's attention",
    "control": f"fp32, z moved by {CONTROL:g}",
}


def quietness(others: Sequence[float]) -> str:
    """Whether the times can be trusted, in words."""
    words = f"In these {len(others)} rounds other work kept at most {max(others):.2f} cores busy"
    disturbed = sum(cores > QUIET_CORES for cores in others)
    return f"{words}: {disturbed} were NOT QUIET, measure again." if disturbed else f"{words}."


def drift_table(drift: Sequence[dict[str, Any]]) -> Table:
    """The worst utterance of each: errors in units of log magnitude."""
    table = Table(title=f"Mel beside fp32, worst of {DRIFT_UTTERANCES}; attention parts: frames until flow 0, 1")
    columns = ("max", "mean", "SNR dB", "SNR dB, mel - z", "attention parts")
    for heading in ("voice", "frames", "", *columns):
        table.add_column(heading, justify="left" if heading in ("voice", "") else "right")
    for row in drift:
        for kind, words in DRIFT_KINDS.items():
            mel, model = row[kind]["mel"], row[kind]["model"]
            table.add_row(
                row["voice"],
                str(row["frames"]),
                words,
                f"{max(d['max_abs'] for d in mel):.4f}",
                f"{max(d['mean_abs'] for d in mel):.5f}",
                f"{min(d['snr_db'] for d in mel):.1f}",
                f"{min(d['snr_db'] for d in model):.1f}",
                _partings(row[kind]["attention_parts_after"]),
            )
    return table


def _partings(partings: Sequence[Sequence[int | None]]) -> str:
    """Of each flow the first parting among the utterances, `-` for none."""
    flows = ([n for n in flow if n is not None] for flow in zip(*partings, strict=True))
    return ", ".join(str(min(flow)) if flow else "-" for flow in flows)


def requirements_table(requirements: Sequence[Requirement]) -> Table:
    """Target and reached."""
    table = Table(title="Requirements")
    for heading in ("", "target", "reached", "met"):
        table.add_column(heading, justify="right" if heading else "left")
    for r in requirements:
        sign = "at most" if r.at_most else "at least"
        table.add_row(r.name, f"{sign} {r.target:g} {r.unit}", f"{r.reached:.2f} {r.unit}", "yes" if r.met else "NO")
    return table


def machine() -> dict[str, Any]:
    """What was measured on; nothing that dates or places it."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    packages = ("flowtron", "waveglow", "flowtron-fte", "torch", "onnxruntime", "numpy")
    return {
        "cpu": next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown"),
        "cores": len(os.sched_getaffinity(0)),
        "torch_threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
    }


def report(
    options: Options, where: dict[str, Any], results: Results, ceiling: Ceiling, work: Work, floor: dict[str, float]
) -> dict[str, Any]:
    """Everything as plain values for JSON."""
    timings = {
        name: {
            "seconds": timing.seconds,
            "unit": unit_of(name),
            "median": per_unit(name, timing.median, options.frames),
            "minimum": per_unit(name, timing.minimum, options.frames),
            "fraction_of_ceiling": floor[name] / timing.median if name in floor else None,
        }
        for name, timing in results.timings.items()
    }
    return {
        "machine": where,
        "options": {"frames": options.frames, "repeats": options.repeats, "symbols": SYMBOLS, "batch": BATCH},
        "ceiling": asdict(ceiling) | {"work": asdict(work), "floor_seconds": floor},
        "timings": timings,
        "cores_busy_with_other_work": [round(others, 3) for others in results.others],
        "parity": results.parity,
        "drift": results.drift,
        "costs": {name: asdict(cost) for name, cost in results.costs.items()},
        "requirements": [asdict(r) | {"met": r.met} for r in results.requirements],
    }


# --- command line -------------------------------------------------------------------------------------------------


def run(options: Options, folder: Path) -> dict[str, Any]:
    """Measure everything asked for, print the tables and return the report."""
    results, where = Results(), machine()
    voices, waveglow = prepare(options, folder, results)
    _say("measuring the ceiling")
    work = work_of(voices.ours["fp32"].manifest, waveglow)
    ceiling = measure_ceiling(work.step_bytes)
    floor = floors(ceiling, work, options.frames)
    _out.print(ceiling_table(ceiling, work, floor, options.frames))
    if options.wants("memory"):
        measure_memory(voices, options, results)
    if options.wants("decode") or options.wants("vocoder"):
        measure_times(voices, options, results, work, floor)
        _out.print(times_table(results, floor, options.frames))
        _out.print(quietness(results.others), highlight=False)
    if options.wants("drift"):
        with tempfile.TemporaryDirectory() as temporary:
            measure_drifts(voices, options, Path(temporary), results)
        _out.print(drift_table(results.drift))
    _out.print(requirements_table(results.requirements))
    return report(options, where, results, ceiling, work, floor)


def main(
    frames: Annotated[int, typer.Option(min=1, help="Mel frames of every timed utterance.")] = 200,
    repeats: Annotated[int, typer.Option(min=1, help="Counted rounds after one that warms up.")] = 4,
    skip: Annotated[str, typer.Option(help=f"Comma-separated parts to leave out: {', '.join(PARTS)}.")] = "",
    voice_dir: Annotated[
        Path | None, typer.Option(help="Folder that keeps the exported bundle for another run.")
    ] = None,
    trained: Annotated[Path | None, typer.Option(help="A trained Flowtron checkpoint: measure its drift too.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the report there.")] = None,
) -> None:
    """Time the public implementation and ours in turn, and hold the ratios to what is required."""
    skipped = tuple(part.strip() for part in skip.split(",") if part.strip())
    if unknown := set(skipped) - set(PARTS):
        raise typer.BadParameter(f"unknown parts {', '.join(sorted(unknown))}: choose from {', '.join(PARTS)}")
    options = Options(frames, repeats, skipped, trained, voice_dir)
    with tempfile.TemporaryDirectory() as temporary:
        folder = voice_dir or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        found = run(options, folder)
    if json_file is None:
        print(json.dumps(found))
    else:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(json_file)
    if not all(requirement["met"] for requirement in found["requirements"]):
        raise typer.Exit(1)


def _say(what: str) -> None:
    _err.print(f"{what} ...", style="dim", highlight=False)


if __name__ == "__main__":
    typer.run(main)
