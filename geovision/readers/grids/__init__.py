"""Gridded fields as CF NetCDF or Zarr, in and out, each in the unit of its variable.

`open_grid` gives an `xarray.DataArray` with axes ``(time, [member,] lat, lon)``, or ``(…, y, x)`` where
latitude and longitude are two-dimensional; missing cells are NaN; south and west come first. Nothing is
guessed from values: a file without units, or in rotated coordinates, needs to be told so, and a look at
the quantiles over the whole file says when what it was told cannot be.
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
