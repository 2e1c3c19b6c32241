"""From counts to brightness, by a scale that is declared and the same for a whole archive."""

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
"""No stretch is estimated from fewer frames."""


@dataclass(frozen=True)
class Stretch:
    """Counts to brightness in 0 to 1: ``((counts - low) / (high - low)) ** gamma``, clipped.

    One stretch holds for all frames of a camera. A stretch of its own for each frame would make a
    dark sky as bright as an arc.

    Args:
        low: Counts that are black.
        high: Counts that are white.
        gamma: Below 1 it lifts the faint forms.

    Raises:
        OptionError: `high` is not above `low`, or `gamma` not above 0.
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
        """Brightness, float32 of the same shape, 0 to 1; NaN stays NaN.

        >>> Stretch(3000, 5000)(np.array([2000, 4000, 65535])).tolist()
        [0.0, 0.5, 1.0]
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
    """The stretch of a camera, from percentiles over many of its frames.

    Take frames from many nights, bright and dark: those of one minute know one sky only. They are
    read once and not kept.

    Args:
        frames: Of one camera, `MIN_FRAMES` or more different ones, 8 or 16 bits.
        low: Percentile of the counts that becomes black.
        high: Percentile that becomes white.
        gamma: Of the stretch.
        circle: Only pixels inside it count.

    Raises:
        InputError: Too few frames, frames of two cameras or of two types, or no contrast.
        OptionError: Percentiles that are not in order.
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
            f"{len(seen)} different frames; a stretch is estimated from {MIN_FRAMES} or more of one camera"
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
            f"{frame.path}: {frame.pixels.dtype} counts; percentiles are of 8 or 16 bits. Declare a Stretch"
        )
    this = (str(frame.station), str(frame.device), str(frame.pixels.dtype))
    if kind and this != kind:
        raise InputError(
            f"{frame.path}: {' '.join(this)} among frames of {' '.join(kind)}; one stretch is of one camera"
        )
    return this


def to_rgb(
    frame: Frame, stretch: Stretch | None = None, channels: Literal["grey"] | None = None
) -> np.ndarray:
    """The red, green and blue counts of a frame, for models of colour pictures.

    Args:
        stretch: Needed for all but 8-bit counts, which have a full scale of their own.
        channels: ``"grey"`` declares that the three channels of a grey frame are to be equal. A
            model of colour pictures is then outside what it was trained on.

    Returns:
        uint8 ``(3, y, x)``, 0-255.

    Raises:
        InputError: A grey frame that is not declared, a colour one that is, counts without a
            stretch, or counts that are not numbers.
    """
    grey = frame.pixels.ndim == 2
    where = f"{frame.path}: frame {frame.index}"
    if grey and channels != "grey":
        raise InputError(
            f'{where}: grey, where colour is asked for; declare channels="grey" to take it as such '
            "(--channels grey)"
        )
    if not grey and channels == "grey":
        raise InputError(f"{where}: in colour; leave out the declaration of grey channels")
    if stretch is None and frame.pixels.dtype != np.uint8:
        raise InputError(
            f"{where}: {frame.pixels.dtype} counts have no brightness of their own; declare a Stretch "
            "(--stretch)"
        )
    counts = frame.pixels if stretch is None else _brightness(frame.pixels, stretch, where)
    # The colours of a pixel lie side by side, as pictures are resized and written; plane by plane, since
    # along an axis of three NumPy takes five times as long.
    rgb = np.empty((*counts.shape[:2], 3), np.uint8)
    for colour in range(3):
        rgb[..., colour] = counts if grey else counts[..., colour]
    return rgb.transpose(2, 0, 1)


def _brightness(pixels: np.ndarray, stretch: Stretch, where: str) -> np.ndarray:
    if pixels.dtype in (np.uint8, np.uint16):
        return _lookup_table(stretch)[pixels]
    if not np.isfinite(pixels).all():
        raise InputError(f"{where}: counts that are not finite; fill or leave out such frames")
    return _to_uint8(stretch(pixels))


@lru_cache(maxsize=16)
def _lookup_table(stretch: Stretch) -> np.ndarray:
    # Looked up, a frame takes a tenth of the time that the powers of its pixels would.
    return _to_uint8(stretch(np.arange(1 << 16)))


def _to_uint8(brightness: np.ndarray) -> np.ndarray:
    return np.rint(brightness * 255).astype(np.uint8)
