"""The two tasks of rain: datasets of grids, networks and baselines, from files to scores."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from helpers.paths import DATA
from scipy.interpolate import RegularGridInterpolator

import geovision
from geovision import registry
from geovision._atomic_io import write_text
from geovision.datasets.iberia import IberiaCorrection, IberiaWinters
from geovision.datasets.paired_grids import PairedGrids
from geovision.datasets.rain_grids import GRIDS_FILE, BiasedRain, CoarseRain
from geovision.datasets.synthetic import rain
from geovision.errors import DatasetError, InputError, OptionError
from geovision.evaluation import predict_batches
from geovision.models.geomodel import GeoModel
from geovision.models.layers.regrid import Regrid, axis_weights, coarsen_grid
from geovision.readers.grids import regrid
from geovision.spec import Grid, GridPair, Stage
from geovision.training.data_statistics import fit_statistics

REAL = DATA / "iberia"
BASELINES = (
    "climatology",
    "nearest",
    "bilinear",
    "bicubic",
    "linear-scaling",
    "quantile-mapping",
    "quantile-delta",
    "ridge",
)


@pytest.fixture(scope="module")
def coarse(tmp_path_factory: pytest.TempPathFactory) -> CoarseRain:
    return CoarseRain(CoarseRain.synthetic(tmp_path_factory.mktemp("coarse"), 160, seed=3))


@pytest.fixture(scope="module")
def biased(tmp_path_factory: pytest.TempPathFactory) -> BiasedRain:
    return BiasedRain(BiasedRain.synthetic(tmp_path_factory.mktemp("biased"), 160, seed=3))


@pytest.fixture(scope="module")
def iberia(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return IberiaWinters.synthetic(tmp_path_factory.mktemp("iberia"), 64, seed=1)


# --- datasets --------------------------------------------------------------------------------------


def test_a_sample_is_a_day_of_the_file(coarse: CoarseRain) -> None:
    sample = coarse[17]
    fine = xr.open_dataset(coarse.root / "rain_fine.nc", engine="h5netcdf")["precipitation"]
    given = xr.open_dataset(coarse.root / "rain_coarse.nc", engine="h5netcdf")["precipitation"]
    day = fine.sel(time=coarse.dates[17]).values
    is_valid = sample["valid"]["target"][0].numpy()
    assert np.array_equal(np.isfinite(day), is_valid)
    assert np.allclose(sample["target"][0].numpy()[is_valid], day[is_valid], rtol=1e-6)
    assert not is_valid.all()
    rain = sample["inputs"]["fields"]
    assert rain.shape == (1, 8, 12)
    assert np.allclose(rain[0].numpy(), given.sel(time=coarse.dates[17]).values * 86400, rtol=1e-5)
    assert coarse.model_kwargs()["grids"].target.size == (32, 48)


def test_splits_are_whole_years(coarse: CoarseRain) -> None:
    training = CoarseRain(coarse.root, split="2001-2006")
    test = CoarseRain(coarse.root, split="2007-2008")
    assert len(training) + len(test) == len(coarse) == 160
    assert not set(training.groups) & set(test.groups)
    assert set(test.groups) == {"2007", "2008"}
    with pytest.raises(OptionError, match="split '1999': the data have 2001 to 2008"):
        CoarseRain(coarse.root, split="1999")
    with pytest.raises(OptionError, match="give years, such as 2001 or 2001-2008"):
        CoarseRain(coarse.root, split="train")


def test_predictors_are_taken_by_name_on_one_grid(iberia: Path) -> None:
    data = IberiaWinters(iberia)
    assert data.channels[:5] == (
        "precipitation",
        "air_temperature",
        "air_pressure_at_mean_sea_level",
        "air_temperature_850",
        "specific_humidity_850",
    )
    few = data.with_predictors(["specific_humidity_850"])
    assert torch.equal(few[3]["inputs"]["fields"], data[3]["inputs"]["fields"][[0, 4]])
    assert few.model_kwargs()["predictors"] == ("specific_humidity_850",)
    with pytest.raises(OptionError, match="has no predictor 'wind'"):
        data.with_predictors(["wind"])
    model = geovision.create("downscale-tiny", **few.model_kwargs())
    model.validate_inputs({"fields": few[0]["inputs"]["fields"][None]})
    assert [channel.unit for channel in model.inputs[0].channels] == ["mm day-1", "1"]


def test_a_free_running_model_is_refused_with_suitable_models(coarse: CoarseRain, tmp_path: Path) -> None:
    for name in ("rain_coarse.nc", "rain_fine.nc"):
        (tmp_path / name).symlink_to(coarse.root / name)
    (tmp_path / "grids.toml").write_text(
        '[target]\nfile = "rain_fine.nc"\n'
        '[given.precipitation]\nfile = "rain_coarse.nc"\nsynchronous = false\n'
    )
    with pytest.raises(DatasetError, match=r"free-running.*downscale-quantile-mapping.*reanalysis"):
        CoarseRain(tmp_path)
    free = CoarseRain(tmp_path, synchronous=False)
    with pytest.raises(OptionError, match=r"trained on pairs\. Models .*: downscale-climatology"):
        geovision.train(geovision.create("downscale-tiny", **free.model_kwargs()), free)
    model = geovision.train(
        geovision.create("downscale-quantile-mapping", **free.model_kwargs()), free, progress=False
    )
    report = geovision.evaluate(model, free, n_bootstrap=0)
    assert "rmse" not in report.metrics
    assert abs(report.metrics["quantile_bias(q=0.99)"].value) < 1
    assert "only distributions are scored" in report.notes[0]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("[target]\nfile='x.nc'", r"expected the tables \[target\] and \[given.precipitation\]"),
        ("[target]\nfile='x.nc'\n[given.humidity]\nfile='y.nc'", r"\[given.precipitation\] comes first"),
        ("[target]\nfile='x'\n[given.precipitation]\nname='y'", r"\[given.precipitation\] needs a file"),
        ("[target]\nfile='x.nc'\n[given.precipitation]\nfile='y.nc'\nunit='K'", "has no 'unit'; it takes"),
        (
            "[target]\nfile='x.nc'\n[given.precipitation]\nfile='y'\n[given.wind]\nfile='z'\nfield='precipitation'",
            "is not a predictor of downscale",
        ),
        ("[target", "cannot be read"),
    ],
)
def test_invalid_tables_are_refused(table: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "grids.toml").write_text(table)
    with pytest.raises(DatasetError, match=message):
        CoarseRain(tmp_path)


def test_missing_files_are_reported(tmp_path: Path, iberia: Path) -> None:
    with pytest.raises(DatasetError, match=r"no grids.toml found"):
        CoarseRain(tmp_path)
    with pytest.raises(DatasetError, match=r"NCEP_Iberia_pr.nc is missing"):
        IberiaWinters(tmp_path)
    with pytest.raises(
        OptionError, match="origin 'nsep' is unknown; choose from ncep, cmip5, cordex; did you mean 'ncep'"
    ):
        IberiaWinters(iberia, origin="nsep")
    with pytest.raises(OptionError, match="keep their grid"):
        IberiaWinters(iberia, size=(8, 8))


def test_swapped_grids_are_reported(coarse: CoarseRain, tmp_path: Path) -> None:
    for name in ("rain_coarse.nc", "rain_fine.nc"):
        (tmp_path / name).symlink_to(coarse.root / name)
    (tmp_path / "grids.toml").write_text(
        '[target]\nfile = "rain_coarse.nc"\n[given.precipitation]\nfile = "rain_fine.nc"\n'
    )
    with pytest.raises(InputError, match="check whether they are swapped"):
        CoarseRain(tmp_path)


@pytest.mark.real_data
@pytest.mark.skipif(not REAL.is_dir(), reason=f"needs {REAL}")
@pytest.mark.parametrize("origin", ["cmip5", "cordex"])
def test_climate_models_of_the_real_files_are_corrected_by_their_distribution(origin: str) -> None:
    with pytest.raises(DatasetError, match=f"{origin}.pr.*free-running"):
        IberiaCorrection(REAL, origin=origin)
    data = IberiaCorrection(REAL, origin=origin, synchronous=False).with_predictors([])
    model = geovision.create("biascorrect-quantile-mapping", **data.model_kwargs())
    report = geovision.evaluate(geovision.train(model, data, progress=False), data, n_bootstrap=0)
    assert abs(report.metrics["quantile_bias(q=0.99)"].value) < 1.5


# --- regridding ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_weights_along_axes_match_regrid(method, coarse: CoarseRain) -> None:
    given = xr.open_dataset(coarse.root / "rain_coarse.nc", engine="h5netcdf")["precipitation"][:3]
    fine = xr.open_dataset(coarse.root / "rain_fine.nc", engine="h5netcdf")["precipitation"]
    expected = regrid(given, fine, method)
    onto = Regrid(coarse.grids, method=method)
    field = torch.from_numpy(given.values)[:, None]
    found, is_valid = onto(field, torch.ones_like(field, dtype=torch.bool))
    assert is_valid.all()
    assert np.allclose(found[:, 0].numpy(), expected.values, atol=1e-6 * float(field.max()))


def test_bicubic_is_the_convolution_of_keys_and_reproduces_parabolas() -> None:
    given, target = np.arange(9.0), np.linspace(2, 6, 23)
    weights = axis_weights(given, target, "bicubic")
    assert np.allclose(weights.sum(1), 1)
    assert np.allclose(weights @ given**2, target**2)
    finer = axis_weights(given, np.arange(0.5, 8), "bicubic")[3]
    assert np.allclose(finer[2:6], [-1 / 16, 9 / 16, 9 / 16, -1 / 16])


def test_missing_cells_have_no_weight_and_cells_outside_are_invalid() -> None:
    grids = GridPair(Grid((0.0, 1.0, 2.0), (0.0, 1.0, 2.0)), Grid((0.5, 1.5, 5.0), (0.25, 1.0)))
    field = torch.tensor([[1.0, 2.0, 3.0], [4.0, 0.0, 6.0], [7.0, 8.0, 9.0]])[None, None]
    is_valid = torch.ones_like(field, dtype=torch.bool)
    is_valid[..., 1, 1] = False
    found, known = Regrid(grids)(field, is_valid)
    assert not known[0, 0, 2].any()
    values = RegularGridInterpolator(([0, 1, 2], [0, 1, 2]), field[0, 0].numpy())
    weights = np.array([0.375, 0.125, 0.375])  # of the three valid cells around (0.5, 0.25)
    assert float(found[0, 0, 0, 0]) == pytest.approx(float((weights * [1, 2, 4]).sum() / weights.sum()))
    full, _ = Regrid(grids)(field, torch.ones_like(is_valid))
    assert float(full[0, 0, 0, 0]) == pytest.approx(float(values([[0.5, 0.25]])[0]))
    with pytest.raises(InputError, match="grids do not overlap: one has longitudes 0 to 2"):
        Regrid(GridPair(grids.given, Grid((0.5, 1.5), (7.0, 8.0))))


def test_incomplete_blocks_extend_beyond_the_grid(coarse: CoarseRain) -> None:
    assert coarsen_grid(Grid((0.0, 1.0, 2.0), (0.0, 1.0, 2.0, 3.0)), 2).size == (2, 2)
    odd = dataclasses.replace(
        coarse.grids, target=Grid(coarse.grids.target.lat[:-3], coarse.grids.target.lon[:-1])
    )
    model = geovision.create("downscale-tiny", grids=odd)
    fit_statistics(model, coarse)
    assert model.predict(coarse[0]["inputs"]["fields"])[0].values.shape == (29, 47)


# --- models ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scores(coarse: CoarseRain) -> dict[str, dict[str, float]]:
    """Return the scores of every baseline and a small network, fitted on six years, for two other years."""
    training, held = (CoarseRain(coarse.root, split=years) for years in ("2001-2006", "2007-2008"))
    found = {}
    for name in (*BASELINES, "tiny"):
        torch.manual_seed(0)
        model = geovision.create(f"downscale-{name}", **training.model_kwargs())
        recipe = dataclasses.replace(
            model.task.demo.recipe, stages=(Stage(epochs=12, batch_size=16, lr=4e-3),)
        )
        geovision.train(model, training, recipe=recipe, progress=False)
        report = geovision.evaluate(model, held, n_bootstrap=0)
        found[name] = {key: figure.value for key, figure in report.metrics.items()}
    return found


def test_known_properties_of_each_method_hold(scores) -> None:
    error = {name: row["rmse"] for name, row in scores.items()}
    assert error["bilinear"] < error["nearest"] < error["climatology"]
    assert error["tiny"] < 0.8 * error["climatology"]
    assert abs(scores["quantile-mapping"]["quantile_bias(q=0.99)"]) < abs(
        scores["bilinear"]["quantile_bias(q=0.99)"]
    )
    assert abs(scores["linear-scaling"]["bias"]) < abs(scores["ridge"]["bias"]) + 0.5
    assert scores["climatology"]["wet_day_frequency_bias"] > 0.2  # some rain on every day
    assert all(np.isfinite(list(row.values())).all() for name, row in scores.items() if name != "climatology")


def test_bilinear_matches_torch(coarse: CoarseRain) -> None:
    model = geovision.create("downscale-bilinear")
    field = coarse[4]["inputs"]["fields"]
    expected = torch.nn.functional.interpolate(field[None], scale_factor=4, mode="bilinear")[0, 0]
    assert np.allclose(model.predict(field)[0].values, expected.numpy(), atol=1e-5)


def test_a_perfect_correction_is_nearly_recovered(biased: BiasedRain) -> None:
    training, held = (BiasedRain(biased.root, split=years) for years in ("2001-2006", "2007-2008"))
    rows = {}
    for name in ("bilinear", "linear-scaling", "quantile-mapping", "quantile-delta"):
        model = geovision.create(f"biascorrect-{name}", **training.model_kwargs())
        geovision.train(model, training, progress=False)
        rows[name] = geovision.evaluate(model, held, n_bootstrap=0).metrics["rmse"].value
    assert rows["quantile-mapping"] < 0.6 * rows["bilinear"]
    assert rows["quantile-delta"] < 0.8 * rows["bilinear"]


def test_quantile_delta_uses_ranks_of_the_whole_period(biased: BiasedRain) -> None:
    model = geovision.train(
        geovision.create("biascorrect-quantile-delta", **biased.model_kwargs()), biased, progress=False
    )
    some = biased.subset(range(0, len(biased), 3))
    parts = [batch.prediction for batch in predict_batches(model, some, batch_size=7)]
    whole = next(iter(predict_batches(model, some, batch_size=len(some)))).prediction
    torch.testing.assert_close(torch.cat(parts), whole, equal_nan=True)
    fields = torch.stack([some[n]["inputs"]["fields"][0] for n in range(len(some))])
    torch.testing.assert_close(
        whole[:, 0].nan_to_num(-1.0),
        model.network.correction(fields).clamp(0, float(model.head.limit)),
        rtol=1e-4,
        atol=1e-4,
    )


def test_sea_and_empty_days_have_no_prediction(coarse: CoarseRain) -> None:
    model = geovision.create("downscale-tiny", **coarse.model_kwargs())
    fit_statistics(model, coarse)
    sea = ~torch.stack([coarse[n]["valid"]["target"][0] for n in range(3)]).any(0).numpy()
    (prediction,) = model.predict(coarse[0]["inputs"]["fields"])
    assert sea.any()
    assert np.array_equal(np.isnan(prediction.values), sea)
    nothing = np.ma.masked_all((1, 8, 12), np.float32)
    assert not model.predict(nothing)[0].valid.any()


@pytest.mark.parametrize(
    "name", ["quantile-mapping", "quantile-delta", "linear-scaling", "climatology", "ridge"]
)
def test_baselines_are_restored_from_disk(name: str, coarse: CoarseRain, tmp_path: Path) -> None:
    model = geovision.train(
        geovision.create(f"downscale-{name}", **coarse.model_kwargs()), coarse, out=tmp_path, progress=False
    )
    again = geovision.load(tmp_path / "model")
    field = coarse[5]["inputs"]["fields"]
    assert np.array_equal(again.predict(field)[0].values, model.predict(field)[0].values, equal_nan=True)


def test_the_light_network_has_about_sixty_percent_of_the_parameters() -> None:
    for task in ("downscale", "biascorrect"):
        whole, light = (
            registry.find_model(f"{task}-{name}").num_parameters for name in ("maunet", "maunet-light")
        )
        assert whole is not None
        assert light is not None
        assert 0.55 <= light / whole <= 0.62


@pytest.mark.parametrize("head", ["value", "quantiles", "bernoulli-gamma"])
def test_every_head_trains_and_predicts_no_negative_rain(head: str, coarse: CoarseRain) -> None:
    model = geovision.create("downscale-tiny", head=head, **coarse.model_kwargs())
    recipe = dataclasses.replace(model.recipe, stages=(Stage(epochs=1, batch_size=16),), ema=0.0)
    geovision.train(model, coarse, recipe=recipe, progress=False)
    (prediction,) = model.predict(coarse[0]["inputs"]["fields"])
    is_valid = prediction.values[prediction.valid]
    assert (is_valid >= 0).all()
    assert is_valid.max() <= float(model.head.limit)


@pytest.mark.parametrize("factor", [2, 8])
def test_refinement_factors_of_two_and_eight(factor: int, tmp_path: Path) -> None:
    rain.write_years(tmp_path, 24, seed=0, size=(32, 48), factor=factor)
    write_text(
        tmp_path / GRIDS_FILE,
        '[target]\nfile = "rain_fine.nc"\n[given.precipitation]\nfile = "rain_coarse.nc"\n',
    )
    data = CoarseRain(tmp_path)
    model = geovision.create("downscale-tiny", **data.model_kwargs(), model_args={"factor": factor})
    assert one_step(model, data) == (32, 48)


def test_a_network_corrects_and_refines_together(biased: BiasedRain, tmp_path: Path) -> None:
    for name in ("rain_model.nc", "rain_fine.nc"):
        shutil.copy(biased.root / name, tmp_path)
    write_text(
        tmp_path / GRIDS_FILE,
        '[target]\nfile = "rain_fine.nc"\n[given.precipitation]\nfile = "rain_model.nc"\n',
    )
    data = BiasedRain(tmp_path)
    assert data[0]["inputs"]["fields"].shape[-2:] == (8, 12)
    model = geovision.create("biascorrect-tiny", **data.model_kwargs(), model_args={"factor": 4})
    assert one_step(model, data) == (32, 48)


def one_step(model: GeoModel, data: CoarseRain) -> tuple[int, int]:
    """Train an epoch, check predictions (not negative, not constant) and return their shape."""
    recipe = dataclasses.replace(model.recipe, stages=(Stage(epochs=1, batch_size=16),), ema=0.0)
    geovision.train(model, data, recipe=recipe, progress=False)
    predictions = [model.predict(data[n]["inputs"]["fields"])[0] for n in range(0, len(data), 4)]
    is_valid = np.concatenate([each.values[each.valid] for each in predictions])
    assert is_valid.min() >= 0
    assert is_valid.std() > 0
    return predictions[0].values.shape


def test_invalid_network_options_are_refused() -> None:
    with pytest.raises(OptionError, match=r"network 'maunett'; known: .*mean 'maunet'"):
        geovision.create("downscale-maunet", model_args={"network": "maunett"})
    with pytest.raises(OptionError, match="maunet has no option 'depth'; known: widths, dropout"):
        geovision.create("downscale-maunet", model_args={"depth": 3})
    with pytest.raises(OptionError, match="local=2: local fields need a target grid"):
        geovision.create("downscale-maunet", model_args={"local": 2})
    with pytest.raises(OptionError, match="by='scaling' is unknown; choose"):
        geovision.create("biascorrect-linear-scaling", model_args={"by": "scaling"})


def test_a_constant_channel_is_reported_by_name(iberia: Path) -> None:
    data: PairedGrids = IberiaWinters(iberia)
    data._arrays[0][:, 2] = 101_000.0
    with pytest.raises(InputError, match="air_pressure_at_mean_sea_level: is constant"):
        fit_statistics(geovision.create("downscale-tiny", **data.model_kwargs()), data)
