"""`fte build`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from fte.cli import completion
from fte.cli.common import VoiceArgument, check_place, out_console, progress_bar, voice_path
from fte.errors import RequestError

if TYPE_CHECKING:
    from fte_export.to_tensorrt import BuildOptions


_PRECISIONS = ("fp16", "bf16", "fp32")
_BLOCKS = (1, 8, 16, 32)


def build(
    voice: VoiceArgument,
    precision: Annotated[str, typer.Option(help="fp16, bf16 or fp32.", autocompletion=completion.precisions)] = "fp16",
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
    """Build TensorRT engines of a voice's graphs, which it must have in fp16 or bf16."""
    from fte.backends.engines import Profile
    from fte.backends.trt_library import LIBRARIES
    from fte_export.to_tensorrt import BuildOptions

    if library is not None and library not in LIBRARIES:
        raise RequestError(f"the library {library!r} is unknown: choose one of {', '.join(LIBRARIES)}")
    if precision not in _PRECISIONS:
        raise RequestError(f"precision is {precision!r}: give one of {', '.join(_PRECISIONS)}")
    if block not in _BLOCKS:
        raise RequestError(f"block is {block}: give {', '.join(map(str, _BLOCKS[:-1]))} or {_BLOCKS[-1]}")
    profile = Profile(numbers(batch, "batch"), max_text, max_frames)
    targets = numbers(sm, "sm") if sm else ()
    if out is not None:
        check_place(out, is_folder=True)
    build_and_show(voice_path(voice), BuildOptions(precision, block, profile, targets, guided, posterior), library, out)


def build_and_show(
    voice: Path, options: "BuildOptions", library_name: str | None = None, folder: Path | None = None
) -> None:
    """Build the engines of the bundle at ``voice``, and print what there is of them."""
    from fte.backends.engines import EngineStore
    from fte.backends.trt_library import find_library
    from fte.bundle import Bundle
    from fte_export.to_tensorrt import build_engines, roles_of

    bundle = Bundle.open(voice)
    roles_of(bundle, options)  # what the voice lacks is told before a package that is missing
    library, store = find_library(library_name), EngineStore(folder)
    table = Table(title=f"Engines by {library.description}")
    for heading in ("graph", "for", "MB", "seconds"):
        table.add_column(heading, justify="right" if heading in ("MB", "seconds") else "left", overflow="fold")
    with progress_bar() as progress:
        task = progress.add_task("building", total=1.0)

        def show(what: str, done: float) -> None:
            progress.update(task, description=what, completed=done)

        for built, is_new in build_engines(bundle, options, library, store, show):
            seconds = f"{built.seconds:.1f}" if is_new else "was there"
            table.add_row(built.graph, built.key.target, f"{built.size / 1e6:.1f}", seconds)
        progress.update(task, description="built", completed=1.0)
    out_console.print(table)
    out_console.print(f"The engines are in {store.folder}.", soft_wrap=True)


def numbers(text: str, name: str) -> tuple[int, ...]:
    """Whole numbers from a text such as "1,8". Raises RequestError."""
    parts = [part.strip() for part in text.split(",", 16)]
    if not all(part.isascii() and part.isdigit() and len(part) < 6 for part in parts):
        raise RequestError(f"{name} is {text[:40]!r}: give whole numbers with commas between them")
    return tuple(map(int, parts))
