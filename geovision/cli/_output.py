"""Rows on standard output: a table to read, CSV or JSON lines to compute with."""

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
    """How rows are written."""

    table = "table"
    csv = "csv"
    jsonl = "jsonl"


class DocumentFormat(enum.StrEnum):
    """Formats of one document."""

    table = "table"
    json = "json"


class FileNames:
    """Names of files to write, each once: files of several folders may be called the same.

    Args:
        suffix: Of every name.
    """

    def __init__(self, suffix: str = "") -> None:
        self.suffix = suffix
        self.taken: set[str] = set()

    def unique_name(self, source: str) -> str:
        """The name for what is made of a file, without an ending."""
        stem, number = Path(source).stem, 1
        name = f"{stem}{self.suffix}"
        while name in self.taken:
            number += 1
            name = f"{stem}-{number}{self.suffix}"
        self.taken.add(name)
        return name


def examples_epilog(*lines: str) -> str:
    """The end of a help text. Empty lines between, or the help would run them into one."""
    return "\n\n".join(["Examples:", *lines])


def print_status(message: str) -> None:
    """One line for the person at the screen."""
    print(f"geovision: {message}", file=sys.stderr, flush=True)


def write_json(value: Any) -> None:
    """One JSON document on standard output."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def write_rows(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], output_format: TableFormat) -> None:
    """Write rows as they come; a table waits for the last one, to know how wide its columns are.

    Args:
        rows: Column name to value. JSON lines hold a row as it is, the others only `columns`.
        columns: In this order.
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
    """Lines in which each column begins at the same place, also with Chinese characters.

    >>> columns_of_text([["a", "b"], ["long", "c"]])
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
    """For a reader: large numbers in groups of three."""
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
