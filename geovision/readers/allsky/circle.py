"""Illuminated disk of a fisheye lens, detected in frames or given."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from geovision.errors import InputError, OptionError
from geovision.readers.allsky.frame import Frame

__all__ = ["Circle", "circle_mask", "find_circle"]

_MAX_FRAMES = 100  # more frames do not improve the mean image
_RAYS = 360
_MIN_RAYS = 120  # a third of the rim; a fit to fewer points is unreliable
_MIN_INLIER_FRACTION = 0.6  # of the rays: 0.8 on THEMIS frames with trees and reflections, 0.5 on a rectangle
_RIM = 0.3  # fraction of the illuminated level that still counts: vignetting darkens the rim
_NOISE = 5.0  # standard deviations above the dark corners that count as illuminated
_NUM_TRIALS = 400


@dataclass(frozen=True)
class Circle:
    """Circle in an image, in pixels.

    The center of the first pixel is at (0, 0).

    Args:
        x: Column of the center, in pixels.
        y: Row of the center, in pixels.
        radius: Radius, in pixels.

    Raises:
        OptionError: The radius is not above 0, or a number is not finite.
    """

    x: float
    y: float
    radius: float

    def __post_init__(self) -> None:
        if not (np.isfinite([self.x, self.y, self.radius]).all() and self.radius > 0):
            raise OptionError(f"{self} is not a circle; give finite numbers and a radius above 0")


def circle_mask(shape: tuple[int, ...], circle: Circle) -> np.ndarray:
    """Return the mask of the pixels inside a circle.

    Args:
        shape: Shape of the image, ``(y, x)``; further axes are ignored.
        circle: Circle, in pixels.

    Returns:
        True inside the circle, bool, shape ``(y, x)``.
    >>> int(circle_mask((5, 5), Circle(2, 2, 1)).sum())
    5
    """
    y, x = np.ogrid[: shape[0], : shape[1]]
    return (x - circle.x) ** 2 + (y - circle.y) ** 2 <= circle.radius**2


def find_circle(frames: Iterable[Frame | np.ndarray]) -> Circle:
    """Find the illuminated disk in several frames of one camera.

    The disk is found in the mean of the frames. The corners of the image must be dark. Rays start at the
    center of the brighter pixels and end where the sky ends. The circle that agrees with most of the ray ends
    is fitted to them. It is therefore robust to the moon, trees, a reflecting ring around the lens, and a rim
    partly outside the sensor.

    Args:
        frames: Some tens of frames, spread over time; at most the first 100 are read. Pixels have shape
            ``(y, x)`` or ``(y, x, 3)``, and all frames the same size.

    Returns:
        Fitted circle, in pixels.

    Raises:
        InputError: There are no frames, their sizes differ, or no disk with dark corners is found.
    """
    image = _mean(frames)
    dark, lit = _levels(image)
    threshold = dark + _RIM * (lit - dark)
    y, x = np.nonzero(image > threshold)
    center = float(x.mean()), float(y.mean())
    for _ in range(2):  # the second pass starts at the fitted center, where rays are perpendicular to the rim
        circle = _fit(_rim_points(image, center, threshold), tolerance=max(1.5, min(image.shape) / 128))
        center = circle.x, circle.y
    return circle


def _mean(frames: Iterable[Frame | np.ndarray]) -> np.ndarray:
    total: np.ndarray | None = None
    number = 0
    for frame in itertools.islice(frames, _MAX_FRAMES):
        pixels = np.asarray(frame.pixels if isinstance(frame, Frame) else frame, np.float64)
        gray = pixels.mean(axis=2) if pixels.ndim == 3 else pixels
        if total is not None and gray.shape != total.shape:
            raise InputError(
                f"frames of {total.shape[0]}x{total.shape[1]} and of {gray.shape[0]}x{gray.shape[1]} pixels; "
                "all frames must have the same size"
            )
        total = gray if total is None else total + gray
        number += 1
    if total is None or min(total.shape) < 32:
        raise InputError("no frames of at least 32x32 pixels; give the circle, as it cannot be detected")
    return total / number


def _levels(image: np.ndarray) -> tuple[float, float]:
    """Return the median counts of dark corners and of illuminated pixels."""
    side = max(2, min(image.shape) // 24)
    ends = (slice(None, side), slice(-side, None))
    corners = np.concatenate([image[rows, columns].ravel() for rows in ends for columns in ends])
    dark = float(np.median(corners))
    noise = 1.4826 * float(np.median(np.abs(corners - dark)))
    lit = image[image > dark + _NOISE * noise]
    if lit.size < image.size / 20:
        raise InputError(
            f"no illuminated disk: corners of {dark:.0f} counts, and {lit.size} of {image.size} pixels "
            "brighter; give the circle"
        )
    return dark, float(np.median(lit))


def _rim_points(image: np.ndarray, center: tuple[float, float], threshold: float) -> np.ndarray:
    """Return x and y of the ends of rays, shape ``(ray, 2)``.

    A ray starts at the center and ends where it leaves the sky. Rays that do not leave the sky are omitted.
    """
    radii = np.arange(min(image.shape) / 8, np.hypot(*image.shape), 0.5)
    angles = np.linspace(0, 2 * np.pi, _RAYS, endpoint=False)[:, None]
    x, y = center[0] + radii * np.cos(angles), center[1] + radii * np.sin(angles)
    values = _sample(image, x, y)
    # Two dark samples (one pixel) are required, so that a single dark pixel does not end a ray.
    ended = (values[:, :-1] < threshold) & (values[:, 1:] < threshold)
    rays = np.flatnonzero(ended.any(axis=1))
    ends = ended[rays].argmax(axis=1)
    at = radii[0] + 0.5 * np.array(
        [_half_maximum_index(values[ray], end) for ray, end in zip(rays, ends, strict=True)]
    )
    return np.stack([center[0] + at * np.cos(angles[rays, 0]), center[1] + at * np.sin(angles[rays, 0])], 1)


def _half_maximum_index(values: np.ndarray, end: int) -> float:
    """Return the fractional sample of half the level inside a ray."""
    inside = float(np.median(values[max(0, end - 12) : max(1, end - 3)]))
    outside = float(np.nanmin(values[end : end + 8]))
    half = (inside + outside) / 2
    near = range(max(1, end - 6), min(end + 8, len(values)))
    below = next((at for at in near if values[at] <= half), end)
    before, after = values[below - 1], values[below]
    return below - 1 + float(np.clip((before - half) / (before - after), 0, 1)) if before > after else below


def _sample(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Interpolate bilinearly; NaN, which fails every comparison, outside the image."""
    height, width = image.shape
    # The outermost pixels are excluded: some sensors read their first column wrongly.
    inside = (x >= 1) & (y >= 1) & (x <= width - 2) & (y <= height - 2)
    column = np.clip(x, 0, width - 2).astype(int)
    row = np.clip(y, 0, height - 2).astype(int)
    right, down = x - column, y - row
    upper = image[row, column] * (1 - right) + image[row, column + 1] * right
    lower = image[row + 1, column] * (1 - right) + image[row + 1, column + 1] * right
    return np.where(inside, upper * (1 - down) + lower * down, np.nan)


