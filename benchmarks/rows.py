"""Rows of results in a CSV file in the folder of the script that measured them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geovision._atomic_io import write_text

__all__ = ["append"]


def append(table: Path, *rows: Mapping[str, Any], show: bool = False) -> None:
    """Add rows to a CSV file.

    New columns are added at the right and are empty in the existing rows. The file is replaced atomically.

    Args:
        table: CSV file, created if it does not exist.
        *rows: Column names and values of each row.
        show: Also print the rows. Default: False.
    """
    before: list[Mapping[str, Any]] = []
    if table.exists():
        with table.open(newline="", encoding="utf-8") as stream:
            before = list(csv.DictReader(stream))
    columns = list(dict.fromkeys(name for each in [*before, *rows] for name in each))
    written = io.StringIO()
    writer = csv.DictWriter(written, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows([*before, *rows])
    write_text(table, written.getvalue())
    for row in rows if show else ():
        print(row, flush=True)
