"""Synthetic winters in the layout of the Iberian files.

The files have no units. Precipitation is in kg m-2 s-1 for NCEP; E-OBS is NaN over sea. Rain is that of
`geovision.datasets.synthetic.rain`. Pressure, temperature and humidity are derived from it, so that they are
informative predictors.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geovision._atomic_io import write_files
from geovision.datasets.synthetic.rain import fields, january_days
from geovision.errors import MissingExtraError
from geovision.readers.netcdf import write_netcdf

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["write"]

_SIZE, _FACTOR, _YEARS = (16, 28), 4, 8


def write(root: Path, n: int, *, seed: int = 0) -> Path:
    """Write days in eight Januaries: ``EOBS_Iberia_pr.nc`` and five NCEP fields.

    Args:
        root: Folder of the files.
        n: Number of days.
        seed: Seed of all random numbers. Default: 0.

    Returns:
        `root`.

    Raises:
        StorageError: The files could not be written.
        MissingExtraError: xarray or h5netcdf is not installed.
    """
    try:
        import h5netcdf  # noqa: F401
        import xarray as xr
    except ImportError as error:
        raise MissingExtraError("xarray with h5netcdf", "geo") from error
    fine, coarse, _ = fields(n, seed=seed, size=_SIZE, factor=_FACTOR)
    dates = january_days(n, _YEARS)
    rng = np.random.default_rng([seed, 9])

    def field(values: np.ndarray, name: str, like: xr.DataArray, start: float, step: float) -> xr.Dataset:
        axes = {
            "time": dates,
            "lat": start + step * np.arange(like.sizes["lat"]),
            "lon": -9.5 + (step - 0.5) / 2 + step * np.arange(like.sizes["lon"]),
        }
        return xr.DataArray(
            values.astype(np.float32), dims=("time", "lat", "lon"), coords=axes, name=name
        ).to_dataset()

    rain = coarse.values
    wet = np.log1p(rain) - np.log1p(rain).mean()
    noise = rng.standard_normal((5, *rain.shape))
    written = {
        "EOBS_Iberia_pr.nc": field(fine.values, "rr", fine, 36.0, 0.5),
        "NCEP_Iberia_pr.nc": field(np.where(rain > 0, rain / 86400, -1e-10), "pr", coarse, 36.75, 2.0),
        "NCEP_Iberia_tas.nc": field(10 - wet + noise[0], "tas", coarse, 36.75, 2.0),
        "NCEP_Iberia_psl.nc": field(101_800 - 600 * wet + 200 * noise[1], "psl", coarse, 36.75, 2.0),
        "NCEP_Iberia_ta850.nc": field(279 - wet + noise[2], "ta", coarse, 36.75, 2.0),
        "NCEP_Iberia_hus850.nc": field(
            (0.004 + 0.001 * wet + 0.0002 * noise[3]).clip(1e-4), "hus", coarse, 36.75, 2.0
        ),
    }
    write_files(root, {name: partial(write_netcdf, each) for name, each in written.items()})
    return root
