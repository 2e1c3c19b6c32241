"""Metrics of fields: compared with other libraries where possible, otherwise worked by hand.

They cover extremes, events, neighborhoods, spectra and ensembles.
"""

from __future__ import annotations

import itertools
import math
import warnings
from types import ModuleType

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from geovision.errors import InputError
from geovision.metrics import NotApplicable
from geovision.metrics import regression as regression_metrics
from geovision.metrics.bootstrap import bootstrap
from geovision.metrics.functional import contingency as events
from geovision.metrics.functional import ensemble, extremes, neighborhood, regression, spectra
from geovision.spec import Channel, ClassTarget, FieldTarget

_few = settings(max_examples=15, deadline=None)


def rain(*shape: int, seed: int = 0, dry: float = 0.5, gaps: float = 0.0) -> Tensor:
    """Return rain in mm/day with dry and missing cells."""
    rng = np.random.default_rng(seed)
    values = rng.gamma(0.6, 9.0, shape) * (rng.random(shape) > dry)
    return torch.tensor(np.where(rng.random(shape) < gaps, np.nan, values))


def pair(*shape: int, seed: int = 0, gaps: float = 0.0) -> tuple[Tensor, Tensor]:
    truth = rain(*shape, seed=seed, gaps=gaps)
    other = rain(*shape, seed=seed + 1, gaps=gaps)
    return 0.6 * truth + 0.5 * other, truth


# --- differences and correlation ----------------------------------------------------------------


@pytest.mark.parametrize("gaps", [0.0, 0.2])
def test_differences_match_pysteps(pysteps: ModuleType, gaps: float) -> None:
    from pysteps.verification.detcontscores import det_cont_fct

    p, t = pair(20, 6, 7, gaps=gaps)
    names = {"rmse": "RMSE", "mae": "MAE", "bias": "ME", "correlation": "corr_p"}
    is_valid = p.isfinite() & t.isfinite()
    theirs = det_cont_fct(*(each.where(is_valid, torch.nan).numpy() for each in (p, t)), list(names.values()))
    for own, name in names.items():
        assert float(getattr(regression, own)(p, t)) == pytest.approx(float(theirs[name])), name


def test_differences_use_all_valid_cells() -> None:
    p, t = pair(20, 6, 7, gaps=0.2)
    a, b = p.numpy(), t.numpy()
    is_valid = np.isfinite(a) & np.isfinite(b)
    d = (a - b)[is_valid]
    assert 0.5 < is_valid.mean() < 0.75
    assert float(regression.rmse(p, t)) == pytest.approx(np.sqrt((d**2).mean()))
    assert float(regression.mae(p, t)) == pytest.approx(np.abs(d).mean())
    assert float(regression.bias(p, t)) == pytest.approx(d.mean())
    assert float(regression.relative_bias(p, t)) == pytest.approx(d.mean() / b[is_valid].mean())
    assert float(regression.correlation(p, t)) == pytest.approx(np.corrcoef(a[is_valid], b[is_valid])[0, 1])
    assert float(regression.psnr(p, t, data_range=100)) == pytest.approx(10 * np.log10(1e4 / (d**2).mean()))
    assert float(regression.wasserstein(p, t)) == pytest.approx(
        scipy.stats.wasserstein_distance(a[is_valid], b[is_valid])
    )


def test_correlation_of_each_cell_and_of_each_step() -> None:
    p, t = pair(30, 4, 5, gaps=0.1)
    a = np.ma.masked_invalid(p.numpy())
    b = np.ma.masked_invalid(t.numpy())
    in_time, in_space = regression.correlation(p, t, over="time"), regression.correlation(p, t, over="space")
    assert in_time.shape == (4, 5)
    assert in_space.shape == (30,)
    assert float(in_time[2, 3]) == pytest.approx(np.ma.corrcoef(a[:, 2, 3], b[:, 2, 3])[0, 1])
    assert float(in_space[7]) == pytest.approx(np.ma.corrcoef(a[7].ravel(), b[7].ravel())[0, 1])


