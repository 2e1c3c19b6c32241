"""Prediction of a whole radar scene: probability map, detections and quicklook."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geovision import __version__, _atomic_io
from geovision.errors import InputError
from geovision.inference import executor
from geovision.inference.cog import limited_gdal_cache, storage_errors
from geovision.inference.mosaic import Mosaic, merge
from geovision.inference.sliding_window import (
    SingleInputSource,
    WindowPredictions,
    WindowTask,
    sliding_window_predict,
)
from geovision.inference.tiling import WindowGrid
from geovision.inference.window_predictor import make_predict_fn, temporary_sibling_dir
from geovision.models.geomodel import GeoModel
from geovision.models.serialization import weights_digest
from geovision.physics.backscatter import DecibelRange
from geovision.readers.sar import CountsRaster, MapGrid, RadarScene, write_counts
from geovision.sar import quicklook
from geovision.sar.detections import Detection, find_detections, mask_fraction, to_geojson
from geovision.sar.scene_config import (
    SceneConfig,
    open_scene_windows,
    resolve_db_range,
    scene_input,
    warped_scene,
)

__all__ = ["ExplainFn", "SceneProgress", "SceneSummary", "predict_scene"]

SceneProgress = Callable[[str, int, int], None]
"""Function of the current stage, the number of finished steps and the number of all steps. The stages are
``"warping"`` (SAFE folders only), ``"averaging"``, ``"predicting"`` and ``"merging"``."""

ExplainFn = Callable[[NDArray[np.uint8]], Any]
"""Function of a window, counts of shape (channel, y, x), that returns a figure of its attribution map."""

_MAX_READER_THREADS = 2  # threads that average the scene; each holds a tile in memory
_MAX_QUICKLOOK_SIZE = 900  # maximum side of the quicklook image in pixels
_MAX_EXPLANATIONS = 20  # maximum number of attribution figures, for the first detections


@dataclass(frozen=True)
class SceneSummary:
    """Result of `predict_scene`.

    Attributes:
        files: Paths of the written files, with the keys ``"probability"``, ``"count"``, ``"detections"`` and
            ``"picture"`` (the quicklook). With `explain_fn`, also ``"why_1"`` and so on, the attribution
            figures in the order of the detections.
        detections: Detections in descending order of the smoothed probability.
        grid: Grid of the maps.
        windows: Number of windows.
        skipped: Number of windows that were skipped because too few of their pixels are valid.
        seconds: Duration of each stage, in s.
    """

    files: Mapping[str, Path]
    detections: tuple[Detection, ...]
    grid: MapGrid
    windows: int
    skipped: int
    seconds: Mapping[str, float]


@limited_gdal_cache()
def predict_scene(
    model: GeoModel,
    path: str | Path,
    out: str | Path,
    scene_config: SceneConfig,
    *,
    overlap: float = 0.5,
    min_valid: float = 0.25,
    threshold: float = 0.5,
    separation: float | None = None,
    masks: Mapping[str, str | Path] | None = None,
    batch_size: int = 16,
    precision: str = "auto",
    executor_config: executor.ExecutorConfig | None = None,
    progress: SceneProgress | None = None,
    explain_fn: ExplainFn | None = None,
) -> SceneSummary:
    """Predict a radar scene and write a probability map and detections.

    The function writes all of these files, or none:

    - ``OUT_probability.tif``: in each cell, the mean probability of all windows that cover it, with larger
      weights near the middle of a window;
    - ``OUT_count.tif``: the number of these windows;
    - ``OUT.geojson``: the detections;
    - ``OUT.png``: a quicklook.

    Both maps are cloud-optimized GeoTIFF files with the pixel size of the model, in a projection in meters.
    Memory does not grow with the scene. During the run, the disk of `out` holds the counts of the scene and
    the merged maps, up to 8 bytes per pixel of the model.

    Args:
        model: Classifier of radar counts with a pixel size on the ground.
        path: Path of the scene, see `geovision.readers.sar.open_scene`; or of a Sentinel-1 SAFE folder, see
            `geovision.readers.sar.write_map`.
        out: Folder and file name prefix of the results.
        scene_config: Declared properties of the scene.
        overlap: Minimum overlap of two neighboring windows, as a fraction of the side of a window.
            Default: 0.5.
        min_valid: Minimum fraction of valid pixels in a window; other windows are skipped. Default: 0.25.
        threshold: Minimum probability of a detection, 0 to 1. Default: 0.5.
        separation: Minimum distance of two detections, in km. Default: half a window.
        masks: Paths of rasters by name, such as ``{"land": "land.tif"}``; the fraction of each detection that
            they cover is reported. Default: none.
        batch_size: Number of windows in a forward pass. Default: 16.
        precision: Precision, as for `GeoModel.predict`. Default: ``"auto"``.
        executor_config: Local processes or Dask cluster that predict. Default: this process.
        progress: Function that is called with the stage and its progress, see `SceneProgress`.
        explain_fn: Function that draws the attribution map of the window around a detection, such as
            ``lambda window: geovision.explain(model, window).plot()``. It is called for the first 20
            detections; the figures are ``OUT_why_1.png`` and so on. Default: none.

    Returns:
        Paths of the files, detections, grid, number of windows and duration.

    Raises:
        OptionError: If the model is of another kind, if options exclude each other, or if the decibel range
            is missing.
        InputError: If the scene is not suitable, or if no window has enough valid data.
        MissingExtraError: If `path` is a SAFE folder and satpy is not installed.
        StorageError: If the results cannot be written; existing files are kept unchanged.
    """
    source_spec, layers = scene_input(model)
    db_range = resolve_db_range(model, scene_config)
    masks = dict(masks or {})
    report = progress or (lambda stage, done, total: None)
    clock = _Stopwatch()
    out = Path(out).absolute()
    with warped_scene(path, source_spec, scene_config, db_range, report) as (path, scene_config):
        given, grid, windows = open_scene_windows(path, source_spec, scene_config, overlap)
        for mask in masks.values():  # an unreadable mask raises before the prediction
            mask_fraction(mask, grid.window(0, 0, (1, 1)), np.ones((1, 1), bool))
        with temporary_sibling_dir(out.parent) as scratch:
            with storage_errors(scratch):
                counts = write_counts(
                    given,
                    grid,
                    db_range,
                    scratch / "counts.tif",
                    threads=min(executor.num_cpus(), _MAX_READER_THREADS),
                    progress=lambda done, total: report("averaging", done, total),
                )
            clock.lap("averaging")
            source = SingleInputSource(source_spec.name, counts)
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
            _check_any_selected(predictions, job, given)
            clock.lap("predicting")
            provenance = _provenance(model, given, db_range, windows, min_valid, threshold)
            maps = merge(
                predictions,
                source,
                layers,
                provenance,
                scratch,
                lambda done, total: report("merging", done, total),
            )
            detections = find_detections(
                maps, source, threshold, separation or min(windows.size) / 2 * grid.cell_size[0] / 1000, masks
            )
            explanations = (
                [
                    explain_fn(_centered_window(counts, each, windows))
                    for each in detections[:_MAX_EXPLANATIONS]
                ]
                if explain_fn
                else []
            )
            files = _write_results(out, model, given, maps, counts, detections, provenance, explanations)
            clock.lap("merging")
    skipped = int((~predictions.selected).sum())
    return SceneSummary(files, tuple(detections), grid, predictions.selected.size, skipped, clock.laps)


# --- validation -------------------------------------------------------------------------------------


def _check_any_selected(predictions: WindowPredictions, task: WindowTask, scene: RadarScene) -> None:
    if predictions.selected.any():
        return
    wide = [
        cells * side / 1000 for cells, side in zip(task.windows.size, task.source.grid.cell_size, strict=True)
    ]
    has = [
        cells * side / 1000
        for cells, side in zip(scene.grid.shape, scene.grid.ground_cell_size(), strict=True)
    ]
    raise InputError(
        f"{scene.path}: no window has data in {task.min_valid:.0%} of its {wide[0]:.0f} x {wide[1]:.0f} km; "
        f"the scene is {has[0]:.3g} x {has[1]:.3g} km. Use a larger scene, or a smaller min_valid"
    )


# --- results ----------------------------------------------------------------------------------------


def _provenance(
    model: GeoModel,
    scene: RadarScene,
    db_range: Mapping[str, DecibelRange] | None,
    windows: WindowGrid,
    min_valid: float,
    threshold: float,
) -> dict[str, Any]:
    """Return the settings that are needed to reproduce the result."""
    return {
        "model": model.spec.name,
        "weights": weights_digest(model),
        "version": __version__,
        "scene": Path(scene.path).name,
        "quantity": scene.quantity,
        "bands": dict(zip(scene.channels, scene.bands, strict=True)),
        "db_range": {name: [each.low, each.high] for name, each in (db_range or {}).items()},
        "time": None if scene.time is None else scene.time.isoformat(),
        "window": list(windows.size),
        "stride": [round(step, 2) for step in windows.stride],
        "min_valid": min_valid,
        "threshold": threshold,
    }


def _write_results(
    out: Path,
    model: GeoModel,
    scene: RadarScene,
    mosaic: Mosaic,
    counts: CountsRaster,
    detections: list[Detection],
    provenance: Mapping[str, Any],
    explanations: list[Any],
) -> dict[str, Path]:
    """Write all results or none, and return their paths."""
    label = mosaic.layers[0]
    card = model.target.card(label)  # type: ignore[union-attr]
    name = card.name.en if card else label
    text = to_geojson(detections, label=label, name=name, time=scene.time, metadata=provenance)
    title = (
        f"{Path(scene.path).name}  {scene.time:%Y-%m-%d %H:%M} UTC" if scene.time else Path(scene.path).name
    )
    figure = quicklook.plot_quicklook(
        _quicklook_image(counts),
        mosaic.reduced,
        mosaic.grid,
        detections,
        layer=name.lower(),
        title=f"{title}\n{model.spec.name}",
    )
    writers: dict[str, tuple[str, Callable[[Path], Any]]] = {
        "probability": (
            "_probability.tif",
            lambda path: mosaic.probability.write_cog(path, overviews="average"),
        ),
        "count": ("_count.tif", lambda path: mosaic.count.write_cog(path, overviews="nearest")),
        "detections": (".geojson", lambda path: path.write_text(text, encoding="utf-8")),
        "picture": (".png", lambda path: figure.savefig(path, format="png", dpi=100)),
    }
    for number, explanation in enumerate(explanations, start=1):
        writers[f"why_{number}"] = (f"_why_{number}.png", partial(explanation.savefig, format="png", dpi=100))
    _atomic_io.write_files(out.parent, {f"{out.name}{end}": write for end, write in writers.values()})
    return {kind: out.with_name(f"{out.name}{end}") for kind, (end, _) in writers.items()}


def _centered_window(counts: CountsRaster, detection: Detection, windows: WindowGrid) -> NDArray[np.uint8]:
    """Return the window around a detection.

    The detection is in the center, unless the window would extend beyond the map.
    """
    first = [
        int(np.clip(round(center - side / 2), 0, max(extent - side, 0)))
        for center, side, extent in zip(
            (detection.row, detection.column), windows.size, counts.grid.shape, strict=True
        )
    ]
    shape = [min(side, extent) for side, extent in zip(windows.size, counts.grid.shape, strict=True)]
    values, _ = counts.read(first[0], first[1], (shape[0], shape[1]))
    missing = [(0, side - has) for side, has in zip(windows.size, shape, strict=True)]
    return np.pad(values, [(0, 0), *missing])  # 0 is no data


def _quicklook_image(counts: CountsRaster) -> NDArray[np.float32]:
    """Return the last channel of the map at low resolution.

    Cells without data are NaN.
    """
    rows, columns = counts.grid.shape
    factor = max(math.ceil(max(rows, columns) / _MAX_QUICKLOOK_SIZE), 1)
    shape = (math.ceil(rows / factor), math.ceil(columns / factor))
    last = counts.overview(shape)[-1].astype(np.float32)
    return np.where(last == 0, np.nan, last)


# --- timing -----------------------------------------------------------------------------------------


class _Stopwatch:
    """Stopwatch that records the duration of each stage, in s."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._start = time.perf_counter()

    def lap(self, name: str) -> None:
        """Record the time since the previous lap."""
        now = time.perf_counter()
        self.laps[name], self._start = now - self._start, now
