"""`fte export`."""

import os
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from fte.bundle import name_fault
from fte.cli.build import build_and_show, numbers
from fte.cli.common import check_place, out_console, progress_bar, read_text
from fte.errors import BackendError, RequestError, import_fault
from fte.installed import EXPORT_PACKAGES


def export(
    checkpoint: Annotated[Path, typer.Option(metavar="FLOWTRON.pt", help="Flowtron checkpoint, any published form.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="VOICE", help="Folder of the new bundle.")],
    waveglow: Annotated[Path | None, typer.Option(metavar="WAVEGLOW.pt", help="WaveGlow checkpoint.")] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="The public repository's config.json: rate and mel bands, how text is read, sizes."),
    ] = None,
    precision: Annotated[str, typer.Option(help="Comma-separated: fp32, int8, and for GPUs fp16, bf16.")] = "fp32,int8",
    speaker_names: Annotated[
        str, typer.Option(help="Comma-separated names of the speakers, or a file with one a line, in order of ids.")
    ] = "",
    name: Annotated[str, typer.Option(help="Name of the voice; that of the folder by default.")] = "",
    verify: Annotated[bool, typer.Option(help="Hold every graph against torch.")] = True,
    overwrite: Annotated[bool, typer.Option(help="Replace a bundle that is there.")] = False,
    tensorrt: Annotated[
        bool, typer.Option("--tensorrt", help="Also fp16 graphs and their TensorRT engines, as fte build makes them.")
    ] = False,
    sm: Annotated[
        str, typer.Option(help="With --tensorrt: compute capabilities, such as 86,89; this machine's GPU by default.")
    ] = "",
) -> None:
    """Make a voice bundle of a Flowtron and, if given, a WaveGlow checkpoint."""
    if sm and not tensorrt:
        raise RequestError("--sm says for which GPUs engines are built: give --tensorrt with it")
    targets = numbers(sm, "sm") if sm else ()
    check_place(out, is_folder=os.path.lexists(out))  # a new one needs the folder that it lies in
    names = _speaker_names(speaker_names)
    _check_names(name, names)
    if tensorrt:
        from fte.backends.trt_library import find_library

        find_library(None)  # before an hour of work, and not after it
    pipeline = _exporter()
    options = pipeline.ExportOptions(
        flowtron=checkpoint,
        waveglow=waveglow,
        config=config,
        precisions=(*(p.strip() for p in precision.split(",") if p.strip()), *(["fp16"] if tensorrt else [])),
        speaker_names=names,
        name=name,
        verify=verify,
        overwrite=overwrite,
    )
    with progress_bar() as progress:
        task = progress.add_task("exporting", total=1.0)
        results = pipeline.export_voice(
            options, out, lambda what, done: progress.update(task, description=what, completed=done)
        )
        progress.update(task, description="exported", completed=1.0)
    if results:
        _print_parity(results)
    if tensorrt:
        from fte_export.to_tensorrt import BuildOptions

        build_and_show(out, BuildOptions(targets=targets))
    out_console.print(
        f'Wrote {out}. Try: fte synth --voice {shlex.quote(str(out))} "Hello." -o hello.wav', soft_wrap=True
    )


def _check_names(voice: str, speakers: tuple[str, ...]) -> None:
    """Refuse names that no manifest takes, before a checkpoint is read."""
    for what, names in (("voice", [voice] if voice else []), ("speaker", speakers)):
        for name in names:
            if fault := name_fault(name):
                raise RequestError(f"{name!a} cannot be the name of a {what}, {fault}: choose another name")


def _exporter() -> Any:
    """`fte_export.pipeline`, imported only here: speaking needs neither torch nor onnx."""
    try:
        import torch  # noqa: F401  (its absence is the user's most likely fault; say so first)

        from fte_export import pipeline
    except ImportError as error:
        missing = f"exporting needs the package {error.name}: install flowtron-fte[cpu,export]"
        raise BackendError(import_fault(error, EXPORT_PACKAGES, missing)) from error
    return pipeline


def _speaker_names(value: str) -> tuple[str, ...]:
    if not value:
        return ()
    if "," not in value and os.path.isfile(value):  # noqa: PTH113  (Path.is_file raises OSError for a long name)
        return tuple(line.strip() for line in read_text(Path(value)).splitlines() if line.strip())
    return tuple(name.strip() for name in value.split(","))


def _print_parity(results: list[Any]) -> None:
    """A line for each graph: the output that comes nearest to what it may differ by says the most."""
    table = Table(title="Exported graphs beside torch: largest error, lowest signal-to-noise ratio")
    for heading in ("graph", "outputs", "error", "SNR dB", ""):
        table.add_column(heading, justify="right" if heading in ("outputs", "error", "SNR dB") else "left")
    for graph in dict.fromkeys(p.graph for p in results):
        own = [p for p in results if p.graph == graph]
        verdict = "ok" if all(p.passed for p in own) else "FAILED"
        error, snr = max(p.error for p in own), min(p.snr_db for p in own)
        table.add_row(graph, str(len(own)), f"{error:.1e}", f"{snr:.1f}", verdict)
    out_console.print(table)
