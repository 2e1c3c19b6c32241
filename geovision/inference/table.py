"""The table of an archive on disk: parts by station and date, a mark for each finished shard.

::

    DIR/archive.json                                   model, preprocessing, classes: one for all parts
    DIR/model/                                         the model itself
    DIR/station=gill/date=2014-03-10/KEY.parquet       rows of one shard
    DIR/_shards/KEY.json                               the shard is whole: its files, parts, bad files

A shard is written under temporary names, renamed, and marked last. What is not marked is done again
under the same names, so that a kill at any moment leaves no row twice.
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

from geovision import storage
from geovision.errors import InputError, MissingExtraError, OptionError, StorageError
from geovision.inference.inventory import Shard

if TYPE_CHECKING:
    import pyarrow

__all__ = ["MANIFEST", "Table", "read_table"]

MANIFEST = "archive.json"
UNKNOWN = "unknown"
"""Station or date of a frame that does not say; a name that no station has."""

_MARKS = "_shards"


class Table:
    """The table in one folder.

    Args:
        folder: Of the table, on a disk that driver and workers share.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    # --- what it holds ----------------------------------------------------------------------------

    def claim(self, manifest: Mapping[str, Any]) -> None:
        """Begin a table, or go on with the one that is there.

        Raises:
            OptionError: It was begun with another model, or other preprocessing.
            StorageError: The folder cannot be written.
        """
        path = self.folder / MANIFEST
        wanted = json.loads(json.dumps(manifest))
        if not path.exists():
            if any(self.folder.glob("station=*")):
                raise OptionError(f"{self.folder}: holds parts but no {MANIFEST}; choose another folder")
            storage.write_text(path, json.dumps(wanted, indent=2, ensure_ascii=False) + "\n")
            return
        known = self.manifest()
        different = [key for key in wanted if known.get(key) != wanted[key]]
        if different:
            raise OptionError(
                f"{self.folder}: was begun with {_differences(known, wanted, different)}; "
                "choose another folder, so that one table has one model"
            )

    def manifest(self) -> dict[str, Any]:
        """What the table was made with.

        Raises:
            InputError: There is no table.
        """
        path = self.folder / MANIFEST
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(
                f"{self.folder}: no {MANIFEST}; not a folder that `geovision archive` wrote"
            ) from None
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: not readable ({error})") from error

    def mark(self, shard: Shard) -> dict[str, Any] | None:
        """What is known of a finished shard; None where it is to be done, for its files are others."""
        found = self._read_mark(shard.key)
        return found if found and found.get("digest") == shard.digest else None

    def marks(self) -> Iterator[dict[str, Any]]:
        """Of every finished shard."""
        for path in sorted((self.folder / _MARKS).glob("*.json")):
            found = self._read_mark(path.stem)
            if found:
                yield found

    def _read_mark(self, key: str) -> dict[str, Any] | None:
        try:
            return json.loads((self.folder / _MARKS / f"{key}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    # --- writing ----------------------------------------------------------------------------------

    def write(
        self, shard: Shard, rows: Sequence[Mapping[str, Any]], classes: Sequence[str]
    ) -> dict[str, Any]:
        """Write a shard's rows, whole, and mark it.

        Raises:
            StorageError: It could not be written; nothing of it is marked.
        """
        parts: dict[str, list[Mapping[str, Any]]] = {}
        for row in rows:
            parts.setdefault(_place(row), []).append(row)
        old = (self._read_mark(shard.key) or {}).get("parts", [])
        form = schema(classes)
        with contextlib.suppress(FileNotFoundError):
            (self.folder / _MARKS / f"{shard.key}.json").unlink()
        for place, own in parts.items():
            write = partial(_write, own, form)
            storage.write_files(self.folder / place, {f"{shard.key}.parquet": write})
        for place in set(old) - set(parts):
            (self.folder / place / f"{shard.key}.parquet").unlink(missing_ok=True)
        mark = {
            "key": shard.key, "digest": shard.digest, "files": len(shard.files), "rows": len(rows),
            "parts": sorted(parts),
            "bad": {row["path"]: row["error"] for row in rows if row.get("unreadable")},
        }  # fmt: skip
        storage.write_text(self.folder / _MARKS / f"{shard.key}.json", json.dumps(mark, ensure_ascii=False))
        return mark


def _write(rows: Sequence[Mapping[str, Any]], form: pyarrow.Schema, path: Path) -> None:
    import pyarrow

    table = pyarrow.Table.from_pylist([{name: row.get(name) for name in form.names} for row in rows], form)
    _parquet().write_table(table, path)


def schema(classes: Sequence[str]) -> pyarrow.Schema:
    """Columns of the table; ``station`` and ``date`` are in the folders' names too."""
    import pyarrow as pa

    from geovision.inference.rows import FLAGS

    return pa.schema([
        ("time", pa.timestamp("us", tz="UTC")), ("device", pa.string()), ("path", pa.string()),
        ("frame", pa.int32()), ("exposure", pa.float32()), ("label", pa.string()),
        ("confidence", pa.float32()),
        *((f"p_{name}", pa.float32()) for name in classes),
        ("outlier_score", pa.float32()), ("sun_elevation", pa.float32()), ("moon_elevation", pa.float32()),
        *((flag, pa.bool_()) for flag in FLAGS), ("error", pa.string()),
    ])  # fmt: skip


def read_table(
    folder: str | Path, *, columns: Sequence[str] | None = None, where: Any = None
) -> pyarrow.Table:
    """The table that `archive` wrote, or a part of it, sorted by station, time, path and frame.

    Args:
        folder: Of the table.
        columns: Names; None: all, with ``station`` and ``date`` from the folders.
        where: An expression of `pyarrow.dataset`, such as ``field("station") == "gill"``.

    Raises:
        InputError: No table there, or no such column.
        MissingExtraError: pyarrow is not installed.
    """
    _parquet()
    import pyarrow as pa
    import pyarrow.dataset as ds

    table = Table(Path(folder))
    form = schema(table.manifest()["classes"])
    parts = [("station", pa.string()), ("date", pa.string())]
    data = ds.dataset(
        str(folder), format="parquet", schema=pa.schema([*form, *parts]),
        partitioning=ds.partitioning(pa.schema(parts), flavor="hive"), exclude_invalid_files=False,
        ignore_prefixes=[".", "_", MANIFEST, "model"],
    )  # fmt: skip
    if columns is not None and (strange := [name for name in columns if name not in data.schema.names]):
        raise InputError(f"{folder}: no column {strange[0]!r}; it has {', '.join(data.schema.names)}")
    order = [(name, "ascending") for name in ("station", "time", "path", "frame")]
    whole = data.to_table(
        columns=None if columns is None else sorted({*columns, *(n for n, _ in order)}), filter=where
    )
    ordered = whole.sort_by(order)
    return ordered if columns is None else ordered.select(list(columns))


def _place(row: Mapping[str, Any]) -> str:
    station = quote(row["station"] or UNKNOWN, safe="")
    date = row["time"].date().isoformat() if row["time"] else UNKNOWN
    return f"station={station}/date={date}"


def _differences(known: Mapping[str, Any], wanted: Mapping[str, Any], keys: Sequence[str]) -> str:
    return ", ".join(f"{key} {_short(known.get(key))} and not {_short(wanted[key])}" for key in keys)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:40]}… ({hashlib.sha256(text.encode()).hexdigest()[:8]})"


def _parquet() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "scale") from error
    return pyarrow.parquet


def lock(folder: Path) -> Any:
    """The table's lock, held until it is closed or its process ends.

    Raises:
        StorageError: Another process writes this table.
    """
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    stream = (folder / "_lock").open("w")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        stream.close()
        raise StorageError(f"{folder}: another `geovision archive` writes here; wait for it") from error
    return stream
