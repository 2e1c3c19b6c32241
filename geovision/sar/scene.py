"""A model over one scene, however large: a map of probabilities, places on it, a picture."""

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
"""What is under way (``"warping"`` for a SAFE folder, ``"averaging"``, ``"asking"``, ``"merging"``), how
much is done, how much there is."""

ExplainFn = Callable[[NDArray[np.uint8]], Any]
"""A figure of what in a window, counts ``(channel, y, x)``, speaks for the answer."""

_MAX_READER_THREADS = 2  # threads that average the scene, each with a tile in memory
_MAX_QUICKLOOK_SIZE = 900  # pixels of a quick look
_MAX_EXPLANATIONS = 20  # pictures of why, for the most conspicuous detections


@dataclass(frozen=True)
class SceneSummary:
    """What a scene run left.

    Attributes:
        files: By what they are: ``"probability"``, ``"count"``, ``"detections"``, ``"picture"``, and where it
            was asked why, ``"why_1"`` and so on, in the order of the detections.
        detections: The most conspicuous first.
        grid: Of the maps.
        windows, skipped: How many there are, and how many have too little data.
        seconds: By what was done.
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
    """Ask a model about every window of a radar scene, and write a map of what it says.

    ``OUT_probability.tif`` and ``OUT_count.tif`` (cloud-optimised GeoTIFF on the model's pixels, in a
    projection in metres: the mean probability of all windows over a cell, weighted by how near to
    their middle it lies, and how many they are), ``OUT.geojson`` (detections) and ``OUT.png``. All of
    them are written, or none. Memory does not grow with the scene; the disk of `out` holds its counts and
    the merged maps meanwhile, up to 8 bytes a model pixel.

    Args:
        model: One that takes radar in counts, of pixels with a size on the ground.
        path: The scene, see `geovision.readers.sar.open_scene`; or a Sentinel-1 SAFE folder, see
            `geovision.readers.sar.write_map`.
        out: Folder and first part of the names of the results.
        scene_config: What the file does not say.
        overlap: Fraction of a window's side that its neighbour covers too, at least.
        min_valid: Minimum fraction of valid pixels in a window; other windows are skipped.
        threshold: Minimum probability of a detection.
        separation: Minimum distance of two detections, in km. Default: half a window.
        masks: Name to path of rasters, such as ``{"land": "land.tif"}``; the fraction of each detection
            that they cover is stated.
        batch_size: Windows a forward pass.
        precision: As for `GeoModel.predict`.
        executor_config: Who asks the model; None: this process.
        progress: Is told how far it is.
        explain_fn: Draws what speaks for each of the first 20 detections, in the window around its centre,
            such as ``lambda window: geovision.explain(model, window).plot()``: ``OUT_why_1.png`` and so on.

    Raises:
        OptionError: A model of another kind, options that exclude each other, or a missing `db_range`.
        InputError: A scene that cannot be taken; see its message. Or no window has enough data.
        MissingExtraError: A SAFE folder, without satpy.
        StorageError: The results could not be written; what stood there is untouched.
    """
    source_spec, layers = scene_input(model)
    db_range = resolve_db_range(model, scene_config)
    masks = dict(masks or {})
    told = progress or (lambda what, done, whole: None)
    clock = _Stopwatch()
    out = Path(out).absolute()
    with warped_scene(path, source_spec, scene_config, db_range, told) as (path, scene_config):
        given, grid, windows = open_scene_windows(path, source_spec, scene_config, overlap)
        for mask in masks.values():
            mask_fraction(
                mask, grid.window(0, 0, (1, 1)), np.ones((1, 1), bool)
            )  # a bad one fails before the work
        with temporary_sibling_dir(out.parent) as scratch:
            with storage_errors(scratch):
                counts = write_counts(
                    given,
                    grid,
                    db_range,
                    scratch / "counts.tif",
                    threads=min(executor.num_cpus(), _MAX_READER_THREADS),
                    progress=lambda done, whole: told("averaging", done, whole),
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
            answers = sliding_window_predict(
                job,
                scratch,
                executor_config or executor.ExecutorConfig(),
                lambda done, whole: told("asking", done, whole),
            )
            _check_any_selected(answers, job, given)
            clock.lap("asking")
            about = _provenance(model, given, db_range, windows, min_valid, threshold)
            maps = merge(
                answers, source, layers, about, scratch, lambda done, whole: told("merging", done, whole)
            )
            detections = find_detections(
                maps, source, threshold, separation or min(windows.size) / 2 * grid.cell_size[0] / 1000, masks
            )
            reasons = (
                [
                    explain_fn(_centered_window(counts, each, windows))
                    for each in detections[:_MAX_EXPLANATIONS]
                ]
                if explain_fn
                else []
            )
            files = _write_results(out, model, given, maps, counts, detections, about, reasons)
            clock.lap("merging")
    skipped = int((~answers.selected).sum())
    return SceneSummary(files, tuple(detections), grid, answers.selected.size, skipped, clock.laps)


# --- what is asked ----------------------------------------------------------------------------------


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


# --- what comes out ---------------------------------------------------------------------------------


def _provenance(
    model: GeoModel,
    scene: RadarScene,
    db_range: Mapping[str, DecibelRange] | None,
    windows: WindowGrid,
    min_valid: float,
    threshold: float,
) -> dict[str, Any]:
    """What made the result, so that it can be made again."""
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
    """All results, or none."""
    label = mosaic.layers[0]
    card = model.target.card(label)  # type: ignore[union-attr]
    name = card.name.en if card else label
    text = to_geojson(detections, label=label, name=name, time=scene.time, metadata=provenance)
    title = (
        f"{Path(scene.path).name}  {scene.time:%Y-%m-%d %H:%M} UTC" if scene.time else Path(scene.path).name
    )
    picture = quicklook.plot_quicklook(
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
        "picture": (".png", lambda path: picture.savefig(path, format="png", dpi=100)),
    }
    for number, reason in enumerate(explanations, start=1):
        writers[f"why_{number}"] = (f"_why_{number}.png", partial(reason.savefig, format="png", dpi=100))
    _atomic_io.write_files(out.parent, {f"{out.name}{end}": write for end, write in writers.values()})
    return {kind: out.with_name(f"{out.name}{end}") for kind, (end, _) in writers.items()}


def _centered_window(counts: CountsRaster, detection: Detection, windows: WindowGrid) -> NDArray[np.uint8]:
    """The window with a detection in its middle, or as near as the map reaches."""
    first = [
        int(np.clip(round(centre - side / 2), 0, max(extent - side, 0)))
        for centre, side, extent in zip(
            (detection.row, detection.column), windows.size, counts.grid.shape, strict=True
        )
    ]
    shape = [min(side, extent) for side, extent in zip(windows.size, counts.grid.shape, strict=True)]
    values, _ = counts.read(first[0], first[1], (shape[0], shape[1]))
    missing = [(0, side - has) for side, has in zip(windows.size, shape, strict=True)]
    return np.pad(values, [(0, 0), *missing])  # 0 is no data


def _quicklook_image(counts: CountsRaster) -> NDArray[np.float32]:
    """The last channel of all of the map, small, NaN where there is no data."""
    rows, columns = counts.grid.shape
    factor = max(math.ceil(max(rows, columns) / _MAX_QUICKLOOK_SIZE), 1)
    shape = (math.ceil(rows / factor), math.ceil(columns / factor))
    last = counts.overview(shape)[-1].astype(np.float32)
    return np.where(last == 0, np.nan, last)


# --- around it --------------------------------------------------------------------------------------


class _Stopwatch:
    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._begun = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name], self._begun = now - self._begun, now
