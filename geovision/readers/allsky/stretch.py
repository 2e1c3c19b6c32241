"""Stretch from counts to brightness, declared once for a whole archive."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from geovision.errors import InputError, OptionError
from geovision.readers.allsky.circle import Circle, circle_mask
from geovision.readers.allsky.frame import Frame

__all__ = ["MIN_FRAMES", "Stretch", "estimate_stretch", "to_rgb"]

MIN_FRAMES = 10
"""Minimum number of frames for the estimate of a stretch."""


@dataclass(frozen=True)
class Stretch:
    """Stretch from counts to brightness in 0 to 1.

    The brightness is ``((counts - low) / (high - low)) ** gamma``, clipped. One stretch is used for all
    frames of a camera. A separate stretch for each frame would make a dark sky as bright as an arc.

    Args:
        low: Counts displayed as black.
        high: Counts displayed as white.
        gamma: Exponent; values below 1 brighten faint structures. Default: 1.0.

    Raises:
        OptionError: `high` is not above `low`, or `gamma` is not above 0.
    """

    low: float
    high: float
    gamma: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.high > self.low):
            raise OptionError(f"a stretch from {self.low} to {self.high} counts; high must be above low")
        if not (math.isfinite(self.gamma) and self.gamma > 0):
            raise OptionError(f"a stretch with gamma {self.gamma}; it must be above 0")

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        """Convert counts to brightness.

        >>> Stretch(3000, 5000)(np.array([2000, 4000, 65535])).tolist()
        [0.0, 0.5, 1.0]

        Args:
            counts: Counts, any shape.

        Returns:
            Brightness, float32, same shape, 0 to 1; NaN stays NaN.
        """
        fraction = (np.asarray(counts, np.float32) - self.low) / (self.high - self.low)
        return (np.clip(fraction, 0, 1) ** self.gamma).astype(np.float32)


def estimate_stretch(
    frames: Iterable[Frame],
    *,
    low: float = 1.0,
    high: float = 99.5,
    gamma: float = 1.0,
    circle: Circle | None = None,
) -> Stretch:
    """Estimate the stretch of a camera from percentiles of many frames.

    Use frames from many nights, bright and dark: frames of one minute contain only one sky. Frames are
    read once and not kept in memory.

    Args:
        frames: At least `MIN_FRAMES` different frames of one camera, 8 or 16 bits.
        low: Percentile of the counts that becomes black, 0 to 100. Default: 1.0.
        high: Percentile of the counts that becomes white, 0 to 100. Default: 99.5.
        gamma: Exponent of the stretch. Default: 1.0.
        circle: Circle whose pixels are used. Default: None, all pixels.

    Returns:
        Stretch for all frames of the camera.

    Raises:
        InputError: There are too few frames, two cameras or two types of counts, or no contrast.
        OptionError: The percentiles are not in order.
    """
    if not 0 <= low < high <= 100:
        raise OptionError(f"percentiles {low} and {high}; give 0 <= low < high <= 100")
    histogram = np.zeros(1 << 16, np.int64)
    seen: set[tuple[str, int]] = set()
    kind: tuple[str, ...] | None = None
    for frame in frames:
        kind = _check_same_camera(kind, frame)
        seen.add((frame.path, frame.index))
        inside = frame.pixels[circle_mask(frame.pixels.shape[:2], circle)] if circle else frame.pixels
        histogram += np.bincount(inside.ravel(), minlength=len(histogram))
    if len(seen) < MIN_FRAMES:
        raise InputError(
            f"{len(seen)} different frames; a stretch needs at least {MIN_FRAMES} frames of one camera"
        )
    levels = np.searchsorted(np.cumsum(histogram), np.array([low, high]) / 100 * histogram.sum())
    black, white = (float(level) for level in levels)
    if black >= white:
        raise InputError(
            f"the counts of {len(seen)} frames have no contrast ({black:.0f}); declare a Stretch"
        )
    return Stretch(black, white, gamma)


def _check_same_camera(kind: tuple[str, ...] | None, frame: Frame) -> tuple[str, ...]:
    if frame.pixels.dtype not in (np.uint8, np.uint16):
        raise InputError(
            f"{frame.path}: {frame.pixels.dtype} counts; percentiles need 8 or 16 bits. Declare a Stretch"
        )
    this = (str(frame.station), str(frame.device), str(frame.pixels.dtype))
    if kind and this != kind:
        raise InputError(
            f"{frame.path}: {' '.join(this)} among frames of {' '.join(kind)}; a stretch is for one camera"
        )
    return this


def to_rgb(
    frame: Frame, stretch: Stretch | None = None, channels: Literal["grey"] | None = None
) -> np.ndarray:
    """Convert a frame to red, green and blue counts.

    The counts are the input of models of color images.

    Args:
        frame: Frame of an all-sky camera.
        stretch: Stretch to brightness; required except for 8-bit counts, which have a full scale.
            Default: None.
        channels: Declaration of gray frames: ``"grey"`` copies a gray frame to all three channels. A
            model of color images is then used outside its training distribution. Default: None.

    Returns:
        Counts, uint8, shape ``(3, y, x)``, 0-255.

    Raises:
        InputError: A gray frame is not declared, a color frame is declared as gray, counts need a
            stretch, or counts are not finite.
    """
    gray = frame.pixels.ndim == 2
    where = f"{frame.path}: frame {frame.index}"
    if gray and channels != "grey":
        raise InputError(
            f'{where}: gray, but the model expects color; declare channels="grey" (--channels grey) to copy '
            "it to three channels"
        )
    if not gray and channels == "grey":
        raise InputError(f"{where}: in color; remove the declaration of gray channels")
    if stretch is None and frame.pixels.dtype != np.uint8:
        raise InputError(
            f"{where}: {frame.pixels.dtype} counts have no full scale; declare a Stretch (--stretch)"
        )
    counts = frame.pixels if stretch is None else _brightness(frame.pixels, stretch, where)
    # Channels are the last axis in memory, as for resizing and writing. They are copied one by one, because
    # NumPy takes five times as long along an axis of length 3.
    rgb = np.empty((*counts.shape[:2], 3), np.uint8)
    for channel in range(3):
        rgb[..., channel] = counts if gray else counts[..., channel]
    return rgb.transpose(2, 0, 1)


def _brightness(pixels: np.ndarray, stretch: Stretch, where: str) -> np.ndarray:
    if pixels.dtype in (np.uint8, np.uint16):
        return _lookup_table(stretch)[pixels]
    if not np.isfinite(pixels).all():
        raise InputError(f"{where}: counts that are not finite; fill or remove such frames")
    return _to_uint8(stretch(pixels))


@lru_cache(maxsize=16)
def _lookup_table(stretch: Stretch) -> np.ndarray:
    # A lookup table takes a tenth of the time of one power per pixel.
    return _to_uint8(stretch(np.arange(1 << 16)))


def _to_uint8(brightness: np.ndarray) -> np.ndarray:
    return np.rint(brightness * 255).astype(np.uint8)
