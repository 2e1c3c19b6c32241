"""`geovision demo`: every task of the registry, from generated files to a page of results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geovision.cli._output import examples_epilog

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add `demo` to the application."""
    app.command(
        "demo",
        epilog=examples_epilog(
            "geovision demo",
            "geovision demo --photos my_photos",
            "geovision demo --tasks cloud --out /tmp/demo",
        ),
    )(demo)


def demo(
    out: Annotated[Path, typer.Option(help="Folder of the page.")] = Path("demo"),
    photos: Annotated[
        Path | None, typer.Option(help="A folder of your own photos, answered by the shipped weights.")
    ] = None,
    task: Annotated[
        list[str] | None, typer.Option("--tasks", "--task", help="This task alone; may be repeated.")
    ] = None,
) -> None:
    """Show every task at work: generated data, a short training, a score, answers, on one local page.

    Prints the path of the page.
    """
    from geovision.demo import run_demo

    print(run_demo(out, photos=photos, tasks=task))
