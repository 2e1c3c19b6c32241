"""Plan of the unfinished shards of an archive."""

from __future__ import annotations

import hashlib
import itertools
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from geovision.inference.inventory import ArchiveFile

__all__ = ["Shard", "ShardPlan"]


@dataclass(frozen=True)
class Shard:
    """Files that are predicted, written and marked as finished together.

    Args:
        key: Identifier of the shard, used in the names of its files.
        files: Files in order.
    """

    key: str
    files: tuple[ArchiveFile, ...]


class ShardPlan:
    """Plan of the pending files of an archive, grouped into shards.

    A file belongs to one shard permanently. Files without a shard are grouped in the order of their paths. A
    shard with a file whose size has changed is predicted again as a whole, under its old key. So no file can
    be in two shards, even if files are added or left out.

    The lists are kept in a private database on disk, so that memory does not grow with them.

    Args:
        files: Files of the archive in any order; duplicates count once.
        finished_shards: Shards that are finished.
    """

    def __init__(self, files: Iterable[ArchiveFile], finished_shards: Iterable[Shard]) -> None:
        self._database = sqlite3.connect("")  # a temporary file that is deleted with the connection
        self._database.executescript(_SCHEMA)
        self._database.executemany(
            "INSERT OR REPLACE INTO files VALUES (?, ?)", ((file.path, file.size) for file in files)
        )
        self._database.executemany(
            "INSERT OR REPLACE INTO done VALUES (?, ?, ?)",
            ((file.path, file.size, shard.key) for shard in finished_shards for file in shard.files),
        )

    def num_files(self) -> int:
        """Return the number of files in the archive."""
        return self._count("SELECT count(*) FROM files")

    def num_pending_files(self) -> int:
        """Return the number of files in new or changed shards."""
        changed = (
            f"SELECT count(*) FROM files JOIN done USING (path) WHERE shard IN ({_CHANGED_SHARDS_QUERY})"
        )
        return self._count(f"SELECT count(*) FROM ({_NEW_FILES_QUERY})") + self._count(changed)

    def shards(self, size: int) -> Iterator[Shard]:
        """Yield the pending shards.

        Args:
            size: Maximum number of files in a new shard.

        Yields:
            First the shards with changed files, then new shards.
        """
        for (key,) in self._database.execute(_CHANGED_SHARDS_QUERY).fetchall():
            yield Shard(
                key, tuple(ArchiveFile(*row) for row in self._database.execute(_SHARD_FILES_QUERY, (key,)))
            )
        fresh = (ArchiveFile(*row) for row in self._database.execute(f"{_NEW_FILES_QUERY} ORDER BY path"))
        while files := tuple(itertools.islice(fresh, size)):
            yield Shard(_shard_key(files), files)

    def sample_files(self, number: int) -> list[ArchiveFile]:
        """Return evenly spaced files in the order of their paths.

        Args:
            number: Number of files; all are returned if the archive has fewer.
        """
        step = max(self.num_files() / number, 1)
        wanted = {round(step * (index + 0.5) - 0.5) for index in range(number)}
        rows = self._database.execute("SELECT path, size FROM files ORDER BY path")
        return [ArchiveFile(*row) for place, row in enumerate(rows) if place in wanted]

    def close(self) -> None:
        """Close and delete the database."""
        self._database.close()

    def _count(self, query: str) -> int:
        return int(self._database.execute(query).fetchone()[0])


# A temporary database is not recovered after a crash, so it needs no journal. Its cache in memory is limited
# to 64 MB.
_SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA cache_size = -65536;
CREATE TABLE files (path TEXT PRIMARY KEY, size INTEGER) WITHOUT ROWID;
CREATE TABLE done (path TEXT PRIMARY KEY, size INTEGER, shard TEXT) WITHOUT ROWID;
CREATE INDEX of_shard ON done (shard);
"""
_NEW_FILES_QUERY = "SELECT path, size FROM files WHERE path NOT IN (SELECT path FROM done)"
_CHANGED_SHARDS_QUERY = (
    "SELECT DISTINCT shard FROM done JOIN files USING (path) WHERE done.size != files.size ORDER BY shard"
)
_SHARD_FILES_QUERY = (
    "SELECT path, coalesce(files.size, done.size) FROM done LEFT JOIN files USING (path) "
    "WHERE shard = ? ORDER BY path"
)


def _shard_key(files: Sequence[ArchiveFile]) -> str:
    return hashlib.sha256("\n".join(file.path for file in files).encode()).hexdigest()[:16]
