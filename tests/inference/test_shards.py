"""Lists of archive files, and their assignment to one shard each."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geovision.errors import InputError
from geovision.inference.inventory import ArchiveFile, list_archive_files
from geovision.inference.shards import Shard, ShardPlan


def test_a_list_in_a_list_is_refused(tmp_path: Path):
    (tmp_path / "a.txt").write_text(str(tmp_path / "b.txt"))
    (tmp_path / "b.txt").write_text(str(tmp_path))
    with pytest.raises(InputError, match="a list file inside a list file"):
        list(list_archive_files(tmp_path / "a.txt"))


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[dict[str, int], int, int]]:
    """Runs over a changing archive: file sizes, files per shard, shards until a kill."""
    files = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 3))
    return draw(st.lists(st.tuples(files, st.integers(1, 4), st.integers(0, 6)), min_size=1, max_size=6))


@given(histories())
def test_each_file_is_in_one_shard_in_changing_archives(history: list[tuple[dict[str, int], int, int]]):
    done: dict[str, Shard] = {}

    def proceed(files: dict[str, int], size: int, until: int | None) -> ShardPlan:
        plan = ShardPlan([ArchiveFile(path, own) for path, own in files.items()], done.values())
        for shard in list(plan.shards(size))[:until]:
            done[shard.key] = shard
        return plan

    for files, size, until in history:
        proceed(files, size, until)
        held_by = [file.path for shard in done.values() for file in shard.files]
        assert len(held_by) == len(set(held_by))
    files = history[-1][0]
    proceed(files, 2, None)
    finished = {file.path: file.size for shard in done.values() for file in shard.files}
    assert {path: finished[path] for path in files} == files
    assert proceed(files, 2, None).num_pending_files() == 0
