"""Metrics of masks: compared with other implementations and worked by hand."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geovision.metrics import METRICS, NotApplicable, create, parse
from geovision.metrics.bootstrap import bootstrap
from geovision.metrics.functional.objects import ObjectCounts, match_objects
from geovision.metrics.mask_metrics import RELIABILITY_BINS, reliability_curve
from geovision.spec import ClassTarget, MaskTarget

TARGET = MaskTarget("hail", threshold=0.4)
NAMES = (
    "pofd",
    "sedi",
    "fss(scale=1)",
    "fss(scale=11)",
    "fss(scale=21)",
    "fss(scale=41)",
    "brier_skill",
    "calibration_error",
    "object_pod",
    "object_far",
    "object_distance",
    "csi(per_sample=True)",
    "f1(per_sample=True)",
    "pod(per_sample=True)",
    "far(per_sample=True)",
)


def _fields(seed: int = 0, samples: int = 6, side: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    """Return smooth probabilities and a target drawn from them, with some missing cells."""
    ndimage = pytest.importorskip("scipy.ndimage")
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(samples, 1, side, side)), (0, 0, 3, 3)) * 11
    probability = 1 / (1 + np.exp(1.2 - smooth))
    truth = (rng.random(probability.shape) < probability).astype(float)
    truth = (ndimage.gaussian_filter(truth, (0, 0, 1, 1)) > 0.5).astype(float)
    truth[rng.random(truth.shape) < 0.05] = np.nan
    return torch.tensor(probability), torch.tensor(truth)


def test_rare_events_and_skill_match_scores() -> None:
    categorical = pytest.importorskip("scores.categorical")
    xarray = pytest.importorskip("xarray")
    probability, truth = _fields()
    valid = ~torch.isnan(truth)
    predicted, observed = (
        xarray.DataArray(each[valid].double().numpy()) for each in (probability >= 0.4, truth)
    )
    table = categorical.BinaryContingencyManager(predicted, observed)
    for name, expected in (
        ("pofd", table.probability_of_false_detection()),
        ("sedi", table.symmetric_extremal_dependence_index()),
        ("csi", table.critical_success_index()),
        ("far", table.false_alarm_ratio()),
        ("hss", table.heidke_skill_score()),
        ("ets", table.gilberts_skill_score()),
    ):
        assert float(create(name, TARGET)(probability, truth)) == pytest.approx(float(expected), rel=1e-9)
    from scores.probability import brier_score

    p, t = (xarray.DataArray(each[valid].numpy()) for each in (probability, truth))
    skill = 1 - float(brier_score(p, t)) / float(brier_score(xarray.full_like(p, float(t.mean())), t))
    assert float(create("brier_skill", TARGET)(probability, truth)) == pytest.approx(skill, rel=1e-9)


def test_fractions_at_every_scale_match_scores() -> None:
    spatial = pytest.importorskip("scores.spatial")
    probability, truth = _fields()
    truth = truth.nan_to_num(0.0)
    for scale in (1, 11, 21, 41):
        p = np.zeros((6, 48 + 2 * scale, 48 + 2 * scale))
        t = p.copy()
        p[:, scale:-scale, scale:-scale], t[:, scale:-scale, scale:-scale] = probability[:, 0], truth[:, 0]
        # Windows reach beyond the grid, where all cells are zero, as in geovision.
        parts = [_fraction_sums(a >= 0.4, b >= 0.5, scale) for a, b in zip(p, t, strict=True)]
        expected = 1 - sum(each[0] for each in parts) / sum(each[1] for each in parts)
        found = float(create(f"fss(scale={scale})", TARGET)(probability, truth))
        assert found == pytest.approx(expected, rel=1e-9)
    one = spatial.fss_2d_single_field(
        probability[0, 0].numpy(), truth[0, 0].numpy(), event_threshold=0.4, window_size=(1, 1)
    )
    assert float(create("fss(scale=1)", TARGET)(probability[:1], truth[:1])) == pytest.approx(
        float(one), rel=1e-6
    )


def _fraction_sums(predicted: np.ndarray, observed: np.ndarray, scale: int) -> tuple[float, float]:
    """Return numerator and denominator of the score from cumulative sums."""

    def fractions(mask: np.ndarray) -> np.ndarray:
        total = np.pad(mask.astype(float), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
        return (
            total[scale:, scale:] - total[:-scale, scale:] - total[scale:, :-scale] + total[:-scale, :-scale]
        )[scale // 2 + 1 : scale // 2 + 49, scale // 2 + 1 : scale // 2 + 49] / scale**2

    p, t = fractions(predicted), fractions(observed)
    return float(((p - t) ** 2).sum()), float((p**2).sum() + (t**2).sum())


def test_rare_events_match_pysteps(pysteps: ModuleType) -> None:
    from pysteps.verification.detcatscores import det_cat_fct

    probability, truth = _fields()
    valid = ~torch.isnan(truth)  # pysteps treats a missing cell as one without the event
    found = det_cat_fct(probability[valid].numpy(), truth[valid].numpy(), 0.4, ["CSI", "HSS", "FA"])
    for ours, theirs in (("csi", "CSI"), ("hss", "HSS"), ("pofd", "FA")):
        assert float(create(ours, TARGET)(probability, truth)) == pytest.approx(found[theirs], rel=1e-6)


def test_reliability_curves_and_counts_match_scikit_learn() -> None:
    calibration = pytest.importorskip("sklearn.calibration")
    probability, truth = _fields()
    valid = ~torch.isnan(truth)
    frequency, predicted = calibration.calibration_curve(
        truth[valid], probability[valid], n_bins=RELIABILITY_BINS
    )
    found = reliability_curve(probability, truth)
    filled = found.counts > 0
    np.testing.assert_allclose(found.observed[filled], frequency, rtol=1e-9)
    np.testing.assert_allclose(found.forecast[filled], predicted, rtol=1e-9)
    assert float(found.counts.sum()) == float(valid.sum())
    error = (found.counts * (found.observed - found.forecast).abs()).nansum() / found.counts.sum()
    assert float(create("calibration_error", TARGET)(probability, truth)) == pytest.approx(float(error))


def test_objects_are_matched_within_the_distance_and_counted_once() -> None:
    observed, predicted = np.zeros((20, 20), bool), np.zeros((20, 20), bool)
    observed[2:4, 2:4] = observed[4, 4] = True  # one object: diagonal neighbors belong to it
    observed[15:17, 15:17] = True
    predicted[2:4, 8:10] = True  # 4 cells next to the corner of the first: (3, 8) to (4, 4) is sqrt(17)
    predicted[0, 19] = True
    assert match_objects(predicted, observed, max_distance=5) == ObjectCounts(
        2, 1, 2, 1, pytest.approx(17**0.5)
    )
    assert match_objects(predicted, observed, max_distance=4) == ObjectCounts(2, 0, 2, 2, 0.0)
    assert match_objects(observed, observed, max_distance=0) == ObjectCounts(2, 2, 2, 0, 0.0)
    assert match_objects(np.zeros_like(observed), observed, max_distance=99) == ObjectCounts(2, 0, 0, 0, 0.0)
    batch = (
        torch.tensor(np.stack([predicted, observed])[:, None]).double(),
        torch.tensor(np.stack([observed, observed])[:, None]).double(),
    )
    assert float(create("object_pod", TARGET)(*batch)) == 3 / 4
    assert float(create("object_far", TARGET)(*batch)) == 1 / 4
    assert float(create("object_distance", TARGET)(*batch)) == pytest.approx(17**0.5 / 3)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_objects_match_an_exhaustive_search(seed: int) -> None:
    measure = pytest.importorskip("skimage.measure")
    rng = np.random.default_rng(seed)
    predicted, observed = rng.random((2, 12, 12)) < 0.06
    hits = match_objects(predicted, observed, max_distance=2)
    distances = []
    areas, number = measure.label(observed, connectivity=2, return_num=True)
    for area in range(1, number + 1):
        own, other = np.argwhere(areas == area), np.argwhere(predicted)
        apart = (
            np.hypot(*(own[:, None] - other[None]).transpose(2, 0, 1)) if len(other) else np.array([np.inf])
        )
        distances.append(apart.min())
    found = [distance for distance in distances if distance <= 2]
    assert (hits.observed, hits.hits) == (number, len(found))
    assert hits.distance == pytest.approx(sum(found))


def test_pooled_and_per_sample_scores_differ() -> None:
    truth, predicted = torch.zeros(3, 1, 10, 10), torch.zeros(3, 1, 10, 10)
    truth[0, 0, :, :8] = predicted[0, 0, :, :8] = 1  # a large storm, hit
    truth[1, 0, 0, 0] = predicted[1, 0, 5, 5] = 1  # a small storm, missed
    assert float(create("csi", TARGET)(predicted, truth)) == pytest.approx(80 / 82)
    assert float(create("csi(per_sample=True)", TARGET)(predicted, truth)) == pytest.approx(0.5)
    assert float(create("f1(per_sample=True)", TARGET)(predicted, truth)) == pytest.approx(0.5)
    predicted[2, 0, 3, 3] = 1  # a false alarm without an observed cell: the detection rate is undefined
    assert float(create("pod(per_sample=True)", TARGET)(predicted, truth)) == pytest.approx(0.5)
    assert float(create("far(per_sample=True)", TARGET)(predicted, truth)) == pytest.approx(2 / 3)
    assert create("contingency", TARGET)(predicted, truth).tolist() == [80, 2, 1, 217]


def test_intervals_resample_days_and_updates_add_up() -> None:
    probability, truth = _fields(samples=8, side=24)
    metrics = {name: create(name, TARGET) for name in NAMES}
    days = ["a", "a", "b", "b", "c", "c", "d", "d"]
    found = bootstrap(metrics, probability, truth, days, n_bootstrap=50, seed=1)
    for name, estimate in found.items():
        whole = create(name, TARGET)
        for part in range(0, 8, 2):
            whole.update(probability[part : part + 2], truth[part : part + 2])
        assert float(estimate.value) == pytest.approx(float(whole.compute()), rel=1e-9), name
        if np.isfinite(float(estimate.value)):
            assert float(estimate.low) <= float(estimate.value) + 1e-6 <= float(estimate.high) + 2e-6, name


def test_mask_metrics_do_not_apply_to_classes() -> None:
    alone = [name for name in NAMES if "class" not in METRICS[parse(name)[0]]]
    assert len(alone) >= 12
    for name in alone:
        with pytest.raises(NotApplicable, match="not for a class"):
            create(name, ClassTarget(("a", "b")))
