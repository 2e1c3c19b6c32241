"""Reader of windows of SAR scenes in GeoTIFF or COG.

Scenes have two polarizations and a declared quantity. Pixels without data are those with the declared value,
those of the mask or alpha band, NaN, infinity, and exactly 0 in every polarization. The last is the padding
of scenes, in any quantity.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geovision.errors import InputError, OptionError, UnreadableFileError
from geovision.readers.sar.map_grid import MapGrid, rasterio_module, suppress_georeference_warning
from geovision.readers.sar.quantities import BandQuantiles, check_median, check_range, find_quantity

__all__ = ["POLARIZATIONS", "RadarScene", "acquisition_time", "open_scene"]

POLARIZATIONS: Mapping[str, tuple[str, ...]] = {"co_pol": ("vv", "hh"), "cross_pol": ("vh", "hv")}
"""Transmitted and received polarization, vertical or horizontal, of each channel."""

_SAMPLES, _SIDE = 16, 64  # number of sample windows along each side, and their side in pixels
_MAX_LONGITUDE_SPAN = 350.0  # degrees of longitude
_TIME_TAGS = ("datetime", "DATETIME", "ACQUISITION_DATETIME", "acquisition_time", "start_time")
_TIME_IN_NAME = re.compile(r"(?<!\d)(\d{8}T\d{6})(?!\d)")


@dataclass(frozen=True)
class RadarScene:
    """Scene on disk, without data in memory.

    Attributes:
        path: Path of the file.
        channels: Names of the polarizations in a model, in its order.
        bands: Band numbers in the file, from 1, in the same order.
        quantity: Declared quantity, one of `geovision.readers.sar.quantities.QUANTITIES`.
        grid: Grid of the pixels on the map.
        nodata: Value that marks missing data, in addition to that of the file. Default: None.
        time: Acquisition time, UTC; None if unknown.
    """

    path: str
    channels: tuple[str, ...]
    bands: tuple[int, ...]
    quantity: str
    grid: MapGrid
    nodata: float | None = None
    time: datetime.datetime | None = None

    @contextmanager
    def open_reader(self) -> Iterator[SceneReader]:
        """Open the file for reading in one thread.

        Yields:
            Reader of the scene.
        """
        with _opened(self.path) as dataset:
            yield SceneReader(self, dataset)

    def check_values(self) -> tuple[BandQuantiles, ...]:
        """Check that values fit the declared quantity.

        Quantiles of a sample over the whole scene are compared with the quantity.

        Returns:
            Quantiles of each band.

        Raises:
            InputError: All sampled data are missing, or values are those of another quantity.
        """
        with self.open_reader() as reader:
            values, valid = reader.read_samples()
        if not valid.any():
            raise InputError(
                f"{self.path}: no data in {valid.size:,} pixels sampled over the scene; check --nodata"
            )
        found = tuple(
            BandQuantiles(band, *map(float, np.quantile(own[valid], (0.01, 0.5, 0.99))))
            for band, own in zip(self.bands, values, strict=True)
        )
        for sampled in found:
            check_median(self.quantity, sampled, where=self.path)
        check_range(self.quantity, values, where=self.path)
        return found


class SceneReader:
    """Reader of an open scene.

    Args:
        scene: Scene on disk.
        dataset: Open dataset of rasterio.
    """

    def __init__(self, scene: RadarScene, dataset: Any) -> None:
        self.scene, self.dataset = scene, dataset
        scales = [(dataset.scales[band - 1], dataset.offsets[band - 1]) for band in scene.bands]
        self.scales = None if set(scales) == {(1.0, 0.0)} else np.array(scales, np.float32)

    def read(
        self, row: int, column: int, shape: tuple[int, int]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Read a window of the scene.

        There are no data beyond the edges of the scene.

        Args:
            row: First row of the window.
            column: First column of the window.
            shape: Number of rows and columns.

        Returns:
            Values in the declared quantity, float32, shape ``(channel, y, x)``, 0 where there are no data;
            and the valid mask, bool, shape ``(y, x)``.

        Raises:
            UnreadableFileError: The file is damaged in this window.
            InputError: A value is outside the range of the quantity.
        """
        values, valid = self._part(row, column, shape)
        check_range(self.scene.quantity, values, where=self.scene.path)
        return values, valid

    def _part(
        self, row: int, column: int, shape: tuple[int, int]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        values = np.zeros((len(self.scene.bands), *shape), np.float32)
        valid = np.zeros(shape, bool)
        height, width = self.scene.grid.shape
        top, left = max(row, 0), max(column, 0)
        bottom, right = min(row + shape[0], height), min(column + shape[1], width)
        if bottom > top and right > left:
            inside = (slice(top - row, bottom - row), slice(left - column, right - column))
            window = rasterio_module().windows.Window(left, top, right - left, bottom - top)
            values[:, *inside], valid[inside] = self._read(window)
        return values, valid

    def _read(self, window: Any) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        bands = list(self.scene.bands)
        try:
            raw = self.dataset.read(bands, window=window)
            valid = self.dataset.read_masks(bands, window=window).all(axis=0)
        except rasterio_module().errors.RasterioError as error:
            rows = f"rows {window.row_off} to {window.row_off + window.height - 1}"
            reason = str(error.__cause__ or error).rstrip(".")
            raise UnreadableFileError(
                f"{self.scene.path}: damaged in {rows} ({reason}); copy it again from its source"
            ) from error
        valid &= (raw != 0).any(axis=0)
        if self.scene.nodata is not None:
            valid &= (raw != self.scene.nodata).all(axis=0)
        values = raw.astype(np.float32, copy=False)
        if self.scales is not None:
            values = values * self.scales[:, 0, None, None] + self.scales[:, 1, None, None]
        valid &= np.isfinite(values).all(axis=0)
        return np.where(valid, values, np.float32(0)), valid

    def read_samples(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Read small windows all over the scene.

        Returns:
            Values, shape ``(channel, pixel)``, and the valid mask, shape ``(pixel,)``.
        """
        shape = self.scene.grid.shape
        side = (min(_SIDE, shape[0]), min(_SIDE, shape[1]))
        starts = [
            np.unique(np.linspace(0, n - s, _SAMPLES).astype(int)) for n, s in zip(shape, side, strict=True)
        ]
        values, valid = zip(
            *(self._part(int(row), int(column), side) for row in starts[0] for column in starts[1]),
            strict=True,
        )
        flat = [own.reshape(len(own), -1) for own in values]
        return np.concatenate(flat, axis=1), np.concatenate([own.ravel() for own in valid])


# --- opening ------------------------------------------------------------------------------------


def open_scene(
    path: str | Path,
    channels: Sequence[str],
    *,
    quantity: str,
    bands: Mapping[str, int] | None = None,
    nodata: float | None = None,
    time: datetime.datetime | None = None,
) -> RadarScene:
    """Open a scene and declare what its file lacks.

    Args:
        path: GeoTIFF, COG, or another georeferenced raster that rasterio reads.
        channels: Channels of a model, ``"co_pol"`` and ``"cross_pol"``, in its order.
        quantity: Quantity of the values: ``"db"``, ``"power"``, ``"amplitude"`` or ``"counts"``.
        bands: Band number of each channel, from 1. Default: None, by the descriptions in the file, where
            VV and HH are co-polarized, and VH and HV cross-polarized.
        nodata: Value that marks missing data, in addition to that of the file. Default: None.
        time: Acquisition time, UTC. Default: None, the time in the tags or the name of the file.

    Returns:
        Scene.

    Raises:
        UnreadableFileError: The file is missing, or rasterio cannot read it.
        InputError: The file is not georeferenced, contains complex numbers, or lacks a polarization or
            its description.
        OptionError: The file does not have a band, or the quantity is unknown.
    """
    where = str(path)
    _check_quantity(quantity)
    with suppress_georeference_warning(), _opened(where) as dataset:
        _check_supported(dataset, where)
        numbers = _bands(dataset, tuple(channels), bands, where)
        if quantity == "counts" and any(dataset.dtypes[band - 1] != "uint8" for band in numbers):
            raise InputError(
                f"{where}: counts of type {dataset.dtypes[numbers[0] - 1]}; expected 8-bit integers (uint8)"
            )
        grid = MapGrid(dataset.crs.to_wkt(), tuple(dataset.transform)[:6], (dataset.height, dataset.width))
        acquired = time if time is not None else acquisition_time(dataset.tags(), where)
    return RadarScene(where, tuple(channels), numbers, quantity, grid, nodata, acquired)


def _check_quantity(name: str) -> None:
    find_quantity(name)


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    rasterio = rasterio_module()
    if "://" not in path and not path.startswith("/vsi") and not Path(path).exists():
        raise UnreadableFileError(f"{path}: no such file; check the path")
    try:
        dataset = rasterio.open(path)
    except rasterio.errors.RasterioError as error:
        raise UnreadableFileError(f"{path}: not a raster that rasterio can read ({error})") from error
    with dataset:
        yield dataset


def _check_supported(dataset: Any, where: str) -> None:
    if dataset.crs is None or dataset.transform.is_identity:
        points = (
            " but with ground control points, for which one affine transform has errors of kilometers"
            if dataset.gcps[0]
            else ""
        )
        raise InputError(
            f"{where}: not georeferenced{points}; warp it first, for instance "
            "gdalwarp -tps -t_srs EPSG:3995 -r average"
        )
    if not dataset.transform.determinant:
        raise InputError(f"{where}: its pixels have no extent on the map; check its transform")
    if dataset.crs.is_geographic and dataset.bounds.right - dataset.bounds.left > _MAX_LONGITUDE_SPAN:
        raise InputError(
            f"{where}: extends around the whole globe, so cells would be averaged across its edge. Warp a "
            "scene over the antimeridian or the pole first: gdalwarp -t_srs EPSG:3995 -r average"
        )
    if any("complex" in kind for kind in dataset.dtypes):
        raise InputError(f"{where}: complex numbers; expected sigma0, detected and calibrated")


def _bands(
    dataset: Any, channels: tuple[str, ...], given: Mapping[str, int] | None, where: str
) -> tuple[int, ...]:
    if given is None:
        return tuple(_band_by_description(dataset, channel, channels, where) for channel in channels)
    if set(given) != set(channels):
        raise OptionError(
            f"bands are given for {', '.join(given) or 'none'}; the model needs {', '.join(channels)}"
        )
    for channel, band in given.items():
        if not 1 <= band <= dataset.count:
            raise OptionError(f"{where}: no band {band} for {channel}; the file has {dataset.count}")
    if len(set(given.values())) < len(given):
        raise OptionError(f"{where}: one band is given for {' and '.join(given)}; give different bands")
    return tuple(given[channel] for channel in channels)


def _band_by_description(dataset: Any, channel: str, channels: tuple[str, ...], where: str) -> int:
    """Return the only band whose description contains a polarization of this channel."""
    polarizations = POLARIZATIONS.get(channel, (channel,))
    words = [
        set(re.split(r"[^a-z]+", (text or "").lower())) | {(text or "").lower()}
        for text in dataset.descriptions
    ]
    found = [number for number, own in enumerate(words, 1) if own & {*polarizations, channel}]
    if len(found) == 1:
        return found[0]
    described = ", ".join(
        f"{number}: {text or 'no description'}" for number, text in enumerate(dataset.descriptions, 1)
    )
    if not found and dataset.count < len(channels):
        raise InputError(
            f"{where}: {dataset.count} band ({described}), but the model needs {', '.join(channels)}. Join "
            "the polarizations in one file, for instance with gdalbuildvrt -separate"
        )
    example = ",".join(f"{name}={number}" for number, name in enumerate(channels, 1))
    problem = "several bands match" if found else "no band matches"
    raise InputError(
        f"{where}: {problem} {channel} ({' or '.join(polarizations)}) in {described}; choose one with "
        f"--bands {example}"
    )


def acquisition_time(tags: Mapping[str, str], name: str) -> datetime.datetime | None:
    """Return the UTC acquisition time from tags or file name.

    The tags take precedence; otherwise the first time in the name is used.

    >>> acquisition_time({}, "S1A_EW_GRDM_1SDH_20191012T084028_20191012T084212_029437_0359D9_4B5C.tif").hour
    8

    Args:
        tags: Tags of the file.
        name: Path or name of the file.

    Returns:
        Acquisition time; None if unknown.
    """
    for tag in _TIME_TAGS:
        with_zone = _parse_time(tags.get(tag, ""))
        if with_zone is not None:
            return with_zone
    found = _TIME_IN_NAME.search(Path(name).name)
    return _parse_time(found[1]) if found else None


def _parse_time(text: str) -> datetime.datetime | None:
    # Python parses at most microseconds.
    text = re.sub(r"(\.\d{6})\d+", r"\1", text.strip())
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.replace(tzinfo=datetime.UTC) if moment.tzinfo is None else moment.astimezone(datetime.UTC)
