"""Writer of NetCDF files that reports the first write error."""

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
    """Write a dataset as NetCDF-4; Dask arrays are written block by block.

    Args:
        dataset: Dataset to write.
        path: Path of the file; an existing file is overwritten. Intended for
            `geovision._atomic_io.write_files`.
        encoding: Encoding by variable, as in xarray. Default: None.

    Raises:
        OSError: The file could not be written; no further blocks are computed.
        ModuleNotFoundError: h5netcdf is not installed.
    """
    with _DeferredErrorFile(path.open("w+b", buffering=0)) as file:
        try:
            file.abort_on_error(dataset).to_netcdf(file, engine="h5netcdf", encoding=dict(encoding or {}))
        finally:
            file.raise_error()


class _DeferredErrorFile(io.RawIOBase):
    """File whose write methods do not raise while HDF5 uses it.

    HDF5 cannot close a file that it could not write, and crashes the process when it tries again
    (https://github.com/h5py/h5py/issues/914). Writes therefore report success, and the first error is
    raised afterwards. Lost data cannot be read back, which may cause an error of HDF5 itself; it is a
    consequence of the first error.

    Args:
        file: Unbuffered file, open for reading and writing.

    Attributes:
        error: First write error; None if everything was written.
    """

    def __init__(self, file: io.FileIO) -> None:
        super().__init__()
        self.error: OSError | None = None
        self._file = file

    def abort_on_error(self, dataset: xr.Dataset) -> xr.Dataset:
        """Return the same data with blocks that raise after an error.

        Computing the remaining blocks may take hours.
        """

        def checked(block: _Block) -> _Block:
            self.raise_error()
            return block

        def guarded(array: xr.DataArray) -> xr.DataArray:
            if array.chunks is None:
                return array
            return array.copy(data=array.data.map_blocks(checked, dtype=array.dtype))

        return dataset.map(guarded, keep_attrs=True)

    def raise_error(self) -> None:
        """Raise the first error, if there was one."""
        if self.error is not None:
            raise self.error

    def write(self, values: Any) -> int:
        remaining = memoryview(values)
        size = len(remaining)
        try:
            while len(remaining):
                remaining = remaining[self._file.write(remaining) :]
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
