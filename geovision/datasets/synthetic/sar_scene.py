"""Synthetic radar scenes on a map, with known positions of polar lows.

A scene consists of images of `sar_sea`, one below the other, in one GeoTIFF in decibels, power or counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geovision.datasets.synthetic.sar_sea import EXTENT, compose_pass, render
from geovision.errors import OptionError
from geovision.physics.backscatter import DEFAULT_DB_RANGES, counts_to_db, db_to_power
from geovision.readers.sar import MapGrid, rasterio_module

__all__ = ["SyntheticPolarLow", "write"]

_RENDER_PIXEL_SIZE = 400.0  # m; finer pixels are copies of these, because drawing them is slow
_NAMES = {"cross_pol": "VH", "co_pol": "VV"}


@dataclass(frozen=True)
class SyntheticPolarLow:
    """Polar low in a scene.

    Attributes:
        longitude: Longitude of the eye, in degrees (WGS84).
        latitude: Latitude of the eye, in degrees (WGS84).
        radius: Radius of the eye, in m.
    """

    longitude: float
    latitude: float
    radius: float


def write(
    path: Path,
    kinds: Sequence[str] = ("polar-low",),
    *,
    seed: int,
    pixel_size: float = 40.0,
    crs: str = "EPSG:32633",
    corner: tuple[float, float] = (300_000.0, 8_300_000.0),
    quantity: str = "db",
) -> list[SyntheticPolarLow]:
    """Write one scene of the given kinds.

    The scene is 400 km wide, and 400 km long per kind. The GeoTIFF is tiled and compressed, with bands named
    VH and VV. Its data type is float32, with NaN where the radar has no data; for counts uint8, with 0.

    Args:
        path: Path of the GeoTIFF.
        kinds: Kinds of `geovision.datasets.synthetic.sar_sea.KINDS`, from the upper edge down. Default: one
            polar low.
        seed: Seed of all random numbers.
        pixel_size: Pixel size, in m: 400, an integer fraction of it, or coarser. Default: 40.
        crs: Map projection in m. Default: ``"EPSG:32633"``.
        corner: x and y of the upper left corner, in m. Default: (300000, 8300000).
        quantity: ``"db"``, ``"power"`` or ``"counts"``. Default: ``"db"``.

    Returns:
        The polar lows, in the order of `kinds`.

    Raises:
        OptionError: The kind or the quantity is unknown.
    """
    if quantity not in ("db", "power", "counts"):
        raise OptionError(f"quantity {quantity!r} is unknown; choose db, power or counts")
    rasterio = rasterio_module()
    copies = max(round(_RENDER_PIXEL_SIZE / pixel_size), 1)
    side = round(EXTENT / (pixel_size * copies)) * copies
    shape = (side * len(kinds), side)
    grid = MapGrid(crs, (pixel_size, 0.0, corner[0], 0.0, -pixel_size, corner[1]), shape)
    counts = quantity == "counts"
    over = compose_pass(np.random.default_rng([seed, 0]), seed)
    planted = []
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        dtype="uint8" if counts else "float32",
        count=2,
        height=shape[0],
        width=shape[1],
        crs=crs,
        transform=grid.affine,
        nodata=0 if counts else np.nan,
        tiled=True,
        blockxsize=512,
        blockysize=512,
        compress="deflate",
        zlevel=1,
        bigtiff="if_safer",
    ) as dataset:
        dataset.descriptions = tuple(_NAMES.values())
        dataset.update_tags(datetime=over.start.isoformat() + "Z")
        for number, kind in enumerate(kinds):
            rng = np.random.default_rng([seed, 1, number])
            drawn = render(kind, over, rng, pixel_size=pixel_size * copies)
            for row, part in _strips(drawn.counts, quantity):
                fine = np.repeat(np.repeat(part, copies, 1), copies, 2)
                window = rasterio.windows.Window(0, number * side + row * copies, side, fine.shape[1])
                dataset.write(fine, window=window)
            if drawn.eye is not None:
                place = [(each + 0.5) * copies for each in (drawn.eye.row, drawn.eye.column)]
                longitude, latitude = grid.lonlat(place[0] + number * side, place[1])
                planted.append(SyntheticPolarLow(longitude, latitude, drawn.eye.radius * copies * pixel_size))
    return planted


def _strips(counts: NDArray[np.uint8], quantity: str) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield blocks of rows with the number of their first row.

    The values are in the requested quantity.
    """
    for row in range(0, counts.shape[1], 64):
        part = counts[:, row : row + 64]
        if quantity == "counts":
            yield row, part
            continue
        decibels = np.stack(
            [counts_to_db(own, DEFAULT_DB_RANGES[name]) for name, own in zip(_NAMES, part, strict=True)]
        )
        yield row, decibels if quantity == "db" else db_to_power(decibels)
