"""The command line: `fte export | info | synth | bench`."""

import io
import json
import os
import re
import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import fte
from fte.bundle import Bundle
from fte.errors import BackendError, BundleError, FteError, RequestError

EXIT_ERROR = 2
"""Exit status of every error, the user's interruption included."""

app = typer.Typer(
    help="Expressive speech from Flowtron and WaveGlow checkpoints.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
# Names and texts of others are printed as they are: no markup, no emoji codes.
_out = Console(markup=False, emoji=False, highlight=False)
_err = Console(stderr=True, markup=False, emoji=False, highlight=False)

VoiceArgument = Annotated[Path, typer.Argument(metavar="VOICE", help="Folder of a voice bundle.")]
VoiceOption = Annotated[
    str, typer.Option("--voice", "-v", metavar="VOICE", help="Folder of a voice bundle, or 'tiny' for a random one.")
]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda or auto.")]
PrecisionOption = Annotated[str, typer.Option(help="One of the bundle's precisions, or auto: int8 on a CPU.")]
ThreadsOption = Annotated[int | None, typer.Option(help="Threads of the backend; every core by default.")]


_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _Interrupted(BaseException):
    """Ctrl-C or a termination signal: unwinds everything, so that temporary files are removed."""


def main() -> None:
    """Entry point: errors become one sentence on standard error and exit status 2."""
    for number in _SIGNALS:
        signal.signal(number, _interrupt)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a path or name may have what the terminal cannot show
    try:
        app(prog_name="fte")
    except FteError as error:
        _fail(str(error))
    except _Interrupted:
        _fail("interrupted; nothing was left half-written")


def _interrupt(_signal: int, _frame: object) -> NoReturn:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # a second one must not interrupt the cleaning up
    raise _Interrupted


def _fail(message: str) -> NoReturn:
    _say(f"error: {message}", "red")
    sys.exit(EXIT_ERROR)


def _say(message: str, style: str | None = None) -> None:
    """One line on standard error, whatever a path or a name in it holds."""
    shown = re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda match: ascii(match[0])[1:-1], message)
    _err.print(shown, style=style, soft_wrap=True)


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
    _out.print(f'Wrote {out}. Try: fte synth --voice {shlex.quote(str(out))} "Hello." -o hello.wav', soft_wrap=True)


def _exporter() -> Any:
    """`fte_export.pipeline`, imported only here: speaking needs neither torch nor onnx."""
    try:
        import torch  # noqa: F401  (its absence is the user's most likely fault; say so first)

        from fte_export import pipeline
    except ImportError as error:
        raise BackendError(
            f"exporting needs the package {error.name or error}: install flowtron-fte[cpu,export]"
        ) from error
    return pipeline


def _speaker_names(value: str) -> tuple[str, ...]:
    if not value:
        return ()
    if "," not in value and os.path.isfile(value):  # noqa: PTH113  (Path.is_file raises OSError for a long name)
        return tuple(line.strip() for line in _read_text(Path(value)).splitlines() if line.strip())
    return tuple(name.strip() for name in value.split(","))


