"""Readers and writers of gridded fields in CF NetCDF or Zarr.

Values are in the unit of each variable. `open_grid` returns an `xarray.DataArray` with dimensions
``(time, [member,] lat, lon)``, or ``(…, y, x)`` if latitude and longitude are two-dimensional. Missing cells
are NaN, and the first cell is in the southwest.

Nothing is guessed from values: the units of a file without units, or the pole of rotated coordinates, must be
declared. Quantiles over the whole file are compared with the declared variable, and an implausible
declaration raises an error.
"""

from geovision.readers.grids.alignment import Alignment, align, check_finer
from geovision.readers.grids.grid_source import GridSource, open_paired, open_source
from geovision.readers.grids.reader import expand_paths, open_grid
from geovision.readers.grids.regridding import check_overlap, coarsen, regrid, regrid_auto
from geovision.readers.grids.times import split_groups
from geovision.readers.grids.variables import VARIABLES, GridVariable
from geovision.readers.grids.writer import write_grid, write_grids

__all__ = [
    "VARIABLES",
    "Alignment",
    "GridSource",
    "GridVariable",
    "align",
    "check_finer",
    "check_overlap",
    "coarsen",
    "expand_paths",
    "open_grid",
    "open_paired",
    "open_source",
    "regrid",
    "regrid_auto",
    "split_groups",
    "write_grid",
    "write_grids",
]
