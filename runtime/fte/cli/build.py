"""`fte build`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from fte.cli.common import out_console, progress_bar, voice_path
from fte.errors import RequestError


def build(
    voice: Annotated[str, typer.Argument(metavar="VOICE", help="Folder of a voice bundle with fp16 or bf16 graphs.")],
    precision: Annotated[str, typer.Option(help="fp16, bf16 or fp32.")] = "fp16",
    batch: Annotated[str, typer.Option(help="Sizes of batch with kernels of their own, such as 1,8.")] = "1,8",
    block: Annotated[int, typer.Option(help="Frames decoded at once: 1, 8, 16 or 32.")] = 16,
    max_text: Annotated[int, typer.Option(help="Most symbols of a text spoken in one go.")] = 224,
    max_frames: Annotated[int, typer.Option(help="Most mel frames that the vocoder takes at once.")] = 256,
    sm: Annotated[
        str, typer.Option(help="Compute capabilities to build for, such as 86,89,120; this machine's GPU by default.")
    ] = "",
    guided: Annotated[bool, typer.Option("--guided", help="Also flows with priors and imposed attention.")] = False,
    posterior: Annotated[bool, typer.Option("--posterior", help="Also what styles are extracted with.")] = False,
    library: Annotated[
        str | None, typer.Option(help="tensorrt or tensorrt_rtx; the first that is installed by default.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder for the engines; the user's cache by default.")
    ] = None,
) -> None:
    """Build TensorRT engines of a voice's graphs."""
    from fte.backends.engines import EngineStore, Profile
    from fte.backends.trt_library import find_library
    from fte.bundle import Bundle
    from fte_export.to_tensorrt import BuildOptions, build_engines

    profile = Profile(_numbers(batch, "batch"), max_text, max_frames)
    options = BuildOptions(precision, block, profile, _numbers(sm, "sm") if sm else (), guided, posterior)
    bundle = Bundle.open(voice_path(voice))
    found = find_library(library)
    table = Table(title=f"Engines by {found.description}")
    for heading in ("graph", "for", "MB", "seconds", "file"):
        table.add_column(heading, justify="right" if heading in ("MB", "seconds") else "left", overflow="fold")
    with progress_bar() as progress:
        task = progress.add_task("building", total=1.0)
        for built, is_new in build_engines(
            bundle,
            options,
            found,
            EngineStore(out),
            lambda what, done: progress.update(task, description=what, completed=done),
        ):
            seconds = f"{built.seconds:.1f}" if is_new else "cached"
            table.add_row(built.graph, built.key.target, f"{built.size / 1e6:.1f}", seconds, built.path.name)
        progress.update(task, description="built", completed=1.0)
    out_console.print(table)
    out_console.print(f"The engines are in {EngineStore(out).folder}.", soft_wrap=True)


def _numbers(text: str, name: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",", 16)]
    if not all(part.isascii() and part.isdigit() and len(part) < 6 for part in parts):
        raise RequestError(f"{name} is {text[:40]!r}: give whole numbers with commas between them")
    return tuple(map(int, parts))
