"""Predict an archive of files of any size and write a table of the predictions.

A `RowProducer` turns files into rows. The engine distributes shards of files over processes, writes the rows
and continues interrupted runs.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol

import torch

from geovision import _atomic_io
from geovision.accelerate.optimized import PRECISIONS, optimize_model
from geovision.errors import OptionError, StorageError, WeightsError
from geovision.inference import executor
from geovision.inference.inventory import ArchiveFile, ArchiveSource, inventory
from geovision.inference.shards import Shard, ShardPlan
from geovision.inference.table import MODEL, ArchiveTable
from geovision.models.geomodel import GeoModel
from geovision.models.loading import read
from geovision.models.serialization import weights_digest
from geovision.spec import ClassTarget

__all__ = ["SHARD_SIZE", "ArchiveProgress", "ArchiveSummary", "RowProducer", "run_archive"]

SHARD_SIZE = 128
"""Default number of files that are predicted and written together."""

_TRIED = 20
"""Maximum number of sample files that the producer tries to read before the run."""


@dataclass(frozen=True)
class ShardTask:
    """What every worker does with a shard.

    Args:
        folder: Of the table, with the model in it; on a disk that all workers share.
        made_with: Digest of the manifest; workers reload the model if it changes.
        producer: Object that turns files into rows.
        batch_size: Frames a forward pass.
        precision: ``"float32"`` or ``"bfloat16"``.
        threads: Of PyTorch, in each worker.
    """

    folder: str
    made_with: str
    producer: RowProducer
    batch_size: int
    precision: str
    threads: int


@dataclass
class ArchiveProgress:
    """How far an archive is.

    Attributes:
        files_in_all: To be done, in this run and before; frames are not known before they are read.
        files: Done, in this run and before.
        files_now, frames_now: Done in this run.
        seconds: Since this run began.
        failed: Shards that were given up.
    """

    files_in_all: int = 0
    files: int = 0
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
class ArchiveSummary:
    """What an archive run left.

    Attributes:
        folder: Of the table.
        frames: Rows in it, of this run and those before.
        frames_now: Rows that this run wrote.
        bad: Path to reason of each file, or frame, that could not be read.
        failed: Shard to reason of each that was given up; another run tries them again.
        seconds, rate: Of this run; frames a second.
    """

    folder: Path
    frames: int
    frames_now: int
    bad: dict[str, str]
    failed: dict[str, str]
    seconds: float
    rate: float


class RowProducer(Protocol):
    """Turn files into rows of a table. Instances are pickled and sent to the workers.

    Every row has the keys ``path``, ``frame`` (position in the file), ``station`` and ``time`` (UTC or None).
    The keys ``label``, ``confidence``, ``p_CLASS`` and ``outlier_score`` contain the prediction. The key
    ``error`` contains the reason why a file could not be read. Further keys are those of `columns`
    and `flags`.
    """

    @property
    def columns(self) -> Mapping[str, str]:
        """Names of further columns and their Arrow types, such as ``"float32"``."""
        ...

    @property
    def flags(self) -> tuple[str, ...]:
        """Names of the boolean columns that are true where a row is not reliable."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """Return what determines the rows, for the manifest; convertible to JSON."""
        ...

    def try_files(self, paths: Sequence[str]) -> None:
        """Read sample files, before work begins and bad settings turn all rows into errors.

        Args:
            paths: Files spread evenly over the archive.

        Raises:
            InputError: No file can be read, or the settings do not fit the files.
        """
        ...

    def rows(
        self, model: GeoModel, paths: Iterable[str], *, batch_size: int, precision: str
    ) -> list[dict[str, Any]]:
        """Return the rows of some files.

        Args:
            model: Classifier that predicts.
            paths: Local paths, or addresses that fsspec supports.
            batch_size: Number of samples in a forward pass.
            precision: As for `GeoModel.predict`, ``"auto"`` excluded.
        """
        ...


def run_archive(
    model: GeoModel,
    source: ArchiveSource,
    out: str | Path,
    producer: RowProducer,
    *,
    workers: executor.ExecutorConfig | None = None,
    shard_size: int = SHARD_SIZE,
    batch_size: int = 16,
    precision: str = "auto",
    progress: Callable[[ArchiveProgress], None] | None = None,
) -> ArchiveSummary:
    """Predict every file of an archive and write a Parquet table.

    Files that are in the table are skipped: the same call continues an interrupted run and adds new files.
    Memory does not grow with the archive.

    A script that uses more than its own process has to begin with ``if __name__ == "__main__":``, as
    always where Python starts processes.

    Args:
        model: Classifier.
        source: Folder, pattern, text file of paths, fsspec address, or a list of these.
        out: Folder of the table, on a disk that all workers share. One table has one model and one
            producer.
        producer: Object that turns files into rows.
        workers: Processes or Dask cluster that predict. Default: one process for each processor.
        shard_size: Number of files that are predicted, written and marked as finished together: the work
            that an interruption can cost. Default: 128.
        batch_size: Number of samples in a forward pass. Default: 16.
        precision: As for `GeoModel.predict`; ``"auto"`` in an existing table is the precision of the table.
        progress: Function that is called after each shard.

    Raises:
        OptionError: The table has another model or producer; the model is no classifier; no scheduler.
        InputError: `source` has no files, or the producer does not fit them.
        StorageError: The table cannot be written, or is being written by another process; finished shards
            are kept.
        MissingExtraError: A library of the extra [scale] is not installed.
    """
    _validate(model, out, precision, shard_size, batch_size)
    workers = workers or executor.ExecutorConfig(executor.cores())
    folder = Path(out).absolute()
    table = ArchiveTable(folder)
    with _atomic_io.file_lock(folder / "_lock") as free:
        if not free:
            raise StorageError(f"{folder}: another `geovision archive` writes here; wait for it")
        manifest = _manifest(model, producer, _precision(model, precision, table))
        table.agree(manifest)
        files = (file for file in inventory(source) if not _within(file, folder))
        with closing(ShardPlan(files, table.finished())) as plan, _threads_kept():
            if plan.files_to_do():
                producer.try_files([file.path for file in plan.sample(_TRIED)])
            table.begin(manifest)
            table.sweep()
            _keep(model, folder / MODEL)
            job = ShardTask(
                str(folder), table.digest(), producer, batch_size, manifest["precision"], workers.threads
            )
            return _run(table, job, plan, workers, shard_size, progress or (lambda _: None))


def _run(
    table: ArchiveTable,
    job: ShardTask,
    plan: ShardPlan,
    workers: executor.ExecutorConfig,
    shard_size: int,
    progress: Callable[[ArchiveProgress], None],
) -> ArchiveSummary:
    state, failed = ArchiveProgress(files_in_all=plan.files()), {}
    state.files = state.files_in_all - plan.files_to_do()
    begun = time.perf_counter()
    progress(state)
    for done in executor.run(partial(_shard, job), plan.shards(shard_size), workers):
        state.seconds = time.perf_counter() - begun
        if done.error:
            failed[done.piece.key] = f"{_span(done.piece)}: {done.error}"
            state.failed += 1
        else:
            state.files += len(done.piece.files)
            state.files_now += len(done.piece.files)
            state.frames_now += done.result
        progress(state)
    bad: dict[str, str] = {}
    frames = 0
    for mark in table.marks():
        frames += mark["rows"]
        bad |= mark["bad"]
    return ArchiveSummary(table.folder, frames, state.frames_now, bad, failed, state.seconds, state.rate)


def _span(shard: Shard) -> str:
    first, last = shard.files[0].path, shard.files[-1].path.rpartition("/")[2]
    return f"{first} to {last}" if len(shard.files) > 1 else first


def _keep(model: GeoModel, folder: Path) -> None:
    """Have the model in the table's folder, and no other one that was left there."""
    try:
        kept = read(folder)
        if (weights_digest(kept), kept.inputs) == (weights_digest(model), model.inputs):
            return
    except WeightsError:
        pass  # missing, or half written
    model.save(folder)


