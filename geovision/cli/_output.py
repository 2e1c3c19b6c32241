"""Output of rows as a text table, CSV or JSON lines."""

from __future__ import annotations

import csv
import enum
import json
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = [
    "DocumentFormat",
    "FileNames",
    "TableFormat",
    "align_columns",
    "examples_epilog",
    "print_status",
    "write_json",
    "write_rows",
]


class TableFormat(enum.StrEnum):
    """Formats of rows."""

    table = "table"
    csv = "csv"
    jsonl = "jsonl"


class DocumentFormat(enum.StrEnum):
    """Formats of one document."""

    table = "table"
    json = "json"


class FileNames:
    """Unique names of output files.

    Inputs in several folders may have the same file name.

    Args:
        suffix: Suffix of every name. Default: "".
    """

    def __init__(self, suffix: str = "") -> None:
        self.suffix = suffix
        self.taken: set[str] = set()

    def unique_name(self, source: str) -> str:
        """Return an unused name for the output of a file, without extension.

        Args:
            source: Path of the input file.

        Returns:
            Stem of `source` with the suffix, and a number if the name is in use.
        """
        stem, number = Path(source).stem, 1
        name = f"{stem}{self.suffix}"
        while name in self.taken:
            number += 1
            name = f"{stem}-{number}{self.suffix}"
        self.taken.add(name)
        return name


def examples_epilog(*lines: str) -> str:
    """Return the examples at the end of a help text.

    Args:
        *lines: Example commands.

    Returns:
        Lines separated by empty lines; the help would join adjacent lines.
    """
    return "\n\n".join(["Examples:", *lines])


def print_status(message: str) -> None:
    """Print one line to standard error.

    Args:
        message: Text of the line.
    """
    print(f"geovision: {message}", file=sys.stderr, flush=True)


def write_json(value: Any) -> None:
    """Write one JSON document to standard output.

    Args:
        value: JSON-serializable value.
    """
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def write_rows(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], output_format: TableFormat) -> None:
    """Write rows to standard output.

    CSV and JSON lines are written row by row. A table is written after the last row, because the column
    widths depend on all rows.

    Args:
        rows: Values by column name. JSON lines contain complete rows, the other formats only `columns`.
        columns: Names of the columns, in order.
        output_format: Format of the rows.
    """
    match output_format:
        case TableFormat.jsonl:
            for row in rows:
                print(json.dumps(row, ensure_ascii=False), flush=True)
        case TableFormat.csv:
            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerow(columns)
            for row in rows:
                writer.writerow([_to_text(row.get(column)) for column in columns])
                sys.stdout.flush()
        case TableFormat.table:
            body = [[_format_value(row.get(column)) for column in columns] for row in rows]
            print("\n".join(align_columns([list(columns), *body])))


def align_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Align the columns of a text table.

    Chinese characters count as two cells.

    Args:
        rows: Cells of each row; all rows have the same number of cells.

    Returns:
        Lines of the table.

    >>> align_columns([["a", "b"], ["long", "c"]])
    ['a     b', 'long  c']
    """
    widths = [max(map(_display_width, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell + " " * (width - _display_width(cell)) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]


def _display_width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _format_value(value: Any) -> str:
    """Format a value for a table, with thousands separators."""
    return f"{value:,}" if isinstance(value, int) else _to_text(value)


def _to_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {each}" for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value))
    return str(value)
