"""Radar scenes as GeoTIFF or COG, read in parts: two polarisations, a declared quantity, a place on a map.

What has no data: the declared value, the mask or alpha band, NaN and infinity, and exactly 0 in every
polarisation, which is what scenes are padded with, in any quantity.
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
"""What is sent and received, vertical or horizontal, by the channel that it is."""

_SAMPLES, _SIDE = 16, 64  # so many windows along each side, of so many pixels
_MAX_LONGITUDE_SPAN = 350.0  # degrees of longitude
_TIME_TAGS = ("datetime", "DATETIME", "ACQUISITION_DATETIME", "acquisition_time", "start_time")
_TIME_IN_NAME = re.compile(r"(?<!\d)(\d{8}T\d{6})(?!\d)")


@dataclass(frozen=True)
class RadarScene:
    """One scene on disk; nothing of it is in memory.

    Attributes:
        path: Of the file.
        channels: What a model calls the polarisations, in its order.
        bands: Their numbers in the file, from 1, in the same order.
        quantity: One of `geovision.readers.sar.quantities.QUANTITIES`, as declared.
        grid: Its cells on the map.
        nodata: A value that stands for no data, beside what the file itself declares.
        time: When it was taken, UTC; None where nobody says.
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
        """Open the file, for reads of one thread."""
        with _opened(self.path) as dataset:
            yield SceneReader(self, dataset)

    def check_values(self) -> tuple[BandQuantiles, ...]:
        """Raise where the numbers cannot be what they are declared to be, by their quantiles over a
        sample of the whole scene; return what was seen, band by band.

        Raises:
            InputError: Nothing but missing data, or numbers of another quantity.
        """
        with self.open_reader() as reader:
            values, valid = reader.read_samples()
        if not valid.any():
            raise InputError(f"{self.path}: no data in {valid.size:,} pixels all over it; check --nodata")
        found = tuple(
            BandQuantiles(band, *map(float, np.quantile(own[valid], (0.01, 0.5, 0.99))))
            for band, own in zip(self.bands, values, strict=True)
        )
        for sampled in found:
            check_median(self.quantity, sampled, where=self.path)
        check_range(self.quantity, values, where=self.path)
        return found


