"""`geovision audit` and `geovision download`: public data sets, looked at and fetched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from geovision import api, registry
from geovision.cli._output import DocumentFormat, examples_epilog, print_status, write_json

__all__ = ["register"]

_DATASET = "A data set's name, such as ccsn; a wrong one gets the list."


def register(app: typer.Typer) -> None:
    app.command(
        "audit",
        epilog=examples_epilog(
            "geovision audit ccsn CCSN_v2",
            "geovision audit folder my_photos --out audit",
        ),
    )(audit)
    app.command(
        "download",
        epilog=examples_epilog(
            "geovision download ccsn CCSN_v2",
            "the same again goes on where an interrupted one stopped",
        ),
    )(download)


def audit(
    dataset: Annotated[str, typer.Argument(help=_DATASET)],
    root: Annotated[Path, typer.Argument(help="Folder of its files.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the report with its figures.")] = None,
    output_format: Annotated[
        DocumentFormat, typer.Option("--format", help="Format of standard output.")
    ] = DocumentFormat.table,
) -> None:
    """Look at a data set for what misleads: duplicates, conflicting labels, files that cannot be read."""
    samples = api.load_dataset(dataset, root)
    from geovision.datasets.audit import audit as examine

    print_status(f"reading {len(samples)} files")
    report = examine(samples, out)
    if output_format is DocumentFormat.json:
        write_json(report.to_dict())
    else:
        print(report.to_text(), end="")
    if out:
        print_status(f"the report with its figures is in {out}")


def download(
    dataset: Annotated[str, typer.Argument(help=_DATASET)],
    root: Annotated[Path, typer.Argument(help="Folder to put its files in.")],
    server: Annotated[
        str | None, typer.Option(help="Address of a mirror with the same paths, instead of its own.")
    ] = None,
) -> None:
    """Fetch a public data set, with checksums; an interrupted download goes on where it stopped.

    Prints the folder.
    """
    registry.dataset_reference(dataset)  # a wrong name fails before anything slow is imported
    from geovision.hub.download import download as fetch

    with _download_progress() as progress:
        folder = fetch(dataset, root, server=server, progress=progress)
    print(folder)


@contextmanager
def _download_progress() -> Iterator[Callable[[str, int, int | None], None]]:
    """One progress bar a file on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=Console(stderr=True),
    )
    rows: dict[str, TaskID] = {}

    def show(name: str, done: int, total: int | None) -> None:
        if name not in rows:
            rows[name] = bars.add_task(name, total=total)
        bars.update(rows[name], completed=done, total=total)

    with bars:
        yield show
