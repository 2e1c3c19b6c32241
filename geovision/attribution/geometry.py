"""Where in a picture the network looked, and a map of what it saw laid there.

Frame: the picture as it was given, upright, in its own pixels; row 0 is the upper edge of the first row,
so that the middle of the first pixel lies at (0.5, 0.5).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from geovision.readers.images import resize_box, rgb_counts, window_margins
from geovision.spec import InputSpec, resolve

__all__ = ["InputPlacement", "InputWindow", "locate_input"]


@dataclass(frozen=True)
class InputWindow:
    """The part of a picture that became the network's input, in pixels; it may reach beyond the picture.

    Attributes:
        top, left: Of its upper left corner.
        bottom, right: Of its lower right corner.
    """

    top: float
    left: float
    bottom: float
    right: float

    def scaled(self, factor: float) -> InputWindow:
        return InputWindow(self.top * factor, self.left * factor, self.bottom * factor, self.right * factor)

    def resample(self, values: NDArray[np.floating], shape: tuple[int, int]) -> NDArray[np.float32]:
        """Values whose cells share out the window evenly, on the pixels of the picture.

        Linear between the middles of the cells; NaN outside the window, where nothing was seen.

        Args:
            values: ``(..., cell_y, cell_x)``.
            shape: (height, width) of the picture.

        Returns:
            ``(..., height, width)``.
        """
        rows = _interpolation(self.top, self.bottom, values.shape[-2], shape[0])
        columns = _interpolation(self.left, self.right, values.shape[-1], shape[1])
        result = np.full((*values.shape[:-2], *shape), np.nan, np.float32)
        low, high, share = rows.low[:, None], rows.high[:, None], rows.weight[:, None]
        left, right = columns.low, columns.high
        upper = values[..., low, left] * (1 - columns.weight) + values[..., low, right] * columns.weight
        lower = values[..., high, left] * (1 - columns.weight) + values[..., high, right] * columns.weight
        result[..., rows.inside, columns.inside] = upper * (1 - share) + lower * share
        return result


@dataclass(frozen=True)
class _Interpolation:
    """For the pixels of one side that lie in the window: the two cells each is between, and how far."""

    inside: slice
    low: NDArray[np.int64]
    high: NDArray[np.int64]
    weight: NDArray[np.float32]


def _interpolation(start: float, stop: float, cells: int, pixels: int) -> _Interpolation:
    middles = np.arange(pixels) + 0.5
    inside = (middles > start) & (middles < stop)
    first = int(inside.argmax()) if inside.any() else 0
    place = (middles[inside] - start) / (stop - start) * cells - 0.5
    place = place.clip(0, cells - 1)
    low = np.floor(place).astype(np.int64)
    high = np.minimum(low + 1, cells - 1)
    return _Interpolation(
        slice(first, first + int(inside.sum())), low, high, (place - low).astype(np.float32)
    )


@dataclass(frozen=True)
class InputPlacement:
    """One input as it was given, and where the network looked.

    Attributes:
        image: Axes as in the input's layout; in its unit, or counts whose full scale is 1.
        window: What of it became the network's input.
    """

    image: NDArray[Any]
    window: InputWindow

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the picture."""
        height, width = self.image.shape[-2:]
        return height, width


def locate_input(value: Any, spec: InputSpec, *, where: str = "") -> InputPlacement:
    """Find where in a file, picture or array the input of a network lies.

    Args:
        value: What was given for the input.
        spec: The input, whose axes end in y, x.
        where: Names it in errors.

    Raises:
        UnreadableFileError: A file that cannot be read.
    """
    if isinstance(value, str | Path):
        reader = resolve(spec.reader)
        own = np.asarray(reader(value, dataclasses.replace(spec, pixel_size=None), None))
        if spec.pixel_size is None:
            return InputPlacement(own, _input_window((own.shape[-2], own.shape[-1]), spec))
        height, width = np.asarray(reader(value, spec, None)).shape[-2:]
        # Whole blocks of pixels were averaged; a last block may reach beyond the picture.
        block = round(max(own.shape[-2] / height, own.shape[-1] / width))
        return InputPlacement(own, _input_window((height, width), spec).scaled(block))
    if isinstance(value, Image.Image):
        own = rgb_counts(value, spec, where=where)
        return InputPlacement(own, _input_window((own.shape[-2], own.shape[-1]), spec))
    if isinstance(value, np.ma.MaskedArray) and value.dtype.kind == "f":
        value = value.filled(np.nan)
    own = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
    window = _input_window((own.shape[-2], own.shape[-1]), spec)
    if spec.resize == "crop":  # of an array whole cells are taken
        window = InputWindow(*(float(round(edge)) for edge in dataclasses.astuple(window)))
    return InputPlacement(own, window)


def _input_window(shape: tuple[int, int], spec: InputSpec) -> InputWindow:
    """The part of a grid of this shape that is brought to the input's size, by its own rule."""
    height, width = shape
    if spec.size is not None and spec.resize == "window":
        above, below, left, right = window_margins(shape, spec.size)
        return InputWindow(-above, -left, height + below, width + right)
    if spec.size is not None and spec.resize == "crop":
        first, upper, last, lower = resize_box(shape, spec.size, crop=True)
        return InputWindow(upper, first, lower, last)
    return InputWindow(0, 0, height, width)
