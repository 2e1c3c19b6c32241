"""Prediction of file archives of any size to a table.

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
from geovision.inference.inventory import ArchiveFile, ArchiveSource, list_archive_files
from geovision.inference.shards import Shard, ShardPlan
from geovision.inference.table import MODEL, ArchiveTable
from geovision.models.geomodel import GeoModel
from geovision.models.loading import read
from geovision.models.serialization import weights_digest
from geovision.spec import ClassTarget

__all__ = ["SHARD_SIZE", "ArchiveProgress", "ArchiveSummary", "RowProducer", "run_archive"]

SHARD_SIZE = 128
"""Default number of files that are predicted and written together."""

_MAX_TEST_FILES = 20
"""Maximum number of sample files that the producer tries to read before the run."""


@dataclass(frozen=True)
class ShardTask:
    """Settings for the prediction of a shard by a worker.

    Args:
        folder: Folder of the table, which contains the model; on a disk that all workers share.
        manifest_digest: Digest of the manifest; workers reload the model if it changes.
        producer: Object that turns files into rows.
        batch_size: Number of frames in a forward pass.
        precision: Precision, ``"float32"`` or ``"bfloat16"``.
        threads: Number of PyTorch threads in each worker.
    """

    folder: str
    manifest_digest: str
    producer: RowProducer
    batch_size: int
    precision: str
    threads: int


@dataclass
class ArchiveProgress:
    """Progress of an archive run.

    Attributes:
        total_files: Number of files in the archive. The number of frames is not known before reading.
        files: Number of finished files, in this run and earlier ones.
        new_files: Number of files finished in this run.
        new_frames: Number of frames predicted in this run.
        seconds: Duration of this run so far, in s.
        failed_shards: Number of shards that failed in this run.
    """

    total_files: int = 0
    files: int = 0
    new_files: int = 0
    new_frames: int = 0
    seconds: float = 0.0
    failed_shards: int = 0

    @property
    def frames_per_second(self) -> float:
        """Number of frames per second in this run."""
        return self.new_frames / self.seconds if self.seconds else 0.0

    @property
    def remaining_seconds(self) -> float | None:
        """Estimated remaining time in s; None before the first shard.

        It is computed from the number of files per second in this run.
        """
        if not self.new_files:
            return None
        return (self.total_files - self.files) * self.seconds / self.new_files


@dataclass(frozen=True)
class ArchiveSummary:
    """Result of an archive run.

    Attributes:
        folder: Folder of the table.
        frames: Number of rows in the table, of this run and earlier ones.
        new_frames: Number of rows that this run wrote.
        unreadable_files: Reason by path, for each file with an unreadable frame.
        failed_shards: Reason by key, for each shard that failed; the next run tries them again.
        seconds: Duration of this run, in s.
        frames_per_second: Number of frames per second in this run.
    """

    folder: Path
    frames: int
    new_frames: int
    unreadable_files: dict[str, str]
    failed_shards: dict[str, str]
    seconds: float
    frames_per_second: float


class RowProducer(Protocol):
    """Converter of files to rows of a table.

    Instances are pickled and sent to the workers. Every row has the keys ``path``, ``frame`` (position in the
    file), ``station`` and ``time`` (UTC or None). The keys ``label``, ``confidence``, ``p_CLASS`` and
    ``outlier_score`` contain the prediction. The key ``error`` contains the reason why a file could not be
    read. Further keys are those of `columns` and `flags`.
    """

    @property
    def columns(self) -> Mapping[str, str]:
        """Names of further columns and their Arrow types, such as ``"float32"``."""
        ...

    @property
    def flags(self) -> tuple[str, ...]:
        """Names of the boolean columns that mark unreliable rows."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """Return what determines the rows, for the manifest; convertible to JSON."""
        ...

    def check_files(self, paths: Sequence[str]) -> None:
        """Read sample files before the run.

        Wrong settings are reported here once, instead of as an error in every row.

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
            precision: Precision, as for `GeoModel.predict`, but not ``"auto"``.
        """
        ...


def run_archive(
    model: GeoModel,
    source: ArchiveSource,
    out: str | Path,
    producer: RowProducer,
    *,
    executor_config: executor.ExecutorConfig | None = None,
    shard_size: int = SHARD_SIZE,
    batch_size: int = 16,
    precision: str = "auto",
    progress: Callable[[ArchiveProgress], None] | None = None,
) -> ArchiveSummary:
    """Predict every file of an archive and write a Parquet table.

    Files that are in the table are skipped: the same call continues an interrupted run and adds new files.
    Memory does not grow with the archive.

    A script that uses worker processes needs the guard ``if __name__ == "__main__":``, as always with
    Python's multiprocessing.

    Args:
        model: Classifier.
        source: Folder, pattern, text file of paths, fsspec address, or a list of these.
        out: Folder of the table, on a disk that all workers share. One table has one model and one
            producer.
        producer: Object that turns files into rows.
        executor_config: Processes or Dask cluster that predict. Default: one process for each processor.
        shard_size: Number of files that are predicted, written and marked as finished together: the work
            that an interruption can cost. Default: 128.
        batch_size: Number of samples in a forward pass. Default: 16.
        precision: Precision, as for `GeoModel.predict`. Default: ``"auto"``, which selects the precision of
            an existing table.
        progress: Function that is called after each shard.

    Returns:
        Number of rows, unreadable files, failed shards and duration.

    Raises:
        OptionError: If the table has another model or producer, if the model is not a classifier, or if the
            scheduler cannot be reached.
        InputError: If `source` has no files, or if the producer does not fit them.
        StorageError: If the table cannot be written, or if another process is writing it; finished shards are
            kept.
        MissingExtraError: If a library of the extra [scale] is not installed.
    """
    _validate(model, out, precision, shard_size, batch_size)
    executor_config = executor_config or executor.ExecutorConfig(executor.num_cpus())
    folder = Path(out).absolute()
    table = ArchiveTable(folder)
    with _atomic_io.file_lock(folder / "_lock") as free:
        if not free:
            raise StorageError(
                f"{folder}: another `geovision archive` writes to this folder; wait until it ends"
            )
        manifest = _build_manifest(model, producer, _resolve_precision(model, precision, table))
        table.check_manifest(manifest)
        files = (file for file in list_archive_files(source) if not _is_inside(file, folder))
        with closing(ShardPlan(files, table.finished_shards())) as plan, _preserve_num_threads():
            if plan.num_pending_files():
                producer.check_files([file.path for file in plan.sample_files(_MAX_TEST_FILES)])
            table.write_manifest(manifest)
            table.remove_unfinished()
            _save_model(model, folder / MODEL)
            job = ShardTask(
                str(folder),
                table.manifest_digest(),
                producer,
                batch_size,
                manifest["precision"],
                executor_config.threads,
            )
            return _run_shards(table, job, plan, executor_config, shard_size, progress or (lambda _: None))


def _run_shards(
    table: ArchiveTable,
    task: ShardTask,
    plan: ShardPlan,
    executor_config: executor.ExecutorConfig,
    shard_size: int,
    progress: Callable[[ArchiveProgress], None],
) -> ArchiveSummary:
    state, failed = ArchiveProgress(total_files=plan.num_files()), {}
    state.files = state.total_files - plan.num_pending_files()
    start = time.perf_counter()
    progress(state)
    for done in executor.run(partial(_predict_shard, task), plan.shards(shard_size), executor_config):
        state.seconds = time.perf_counter() - start
        if done.error:
            failed[done.item.key] = f"{_format_shard(done.item)}: {done.error}"
            state.failed_shards += 1
        else:
            state.files += len(done.item.files)
            state.new_files += len(done.item.files)
            state.new_frames += done.result
        progress(state)
    bad: dict[str, str] = {}
    frames = 0
    for mark in table.shard_records():
        frames += mark["rows"]
        bad |= mark["bad"]
    return ArchiveSummary(
        table.folder, frames, state.new_frames, bad, failed, state.seconds, state.frames_per_second
    )


def _format_shard(shard: Shard) -> str:
    first, last = shard.files[0].path, shard.files[-1].path.rpartition("/")[2]
    return f"{first} to {last}" if len(shard.files) > 1 else first


def _save_model(model: GeoModel, folder: Path) -> None:
    """Save the model, unless the folder contains it already."""
    try:
        kept = read(folder)
        if (weights_digest(kept), kept.inputs) == (weights_digest(model), model.inputs):
            return
    except WeightsError:
        pass  # missing or incomplete
    model.save(folder)


# --- on the workers -----------------------------------------------------------------------------


def _predict_shard(task: ShardTask, shard: Shard) -> int:
    """Predict one shard, write its rows, and return their number."""
    if torch.get_num_threads() != task.threads:
        torch.set_num_threads(task.threads)
    model = _load_model(task.folder, task.manifest_digest)
    paths = (file.path for file in shard.files)
    rows = task.producer.rows(model, paths, batch_size=task.batch_size, precision=task.precision)
    ArchiveTable(Path(task.folder)).write_shard(shard, rows)
    return len(rows)


@lru_cache(maxsize=1)
def _load_model(folder: str, manifest_digest: str) -> GeoModel:
    """Load the model of a table, once in each worker.

    The digest is part of the cache key, so a worker does not reuse an earlier model of the same folder.
    """
    if not Path(folder).is_dir():
        raise StorageError(
            f"{folder}: not found by the worker on {platform.node()}; "
            "choose a folder on a disk that all workers share"
        )
    return read(Path(folder) / MODEL)


@contextmanager
def _preserve_num_threads() -> Iterator[None]:
    """Restore the number of threads on exit.

    Shards that are predicted in this process change it.
    """
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
            f"{out}: is a remote address; expected a folder. Mount the file system, or copy the table later"
        )
    if precision not in PRECISIONS:
        raise OptionError(f"unknown precision {precision!r}; choose one of {', '.join(PRECISIONS)}")
    if min(shard_size, batch_size) < 1:
        raise OptionError(
            f"shard_size is {shard_size} and batch_size is {batch_size}; both must be at least 1"
        )


def _is_inside(file: ArchiveFile, folder: Path) -> bool:
    """Return whether a file is part of the table.

    The folder of the table may be inside the archive.
    """
    return file.path.startswith(f"{folder}/")


def _resolve_precision(model: GeoModel, precision: str, table: ArchiveTable) -> str:
    """Resolve "auto" once, since workers may have different processors."""
    if precision == "auto" and table.exists():
        return table.read_manifest().get("precision", "float32")
    return str(optimize_model(model, precision).dtype).removeprefix("torch.")


def _build_manifest(model: GeoModel, producer: RowProducer, precision: str) -> dict[str, Any]:
    """Return the settings that all rows of a table share."""
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
