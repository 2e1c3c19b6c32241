"""Mosaics of window predictions, written to disk block by block."""

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

_BLOCK_SIZE = 1024  # rows and columns of a block that is merged at a time
_MAX_REDUCED_CELLS = 4_000_000  # maximum number of cells of the reduced map


@dataclass
class Mosaic:
    """Merged maps on disk and a reduced copy in memory.

    The reduced copy is for functions that need the whole map at once, such as the search for detections.

    Attributes:
        probability: Map of predictions, not compressed; see `RasterWriter.write_cog`.
        count: Map of the number of merged windows, not compressed.
        layers: Names of the bands of `probability`.
        grid: Grid of both maps.
        scale_factor: Number of cells of `grid` along each side of a cell of the source.
        reduction_factor: Number of cells along each side of a block that `reduced` averages.
        reduced: Block means of the first layer, float32, shape (y, x); NaN where no cell has a prediction.
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
    """Merge all windows block by block.

    Cells without input data have no prediction, even if a window covers them.

    Args:
        predictions: Predictions of all windows.
        source: Source of the windows.
        layers: Names of the predicted layers.
        metadata: Values for the tags of the maps, by key. Each key gets the prefix ``geovision_``.
        scratch: Folder for the maps.
        progress: Function that is called with the number of merged blocks and the number of all blocks.

    Returns:
        The merged maps, not yet copied to their final place.

    Raises:
        StorageError: If the maps do not fit on the disk.
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
    """Return the side of a block of the reduced map, in cells.

    Scalar predictions vary over the distance of two windows, so an eighth of the stride is fine enough. The
    factor is larger only if the reduced map would otherwise have more than `_MAX_REDUCED_CELLS` cells.
    """
    fine = max(int(min(predictions.windows.stride) // 8), 1) if predictions.is_scalar else 1
    return max(fine, math.ceil(math.sqrt(grid.shape[0] * grid.shape[1] / _MAX_REDUCED_CELLS)))


def _block_means(values: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Return the means of finite cells in square blocks."""
    rows, columns = values.shape
    padded = np.pad(values, ((0, -rows % factor), (0, -columns % factor)), constant_values=np.nan)
    blocks = padded.reshape(padded.shape[0] // factor, factor, -1, factor)
    known = np.isfinite(blocks)
    count = known.sum(axis=(1, 3))
    total = np.where(known, blocks, 0).sum(axis=(1, 3), dtype=np.float64)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)
