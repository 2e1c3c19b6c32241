"""Merge the predictions of windows to maps on disk."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geovision.inference.cog import RasterWriter
from geovision.inference.sliding_window import PatchSource, WindowPredictions, blend
from geovision.readers.sar import MapGrid

__all__ = ["Mosaic", "merge"]

_BLOCK = 1024  # cells that are merged at a time, down and across
_MOST_REDUCED = 4_000_000  # cells in which places are looked for


@dataclass
class Mosaic:
    """Merged maps on disk, and the first layer reduced for what looks at all of it.

    Attributes:
        probability, count: Not yet compressed; see `Raster.cog`.
        layers: Names of the bands of `probability`.
        grid: Of both.
        finer: Cells of it along the side of a cell of what was asked about.
        factor: Cells that make one of `reduced`, down and across.
        reduced: float32 ``(y, x)``: means of the first layer, NaN where nothing is known.
    """

    probability: RasterWriter
    count: RasterWriter
    layers: tuple[str, ...]
    grid: MapGrid
    finer: int
    factor: int
    reduced: NDArray[np.float32]


def merge(
    answers: WindowPredictions,
    source: PatchSource,
    layers: tuple[str, ...],
    about: Mapping[str, Any],
    scratch: Path,
    progress: Callable[[int, int], None],
) -> Mosaic:
    """Merge all windows, block by block; nothing is said of cells without data.

    Args:
        answers: Of all windows.
        source: What they were asked about.
        layers: Names of what they answer.
        about: What to write into the tags of the maps.
        scratch: A folder.
        progress: Is told blocks done and blocks in all.

    Raises:
        StorageError: The maps do not fit on the disk.
    """
    finer = answers.factor
    grid = source.grid.finer(finer)
    factor = _factor(answers, grid)
    tags = {f"geovision_{key}": str(value) for key, value in about.items()}
    probability = RasterWriter(
        scratch / "probability.tif", grid, layers, dtype="float32", nodata=math.nan, tags=tags
    )
    count = RasterWriter(scratch / "count.tif", grid, ["windows merged"], dtype="uint16", nodata=0, tags=tags)
    reduced = np.full([math.ceil(side / factor) for side in grid.shape], np.nan, np.float32)
    step = math.lcm(factor, finer)
    side = max(_BLOCK // step, 1) * step
    places = [
        (row, column) for row in range(0, grid.shape[0], side) for column in range(0, grid.shape[1], side)
    ]
    for number, (row, column) in enumerate(places, 1):
        shape = (min(side, grid.shape[0] - row), min(side, grid.shape[1] - column))
        values, windows = blend(answers, row, column, shape)
        part = source.read(row // finer, column // finer, (shape[0] // finer, shape[1] // finer))
        nothing = ~part.seen.repeat(finer, 0).repeat(finer, 1)
        values[:, nothing], windows[nothing] = np.nan, 0
        probability.write(row, column, values)
        count.write(row, column, windows[None])
        means = _means(values[0], factor)
        reduced[row // factor :, column // factor :][: means.shape[0], : means.shape[1]] = means
        progress(number, len(places))
    probability.close()
    count.close()
    return Mosaic(probability, count, layers, grid, finer, factor, reduced)


def _factor(answers: WindowPredictions, grid: MapGrid) -> int:
    """Cells that are taken together where all of the map is looked at: an eighth of what lies between
    two windows of one value each, and more only on maps that are too large."""
    fine = max(int(min(answers.windows.stride) // 8), 1) if answers.single else 1
    return max(fine, math.ceil(math.sqrt(grid.shape[0] * grid.shape[1] / _MOST_REDUCED)))


def _means(values: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Of ``factor x factor`` cells, of those that are known."""
    rows, columns = values.shape
    padded = np.pad(values, ((0, -rows % factor), (0, -columns % factor)), constant_values=np.nan)
    blocks = padded.reshape(padded.shape[0] // factor, factor, -1, factor)
    known = np.isfinite(blocks)
    count = known.sum(axis=(1, 3))
    total = np.where(known, blocks, 0).sum(axis=(1, 3), dtype=np.float64)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)
