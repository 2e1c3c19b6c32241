"""Fields and masks end to end: building, training, evaluation, prediction and saving."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from helpers import maps
from sklearn.metrics import average_precision_score, brier_score_loss, f1_score
from torch import Tensor

import geovision
from geovision import registry
from geovision.datasets.base import GeoDataset
from geovision.errors import InputError, OptionError
from geovision.evaluation import DenseReport, predict_batches
from geovision.heads.mask import IdentityMaskHead, MaskHead, dice_loss, focal_loss
from geovision.heads.prediction import FieldPrediction, MaskPrediction
from geovision.metrics import NotApplicable, create
from geovision.metrics.bootstrap import GroupedMetrics, bootstrap
from geovision.metrics.mask_metrics import PROBABILITY_BINS
from geovision.models.geomodel import GeoModel
from geovision.spec import ClassTarget, MaskTarget, Stage
from geovision.training.data_statistics import fit_statistics

HAIL = MaskTarget("hail", threshold=0.4)


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    """Register the tasks and models of `maps` in addition to those of the registry."""
    tasks = {task.name: task for task in maps.TASKS.values()} | dict(registry.tasks())
    models = {spec.name: spec for spec in maps.MODELS.values()} | dict(registry.models())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "tasks", lambda: MappingProxyType(tasks))
        patch.setattr(registry, "models", lambda: MappingProxyType(models))
        yield


def fresh(kind: str, **options) -> GeoModel:
    torch.manual_seed(0)
    return geovision.create(maps.MODELS[kind].name, **options)


@pytest.fixture(scope="module")
def fields() -> tuple[GeoDataset, GeoDataset]:
    return maps.Fields().group_split(0.25, seed=0)


@pytest.fixture(scope="module")
def masks() -> tuple[GeoDataset, GeoDataset]:
    return maps.Masks().group_split(0.25, seed=0)


@pytest.fixture(scope="module")
def downscaler(fields) -> GeoModel:
    training, held = fields
    model = fresh("field", **training.model_kwargs())
    return geovision.train(model, training, validation=held, progress=False)


@pytest.fixture(scope="module")
def detector(masks) -> GeoModel:
    training, held = masks
    recipe = dataclasses.replace(maps.TASKS["mask"].recipe, stages=(Stage(epochs=14, batch_size=8, lr=1e-2),))
    return geovision.train(fresh("mask"), training, validation=held, recipe=recipe, progress=False)


# --- training ------------------------------------------------------------------------------------


def test_fields_train_by_gradient_in_closed_form_and_without_training(downscaler: GeoModel, fields) -> None:
    training, held = fields
    nearest = geovision.train(fresh("none"), training, progress=False)
    mean = geovision.train(fresh("closed"), training, progress=False)
    errors = [
        geovision.evaluate(model, held, n_bootstrap=0).metrics["rmse"].value
        for model in (downscaler, nearest, mean)
    ]
    assert errors[0] < 0.8 * errors[2]
    assert errors[1] < 0.8 * errors[2]
    assert float(mean.head.limit) == float(downscaler.head.limit)
    assert math.isinf(float(nearest.head.limit))


def test_training_learns_a_mask(detector: GeoModel, masks) -> None:
    report = geovision.evaluate(detector, masks[1], n_bootstrap=0)
    assert report.metrics["pr_auc"].value > 0.8
    assert report.metrics["csi"].value > 0.5
    assert report.headline == "csi"


def test_statistics_use_the_training_data_alone(downscaler: GeoModel, fields) -> None:
    truth = torch.stack([fields[0][n]["target"] for n in range(len(fields[0]))])
    is_valid = truth[torch.isfinite(truth)]
    assert float(downscaler.head.limit) == pytest.approx(1.5 * float(is_valid.max()))
    assert float(downscaler.head.scale) == pytest.approx(float(is_valid.std()), rel=1e-5)
    given = torch.stack([fields[0][n]["inputs"]["coarse"] for n in range(len(fields[0]))])
    assert float(downscaler.network.level) == pytest.approx(float(given.mean()), rel=1e-5)


def test_statistics_of_data_too_large_for_memory_use_evenly_spaced_samples(
    fields, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geovision.training.data_statistics._MAX_BYTES", 4 * 6 * 6 * 5 * 3)
    model, training = fresh("field"), fields[0]
    fit_statistics(model, training)
    some = [training[n]["target"] for n in (0, round((len(training) - 1) / 2), len(training) - 1)]
    values = torch.stack(some)
    assert float(model.head.limit) == pytest.approx(1.5 * float(values[torch.isfinite(values)].max()))


def test_further_training_keeps_the_scale_and_raises_the_limit(downscaler: GeoModel) -> None:
    head = geovision.create("afield-tiny").head
    head.load_state_dict(downscaler.head.state_dict())
    scale = float(head.scale)
    head.fit_statistics(torch.full((1, 1, 2, 2), 1e4).index_fill(3, torch.tensor([0]), 0.0))
    assert float(head.scale) == scale
    assert float(head.limit) == 1.5e4
    head.fit_statistics(torch.tensor([0.0, 1.0]))
    assert float(head.limit) == 1.5e4


def test_missing_targets_have_no_loss(fields) -> None:
    model = fresh("field").train()
    sample = fields[0][0]
    values = model({"coarse": sample["inputs"]["coarse"][None]}).values
    truth = sample["target"][None]
    assert torch.isnan(truth).any()
    loss = model.loss(values, truth)
    loss.backward()
    values, loss = values.detach(), loss.detach()
    assert math.isfinite(float(loss))
    assert all(torch.isfinite(each.grad).all() for each in model.parameters())
    other = truth.nan_to_num(123.0)
    is_valid = torch.isfinite(truth)
    assert float(model.loss(values, other, is_valid)) == pytest.approx(float(loss))


def test_a_model_for_another_grid_is_refused_before_training(fields) -> None:
    model = fresh("field", model_args={"factor": 3})
    with pytest.raises(
        InputError, match=r"predicts on a grid of \(18, 18\) cells, but the rain .* \(12, 12\)"
    ):
        geovision.train(model, fields[0], progress=False)


def test_a_resumed_training_keeps_its_statistics(fields, tmp_path: Path) -> None:
    training = fields[0]
    whole = geovision.train(fresh("field"), training, progress=False)
    recipe = maps.TASKS["field"].recipe
    geovision.train(fresh("field"), training, out=tmp_path / "a", progress=False)
    again = geovision.train(fresh("field"), training, out=tmp_path / "a", resume=True, progress=False)
    assert recipe.epochs == again.training_record["epochs"]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


# --- predictions ---------------------------------------------------------------------------------


def test_a_field_is_predicted_in_its_unit_on_its_grid(downscaler: GeoModel, fields) -> None:
    sample = fields[1][0]
    (prediction,) = downscaler.predict({"coarse": sample["inputs"]["coarse"]})
    assert isinstance(prediction, FieldPrediction)
    assert (prediction.name, prediction.unit, prediction.values.shape) == ("rain", "mm day-1", (12, 12))
    assert prediction.grid == maps.GRIDS.target
    # Two cells have no target in any sample; they are not predicted.
    never = np.zeros((12, 12), bool)
    never[0, :2] = True
    assert np.array_equal(np.isnan(prediction.values), never)
    assert (prediction.values[~never] >= 0).all()
    assert prediction.values[~never].max() <= float(downscaler.head.limit)
    plain = json.loads(json.dumps(prediction.as_dict()))
    assert plain["highest"] == pytest.approx(float(np.nanmax(prediction.values)))
    assert plain["latitude"][0] == 40.25


def test_fields_of_another_size_are_predicted_without_a_grid(downscaler: GeoModel) -> None:
    (prediction,) = downscaler.predict(np.ones((1, 5, 9), np.float32))
    assert prediction.values.shape == (10, 18)
    assert prediction.grid is None


def test_a_mask_contains_cells_and_probabilities(detector: GeoModel, masks) -> None:
    sample = next(masks[1][n] for n in range(len(masks[1])) if "relief" in masks[1][n]["inputs"])
    inputs = {
        "radar": np.ma.masked_array(sample["inputs"]["radar"].numpy(), ~sample["valid"]["radar"].numpy()),
        "relief": sample["inputs"]["relief"],
    }
    with_relief, without = detector.predict([inputs, {"radar": inputs["radar"]}])
    assert isinstance(with_relief, MaskPrediction)
    assert np.array_equal(with_relief.mask, with_relief.probability >= 0.4)
    assert not with_relief.valid[0, 0]  # never observed by the radar
    assert with_relief.valid[1:, 1:].all()
    assert not np.allclose(with_relief.probability[1:, 1:], without.probability[1:, 1:])
    assert json.loads(json.dumps(with_relief.as_dict()))["cells"] == int(with_relief.mask.sum())


@pytest.mark.parametrize("kind", ["field", "mask", "none", "closed"])
def test_a_saved_model_keeps_its_grid(kind: str, fields, masks, tmp_path: Path) -> None:
    data = (masks if kind == "mask" else fields)[0]
    model = fresh(kind, **data.model_kwargs())
    fit_statistics(model, data)
    again = geovision.load(model.save(tmp_path))
    assert again.config.grids == model.config.grids
    sample = data[0]
    (first,), (second,) = (each.predict(dict(sample["inputs"])) for each in (model, again))
    assert json.dumps(first.as_dict()) == json.dumps(second.as_dict())


def test_a_head_is_chosen_by_name_with_options(fields, tmp_path: Path) -> None:
    model = fresh("field", head="quantiles", head_args={"quantiles": [0.1, 0.5, 0.9]}, grids=maps.GRIDS)
    geovision.train(model, fields[0], progress=False)
    (prediction,) = geovision.load(model.save(tmp_path)).predict(dict(fields[1][0]["inputs"]))
    assert list(prediction.layers) == ["quantile_0.1", "quantile_0.5", "quantile_0.9"]
    is_valid = np.isfinite(prediction.values)
    assert is_valid.sum() == 142
    assert (prediction.layers["quantile_0.1"] <= prediction.layers["quantile_0.9"])[is_valid].all()
    assert np.array_equal(prediction.layers["quantile_0.5"], prediction.values, equal_nan=True)
    with pytest.raises(OptionError, match="has no head 'nonsense'; known: quantiles"):
        fresh("field", head="nonsense")
    with pytest.raises(OptionError, match="QuantileHead has no option 'wet'"):
        fresh("field", head="quantiles", head_args={"wet": 1})


def test_predictors_are_channels_of_the_first_input() -> None:
    model = fresh("field", predictors=["height"])
    assert [channel.name for channel in model.inputs[0].channels] == ["rain", "height"]
    assert model.predict(torch.ones(2, 4, 4))[0].values.shape == (8, 8)
    with pytest.raises(OptionError, match="has no predictor 'weight'; known: height"):
        fresh("field", predictors=["weight"])
    with pytest.raises(OptionError, match="predicts classes, which have no grid"):
        geovision.create("cloud-tiny", grids=maps.GRIDS)


# --- scores --------------------------------------------------------------------------------------


def test_field_reports_have_intervals_where_states_are_sums(
    downscaler: GeoModel, fields, tmp_path: Path
) -> None:
    report = geovision.evaluate(downscaler, fields[1], n_bootstrap=50)
    assert isinstance(report, DenseReport)
    error = report.metrics["rmse"]
    assert error.low < error.value < error.high
    assert math.isnan(report.metrics["quantile_bias(q=0.99)"].low)
    pairs = [
        (batch.prediction, batch.truth) for batch in predict_batches(downscaler, fields[1], batch_size=5)
    ]
    p, t = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    is_valid = torch.isfinite(t)
    assert error.value == pytest.approx(float((p - t)[is_valid].double().square().mean().sqrt()), rel=1e-6)
    files = {path.name for path in report.save(tmp_path).iterdir()}
    assert files == {
        "metrics.json",
        "metrics.csv",
        "report.md",
        "maps.png",
        "quantiles.png",
        "spectra.png",
        "errors.png",
        "taylor.png",
    }
    assert json.loads((tmp_path / "metrics.json").read_text())["samples"] == len(fields[1])
    assert "32 samples in 8 groups" in report.text()


def test_mask_reports_contain_scores_and_intervals(detector: GeoModel, masks, tmp_path: Path) -> None:
    report = geovision.evaluate(detector, masks[1], n_bootstrap=20)
    assert report.probability_histogram is not None
    covered = 32 * (36 - 6 - 1)  # without the last row and the cell that is never observed
    assert int(report.probability_histogram.sum()) == covered
    files = {path.name for path in report.save(tmp_path).iterdir()}
    assert {"maps.png", "mask_reliability.png", "performance.png"} <= files


def test_data_too_large_for_memory_are_scored(
    downscaler: GeoModel, fields, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = geovision.evaluate(downscaler, fields[1], n_bootstrap=0, batch_size=4)
    monkeypatch.setattr("geovision.evaluation.dense.MAX_BUFFER_BYTES", 10_000)
    report = geovision.evaluate(downscaler, fields[1], n_bootstrap=0, batch_size=4)
    assert report.metrics["rmse"] == pytest.approx(whole.metrics["rmse"], nan_ok=True)
    assert "quantile_bias(q=0.99)" not in report.metrics
    assert "quantile_bias(q=0.99)" in report.notes[0]
    assert [*report.figures()] == ["maps"]


def test_states_of_groups_give_the_intervals_of_the_bootstrap() -> None:
    generator = torch.Generator().manual_seed(3)
    p, t = (torch.rand(20, 1, 4, 4, generator=generator) for _ in range(2))
    units = [f"{n // 3}" for n in range(20)]
    target = maps.TARGETS["field"]
    metrics = {name: create(name, target) for name in ("rmse", "correlation", "csi(threshold=1)")}
    found = bootstrap(metrics, p, t, units, n_bootstrap=40, seed=1)
    states = GroupedMetrics(metrics)
    for begin in range(0, 20, 7):
        states.update(p[begin : begin + 7], t[begin : begin + 7], units[begin : begin + 7])
    for name, estimate in states.estimates(n_bootstrap=40, seed=1).items():
        for mine, other in zip(estimate, found[name], strict=True):
            assert float(mine) == pytest.approx(float(other), rel=1e-6, nan_ok=True), name


@pytest.fixture
def mask_samples() -> tuple[Tensor, Tensor, Tensor]:
    """Return probabilities, targets and a valid mask with some missing cells."""
    generator = torch.Generator().manual_seed(0)
    truth = (torch.rand(6, 1, 9, 9, generator=generator) < 0.2).float()
    # Values are in the middle of bins of 0.01, so that rounding has no effect.
    predicted = (
        (torch.rand(truth.shape, generator=generator) + truth).clamp(0, 1.98) * 50
    ).floor() / 100 + 0.005
    is_valid = torch.rand(truth.shape, generator=generator) < 0.9
    return predicted, truth, is_valid


def test_scores_of_masks_match_scikit_learn(mask_samples) -> None:
    predicted, truth, is_valid = mask_samples
    holed = truth.where(is_valid, torch.nan)
    p, t = predicted[is_valid].numpy(), truth[is_valid].numpy()
    found = {name: float(create(name, HAIL)(predicted, holed)) for name in ("f1", "brier", "pr_auc")}
    assert found["f1"] == pytest.approx(f1_score(t, p >= 0.4))
    assert found["brier"] == pytest.approx(brier_score_loss(t, p))
    assert found["pr_auc"] == pytest.approx(average_precision_score(t, p))


def test_histograms_of_masks_count_valid_cells(mask_samples) -> None:
    predicted, truth, is_valid = mask_samples
    table = create("probability_histogram", HAIL)(predicted, truth.where(is_valid, torch.nan))
    assert int(table[: 2 * PROBABILITY_BINS].sum()) == int(is_valid.sum()) == int(table[-1])
    assert int(table[PROBABILITY_BINS : 2 * PROBABILITY_BINS].sum()) == int(truth[is_valid].sum())


def test_metrics_refuse_other_kinds_of_targets() -> None:
    for name, target in (
        ("rmse", HAIL),
        ("quantile_bias(q=0.99)", HAIL),
        ("object_pod", maps.TARGETS["field"]),
        ("ssim(data_range=100)", ClassTarget(("a", "b"))),
    ):
        with pytest.raises(NotApplicable, match="is defined for a"):
            create(name, target)


# --- head of masks --------------------------------------------------------------------------------


def test_weighted_cross_entropy_by_hand() -> None:
    head = MaskHead(1, HAIL, positive_weight=3.0)
    logits = torch.tensor([0.0, 2.0]).view(1, 1, 1, 2)
    truth = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    expected = (3 * math.log(2) + math.log(1 + math.exp(2))) / 2
    assert float(head.loss(logits, truth)) == pytest.approx(expected)
    half = torch.tensor([True, False]).view(1, 1, 1, 2)
    assert float(head.loss(logits, truth, half)) == pytest.approx(3 * math.log(2))
    assert float(head.loss(logits, truth.where(half, torch.nan))) == pytest.approx(3 * math.log(2))


def test_focal_loss_without_focus_is_cross_entropy() -> None:
    logits, truth = torch.randn(50), (torch.rand(50) < 0.3).float()
    plain = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    torch.testing.assert_close(focal_loss(logits, truth, gamma=0.0), plain)
    assert (focal_loss(logits, truth, gamma=2.0) <= plain + 1e-7).all()


def test_dice_loss_is_zero_for_a_perfect_mask_and_a_half_by_hand() -> None:
    truth = torch.tensor([1.0, 1.0, 0.0, 0.0])
    assert float(dice_loss(200 * (truth - 0.5), truth)) == pytest.approx(0)
    # sum p t = 1, sum p = 2, sum t = 2
    assert float(dice_loss(torch.zeros(4), truth)) == pytest.approx(1 - 3 / 5)
    first = torch.tensor([True, False, False, False])
    assert float(dice_loss(torch.zeros(4), truth, first)) == pytest.approx(1 - 2 / 2.5)


def test_the_positive_weight_is_computed_from_the_training_masks() -> None:
    head = MaskHead(2, HAIL, positive_weight="balanced")
    truth = torch.zeros(1, 1, 3, 4)
    truth[..., 0, :2] = 1
    head.fit_statistics(truth, torch.arange(12).view(1, 1, 3, 4) < 10)
    assert float(head.weight) == 4
    assert head.convolution.bias.item() == pytest.approx(0)  # 4 times 2 to 8
    head.convolution.bias.data.fill_(5.0)
    head.fit_statistics(truth)
    assert head.convolution.bias.item() == 5.0
    with pytest.raises(OptionError, match="no cell of the training targets is valid"):
        head.fit_statistics(torch.full((1, 1, 2, 2), torch.nan))


def test_invalid_options_are_refused() -> None:
    with pytest.raises(
        OptionError, match="error='dicey' is unknown; expected bce, focal, dice or bce\\+dice"
    ):
        MaskHead(1, HAIL, error="dicey")
    with pytest.raises(OptionError, match="positive_weight=-1"):
        MaskHead(1, HAIL, positive_weight=-1)


def test_precomputed_logits_are_unchanged() -> None:
    head = IdentityMaskHead(1, HAIL)
    logits = torch.randn(2, 1, 3, 3)
    assert torch.equal(head.estimate(head(logits)), torch.sigmoid(logits))
