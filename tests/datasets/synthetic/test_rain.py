"""Generated rain: stable, reproducible by seed, in CF files, with a known coarse field and bias."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from helpers.paths import GOLDEN

from geovision.datasets.synthetic import rain
from geovision.errors import OptionError, StorageError
from geovision.metrics.functional import extremes, regression, spectra
from geovision.readers.grids import align, coarsen, open_grid

FROZEN = GOLDEN / f"rain_generator_v{rain.GENERATOR_VERSION}.json"


@pytest.fixture(scope="module")
def year() -> np.ndarray:
    """365 days without sea ``(time, 48, 64)``."""
    return np.stack(list(rain.daily_fields(365, seed=3)))


def _blocks(seed: int) -> np.ndarray:
    """Means of 12 days in blocks ``(12, 4, 4)``, mm/day."""
    values = np.stack(list(rain.daily_fields(12, seed=seed, size=(32, 32))))
    return values.reshape(12, 4, 8, 4, 8).mean((2, 4), dtype=float)


def test_the_generator_is_frozen() -> None:
    """Compare the generator with stored values.

    If this test fails, increase GENERATOR_VERSION, write a new file and discard all results of the old
    version.
    """
    frozen = json.loads(FROZEN.read_text())
    for seed, blocks in frozen.items():
        np.testing.assert_allclose(_blocks(int(seed)), blocks, rtol=2e-3, atol=2e-3)


def test_the_same_seed_gives_the_same_rain_and_a_longer_series_begins_with_it() -> None:
    few, many = (np.stack(list(rain.daily_fields(n, seed=1, size=(16, 16)))) for n in (5, 9))
    np.testing.assert_array_equal(few, many[:5])
    assert not np.array_equal(few, np.stack(list(rain.daily_fields(5, seed=2, size=(16, 16)))))


def test_the_rain_has_realistic_statistics(year: np.ndarray) -> None:
    """Most values are dry, the tail is heavy, rain persists from day to day.

    The spectral power decreases toward finer scales.
    """
    assert year.min() == 0
    assert 0.5 < (year == 0).mean() < 0.75
    wet = year[year > 0]
    assert 20 < np.quantile(year, 0.99) < 60
    assert np.quantile(wet, 0.99) / np.quantile(wet, 0.5) > 8
    mean = year.mean((1, 2))
    assert 0.4 < np.corrcoef(mean[1:], mean[:-1])[0, 1] < 0.9
    frequency, power = spectra.spectrum(torch.tensor(year[:, :48, :48]))
    slope = np.polyfit(frequency[2:].log().numpy(), power[2:].log().numpy(), 1)[0]
    assert -4 < slope < -2
    assert 3 < float(extremes.cwd(torch.tensor(year)).mean()) < 30


def test_the_rain_moves(year: np.ndarray) -> None:
    """Rain of tomorrow correlates best with the rain of today farther west."""
    logs = np.log1p(year)

    def lag_correlation(shift: int) -> float:
        return float(
            np.corrcoef(logs[1:, :, 10:54].ravel(), logs[:-1, :, 10 - shift : 54 - shift].ravel())[0, 1]
        )

    assert lag_correlation(8) > lag_correlation(0) + 0.05
    assert lag_correlation(8) > lag_correlation(-8) + 0.1


def test_the_coarse_view_and_the_bias_are_known() -> None:
    fine, coarse, model = rain.fields(40, seed=5, sea=0.0)
    np.testing.assert_allclose(coarse, coarsen(fine, 4), rtol=1e-6)
    assert coarse.shape == (40, 12, 16)
    np.testing.assert_allclose(rain.BIAS.remove(model), coarse, rtol=1e-3, atol=1e-4)
    assert float(model.min()) == pytest.approx(rain.BIAS.drizzle)
    assert float(model.quantile(0.99)) < float(coarse.quantile(0.99))
    truth = torch.tensor(coarse.values)
    assert float(regression.wasserstein(torch.tensor(model.values), truth)) > 0.3


def test_the_files_are_cf_and_read_by_the_reader(tmp_path: Path) -> None:
    root = rain.write(tmp_path / "rain", 40, seed=5, size=(24, 32), calendar="noleap", start="2004-02-20")
    read = {name: open_grid(root / file, "precipitation") for name, file in rain.FILES.items()}
    fine, coarse, model = rain.fields(40, seed=5, size=(24, 32), calendar="noleap", start="2004-02-20")
    for name, expected in zip(read, (fine, coarse, model), strict=True):
        np.testing.assert_allclose(read[name], expected, rtol=1e-6, atol=1e-6)
        assert read[name].indexes["time"].equals(expected.indexes["time"])
    assert "02-29" not in " ".join(read["fine"].indexes["time"].strftime("%m-%d"))
    assert float(read["fine"][0].isnull().mean()) == pytest.approx(0.2, abs=0.01)
    assert not read["coarse"].isnull().any()
    with xr.open_dataset(root / rain.FILES["model"], engine="h5netcdf") as raw:
        assert raw.precipitation.attrs["units"] == "kg m-2 s-1"
        assert raw.attrs["title"] == "generated rain, version 1, seed 5"
    assert str(align(read)) == "40 dates in common; no dates dropped"


def test_invalid_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="n=0"):
        rain.fields(0)
    with pytest.raises(OptionError, match="two coarse cells of 4"):
        rain.fields(3, size=(6, 32))
    (tmp_path / "file").write_text("a file where a folder should be")
    with pytest.raises(StorageError, match="could not be written"):
        rain.write(tmp_path / "file", 2, size=(8, 8))
