"""Sliding-window prediction on grids of any size.

The module is independent of the kind of data. A source returns the inputs of the model and their valid masks
for any rectangle of its grid. A prediction function returns one value per layer for each window, or one value
per cell, on the same cells or on finer ones.

Predictions are kept by window and merged block by block in the order of the windows. So the result does not
depend on the order of the predictions, the batch size or the number of workers. Memory holds one batch and
one block, regardless of the size of the grid.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geovision.errors import GeovisionError
from geovision.inference import executor
from geovision.inference.tiling import WindowGrid, WindowRun, window_weight
from geovision.readers.sar import MapGrid

__all__ = [
    "ArraySource",
    "Patch",
    "PatchSource",
    "RunPredictions",
    "SingleInputSource",
    "WindowPredictions",
    "WindowTask",
    "blend",
    "predict_run",
    "sliding_window_predict",
]

MAX_RUN_LENGTH = 32
"""Maximum number of neighboring windows that are read together."""


@dataclass(frozen=True)
class Patch:
    """Inputs in a rectangle of a grid.

    Attributes:
        inputs: Values by input name, with the axes of the input's layout, which ends in ``y x``.
        valid: Valid masks by input name, bool, with the shape of the input, or (y, x) if the mask is the same
            for all channels and times.
    """

    inputs: Mapping[str, NDArray[Any]]
    valid: Mapping[str, NDArray[np.bool_]]

    @property
    def any_valid(self) -> NDArray[np.bool_]:
        """Cells with any valid input, bool, shape (y, x)."""
        masks = [mask.reshape(-1, *mask.shape[-2:]) for mask in self.valid.values()]
        return np.any(np.concatenate(masks), axis=0)


class PatchSource(Protocol):
    """Source of the windows.

    Instances are pickled and sent to workers, which read them in parallel.
    """

    @property
    def grid(self) -> MapGrid:
        """Grid of all inputs."""
        ...

    def read(self, row: int, column: int, shape: tuple[int, int]) -> Patch:
        """Return the inputs in a rectangle inside the grid.

        Args:
            row: First row.
            column: First column.
            shape: (rows, columns) of the rectangle.
        """
        ...


class _RasterReader(Protocol):
    @property
    def grid(self) -> MapGrid: ...

    def read(
        self, row: int, column: int, shape: tuple[int, int]
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]: ...


@dataclass(frozen=True)
class SingleInputSource:
    """Source with a raster as the only input.

    Args:
        name: Name of the model's input.
        raster: Reader of values, shape (channel, y, x), and their valid mask, shape (y, x).
    """

    name: str
    raster: _RasterReader

    @property
    def grid(self) -> MapGrid:
        """Grid of the raster."""
        return self.raster.grid

    def read(self, row: int, column: int, shape: tuple[int, int]) -> Patch:
        """Return the raster in a rectangle inside the grid.

        Args:
            row: First row.
            column: First column.
            shape: (rows, columns) of the rectangle.
        """
        values, valid = self.raster.read(row, column, shape)
        return Patch({self.name: values}, {self.name: valid})


@dataclass(frozen=True)
class ArraySource:
    """Source of inputs in memory, all on one grid.

    Args:
        grid: Grid of the last two axes of all inputs.
        inputs: Values by input name, with the axes and units of the input.
        valid: Valid masks by input name, as in `Patch`. Default: cells with finite values are valid.
    """

    grid: MapGrid
    inputs: Mapping[str, NDArray[Any]]
    valid: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)

    def read(self, row: int, column: int, shape: tuple[int, int]) -> Patch:
        """Return the inputs in a rectangle inside the grid.

        Args:
            row: First row.
            column: First column.
            shape: (rows, columns) of the rectangle.
        """
        place = (..., slice(row, row + shape[0]), slice(column, column + shape[1]))
        inputs = {name: values[place] for name, values in self.inputs.items()}
        valid = {
            name: self.valid[name][place] if name in self.valid else np.isfinite(values)
            for name, values in inputs.items()
        }
        return Patch(inputs, valid)


PredictFn = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Tensor]
"""Function of inputs by name, shape (window, *layout), and their valid masks, of the same shapes. It returns
values, shape (window, layer) or (window, layer, y, x). In the second case, y and x are the sides of the
window or a whole multiple of them; cells without a prediction are NaN."""


@dataclass(frozen=True)
class WindowTask:
    """Settings for the prediction of runs of windows.

    Args:
        source: Source of the inputs.
        windows: Windows over the grid of the source.
        predict_fn: Prediction function that can be pickled.
        batch_size: Number of windows in a forward pass. Default: 16.
        min_valid: Minimum fraction of valid cells in a window; other windows are skipped. Default: 0.25.
    """

    source: PatchSource
    windows: WindowGrid
    predict_fn: PredictFn
    batch_size: int = 16
    min_valid: float = 0.25


@dataclass(frozen=True)
class RunPredictions:
    """Predictions of a run of windows.

    Attributes:
        run: Windows of the run.
        selected: Mask of the predicted windows, bool, shape (window,); False if too few cells are valid.
        values: Predictions of the selected windows in their order, float32.
    """

    run: WindowRun
    selected: NDArray[np.bool_]
    values: NDArray[np.float32]


def predict_run(task: WindowTask, run: WindowRun) -> RunPredictions:
    """Read and predict one run of windows on a worker.

    Args:
        task: Source, windows and prediction function.
        run: Windows to predict.

    Returns:
        Predictions of the windows with enough valid cells.
    """
    windows = task.windows
    lefts = windows.column_starts[run.first : run.last]
    height, width = windows.size
    part = _read_padded(
        task.source, windows.row_starts[run.row], lefts[0], (height, lefts[-1] - lefts[0] + width)
    )
    places = [slice(left - lefts[0], left - lefts[0] + width) for left in lefts]
    any_valid = part.any_valid
    selected = np.array([any_valid[:, place].mean() >= task.min_valid for place in places])
    wanted = [place for place, is_selected in zip(places, selected, strict=True) if is_selected]
    values = []
    for begin in range(0, len(wanted), task.batch_size):
        inputs, valid = _make_batch(part, wanted[begin : begin + task.batch_size])
        values.append(task.predict_fn(inputs, valid).float().numpy())
    return RunPredictions(run, selected, np.concatenate(values) if values else np.zeros((0, 0), np.float32))


def _make_batch(patch: Patch, slices: list[slice]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return some windows of a patch as batched inputs and masks."""
    inputs, valid = {}, {}
    for name, values in patch.inputs.items():
        cut = torch.from_numpy(np.stack([values[..., place] for place in slices]))
        mask = torch.from_numpy(np.stack([patch.valid[name][..., place] for place in slices]))
        axes = (len(mask), *[1] * (cut.ndim - mask.ndim), *mask.shape[1:])
        inputs[name], valid[name] = cut, mask.view(axes).expand_as(cut)
    return inputs, valid


