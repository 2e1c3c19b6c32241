"""What is to be done of an archive, as shards of files, beside what is done already."""

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
    """Files that are predicted together: the unit of work, of writing and of going on.

    Args:
        key: Names what is written of it.
        files: In their order.
    """

    key: str
    files: tuple[ArchiveFile, ...]


class ShardPlan:
    """Which files of an archive are to be done, in shards.

    A file belongs to one shard, and stays in it. Files that no shard has yet are put together in the
    order of their paths; a shard that holds a file whose size has changed is done again as a whole,
    under its old key. So no file can come to stand in two shards, whatever comes in or is left out.

    The lists are kept in a private database on disk, so that memory does not grow with them.

    Args:
        files: Of the archive, in any order; what stands there twice counts once.
        finished_shards: The shards that are finished.
    """

    def __init__(self, files: Iterable[ArchiveFile], finished_shards: Iterable[Shard]) -> None:
        self._database = sqlite3.connect("")  # a temporary file that vanishes with the connection
        self._database.executescript(_SCHEMA)
        self._database.executemany(
            "INSERT OR REPLACE INTO files VALUES (?, ?)", ((file.path, file.size) for file in files)
        )
        self._database.executemany(
            "INSERT OR REPLACE INTO done VALUES (?, ?, ?)",
            ((file.path, file.size, shard.key) for shard in finished_shards for file in shard.files),
        )

    def num_files(self) -> int:
        """How many there are in all."""
        return self._count("SELECT count(*) FROM files")

    def num_pending_files(self) -> int:
        """How many of them no finished shard holds as they are now."""
        changed = (
            f"SELECT count(*) FROM files JOIN done USING (path) WHERE shard IN ({_CHANGED_SHARDS_QUERY})"
        )
        return self._count(f"SELECT count(*) FROM ({_NEW_FILES_QUERY})") + self._count(changed)

    def shards(self, size: int) -> Iterator[Shard]:
        """Those that are to be done; new ones of at most `size` files."""
        for (key,) in self._database.execute(_CHANGED_SHARDS_QUERY).fetchall():
            yield Shard(
                key, tuple(ArchiveFile(*row) for row in self._database.execute(_SHARD_FILES_QUERY, (key,)))
            )
        fresh = (ArchiveFile(*row) for row in self._database.execute(f"{_NEW_FILES_QUERY} ORDER BY path"))
        while files := tuple(itertools.islice(fresh, size)):
            yield Shard(_shard_key(files), files)

    def sample_files(self, number: int) -> list[ArchiveFile]:
        """So many files, or all, spread evenly over the archive in the order of their paths."""
        step = max(self.num_files() / number, 1)
        wanted = {round(step * (index + 0.5) - 0.5) for index in range(number)}
        rows = self._database.execute("SELECT path, size FROM files ORDER BY path")
        return [ArchiveFile(*row) for place, row in enumerate(rows) if place in wanted]

    def close(self) -> None:
        self._database.close()

    def _count(self, query: str) -> int:
        return int(self._database.execute(query).fetchone()[0])


# Nobody goes on with a temporary file after a crash, so that it needs no journal; 64 MB of it are in
# memory, whatever its size.
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
