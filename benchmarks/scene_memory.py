"""Peak memory of `geovision.predict_scene` on scenes of 30,000 x 30,000 pixels.

One scene has pixels of 10 m, the other one pixels of 500 m, as the model. The file is sparse: a swath crosses
it from corner to corner, and the rest has no data. Each case runs in a separate process.

    OMP_NUM_THREADS=1 python benchmarks/scene_memory.py

The script appends rows to ``scene_memory.csv`` in its folder.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
import torch
from memory import peak
from rasterio.windows import Window
from rows import append

import geovision
from geovision.physics.backscatter import DEFAULT_DB_RANGES
from geovision.provenance import git_commit
from geovision.sar import SceneConfig, predict_scene

TABLE = Path(__file__).with_suffix(".csv")

BLOCK = 512
HALF_WIDTH = 1 / 6  # of the swath along a row, as a fraction of the scene; a third of the scene has data


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--side", type=int, default=30_000, help="height and width in pixels")
    parser.add_argument("--model", default="polarlow-xception", help="name in the registry")
    parser.add_argument("--pixels", type=float, nargs="*", default=[10.0, 500.0], help="pixel sizes in m")
    parser.add_argument("--case", nargs=2, metavar=("SCENE", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measured(options.model, *options.case)))
        return
    with tempfile.TemporaryDirectory() as folder:
        for pixel_size in options.pixels:
            path = drawn(Path(folder) / "scene.tif", pixel_size, options.side)
            command = [sys.executable, __file__, "--model", options.model, "--case", path, f"{folder}/out"]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            append(
                TABLE,
                {
                    "date": datetime.date.today().isoformat(),
                    "commit": git_commit() or "",
                    "model": options.model,
                    "side": options.side,
                    "pixel_m": pixel_size,
                    **json.loads(done.stdout),
                },
                show=True,
            )
            path.unlink()


def drawn(path: Path, pixel_size: float, side: int) -> Path:
    """Write decibels in a swath from corner to corner, over the Arctic."""
    rng = np.random.default_rng(0)
    level = np.array([-24.0, -14.0], np.float32)[:, None, None]
    block = (level + rng.normal(0, 1.5, (2, BLOCK, BLOCK))).astype(np.float32)
    half = side * pixel_size / 2
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        dtype="float32",
        count=2,
        height=side,
        width=side,
        crs="EPSG:3995",
        transform=rasterio.Affine(pixel_size, 0, -half, 0, -pixel_size, half),
        nodata=np.nan,
        tiled=True,
        blockxsize=BLOCK,
        blockysize=BLOCK,
        SPARSE_OK=True,
        bigtiff="yes",
    ) as dataset:
        dataset.descriptions = ("VH", "VV")
        for row in range(0, side, BLOCK):
            for column in range(0, side, BLOCK):
                if abs(row - column) < HALF_WIDTH * side:
                    height, width = min(BLOCK, side - row), min(BLOCK, side - column)
                    dataset.write(block[:, :height, :width], window=Window(column, row, width, height))
    return path


def measured(name: str, path: str, out: str) -> dict[str, object]:
    """Return the measurement of one case, in this process."""
    torch.manual_seed(0)
    model = geovision.create(name)
    before = peak()
    begun = time.perf_counter()
    found = predict_scene(model, path, out, SceneConfig("db", db_range=dict(DEFAULT_DB_RANGES)))
    return {
        "peak_mib": round(peak() * 1e6 / 2**20),
        "mib_before": round(before * 1e6 / 2**20),
        "cells": "x".join(map(str, found.grid.shape)),
        "windows": found.windows,
        "predicted_windows": found.windows - found.skipped,
        "seconds": round(time.perf_counter() - begun, 1),
        **{f"{step}_s": round(value, 1) for step, value in found.seconds.items()},
        "threads": torch.get_num_threads(),
    }


if __name__ == "__main__":
    main()
