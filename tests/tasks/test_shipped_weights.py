"""Weights inside the package: offline loading, golden predictions, and consistent scores.

The card, the training record and the registry contain the same scores.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.paths import GOLDEN
from safetensors.torch import load_file

import geovision
from geovision import registry
from geovision.datasets.synthetic.sky import render
from geovision.errors import OptionError, WeightsNotAvailableError
from geovision.spec import WeightSpec

SHIPPED = [
    (name, weight)
    for name, spec in registry.models().items()
    for weight in spec.weights
    if weight.location.startswith("package:")
]
each_shipped = pytest.mark.parametrize(("name", "weight"), SHIPPED, ids=[f"{n}.{w.tag}" for n, w in SHIPPED])


def skies() -> list[np.ndarray]:
    """Return one generated sky per class, as uint8, shape (channel, y, x)."""
    codes = registry.find_task("cloud").target.classes
    return [
        render(code, np.random.default_rng([7, index]), (256, 256)).transpose(2, 0, 1).copy()
        for index, code in enumerate(codes)
    ]


def folder_of(weight: WeightSpec) -> Path:
    """Return the folder of weights inside the package."""
    return Path(geovision.__file__).parent / "weights" / weight.location.removeprefix("package:")


def test_the_cloud_task_ships_weights():
    assert "cloud-mobilenetv2" in geovision.list_models(pretrained=True)


@each_shipped
def test_weights_are_small_and_in_half_precision(name, weight):
    folder = folder_of(weight)
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 6_000_000
    stored = load_file(folder / "model.safetensors").values()
    assert {value.dtype for value in stored if value.ndim > 1} == {torch.float16}


@each_shipped
def test_registry_record_and_card_contain_the_same_scores(name, weight):
    model = geovision.create(name, pretrained=weight.tag)
    measured = model.training_record["out_of_fold"]
    card = (folder_of(weight) / "README.md").read_text(encoding="utf-8")
    assert weight.metrics
    for metric, value in weight.metrics.items():
        assert value == pytest.approx(measured[metric][0], abs=6e-4)
        assert f"| {metric} | {value:.3f}" in card


@each_shipped
def test_predictions_equal_those_after_training(name, weight):
    model = geovision.create(name, pretrained=True)
    golden = json.loads((GOLDEN / f"{name}.{weight.tag}.json").read_text())
    predictions = model.predict(skies(), precision="float32")
    found = [[prediction.probabilities[code] for code in model.target.classes] for prediction in predictions]
    np.testing.assert_allclose(found, golden["probabilities"], atol=2e-3)
    np.testing.assert_allclose([a.outlier_score for a in predictions], golden["outlier_scores"], atol=5e-3)


def test_a_tag_in_the_name_selects_the_same_weights_and_a_wrong_one_is_reported():
    by_tag = geovision.create("cloud-mobilenetv2.ccsn", pretrained=True)
    by_default = geovision.create("cloud-mobilenetv2", pretrained=True)
    photo = torch.rand(1, 3, 256, 256)
    assert torch.equal(by_tag(photo), by_default(photo))
    with pytest.raises(OptionError, match="known tags: ccsn"):
        geovision.create("cloud-mobilenetv2.nosuch", pretrained=True)
    with pytest.raises(WeightsNotAvailableError, match="geovision train cloud-resnet50"):
        geovision.create("cloud-resnet50", pretrained=True)


def test_noise_is_flagged_as_no_sky():
    model = geovision.create("cloud-mobilenetv2", pretrained=True)
    noise = np.random.default_rng(0).integers(0, 256, (3, 256, 256), dtype=np.uint8)
    (prediction,) = model.predict(noise)
    assert prediction.flags == ("not_a_sky",)
    assert prediction.outlier_score > 1.5


@pytest.mark.real_data
def test_photos_of_clouds_are_not_flagged(shared_data):
    model = geovision.create("cloud-mobilenetv2", pretrained=True)
    predictions = model.predict(sorted((shared_data / "cloud_photos").glob("*.jpg")))
    assert sum("not_a_sky" in prediction.flags for prediction in predictions) <= 1


@pytest.mark.real_data
def test_most_photos_from_elsewhere_are_recognized(shared_data):
    """Predict ten photos of genera from outside of the training set; their names begin with the genus."""
    model = geovision.create("cloud-mobilenetv2", pretrained=True)
    photos = sorted((shared_data / "cloud_photos").glob("*.jpg"))
    correct = [
        photo.name[:2] in dict(a.top(3)) for photo, a in zip(photos, model.predict(photos), strict=True)
    ]
    assert sum(correct) >= 7
