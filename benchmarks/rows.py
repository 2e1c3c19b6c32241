"""Rows of results in a CSV file beside the script that measured them."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["append"]


def append(script: str, row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add a row to the CSV file that is called like a script. A new column goes to the right, empty in
    the rows that were there before.

    Args:
        script: Its ``__file__``.

    Returns:
        `row`.
    """
    path = Path(script).with_suffix(".csv")
    rows: list[Mapping[str, Any]] = []
    if path.exists():
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
    columns = list(dict.fromkeys(name for each in [*rows, row] for name in each))
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows([*rows, row])
    return row
