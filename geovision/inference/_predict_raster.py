"""Prediction of rasters of any size with overlapping windows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geovision import __version__, _atomic_io
from geovision.errors import InputError, OptionError
from geovision.inference import executor
from geovision.inference.cog import limited_gdal_cache
from geovision.inference.mosaic import merge
from geovision.inference.sliding_window import PatchSource, WindowTask, sliding_window_predict
from geovision.inference.tiling import WindowGrid
from geovision.inference.window_predictor import make_predict_fn, output_names, temporary_sibling_dir
from geovision.models.geomodel import GeoModel
from geovision.models.serialization import weights_digest
from geovision.readers.sar import MapGrid

__all__ = ["RasterSummary", "predict_raster"]


@dataclass(frozen=True)
class RasterSummary:
    """Result of `predict_raster`.

    Attributes:
        files: Paths of the written files, with the keys ``"answer"`` (predictions) and ``"count"``.
        layers: Names of the bands of the predictions.
        grid: Grid of both files, at the resolution of the predictions.
        windows: Number of windows.
        skipped: Number of windows that were skipped because too few of their cells are valid.
    """

    files: Mapping[str, Path]
    layers: tuple[str, ...]
    grid: MapGrid
    windows: int
    skipped: int


@limited_gdal_cache()
def predict_raster(
    model: GeoModel,
    source: PatchSource,
    out: str | Path,
    *,
    size: tuple[int, int] | None = None,
    overlap: float = 0.5,
    min_valid: float = 0.25,
    batch_size: int = 16,
    precision: str = "auto",
    executor_config: executor.ExecutorConfig | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> RasterSummary:
    """Predict all windows of a raster and write the merged map.

    The function writes two cloud-optimized GeoTIFF files. ``OUT_answer.tif`` contains the predictions: in
    each cell, the mean of all windows that cover it, with larger weights near the middle of a window.
    ``OUT_count.tif`` contains the number of these windows. A band of the predictions is the probability of a
    class or a mask, or a field in its unit; cells without a prediction are NaN.

    Memory does not grow with the raster. Predictions of masks and fields are kept on the disk of `out` until
    they are merged.

    Args:
        model: Model of classes, masks or fields, with one or several inputs; sequences are supported.
        source: Source of the inputs, all on one grid: `geovision.inference.ArraySource` or another
            `PatchSource`.
        out: Folder and file name prefix of the results.
        size: (height, width) of a window, in cells. Default: the size of the model's first input.
        overlap: Minimum overlap of two neighboring windows, as a fraction of the side of a window.
            Default: 0.5.
        min_valid: Minimum fraction of a window with a valid input; other windows are skipped. Default: 0.25.
        batch_size: Number of windows in a forward pass. Default: 16.
        precision: Precision, as for `GeoModel.predict`. Default: ``"auto"``.
        executor_config: Local processes or Dask cluster that predict. Default: this process.
        progress: Function that is called with the stage (``"predicting"``, ``"merging"``), the
            number of finished steps and the number of all steps.

    Returns:
        Paths, layers and grid of the results, and the number of windows.

    Raises:
        OptionError: If the model is bound to one grid, or if the size of a window is not defined.
        InputError: If no window has enough valid data.
        StorageError: If the results cannot be written; existing files are kept unchanged.
    """
    windows = WindowGrid(source.grid.shape, _window_size(model, size), overlap)
    report = progress or (lambda stage, done, total: None)
    out, layers = Path(out).absolute(), output_names(model.target)
    with temporary_sibling_dir(out.parent) as scratch:
        job = WindowTask(
            source,
            windows,
            make_predict_fn(model, precision, executor_config, scratch),
            batch_size,
            min_valid,
        )
        predictions = sliding_window_predict(
            job,
            scratch,
            executor_config or executor.ExecutorConfig(),
            lambda done, total: report("predicting", done, total),
        )
        if not predictions.selected.any():
            raise InputError(
                f"no window of {windows.size[0]} x {windows.size[1]} cells has data in {min_valid:.0%} of "
                f"its cells, on a map of {source.grid.shape[0]} x {source.grid.shape[1]}; "
                "lower min_valid= or check the source"
            )
        maps = merge(
            predictions,
            source,
            layers,
            _provenance(model, windows, min_valid),
            scratch,
            lambda done, total: report("merging", done, total),
        )
        files = {kind: out.with_name(f"{out.name}_{kind}.tif") for kind in ("answer", "count")}
        _atomic_io.write_files(
            out.parent,
            {
                files["answer"].name: lambda path: maps.probability.write_cog(path, overviews="average"),
                files["count"].name: lambda path: maps.count.write_cog(path, overviews="nearest"),
            },
        )
    num_skipped = int((~predictions.selected).sum())
    return RasterSummary(files, layers, maps.grid, predictions.selected.size, num_skipped)


def _window_size(model: GeoModel, size: tuple[int, int] | None) -> tuple[int, int]:
    if "grid_bound" in model.spec.capabilities or model.config.grids:
        raise OptionError(
            f"{model.spec.name} predicts only on the grid that it was fitted for, not on windows; "
            "use a model without a fixed grid"
        )
    own = model.inputs[0].size
    if size and own and size != own and "any_size" not in model.spec.capabilities:
        raise OptionError(
            f"{model.spec.name} requires windows of {own[0]} x {own[1]} cells, not {size[0]} x {size[1]}; "
            "leave out size="
        )
    found = size or own
    if found is None:
        raise OptionError(f"{model.spec.name} accepts any size; set the size of a window with size=")
    return found


def _provenance(model: GeoModel, windows: WindowGrid, min_valid: float) -> dict[str, Any]:
    """Return the settings that are needed to reproduce the result."""
    return {
        "model": model.spec.name,
        "weights": weights_digest(model),
        "version": __version__,
        "window": list(windows.size),
        "stride": [round(step, 2) for step in windows.stride],
        "min_valid": min_valid,
    }
