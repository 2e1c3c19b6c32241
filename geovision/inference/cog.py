"""Rasters written block by block, copied to cloud-optimized GeoTIFF and verified."""

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

_GDAL_CACHE_MB = 128  # raster cache of GDAL in MB; its default is a fraction of the machine's memory

Block = tuple[int, int, tuple[int, int]]
"""First row, first column and shape of a block."""


@contextmanager
def limited_gdal_cache() -> Iterator[None]:
    """Limit the raster cache of GDAL to a fixed size.

    The default of GDAL depends on the memory of the machine.
    """
    with rasterio_module().Env(GDAL_CACHEMAX=_GDAL_CACHE_MB):
        yield


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Convert write errors of GDAL, such as a full disk, to `StorageError`.

    Args:
        path: Path of the file, for the message.

    Raises:
        StorageError: If GDAL cannot write `path`.
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
    from rasterio._err import CPLE_BaseError  # raised when copying; it has no public name

    try:
        yield
    except (rasterio_module().errors.RasterioError, CPLE_BaseError) as error:
        raise OSError(str(error.__cause__ or error).rstrip(".")) from error
    except SystemError as error:  # raised by a thread of GDAL, without the reason
        raise OSError("GDAL could not write the file") from error


class RasterWriter:
    """Block-wise writer of a raster that verifies the final copy.

    Args:
        path: Path of a new GeoTIFF without compression; `write_cog` creates the final file from it.
        grid: Grid of the raster.
        layers: Names of the bands.
        dtype: Data type of the values.
        nodata: Value of missing cells; NaN for floating-point data.
        tags: Metadata tags of the file.

    Raises:
        StorageError: If the file cannot be created.
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
        """Write one block. A block without valid values takes no space.

        Args:
            row: First row of the block.
            column: First column of the block.
            values: Values, shape (layer, y, x).

        Raises:
            StorageError: If the block cannot be written.
        """
        missing = np.isnan(values) if np.isnan(self._nodata) else values == self._nodata
        if missing.all():
            return
        block = (row, column, (values.shape[1], values.shape[2]))
        self._written[block] = _digest(values)
        with storage_errors(self.path):
            self._dataset.write(values, window=_rasterio_window(block))

    def close(self) -> None:
        """Close the file, which writes the remaining blocks to disk.

        Raises:
            StorageError: If the blocks cannot be written.
        """
        with storage_errors(self.path):
            self._dataset.close()

    def write_cog(self, path: Path, *, overviews: str) -> None:
        """Write a compressed copy with overviews and verify the copy.

        Args:
            path: Path of the copy.
            overviews: Resampling method of the overviews, ``"average"`` or ``"nearest"``.

        Raises:
            OSError: If the copy cannot be written, or if its values differ from the written blocks.
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
            raise OSError("the values read back differ from the values written")


def _rasterio_window(block: Block) -> Any:
    row, column, (height, width) = block
    return rasterio_module().windows.Window(column, row, width, height)


def _digest(values: NDArray[Any]) -> int:
    return zlib.crc32(np.ascontiguousarray(values).data)
