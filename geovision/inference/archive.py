"""A model over an archive of frames, however long: a table with a row for each."""

from __future__ import annotations

import dataclasses
import json
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geovision import _atomic_io
from geovision.accelerate.optimized import PRECISIONS, prepare
from geovision.allsky.frames import FrameConfig, batch_size_for, read_frames, rows_of_files
from geovision.errors import InputError, OptionError, StorageError, WeightsError
from geovision.inference import executor
from geovision.inference.inventory import ArchiveFile, Source, inventory
from geovision.inference.shards import Plan, Shard
from geovision.inference.table import MODEL, Table
from geovision.models.geomodel import GeoModel
from geovision.models.serialization import read, weights_digest
from geovision.physics.sun_moon import sun_elevation
from geovision.spec import ClassTarget

__all__ = ["FILES_A_SHARD", "Progress", "Summary", "predict_archive"]

FILES_A_SHARD = 128

_TRIED = 20
"""So many files are looked at, at most, for a first frame that can be read."""


@dataclass(frozen=True)
class Job:
    """What every worker does with a shard.

    Args:
        folder: Of the table, with the model in it; on a disk that all workers share.
        made_with: Digest of model and reading, by which a worker knows the model that it has loaded.
        reading: How frames are read.
        batch_size: Frames a forward pass.
        precision: ``"float32"`` or ``"bfloat16"``.
        threads: Of PyTorch, in each worker.
    """

    folder: str
    made_with: str
    reading: FrameConfig
    batch_size: int
    precision: str
    threads: int


@dataclass
class Progress:
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
class Summary:
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


def predict_archive(
    model: GeoModel, source: Source, out: str | Path, *,
    reading: FrameConfig | None = None, workers: executor.ExecutorConfig | None = None,
    files_a_shard: int = FILES_A_SHARD, batch_size: int | None = None, precision: str = "auto",
    progress: Callable[[Progress], None] | None = None,
) -> Summary:  # fmt: skip
    """Answer for every frame of an archive, and write a table of Parquet by station and date.

    Files that are in the table are skipped, so that the same call goes on where an earlier one was
    stopped, however it was, and picks up what has come in since. Memory does not grow with the archive.

    A script that uses more than its own process has to begin with ``if __name__ == "__main__":``, as
    always where Python starts processes.

    Args:
        model: One that tells classes apart by one picture.
        source: Folder, pattern, text file of paths, fsspec address, or a list of these.
        out: Folder of the table, on a disk that all workers share. One table has one model and one
            way of reading.
        reading: How frames are read.
        workers: Who does it; None: a process for each processor.
        files_a_shard: Files that are answered, written and marked together: what a kill can cost.
        batch_size: Frames a forward pass; None: what suits the size of the model's pictures.
        precision: As for `GeoModel.predict`; ``"auto"`` in a table that was begun is what it has.
        progress: Is told after each shard.

    Raises:
        OptionError: The table was begun otherwise; the model is of another kind; no scheduler.
        InputError: Nothing at `source`, or frames that need a declaration of how they are read.
        StorageError: The table cannot be written, or is being written by another process; what is
            marked as finished stays.
        MissingExtraError: A library of the extra [scale], or for sites of [sky], is not installed.
    """
    batch_size = batch_size_for(model) if batch_size is None else batch_size
    _refuse(model, out, precision, files_a_shard, batch_size)
    reading = reading or FrameConfig()
    workers = workers or executor.ExecutorConfig(executor.cores())
    if reading.sites:
        sun_elevation(np.array(["2000-01-01"], "datetime64[us]"), 0, 0)  # is astropy there?
    folder = Path(out).absolute()
    table = Table(folder)
    with _atomic_io.file_lock(folder / "_lock") as free:
        if not free:
            raise StorageError(f"{folder}: another `geovision archive` writes here; wait for it")
        manifest = _manifest(model, reading, _precision(model, precision, table))
        table.agree(manifest)
        files = (file for file in inventory(source) if not _within(file, folder))
        with closing(Plan(files, table.finished())) as plan, _threads_kept():
            if plan.files_to_do():
                _try(plan, reading)
            table.begin(manifest)
            table.sweep()
            _keep(model, folder / MODEL)
            job = Job(
                str(folder), table.digest(), reading, batch_size, manifest["precision"], workers.threads
            )
            return _run(table, job, plan, workers, files_a_shard, progress or (lambda _: None))