def _read_padded(source: PatchSource, row: int, column: int, shape: tuple[int, int]) -> Patch:
    """Return a patch that may extend beyond the grid.

    Cells outside of the grid are not valid.
    """
    rows, columns = source.grid.shape
    top, left = max(row, 0), max(column, 0)
    bottom, right = min(row + shape[0], rows), min(column + shape[1], columns)
    part = source.read(top, left, (bottom - top, right - left))
    margins = ((top - row, row + shape[0] - bottom), (left - column, column + shape[1] - right))
    if not any(map(any, margins)):
        return part

    def pad(values: NDArray[Any]) -> NDArray[Any]:
        return np.pad(values, ((0, 0),) * (values.ndim - 2) + margins)

    return Patch(*({name: pad(each) for name, each in kind.items()} for kind in (part.inputs, part.valid)))


# --- predictions --------------------------------------------------------------------------------


class WindowPredictions:
    """Predictions of all windows. Scalars are kept in memory, maps on disk.

    Args:
        windows: All windows.
        scratch: Folder for the maps of the windows.

    Attributes:
        selected: Mask of the predicted windows, bool, shape (row, column).
        layers: Number of predicted layers.
        scale_factor: Number of predicted cells along each side of a cell of the source.
    """

    def __init__(self, windows: WindowGrid, scratch: Path) -> None:
        self.windows, self.scratch = windows, scratch
        self.selected = np.zeros((len(windows.row_starts), len(windows.column_starts)), bool)
        self.layers = 0
        self.scale_factor = 1
        self._scalars: NDArray[np.float32] | None = None

    def add(self, run_predictions: RunPredictions) -> None:
        """Add the predictions of one run, in any order.

        Args:
            run_predictions: Predictions of one run.

        Raises:
            GeovisionError: If the predicted cells do not fit the cells of a window.
        """
        run, values = run_predictions.run, run_predictions.values
        columns = np.arange(run.first, run.last)[run_predictions.selected]
        self.selected[run.row, columns] = True
        if not len(columns):
            return
        self.layers = values.shape[1]
        if values.ndim > 2:
            self.scale_factor = _scale_factor(values.shape[2:], self.windows.size)
            for column, own in zip(columns, values, strict=True):
                np.save(self._path(run.row, int(column)), own)
            return
        if self._scalars is None:
            self._scalars = np.full((*self.selected.shape, self.layers), np.nan, np.float32)
        self._scalars[run.row, columns] = values

    def get(self, row: int, column: int) -> NDArray[np.float32]:
        """Return the prediction of a selected window.

        Args:
            row: Index of the row of windows.
            column: Index of the column of windows.

        Returns:
            Shape (layer, 1, 1) for scalars; shape (layer, y, x), mapped from disk, otherwise.
        """
        if self._scalars is not None:
            return self._scalars[row, column, :, None, None]
        return np.load(self._path(row, column), mmap_mode="r")

    @property
    def is_scalar(self) -> bool:
        """Whether a prediction is one value per layer instead of a map."""
        return self._scalars is not None

    def _path(self, row: int, column: int) -> Path:
        return self.scratch / f"window-{row}-{column}.npy"


