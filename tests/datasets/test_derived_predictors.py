"""Predictors that no file contains: adjacent days and the moisture flux."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import geovision
from geovision.datasets.iberia import IberiaCorrection, IberiaWinters
from geovision.errors import OptionError
from geovision.grid_channels import adjacent_day_channels
from geovision.physics.geostrophy import moisture_flux
from geovision.readers.grids import open_grid, regrid
from geovision.registry import find_task


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return IberiaWinters.synthetic(tmp_path_factory.mktemp("iberia"), 200, seed=0)


@pytest.fixture(scope="module")
def winters(root: Path) -> IberiaWinters:
    data = geovision.load_dataset("iberia", root)
    assert isinstance(data, IberiaWinters)
    return data


def test_adjacent_days_are_those_of_adjacent_samples(winters: IberiaWinters) -> None:
    data = winters.with_predictors(("precipitation_day_before", "precipitation_day_after"))
    rain = torch.stack([data[n]["inputs"]["fields"] for n in range(len(data))])
    there = torch.stack([data[n]["valid"]["fields"] for n in range(len(data))])
    first = [n for n in range(len(data)) if n == 0 or data.groups[n] != data.groups[n - 1]]
    last = [n - 1 for n in first[1:]] + [len(data) - 1]
    before, after = (sorted(set(range(len(data))) - set(ends)) for ends in (first, last))
    torch.testing.assert_close(rain[before, 1], rain[[n - 1 for n in before], 0])
    torch.testing.assert_close(rain[after, 2], rain[[n + 1 for n in after], 0])
    assert not there[first, 1].any()
    assert not there[last, 2].any()
    assert there[before, 1].all()
    assert there[after, 2].all()


def test_a_subset_has_the_adjacent_days_of_the_full_data_set(winters: IberiaWinters) -> None:
    data = winters.with_predictors(("precipitation_day_after",))
    alone = data.subset([3])
    torch.testing.assert_close(alone[0]["inputs"]["fields"], data[3]["inputs"]["fields"])
    torch.testing.assert_close(alone[0]["inputs"]["fields"][1], data[4]["inputs"]["fields"][0])


def test_the_flux_of_moisture_is_that_of_the_files(root: Path, winters: IberiaWinters) -> None:
    pressure = open_grid(root / "NCEP_Iberia_psl.nc", "air_pressure_at_mean_sea_level", units="Pa")
    humidity = open_grid(root / "NCEP_Iberia_hus850.nc", "specific_humidity", units="kg kg-1")
    lat, lon = pressure["lat"].values, pressure["lon"].values
    data = winters.with_predictors(("eastward_moisture_flux", "northward_moisture_flux"))
    rain = open_grid(root / "NCEP_Iberia_pr.nc", "precipitation", units="kg m-2 s-1")
    day = list(rain.indexes["time"].strftime("%Y-%m-%d")).index(data.dates[7])
    for channel, flux in enumerate(moisture_flux(pressure.values, humidity.values, lat, lon), start=1):
        expected = regrid(pressure.copy(data=flux), rain).values[day]
        found = data[7]["inputs"]["fields"][channel].numpy()
        there = data[7]["valid"]["fields"][channel].numpy()
        assert there.mean() > 0.9
        np.testing.assert_allclose(found[there], expected[there], rtol=1e-4, atol=1e-6)


def test_default_predictors(root: Path, winters: IberiaWinters) -> None:
    assert len(winters.channels) == 3 * 7
    assert IberiaCorrection(root).channels == ("precipitation",)
    known = {channel.name for channel in find_task("downscale").predictors}
    assert set(winters.channels[1:]) <= known


def test_an_unknown_day_is_refused(winters: IberiaWinters) -> None:
    with pytest.raises(OptionError, match="precipitation_day_off"):
        winters.with_predictors(("precipitation_day_off",))
    assert [channel.name for channel in adjacent_day_channels(winters.target.channel)] == [
        "precipitation_day_before",
        "precipitation_day_after",
    ]