# --- on the workers -----------------------------------------------------------------------------


def _shard(job: ShardTask, shard: Shard) -> int:
    """Predict one shard, write its rows, and return their number."""
    if torch.get_num_threads() != job.threads:
        torch.set_num_threads(job.threads)
    model = _model(job.folder, job.made_with)
    paths = (file.path for file in shard.files)
    rows = job.producer.rows(model, paths, batch_size=job.batch_size, precision=job.precision)
    ArchiveTable(Path(job.folder)).write(shard, rows)
    return len(rows)


@lru_cache(maxsize=1)
def _model(folder: str, made_with: str) -> GeoModel:
    """The model of a table, loaded once in each worker; by the digest another one that was there
    before is not taken for it."""
    if not Path(folder).is_dir():
        raise StorageError(
            f"{folder}: not seen by the worker on {platform.node()}; "
            "choose a folder on a disk that all workers share"
        )
    return read(Path(folder) / MODEL)


@contextmanager
def _threads_kept() -> Iterator[None]:
    """Where the work is done in this process, its threads are afterwards as many as before."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


# --- validation ---------------------------------------------------------------------------------


def _validate(model: GeoModel, out: str | Path, precision: str, shard_size: int, batch_size: int) -> None:
    if not isinstance(model.target, ClassTarget):
        raise OptionError(
            f"{model.spec.name} predicts a {model.target.kind}; the table of an archive needs a classifier"
        )
    if "://" in str(out):
        raise OptionError(
            f"{out}: a table is written to a folder of a file system; mount it, or copy it later"
        )
    if precision not in PRECISIONS:
        raise OptionError(f"precision {precision!r} is not known; choose one of {', '.join(PRECISIONS)}")
    if min(shard_size, batch_size) < 1:
        raise OptionError(
            f"shard_size is {shard_size} and batch_size is {batch_size}; both have to be 1 or more"
        )


def _within(file: ArchiveFile, folder: Path) -> bool:
    """Whether a file is of the table itself, which may lie in the archive."""
    return file.path.startswith(f"{folder}/")


def _precision(model: GeoModel, asked: str, table: ArchiveTable) -> str:
    """What "auto" comes to: decided once, for workers may have processors of several kinds."""
    if asked == "auto" and table.begun():
        return table.manifest().get("precision", "float32")
    return str(optimize_model(model, asked).dtype).removeprefix("torch.")


def _manifest(model: GeoModel, producer: RowProducer, precision: str) -> dict[str, Any]:
    """What one table has in common: refused where it is another."""
    return {
        "model": model.spec.name,
        "weights": weights_digest(model),
        "inputs": json.loads(json.dumps([dataclasses.asdict(spec) for spec in model.inputs])),
        "classes": list(model.target.classes),  # type: ignore[union-attr]
        "precision": precision,
        "columns": dict(producer.columns),
        "flags": list(producer.flags),
        "reading": dict(producer.describe()),
        "format_version": 2,
    }
