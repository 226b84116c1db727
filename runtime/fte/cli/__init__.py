"""The command line, one module a command."""

import io
import signal
import sys
from typing import Annotated, NoReturn

import typer

import fte
from fte import interruption
from fte.cli import bench, build, common, doctor, export, info, stdout, style, synth, text
from fte.cli.command import Command, Group
from fte.cli.common import say
from fte.cli.status import USAGE, is_shortage, status_of, status_of_signal
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


def main() -> None:
    """Entry point: errors become one sentence on standard error and a status of `fte.cli.status`."""
    interruption.install()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a path or name may have what the terminal cannot show
    stdout.guard()
    try:
        _run()
    except FteError as error:
        _fail(str(error), status_of(error))
    except interruption.Interrupted as signalled:
        _fail(f"interrupted; {common.on_interruption}", status_of_signal(signalled.number))
    except stdout.ReaderGone:
        sys.exit(status_of_signal(signal.SIGPIPE))
    except (MemoryError, RuntimeError, ImportError, OSError) as error:
        if not is_shortage(error):
            raise
        _fail("there is not enough memory: give less at once, or raise the limit (ulimit -v, cgroup)", USAGE)
    finally:
        interruption.ignore()


def _run() -> None:
    """Run the command; what is left of its output and a signal that got lost come before the status it asks for."""
    leaving = SystemExit(0)
    try:
        app(prog_name="fte")
    except SystemExit as asked:
        leaving = asked
    stdout.finish()
    interruption.check()
    raise leaving


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
