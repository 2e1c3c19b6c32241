"""A model over the windows of a map: read, asked in batches, merged. It knows nothing of radar.

What a map is read from gives the inputs of the model and where they are valid, for any rectangle of its
grid; what is asked gives for each window one value a layer, or a value for each cell, on the same cells
or on finer ones. Answers are kept by window and merged in the order of the windows, block by block, so
that neither the order in which they come, nor the size of batches, nor who computed them can be seen in
the result, and memory holds a batch and a block whatever the size of the map.
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
"""Neighbouring windows that are read together, at most."""


@dataclass(frozen=True)
class Patch:
    """What lies in a rectangle of a map.

    Attributes:
        inputs: By name, axes as in the input's layout, which ends in ``y x``.
        valid: By name, bool, of the input's shape or ``(y, x)`` for all of its values alike.
    """

    inputs: Mapping[str, NDArray[Any]]
    valid: Mapping[str, NDArray[np.bool_]]

    @property
    def any_valid(self) -> NDArray[np.bool_]:
        """bool ``(y, x)``: where anything is there, of any input, at any time."""
        masks = [mask.reshape(-1, *mask.shape[-2:]) for mask in self.valid.values()]
        return np.any(np.concatenate(masks), axis=0)


class PatchSource(Protocol):
    """Where windows are cut from. It is sent to workers, and read by several at a time."""

    @property
    def grid(self) -> MapGrid: ...

    def read(self, row: int, column: int, shape: tuple[int, int]) -> Patch:
        """What lies in a rectangle within the grid."""
        ...


class _RasterReader(Protocol):
    @property
    def grid(self) -> MapGrid: ...

    def read(
        self, row: int, column: int, shape: tuple[int, int]
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]: ...


@dataclass(frozen=True)
class SingleInputSource:
    """A raster as the only input of a model.

    Args:
        name: Of the input.
        raster: Reads values ``(channel, y, x)`` and where they are valid ``(y, x)``.
    """

    name: str
    raster: _RasterReader

    @property
    def grid(self) -> MapGrid:
        return self.raster.grid

    def read(self, row: int, column: int, shape: tuple[int, int]) -> Patch:
        values, valid = self.raster.read(row, column, shape)
        return Patch({self.name: values}, {self.name: valid})


@dataclass(frozen=True)
class ArraySource:
    """Inputs that lie in memory, all on one grid.

    Args:
        grid: Of the last two axes of all.
        inputs: By name, axes as in the input's layout, in its units.
        valid: By name, as in `Part`; absent: where the values are numbers.
    """

    grid: MapGrid
    inputs: Mapping[str, NDArray[Any]]
    valid: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)

    def read(self, row: int, column: int, shape: tuple[int, int]) -> Patch:
        place = (..., slice(row, row + shape[0]), slice(column, column + shape[1]))
        inputs = {name: values[place] for name, values in self.inputs.items()}
        valid = {
            name: self.valid[name][place] if name in self.valid else np.isfinite(values)
            for name, values in inputs.items()
        }
        return Patch(inputs, valid)


PredictFn = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Tensor]
"""Inputs by name ``(window, *layout)`` and validity, of the same shapes, to values ``(window, layer)`` or
``(window, layer, y, x)``, where a window has so many cells or a whole multiple of them along each side; NaN
in a cell: nothing to say there."""


@dataclass(frozen=True)
class WindowTask:
    """What is done with every run of windows.

    Args:
        source: Of the inputs.
        windows: Over its grid.
        predict_fn: The model; importable by its name on the workers.
        batch_size: Windows a forward pass.
        min_valid: Minimum fraction of valid cells in a window; other windows are skipped.
    """

    source: PatchSource
    windows: WindowGrid
    predict_fn: PredictFn
    batch_size: int = 16
    min_valid: float = 0.25


@dataclass(frozen=True)
class RunPredictions:
    """What a run of windows gave.

    Attributes:
        run: Which windows.
        selected: bool ``(window,)``: False where too little of it has data.
        values: float32 of the asked ones, in their order.
    """

    run: WindowRun
    selected: NDArray[np.bool_]
    values: NDArray[np.float32]


def predict_run(task: WindowTask, run: WindowRun) -> RunPredictions:
    """Read and ask one run of windows. This runs on the workers."""
    windows = task.windows
    lefts = windows.column_starts[run.first : run.last]
    height, width = windows.size
    part = _read_padded(
        task.source, windows.row_starts[run.row], lefts[0], (height, lefts[-1] - lefts[0] + width)
    )
    places = [slice(left - lefts[0], left - lefts[0] + width) for left in lefts]
    seen = part.any_valid
    asked = np.array([seen[:, place].mean() >= task.min_valid for place in places])
    wanted = [place for place, wants in zip(places, asked, strict=True) if wants]
    values = []
    for begin in range(0, len(wanted), task.batch_size):
        inputs, valid = _make_batch(part, wanted[begin : begin + task.batch_size])
        values.append(task.predict_fn(inputs, valid).float().numpy())
    return RunPredictions(run, asked, np.concatenate(values) if values else np.zeros((0, 0), np.float32))


def _make_batch(patch: Patch, slices: list[slice]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Some windows of a part, as a model takes them."""
    inputs, valid = {}, {}
    for name, values in patch.inputs.items():
        cut = torch.from_numpy(np.stack([values[..., place] for place in slices]))
        there = torch.from_numpy(np.stack([patch.valid[name][..., place] for place in slices]))
        axes = (len(there), *[1] * (cut.ndim - there.ndim), *there.shape[1:])
        inputs[name], valid[name] = cut, there.view(axes).expand_as(cut)
    return inputs, valid


