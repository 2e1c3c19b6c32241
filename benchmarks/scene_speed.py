"""Windows per second of `geovision.predict_scene`, of the bare network and of a plain loop.

The measurements are:

- ``bare``: the optimized network on ready float windows in memory;
- ``engine``: the inference engine, from counts on disk to predictions of all windows;
- ``whole``: the complete command, from the scene to maps, detections and image;
- ``plain``: a simple loop that reads, converts, averages and predicts each window, in batches of equal
  size, and adds the predictions to two arrays. It writes no files.

The first two are measured in alternating turns, so that other work on the machine affects both equally.

    OMP_NUM_THREADS=1 python benchmarks/scene_speed.py             # scenes of 500, 250 and 100 m

The script appends rows to ``scene_speed.csv`` in its folder.
"""

from __future__ import annotations

import argparse
import datetime
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
import torch
from rasterio.windows import Window
from rows import append

import geovision
from geovision.accelerate.optimized import optimize_model
from geovision.inference import ExecutorConfig
from geovision.inference.sliding_window import SingleInputSource, WindowTask, sliding_window_predict
from geovision.inference.tiling import WindowGrid, window_weight
from geovision.inference.window_predictor import LocalPredictor
from geovision.models.geomodel import GeoModel
from geovision.physics.backscatter import DEFAULT_DB_RANGES, db_to_counts
from geovision.provenance import git_commit
from geovision.readers.sar import model_grid, open_scene, write_counts
from geovision.sar import SceneConfig, predict_scene

TABLE = Path(__file__).with_suffix(".csv")

CHANNELS = ("cross_pol", "co_pol")
SIDE = 3072  # cells of the model, 1536 km
BATCH = 16
CONFIG = SceneConfig("db", db_range=dict(DEFAULT_DB_RANGES), crs="scene")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="polarlow-xception", help="name in the registry")
    parser.add_argument(
        "--pixels", type=float, nargs="*", default=[500.0, 250.0, 100.0], help="pixel sizes in m"
    )
    parser.add_argument("--turns", type=int, default=3, help="number of turns")
    options = parser.parse_args()
    torch.manual_seed(0)
    model = geovision.create(options.model)
    with tempfile.TemporaryDirectory() as folder:
        for pixel_size in options.pixels:
            append(TABLE, speed(model, Path(folder), pixel_size, options.turns), show=True)


def drawn(path: Path, pixel_size: float, side: int) -> Path:
    """Write decibels with structure at several scales, without missing data."""
    rng = np.random.default_rng(0)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        dtype="float32",
        count=2,
        height=side,
        width=side,
        crs="EPSG:3995",
        transform=rasterio.Affine(pixel_size, 0, 0, 0, -pixel_size, 0),
        tiled=True,
        blockxsize=512,
        blockysize=512,
        bigtiff="if_safer",
    ) as dataset:
        dataset.descriptions = ("VH", "VV")
        for row in range(0, side, 512):
            height = min(512, side - row)
            noise = rng.normal(0, 1.5, (2, height, side)).astype(np.float32)
            swell = 4 * np.sin(np.arange(row, row + height) * pixel_size / 40e3)[:, None]
            level = np.array([-24.0, -14.0], np.float32)[:, None, None]
            dataset.write((level + swell + noise).astype(np.float32), window=Window(0, row, side, height))
    return path


# --- speed --------------------------------------------------------------------------------------


