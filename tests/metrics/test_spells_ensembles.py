"""Dry and wet spells of daily splits, and scores of ensembles, from formula to report."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import scipy.integrate
import scipy.stats
import torch
import xarray as xr
from torch import Tensor

import geovision
from geovision import metrics
from geovision.datasets.rain_grids import GRIDS_FILE, CoarseRain
from geovision.datasets.synthetic import rain
from geovision.errors import OptionError
from geovision.evaluation import DenseReport, EnsembleConfig, predict_batches
from geovision.heads.field import BernoulliGammaHead, QuantileHead
from geovision.metrics.ensemble import crps, spread, spread_error_ratio
from geovision.metrics.functional import extremes
from geovision.models.geomodel import GeoModel
from geovision.readers.grids import write_grid
from geovision.tasks.downscale import RAIN_TARGET
from geovision.training.data_statistics import fit_statistics

# --- spells --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def winters(tmp_path_factory: pytest.TempPathFactory) -> CoarseRain:
    """Write three winters of 20 days, one day and a corner of the fine rain missing."""
    root = tmp_path_factory.mktemp("winters")
    fine, coarse, _ = rain.fields(60, seed=4, size=(16, 24))
    times = np.concatenate(
        [
            np.arange(f"{year}-12-25", f"{year + 1}-01-14", dtype="datetime64[D]")
            for year in (2000, 2001, 2002)
        ]
    ).astype("datetime64[ns]")
    for name, field in (("coarse", coarse), ("fine", fine)):
        field = field.assign_coords(time=times).drop_isel(time=[27])
        if name == "fine":
            field[3:5, :4, :4] = np.nan
        write_grid(field, root / f"{name}.nc")
    (root / GRIDS_FILE).write_text('[target]\nfile = "fine.nc"\n[given.precipitation]\nfile = "coarse.nc"\n')
    return CoarseRain(root)


def longest(days: pd.Series) -> int:
    """Return the longest run of true values."""
    return max((len(list(group)) for yes, group in itertools.groupby(days) if yes), default=0)


def by_hand(field: np.ndarray, valid: np.ndarray, dates: pd.DatetimeIndex, *, wet: bool) -> np.ndarray:
    """Return the longest spell per winter and cell, shape (winter, y, x), over the full calendar."""
    calendar = pd.date_range(dates[0], dates[-1])
    winter = calendar.year + (calendar.month >= 7)
    found = []
    for y, x in itertools.product(range(field.shape[1]), range(field.shape[2])):
        values = pd.Series(field[:, y, x], dates).where(valid[:, y, x]).reindex(calendar)
        spell = values >= 1 if wet else values < 1
        found.append(
            [
                longest(days) if values[days.index].notna().any() else math.nan
                for _, days in spell.groupby(winter)
            ]
        )
    return np.array(found).T.reshape(-1, *field.shape[1:])


def test_a_day_follows_the_one_before_it_in_its_winter(winters: CoarseRain) -> None:
    assert winters.is_consecutive is not None
    broken = [n for n, follows in enumerate(winters.is_consecutive) if not follows]
    assert [winters.dates[n] for n in broken] == ["2000-12-25", "2001-12-25", "2002-01-02", "2002-12-25"]
    shuffled = winters.subset([5, 6, 4, 30, 31, 2]).is_consecutive
    assert shuffled == [False, True, False, False, True, False]


@pytest.mark.parametrize(("name", "wet"), [("cdd_bias", False), ("cwd_bias", True)])
def test_spells_end_with_the_winter_and_at_a_missing_day(winters: CoarseRain, name: str, wet: bool) -> None:
    model = geovision.create("downscale-bilinear", **winters.model_kwargs())
    report = geovision.evaluate(model, winters, n_bootstrap=0)
    assert isinstance(report, DenseReport)
    assert report.predictions is not None
    prediction, truth = (each[:, 0].numpy() for each in report.predictions)
    valid, dates = np.isfinite(truth) & np.isfinite(prediction), pd.DatetimeIndex(winters.dates)
    assert not valid.all()
    predicted, observed = (by_hand(field, valid, dates, wet=wet) for field in (prediction, truth))
    assert report.metrics[name].value == pytest.approx(np.nanmean(predicted - observed), abs=1e-9)
    assert report.metrics[name].value != 0
    # As a single series, the winters would have longer spells.
    whole = extremes.cdd(torch.from_numpy(truth)), extremes.cwd(torch.from_numpy(truth))
    assert np.nansum(whole[wet].numpy()) > np.nansum(np.fmax.reduce(observed))


def test_a_cell_without_values_in_a_group_is_not_counted() -> None:
    truth = torch.zeros(6, 1, 2)
    truth[3:, 0, 1] = math.nan
    prediction = torch.where(torch.isnan(truth), truth, torch.tensor([0, 5.0, 0, 0, 0, 5.0]).view(6, 1, 1))
    begins = torch.tensor([True, False, False, True, False, False])
    found = extremes.spell_bias(extremes.cdd, prediction, truth, groups=list("aaabbb"), begins=begins)
    assert float(found) == pytest.approx(np.mean([1 - 3, 1 - 3, 2 - 3]))


def test_spells_are_not_scored_where_samples_are_not_days(
    winters: CoarseRain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CoarseRain, "is_consecutive", None)
    report = geovision.evaluate(
        geovision.create("downscale-bilinear", **winters.model_kwargs()), winters, n_bootstrap=0
    )
    assert not {"cdd_bias", "cwd_bias"} & set(report.metrics)
    assert "Not scored, because the samples are not consecutive days: cdd_bias, cwd_bias" in report.notes


def test_hourly_fields_have_no_daily_spells(tmp_path: Path) -> None:
    fine, coarse, _ = rain.fields(12, seed=4, size=(16, 24))
    hours = np.datetime64("2001-01-01", "ns") + np.arange(12) * np.timedelta64(6, "h")
    for name, field in (("coarse", coarse), ("fine", fine)):
        write_grid(field.assign_coords(time=hours), tmp_path / f"{name}.nc")
    (tmp_path / GRIDS_FILE).write_text(
        '[target]\nfile = "fine.nc"\n[given.precipitation]\nfile = "coarse.nc"\n'
    )
    assert CoarseRain(tmp_path).is_consecutive is None


# --- ensembles -----------------------------------------------------------------------------------


def ensemble(members: int = 6, samples: int = 12) -> tuple[Tensor, Tensor]:
    """Return members (sample, member, y, x) and targets (sample, 1, y, x) with missing cells."""
    generator = np.random.default_rng(1)
    drawn = generator.gamma(0.6, 9.0, (samples, members, 4, 5)) * (
        generator.random((samples, members, 4, 5)) > 0.4
    )
    truth = generator.gamma(0.6, 9.0, (samples, 1, 4, 5))
    truth[generator.random(truth.shape) < 0.1] = np.nan
    return torch.tensor(drawn), torch.tensor(truth)


def test_ensembles_are_scored_as_by_scores(scores: ModuleType) -> None:
    members, truth = ensemble()
    forecast = xr.DataArray(members.numpy(), dims=("t", "member", "y", "x"))
    observed = xr.DataArray(truth[:, 0].numpy(), dims=("t", "y", "x"))
    theirs = scores.probability.crps_for_ensemble(forecast, observed, "member", method="fair")
    variance = forecast.var("member", ddof=1).where(observed.notnull()).mean()
    error = scores.continuous.rmse(forecast.mean("member"), observed)
    built = {each.__name__: each(RAIN_TARGET) for each in (crps, spread, spread_error_ratio)}
    for metric in built.values():
        for batch in torch.arange(len(members)).split(5):
            metric.update(members[batch], truth[batch])
    found = {name: float(metric.compute()) for name, metric in built.items()}
    assert found["crps"] == pytest.approx(float(theirs))
    assert found["spread"] == pytest.approx(float(variance) ** 0.5)
    assert found["spread_error_ratio"] == pytest.approx(float((7 / 6 * variance) ** 0.5 / error))


def test_one_member_has_an_error_and_no_spread() -> None:
    members, truth = ensemble(members=1)
    assert float(crps(RAIN_TARGET)(members, truth)) == pytest.approx(float((members - truth).abs().nanmean()))
    assert float(spread(RAIN_TARGET)(members, truth)) == 0


def test_draws_match_their_quantiles() -> None:
    head = QuantileHead(2, RAIN_TARGET, quantiles=[0.1, 0.5, 0.9])
    head.fit_statistics(torch.tensor([0.0, 30.0]))
    parameters = torch.tensor([0.5, 1.0, 2.0]).view(1, 3, 1, 1).expand(1, 3, 40, 50)
    drawn = head.sample(parameters, num_members=20, seed=3)
    assert drawn.shape == (20, 1, 1, 40, 50)
    quantiles = head.quantile_fields(parameters)[0, :, 0, 0]
    for q, value in zip(
        (0.1, 0.3, 0.5, 0.7, 0.9),
        np.interp((0.1, 0.3, 0.5, 0.7, 0.9), (0.1, 0.5, 0.9), quantiles.detach().numpy()),
        strict=True,
    ):
        assert float(drawn.flatten().quantile(q)) == pytest.approx(value, rel=0.02), q
    assert float(drawn.min()) == pytest.approx(float(quantiles[0]))
    assert float(drawn.max()) == pytest.approx(float(quantiles[-1]))
    assert torch.equal(drawn, head.sample(parameters, num_members=20, seed=3))
    one = QuantileHead(2, RAIN_TARGET, quantiles=[0.5])
    assert torch.equal(
        one.sample(parameters[:, :1], num_members=2)[0], one.quantile_fields(parameters[:, :1])
    )


def test_draws_of_a_distribution_have_its_score() -> None:
    head = BernoulliGammaHead(2, RAIN_TARGET, wet=0.1)
    head.scale.fill_(5.0)
    parameters = torch.tensor([0.4, -0.3, 0.5]).view(1, 3, 1, 1).expand(1, 3, 60, 60)
    p, shape, scale = (float(each[0, 0, 0, 0]) for each in head.distribution(parameters))

    def cdf(x: float) -> float:
        return 1 - p + p * scipy.stats.gamma.cdf(x - 0.1, shape, scale=scale) if x >= 0 else 0.0

    for observed in (0.0, 3.0, 20.0):
        below = scipy.integrate.quad(lambda x: cdf(x) ** 2, 0, observed, limit=200)[0]
        above = scipy.integrate.quad(lambda x: (1 - cdf(x)) ** 2, observed, observed + 200, limit=200)[0]
        drawn = head.sample(parameters, num_members=20, seed=1)[:, 0].transpose(0, 1)
        found = float(crps(RAIN_TARGET)(drawn, torch.full((1, 1, 60, 60), observed)))
        assert found == pytest.approx(below + above, rel=0.03), observed


def model_of(data: CoarseRain, **options) -> GeoModel:
    torch.manual_seed(0)
    arch = {"network": "maunet", "widths": [4, 6, 8]} | options.pop("model_args", {})
    model = geovision.create("downscale-tiny", model_args=arch, **data.model_kwargs(), **options)
    fit_statistics(model, data)
    return model


@pytest.mark.parametrize("head", ["quantiles", "bernoulli-gamma"])
def test_a_head_with_a_distribution_is_scored_as_an_ensemble(
    winters: CoarseRain, scores: ModuleType, head: str
) -> None:
    model = model_of(winters, head=head)
    report = geovision.evaluate(model, winters, n_bootstrap=30)
    batches = list(predict_batches(model, winters, batch_size=7, ensemble=EnsembleConfig()))
    assert all(each.members is not None for each in batches)
    drawn = torch.cat([each.members.fields for each in batches])  # type: ignore[union-attr]
    assert drawn.shape[:2] == (59, 20)
    observed = torch.cat([each.truth for each in batches])[:, 0]
    theirs = scores.probability.crps_for_ensemble(
        xr.DataArray(drawn.numpy(), dims=("t", "member", "y", "x")),
        xr.DataArray(observed.numpy(), dims=("t", "y", "x")),
        "member",
        method="fair",
    )
    found = report.metrics["crps"]
    assert found.value == pytest.approx(float(theirs), rel=1e-5)
    assert found.low < found.value < found.high
    assert report.metrics["spread"].value > 0
    assert any("of 20 draws from the distribution" in note for note in report.notes)
    none = geovision.evaluate(model, winters, n_bootstrap=0, members=0)
    assert not {"crps", "spread", "spread_error_ratio"} & set(none.metrics)


def test_a_single_prediction_has_no_ensemble_scores(winters: CoarseRain) -> None:
    model = model_of(winters)
    report = geovision.evaluate(model, winters, n_bootstrap=0)
    assert not {"crps", "spread", "spread_error_ratio"} & set(report.metrics)
    with pytest.raises(OptionError, match="no dropout"):
        geovision.evaluate(model, winters, n_bootstrap=0, members=3)


def test_dropout_ensembles_have_the_requested_size(winters: CoarseRain) -> None:
    model = model_of(winters, model_args={"dropout": 0.3})
    first, second = (
        geovision.evaluate(model, winters, n_bootstrap=0, members=4, batch_size=size) for size in (5, 32)
    )
    assert first.metrics["spread"].value > 0
    assert first.metrics["crps"].value == pytest.approx(second.metrics["crps"].value, rel=1e-5)
    assert any("of 4 predictions with Monte Carlo dropout" in note for note in first.notes)


def test_parallel_networks_are_an_ensemble(winters: CoarseRain) -> None:
    torch.manual_seed(0)
    model = geovision.create(
        "downscale-maunet-ensemble",
        **winters.model_kwargs(),
        model_args={
            "members": 3,
            "widths": [4, 6, 8],
            "base": "bilinear",
            "components": None,
            "penalty": None,
        },
        head_args={"members": 3},
    )
    fit_statistics(model, winters)
    batches = next(iter(predict_batches(model, winters, ensemble=EnsembleConfig())))
    assert batches.members is not None
    assert batches.members.fields.shape[1] == 3
    report = geovision.evaluate(model, winters, n_bootstrap=0)
    assert report.metrics["spread"].value > 0
    assert any("of 3 networks of the ensemble" in note for note in report.notes)


def test_members_are_for_fields_only() -> None:
    with pytest.raises(OptionError, match="predicts a class; ensembles require a field"):
        geovision.evaluate(geovision.create("cloud-tiny"), None, members=3)  # type: ignore[arg-type]


def test_without_common_days_there_are_no_pairwise_scores(winters: CoarseRain, tmp_path: Path) -> None:
    for name in ("coarse.nc", "fine.nc"):
        (tmp_path / name).symlink_to(winters.root / name)
    (tmp_path / GRIDS_FILE).write_text(
        '[target]\nfile = "fine.nc"\n[given.precipitation]\nfile = "coarse.nc"\nsynchronous = false\n'
    )
    free = CoarseRain(tmp_path, synchronous=False)
    report = geovision.evaluate(
        geovision.create("downscale-bilinear", **free.model_kwargs()), free, n_bootstrap=0
    )
    assert {"cdd_bias", "cwd_bias"} < set(report.metrics)
    assert "crps" not in report.metrics
    assert "taylor" not in report.figures()


# --- Taylor diagram -----------------------------------------------------------------------------


def test_the_taylor_diagram_has_points_of_all_days_and_of_each_winter(winters: CoarseRain) -> None:
    report = geovision.evaluate(
        geovision.create("downscale-bilinear", **winters.model_kwargs()), winters, n_bootstrap=0
    )
    assert isinstance(report, DenseReport)
    assert report.predictions is not None
    (axes,) = report.figures()["taylor"].axes
    drawn = {line.get_label(): line.get_xydata()[0] for line in axes.lines if line.get_marker() in "o*"}
    assert list(drawn) == ["target", "all", "winter 2001", "winter 2002", "winter 2003"]
    prediction, truth = (each.numpy() for each in report.predictions)
    valid = np.isfinite(truth) & np.isfinite(prediction)
    angle, radius = drawn["all"]
    assert radius == pytest.approx(prediction[valid].std() / truth[valid].std(), rel=1e-5)
    assert np.cos(angle) == pytest.approx(np.corrcoef(prediction[valid], truth[valid])[0, 1], rel=1e-5)
    first = np.array([unit == "winter 2001" for unit in winters.groups])
    angle, radius = drawn["winter 2001"]
    p, t = prediction[first][valid[first]], truth[first][valid[first]]
    assert (radius, np.cos(angle)) == pytest.approx((p.std() / t.std(), np.corrcoef(p, t)[0, 1]), rel=1e-5)


def test_a_probabilistic_model_has_every_score_of_rain_in_its_report(winters: CoarseRain) -> None:
    report = geovision.evaluate(model_of(winters, head="quantiles"), winters, n_bootstrap=0)
    assert list(report.metrics) == list(metrics.applicable(report.task.metrics, RAIN_TARGET))
