"""Detections in a probability map, with center, radius and GeoJSON output."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geovision.errors import InputError, MissingExtraError, UnreadableFileError
from geovision.inference.mosaic import Mosaic
from geovision.inference.sliding_window import PatchSource
from geovision.readers.sar import MapGrid, rasterio_module

__all__ = ["Detection", "detection_fractions", "find_detections", "find_peaks", "mask_fraction", "to_geojson"]


@dataclass(frozen=True)
class Detection:
    """Detection with a high probability of the positive class.

    Attributes:
        row: Row of the center on the grid of the map, in cells from the outer corner.
        column: Column of the center on the grid of the map, in cells from the outer corner.
        longitude: Longitude of the center, degrees, WGS84.
        latitude: Latitude of the center, degrees, WGS84.
        radius: Radius of the disk with the same area as the cells that reach the threshold, in km.
        probability: Maximum probability in these cells.
        valid: Fraction of the disk with valid data.
        mask_fractions: Fraction of the disk that each mask covers, by name; None if the mask has no data
            there.
    """

    row: float
    column: float
    longitude: float
    latitude: float
    radius: float
    probability: float
    valid: float = math.nan
    mask_fractions: Mapping[str, float | None] = field(default_factory=dict)


def find_peaks(
    probability: NDArray[np.floating], *, threshold: float, separation: float
) -> list[tuple[float, float, float, float]]:
    """Find the peaks of a probability map.

    The peaks are in descending order of the smoothed probability. Probabilities that reach the threshold are
    smoothed over half the separation, so that the peak of a plateau is in its center. A peak is the maximum
    within the separation. Each cell that reaches the threshold is assigned to the nearest peak within the
    separation. The position of a peak is the centroid of its cells, weighted by their excess over the
    threshold.

    Args:
        probability: Probabilities, shape (y, x), NaN in cells without a prediction.
        threshold: Minimum probability, 0 to 1.
        separation: Minimum distance of two peaks, in cells.

    Returns:
        (row, column, radius, probability) of each peak. Rows and columns are counted from the outer corner of
        the first cell; the radius is in cells.

    Raises:
        MissingExtraError: If scipy is not installed.
    """
    try:
        from scipy import ndimage
    except ImportError as error:
        raise MissingExtraError("scipy", "geo") from error
    high = np.where(np.nan_to_num(probability, nan=0.0) >= threshold, probability, 0.0)
    if not high.any():
        return []
    smooth = ndimage.gaussian_filter(high.astype(np.float64), separation / 2, mode="constant", truncate=3)
    highest = ndimage.maximum_filter(smooth, size=2 * math.floor(separation / 2) + 1, mode="constant")
    rows, columns = np.nonzero((smooth >= highest) & (smooth > 0))
    order = np.lexsort((columns, rows, -smooth[rows, columns]))
    kept: list[tuple[int, int]] = []
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if all(math.hypot(row - r, column - c) > separation for r, c in kept):
            kept.append((row, column))
    return _peak_candidates(high, kept, threshold, separation)


def _peak_candidates(
    high: NDArray[np.floating], peaks: Sequence[tuple[int, int]], threshold: float, separation: float
) -> list[tuple[float, float, float, float]]:
    rows, columns = np.nonzero(high)
    distances = [np.hypot(rows - r, columns - c) for r, c in peaks]
    nearest, closest = np.zeros(len(rows), int), distances[0]
    for number, own in enumerate(distances[1:], 1):
        nearer = own < closest
        nearest[nearer], closest = number, np.where(nearer, own, closest)
    found = []
    for number in range(len(peaks)):
        own = (nearest == number) & (closest <= separation)
        if not own.any():
            continue
        # The excess over the threshold as weight keeps weak outskirts from shifting the center. The small
        # constant gives equal weights to a plateau exactly at the threshold.
        weights = high[rows[own], columns[own]].astype(np.float64) - threshold + 1e-6
        center = [float((weights * (axis[own] + 0.5)).sum() / weights.sum()) for axis in (rows, columns)]
        found.append(
            (
                center[0],
                center[1],
                math.sqrt(own.sum() / math.pi),
                float(high[rows[own], columns[own]].max()),
            )
        )
    return found


# --- valid and masked fractions -------------------------------------------------------------------


def detection_fractions(
    detection: Detection, source: PatchSource, masks: Mapping[str, str | Path]
) -> tuple[float, dict[str, float | None]]:
    """Return the valid and the masked fractions of a detection's disk.

    Args:
        detection: Detection on the grid of the source.
        source: Source of the scene.
        masks: Paths of the mask rasters by name.

    Returns:
        Valid fraction, 0 to 1; and covered fraction by mask name, None if the mask has no data there.

    Raises:
        UnreadableFileError: If a mask cannot be read.
        InputError: If a mask has no coordinate reference system.
    """
    row, column, disk = _disk(detection, source.grid)
    valid = source.read(row, column, disk.shape).any_valid
    part = source.grid.window(row, column, disk.shape)
    return float(valid[disk].mean()), {name: mask_fraction(path, part, disk) for name, path in masks.items()}


def _disk(detection: Detection, grid: MapGrid) -> tuple[int, int, NDArray[np.bool_]]:
    """Return the box around a detection and the mask of its disk.

    The box is given by its first row and column, and by the shape of the mask.
    """
    radius = max(1000 * detection.radius / grid.cell_size[0], 0.5)
    begin = [max(math.floor(place - radius), 0) for place in (detection.row, detection.column)]
    end = [
        min(math.ceil(place + radius), side)
        for place, side in zip((detection.row, detection.column), grid.shape, strict=True)
    ]
    rows, columns = (np.arange(a, b) + 0.5 for a, b in zip(begin, end, strict=True))
    away = np.hypot(rows[:, None] - detection.row, columns[None, :] - detection.column)
    return begin[0], begin[1], away <= max(radius, float(away.min()))


def mask_fraction(path: str | Path, grid: MapGrid, region: NDArray[np.bool_]) -> float | None:
    """Return the fraction of cells in a region that a mask covers.

    A cell is covered if the mask has valid data there that differ from 0.

    Args:
        path: Path of a raster in any projection; its first band is used.
        grid: Grid of the region.
        region: Cells of the region, bool, shape (y, x).

    Returns:
        Covered fraction of the cells with mask data, 0 to 1; None if there are none.

    Raises:
        UnreadableFileError: If the mask cannot be read.
        InputError: If the mask has no coordinate reference system.
    """
    rasterio = rasterio_module()
    try:
        with rasterio.open(path) as mask:
            if mask.crs is None:
                raise InputError(
                    f"{path}: has no coordinate reference system; use a georeferenced raster as mask"
                )
            settings: dict[str, Any] = {} if mask.nodata is not None else {"add_alpha": True}
            height, width = grid.shape
            with rasterio.vrt.WarpedVRT(
                mask, crs=grid.rasterio_crs, transform=grid.affine, height=height, width=width, **settings
            ) as warped:
                values, known = warped.read(1), warped.read_masks(1) > 0
    except rasterio.errors.RasterioError as error:
        raise UnreadableFileError(f"{path}: not readable as a mask raster ({error})") from error
    known = known & region & np.isfinite(values)
    return float((values[known] != 0).mean()) if known.any() else None


# --- GeoJSON ----------------------------------------------------------------------------------------


def to_geojson(
    detections: Sequence[Detection],
    *,
    label: str,
    name: str,
    time: datetime.datetime | None,
    metadata: Mapping[str, Any],
) -> str:
    """Return detections as a GeoJSON feature collection of points (RFC 7946).

    Coordinates are longitude (-180 to 180) and latitude in degrees, WGS84.

    Args:
        detections: Detections in order.
        label: Label of the detected class.
        name: Name of the detected class.
        time: Time of the scene, UTC; None if not known.
        metadata: Provenance of the detections, written as the member ``geovision`` of the collection.
    """
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": [round(each.longitude, 5), round(each.latitude, 5)]},
            "properties": {
                "label": label,
                "name": name,
                "probability": round(each.probability, 4),
                "radius_km": round(each.radius, 1),
                "time": None if time is None else time.isoformat().replace("+00:00", "Z"),
                "valid_fraction": round(each.valid, 3),
            }
            | {
                f"{mask}_fraction": None if share is None else round(share, 3)
                for mask, share in each.mask_fractions.items()
            },
        }
        for each in detections
    ]
    whole = {"type": "FeatureCollection", "features": features, "geovision": dict(metadata)}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def find_detections(
    mosaic: Mosaic, source: PatchSource, threshold: float, separation: float, masks: Mapping[str, str | Path]
) -> list[Detection]:
    """Return the detections in a mosaic with a single layer.

    The list is empty if the mosaic has several layers.

    Args:
        mosaic: Merged predictions of one class.
        source: Source of the predicted scene.
        threshold: Minimum probability, 0 to 1.
        separation: Minimum distance of two detections, in km.
        masks: Paths of mask rasters by name; the fraction of each detection that they cover is computed.
    """
    if len(mosaic.layers) != 1:
        return []
    found = []
    cell = mosaic.grid.cell_size[0] * mosaic.reduction_factor / 1000  # km
    for row, column, radius, probability in find_peaks(
        mosaic.reduced, threshold=threshold, separation=separation / cell
    ):
        row, column = row * mosaic.reduction_factor, column * mosaic.reduction_factor
        place = Detection(row, column, *mosaic.grid.lonlat(row, column), radius * cell, probability)
        of_source = dataclasses.replace(
            place, row=row / mosaic.scale_factor, column=column / mosaic.scale_factor
        )
        valid, covered = detection_fractions(of_source, source, masks)
        found.append(dataclasses.replace(place, valid=valid, mask_fractions=covered))
    return found
