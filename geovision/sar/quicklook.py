"""Quicklook of a scene with its detections and a graticule.

There are no coastlines, since the package does not contain the data for them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geovision.plots import new_figure
from geovision.readers.sar import MapGrid
from geovision.sar.detections import Detection

__all__ = ["graticule", "plot_quicklook"]

_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0)
_NUM_LINES = 5  # approximate number of meridians, and of parallels
_CONTOUR_LEVELS = (0.25, 0.5, 0.75, 1.0)


def plot_quicklook(
    image: NDArray[np.floating],
    probability: NDArray[np.floating],
    grid: MapGrid,
    detections: Sequence[Detection],
    *,
    layer: str,
    title: str,
) -> Any:
    """Plot the scene in gray, with the probability map and numbered detections.

    Args:
        image: Scene, shape (y, x), NaN in cells without data; at any resolution, covering the whole grid.
        probability: Probability map, shape (y, x), also at any resolution.
        grid: Grid that both cover.
        detections: Detections, drawn as numbered circles.
        layer: Name of the predicted class, for the color bar.
        title: Title of the figure.

    Returns:
        The figure.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    rows, columns = grid.shape
    width = 7.0
    figure = new_figure(width + 1.0, float(np.clip(width * rows / columns, 2.5, 14)) + 0.6)
    axes = figure.subplots()
    extent = (0, columns, rows, 0)
    seen = image[np.isfinite(image)]
    low, high = np.percentile(seen, (1, 99)) if seen.size else (0, 1)
    axes.set_facecolor("0.85")
    axes.imshow(image, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), extent=extent, interpolation="none")
    # The opacity increases with the probability, so that the scene is visible elsewhere.
    strength = 0.6 * np.nan_to_num(probability)
    overlay = axes.imshow(
        probability, cmap="autumn_r", vmin=0, vmax=1, alpha=strength, extent=extent, interpolation="nearest"
    )
    figure.colorbar(overlay, ax=axes, label=f"probability of {layer}", shrink=0.6, aspect=30)
    _draw_graticule(axes, grid)
    for number, each in enumerate(detections, 1):
        _draw_detection(axes, each, grid, number)
    axes.set_xlim(0, columns)
    axes.set_ylim(rows, 0)
    axes.set_title(title, fontsize=9)
    return figure


def _draw_detection(axes: Any, detection: Detection, grid: MapGrid, number: int) -> None:
    around = np.linspace(0, 2 * math.pi, 90)
    radius = 1000 * detection.radius / grid.cell_size[0]
    x, y = detection.column + radius * np.cos(around), detection.row + radius * np.sin(around)
    axes.plot(x, y, color="cyan", linewidth=1.6)
    axes.plot(detection.column, detection.row, "+", color="cyan", markersize=9)
    axes.annotate(
        f"{number}: {detection.probability:.2f}",
        (detection.column, detection.row),
        xytext=(6, 6),
        textcoords="offset points",
        color="cyan",
        fontsize=9,
        clip_on=True,
    )


# --- graticule --------------------------------------------------------------------------------------


def _draw_graticule(axes: Any, grid: MapGrid) -> None:
    """Draw labeled meridians and parallels."""
    for text, columns, rows in graticule(grid):
        axes.plot(columns, rows, color="white", linewidth=0.7, alpha=0.8)
        inside = np.flatnonzero(np.isfinite(columns))
        place = inside[len(inside) // 6 if text[-1] in "NS" else len(inside) * 5 // 6]
        axes.annotate(
            text,
            (columns[place], rows[place]),
            color="white",
            fontsize=7,
            xytext=(2, 2),
            textcoords="offset points",
            clip_on=True,
            bbox={"facecolor": "black", "alpha": 0.4, "pad": 0.5, "linewidth": 0},
        )
    axes.set_xticks([])
    axes.set_yticks([])


def graticule(grid: MapGrid) -> list[tuple[str, NDArray[np.floating], NDArray[np.floating]]]:
    """Return the meridians and parallels that cross a grid.

    Args:
        grid: Grid of the figure.

    Returns:
        Label, columns and rows of each line; NaN outside of the grid.
    """
    rows, columns = (np.linspace(0, side, 41) for side in grid.shape)
    r, c = np.meshgrid(rows, columns, indexing="ij")
    longitude, latitude = grid.points(r, c, "EPSG:4326")
    known = np.isfinite(longitude) & np.isfinite(latitude)
    longitude, latitude = longitude[known], latitude[known]
    west, east = _longitude_arc(longitude)
    # The margin includes lines that cross the grid between the sampled points.
    south, north = max(latitude.min() - 1, -90.0), min(latitude.max() + 1, 90.0)
    found = []
    for meridian in _round_values(west, east):
        along = np.linspace(south, min(north, 89.9), 300)
        found.append((_label(meridian, "EW"), *_to_pixels(grid, np.full_like(along, meridian), along)))
    for parallel in _round_values(latitude.min(), latitude.max()):
        along = np.linspace(west - 1, east + 1, 600)
        found.append((_label(parallel, "NS"), *_to_pixels(grid, along, np.full_like(along, parallel))))
    return [line for line in found if np.isfinite(line[1]).any()]


def _longitude_arc(longitude: NDArray[np.floating]) -> tuple[float, float]:
    """Return the shortest arc that contains all longitudes.

    The end of the arc may be above 180 degrees.
    """
    ordered = np.sort(longitude % 360)
    gaps = np.diff(np.append(ordered, ordered[0] + 360))
    widest = int(gaps.argmax())
    if gaps[widest] < 45:  # around the pole
        return -180.0, 179.0
    west = float(ordered[(widest + 1) % len(ordered)])
    width = 360 - float(gaps[widest])
    west = (west + 180) % 360 - 180
    return west, west + width


def _round_values(low: float, high: float) -> NDArray[np.floating]:
    step = next((step for step in _STEPS if (high - low) / step <= _NUM_LINES + 1), _STEPS[-1])
    return np.arange(math.ceil(low / step), math.floor(high / step) + 1) * step


def _label(degrees: float, sides: str) -> str:
    folded = (degrees + 180) % 360 - 180 if sides == "EW" else degrees
    side = "" if folded == 0 or abs(folded) == 180 else sides[int(folded < 0)]
    return f"{abs(folded):g}°{side}"


def _to_pixels(
    grid: MapGrid, longitude: NDArray[np.floating], latitude: NDArray[np.floating]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    place = MapGrid("EPSG:4326", (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), grid.shape)
    x, y = place.points(latitude, longitude, grid.crs)
    rows, columns = grid.rowcol(x, y)
    outside = ~((columns >= 0) & (columns <= grid.shape[1]) & (rows >= 0) & (rows <= grid.shape[0]))
    return np.where(outside, np.nan, columns), np.where(outside, np.nan, rows)
