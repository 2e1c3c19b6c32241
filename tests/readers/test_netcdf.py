"""A NetCDF file is written completely, or a disk error is raised without ending the process."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_array_equal

from geovision._atomic_io import write_files
from geovision.datasets.hail_samples import HailSamples
from geovision.errors import StorageError
from geovision.readers import hail_samples
from geovision.readers.grids import open_grid, write_grid, write_grids
from geovision.readers.netcdf import write_netcdf


def rain(days: int) -> xr.DataArray:
    """Noise, which does not compress: 40 kB per day."""
    values = np.random.default_rng(0).gamma(1.0, 5.0, (days, 100, 100)).astype(np.float32)
    coordinates = {
        "time": np.datetime64("1998-01-01", "ns") + np.arange(days) * np.timedelta64(1, "D"),
        "lat": 30 + 0.1 * np.arange(100),
        "lon": 0.1 * np.arange(100),
    }
    return xr.DataArray(values, coordinates, ("time", "lat", "lon"), "precipitation", {"units": "mm/day"})


def test_written_data_are_read_unchanged(tmp_path: Path) -> None:
    whole = rain(3).to_dataset()
    whole["mask"] = (whole["precipitation"] > 5).astype(np.int8)
    whole.attrs["title"] = "noise"
    for name, dataset in {"plain": whole, "pieces": whole.chunk(time=1)}.items():
        write_netcdf(dataset, tmp_path / name, {"mask": {"zlib": True}})
        with xr.open_dataset(tmp_path / name, engine="h5netcdf") as found:
            assert found.identical(whole)
            assert found["mask"].dtype == np.int8


def test_a_mask_stays_a_mask_next_to_fields(tmp_path: Path) -> None:
    field = rain(2)
    mask = (field > 5).astype(np.int8).assign_attrs(units="1", flag_meanings="dry wet").rename("wet")
    path = write_grids([field, mask], tmp_path / "both.nc")
    with xr.open_dataset(path, engine="h5netcdf") as found:
        assert found["wet"].dtype == np.int8
        assert "_FillValue" not in found["wet"].encoding
        assert_array_equal(found["wet"], mask)


@pytest.mark.parametrize("days", [130, 160, 300])  # more than 4 MB, on a disk of 4
def test_a_full_disk_is_reported_and_the_existing_file_is_kept(small_disk: Path, days: int) -> None:
    path = write_grid(rain(2), small_disk / "rain.nc")
    before = path.read_bytes()
    with pytest.raises(StorageError, match="No space left on device"):
        write_grid(rain(days), path)
    gc.collect()  # HDF5 closes remaining handles
    assert path.read_bytes() == before
    assert [each.name for each in small_disk.iterdir()] == ["rain.nc"]
    assert_array_equal(open_grid(path, "precipitation"), rain(2))


def test_computation_stops_once_the_disk_is_full(small_disk: Path) -> None:
    computed: list[int] = []

    def block(values: np.ndarray) -> np.ndarray:
        computed.append(1)
        return values + 1

    days, each = 400, 4
    field = rain(days).chunk(time=each)
    field = field.copy(data=field.data.map_blocks(block, dtype=np.float32, meta=np.empty((0, 0, 0), "f4")))
    with pytest.raises(StorageError, match="No space left on device"):
        write_files(small_disk, {"rain.nc": lambda path: write_netcdf(field.to_dataset(), path)})
    gc.collect()
    assert len(computed) < 60 < days / each
    assert not list(small_disk.iterdir())


def test_a_sample_of_hail_and_its_labels_on_a_full_disk(small_disk: Path, tmp_path: Path) -> None:
    root = HailSamples.synthetic(tmp_path / "samples", 1, size=(16, 16), windows=3)
    (path,) = root.glob("*.nc")
    sample = hail_samples.read_sample(path)
    written = hail_samples.write_sample(sample, small_disk)
    before = written.read_bytes()
    left = 4 * 2**20 - sum(each.stat().st_size for each in small_disk.iterdir())
    (small_disk / "filler").write_bytes(bytes(left // 4096 * 4096 - 8192))
    with pytest.raises(StorageError, match="No space left on device"):
        hail_samples.write_sample(sample, small_disk)
    gc.collect()
    assert written.read_bytes() == before
