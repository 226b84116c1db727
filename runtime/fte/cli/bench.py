"""`fte bench`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from fte.cli.common import (
    DeviceOption,
    PrecisionOption,
    ThreadsOption,
    VoiceOption,
    check_place,
    out_console,
    voice_path,
)
from fte.errors import RequestError


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
) -> None:
    """State what this machine allows, then measure a voice: batches, vocoder, concurrent streams, memory."""
    from fte.bench import BenchOptions, check_picture, parse_streams, plot_report, run_bench
    from fte.files import atomic_file
    from fte.synthesizer import Synthesizer

    if compare is not None:
        if json_out is not None or plot is not None:
            raise RequestError("--compare measures nothing and writes no file: leave --json and --plot out")
        _compare(*compare)
        return
    options = BenchOptions(batch, frames, symbols, repeats, parse_streams(streams), rounds, sentence_frames)
    options.check()
    if json_out is not None:
        check_place(json_out)
    if plot is not None:
        check_picture(plot)
        check_place(plot)
    synthesizer = Synthesizer.load(voice_path(voice), device, precision, threads)
    report = run_bench(synthesizer, options, show=out_console.print)
    if plot is not None:
        plot_report(plot, report)
    if json_out is not None:
        with atomic_file(json_out) as temporary:
            temporary.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    typer.echo(json.dumps(report, allow_nan=False))


def _compare(a: Path, b: Path) -> None:
    from fte.bench import comparison_table, read_report

    out_console.print(comparison_table(read_report(a), read_report(b), (str(a), str(b))))
