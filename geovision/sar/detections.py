"""From a map of probabilities to places: local maxima, each with its centre and radius, as GeoJSON."""

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
    """One place where the looked-for thing is likely.

    Attributes:
        row, column: Centre on the map's grid, cells from its outer corner.
        longitude, latitude: Of the centre, degrees, WGS84.
        radius: Radius of a disk as large as the area around that reaches the threshold, in km.
        probability: The highest of the map there.
        valid: Fraction of that disk that has data.
        mask_fractions: Fraction of the disk that each mask covers, by name; None: the mask does not reach
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
    """Places that reach a threshold, the most conspicuous first.

    What reaches the threshold is smoothed over half the separation, so that a plateau has its peak in
    its middle. A peak is the highest within the separation. The cells that reach the threshold belong
    to the nearest peak within the separation, and their centre, weighted by their excess, is the place.

    Args:
        probability: ``(y, x)``, NaN where nothing is known.
        threshold: Least probability.
        separation: Least distance of two places, cells.

    Returns:
        (row, column, radius, probability) of each; rows and columns from the outer corner of the first
        cell, the radius in cells.

    Raises:
        MissingExtraError: scipy is not installed.
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
    is_high: NDArray[np.floating], probability: Sequence[tuple[int, int]], threshold: float, separation: float
) -> list[tuple[float, float, float, float]]:
    rows, columns = np.nonzero(is_high)
    distances = [np.hypot(rows - r, columns - c) for r, c in probability]
    nearest, closest = np.zeros(len(rows), int), distances[0]
    for number, own in enumerate(distances[1:], 1):
        nearer = own < closest
        nearest[nearer], closest = number, np.where(nearer, own, closest)
    found = []
    for number in range(len(probability)):
        own = (nearest == number) & (closest <= separation)
        if not own.any():
            continue
        # By how far they exceed the threshold, so that the skirts of a place do not move it; on a
        # plateau at the threshold all alike.
        weights = is_high[rows[own], columns[own]].astype(np.float64) - threshold + 1e-6
        centre = [float((weights * (axis[own] + 0.5)).sum() / weights.sum()) for axis in (rows, columns)]
        found.append(
            (
                centre[0],
                centre[1],
                math.sqrt(own.sum() / math.pi),
                float(is_high[rows[own], columns[own]].max()),
            )
        )
    return found


# --- what is there --------------------------------------------------------------------------------


def detection_fractions(
    detection: Detection, source: PatchSource, masks: Mapping[str, str | Path]
) -> tuple[float, dict[str, float | None]]:
    """Fraction of a detection's disk that has data, and that each mask covers.

    Raises:
        UnreadableFileError, InputError: A mask that cannot be read, or has no place on a map.
    """
    row, column, disk = _disk(detection, source.grid)
    valid = source.read(row, column, disk.shape).any_valid
    part = source.grid.window(row, column, disk.shape)
    return float(valid[disk].mean()), {name: mask_fraction(path, part, disk) for name, path in masks.items()}


def _disk(detection: Detection, grid: MapGrid) -> tuple[int, int, NDArray[np.bool_]]:
    """First row and column of the cells around a detection, and which of them lie in its disk."""
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
    """Fraction of cells that a mask covers: where it is neither 0 nor without data.

    Args:
        path: A raster in any projection; its first band counts.
        grid: The cells.
        region: bool ``(y, x)``: which of them.

    Returns:
        0 to 1, of the cells that the mask knows; None where it knows none.
    """
    rasterio = rasterio_module()
    try:
        with rasterio.open(path) as mask:
            if mask.crs is None:
                raise InputError(f"{path}: no place on a map; a mask needs one")
            settings: dict[str, Any] = {} if mask.nodata is not None else {"add_alpha": True}
            height, width = grid.shape
            with rasterio.vrt.WarpedVRT(
                mask, crs=grid.rasterio_crs, transform=grid.affine, height=height, width=width, **settings
            ) as warped:
                values, known = warped.read(1), warped.read_masks(1) > 0
    except rasterio.errors.RasterioError as error:
        raise UnreadableFileError(f"{path}: no mask that can be read ({error})") from error
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
    """A collection of points after RFC 7946: longitude and latitude on WGS84, -180 to 180.

    Args:
        label, name: Of what was looked for.
        time: Of the scene, UTC.
        metadata: What made it; a member of the collection.
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
    """Return the detections in the first layer of a mosaic; none if it has several layers.

    Args:
        mosaic: Merged predictions of one class.
        source: The raster that was predicted on.
        threshold: Minimum probability, 0 to 1.
        separation: Minimum distance of two detections, in km.
        masks: Name to path of rasters whose covered fraction is reported.
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
