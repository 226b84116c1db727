"""The command line, one module a command."""

import io
import signal
import sys
from typing import Annotated, NoReturn

import typer

import fte
from fte.cli import bench, build, common, doctor, export, info, style, synth, text
from fte.cli.common import say
from fte.errors import FteError

EXIT_ERROR = 2
"""Exit status of every error, the user's interruption included."""

app = typer.Typer(
    help="Expressive speech from Flowtron and WaveGlow checkpoints.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (export.export, build.build, info.info, synth.synth, text.text, bench.bench, doctor.doctor):
    app.command()(command)
app.add_typer(style.app, name="style")

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
        _fail(f"interrupted; {common.on_interruption}")


def _interrupt(_signal: int, _frame: object) -> NoReturn:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # a second one must not interrupt the cleaning up
    raise _Interrupted


def _fail(message: str) -> NoReturn:
    say(f"error: {message}", "red")
    sys.exit(EXIT_ERROR)


@app.callback(invoke_without_command=True)
def _top(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    if version:
        typer.echo(f"fte {fte.__version__}")
        raise typer.Exit
