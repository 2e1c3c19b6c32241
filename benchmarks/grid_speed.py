"""Fields per second and memory of `geovision grid` over long files, and of quantile mapping with xsdba.

The data are daily precipitation in kg m-2 s-1, half of the days dry, as a Zarr store of a number of years.
Cells are half a degree wide; 360 x 720 cells are the globe. The correction is fitted before the measurement,
on the first 2000 days or on as many as take 200 MB. Each case runs in a separate process; its memory is the
peak after the fit.

    python benchmarks/grid_speed.py [--size 90 180] [--years 10 40] [--cases tiny]

The script appends rows to ``grid_speed.csv`` in its folder. It needs the extras geo, train and baselines.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from memory import forget_peak, peak
from rows import append

import geovision
from geovision.inference._predict_grid import predict_grid
from geovision.models.geomodel import GeoModel
from geovision.provenance import git_commit
from geovision.spec import Grid, GridPair

TABLE = Path(__file__).with_suffix(".csv")

DAYS, FITTED_BYTES = 2000, 200e6  # limits of the data that corrections are fitted on
NODES = 100
CASES = ("quantile-mapping", "xsdba", "tiny")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=(90, 180), help="latitudes and longitudes")
    parser.add_argument("--years", type=int, nargs="*", default=[10, 40], help="lengths of the files")
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=CASES, help="methods")
    parser.add_argument("--case", nargs=3, metavar=("NAME", "STORE", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measured(*options.case)))
        return
    with tempfile.TemporaryDirectory() as folder:
        for years in options.years:
            store = written(Path(folder) / f"rain_{years}.zarr", tuple(options.size), years)
            for case in options.cases:
                command = [sys.executable, __file__, "--case", case, str(store), f"{folder}/out.zarr"]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                append(
                    TABLE,
                    {
                        "date": datetime.date.today().isoformat(),
                        "commit": git_commit() or "",
                        "case": case,
                        "years": years,
                        "latitudes": options.size[0],
                        "longitudes": options.size[1],
                        **json.loads(done.stdout.splitlines()[-1]),
                    },
                    show=True,
                )


def written(path: Path, size: tuple[int, int], years: int) -> Path:
    """Write a store of daily precipitation, year by year."""
    for year in range(years):
        dates = xr.date_range(f"{1980 + year}-01-01", f"{1980 + year}-12-31", freq="D")
        rng = np.random.default_rng(year)
        rain = rng.gamma(0.6, 8.0, (len(dates), *size)) * (rng.random((len(dates), *size)) < 0.5) / 86400
        field = xr.DataArray(
            rain.astype(np.float32),
            dims=("time", "lat", "lon"),
            name="pr",
            attrs={"units": "kg m-2 s-1"},
            coords={"time": dates, "lat": axis(size[0], -size[0] / 4), "lon": axis(size[1], 0.0)},
        )
        how = (
            {"mode": "w", "encoding": {"time": {"units": "days since 1980-01-01"}}}
            if not year
            else {"append_dim": "time"}
        )
        field.to_dataset().to_zarr(path, zarr_format=2, **how)
    return path


def axis(count: int, begin: float) -> np.ndarray:
    """Return coordinates in steps of half a degree."""
    return begin + 0.25 + 0.5 * np.arange(count)


def measured(case: str, store: str, out: str) -> dict[str, float]:
    """Return the seconds of a case, files included, and the peak memory of this process."""
    own = xr.open_zarr(store)["pr"]
    first = own[: min(DAYS, int(FITTED_BYTES / own[0].nbytes))].values * 86400
    if case == "xsdba":
        seconds = by_xsdba(own, first, out)
    else:
        model = corrected(own, first) if case == "quantile-mapping" else geovision.create("biascorrect-tiny")
        if case == "tiny":
            model.network.fit_statistics({"fields": torch.tensor(first[:200, None])}, {})
        del first
        forget_peak()
        began = time.perf_counter()
        predict_grid(model, {"pr": store}, out)
        seconds = time.perf_counter() - began
    return {
        "seconds": round(seconds, 1),
        "fields_per_second": round(len(own) / seconds, 1),
        "peak_mb": round(peak()),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
    }


def corrected(field: xr.DataArray, first: np.ndarray) -> GeoModel:
    """Return a fitted quantile mapping."""
    grid = Grid(tuple(field["lat"].values.tolist()), tuple(field["lon"].values.tolist()))
    model = geovision.create("biascorrect-quantile-mapping", grids=GridPair(grid, grid))
    modeled = torch.tensor(first)
    model.network.correction.fit(modeled, truth(modeled))
    return model


def truth(modeled: torch.Tensor) -> torch.Tensor:
    """Return synthetic observations of modeled values in mm/day."""
    return (modeled * 1.3 - 0.5).clamp_min(0)


def by_xsdba(field: xr.DataArray, first: np.ndarray, out: str) -> float:
    """Return the seconds of the same correction with xsdba, with the same days, file and kind of store."""
    import xsdba

    modeled = field[: len(first)].copy(data=first).assign_attrs(units="mm/day").load()
    observed = modeled.copy(data=truth(torch.tensor(first)).numpy())
    correction = xsdba.EmpiricalQuantileMapping.train(
        observed, modeled, nquantiles=NODES, kind="*", group="time"
    )
    forget_peak()
    began = time.perf_counter()
    # xsdba needs complete time series, so the chunks are bands of latitude.
    rain = (field.chunk(time=-1, lat=15) * 86400).assign_attrs(units="mm/day")
    adjusted = correction.adjust(rain, interp="linear")
    adjusted.rename("pr").astype(np.float32).chunk(time=730).to_dataset().to_zarr(
        out, mode="w", zarr_format=2
    )
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