def _progress() -> Progress:
    """A bar on a terminal, gone when it ends; nothing elsewhere, so that a log holds the result or the error alone."""
    columns = (TextColumn("{task.description:<32}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    return Progress(*columns, TimeElapsedColumn(), console=_err, transient=True, disable=not _err.is_terminal)


def _print_parity(results: list[Any]) -> None:
    table = Table(title="Exported graphs beside torch")
    table.add_column("graph")
    table.add_column("output")
    table.add_column("error", justify="right")
    table.add_column("SNR dB", justify="right")
    table.add_column()
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
        _out.print(m.warning, style="yellow", soft_wrap=True)


# --- synth --------------------------------------------------------------------------------------------------------


@app.command()
def synth(
    text: Annotated[str, typer.Argument(help="What to say; '-' or nothing reads standard input.")] = "-",
    out: Annotated[Path, typer.Option("--out", "-o", help="The wav; with --text-file a folder.")] = Path("out.wav"),
    voice: VoiceOption = "tiny",
    text_file: Annotated[Path | None, typer.Option(help="A file; each line becomes a wav in the folder OUT.")] = None,
    speaker: Annotated[str, typer.Option(help="Name or id.")] = "0",
    sigma: Annotated[float, typer.Option(help="Standard deviation of z: 0 flat, 0.5 usual, 1 most varied.")] = 0.5,
    seed: Annotated[int, typer.Option(help="Same seed, same audio.")] = 0,
    vocoder_sigma: Annotated[float, typer.Option(help="Standard deviation of the vocoder's noise.")] = 0.8,
    denoiser: Annotated[float, typer.Option(help="Strength of the denoiser; 0 for none, 0.01 to 0.1 is usual.")] = 0.0,
    gate_threshold: Annotated[float, typer.Option(help="Gate probability that ends an utterance.")] = 0.5,
    max_frames: Annotated[int | None, typer.Option(help="Ceiling on mel frames; by default from the text.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Picture of mel and attention (png, pdf, svg).")] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
) -> None:
    """Speak a text, or every line of a file."""
    from fte.synthesizer import Request, Synthesizer

    lines = _lines(text, text_file)
    _check_place(out, is_folder=text_file is not None)
    if plot is not None:
        _check_plot(plot, text_file)
    synthesizer = Synthesizer.load(_voice(voice), device, precision, threads)
    synthesizer.speaker_id(speaker)
    for number, line in lines:
        _check_text(synthesizer, line, "" if text_file is None else f"line {number} of {text_file}: ")
    for index, (number, line) in enumerate(lines):
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
        _speak(synthesizer, request, path, plot, describe=not quiet and index == 0, quiet=quiet)


def _check_text(synthesizer: Any, text: str, where: str) -> None:
    """Refuse a text before anything is computed, so that the last line of a file cannot fail after the first."""
    try:
        synthesizer.text_ids(text)
    except RequestError as error:
        raise RequestError(f"{where}{error}") from error


def _check_plot(plot: Path, text_file: Path | None) -> None:
    """Refuse a picture that could not be drawn before anything is computed."""
    from fte.plot import FORMATS

    if text_file is not None:
        raise RequestError("--plot draws one utterance: leave it out with --text-file")
    if plot.suffix.lower() not in FORMATS:
        raise RequestError(f"cannot draw {plot}: the name of a picture must end in one of {', '.join(FORMATS)}")
    try:
        import matplotlib.figure  # noqa: F401  (now, so that its absence is no surprise after the work is done)
    except ImportError as error:
        raise RequestError("--plot needs matplotlib: install flowtron-fte[plot] or leave the picture out") from error
    _check_place(plot)


def _check_place(path: Path, *, is_folder: bool = False) -> None:
    """Refuse an output that could not be written before anything is computed; a folder may still have to be made."""
    places = [path, *path.absolute().parents] if is_folder else [path.parent]
    nearest = next((p for p in places if os.path.lexists(p)), path.parent)
    if not os.path.isdir(nearest):  # noqa: PTH112  (Path.is_dir raises OSError for a name that is too long)
        raise RequestError(f"cannot write {path}: {nearest} is not a folder, choose one that exists")
    if not is_folder and os.path.isdir(path):  # noqa: PTH112
        raise RequestError(f"cannot write {path}: it is a folder, give the name of a file")


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"cannot make the folder {path}: {error.strerror or error}") from error


def _speak(synthesizer: Any, request: Any, path: Path, plot: Path | None, *, describe: bool, quiet: bool) -> None:
    """Synthesize one request, write its wav and, if asked for, its picture, and say what was done."""
    import time

    from fte.audio import write_wav

    started = time.perf_counter()
    speech = synthesizer.synthesize_batch([request])[0]
    elapsed = time.perf_counter() - started
    if plot is not None:
        from fte.plot import plot_utterance

        title = request.text if len(request.text) <= 100 else f"{request.text[:97]}..."
        frame_seconds = synthesizer.manifest.audio.hop / synthesizer.sample_rate
        plot_utterance(plot, speech.mel, speech.attention, speech.gate, speech.symbols, title, frame_seconds)
    _make_folder(path.parent)
    write_wav(path, speech.samples, speech.sample_rate)
    if describe:
        _say(f"voice: {synthesizer.description}")
        if synthesizer.manifest.warning:
            _say(synthesizer.manifest.warning, "yellow")
    if not quiet:
        ended = "cut at the ceiling on frames" if speech.reached_ceiling else "ended by its gate"
        _say(f"{path}: {speech.seconds:.2f} s of audio in {elapsed:.2f} s, {len(speech.mel)} frames, {ended}")


def _lines(text: str, text_file: Path | None) -> list[tuple[int, str]]:
    """The texts to speak with their line numbers, from 1."""
    if text_file is None:
        return [(1, _read_stdin() if text == "-" else text)]
    if text != "-":
        raise RequestError("a text and --text-file were given: leave one of them out")
    numbered = [(i, line) for i, line in enumerate(_read_text(text_file).splitlines(), 1) if line.strip()]
    if not numbered:
        raise RequestError(f"{text_file} has no text: give a file with something to say on each line")
    return numbered


def _read_stdin() -> str:
    if sys.stdin is None:
        raise RequestError("there is no standard input: give the text as an argument")
    return _decoded(sys.stdin.buffer.read(_TEXT_FILE_BYTES + 1), "the standard input")


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return _decoded(file.read(_TEXT_FILE_BYTES + 1), str(path))
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror or error}") from error


def _decoded(data: bytes, where: str) -> str:
    if len(data) > _TEXT_FILE_BYTES:
        raise RequestError(f"{where} is larger than {_TEXT_FILE_BYTES} bytes: split it")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(f"{where} is not UTF-8 text: convert it") from error


_TEXT_FILE_BYTES = 16 << 20


def _voice(name: str) -> Path:
    """The folder of a voice; 'tiny' is made on first use and kept in the user's cache."""
    if name != "tiny":
        return Path(name)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fte"
    path = cache / f"tiny-{re.sub(r'[^0-9A-Za-z.]', '_', fte.__version__)}"
    if _is_sound(path):
        return path
    try:
        from fte_export.pipeline import write_voice
        from fte_export.random_voice import tiny_voice
    except ImportError as error:
        raise BackendError(
            f"the tiny voice is made on the spot, which needs the package {error.name!r}: "
            "install flowtron-fte[cpu,export] or name a voice with --voice"
        ) from error
    _make_folder(cache)
    write_voice(tiny_voice(), path)
    return path


def _is_sound(path: Path) -> bool:
    """Whether a bundle can be used as it is."""
    try:
        return not Bundle.open(path).check_files()
    except BundleError:
        return False


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
    options.check()
    if json_out is not None:
        _check_place(json_out)
    synthesizer = Synthesizer.load(_voice(voice), device, precision, threads)
    report = measure(synthesizer, options)
    _out.print(render(report))
    if json_out is not None:
        with atomic_file(json_out) as temporary:
            temporary.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
