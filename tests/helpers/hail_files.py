"""Source files of hail samples with known fields, in the layouts of their readers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

LATITUDE, LONGITUDE = 30.0, 112.0
LEVELS_HPA = (1000, 925, 850, 700, 600, 500, 400, 300, 200)
HOURS = np.datetime64("2023-06-17T06:00", "ns") + np.arange(4) * np.timedelta64(3600, "s")


def cloud_top(latitude: Any, longitude: Any) -> Any:
    """Return the cloud top temperature of a position, in K."""
    return 250 + 20 * (latitude - LATITUDE) - 12 * (longitude - LONGITUDE)


def agri_file(folder: Path, begin: str, slot: float = 133.0, header: float | None = None) -> Path:
    """Write FY-4B AGRI level 1 around (30 N, 112 E): `cloud_top`, 1 K colder in each band."""
    import h5py
    import pyproj

    east = slot if header is None else header
    height, axis, flat = 35_786_000.0, 6_378_137.0, 298.257223563
    geos = pyproj.CRS.from_dict(
        {"proj": "geos", "h": height, "lon_0": east, "a": axis, "rf": flat, "sweep": "y"}
    )
    to_degrees = pyproj.Transformer.from_crs(geos, 4326, always_xy=True)
    x, y = pyproj.Transformer.from_crs(4326, geos, always_xy=True).transform(LONGITUDE, LATITUDE)
    factor = 10233137 / 2**16  # pixels per scan degree
    column, line = 1373.5 + np.degrees(x / height) * factor, 1373.5 - np.degrees(y / height) * factor
    first, top, side = int(column) - 40, int(line) - 40, 80
    columns, lines = np.meshgrid(first + np.arange(side), top + np.arange(side))
    longitude, latitude = to_degrees.transform(
        np.radians((columns - 1373.5) / factor) * height, np.radians((1373.5 - lines) / factor) * height
    )
    name = (
        f"FY4B-_AGRI--_N_REGC_{slot * 10:04.0f}E_L1-_FDI-_MULT_NOM_{begin}_{int(begin) + 459}_4000M_V0001.HDF"
    )
    with h5py.File(folder / name, "w") as file:
        for number, band in enumerate((9, 10, 12, 13, 14)):
            counts = np.round((cloud_top(latitude, longitude) - number - 170) / 0.04).astype("uint16")
            data = file.create_dataset(f"Data/NOMChannel{band:02d}", data=counts)
            data.attrs.update(
                {
                    "FillValue": np.array([65535], "uint16"),
                    "valid_range": np.array([0, 4095], "uint16"),
                    "Intercept": np.array([0.0]),
                    "Slope": np.array([1.0]),
                }
            )
            table = file.create_dataset(
                f"Calibration/CALChannel{band:02d}", data=(170 + 0.04 * np.arange(4096)).astype("float32")
            )
            table.attrs.update(
                {"valid_range": np.array([170, 334], "float32"), "FillValue": np.array([65535.0])}
            )
        date, clock = f"{begin[:4]}-{begin[4:6]}-{begin[6:8]}", f"{begin[8:10]}:{begin[10:12]}:{begin[12:]}"
        file.attrs.update(
            {
                "Satellite Name": b"FY4B",
                "Sensor Identification Code": b"AGRI",
                "NOMCenterLat": np.array([0.0]),
                "NOMCenterLon": np.array([east]),
                "NOMSatHeight": np.array([height]),
                "dEA": np.array([axis / 1000]),
                "dObRecFlat": np.array([flat]),
                "Observing Beginning Date": date.encode(),
                "Observing Beginning Time": f"{clock}.000".encode(),
                "Observing Ending Date": date.encode(),
                "Observing Ending Time": f"{clock}.000".encode(),
                "Begin Pixel Number": np.array([first]),
                "End Line Number": np.array([top + side - 1]),
                "RegLength": np.array([side]),
                "RegWidth": np.array([side]),
            }
        )
    return folder / name


def era5_fields(shift: float = 0.0) -> Any:
    """Return hourly fields on pressure levels, ordered upward, and at the ground.

    The temperature decreases by 6.5 K per km from 300 K at sea level. The wind increases by 2 m s-1 per km.
    """
    import xarray

    latitude, longitude = np.arange(31.0, 28.9, -0.25), np.arange(111.0, 113.1, 0.25)
    height = 44330 * (1 - (np.array(LEVELS_HPA) / 1013.25) ** 0.19)
    shape = (len(HOURS), len(LEVELS_HPA), len(latitude), len(longitude))
    hour = np.arange(len(HOURS))[:, None, None, None]
    aloft = np.broadcast_to(height[:, None, None], shape)
    upper = {
        "t": 300 + hour + shift - 0.0065 * aloft,
        "z": 9.80665 * aloft,
        "u": 3 + 0.002 * aloft,
        "v": np.zeros(shape),
    }
    ground = {
        "cape": np.full((shape[0], *shape[2:]), 1500.0),
        "d2m": np.full((shape[0], *shape[2:]), 293.0),
        "u10": np.full((shape[0], *shape[2:]), 3.0),
        "v10": np.zeros((shape[0], *shape[2:])),
    }
    coordinates = {"time": HOURS, "latitude": latitude, "longitude": longitude}
    levels = ("time", "level", "latitude", "longitude")
    return (
        xarray.Dataset(
            {n: (levels, v.astype("float32")) for n, v in upper.items()},
            coordinates | {"level": list(LEVELS_HPA)},
        ),
        xarray.Dataset(
            {n: (("time", "latitude", "longitude"), v.astype("float32")) for n, v in ground.items()},
            coordinates,
        ),
    )


def era5_files(folder: Path, *, new: bool) -> list[Path]:
    """Write two files with new or old names.

    New files have the names used since August 2024 and decreasing pressures. Old files have the earlier names
    and increasing pressures.
    """
    upper, ground = era5_fields()
    if new:
        names = {"time": "valid_time", "level": "pressure_level"}
        upper, ground = upper.rename(names), ground.rename({"time": "valid_time"})
    else:
        upper = upper.sortby("level")
    paths = [folder / f"{kind}_{'new' if new else 'old'}.nc" for kind in ("levels", "single")]
    for path, dataset in zip(paths, (upper, ground), strict=True):
        dataset.to_netcdf(path, engine="h5netcdf")
    return paths


def era5_grib(path: Path) -> Path:
    """Write the first hour on pressure levels as GRIB, one message per variable and level."""
    import eccodes

    upper, _ = era5_fields()
    first = upper.isel(time=0)
    with path.open("wb") as stream:
        for name in ("t", "z", "u", "v"):
            for level in LEVELS_HPA:
                message = eccodes.codes_grib_new_from_samples("regular_ll_pl_grib1")
                plane = first[name].sel(level=level)
                keys = {
                    "Ni": 9,
                    "Nj": 9,
                    "latitudeOfFirstGridPointInDegrees": 31.0,
                    "latitudeOfLastGridPointInDegrees": 29.0,
                    "longitudeOfFirstGridPointInDegrees": 111.0,
                    "longitudeOfLastGridPointInDegrees": 113.0,
                    "iDirectionIncrementInDegrees": 0.25,
                    "jDirectionIncrementInDegrees": 0.25,
                    "shortName": name,
                    "level": level,
                    "dataDate": 20230617,
                    "dataTime": 600,
                    "bitsPerValue": 24,
                }
                for key, value in keys.items():
                    eccodes.codes_set(message, key, value)
                eccodes.codes_set_values(message, plane.values.ravel().astype(float))
                eccodes.codes_write(message, stream)
                eccodes.codes_release(message)
    return path


def radar_grid(times: Any, levels: Any) -> Any:
    """Return reflectivity on a plane in meters around (30 N, 112 E).

    It is 30 dBZ in the east, no echo in the west and not covered in the far north. The decimals encode the
    level.
    """
    import pyproj
    import xarray

    axis = np.arange(-60_000.0, 60_001, 1000)
    plane = pyproj.CRS.from_dict({"proj": "aeqd", "lat_0": LATITUDE, "lon_0": LONGITUDE, "datum": "WGS84"})
    x, y = np.meshgrid(axis, axis)
    longitude, latitude = pyproj.Transformer.from_crs(plane, 4326, always_xy=True).transform(x, y)
    one = np.where(y > 10_000, np.nan, np.where(x > 0, 30.0, -np.inf))
    values = one + np.arange(len(levels))[:, None, None] / 100 + np.zeros((len(times), 1, 1, 1))
    return xarray.Dataset(
        {"reflectivity": (("time", "level", "y", "x"), values.astype("float32"), {"units": "dBZ"})},
        {
            "time": np.asarray(times, "datetime64[ns]"),
            "level": np.asarray(levels, float),
            "y": axis,
            "x": axis,
            "latitude": (("y", "x"), latitude),
            "longitude": (("y", "x"), longitude),
        },
    )