def speed(model: GeoModel, folder: Path, pixel_size: float, turns: int) -> dict[str, object]:
    """Return the row of one pixel size."""
    spec = model.inputs[0]
    assert spec.pixel_size is not None
    assert spec.size is not None
    path = drawn(folder / f"{pixel_size:g}.tif", pixel_size, round(SIDE * spec.pixel_size / pixel_size))
    given = open_scene(path, CHANNELS, quantity="db")
    grid = model_grid(given.grid, spec.pixel_size, "scene")
    counts = write_counts(given, grid, DEFAULT_DB_RANGES, folder / "counts.tif")
    windows = WindowGrid(grid.shape, spec.size, 0.5)
    prepared = optimize_model(model, "auto")
    job = WindowTask(SingleInputSource(spec.name, counts), windows, LocalPredictor(prepared), BATCH)
    ready = torch.rand(4 * BATCH, len(spec.channels), *spec.size)
    number = len(windows.row_starts) * len(windows.column_starts)
    took: dict[str, list[tuple[float, float]]] = {"bare": [], "engine": []}
    for turn in range(turns + 1):
        found = {
            "bare": both(lambda: bare(prepared, ready, number)),
            "engine": both(
                lambda: sliding_window_predict(job, folder, ExecutorConfig(), lambda done, whole: None)
            ),
        }
        if turn:  # the first turn is a warm-up
            for name, value in found.items():
                took[name].append(value)
    wall = {name: min(value[0] for value in values) for name, values in took.items()}
    processor = {name: min(value[1] for value in values) for name, values in took.items()}
    best = {name: number / value for name, value in wall.items()}
    begun = time.perf_counter()
    whole = predict_scene(model, path, folder / "out", CONFIG, batch_size=BATCH)
    best["whole"] = number / (time.perf_counter() - begun)
    few = plain_loop(model, path, windows, round(spec.pixel_size / pixel_size), most=64)
    best["plain"] = few
    path.unlink()
    return {
        "date": datetime.date.today().isoformat(),
        "commit": git_commit() or "",
        "model": model.spec.name,
        "pixel_m": pixel_size,
        "windows": number,
        "batch": BATCH,
        **{f"{name}_windows_per_s": round(value, 2) for name, value in best.items()},
        "engine_over_bare": round(wall["bare"] / wall["engine"], 3),
        "engine_over_bare_by_processor_time": round(processor["bare"] / processor["engine"], 3),
        "whole_over_plain": round(best["whole"] / best["plain"], 2),
        **{f"{name}_s": round(value, 1) for name, value in whole.seconds.items()},
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def seconds(work: Callable[[], object]) -> float:
    """Return the duration of a call in s."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def both(work: Callable[[], object]) -> tuple[float, float]:
    """Return wall time and processor time in s; other programs affect only the former."""
    begun = time.process_time()
    taken = seconds(work)
    return taken, time.process_time() - begun


def bare(prepared: Callable[..., object], ready: torch.Tensor, number: int) -> None:
    """Run the network on a number of windows."""
    for begin in range(0, number, BATCH):
        size = min(BATCH, number - begin)
        first = begin % (len(ready) - BATCH + 1)
        prepared({"image": ready[first : first + size]}, {})


def plain_loop(model: GeoModel, path: Path, windows: WindowGrid, factor: int, *, most: int) -> float:
    """Return windows per second, measured on a number of windows from all parts of the scene."""
    height, width = windows.size
    total, weights = np.zeros(windows.shape), np.zeros(windows.shape)
    kernel = np.outer(window_weight(height), window_weight(width))
    places = [(top, left) for top in windows.row_starts for left in windows.column_starts]
    places = places[:: max(len(places) // most, 1)]
    begun = time.perf_counter()
    with rasterio.open(path) as dataset, torch.inference_mode():
        for start in range(0, len(places), BATCH):
            batch = places[start : start + BATCH]
            inputs = torch.stack([window(dataset, top, left, windows.size, factor) for top, left in batch])
            predictions = model(inputs).softmax(1)[:, 1].tolist()
            for (top, left), prediction in zip(batch, predictions, strict=True):
                part = (slice(top, top + height), slice(left, left + width))
                total[part] += kernel * prediction
                weights[part] += kernel
    return len(places) / (time.perf_counter() - begun)


def window(
    dataset: rasterio.DatasetReader, top: int, left: int, size: tuple[int, int], factor: int
) -> torch.Tensor:
    """Read a window, average it in linear power, and return it as a fraction of the counts."""
    place = Window(left * factor, top * factor, size[1] * factor, size[0] * factor)
    power = 10 ** (dataset.read(window=place) / 10)
    mean = power.reshape(2, size[0], factor, size[1], factor).mean((2, 4))
    decibels = 10 * np.log10(mean)
    counts = [
        db_to_counts(own, DEFAULT_DB_RANGES[name]) for name, own in zip(CHANNELS, decibels, strict=True)
    ]
    return torch.from_numpy(np.stack(counts)).float() / 255


if __name__ == "__main__":
    main()