def test_scores_without_valid_cells_are_undefined() -> None:
    p, t = pair(5, 3, 3)
    t[:, 1, 1] = math.nan
    assert torch.isnan(regression.rmse(p, t, over="time")[1, 1])
    assert torch.isnan(regression.rmse(p, t, over="time")).sum() == 1
    assert torch.isnan(regression.correlation(p, torch.full_like(t, 0.1)))
    assert torch.isnan(regression.rmse(p, t, torch.zeros(3, 3, dtype=torch.bool)))


@pytest.mark.parametrize(
    "score", [regression.rmse, regression.mae, regression.correlation, regression.wasserstein]
)
@_few
@given(seed=st.integers(0, 2**31))
def test_values_of_masked_cells_have_no_effect(score, seed: int) -> None:
    p, t = pair(4, 5, 6, seed=seed % 1000)
    valid = torch.rand(5, 6, generator=torch.Generator().manual_seed(seed)) < 0.6
    valid[0, :2] = True
    changed = torch.where(valid, p, torch.full_like(p, 1e6))
    missing = torch.where(valid, t, torch.full_like(t, math.nan))
    expected = float(score(p, t, valid))
    assert float(score(changed, t, valid)) == pytest.approx(expected, nan_ok=True)
    assert float(score(p, missing)) == pytest.approx(expected, nan_ok=True)


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(2, 3, 3\) and truth has shape \(2, 3, 4\)"):
        regression.rmse(torch.zeros(2, 3, 3), torch.zeros(2, 3, 4))


def test_quantile_pairs_match_numpy() -> None:
    p, t = pair(50, 8, 8, gaps=0.1)
    is_valid = torch.isfinite(p) & torch.isfinite(t)
    q = torch.tensor([0.5, 0.99, 0.999], dtype=torch.float64)
    found = regression.quantile_pairs(p, t, quantiles=q)
    for values, each in zip((p, t), found, strict=True):
        np.testing.assert_allclose(each, np.quantile(values[is_valid], q), rtol=1e-6)
    assert regression.quantile_pairs(p, t)[0].diff().min() >= 0


# --- structure ----------------------------------------------------------------------------------


