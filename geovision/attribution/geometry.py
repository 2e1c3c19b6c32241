"""Position of a network's input in the original image.

Coordinates are pixels of the original, upright image. Row 0 is the upper edge of the first row, so the center
of the first pixel is (0.5, 0.5).
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
    """Part of an image that became the input of the network.

    Coordinates are in pixels. The window may extend beyond the image.

    Attributes:
        top: Row of the upper edge.
        left: Column of the left edge.
        bottom: Row of the lower edge.
        right: Column of the right edge.
    """

    top: float
    left: float
    bottom: float
    right: float

    def scaled(self, factor: float) -> InputWindow:
        """Return the window in pixels that are smaller by a factor.

        Args:
            factor: Factor by which all coordinates are multiplied.

        Returns:
            The scaled window.
        """
        return InputWindow(self.top * factor, self.left * factor, self.bottom * factor, self.right * factor)

    def resample(self, values: NDArray[np.floating], shape: tuple[int, int]) -> NDArray[np.float32]:
        """Resample a map over the window to the pixels of the image.

        The cells of the map divide the window evenly. Interpolation is linear between cell centers. Pixels
        outside the window are NaN, because the network did not receive them.

        Args:
            values: Map, shape (..., cell_y, cell_x).
            shape: Height and width of the image, in pixels.

        Returns:
            The map on the image, shape (..., height, width).
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
    """Neighboring cells and weights of the pixels inside the window."""

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
    """Original values of one input, and the window that the network received.

    Attributes:
        image: Values with the axes of the input's layout, in its unit or in counts whose full scale is 1.
        window: Part of the image that became the input of the network.
    """

    image: NDArray[Any]
    window: InputWindow

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the image, in pixels."""
        height, width = self.image.shape[-2:]
        return height, width


def locate_input(value: Any, spec: InputSpec, *, where: str = "") -> InputPlacement:
    """Locate the input of a network in a file, image or array.

    Args:
        value: File path, image or array that was passed for the input.
        spec: Specification of the input; its axes end in y, x.
        where: Name of the sample in error messages. Default: none.

    Returns:
        The original values and the window.

    Raises:
        UnreadableFileError: The file cannot be read.
    """
    if isinstance(value, str | Path):
        reader = resolve(spec.reader)
        own = np.asarray(reader(value, dataclasses.replace(spec, pixel_size=None), None))
        if spec.pixel_size is None:
            return InputPlacement(own, _input_window((own.shape[-2], own.shape[-1]), spec))
        height, width = np.asarray(reader(value, spec, None)).shape[-2:]
        # The reader averaged whole blocks of pixels; the last block may extend beyond the image.
        block = round(max(own.shape[-2] / height, own.shape[-1] / width))
        return InputPlacement(own, _input_window((height, width), spec).scaled(block))
    if isinstance(value, Image.Image):
        own = rgb_counts(value, spec, where=where)
        return InputPlacement(own, _input_window((own.shape[-2], own.shape[-1]), spec))
    if isinstance(value, np.ma.MaskedArray) and value.dtype.kind == "f":
        value = value.filled(np.nan)
    own = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
    window = _input_window((own.shape[-2], own.shape[-1]), spec)
    if spec.resize == "crop":  # arrays are cropped at whole cells
        window = InputWindow(*(float(round(edge)) for edge in dataclasses.astuple(window)))
    return InputPlacement(own, window)


def _input_window(shape: tuple[int, int], spec: InputSpec) -> InputWindow:
    """Return the part of a grid that becomes the input."""
    height, width = shape
    if spec.size is not None and spec.resize == "window":
        above, below, left, right = window_margins(shape, spec.size)
        return InputWindow(-above, -left, height + below, width + right)
    if spec.size is not None and spec.resize == "crop":
        first, upper, last, lower = resize_box(shape, spec.size, crop=True)
        return InputWindow(upper, first, lower, last)
    return InputWindow(0, 0, height, width)
