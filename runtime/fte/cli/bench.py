"""`fte bench`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fte.bundle import Bundle
from fte.cli import completion
from fte.cli.common import (
    DeviceOption,
    PrecisionOption,
    ThreadsOption,
    TrustEnginesOption,
    VoiceOption,
    check_machine,
    check_place,
    check_precision,
    err_console,
    out_console,
    voice_path,
)
from fte.errors import BackendError, RequestError, import_fault
from fte.installed import EXPORT_PACKAGES

if TYPE_CHECKING:
    from fte.bench import Rival
    from fte.synthesizer import Synthesizer


def bench(
    voice: VoiceOption = "tiny",
    batch: Annotated[int, typer.Option(help="Largest batch; 1, 2, 4, ... up to it are measured.")] = 4,
    frames: Annotated[int, typer.Option(help="Mel frames of each utterance of a batch.")] = 200,
    symbols: Annotated[int, typer.Option(help="Symbols of each text that the decoder alone reads.")] = 80,
    repeats: Annotated[int, typer.Option(help="Repetitions of each batch; the median counts.")] = 3,
    streams: Annotated[str, typer.Option(help="Numbers of concurrent streams, such as 1,4,8.")] = "1",
    rounds: Annotated[int, typer.Option(help="How often each stream speaks the ten sentences; Riva takes 20.")] = 1,
    sentence_frames: Annotated[int, typer.Option(help="Mel frames of each sentence of a stream.")] = 500,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write the report here, beside the last line printed.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Picture of the report (png, pdf, svg).")] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="A B", help="Measure nothing: set two reports beside each other."),
    ] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
    backend: Annotated[
        str,
        typer.Option(
            help="A backend as in fte synth, several with commas between them, or all: with PyTorch beside them.",
            autocompletion=completion.backends,
        ),
    ] = "auto",
    trust_engines: TrustEnginesOption = None,
) -> None:
    """State what this machine allows, then measure a voice: batches, vocoder, concurrent streams, memory.

    The tables are for people and go to standard error; the one line on standard output is the report as JSON.
    """
    from fte.bench import BenchOptions, check_picture, parse_streams, plot_report, run_bench
    from fte.files import atomic_file

    if compare is not None:
        if json_out is not None or plot is not None:
            raise RequestError("--compare measures nothing and writes no file: leave --json and --plot out")
        _compare(*compare)
        return
    options = BenchOptions(batch, frames, symbols, repeats, parse_streams(streams), rounds, sentence_frames)
    options.check()
    for name in backend.split(","):
        check_machine(device, "auto" if name == "all" else name.strip(), threads)
    if json_out is not None:
        check_place(json_out)
    if plot is not None:
        check_picture(plot)
        check_place(plot)
    path = voice_path(voice)
    check_precision(Bundle.open(path), precision)
    synthesizers, skipped = _contestants(path, backend, device, precision, threads, trust_engines)
    rivals = _rivals(synthesizers[0], skipped) if backend == "all" else []
    first, *others = synthesizers
    report = run_bench(first, options, err_console.print, others=others, rivals=rivals, skipped=skipped)
    if plot is not None:
        plot_report(plot, report)
    if json_out is not None:
        with atomic_file(json_out) as temporary:
            temporary.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    typer.echo(json.dumps(report, allow_nan=False))


def _contestants(
    path: Path, backend: str, device: str, precision: str, threads: int | None, trust_engines: Path | None
) -> "tuple[list[Synthesizer], dict[str, str]]":
    """The voice through each backend asked for, and why those that cannot be used here are left out.

    One that was asked for by its name alone is an error instead, and so is it where none can be used.
    """
    from fte.backends import BACKENDS
    from fte.synthesizer import Synthesizer

    names = list(BACKENDS[1:]) if backend == "all" else list(dict.fromkeys(n.strip() for n in backend.split(",")))
    found, skipped = [], dict[str, str]()
    for name in names:
        trusted = trust_engines if name == "tensorrt" else None
        try:
            found.append(Synthesizer.load(path, device, precision, threads, backend=name, trust_engines=trusted))
        except BackendError as error:
            if len(names) == 1:
                raise
            skipped[name] = str(error)
    if not found:
        raise BackendError(f"no backend can be used here: {'; '.join(skipped.values())}")
    return found, skipped


def _rivals(voice: "Synthesizer", skipped: dict[str, str]) -> "list[Rival]":
    """PyTorch, where it is installed, on the device of the first backend and in its precision or fp32."""
    try:
        from fte_export.torch_rival import TorchRival
    except ImportError as error:
        missing = f"the package {error.name} is not installed: install flowtron-fte[export]"
        skipped["pytorch"] = import_fault(error, EXPORT_PACKAGES, missing)
        return []
    device = voice.backend.device
    precisions = ("fp32", "fp16") if device == "cuda" else ("fp32",)
    sizes = voice.manifest.flowtron, voice.manifest.waveglow
    try:
        return [
            TorchRival(*sizes, device, precision, cuda_graphs=cuda_graphs)
            for precision in precisions
            for cuda_graphs in ((False, True) if device == "cuda" else (False,))
        ]
    except BackendError as error:
        skipped["pytorch"] = str(error)
        return []


def _compare(a: Path, b: Path) -> None:
    from fte.bench import comparison_table, read_report

    out_console.print(comparison_table(read_report(a), read_report(b), (str(a), str(b))))
