"""A NetCDF file, written whole or with one clear error."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["write_netcdf"]

_Block = TypeVar("_Block")


def write_netcdf(dataset: xr.Dataset, path: Path, encoding: Mapping[str, Any] | None = None) -> None:
    """Write a data set as NetCDF-4; arrays of Dask are computed and written piece by piece.

    Args:
        path: What stands there is overwritten; meant for `geovision._atomic_io.write_files`.
        encoding: By variable, as xarray takes it.

    Raises:
        OSError: It could not be written; nothing more is computed from then on.
        ModuleNotFoundError: h5netcdf is not installed.
    """
    with _DeferredErrorFile(path.open("w+b", buffering=0)) as file:
        try:
            file.abort_on_error(dataset).to_netcdf(file, engine="h5netcdf", encoding=dict(encoding or {}))
        finally:
            file.raise_error()


class _DeferredErrorFile(io.RawIOBase):
    """A file whose writes never fail while HDF5 is at work.

    HDF5 cannot close a file that it could not write, and takes the process down when it tries again
    (https://github.com/h5py/h5py/issues/914). So it is told that all is well, and the first error is raised
    afterwards. Of what is lost nothing can be read back, which may give HDF5 an error of its own; it is the
    consequence of the first.

    Args:
        file: Without a buffer, for reading and writing.

    Attributes:
        error: The first; None: all has been written.
    """

    def __init__(self, file: io.FileIO) -> None:
        super().__init__()
        self.error: OSError | None = None
        self._file = file

    def abort_on_error(self, dataset: xr.Dataset) -> xr.Dataset:
        """The same data, of which no piece is computed once an error has come: there may be hours of them."""

        def passed(block: _Block) -> _Block:
            self.raise_error()
            return block

        def guarded(array: xr.DataArray) -> xr.DataArray:
            if array.chunks is None:
                return array
            return array.copy(data=array.data.map_blocks(passed, dtype=array.dtype))

        return dataset.map(guarded, keep_attrs=True)

    def raise_error(self) -> None:
        """Raise the first error, if there was one."""
        if self.error is not None:
            raise self.error

    def write(self, values: Any) -> int:
        left = memoryview(values)
        size = len(left)
        try:
            while len(left):
                left = left[self._file.write(left) :]
        except OSError as error:
            self.error = self.error or error
        return size

    def truncate(self, size: int | None = None) -> int:
        try:
            return self._file.truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0

    def readinto(self, values: Any) -> int | None:
        return self._file.readinto(values)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()
