"""The command line: `fte export | info | synth | bench`."""

import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import fte
from fte.bundle import Bundle
from fte.constants import FRAME_SECONDS, LIMITS
from fte.errors import BackendError, BundleError, FteError, RequestError

EXIT_ERROR = 2
"""Exit status of every error, the user's interruption included."""

app = typer.Typer(
    help="Expressive speech from Flowtron and WaveGlow checkpoints.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_out = Console()
_err = Console(stderr=True)

VoiceArgument = Annotated[Path, typer.Argument(metavar="VOICE", help="Folder of a voice bundle.")]
VoiceOption = Annotated[
    str, typer.Option("--voice", "-v", metavar="VOICE", help="Folder of a voice bundle, or 'tiny' for a random one.")
]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda or auto.")]
PrecisionOption = Annotated[str, typer.Option(help="One of the bundle's precisions, or auto: int8 on a CPU.")]
ThreadsOption = Annotated[int | None, typer.Option(help="Threads of the backend; every core by default.")]


class _Interrupted(BaseException):
    """Ctrl-C or a termination signal: unwinds everything, so that temporary files are removed."""


def main() -> None:
    """Entry point: errors become one sentence on standard error and exit status 2."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        app()
    except FteError as error:
        _fail(str(error))
    except _Interrupted:
        _fail("interrupted; nothing was left half-written")


def _interrupt(_signal: int, _frame: object) -> NoReturn:
    raise _Interrupted


def _fail(message: str) -> NoReturn:
    _err.print(f"error: {message}", style="red", markup=False, highlight=False, soft_wrap=True)
    sys.exit(EXIT_ERROR)


@app.callback(invoke_without_command=True)
def _top(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    if version:
        typer.echo(f"fte {fte.__version__}")
        raise typer.Exit


# --- export -------------------------------------------------------------------------------------------------------


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Option(metavar="FLOWTRON.pt", help="Flowtron checkpoint, any published form.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="VOICE", help="Folder of the new bundle.")],
    waveglow: Annotated[Path | None, typer.Option(metavar="WAVEGLOW.pt", help="WaveGlow checkpoint.")] = None,
    config: Annotated[Path | None, typer.Option(help="The public repository's config.json, to check against.")] = None,
    precision: Annotated[str, typer.Option(help="Comma-separated: fp32, int8.")] = "fp32,int8",
    speaker_names: Annotated[
        str, typer.Option(help="Comma-separated names of the speakers, or a file with one a line, in order of ids.")
    ] = "",
    name: Annotated[str, typer.Option(help="Name of the voice; that of the folder by default.")] = "",
    verify: Annotated[bool, typer.Option(help="Hold every graph against torch.")] = True,
    overwrite: Annotated[bool, typer.Option(help="Replace a bundle that is there.")] = False,
) -> None:
    """Make a voice bundle of a Flowtron and, if given, a WaveGlow checkpoint."""
    pipeline = _exporter()
    options = pipeline.ExportOptions(
        flowtron=checkpoint,
        waveglow=waveglow,
        config=config,
        precisions=tuple(p.strip() for p in precision.split(",") if p.strip()),
        speaker_names=_speaker_names(speaker_names),
        name=name,
        verify=verify,
        overwrite=overwrite,
    )
    with _progress() as progress:
        task = progress.add_task("exporting", total=1.0)
        results = pipeline.export_voice(
            options, out, lambda what, done: progress.update(task, description=what, completed=done)
        )
        progress.update(task, description="exported", completed=1.0)
    if results:
        _print_parity(results)
    _out.print(f"Wrote [bold]{out}[/bold]. Try: fte synth --voice {out} \"Hello.\" -o hello.wav", highlight=False)


def _exporter() -> Any:
    """`fte_export.pipeline`, imported only here: speaking needs neither torch nor onnx."""
    try:
        import torch  # noqa: F401  (its absence is the user's most likely fault; say so first)
        from fte_export import pipeline
    except ImportError as error:
        raise BackendError(
            f"exporting needs the package {error.name!r}: install flowtron-fte[cpu,export]"
        ) from error
    return pipeline


def _speaker_names(value: str) -> tuple[str, ...]:
    if not value:
        return ()
    path = Path(value)
    if "," not in value and path.is_file():
        return tuple(line.strip() for line in _read_text(path).splitlines() if line.strip())
    return tuple(name.strip() for name in value.split(","))


def _progress() -> Progress:
    columns = (TextColumn("{task.description:<32}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    return Progress(*columns, TimeElapsedColumn(), console=_err)


def _print_parity(results: list[Any]) -> None:
    table = Table(title="Exported graphs beside torch")
    for heading, justify in (("graph", "left"), ("output", "left"), ("error", "right"), ("SNR dB", "right"), ("", "left")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for p in results:
        verdict = "ok" if p.passed else "FAILED"
        table.add_row(p.graph, p.output, f"{p.error:.1e}", f"{p.snr_db:.1f}", f"{verdict} ({p.demand})")
    _out.print(table)


# --- info ---------------------------------------------------------------------------------------------------------


@app.command()
def info(
    voice: VoiceArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
) -> None:
    """Say what a bundle is, and check every file's hash."""
    bundle = Bundle.open(voice)
    faults = bundle.check_files()
    if as_json:
        typer.echo(bundle.manifest.to_json(), nl=False)
    else:
        _print_bundle(bundle)
    if faults:
        raise BundleError("; ".join(faults))
    if not as_json:
        _out.print(f"{len(bundle.manifest.files)} files, all as exported.")


def _print_bundle(bundle: Bundle) -> None:
    m, f, w = bundle.manifest, bundle.manifest.flowtron, bundle.manifest.waveglow
    size = sum(entry.bytes for entry in m.files.values())
    shown = ", ".join(m.speakers[:6]) + (", ..." if len(m.speakers) > 6 else "")
    gate = "gate" if f.has_gate else "no gate"
    attention = "cumulative attention" if f.cumulative_attention else "attention"
    rows = [
        ("voice", m.name),
        ("voice hash", bundle.voice_hash[:16]),
        ("Flowtron", f"{f.n_flows} flows of {f.n_lstm_layers}+1 LSTM layers, {f.n_hidden} hidden, {attention}, {gate}"),
        ("speakers", f"{f.n_speakers}: {shown}" + (" (the model always uses speaker 0)" if f.dummy_speaker else "")),
        ("vocoder", f"WaveGlow, {w.n_flows} flows, {w.n_channels} channels" if w else "none (Griffin-Lim)"),
        ("audio", f"{m.audio.sample_rate} Hz, hop {m.audio.hop} samples, {f.n_mels} mel channels"),
        ("symbols", str(f.n_text)),
        ("precisions", ", ".join(m.graphs)),
        ("size", f"{size / 1e6:.1f} MB"),
        ("sources", ", ".join(f"{s.file} ({s.sha256[:12]})" for s in m.sources.values())),
        ("written by", m.exporter),
    ]
    table = Table(show_header=False, box=None)
    for name, value in rows:
        table.add_row(name, value, style=None)
    _out.print(table)
    if m.warning:
        _out.print(m.warning, style="yellow")


# --- synth --------------------------------------------------------------------------------------------------------


@app.command()
def synth(
    text: Annotated[str, typer.Argument(help="What to say; '-' or nothing reads standard input.")] = "-",
    out: Annotated[Path, typer.Option("--out", "-o", help="The wav file; with --text-file a folder.")] = Path("out.wav"),
    voice: VoiceOption = "tiny",
    text_file: Annotated[Path | None, typer.Option(help="A file whose every line becomes a wav in the folder OUT.")] = None,
    speaker: Annotated[str, typer.Option(help="Name or id.")] = "0",
    sigma: Annotated[float, typer.Option(help="Standard deviation of z: 0 flat, 0.5 usual, 1 most varied.")] = 0.5,
    seed: Annotated[int, typer.Option(help="Same seed, same audio.")] = 0,
    vocoder_sigma: Annotated[float, typer.Option(help="Standard deviation of the vocoder's noise.")] = 0.8,
    denoiser: Annotated[float, typer.Option(help="Strength of the denoiser; 0 for none, 0.01 to 0.1 is usual.")] = 0.0,
    gate_threshold: Annotated[float, typer.Option(help="Gate probability that ends an utterance.")] = 0.5,
    max_frames: Annotated[int | None, typer.Option(help="Ceiling on mel frames; derived from the text if absent.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Picture of mel and attention (png, pdf, svg).")] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
) -> None:
    """Speak a text, or every line of a file."""
    from fte.synthesizer import Request, Synthesizer

    lines = _lines(text, text_file)
    if plot is not None and text_file is not None:
        raise RequestError("--plot draws one utterance: leave it out with --text-file")
    synthesizer = Synthesizer.load(_voice(voice), device, precision, threads)
    if not quiet:
        _err.print(f"voice: {synthesizer.description}", highlight=False)
        if synthesizer.manifest.warning:
            _err.print(synthesizer.manifest.warning, style="yellow")
    if text_file is not None:
        out.mkdir(parents=True, exist_ok=True)
    for number, line in lines:
        path = out if text_file is None else out / f"{number:05d}.wav"
        request = Request(
            text=line,
            speaker=speaker,
            sigma=sigma,
            seed=seed,
            request=0 if text_file is None else number,
            gate_threshold=gate_threshold,
            max_frames=max_frames,
            vocoder_sigma=vocoder_sigma,
            denoiser=denoiser,
        )
        _speak(synthesizer, request, path, plot, quiet)


def _speak(synthesizer: Any, request: Any, path: Path, plot: Path | None, quiet: bool) -> None:
    """Synthesize one request, write its wav and, if asked for, its picture, and say what was done."""
    import time

    from fte.audio import write_wav

    started = time.perf_counter()
    speech = synthesizer.synthesize_batch([request])[0]
    elapsed = time.perf_counter() - started
    write_wav(path, speech.samples, speech.sample_rate)
    if plot is not None:
        from fte.plot import plot_utterance

        title = request.text if len(request.text) <= 100 else f"{request.text[:97]}..."
        plot_utterance(plot, speech.mel, speech.attention, speech.gate, speech.symbols, title, FRAME_SECONDS)
    if not quiet:
        ended = "cut at the ceiling on frames" if speech.reached_ceiling else "ended by its gate"
        _err.print(
            f"{path}: {speech.seconds:.2f} s of audio in {elapsed:.2f} s, {len(speech.mel)} frames, {ended}",
            highlight=False,
        )


def _lines(text: str, text_file: Path | None) -> Iterator[tuple[int, str]]:
    """The texts to speak with their line numbers, from 1."""
    if text_file is not None:
        content = _read_text(text_file)
        numbered = [(i, line) for i, line in enumerate(content.splitlines(), 1) if line.strip()]
        if not numbered:
            raise RequestError(f"{text_file} has no text: give a file with something to say on each line")
        return iter(numbered)
    if text == "-":
        text = sys.stdin.read(LIMITS.text_characters + 1)
    return iter([(1, text)])


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > _TEXT_FILE_BYTES:
            raise RequestError(f"{path} is larger than {_TEXT_FILE_BYTES} bytes: split it")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise RequestError(f"{path} is not UTF-8 text: convert it") from error


_TEXT_FILE_BYTES = 16 << 20


def _voice(name: str) -> Path:
    """The folder of a voice; 'tiny' is made on first use and kept in the user's cache."""
    if name != "tiny":
        return Path(name)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fte"
    path = cache / f"tiny-{re.sub(r'[^0-9A-Za-z.]', '_', fte.__version__)}"
    if (path / "manifest.json").is_file() and not Bundle.open(path).check_files():
        return path
    try:
        from fte_export.pipeline import write_voice
        from fte_export.random_voice import tiny_voice
    except ImportError as error:
        raise BackendError(
            f"the tiny voice is made on the spot, which needs the package {error.name!r}: "
            "install flowtron-fte[cpu,export] or name a voice with --voice"
        ) from error
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"cannot make the folder {cache}: {error.strerror or error}") from error
    write_voice(tiny_voice(), path)
    return path


# --- bench --------------------------------------------------------------------------------------------------------


@app.command()
def bench(
    voice: VoiceOption = "tiny",
    batch: Annotated[int, typer.Option(help="Largest batch; 1, 2, 4, ... up to it are measured.")] = 8,
    frames: Annotated[int, typer.Option(help="Mel frames of each utterance.")] = 200,
    symbols: Annotated[int, typer.Option(help="Symbols of each text.")] = 80,
    repeats: Annotated[int, typer.Option(help="Repetitions; the median counts.")] = 3,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write the measurements here.")] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Measure decoding and vocoding apart: ms a frame, RTFX, memory, for batch 1 to N."""
    from fte.bench import BenchOptions, measure, render
    from fte.files import atomic_file
    from fte.synthesizer import Synthesizer

    options = BenchOptions(batch=batch, frames=frames, symbols=symbols, repeats=repeats)
    synthesizer = Synthesizer.load(_voice(voice), device, precision, threads)
    report = measure(synthesizer, options)
    _out.print(render(report))
    if json_out is not None:
        with atomic_file(json_out) as temporary:
            temporary.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
