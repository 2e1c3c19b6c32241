"""Maps on disk: written block by block, copied to cloud-optimised GeoTIFF, read back and compared."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geovision.errors import StorageError
from geovision.readers.sar import MapGrid, rasterio_module

__all__ = ["RasterWriter", "limited_gdal_cache", "storage_errors"]

_GDAL_CACHE_MB = 128  # MB of rasters that GDAL keeps; left to itself it takes a share of the machine

Block = tuple[int, int, tuple[int, int]]
"""First row, first column and shape."""


@contextmanager
def limited_gdal_cache() -> Iterator[None]:
    """GDAL with a cache of a fixed size, whatever the machine has."""
    with rasterio_module().Env(GDAL_CACHEMAX=_GDAL_CACHE_MB):
        yield


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn what GDAL says of a full disk into the error for it.

    Raises:
        StorageError: `path` could not be written.
    """
    try:
        with _find_os_error():
            yield
    except OSError as error:
        raise StorageError(
            f"{path}: could not be written ({error}); free some space or choose another folder"
        ) from error


@contextmanager
def _find_os_error() -> Iterator[None]:
    from rasterio._err import CPLE_BaseError  # which copies raise, and which has no public name

    try:
        yield
    except (rasterio_module().errors.RasterioError, CPLE_BaseError) as error:
        raise OSError(str(error.__cause__ or error).rstrip(".")) from error
    except SystemError as error:  # of a thread of GDAL, whose reason is lost
        raise OSError("GDAL could not write it") from error


class RasterWriter:
    """A map that is written once, block by block.

    Args:
        path: Of a GeoTIFF that is not compressed, made anew; `write_cog` makes a map for others of it.
        grid: Its cells.
        layers: Names of its bands.
        dtype, nodata: Of its values.
        tags: What to know about it.
    """

    def __init__(
        self,
        path: Path,
        grid: MapGrid,
        layers: Sequence[str],
        *,
        dtype: str,
        nodata: float,
        tags: Mapping[str, str],
    ) -> None:
        self.path, self._nodata = path, nodata
        self._written: dict[Block, int] = {}
        with storage_errors(path):
            self._dataset = rasterio_module().open(
                path,
                "w",
                driver="GTiff",
                dtype=dtype,
                count=len(layers),
                height=grid.shape[0],
                width=grid.shape[1],
                crs=grid.rasterio_crs,
                transform=grid.affine,
                nodata=nodata,
                tiled=True,
                blockxsize=512,
                blockysize=512,
                interleave="band",
                SPARSE_OK=True,
                BIGTIFF="IF_SAFER",
            )
            self._dataset.descriptions = tuple(layers)
            self._dataset.update_tags(**tags)

    def write(self, row: int, column: int, values: NDArray[Any]) -> None:
        """A block ``(layer, y, x)``. One without data takes no space."""
        missing = np.isnan(values) if np.isnan(self._nodata) else values == self._nodata
        if missing.all():
            return
        block = (row, column, (values.shape[1], values.shape[2]))
        self._written[block] = _digest(values)
        with storage_errors(self.path):
            self._dataset.write(values, window=_rasterio_window(block))

    def close(self) -> None:
        with storage_errors(self.path):
            self._dataset.close()

    def write_cog(self, path: Path, *, overviews: str) -> None:
        """Copy it, compressed and with overviews, and read the copy back.

        Args:
            overviews: How they are made: ``"average"`` or ``"nearest"``.

        Raises:
            OSError: It could not be written, or holds something else.
        """
        rasterio = rasterio_module()
        with _find_os_error():
            rasterio.shutil.copy(
                self.path,
                path,
                driver="COG",
                compress="deflate",
                predictor="yes",
                level=1,
                blocksize=512,
                overview_resampling=overviews,
                bigtiff="if_safer",
                num_threads=2,
            )
            with rasterio.open(path) as dataset:
                same = all(
                    _digest(dataset.read(window=_rasterio_window(block))) == digest
                    for block, digest in self._written.items()
                )
        if not same:
            raise OSError("what was written is not what is there")


def _rasterio_window(block: Block) -> Any:
    row, column, (height, width) = block
    return rasterio_module().windows.Window(column, row, width, height)


def _digest(values: NDArray[Any]) -> int:
    return zlib.crc32(np.ascontiguousarray(values).data)
