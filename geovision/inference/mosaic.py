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

_BLOCK_SIZE = 1024  # cells that are merged at a time, down and across
_MAX_REDUCED_CELLS = 4_000_000  # cells in which places are looked for


@dataclass
class Mosaic:
    """Merged maps on disk, and the first layer reduced for what looks at all of it.

    Attributes:
        probability, count: Not yet compressed; see `Raster.cog`.
        layers: Names of the bands of `probability`.
        grid: Of both.
        scale_factor: Cells of it along the side of a cell of what was asked about.
        reduction_factor: Cells that make one of `reduced`, down and across.
        reduced: float32 ``(y, x)``: means of the first layer, NaN where nothing is known.
    """

    probability: RasterWriter
    count: RasterWriter
    layers: tuple[str, ...]
    grid: MapGrid
    scale_factor: int
    reduction_factor: int
    reduced: NDArray[np.float32]


def merge(
    predictions: WindowPredictions,
    source: PatchSource,
    layers: tuple[str, ...],
    metadata: Mapping[str, Any],
    scratch: Path,
    progress: Callable[[int, int], None],
) -> Mosaic:
    """Merge all windows, block by block; nothing is said of cells without data.

    Args:
        predictions: Of all windows.
        source: What they were asked about.
        layers: Names of what they answer.
        metadata: What to write into the tags of the maps.
        scratch: A folder.
        progress: Is told blocks done and blocks in all.

    Raises:
        StorageError: The maps do not fit on the disk.
    """
    finer = predictions.scale_factor
    grid = source.grid.refine(finer)
    factor = _reduction_factor(predictions, grid)
    tags = {f"geovision_{key}": str(value) for key, value in metadata.items()}
    probability = RasterWriter(
        scratch / "probability.tif", grid, layers, dtype="float32", nodata=math.nan, tags=tags
    )
    count = RasterWriter(scratch / "count.tif", grid, ["windows merged"], dtype="uint16", nodata=0, tags=tags)
    reduced = np.full([math.ceil(side / factor) for side in grid.shape], np.nan, np.float32)
    step = math.lcm(factor, finer)
    side = max(_BLOCK_SIZE // step, 1) * step
    places = [
        (row, column) for row in range(0, grid.shape[0], side) for column in range(0, grid.shape[1], side)
    ]
    for number, (row, column) in enumerate(places, 1):
        shape = (min(side, grid.shape[0] - row), min(side, grid.shape[1] - column))
        values, windows = blend(predictions, row, column, shape)
        part = source.read(row // finer, column // finer, (shape[0] // finer, shape[1] // finer))
        nothing = ~part.any_valid.repeat(finer, 0).repeat(finer, 1)
        values[:, nothing], windows[nothing] = np.nan, 0
        probability.write(row, column, values)
        count.write(row, column, windows[None])
        means = _block_means(values[0], factor)
        reduced[row // factor :, column // factor :][: means.shape[0], : means.shape[1]] = means
        progress(number, len(places))
    probability.close()
    count.close()
    return Mosaic(probability, count, layers, grid, finer, factor, reduced)


def _reduction_factor(predictions: WindowPredictions, grid: MapGrid) -> int:
    """Cells that are taken together where all of the map is looked at: an eighth of what lies between
    two windows of one value each, and more only on maps that are too large."""
    fine = max(int(min(predictions.windows.stride) // 8), 1) if predictions.is_scalar else 1
    return max(fine, math.ceil(math.sqrt(grid.shape[0] * grid.shape[1] / _MAX_REDUCED_CELLS)))


def _block_means(values: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Of ``factor x factor`` cells, of those that are known."""
    rows, columns = values.shape
    padded = np.pad(values, ((0, -rows % factor), (0, -columns % factor)), constant_values=np.nan)
    blocks = padded.reshape(padded.shape[0] // factor, factor, -1, factor)
    known = np.isfinite(blocks)
    count = known.sum(axis=(1, 3))
    total = np.where(known, blocks, 0).sum(axis=(1, 3), dtype=np.float64)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)