def test_ssim_matches_scikit_image() -> None:
    from skimage.metrics import structural_similarity

    p, t = pair(3, 24, 31)
    expected = [
        structural_similarity(
            a, b, data_range=80.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        for a, b in zip(p.numpy(), t.numpy(), strict=True)
    ]
    assert float(regression.ssim(p, t, data_range=80.0)) == pytest.approx(np.mean(expected), abs=1e-9)


def test_multiscale_ssim_combines_the_contrasts_of_torchmetrics_and_the_ssim_of_scikit_image() -> None:
    """In torchmetrics, the mean of the coarsest scale includes mirrored margins, unlike the publication."""
    from skimage.metrics import structural_similarity
    from torchmetrics.functional.image import (
        multiscale_structural_similarity_index_measure,
        structural_similarity_index_measure,
    )

    p, t = pair(1, 1, 192, 200)
    expected, a, b = 1.0, p, t
    for weight in regression.MS_SSIM_WEIGHTS[:-1]:
        _, contrast = structural_similarity_index_measure(
            a, b, data_range=80.0, return_contrast_sensitivity=True
        )
        expected *= float(contrast) ** weight
        a, b = (torch.nn.functional.avg_pool2d(each, 2) for each in (a, b))
    whole = structural_similarity(
        a[0, 0].numpy(), b[0, 0].numpy(), data_range=80.0, gaussian_weights=True, use_sample_covariance=False
    )
    expected *= whole ** regression.MS_SSIM_WEIGHTS[-1]
    found = float(regression.multiscale_ssim(p, t, data_range=80.0))
    assert found == pytest.approx(expected, abs=1e-9)
    assert found == pytest.approx(
        float(multiscale_structural_similarity_index_measure(p, t, data_range=80.0)), abs=1e-3
    )


@pytest.mark.parametrize(
    "score", [regression.ssim, lambda *a, **k: regression.multiscale_ssim(*a, scales=2, **k)]
)
def test_ssim_ignores_missing_cells(score) -> None:
    p, t = pair(2, 32, 30)
    t[:, :12, :9] = math.nan
    found = score(p, t, data_range=80.0)
    assert 0 < float(found) < 1
    p[:, :12, :9] = 1e4
    assert float(score(p, t, data_range=80.0)) == pytest.approx(float(found))
    assert float(score(t, t, data_range=80.0)) == pytest.approx(1)


def test_a_field_too_small_for_the_window_is_refused() -> None:
    with pytest.raises(InputError, match="6 x 8 cells and a window of 11"):
        regression.ssim(*pair(2, 6, 8), data_range=1.0)
    with pytest.raises(InputError, match="side of 40 cells is too small for 5 scales"):
        regression.multiscale_ssim(*pair(2, 40, 40), data_range=1.0)
    with pytest.raises(InputError, match="data_range=0"):
        regression.ssim(*pair(2, 20, 20), data_range=0)


# --- extremes -----------------------------------------------------------------------------------


def longest(days: list[bool], begins: list[bool]) -> int:
    """Return the longest run of true days; a run ends where a new series begins."""
    numbered = list(zip(days, itertools.accumulate(begins), strict=True))
    return max((len(list(group)) for (day, _), group in itertools.groupby(numbered) if day), default=0)


def test_indices_of_each_cell_match_a_loop() -> None:
    field = rain(120, 4, 5, gaps=0.05)
    begins = torch.zeros(120, dtype=torch.bool)
    begins[[0, 40, 80]] = True
    a = field.numpy()
    for y, x in itertools.product(range(4), range(5)):
        days = a[:, y, x]
        is_valid = days[np.isfinite(days)]
        wet = is_valid[is_valid >= 1]
        assert float(extremes.r01(field)[y, x]) == pytest.approx(len(wet) / len(is_valid))
        assert float(extremes.sdii(field)[y, x]) == pytest.approx(wet.mean())
        assert float(extremes.rx1day(field)[y, x]) == is_valid.max()
        assert float(extremes.quantile(field, 0.95)[y, x]) == pytest.approx(np.quantile(is_valid, 0.95))
        starts = begins.tolist()
        assert float(extremes.cdd(field, begins=begins)[y, x]) == longest((days < 1).tolist(), starts)
        assert float(extremes.cwd(field, begins=begins)[y, x]) == longest((days >= 1).tolist(), starts)


def test_a_spell_does_not_continue_over_summer() -> None:
    dry = torch.zeros(90, 1, 1)
    begins = torch.arange(90) % 30 == 0
    assert float(extremes.cdd(dry)) == 90
    assert float(extremes.cdd(dry, begins=begins)) == 30


def test_a_cell_without_valid_values_has_no_index() -> None:
    field = rain(30, 2, 2)
    field[:, 0, 1] = math.nan
    for index in (extremes.r01, extremes.sdii, extremes.rx1day, extremes.cdd, extremes.cwd):
        assert torch.isnan(index(field)).tolist() == [[False, True], [False, False]]
    assert torch.isnan(extremes.quantile(field, 0.99)).tolist() == [[False, True], [False, False]]


def test_the_bias_of_an_index_uses_common_cells() -> None:
    p, t = pair(60, 3, 3)
    t[:, 0, 0] = math.nan
    p[:, 0, 0] = 1e3
    assert float(extremes.index_bias(extremes.rx1day, t * 2, t)) == pytest.approx(
        float(extremes.rx1day(t).nanmean())
    )
    difference = np.quantile(p, 0.99, axis=0) - np.quantile(t, 0.99, axis=0)
    assert float(extremes.quantile_bias(p, t, 0.99)) == pytest.approx(np.nanmean(difference))


# --- events -------------------------------------------------------------------------------------

_PROPERTIES = {
    "probability_of_detection": "probability_of_detection",
    "false_alarm_ratio": "false_alarm_ratio",
    "probability_of_false_detection": "probability_of_false_detection",
    "critical_success_index": "critical_success_index",
    "frequency_bias": "frequency_bias",
    "f1": "f1_score",
    "heidke_skill_score": "heidke_skill_score",
    "equitable_threat_score": "equitable_threat_score",
    "symmetric_extremal_dependence_index": "symmetric_extremal_dependence_index",
    "accuracy": "accuracy",
    "base_rate": "base_rate",
}


def test_events_match_scores(scores: ModuleType) -> None:
    import xarray as xr

    p, t = pair(30, 8, 9, gaps=0.1)
    ours = events.contingency(p, t, 5.0)
    operator = scores.categorical.ThresholdEventOperator(default_event_threshold=5.0)
    table = operator.make_contingency_manager(xr.DataArray(p.numpy()), xr.DataArray(t.numpy())).transform()
    for own, theirs in _PROPERTIES.items():
        assert float(getattr(ours, own)) == pytest.approx(float(getattr(table, theirs)())), own


def test_events_match_pysteps(pysteps: ModuleType) -> None:
    from pysteps.verification.detcatscores import det_cat_fct

    p, t = pair(30, 8, 9)
    # pysteps counts only values above the threshold; no value equals it.
    theirs = det_cat_fct(p.numpy(), t.numpy(), thr=5.0)
    ours = events.contingency(p, t, 5.0)
    for own, name in (
        ("probability_of_detection", "POD"),
        ("false_alarm_ratio", "FAR"),
        ("critical_success_index", "CSI"),
        ("frequency_bias", "BIAS"),
        ("symmetric_extremal_dependence_index", "SEDI"),
        ("heidke_skill_score", "HSS"),
        ("equitable_threat_score", "GSS"),
        ("f1", "F1"),
    ):
        assert float(getattr(ours, own)) == pytest.approx(float(theirs[name])), name


def test_a_table_by_hand() -> None:
    """Finley's tornado forecasts of 1884, as in Jolliffe and Stephenson 2012, table 3.1 and 3.3."""
    finley = events.Contingency(*(torch.tensor(float(n)) for n in (28, 72, 23, 2680)))
    expected = {
        "accuracy": 0.966,
        "probability_of_detection": 0.549,
        "false_alarm_ratio": 0.720,
        "critical_success_index": 0.228,
        "frequency_bias": 1.961,
        "heidke_skill_score": 0.355,
        "equitable_threat_score": 0.216,
        "probability_of_false_detection": 0.026,
    }
    for name, value in expected.items():
        assert float(getattr(finley, name)) == pytest.approx(value, abs=6e-4), name


def test_tables_add_up_and_a_rare_event_may_be_undefined() -> None:
    p, t = pair(10, 6, 6)
    first, second = (events.contingency(p[part], t[part], 3.0) for part in (slice(0, 4), slice(4, None)))
    assert first + second == events.contingency(p, t, 3.0)
    none = events.contingency(torch.zeros(9), torch.zeros(9), 3.0)
    assert float(none.accuracy) == 1
    for name in ("critical_success_index", "probability_of_detection", "symmetric_extremal_dependence_index"):
        assert math.isnan(float(getattr(none, name)))


# --- neighborhood and spectra -------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1, 2, 5, 9])
def test_fss_matches_pysteps(pysteps: ModuleType, scale: int) -> None:
    from pysteps.verification.spatialscores import fss

    p, t = pair(20, 23)
    assert float(neighborhood.fss(p, t, 6.0, scale)) == pytest.approx(fss(p.numpy(), t.numpy(), 6.0, scale))


@pytest.mark.parametrize("scale", [3, 5])
def test_fss_over_several_fields_matches_scores(scores: ModuleType, scale: int) -> None:
    import xarray as xr
    from scores.spatial import fss_2d

    p, t = (each[:, :, :] for each in pair(6, 20, 23))
    dims = ("time", "y", "x")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # scores uses only windows within the grid; zeros around both fields make the results equal.
        theirs = fss_2d(
            *(
                xr.DataArray(torch.nn.functional.pad(each, (scale, scale, scale, scale)).numpy(), dims=dims)
                for each in (p, t)
            ),
            event_threshold=6.0,
            window_size=(scale, scale),
            spatial_dims=("y", "x"),
            threshold_operator=np.greater_equal,
        )
    padded = [torch.nn.functional.pad(each, (scale, scale, scale, scale)) for each in (p, t)]
    assert float(neighborhood.fss(*padded, 6.0, scale)) == pytest.approx(float(theirs))


@_few
@given(seed=st.integers(0, 1000), scale=st.integers(1, 12))
def test_fss_is_between_zero_and_one(seed: int, scale: int) -> None:
    p, t = pair(3, 12, 14, seed=seed, gaps=0.1)
    assert 0 <= float(neighborhood.fss(p, t, 5.0, scale)) <= 1
    assert float(neighborhood.fss(t, t, 5.0, scale)) == 1
    shares = neighborhood.neighborhood_fractions(t >= 5, scale)
    assert shares.shape == t.shape
    assert 0 <= float(shares.min()) <= float(shares.max()) <= 1


def test_fss_by_hand() -> None:
    """Offset by one cell: no skill at grid scale, more skill in a wider window."""
    p, t = torch.zeros(9, 9), torch.zeros(9, 9)
    p[4, 4], t[4, 5] = 10.0, 10.0
    assert float(neighborhood.fss(p, t, 5.0, 1)) == 0
    assert float(neighborhood.fss(p, t, 5.0, 3)) == pytest.approx(1 - 6 / 18)
    assert math.isnan(float(neighborhood.fss(p * 0, t * 0, 5.0, 3)))
    assert float(neighborhood.useful_fss(t, 5.0)) == pytest.approx(0.5 + 0.5 / 81)


@pytest.mark.parametrize("side", [32, 33])
def test_a_spectrum_matches_pysteps(pysteps: ModuleType, side: int) -> None:
    from pysteps.utils.spectral import rapsd

    field = rain(3, side, side)
    frequency, power = spectra.spectrum(field, spacing=4.0)
    theirs = [rapsd(each, fft_method=np.fft, return_freq=True, d=4.0) for each in field.numpy()]
    np.testing.assert_allclose(power, np.mean([each[0] for each in theirs], axis=0))
    np.testing.assert_allclose(frequency, theirs[0][1])


def test_a_wave_has_its_peak_at_its_frequency() -> None:
    x = torch.arange(48, dtype=torch.float64)
    wave = torch.sin(2 * torch.pi * x / 8).expand(30, 48)
    frequency, power = spectra.spectrum(wave, spacing=0.5)
    assert float(frequency[power.argmax()]) == pytest.approx(1 / (8 * 0.5))
    assert len(frequency) == 24


def test_spectral_distance_matches_pysteps(pysteps: ModuleType) -> None:
    from pysteps.utils.spectral import rapsd

    p, t = pair(3, 33, 33)
    own, wanted = (
        np.mean([rapsd(field, fft_method=np.fft) for field in each.numpy()], axis=0)[1:] for each in (p, t)
    )
    expected = np.sqrt(np.mean((10 * np.log10(wanted / own)) ** 2))
    assert float(spectra.ralsd(p, t)) == pytest.approx(expected)


def test_spectral_distance() -> None:
    truth = rain(4, 32, 32)
    assert float(spectra.ralsd(truth, truth)) == 0
    assert float(spectra.ralsd(2 * truth, truth)) == pytest.approx(20 * math.log10(2))
    blurred = torch.nn.functional.avg_pool2d(truth[:, None], 5, 1, padding=2)[:, 0]
    _, own = spectra.spectrum(blurred)
    _, wanted = spectra.spectrum(truth)
    expected = np.sqrt(np.mean((10 * np.log10((wanted[1:] / own[1:]).numpy())) ** 2))
    assert float(spectra.ralsd(blurred, truth)) == pytest.approx(expected)
    assert float(spectra.ralsd(blurred, truth)) > 5


# --- ensembles ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("fair", "method"), [(True, "fair"), (False, "ecdf")])
def test_crps_matches_scores(scores: ModuleType, fair: bool, method: str) -> None:
    import xarray as xr

    members, truth = rain(7, 20, 5, 6, seed=3), rain(20, 5, 6, seed=4)
    theirs = scores.probability.crps_for_ensemble(
        xr.DataArray(members.numpy(), dims=("member", "t", "y", "x")),
        xr.DataArray(truth.numpy(), dims=("t", "y", "x")),
        "member",
        method=method,
    )
    assert float(ensemble.crps(members, truth, fair=fair)) == pytest.approx(float(theirs))


def test_crps_matches_pysteps(pysteps: ModuleType) -> None:
    from pysteps.verification.probscores import CRPS

    # Without dry cells: where the target equals one of the members, pysteps omits a term.
    members, truth = (rain(*shape, dry=0.0, seed=n) for n, shape in enumerate([(7, 20, 5, 6), (20, 5, 6)]))
    truth[:3] = math.nan
    assert float(ensemble.crps(members, truth, fair=False)) == pytest.approx(
        CRPS(members.numpy(), truth.numpy())
    )


def test_ranks_match_pysteps(pysteps: ModuleType) -> None:
    from pysteps.verification.ensscores import rankhist

    members, truth = (rain(*shape, dry=0.0, seed=n) for n, shape in enumerate([(7, 20, 30), (20, 30)]))
    theirs = rankhist(members.numpy(), truth.numpy(), normalize=False)
    np.testing.assert_array_equal(ensemble.rank_histogram(members, truth).numpy(), theirs)


def test_crps_by_hand() -> None:
    members, truth = torch.tensor([[1.0], [3.0]]), torch.tensor([2.0])
    assert float(ensemble.crps(members, truth, fair=False)) == pytest.approx(0.5)
    assert float(ensemble.crps(members, truth, fair=True)) == pytest.approx(0.0)
    assert float(ensemble.crps(members[:1], truth)) == 1.0


def test_an_ensemble_of_the_same_distribution_is_reliable() -> None:
    drawn = torch.tensor(np.random.default_rng(0).gamma(0.6, 9.0, (10, 4000)))
    members, truth = drawn[:9], drawn[9]
    assert float(ensemble.spread_skill_ratio(members, truth)) == pytest.approx(1, abs=0.05)
    assert float(ensemble.spread(members)) == pytest.approx(float(members.var(0).mean().sqrt()))
    assert float(ensemble.spread_skill_ratio(members * 0.3, truth)) < 0.6
    ranks = ensemble.rank_histogram(members, truth).double()
    assert ranks.sum() == 4000
    assert float((ranks / 400 - 1).abs().max()) < 0.15


def test_ranks_of_dry_days_are_drawn_at_random() -> None:
    dry = torch.zeros(9, 5000)
    ranks = ensemble.rank_histogram(dry, torch.zeros(5000)).double()
    assert float((ranks / 500 - 1).abs().max()) < 0.2
    assert torch.equal(ranks, ensemble.rank_histogram(dry, torch.zeros(5000)).double())


def test_reliability_matches_scikit_learn() -> None:
    from sklearn.calibration import calibration_curve

    members, truth = rain(10, 3000, seed=5), rain(3000, seed=6)
    found = ensemble.reliability(members[:9], truth, 4.0, bins=7)
    observed, forecast = calibration_curve(
        (truth >= 4).numpy(), (members[:9] >= 4).double().mean(0).numpy(), n_bins=7
    )
    some = found.counts > 0
    np.testing.assert_allclose(found.observed[some], observed)
    np.testing.assert_allclose(found.forecast[some], forecast)
    assert int(found.counts.sum()) == 3000


def test_pinball_matches_scikit_learn_and_is_least_at_the_quantile() -> None:
    from sklearn.metrics import mean_pinball_loss

    truth = rain(3000)
    q = torch.tensor([0.5, 0.9])
    predicted = torch.stack([torch.full_like(truth, float(truth.quantile(each))) for each in q.double()])
    found = ensemble.pinball(predicted, truth, q)
    for number, each in enumerate(q.tolist()):
        assert float(found[number]) == pytest.approx(
            mean_pinball_loss(truth, predicted[number], alpha=each), rel=1e-6
        )
    for shift in (-1.0, 1.0):
        assert (ensemble.pinball(predicted + shift, truth, q) > found).all()


def test_cells_with_missing_members_are_skipped_and_wrong_axes_refused() -> None:
    members, truth = rain(5, 40, 3, seed=1), rain(40, 3, seed=2)
    some = members.clone()
    some[2, :10] = math.nan
    assert float(ensemble.crps(some, truth)) == pytest.approx(
        float(ensemble.crps(members[:, 10:], truth[10:]))
    )
    with pytest.raises(InputError, match="expected \\(member, …\\)"):
        ensemble.crps(truth, truth)


# --- as metrics ---------------------------------------------------------------------------------

TARGET = FieldTarget(Channel("precipitation", "mm day-1", (0.0, 10_000.0)))
SUMMED = {
    "rmse": (regression_metrics.rmse, regression.rmse),
    "mae": (regression_metrics.mae, regression.mae),
    "bias": (regression_metrics.bias, regression.bias),
    "correlation": (regression_metrics.correlation, regression.correlation),
    "fss": (lambda t: regression_metrics.fss(t, 5.0, 3), lambda p, t: neighborhood.fss(p, t, 5.0, 3)),
    "csi": (
        lambda t: regression_metrics.event_score(t, "critical_success_index", 5.0),
        lambda p, t: events.contingency(p, t, 5.0).critical_success_index,
    ),
}


@pytest.mark.parametrize("name", SUMMED)
def test_sums_of_batches_give_the_score_of_all(name: str) -> None:
    build, whole = SUMMED[name]
    p, t = pair(20, 6, 7, gaps=0.1)
    metric = build(TARGET)
    for batch in torch.arange(20).split(7):
        metric.update(p[batch], t[batch])
    assert float(metric.compute()) == pytest.approx(float(whole(p, t)))
    metric.reset()
    metric.update(p[:0], t[:0])
    assert math.isnan(float(metric.compute()))


def test_scores_of_fields_have_intervals_by_group() -> None:
    p, t = pair(24, 5, 5)
    winters = [f"winter {n // 6}" for n in range(24)]
    built = {name: build(TARGET) for name, (build, _) in SUMMED.items()}
    for name, estimate in bootstrap(built, p, t, winters, n_bootstrap=200).items():
        assert float(estimate.low) < float(estimate.value) < float(estimate.high), name
        assert float(estimate.value) == pytest.approx(float(SUMMED[name][1](p, t)))


def test_scores_of_fields_do_not_fit_classes() -> None:
    for build, _ in SUMMED.values():
        with pytest.raises(NotApplicable, match="scores fields, not a class"):
            build(ClassTarget(("a", "b")))
    assert regression_metrics.event_score(TARGET, "false_alarm_ratio", 5.0).higher_is_better is False
    with pytest.raises(NotApplicable, match=r"has no score 'csi'; known: .*critical_success_index"):
        regression_metrics.event_score(TARGET, "csi", 5.0)


def test_a_constant_has_no_correlation() -> None:
    metric = regression_metrics.correlation(TARGET)
    metric.update(torch.full((4, 3, 3), 0.1), rain(4, 3, 3))
    assert math.isnan(float(metric.compute()))