def _scale_factor(cells: tuple[int, ...], window: tuple[int, int]) -> int:
    factor = cells[0] // window[0]
    if tuple(cells) != (factor * window[0], factor * window[1]) or not factor:
        raise GeovisionError(
            f"predictions have {' x '.join(map(str, cells))} cells; expected the {window[0]} x {window[1]} "
            "cells of a window, or a whole multiple along both sides"
        )
    return factor


def sliding_window_predict(
    task: WindowTask,
    scratch: Path,
    executor_config: executor.ExecutorConfig,
    progress: Callable[[int, int], None],
) -> WindowPredictions:
    """Predict every window with enough valid cells.

    Args:
        task: Source, windows and prediction function.
        scratch: Folder for predictions that do not fit into memory.
        executor_config: Workers that predict.
        progress: Function that is called with the number of finished windows and the number of all windows.

    Returns:
        Predictions by window.

    Raises:
        GeovisionError: If a window cannot be predicted.
    """
    predictions = WindowPredictions(task.windows, scratch)
    done, total = 0, predictions.selected.size
    progress(done, total)
    runs = task.windows.runs(MAX_RUN_LENGTH)
    for finished in executor.run(partial(predict_run, task), runs, executor_config):
        run = finished.item
        if finished.error:
            raise GeovisionError(
                f"prediction of windows {run.first} to {run.last - 1} of row {run.row} failed: "
                f"{finished.error}"
            )
        predictions.add(finished.result)
        done += run.last - run.first
        progress(done, total)
    return predictions


# --- merging ------------------------------------------------------------------------------------


def blend(
    predictions: WindowPredictions, row: int, column: int, shape: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    """Return the weighted mean of all windows in a block.

    The weights of the cells of a window are those of `window_weight`. The cells are those of the predictions,
    `WindowPredictions.scale_factor` times as fine as those of the source. Sums are computed in float64, in
    the order of the windows.

    Args:
        predictions: Predictions of all windows.
        row: First row of the block, in cells of the predictions.
        column: First column of the block.
        shape: (rows, columns) of the block.

    Returns:
        The mean, float32, shape (layer, y, x), NaN in cells without a prediction; and the number of merged
        windows, uint16, shape (y, x).
    """
    total = np.zeros((predictions.layers, *shape))
    weights, count = np.zeros(shape), np.zeros(shape, np.uint16)
    height, width = (side * predictions.scale_factor for side in predictions.windows.size)
    tops, lefts = (
        [p * predictions.scale_factor for p in each]
        for each in (predictions.windows.row_starts, predictions.windows.column_starts)
    )
    kernel = np.outer(window_weight(height), window_weight(width))
    for r, rows, inside_rows in _overlaps(tops, height, row, shape[0]):
        for c, columns, inside_columns in _overlaps(lefts, width, column, shape[1]):
            if not predictions.selected[r, c]:
                continue
            own = kernel[inside_rows, inside_columns]
            values = predictions.get(r, c)
            if values.shape[1:] != (1, 1):
                values = values[:, inside_rows, inside_columns]
                finite = np.isfinite(values).all(axis=0)
                own, values = np.where(finite, own, 0), np.where(finite, values, 0)
                count[rows, columns] += finite
            else:
                count[rows, columns] += 1
            total[:, rows, columns] += own * values
            weights[rows, columns] += own
    nothing = count == 0
    mean = total / np.where(nothing, 1, weights)
    mean[:, nothing] = np.nan
    return mean.astype(np.float32), count


def _overlaps(
    starts_along_axis: list[int], size: int, begin: int, extent: int
) -> list[tuple[int, slice, slice]]:
    """Return the windows that overlap a block along one axis.

    Each item contains the index of the window, the cells of the block and the cells of the window.
    """
    first, last = (
        bisect_right(starts_along_axis, begin - size),
        bisect_left(starts_along_axis, begin + extent),
    )
    found = []
    for number in range(first, last):
        low, high = (
            max(starts_along_axis[number], begin),
            min(starts_along_axis[number] + size, begin + extent),
        )
        inside = slice(low - starts_along_axis[number], high - starts_along_axis[number])
        found.append((number, slice(low - begin, high - begin), inside))
    return found
