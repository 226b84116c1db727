"""The command line, one module a command."""

import io
import os
import signal
import sys
from typing import Annotated, NoReturn

import typer

import fte
from fte.cli import bench, build, common, doctor, export, info, style, synth, text
from fte.cli.command import ClosedPipe, Command, Group
from fte.cli.common import say
from fte.cli.status import MACHINE, is_shortage, status_of, status_of_signal
from fte.errors import FteError

app = typer.Typer(
    help="Expressive speech from Flowtron and WaveGlow checkpoints.",
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for command in (export.export, build.build, info.info, synth.synth, text.text, bench.bench, doctor.doctor):
    app.command(cls=Command)(command)
app.add_typer(style.app, name="style")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _Interrupted(BaseException):
    """Ctrl-C or a termination signal: unwinds everything, so that temporary files are removed."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main() -> None:
    """Entry point: errors become one sentence on standard error and a status of `fte.cli.status`."""
    for number in _SIGNALS:
        signal.signal(number, _interrupt)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a path or name may have what the terminal cannot show
    try:
        app(prog_name="fte")
    except FteError as error:
        _fail(str(error), status_of(error))
    except _Interrupted as interruption:
        _fail(f"interrupted; {common.on_interruption}", status_of_signal(interruption.number))
    except (MemoryError, RuntimeError, ImportError, OSError) as error:
        if not is_shortage(error):
            raise
        _fail("there is not enough memory: give less at once, or raise the limit (ulimit -v, cgroup)", MACHINE)
    except ClosedPipe:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what Python flushes when it ends
        sys.exit(status_of_signal(signal.SIGPIPE))


def _interrupt(number: int, _frame: object) -> NoReturn:
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)  # a second one must not interrupt the cleaning up
    raise _Interrupted(number)


def _fail(message: str, status: int) -> NoReturn:
    say(f"error: {message}", "red")
    sys.exit(status)


@app.callback(invoke_without_command=True)
def _top(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    if version:
        typer.echo(f"fte {fte.__version__}")
        raise typer.Exit
