"""`fte doctor`."""

import dataclasses
import json
from typing import Annotated

import typer

from fte.cli import completion
from fte.cli.common import out_console, voice_path


def doctor(
    voice: Annotated[
        str | None,
        typer.Option("--voice", "-v", help="Look at this voice bundle as well.", autocompletion=completion.voices),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Examine Python, packages, providers, GPU, CPU, memory and cache; exit status 2 where something is broken."""
    from fte.doctor import examine, render

    checks = examine(voice=None if voice is None else voice_path(voice))
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(check) for check in checks]))
    else:
        out_console.print(render(checks))
    if any(check.status == "error" for check in checks):
        raise typer.Exit(2)
