"""Table of an archive on disk, partitioned by station and date.

The table contains a record for each finished shard.

::

    DIR/archive.json                                   manifest: model, preprocessing, classes, columns, flags
    DIR/model/                                         the model
    DIR/station=gill/date=2014-03-10/KEY.parquet       rows of one shard
    DIR/_shards/KEY.json                               record of a finished shard: its files, parts, bad files
                                                       and the digest of archive.json

A shard is written under temporary names, then renamed, and its record is written last. Rows without a record
are not part of the table and are removed before the next run. An interruption at any moment therefore leaves
no duplicate rows.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from geovision import _atomic_io
from geovision.errors import InputError, MissingExtraError, OptionError, StorageError
from geovision.inference.inventory import ArchiveFile
from geovision.inference.shards import Shard

if TYPE_CHECKING:
    import pyarrow

__all__ = ["MANIFEST", "MODEL", "ArchiveTable", "open_table", "read_table"]

MANIFEST, MODEL = "archive.json", "model"
UNKNOWN = "unknown"
"""Station or date of a frame without this metadata; no station has this name."""

_SHARD_RECORDS_DIR = "_shards"


class ArchiveTable:
    """Partitioned table in a folder.

    Args:
        folder: Folder of the table, on a disk that the main process and all workers share.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    # --- reading ----------------------------------------------------------------------------------

    def exists(self) -> bool:
        """Return whether the folder contains a table."""
        return (self.folder / MANIFEST).exists()

    def check_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Check that an existing table has the same manifest.

        Args:
            manifest: Manifest of this run.

        Raises:
            OptionError: If the table was started with another model or other preprocessing, or if the folder
                contains parts but no manifest.
        """
        if not self.exists():
            if any(self.folder.glob("station=*")):
                raise OptionError(f"{self.folder}: contains parts but no {MANIFEST}; choose another folder")
            return
        known, wanted = (
            _flatten_manifest(self.read_manifest()),
            _flatten_manifest(json.loads(json.dumps(manifest))),
        )
        different = [
            f"{key} {_abbreviate(known.get(key))} instead of {_abbreviate(wanted.get(key))}"
            for key in known | wanted
            if known.get(key) != wanted.get(key)
        ]
        if different:
            raise OptionError(
                f"{self.folder}: the table was started with {', '.join(different)}. "
                "Choose another folder, since a table has one model and one preprocessing"
            )

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Write the manifest if the folder has none.

        Args:
            manifest: Model, preprocessing, classes, columns and flags; convertible to JSON.

        Raises:
            StorageError: If the folder cannot be written.
        """
        if not self.exists():
            text = json.dumps(manifest, indent=2, ensure_ascii=False)
            _atomic_io.write_text(self.folder / MANIFEST, f"{text}\n")

    def read_manifest(self) -> dict[str, Any]:
        """Return the manifest of the table.

        Raises:
            InputError: If there is no table, or if its manifest is not readable or incomplete.
        """
        path = self.folder / MANIFEST
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(
                f"{self.folder}: no {MANIFEST}; expected a folder written by `geovision archive`"
            ) from None
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: not readable ({error})") from error
        if missing := {"classes", "columns", "flags"} - set(manifest):
            raise InputError(
                f"{path}: has no {', '.join(sorted(missing))}; "
                "run `geovision archive` again with another folder"
            )
        return manifest

    def finished_shards(self) -> Iterator[Shard]:
        """Yield the finished shards."""
        for mark in self.shard_records() if self.exists() else ():
            yield Shard(mark["key"], tuple(ArchiveFile(path, size) for path, size in mark["files"]))

    def shard_records(self) -> Iterator[dict[str, Any]]:
        """Yield the record of every finished shard.

        Yields:
            Key, files, number of rows, parts, and bad files with reasons.

        Raises:
            OptionError: If a shard was written with another model or other preprocessing.
        """
        made_with = self.manifest_digest()
        for path in sorted((self.folder / _SHARD_RECORDS_DIR).glob("*.json")):
            mark = self._read_shard_record(path.stem)
            if mark is None:
                continue
            if mark.get("made_with") != made_with:
                raise OptionError(
                    f"{path}: the model or preprocessing of this shard differs from {MANIFEST}; "
                    "remove this file to predict the shard again"
                )
            # A shard with a removed part is predicted again.
            if all((self.folder / part / f"{path.stem}.parquet").exists() for part in mark["parts"]):
                yield mark

    def _read_shard_record(self, key: str) -> dict[str, Any] | None:
        try:
            return json.loads((self.folder / _SHARD_RECORDS_DIR / f"{key}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def manifest_digest(self) -> str:
        """Return the SHA-256 digest of the manifest."""
        return _atomic_io.sha256(self.folder / MANIFEST)

    def remove_unfinished(self) -> None:
        """Remove unfinished parts of an interrupted run.

        The caller needs the lock of the table.
        """
        whole = {mark["key"] for mark in self.shard_records()}
        for part in self.folder.glob("station=*/date=*/*"):
            if part.suffix != ".parquet" or part.stem not in whole:
                part.unlink(missing_ok=True)
        for left in (self.folder / _SHARD_RECORDS_DIR).iterdir() if whole else ():
            if left.suffix != ".json" or left.stem not in whole:
                left.unlink(missing_ok=True)

    # --- writing ----------------------------------------------------------------------------------

    def write_shard(self, shard: Shard, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Write the rows of a shard and mark the shard as finished.

        Args:
            shard: Files that the rows belong to.
            rows: Values by column; a row with an ``error`` marks its file as bad. Columns that the table
                does not have are ignored, missing ones are null.

        Returns:
            The record of the shard.

        Raises:
            StorageError: If the rows cannot be written; the shard then has no record.
        """
        form = schema(self.read_manifest())
        parts: dict[str, list[Mapping[str, Any]]] = {}
        for row in rows:
            parts.setdefault(_partition_path(row), []).append(row)
        mark_path, name = self.folder / _SHARD_RECORDS_DIR / f"{shard.key}.json", f"{shard.key}.parquet"
        old = (self._read_shard_record(shard.key) or {}).get("parts", [])
        mark = {
            "key": shard.key,
            "made_with": self.manifest_digest(),
            "rows": len(rows),
            "parts": sorted(parts),
            "files": [[file.path, file.size] for file in shard.files],
            "bad": {row["path"]: row["error"] for row in rows if row.get("error")},
        }
        mark_path.unlink(missing_ok=True)
        try:
            for place in set(old) - set(parts):
                (self.folder / place / name).unlink(missing_ok=True)
            for place, own in parts.items():
                _atomic_io.write_files(self.folder / place, {name: partial(_write, own, form)})
            _atomic_io.write_text(mark_path, json.dumps(mark, ensure_ascii=False))
        except StorageError:
            for place in parts:  # readers would mistake these files for rows of the table
                with contextlib.suppress(OSError):
                    (self.folder / place / name).unlink(missing_ok=True)
            raise
        return mark


def _write(rows: Sequence[Mapping[str, Any]], arrow_schema: pyarrow.Schema, path: Path) -> None:
    import pyarrow

    table = pyarrow.Table.from_pylist(
        [{name: row.get(name) for name in arrow_schema.names} for row in rows], arrow_schema
    )
    _import_parquet().write_table(table, path)


def schema(manifest: Mapping[str, Any]) -> pyarrow.Schema:
    """Return the Arrow schema of the part files of a table.

    The columns ``station`` and ``date`` are not in the files but in the folder names.

    Args:
        manifest: Description of the table: its ``classes``, the Arrow types of its further ``columns`` by
            name, and its ``flags``.
    """
    import pyarrow as pa

    return pa.schema(
        [
            ("time", pa.timestamp("us", tz="UTC")),
            *((name, pa.type_for_alias(kind)) for name, kind in manifest["columns"].items()),
            ("path", pa.string()),
            ("frame", pa.int32()),
            ("label", pa.string()),
            ("confidence", pa.float32()),
            *((f"p_{name}", pa.float32()) for name in manifest["classes"]),
            ("outlier_score", pa.float32()),
            *((flag, pa.bool_()) for flag in manifest["flags"]),
            ("error", pa.string()),
        ]
    )


def open_table(folder: str | Path) -> pyarrow.dataset.Dataset:
    """Open a table of predictions without reading it into memory.

    The columns are those of `read_table`. The rows have no particular order.

    Args:
        folder: Folder that `run_archive` wrote.

    Returns:
        Dataset that reads rows on request.

    Raises:
        InputError: If the folder contains no table.
        MissingExtraError: If pyarrow is not installed.
    """
    _import_parquet()
    import pyarrow as pa
    import pyarrow.dataset as ds

    form = schema(ArchiveTable(Path(folder)).read_manifest())
    parts = [("station", pa.string()), ("date", pa.string())]
    return ds.dataset(
        str(folder),
        format="parquet",
        schema=pa.schema([*form, *parts]),
        partitioning=ds.partitioning(pa.schema(parts), flavor="hive"),
        exclude_invalid_files=False,
        ignore_prefixes=[".", "_", MANIFEST, MODEL],
    )


def read_table(
    folder: str | Path, *, columns: Sequence[str] | None = None, where: Any = None
) -> pyarrow.Table:
    """Read a table of predictions, sorted by station, time, path and frame.

    Args:
        folder: Folder that `run_archive` wrote.
        columns: Names of the columns. Default: all, with ``station`` and ``date`` from the folder names.
        where: Filter, an expression of `pyarrow.dataset` such as ``field("station") == "gill"``. Default: all
            rows.

    Returns:
        The table in memory.

    Raises:
        InputError: If the folder contains no table, or if the table has no such column.
        MissingExtraError: If pyarrow is not installed.
    """
    data = open_table(folder)
    if columns is not None and (strange := [name for name in columns if name not in data.schema.names]):
        raise InputError(
            f"{folder}: no column {strange[0]!r}; the columns are {', '.join(data.schema.names)}"
        )
    order = [(name, "ascending") for name in ("station", "time", "path", "frame")]
    wanted = None if columns is None else sorted({*columns, *(name for name, _ in order)})
    ordered = data.to_table(columns=wanted, filter=where).sort_by(order)
    return ordered if columns is None else ordered.select(list(columns))


def _partition_path(row: Mapping[str, Any]) -> str:
    station = quote(row["station"] or UNKNOWN, safe="")
    date = row["time"].date().isoformat() if row["time"] else UNKNOWN
    return f"station={station}/date={date}"


def _flatten_manifest(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest with the entries of ``reading`` at the top level."""
    rest = {key: value for key, value in manifest.items() if key != "reading"}
    return rest | dict(manifest.get("reading", {}))


def _abbreviate(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:40]}… ({hashlib.sha256(text.encode()).hexdigest()[:8]})"


def _import_parquet() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "scale") from error
    return pyarrow.parquet
