"""Networks that learn the residual of a ridge regression, and the share of a quantile mapping."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from helpers import maps
from torch import Tensor, nn

import geovision
from geovision import registry
from geovision.errors import OptionError
from geovision.metrics.functional import extremes, regression
from geovision.models import residual_learning
from geovision.models.field_baselines import Interpolation
from geovision.models.geomodel import GeoModel
from geovision.models.residual_learning import ResidualHead
from geovision.spec import FieldTarget, ModelSpec

ANSWER = (maps.SIDE * maps.FACTOR, maps.SIDE * maps.FACTOR)


SPEC = ModelSpec(
    "afield-residual",
    "afield",
    "helpers.maps:build_residual",
    {"members": 2},
    head="geovision.models.residual_learning:ResidualHead",
    head_args={"members": 2, "share": 0.6},
)


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        tasks = {"afield": maps.TASKS["field"]} | dict(registry.tasks())
        models = {SPEC.name: SPEC} | dict(registry.models())
        patch.setattr(registry, "tasks", lambda: MappingProxyType(tasks))
        patch.setattr(registry, "models", lambda: MappingProxyType(models))
        yield


@pytest.fixture(scope="module")
def data():
    return maps.Fields(160).group_split(0.25, seed=0)


@pytest.fixture(scope="module")
def trained(data) -> GeoModel:
    torch.manual_seed(0)
    training, held = data
    model = geovision.create(SPEC.name, **training.model_kwargs())
    return geovision.train(model, training, validation=held, progress=False)


def stacked(data) -> tuple[Tensor, Tensor]:
    samples = [data[index] for index in range(len(data))]
    return (
        torch.stack([sample["inputs"]["coarse"] for sample in samples]),
        torch.stack([sample["target"] for sample in samples]),
    )


# --- residuals ----------------------------------------------------------------------------------


def test_before_training_the_prediction_is_the_regression(data) -> None:
    x, y = stacked(data[0])
    network = maps.build_residual({"members": 3}, inputs=maps.TASKS["field"].inputs)
    network.fit_base({"coarse": x}, {}, y, None)
    head = ResidualHead(network.num_features, FieldTarget(maps.RAIN), members=3)
    head.fit_statistics(y)
    found = head.field(head(network({"coarse": x})))
    base = network.base({"coarse": x})
    torch.testing.assert_close(found, base.clamp_min(0), atol=0.05, rtol=0)
    known = network.valid_mask({"coarse": x}, None, (len(x), 3, *ANSWER))
    assert torch.equal(known[0], torch.isfinite(y).any(0))


def test_the_base_may_be_the_interpolated_field() -> None:
    x = torch.rand(2, 1, maps.SIDE, maps.SIDE)
    arch = {"network": "srcnn", "widths": [4, 3], "dropout": None, "factor": 2, "base": "bicubic"}
    network = residual_learning.build(arch, inputs=maps.TASKS["field"].inputs)
    network.fit_base({"coarse": x}, {}, torch.zeros(2, 1, *ANSWER), None)
    finer = Interpolation(maps.TASKS["field"].inputs[0], factor=2, method="bicubic")({"coarse": x})
    torch.testing.assert_close(network({"coarse": x})[:, -1:], finer)


@torch.no_grad()
def test_training_improves_on_the_regression(trained: GeoModel, data) -> None:
    x, y = stacked(data[1])
    output = trained({"coarse": x})
    alone = trained.network.base(trained.normalize({"coarse": x}))
    mean = trained.head.members(output.values).mean(1, keepdim=True)
    assert regression.rmse(mean, y) < 0.95 * regression.rmse(alone.clamp_min(0), y)


@torch.no_grad()
def test_the_share_restores_the_upper_tail(trained: GeoModel, data) -> None:
    x, y = stacked(data[0])
    values = trained({"coarse": x}).values
    mean, found = trained.head.members(values).mean(1, keepdim=True), trained.head.field(values)
    light, mended = (extremes.quantile_bias(each, y, 0.95) for each in (mean, found))
    assert light < 0
    assert float(mended) == pytest.approx(0.4 * float(light), rel=0.25)


@torch.no_grad()
def test_each_member_has_its_own_loss() -> None:
    head = ResidualHead(5, FieldTarget(maps.RAIN), members=2)
    nn.init.normal_(head.convolution.weight)
    features = torch.randn(3, 5, 4, 4)
    truth = torch.rand(3, 1, 4, 4)
    truth[0, 0, 0] = torch.nan
    apart = 0.0
    for member in range(2):
        one = ResidualHead(3, FieldTarget(maps.RAIN))
        one.convolution.weight.data = head.convolution.weight.data[member : member + 1]
        own = features[:, [2 * member, 2 * member + 1, 4]]
        apart += float(one.loss(one(own), truth)) / 2
    assert float(head.loss(head(features), truth)) == pytest.approx(apart, rel=1e-5)


def test_a_loaded_model_predicts_the_same(trained: GeoModel, data, tmp_path: Path) -> None:
    trained.save(tmp_path / "model")
    again = geovision.load(tmp_path / "model")
    sample = data[1][0]
    (one,), (other,) = (
        model.predict([{"coarse": sample["inputs"]["coarse"].numpy()}]) for model in (trained, again)
    )
    np.testing.assert_allclose(one.values, other.values, rtol=1e-3, atol=1e-5)
    assert np.isnan(one.values[0, :2]).all()
    assert "spread" in one.layers


@pytest.mark.parametrize("options", [{"members": 2}, {"share": 1.5}, {"members": 0}])
def test_invalid_options_are_refused(options: dict) -> None:
    with pytest.raises(OptionError, match="members="):
        ResidualHead(4, FieldTarget(maps.RAIN), **options)
