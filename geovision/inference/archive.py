"""A model over an archive of frames, however long: a table with a row for each."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch

from geovision.errors import OptionError
from geovision.inference import engine
from geovision.inference.inventory import Shard, shards
from geovision.inference.rows import Reading, rows_of_file
from geovision.inference.table import Table, lock
from geovision.models.folder import read, weights_digest
from geovision.models.geomodel import GeoModel
from geovision.spec import ClassTarget

__all__ = ["Progress", "Summary", "archive"]

FILES_A_SHARD = 64
MODEL = "model"


@dataclass(frozen=True)
class Job:
    """What every worker does with a shard.

    Args:
        folder: Of the table, with the model in it; on a disk that all workers share.
        reading: How frames are read.
        batch_size: Frames a forward pass.
        precision: As for `GeoModel.predict`.
        threads: Of PyTorch, in each worker.
    """

    folder: str
    reading: Reading
    batch_size: int = 64
    precision: str = "auto"
    threads: int = 1


@dataclass
class Progress:
    """How far an archive is.

    Attributes:
        shards, files, frames: Done, in this run and before.
        shards_in_all, files_in_all: To be done; frames are not known before they are read.
        frames_now: Done in this run.
        seconds: Since this run began.
        failed: Shards that were given up.
    """

    shards_in_all: int = 0
    files_in_all: int = 0
    shards: int = 0
    files: int = 0
    frames: int = 0
    files_now: int = 0
    frames_now: int = 0
    seconds: float = 0.0
    failed: int = 0

    @property
    def rate(self) -> float:
        """Frames a second in this run."""
        return self.frames_now / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """By the files a second of this run; None before its first shard."""
        if not self.files_now:
            return None
        return (self.files_in_all - self.files) * self.seconds / self.files_now


@dataclass(frozen=True)
class Summary:
    """What an archive run left.

    Attributes:
        folder: Of the table.
        frames: Rows in it.
        bad: Path to reason of each file, or frame, that could not be read.
        failed: Shard to reason of each that was given up; another run tries them again.
        seconds, rate: Of this run; frames a second.
    """

    folder: Path
    frames: int
    bad: dict[str, str]
    failed: dict[str, str]
    seconds: float
    rate: float


def archive(
    model: GeoModel, source: str | Path | Sequence[str | Path], out: str | Path, *,
    reading: Reading | None = None, workers: engine.Workers | None = None,
    files_a_shard: int = FILES_A_SHARD, batch_size: int = 64, precision: str = "auto",
    progress: Callable[[Progress], None] | None = None,
) -> Summary:  # fmt: skip
    """Answer for every frame of an archive, and write a table of Parquet by station and date.

    Shards that are finished are skipped, so that the same call goes on where an earlier one was
    stopped, and picks up what has come in since. Memory does not grow with the archive.

    Args:
        model: One that tells classes apart by one picture.
        source: Folder, pattern, text file of paths, fsspec address, or a list of these.
        out: Folder of the table, on a disk that all workers share. One table has one model and one
            way of reading.
        reading: How frames are read.
        workers: Who does it; None: a process for each processor.
        files_a_shard: Files that are answered, written and marked together.
        batch_size: Frames a forward pass.
        precision: As for `GeoModel.predict`.
        progress: Is told after each shard.

    Raises:
        OptionError: The table was begun otherwise; the model is of another kind; no scheduler.
        InputError: Nothing at `source`.
        StorageError: The table cannot be written; what is marked as finished stays.
    """
    _refuse(model)
    reading = reading or Reading()
    workers = workers or engine.Workers(engine.cores())
    folder = Path(out).absolute()
    table = Table(folder)
    held = lock(folder)
    try:
        table.claim(_manifest(model, reading))
        if not (folder / MODEL / "config.json").exists():
            model.save(folder / MODEL)
        job = Job(str(folder), reading, batch_size, precision, workers.threads)
        return _run(table, job, source, workers, files_a_shard, progress or (lambda _: None))
    finally:
        held.close()


def _run(
    table: Table, job: Job, source: Any, workers: engine.Workers, files_a_shard: int,
    progress: Callable[[Progress], None],
) -> Summary:  # fmt: skip
    state, failed = Progress(), {}
    for shard in shards(source, files_a_shard):
        state.shards_in_all += 1
        state.files_in_all += len(shard.files)

    def unfinished():
        for shard in shards(source, files_a_shard):
            mark = table.mark(shard)
            if mark is None:
                yield shard
            else:
                state.shards, state.files = state.shards + 1, state.files + len(shard.files)
                state.frames += mark["rows"]

    begun = time.perf_counter()
    progress(state)
    for done in engine.run(partial(_shard, job), unfinished(), workers):
        state.seconds = time.perf_counter() - begun
        if done.error:
            failed[done.piece.key] = f"{_span(done.piece)}: {done.error}"
            state.failed += 1
        else:
            state.shards, state.files = state.shards + 1, state.files + len(done.piece.files)
            state.files_now += len(done.piece.files)
            state.frames += done.result
            state.frames_now += done.result
        progress(state)
    bad = {path: reason for mark in table.marks() for path, reason in mark["bad"].items()}
    return Summary(table.folder, state.frames, bad, failed, state.seconds, state.rate)


def _span(shard: Shard) -> str:
    first, last = shard.files[0].path, shard.files[-1].path.rpartition("/")[2]
    return f"{first} to {last}" if len(shard.files) > 1 else first


def _shard(job: Job, shard: Shard) -> int:
    """Answer one shard, write it, and say how many rows it has. This runs on the workers."""
    if torch.get_num_threads() != job.threads:
        torch.set_num_threads(job.threads)
    model = _model(job.folder)
    rows = [
        row
        for file in shard.files
        for row in rows_of_file(
            model, file.path, job.reading, batch_size=job.batch_size, precision=job.precision
        )
    ]
    Table(Path(job.folder)).write(shard, rows, model.target.classes)  # type: ignore[union-attr]
    return len(rows)


@lru_cache(maxsize=1)
def _model(folder: str) -> GeoModel:
    """The model of a table, loaded once in each worker."""
    return read(Path(folder) / MODEL)


def _refuse(model: GeoModel) -> None:
    if not isinstance(model.target, ClassTarget):
        raise OptionError(f"{model.spec.name} answers no class; an archive is a table of classes")
    if len(model.inputs) != 1 or len(model.inputs[0].channels) != 3:
        raise OptionError(f"{model.spec.name} takes more than one colour picture; an archive holds pictures")


def _manifest(model: GeoModel, reading: Reading) -> dict[str, Any]:
    """What one table has in common: refused where it is another."""
    return {
        "model": model.spec.name,
        "weights": weights_digest(model),
        "inputs": json.loads(json.dumps([dataclasses.asdict(spec) for spec in model.inputs])),
        "classes": list(model.target.classes),  # type: ignore[union-attr]
        "reading": dataclasses.asdict(reading),
        "format_version": 1,
    }
