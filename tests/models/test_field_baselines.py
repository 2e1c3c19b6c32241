"""Transforms of fields, bias corrections without a network, and figures of fields."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from geovision.datasets.synthetic import rain
from geovision.errors import InputError, OptionError
from geovision.metrics.functional import extremes, regression, spectra
from geovision.models.layers.scalers import SCALERS, MinMaxScaler, StandardScaler, build_scaler_chain
from geovision.models.quantile_mapping import EmpiricalQuantileMapping, LinearScaling, QuantileDeltaMapping
from geovision.plots import fields as figures

_few = settings(max_examples=15, deadline=None)


# --- transforms ---------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [["log1p", "zscore"], ["sqrt", "minmax"], ["zscore"], ["identity"], []])
@_few
@given(seed=st.integers(0, 1000))
def test_the_inverse_of_a_transform_restores_the_values(names: list[str], seed: int) -> None:
    field = torch.randn(6, 2, 4, 5, generator=torch.Generator().manual_seed(seed)).exp() * 5
    field[0, 0, 0, 0] = math.nan
    both = build_scaler_chain(names, 2)
    both.fit(field)
    torch.testing.assert_close(both.inverse(both(field)), field, equal_nan=True, rtol=1e-4, atol=1e-4)
    assert torch.isnan(both(field)).sum() == 1


def test_statistics_are_those_of_the_training_years_and_saved() -> None:
    training = torch.stack([torch.full((3, 3), 2.0), torch.full((3, 3), 6.0)]).view(2, 1, 3, 3)
    training[1, 0, 0, 0] = math.nan
    fitted = StandardScaler()
    fitted.fit(training)
    values = training[torch.isfinite(training)]
    assert float(fitted(torch.full((1, 1, 3, 3), 6.0))[0, 0, 0, 0]) == pytest.approx(
        float((6 - values.mean()) / values.std())
    )
    again = StandardScaler()
    again.load_state_dict(fitted.state_dict())
    assert torch.equal(again(training[:1]), fitted(training[:1]))
    bounds = MinMaxScaler()
    bounds.fit(training)
    assert bounds(torch.tensor([2.0, 6.0, 10.0]).view(1, 1, 1, 3)).flatten().tolist() == [0, 1, 2]


def test_transforms_that_cannot_be_fitted_are_refused() -> None:
    assert torch.isnan(StandardScaler()(torch.ones(1, 1, 2, 2))).all()
    with pytest.raises(InputError, match="channel 0 is constant"):
        StandardScaler().fit(torch.ones(3, 1, 2, 2))
    with pytest.raises(InputError, match="channel 1 has 0 values"):
        MinMaxScaler(2).fit(torch.stack([torch.rand(4, 3, 3), torch.full((4, 3, 3), math.nan)], 1))
    with pytest.raises(InputError, match=r"expected \(sample, 2, y, x\)"):
        MinMaxScaler(2).fit(torch.rand(4, 1, 3, 3))
    with pytest.raises(OptionError, match=f"known: {', '.join(SCALERS)}"):
        build_scaler_chain(["log"])


# --- corrections --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair() -> tuple[Tensor, Tensor]:
    """Return simulated and observed coarse rain, shape (time, y, x): the same weather, distorted."""
    _, coarse, model = rain.fields(600, seed=4, size=(16, 20), sea=0.0)
    return torch.tensor(model.values), torch.tensor(coarse.values)


def test_linear_scaling_removes_the_bias_of_the_mean(pair: tuple[Tensor, Tensor]) -> None:
    model, truth = pair
    scaling = LinearScaling()
    scaling.fit(model, truth)
    assert float(regression.bias(scaling(model), truth, over="time").abs().max()) < 1e-4


def test_quantile_mapping_removes_a_monotone_bias_on_other_days(pair: tuple[Tensor, Tensor]) -> None:
    model, truth = pair
    mapping = EmpiricalQuantileMapping()
    mapping.fit(model[:400], truth[:400])
    found, wanted = mapping(model[400:]), truth[400:]
    before, after = (regression.rmse(each, wanted) for each in (model[400:], found))
    assert float(after) < 0.5 * float(before)
    for q in (0.95, 0.99):
        raw = extremes.quantile_bias(model[400:], wanted, q)
        assert abs(float(extremes.quantile_bias(found, wanted, q))) < 0.5 * abs(float(raw))
    assert float(found.min()) == 0
    assert abs(float(extremes.index_bias(extremes.r01, found, wanted))) < 0.03


def test_quantile_mapping_gives_the_observed_distribution() -> None:
    """With a node at every value, each day becomes the observed value of its rank."""
    generator = torch.Generator().manual_seed(0)
    modeled, observed = (torch.randn(50, 3, 2, generator=generator).exp() * k for k in (1, 5))
    mapping = EmpiricalQuantileMapping(num_quantiles=50)
    mapping.fit(modeled, observed)
    found = mapping(modeled).sort(0).values
    torch.testing.assert_close(found, observed.sort(0).values, rtol=1e-4, atol=1e-4)


def test_quantile_delta_mapping_keeps_a_trend_that_quantile_mapping_loses(
    pair: tuple[Tensor, Tensor],
) -> None:
    """In a climate with 25 % more rain, the ratio of the means is kept."""
    model, truth = pair
    mapping = QuantileDeltaMapping()
    mapping.fit(model, truth)
    now, later = mapping(model), mapping(1.25 * model)
    assert float(later.mean() / now.mean()) == pytest.approx(1.25, rel=1e-3)
    assert float(now.mean() / truth.mean()) == pytest.approx(1, abs=0.02)
    empirical = EmpiricalQuantileMapping()
    empirical.fit(model, truth)
    assert abs(float(empirical(1.25 * model).mean() / empirical(model).mean()) - 1.25) > 0.02


@pytest.mark.parametrize("kind", [LinearScaling, EmpiricalQuantileMapping, QuantileDeltaMapping])
def test_corrections_are_saved_keep_gaps_and_stay_in_range(kind, pair: tuple[Tensor, Tensor]) -> None:
    model, truth = (each.clone() for each in pair)
    truth[:, 0, 0] = math.nan
    model[5, 2, 2] = math.nan
    mapping = kind()
    mapping.fit(model, truth)
    found = mapping(model)
    assert torch.isnan(found[5, 2, 2])
    assert torch.isnan(found[:, 0, 0]).all()
    inside = torch.ones_like(found, dtype=torch.bool)
    inside[:, 0, 0] = inside[5, 2, 2] = False
    assert torch.isfinite(found[inside]).all()
    assert float(found[inside].min()) >= 0
    again = kind()
    again.load_state_dict(mapping.state_dict())
    torch.testing.assert_close(again(model), found, equal_nan=True)
    extreme = mapping(torch.full_like(model, 1000.0))
    assert float(extreme[inside].max()) <= 10_000
    with pytest.raises(InputError, match=r"expected one shape \(time, y, x\)"):
        mapping.fit(model[:, :2], truth)


# --- figures ------------------------------------------------------------------------------------


def drawn(figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=40)
    return stream.getvalue()


def test_figures_contain_the_given_values() -> None:
    pytest.importorskip("matplotlib")
    fine, _, model = (each.values for each in rain.fields(20, seed=2, size=(16, 20)))
    figure = figures.plot_fields(
        model[3],
        fine[4],
        fine[3],
        extent=(0, 5, 40, 44),
        coarse_extent=(0, 5, 40, 44),
        suptitle="a day",
        unit="mm day-1",
        levels=(0.1, 1, 10, 100),
    )
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in panels] == ["input", "prediction", "target", "prediction - target"]
    np.testing.assert_allclose(panels[3].images[0].get_array().filled(np.nan), fine[4] - fine[3])
    assert panels[0].get_xlim() == panels[2].get_xlim() == (0, 5)
    assert len(drawn(figure)) > 5000
    truth = torch.tensor(fine)
    quantiles = [each.numpy() for each in regression.quantile_pairs(2 * truth, truth)]
    figure = figures.plot_quantile_quantile({"twice": tuple(quantiles)}, unit="mm day-1")
    line = figure.axes[0].lines[1]
    np.testing.assert_allclose(line.get_ydata(), 2 * line.get_xdata(), rtol=1e-6)
    assert len(drawn(figure)) > 3000
    power = [each.numpy() for each in spectra.spectrum(truth.nan_to_num(), spacing=25.0)]
    figure = figures.plot_spectra({"target": tuple(power), "twice": (power[0], 4 * power[1])}, unit="km")
    assert figure.axes[0].get_xlabel() == "wavelength, km"
    assert len(drawn(figure)) > 3000


@pytest.mark.parametrize("correlation", [0.8, -0.4])
def test_the_taylor_diagram_places_each_model_by_its_statistics(correlation: float) -> None:
    pytest.importorskip("matplotlib")
    figure = figures.plot_taylor_diagram({"a model": (0.7, correlation)})
    point = next(line for line in figure.axes[0].lines if line.get_label() == "a model")
    assert float(np.cos(point.get_xdata()[0])) == pytest.approx(correlation)
    assert float(point.get_ydata()[0]) == 0.7
    assert math.degrees(figure.axes[0].get_xlim()[1]) == pytest.approx(90 if correlation > 0 else 180)
    assert len(drawn(figure)) > 3000


def test_a_mapping_that_is_fitted_or_loaded_again_replaces_the_previous_one() -> None:
    generator = torch.Generator().manual_seed(0)
    rain = torch.rand(60, 3, 4, generator=generator) * 20
    mapping = EmpiricalQuantileMapping(num_quantiles=20)
    mapping.fit(rain, rain * 2)
    first = mapping(rain)
    assert torch.equal(mapping(rain), first)
    kept = {name: each.clone() for name, each in mapping.state_dict().items()}
    mapping.fit(rain, rain * 3)
    assert torch.allclose(mapping(rain), 1.5 * first, rtol=1e-4)
    mapping.observed.mul_(2)
    assert torch.allclose(mapping(rain), 3 * first, rtol=1e-4)
    mapping.load_state_dict(kept)
    assert torch.equal(mapping(rain), first)