def _read_padded(source: PatchSource, row: int, column: int, shape: tuple[int, int]) -> Patch:
    """A part that may reach beyond the grid, without data there."""
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


# --- answers ------------------------------------------------------------------------------------


class WindowPredictions:
    """What was said of every window. Single values are kept in memory, maps on disk.

    Args:
        windows: All of them.
        scratch: A folder for maps of windows.

    Attributes:
        selected: bool ``(row, column)`` of windows: what was said of them is known.
        layers: Values of each answer.
        scale_factor: Cells of an answer along the side of a cell of the source.
    """

    def __init__(self, windows: WindowGrid, scratch: Path) -> None:
        self.windows, self.scratch = windows, scratch
        self.selected = np.zeros((len(windows.row_starts), len(windows.column_starts)), bool)
        self.layers = 0
        self.scale_factor = 1
        self._scalars: NDArray[np.float32] | None = None

    def add(self, run_predictions: RunPredictions) -> None:
        """Take in one run, in whatever order they come."""
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
        """``(layer, 1, 1)``, or ``(layer, y, x)`` from disk, of a window that was asked."""
        if self._scalars is not None:
            return self._scalars[row, column, :, None, None]
        return np.load(self._path(row, column), mmap_mode="r")

    @property
    def is_scalar(self) -> bool:
        """Whether a window has one value a layer, and not a map."""
        return self._scalars is not None

    def _path(self, row: int, column: int) -> Path:
        return self.scratch / f"window-{row}-{column}.npy"


def _scale_factor(cells: tuple[int, ...], window: tuple[int, int]) -> int:
    factor = cells[0] // window[0]
    if tuple(cells) != (factor * window[0], factor * window[1]) or not factor:
        raise GeovisionError(
            f"answers of {' x '.join(map(str, cells))} cells lie on no grid of windows of {window[0]} x "
            f"{window[1]}; they need as many, or a whole multiple"
        )
    return factor


def sliding_window_predict(
    task: WindowTask,
    scratch: Path,
    executor_config: executor.ExecutorConfig,
    progress: Callable[[int, int], None],
) -> WindowPredictions:
    """Ask about every window.

    Args:
        task: What to do with them.
        scratch: A folder for what does not fit into memory.
        executor_config: Who does it.
        progress: Is told windows done and windows in all.

    Raises:
        GeovisionError: A window could not be answered.
    """
    answers = WindowPredictions(task.windows, scratch)
    done, whole = 0, answers.selected.size
    progress(done, whole)
    for piece in executor.run(partial(predict_run, task), task.windows.runs(MAX_RUN_LENGTH), executor_config):
        if piece.error:
            raise GeovisionError(
                f"windows {piece.item.first} to {piece.item.last - 1} of row {piece.item.row} could not "
                f"be answered: {piece.error}"
            )
        answers.add(piece.result)
        done += piece.item.last - piece.item.first
        progress(done, whole)
    return answers


# --- merging ------------------------------------------------------------------------------------


def blend(
    predictions: WindowPredictions, row: int, column: int, shape: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    """The mean of all windows over a part of the grid, each cell of a window weighted by `weight`. The cells
    are those of the answers: `WindowPredictions.factor` times as fine as those of the source.

    Summed in float64, window after window in their order.

    Returns:
        float32 ``(layer, y, x)``, NaN where no window says anything, and uint16 ``(y, x)``: how many
        windows do.
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
                said = np.isfinite(values).all(axis=0)
                own, values = np.where(said, own, 0), np.where(said, values, 0)
                count[rows, columns] += said
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
    """Windows along one axis that reach into a part: number, cells of the part, cells of the window."""
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
