"""The command `grid`: predictions from files of rain, its errors, and no loss of existing files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import geovision
from geovision.cli import main
from geovision.datasets.iberia import IberiaWinters
from geovision.datasets.rain_grids import CoarseRain
from geovision.datasets.synthetic.rain import write
from geovision.errors import InputError, OptionError
from geovision.inference._predict_grid import predict_grid


@pytest.fixture(scope="module")
def coarse(tmp_path_factory: pytest.TempPathFactory) -> CoarseRain:
    return CoarseRain(CoarseRain.synthetic(tmp_path_factory.mktemp("coarse"), 80, seed=3))


def fine(path: Path) -> xr.DataArray:
    return xr.open_dataset(path, engine="zarr" if path.suffix == ".zarr" else "h5netcdf")["precipitation"]


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    return int(left.value.code or 0)


@pytest.fixture(scope="module")
def saved(coarse: CoarseRain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model that the command trained."""
    out = tmp_path_factory.mktemp("run")
    code = run(
        "train", "downscale-quantile-mapping", "--data", coarse.root, "--split", "2001-2006", "--out", out
    )
    assert code == 0
    return out / "model"


def test_train_evaluate_and_grid_run_in_sequence(
    saved: Path, coarse: CoarseRain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("evaluate", saved, "--data", coarse.root, "--split", "2007-2008", "--n-bootstrap", 0) == 0
    assert "rmse" in capsys.readouterr().out
    out = tmp_path / "fine.nc"
    assert run("grid", saved, coarse.root / "rain_coarse.nc", "--out", out) == 0
    written = capsys.readouterr()
    assert written.out.strip() == str(out)
    assert "80 fields, variables precipitation" in written.err
    assert (fine(out).fillna(0) >= 0).all()


def with_unit(coarse: CoarseRain, path: Path, change=lambda values: values, units: str | None = None) -> Path:
    """Write changed coarse rain, in kg m-2 s-1, with another unit attribute or none."""
    dataset = xr.open_dataset(coarse.root / "rain_coarse.nc", engine="h5netcdf").load()
    dataset["precipitation"].values = change(dataset["precipitation"].values)
    dataset["precipitation"].attrs.pop("units")
    dataset["precipitation"].attrs.pop("standard_name", None)
    if units:
        dataset["precipitation"].attrs["units"] = units
    dataset.to_netcdf(path, engine="h5netcdf")
    return path


def _with_gaps(values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values[5] = np.nan
    return values


CHANGES = {
    "no units": (lambda v: v, None, (), "has no units; declare them with units=, or --unit"),
    "a flux as a rate": (lambda v: v, "mm/day", (), "would be plausible in 'kg m-2 s-1'"),
    "an unknown unit": (lambda v: v, "furlong/fortnightly", (), "unit 'furlong/fortnightly' is unknown"),
    "another quantity": (lambda v: v, "K", (), "cannot be converted"),
    "contradicted": (lambda v: v, "kg m-2 s-1", ("--unit", "pr=mm/day"), "was declared 'mm/day'"),
    "negative": (lambda v: v - 1e-4, "kg m-2 s-1", (), "negative precipitation"),
    "negative by little": (
        lambda v: np.where(v > 0, v, -2e-9),
        "kg m-2 s-1",
        (),
        "expected 0 to 10000 (negative precipitation: anomalies, or a damaged file)",
    ),
    "constant": (lambda v: np.full_like(v, 1e-4), "kg m-2 s-1", (), "in every cell of all 80 steps"),
    "empty": (lambda v: np.full_like(v, np.nan), "kg m-2 s-1", (), "is missing everywhere"),
    "infinite": (lambda v: np.where(v > 0, np.inf, v), "kg m-2 s-1", (), "infinite"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_invalid_rain_is_one_line_of_error_and_nothing_is_written(
    what: str, saved: Path, coarse: CoarseRain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, units, options, message = CHANGES[what]
    bad = with_unit(coarse, tmp_path / "bad.nc", change, units)
    out = tmp_path / "out.nc"
    out.write_text("previous content")
    assert run("grid", saved, bad, "--out", out, *options) == 1
    output = capsys.readouterr().err.strip().splitlines()
    assert message in output[-1]
    assert "bad.nc" in output[-1]
    assert out.read_text() == "previous content"


def test_rounding_and_dry_days_are_no_error(saved: Path, coarse: CoarseRain, tmp_path: Path) -> None:
    rounded = with_unit(coarse, tmp_path / "a.nc", lambda v: np.where(v > 0, v, -1e-10), "[kg m-2 s-1]")
    assert run("grid", saved, rounded, "--out", tmp_path / "a_out.nc") == 0
    holed = with_unit(coarse, tmp_path / "b.nc", _with_gaps)
    assert run("grid", saved, holed, "--out", tmp_path / "b_out.nc", "--unit", "pr=kg m-2 s-1") == 0
    plain, with_hole = fine(tmp_path / "a_out.nc"), fine(tmp_path / "b_out.nc")
    assert np.isnan(with_hole[5]).all()
    rest = [day for day in range(80) if day != 5]
    assert np.allclose(plain[rest], with_hole[rest], equal_nan=True, atol=1e-4)


@pytest.mark.parametrize(
    ("order", "message"), [([2, 0, 1], "times are out of order"), ([0, 1, 1], "1 duplicated times")]
)
def test_shuffled_or_duplicate_times_are_reported(
    order: list[int],
    message: str,
    saved: Path,
    coarse: CoarseRain,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    dataset = xr.open_dataset(coarse.root / "rain_coarse.nc", engine="h5netcdf").isel(time=order)
    dataset.to_netcdf(tmp_path / "times.nc", engine="h5netcdf")
    assert run("grid", saved, tmp_path / "times.nc", "--out", tmp_path / "out.nc") == 1
    assert message in capsys.readouterr().err


def test_other_regions_and_missing_or_unknown_fields_are_refused(
    saved: Path, coarse: CoarseRain, tmp_path: Path
) -> None:
    dataset = xr.open_dataset(coarse.root / "rain_coarse.nc", engine="h5netcdf")
    dataset.assign_coords(lat=dataset["lat"] - 80).to_netcdf(tmp_path / "south.nc", engine="h5netcdf")
    model = geovision.load(saved)
    with pytest.raises(InputError, match=r"south\.nc: grids do not overlap: one has latitudes -43\.5 to"):
        predict_grid(model, {"pr": tmp_path / "south.nc"}, tmp_path / "out.nc")
    with pytest.raises(InputError, match="has no channel 'psl'; its channels are precipitation"):
        predict_grid(model, {"psl": tmp_path / "south.nc"}, tmp_path / "out.nc")
    both = geovision.create("downscale-tiny", predictors=["specific_humidity_850"], grids=coarse.grids)
    with pytest.raises(InputError, match="needs specific_humidity_850; give each as NAME=FILE"):
        predict_grid(both, {"pr": coarse.root / "rain_coarse.nc"}, tmp_path / "out.nc")
    with pytest.raises(OptionError, match="predicts a class, not a field"):
        predict_grid(geovision.create("cloud-tiny"), {}, tmp_path / "out.nc")


def test_input_files_are_not_overwritten(
    saved: Path, coarse: CoarseRain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sub").mkdir()
    rain = tmp_path / "rain.nc"
    rain.write_bytes((coarse.root / "rain_coarse.nc").read_bytes())
    for given in (rain, tmp_path / "r*.nc"):
        assert run("grid", saved, given, "--out", tmp_path / "sub" / ".." / "rain.nc") != 0
        assert "rain.nc: is an input file and would be overwritten" in capsys.readouterr().err
    assert rain.read_bytes() == (coarse.root / "rain_coarse.nc").read_bytes()


def test_a_part_of_the_grid_is_predicted_and_reported(
    saved: Path, coarse: CoarseRain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = xr.open_dataset(coarse.root / "rain_coarse.nc", engine="h5netcdf").load()
    dataset.isel(lat=slice(4, None), lon=slice(0, 9)).to_netcdf(tmp_path / "part.nc", engine="h5netcdf")
    assert run("grid", saved, tmp_path / "part.nc", "--out", tmp_path / "out.nc") == 0
    assert "part.nc covers 38% of the grid of downscale-quantile-mapping" in capsys.readouterr().err
    found = fine(tmp_path / "out.nc")
    assert np.isnan(found[:, :16]).all()
    assert np.isnan(found[:, :, 36:]).all()
    assert run("grid", saved, coarse.root / "rain_coarse.nc", "--out", tmp_path / "whole.nc") == 0
    assert "covers" not in capsys.readouterr().err
    assert np.allclose(found[:, 18:, :34], fine(tmp_path / "whole.nc")[:, 18:, :34], equal_nan=True)


def test_one_of_several_variables_is_chosen(
    saved: Path, coarse: CoarseRain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = xr.open_dataset(coarse.root / "rain_coarse.nc", engine="h5netcdf").load()
    dataset["tp"] = (dataset["precipitation"] * 2).assign_attrs(dataset["precipitation"].attrs)
    dataset.to_netcdf(tmp_path / "two.nc", engine="h5netcdf")
    assert run("grid", saved, tmp_path / "two.nc", "--out", tmp_path / "out.nc") == 1
    assert "precipitation and tp may each be precipitation" in capsys.readouterr().err
    for name in ("precipitation", "tp"):
        out = tmp_path / f"{name}.nc"
        assert run("grid", saved, tmp_path / "two.nc", "--out", out, "--variable", f"pr={name}") == 0
    one, other = fine(tmp_path / "precipitation.nc"), fine(tmp_path / "tp.nc")
    assert float(other.sum()) > 1.2 * float(one.sum())


def test_the_pole_of_a_rotated_grid_can_be_given(coarse: CoarseRain, tmp_path: Path) -> None:
    """The axes of the file are degrees about a pole that the file does not name."""
    rotated = xr.open_dataset(coarse.root / "rain_coarse.nc", engine="h5netcdf").load()
    rotated = rotated.assign_coords(lat=rotated["lat"] - 40, lon=rotated["lon"] + 4)
    rotated.to_netcdf(tmp_path / "rotated.nc", engine="h5netcdf")
    geovision.create("downscale-bilinear", **coarse.model_kwargs()).save(tmp_path / "model")
    arguments = "grid", tmp_path / "model", tmp_path / "rotated.nc", "--out", tmp_path / "out.nc"
    assert run(*arguments, "--pole", "pr=50,176") == 0  # its equator passes through 40 N, 4 W
    found, straight = fine(tmp_path / "out.nc"), coarse.root / "rain_coarse.nc"
    predict_grid(geovision.load(tmp_path / "model"), {"pr": straight}, tmp_path / "straight.nc")
    middle = {"lat": slice(39, 41), "lon": slice(-5, -3)}
    expected = fine(tmp_path / "straight.nc").sel(middle)
    assert np.corrcoef(found.sel(middle).values.ravel(), expected.values.ravel())[0, 1] > 0.99


def test_free_running_simulations_are_corrected_by_the_command(
    coarse: CoarseRain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("rain_coarse.nc", "rain_fine.nc"):
        (tmp_path / name).symlink_to(coarse.root / name)
    table = (coarse.root / "grids.toml").read_text()
    (tmp_path / "grids.toml").write_text(table + "synchronous = false\n")
    assert run("train", "downscale-tiny", "--data", tmp_path, "--out", tmp_path / "net") != 0
    output = capsys.readouterr().err
    assert "are not paired with its targets" in output
    assert "downscale-quantile-mapping" in output
    assert run("train", "downscale-quantile-delta", "--data", tmp_path, "--out", tmp_path / "qdm") == 0
    assert run("evaluate", tmp_path / "qdm" / "model", "--data", tmp_path, "--n-bootstrap", 0) == 0
    output = capsys.readouterr().out
    assert "only distributions are scored" in output
    assert "quantile_bias(q=0.99)" in output
    assert "rmse" not in output


def test_closed_form_models_use_every_group_and_networks_report_too_few(
    coarse: CoarseRain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = "--data", coarse.root, "--split", "2003"
    assert run("train", "downscale-linear-scaling", *arguments, "--out", tmp_path / "scaled") == 0
    assert "on 10 samples" in capsys.readouterr().err
    assert run("train", "downscale-tiny", *arguments, "--out", tmp_path / "net") == 1
    assert (
        "1 group; two or more are needed to split; fraction 0 (--validation 0) holds"
        in capsys.readouterr().err
    )


def test_another_calendar_than_that_of_training_is_predicted(
    saved: Path, coarse: CoarseRain, tmp_path: Path
) -> None:
    write(tmp_path, 40, seed=5, size=(32, 48), calendar="noleap", start="2004-02-20")
    assert run("grid", saved, tmp_path / "rain_coarse.nc", "--out", tmp_path / "out.nc") == 0
    dates = [str(each)[5:10] for each in fine(tmp_path / "out.nc")["time"].values]
    assert "02-29" not in dates
    assert len(dates) == 40


def test_invalid_options_of_the_command_are_refused(
    saved: Path, coarse: CoarseRain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rain = coarse.root / "rain_coarse.nc"
    for options, message in (
        (("--unit", "pr"), "--unit 'pr' is invalid; expected NAME=UNIT"),
        (("--select", "pr=plev"), "--select 'pr=plev' is invalid; expected NAME=AXIS:VALUE"),
        (("--out-units", "K"), "cannot be converted"),
    ):
        assert run("grid", saved, rain, "--out", tmp_path / "out.nc", *options) != 0
        assert message in capsys.readouterr().err
    assert run("grid", saved, rain, "--out", tmp_path / "out.txt") != 0
    assert "fields are written as .nc or .zarr" in capsys.readouterr().err


def test_the_command_trains_with_head_and_factor(coarse: CoarseRain, tmp_path: Path) -> None:
    code = run(
        "train",
        "downscale-tiny",
        "--data",
        coarse.root,
        "--epochs",
        1,
        "--head",
        "quantiles",
        "--factor",
        2,
        "--out",
        tmp_path,
    )
    assert code == 0
    model = geovision.load(tmp_path / "model")
    assert model.config.head == "quantiles"
    assert model.network.factor == 2


@pytest.mark.parametrize(("name", "channels"), [("quantile-mapping", 1), ("nearest", 1), ("ridge", 21)])
def test_models_of_rain_alone_need_no_other_field(name: str, channels: int, tmp_path: Path) -> None:
    data = IberiaWinters.synthetic(tmp_path / "data", 24, seed=1)
    with pytest.raises(SystemExit) as ended:
        main(
            [
                "train",
                f"downscale-{name}",
                "--dataset",
                "iberia",
                "--data",
                str(data),
                "--out",
                str(tmp_path / "out"),
            ]
        )
    assert not ended.value.code
    model = geovision.load(tmp_path / "out" / "model")
    assert len(model.inputs[0].channels) == channels