class SceneReader:
    """An open scene.

    Args:
        scene: What it is.
        dataset: Of rasterio.
    """

    def __init__(self, scene: RadarScene, dataset: Any) -> None:
        self.scene, self.dataset = scene, dataset
        scales = [(dataset.scales[band - 1], dataset.offsets[band - 1]) for band in scene.bands]
        self.scales = None if set(scales) == {(1.0, 0.0)} else np.array(scales, np.float32)

    def read(
        self, row: int, column: int, shape: tuple[int, int]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """A part of the scene, which may reach beyond it; there is no data there.

        Returns:
            float32 ``(channel, y, x)`` in the declared quantity, 0 where there is no data, and bool
            ``(y, x)``: where there is.

        Raises:
            UnreadableFileError: The file is damaged there.
            InputError: A value that is none of the quantity.
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
        """Small windows all over the scene: values ``(channel, pixel)`` and whether there are data."""
        shape = self.scene.grid.shape
        side = (min(_SIDE, shape[0]), min(_SIDE, shape[1]))
        places = [
            np.unique(np.linspace(0, n - s, _SAMPLES).astype(int)) for n, s in zip(shape, side, strict=True)
        ]
        values, valid = zip(
            *(self._part(int(row), int(column), side) for row in places[0] for column in places[1]),
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
    """A scene on disk, with what it lacks declared.

    Args:
        path: A GeoTIFF, a COG, or anything else that rasterio reads and that has a place on a map.
        channels: ``"co_pol"``, ``"cross_pol"``: what a model takes, in its order.
        quantity: ``"db"``, ``"power"``, ``"amplitude"`` or ``"counts"``.
        bands: Channel to number of the band, from 1; None: by the descriptions in the file, where VV
            and HH are co-polarised, VH and HV cross-polarised.
        nodata: A value that stands for no data, beside what the file declares.
        time: When it was taken, UTC; None: as the file says in its tags or its name.

    Raises:
        UnreadableFileError: No such file, or none that rasterio reads.
        InputError: No place on a map, complex numbers, or a polarisation that is missing or not told.
        OptionError: A band that the file does not have, or a quantity that is not known.
    """
    where = str(path)
    _check_quantity(quantity)
    with suppress_georeference_warning(), _opened(where) as dataset:
        _check_supported(dataset, where)
        numbers = _bands(dataset, tuple(channels), bands, where)
        if quantity == "counts" and any(dataset.dtypes[band - 1] != "uint8" for band in numbers):
            raise InputError(f"{where}: counts are 8-bit integers, not {dataset.dtypes[numbers[0] - 1]}")
        grid = MapGrid(dataset.crs.to_wkt(), tuple(dataset.transform)[:6], (dataset.height, dataset.width))
        taken = time if time is not None else acquisition_time(dataset.tags(), where)
    return RadarScene(where, tuple(channels), numbers, quantity, grid, nodata, taken)


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
        raise UnreadableFileError(f"{path}: no raster that can be read ({error})") from error
    with dataset:
        yield dataset


def _check_supported(dataset: Any, where: str) -> None:
    if dataset.crs is None or dataset.transform.is_identity:
        points = (
            " but ground control points, through which one affine errs by kilometres"
            if dataset.gcps[0]
            else ""
        )
        raise InputError(
            f"{where}: no place on a map{points}; warp it first, for instance "
            "gdalwarp -tps -t_srs EPSG:3995 -r average"
        )
    if not dataset.transform.determinant:
        raise InputError(f"{where}: its pixels have no extent on the map; check its transform")
    if dataset.crs.is_geographic and dataset.bounds.right - dataset.bounds.left > _MAX_LONGITUDE_SPAN:
        raise InputError(
            f"{where}: reaches around the whole globe, and cells would be averaged across its seam; a scene "
            "over the antimeridian or the pole is warped first: gdalwarp -t_srs EPSG:3995 -r average"
        )
    if any("complex" in kind for kind in dataset.dtypes):
        raise InputError(f"{where}: complex numbers; a scene holds sigma0, detected and calibrated")


def _bands(
    dataset: Any, channels: tuple[str, ...], given: Mapping[str, int] | None, where: str
) -> tuple[int, ...]:
    if given is None:
        return tuple(_band_by_description(dataset, channel, channels, where) for channel in channels)
    if set(given) != set(channels):
        raise OptionError(
            f"bands are needed for {', '.join(channels)}, and told for {', '.join(given) or 'none'}"
        )
    for channel, band in given.items():
        if not 1 <= band <= dataset.count:
            raise OptionError(f"{where}: no band {band} for {channel}; it has {dataset.count}")
    if len(set(given.values())) < len(given):
        raise OptionError(f"{where}: one band cannot be {' and '.join(given)}")
    return tuple(given[channel] for channel in channels)


def _band_by_description(dataset: Any, channel: str, channels: tuple[str, ...], where: str) -> int:
    """The one band whose description names a polarisation of this channel."""
    wanted = POLARIZATIONS.get(channel, (channel,))
    words = [
        set(re.split(r"[^a-z]+", (text or "").lower())) | {(text or "").lower()}
        for text in dataset.descriptions
    ]
    found = [number for number, own in enumerate(words, 1) if own & {*wanted, channel}]
    if len(found) == 1:
        return found[0]
    told = ", ".join(
        f"{number}: {text or 'not named'}" for number, text in enumerate(dataset.descriptions, 1)
    )
    if not found and dataset.count < len(channels):
        raise InputError(
            f"{where}: {dataset.count} band ({told}), and the model needs {', '.join(channels)}; join the "
            "polarisations into one file, for instance with gdalbuildvrt -separate"
        )
    example = ",".join(f"{name}={number}" for number, name in enumerate(channels, 1))
    many = "several bands could be" if found else "no band is named as"
    raise InputError(
        f"{where}: {many} {channel} ({' or '.join(wanted)}) in {told}; say which with --bands {example}"
    )


def acquisition_time(tags: Mapping[str, str], name: str) -> datetime.datetime | None:
    """When a scene was taken, UTC, by its tags or by the first time in its name; None: nobody says.

    >>> time_of({}, "S1A_EW_GRDM_1SDH_20191012T084028_20191012T084212_029437_0359D9_4B5C.tif").hour
    8
    """
    for tag in _TIME_TAGS:
        with_zone = _parse_time(tags.get(tag, ""))
        if with_zone is not None:
            return with_zone
    found = _TIME_IN_NAME.search(Path(name).name)
    return _parse_time(found[1]) if found else None


def _parse_time(text: str) -> datetime.datetime | None:
    # Nanoseconds are more than Python reads.
    text = re.sub(r"(\.\d{6})\d+", r"\1", text.strip())
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.replace(tzinfo=datetime.UTC) if moment.tzinfo is None else moment.astimezone(datetime.UTC)