def _fit(points: np.ndarray, tolerance: float) -> Circle:
    """Fit the circle that agrees with most points."""
    if len(points) < _MIN_RAYS:
        raise InputError(
            f"the rim of the disk is visible in {len(points)} of {_RAYS} directions; give the circle"
        )
    triples = np.random.default_rng(0).integers(len(points), size=(_NUM_TRIALS, 3))
    triples = triples[(np.diff(np.sort(triples), axis=1) > len(points) // 12).all(axis=1)]
    candidates = [_least_squares(points[triple]) for triple in triples]
    fits = [_distance(points, candidate) < tolerance for candidate in candidates]
    inliers = max(fits, key=np.count_nonzero)
    for _ in range(3):
        x, y, radius = _least_squares(points[inliers])
        inliers = _distance(points, (x, y, radius)) < tolerance
    number = np.count_nonzero(inliers)
    if number < max(_MIN_RAYS, _MIN_INLIER_FRACTION * len(points)):
        raise InputError(f"the rim is circular in only {number} of {len(points)} directions; give the circle")
    return Circle(x, y, radius)


def _least_squares(points: np.ndarray) -> tuple[float, float, float]:
    """Fit a circle by Kasa's method.

    The equation x² + y² = 2 a x + 2 b y + c is linear in the center (a, b).
    """
    design = np.column_stack([2 * points, np.ones(len(points))])
    (x, y, rest), *_ = np.linalg.lstsq(design, (points**2).sum(axis=1), rcond=None)
    return float(x), float(y), float(np.sqrt(max(rest + x**2 + y**2, 1e-12)))


def _distance(points: np.ndarray, circle: tuple[float, float, float]) -> np.ndarray:
    return np.abs(np.hypot(points[:, 0] - circle[0], points[:, 1] - circle[1]) - circle[2])
