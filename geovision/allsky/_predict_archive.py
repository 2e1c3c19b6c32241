"""Prediction of archives of all-sky frames."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from geovision.allsky.frames import FrameConfig, FrameRowProducer, batch_size_for
from geovision.errors import OptionError
from geovision.inference.archive import SHARD_SIZE, ArchiveProgress, ArchiveSummary, run_archive
from geovision.inference.executor import ExecutorConfig
from geovision.inference.inventory import ArchiveSource
from geovision.models.geomodel import GeoModel
from geovision.physics.sun_moon import sun_elevation
from geovision.spec import ClassTarget

__all__ = ["predict_archive"]


def predict_archive(
    model: GeoModel,
    source: ArchiveSource,
    out: str | Path,
    *,
    frame_config: FrameConfig | None = None,
    executor_config: ExecutorConfig | None = None,
    shard_size: int = SHARD_SIZE,
    batch_size: int | None = None,
    precision: str = "auto",
    progress: Callable[[ArchiveProgress], None] | None = None,
) -> ArchiveSummary:
    """Predict every frame of an archive and write a Parquet table.

    The table is partitioned by station and date, with a row for each frame. Files that are in the table are
    skipped: the same call continues an interrupted run and adds new files. Memory does not grow with the
    archive.

    A script that uses worker processes needs the guard ``if __name__ == "__main__":``, as always with
    Python's multiprocessing.

    Args:
        model: Classifier of one color image.
        source: Folder, pattern, text file of paths, fsspec address, or a list of these.
        out: Folder of the table, on a disk that all workers share. One table has one model and one
            `frame_config`.
        frame_config: Configuration of how frames are read. Default: images in color with time and station in
            the file.
        executor_config: Processes or Dask cluster that predict. Default: one process for each processor.
        shard_size: Number of files that are predicted, written and marked as finished together: the work
            that an interruption can cost. Default: 128.
        batch_size: Number of frames in a forward pass. Default: chosen by the size of the model's images.
        precision: Precision, as for `GeoModel.predict`. Default: ``"auto"``, which selects the precision of
            an existing table.
        progress: Function that is called after each shard.

    Returns:
        Number of rows, unreadable files, failed shards and duration.

    Raises:
        OptionError: If the table has another model or `frame_config`, if the model is not a classifier of
            one color image, or if the scheduler cannot be reached.
        InputError: If `source` has no files, or if `frame_config` does not fit its frames.
        StorageError: If the table cannot be written, or if another process is writing it; finished shards are
            kept.
        MissingExtraError: If a library of the extra [scale] is not installed, or one of [sky] when sites are
            given.
    """
    _validate(model)
    frame_config = frame_config or FrameConfig()
    if frame_config.sites:
        sun_elevation(np.array(["2000-01-01"], "datetime64[us]"), 0, 0)  # fails without astropy
    return run_archive(
        model,
        source,
        out,
        FrameRowProducer(frame_config),
        executor_config=executor_config,
        shard_size=shard_size,
        batch_size=batch_size_for(model) if batch_size is None else batch_size,
        precision=precision,
        progress=progress,
    )


def _validate(model: GeoModel) -> None:
    if not isinstance(model.target, ClassTarget):
        raise OptionError(
            f"{model.spec.name} predicts a {model.target.kind}; the table of an archive needs a classifier"
        )
    if len(model.inputs) != 1 or len(model.inputs[0].channels) != 3:
        channels = ", ".join(channel.name for each in model.inputs for channel in each.channels)
        raise OptionError(
            f"{model.spec.name} expects {channels}, but frames are single color images. "
            "Choose a classifier of color images"
        )
