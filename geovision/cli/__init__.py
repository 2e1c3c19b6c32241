"""The command line: what a reader of the manual types.

Results go to standard output, everything else to standard error. Nothing slow is imported before a
command needs it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from geovision import __version__
from geovision.cli import (
    archive,
    calibrate,
    datasets,
    demo,
    distill,
    doctor,
    evaluate,
    explain,
    export,
    grid,
    hail,
    hail_samples,
    hub,
    keogram,
    list_info,
    occurrence,
    polar_low_samples,
    predict,
    scene,
    serve,
    train,
)
from geovision.errors import GeovisionError, OptionError, UnknownNameError

__all__ = ["app", "main"]

USAGE, FAILURE, INTERRUPTED = 2, 1, 130

app = typer.Typer(
    name="geovision",
    help="A model zoo for the sky, the ice edge and the rain: one name gives a working model.",
    epilog="Begin with: geovision list, geovision demo, geovision COMMAND --help",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (
    list_info,
    predict,
    explain,
    export,
    hub,
    serve,
    archive,
    keogram,
    occurrence,
    scene,
    grid,
    train,
    calibrate,
    evaluate,
    distill,
    datasets,
    polar_low_samples,
    hail,
    hail_samples,
    demo,
    doctor,
):
    group.register(app)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _global_options(
    debug: Annotated[bool, typer.Option("--debug", help="Show where in the code an error arose.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and leave with its exit code: 0, 1 for a failure, 2 for wrong usage, 130 when
    interrupted.

    Args:
        arguments: Without the program's name; None: those of this process.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = typer.main.get_command(app)
    try:
        command.main(given, prog_name="geovision")
    except GeovisionError as error:
        if given[:1] == ["--debug"]:
            raise
        print(f"geovision: {error}", file=sys.stderr)
        wrong_usage = isinstance(error, (UnknownNameError, OptionError))
        sys.exit(USAGE if wrong_usage else FAILURE)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        _leave_closed_pipe()


def _leave_closed_pipe() -> None:
    # Whoever read the output has gone (`| head`); the interpreter must not complain on its way out.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(FAILURE)
