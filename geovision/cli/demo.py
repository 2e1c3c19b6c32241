"""Command `geovision demo`: run every task on generated data and write one HTML page."""

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
    out: Annotated[Path, typer.Option(help="Output folder of the page.")] = Path("demo"),
    photos: Annotated[
        Path | None, typer.Option(help="Folder of your photos, predicted with the shipped weights.")
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option("--tasks", "--task", help="Name of a task; may be repeated. Default: all tasks."),
    ] = None,
) -> None:
    """Demonstrate every task on generated data: training, scores and predictions on one HTML page.

    The training is short. The path of the page is printed.
    """
    from geovision.demo import run_demo

    print(run_demo(out, photos=photos, tasks=task))
