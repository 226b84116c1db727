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
        check_place(json_out)
    synthesizer = Synthesizer.load(voice_path(voice), device, precision, threads)
    report = measure(synthesizer, options)
    out_console.print(render(report))
    if json_out is not None:
        with atomic_file(json_out) as temporary:
            temporary.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
