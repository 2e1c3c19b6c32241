"""Commands `geovision audit` and `geovision download` for datasets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from geovision import api, registry
from geovision.cli._output import DocumentFormat, examples_epilog, print_status, write_json

__all__ = ["register"]

_DATASET = "Name of a dataset, such as ccsn. An unknown name prints the list."


def register(app: typer.Typer) -> None:
    """Add `audit` and `download` to the application."""
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
            "# The same command continues an interrupted download.",
        ),
    )(download)


def audit(
    dataset: Annotated[str, typer.Argument(help=_DATASET)],
    root: Annotated[Path, typer.Argument(help="Folder of the dataset.")],
    out: Annotated[Path | None, typer.Option(help="Output folder of the report and its figures.")] = None,
    output_format: Annotated[
        DocumentFormat, typer.Option("--format", help="Format of the printed report.")
    ] = DocumentFormat.table,
) -> None:
    """Check a dataset for duplicates, conflicting labels and unreadable files."""
    samples = api.load_dataset(dataset, root)
    from geovision.datasets.audit import audit as examine

    print_status(f"reading {len(samples)} files")
    report = examine(samples, out)
    if output_format is DocumentFormat.json:
        write_json(report.to_dict())
    else:
        print(report.to_text(), end="")
    if out:
        print_status(f"wrote the report and its figures to {out}")


def download(
    dataset: Annotated[str, typer.Argument(help=_DATASET)],
    root: Annotated[Path, typer.Argument(help="Output folder.")],
    server: Annotated[
        str | None, typer.Option(help="URL of a mirror with the same paths. Default: the original server.")
    ] = None,
) -> None:
    """Download a public dataset and verify its checksums.

    The same command continues an interrupted download. The folder is printed.
    """
    registry.dataset_reference(dataset)  # an unknown name raises before slow imports
    from geovision.hub.download import download as fetch

    with _download_progress() as progress:
        folder = fetch(dataset, root, server=server, progress=progress)
    print(folder)


@contextmanager
def _download_progress() -> Iterator[Callable[[str, int, int | None], None]]:
    """Show one progress bar per file on standard error."""
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
