"""Command line of geovision.

Results are written to standard output, all other text to standard error. Slow imports are deferred
until a command needs them.
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
    help="PyTorch models, datasets, recipes and metrics for clouds, aurora, polar lows, hail and "
    "precipitation.",
    epilog="First steps: geovision list, geovision demo, geovision COMMAND --help",
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
    debug: Annotated[bool, typer.Option("--debug", help="Print the traceback of an error.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit.

    The exit code is 0 for success, 1 for a failure, 2 for wrong usage and 130 after an interruption.

    Args:
        arguments: Command-line arguments without the program name. Default: None, the arguments of this
            process.
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
        _exit_closed_pipe()


def _exit_closed_pipe() -> None:
    # The reader of the output has exited (`| head`); Python would print an error when it flushes stdout.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(FAILURE)