def _run(
    table: Table, job: Job, plan: Plan, workers: executor.ExecutorConfig, files_a_shard: int,
    progress: Callable[[Progress], None],
) -> Summary:  # fmt: skip
    state, failed = Progress(files_in_all=plan.files()), {}
    state.files = state.files_in_all - plan.files_to_do()
    begun = time.perf_counter()
    progress(state)
    for done in executor.run(partial(_shard, job), plan.shards(files_a_shard), workers):
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
    return Summary(table.folder, frames, state.frames_now, bad, failed, state.seconds, state.rate)


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


def _shard(job: Job, shard: Shard) -> int:
    """Answer one shard, write it, and say how many rows it has."""
    if torch.get_num_threads() != job.threads:
        torch.set_num_threads(job.threads)
    model = _model(job.folder, job.made_with)
    rows = rows_of_files(
        model, (file.path for file in shard.files), job.reading,
        batch_size=job.batch_size, precision=job.precision,
    )  # fmt: skip
    Table(Path(job.folder)).write(shard, rows, model.target.classes)  # type: ignore[union-attr]
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


# --- what is refused ----------------------------------------------------------------------------


def _refuse(model: GeoModel, out: str | Path, precision: str, files_a_shard: int, batch_size: int) -> None:
    if not isinstance(model.target, ClassTarget):
        raise OptionError(f"{model.spec.name} answers no class; an archive is a table of classes")
    if len(model.inputs) != 1 or len(model.inputs[0].channels) != 3:
        raise OptionError(f"{model.spec.name} takes other than one colour picture; an archive holds pictures")
    if "://" in str(out):
        raise OptionError(
            f"{out}: a table is written to a folder of a file system; mount it, or copy it later"
        )
    if precision not in PRECISIONS:
        raise OptionError(f"precision {precision!r} is not known; choose one of {', '.join(PRECISIONS)}")
    if min(files_a_shard, batch_size) < 1:
        raise OptionError(f"{files_a_shard} files a shard and {batch_size} frames a batch; 1 is the least")


def _within(file: ArchiveFile, folder: Path) -> bool:
    """Whether a file is of the table itself, which may lie in the archive."""
    return file.path.startswith(f"{folder}/")


def _try(plan: Plan, reading: FrameConfig) -> None:
    """Whether frames can be shown to a model as they are declared, before all become bad rows."""
    problem = ""
    files = plan.sample(_TRIED)
    for file in files:
        try:
            frame = next(read_frames(file.path, reading.pattern), None)
        except InputError as error:
            problem = problem or str(error)
        else:
            if frame is not None:
                reading.picture(frame)
                return
    raise InputError(
        f"none of {len(files)} files, spread over the archive, can be read; the first: {problem}"
    )


def _precision(model: GeoModel, asked: str, table: Table) -> str:
    """What "auto" comes to: decided once, for workers may have processors of several kinds."""
    if asked == "auto" and table.begun():
        return table.manifest().get("precision", "float32")
    return str(prepare(model, asked).dtype).removeprefix("torch.")


def _manifest(model: GeoModel, reading: FrameConfig, precision: str) -> dict[str, Any]:
    """What one table has in common: refused where it is another."""
    return {
        "model": model.spec.name,
        "weights": weights_digest(model),
        "inputs": json.loads(json.dumps([dataclasses.asdict(spec) for spec in model.inputs])),
        "classes": list(model.target.classes),  # type: ignore[union-attr]
        "precision": precision,
        "reading": dataclasses.asdict(reading),
        "format_version": 1,
    }
