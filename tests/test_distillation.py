"""A student of truth and teacher: what its loss is, that it learns from both, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType

import maps
import pytest
import torch

import geovision
from geovision import registry
from geovision.errors import OptionError
from geovision.evaluation.gridded import answers
from geovision.metrics import fields
from geovision.models.geomodel import GeoModel
from geovision.training.distillation import Teaching


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        tasks = {task.name: task for task in maps.TASKS.values()} | dict(registry.tasks())
        models = {spec.name: spec for spec in maps.MODELS.values()} | dict(registry.models())
        patch.setattr(registry, "tasks", lambda: MappingProxyType(tasks))
        patch.setattr(registry, "models", lambda: MappingProxyType(models))
        yield


def fresh() -> GeoModel:
    torch.manual_seed(1)
    return geovision.create("afield-tiny", **maps.Fields(8).options())


def said(model: GeoModel, data: maps.Fields) -> torch.Tensor:
    return torch.cat([each.prediction for each in answers(model, data)])


def test_the_loss_is_of_truth_and_teacher() -> None:
    model, data = fresh(), maps.Fields(8)
    model.head.fit_statistics(torch.stack([data[n]["target"] for n in range(8)]))
    values, truth = torch.randn(2, 1, 12, 12), torch.rand(2, 1, 12, 12)
    told = torch.rand(8, 1, 12, 12)
    told[:, :, 0] = torch.nan
    found = Teaching("t", told, 0.25).loss(model, model.loss(values, truth), values, torch.tensor([5, 2]))
    there = torch.isfinite(told[[5, 2]])
    expected = 0.75 * model.loss(values, truth) + 0.25 * model.loss(values, told[[5, 2]], there)
    assert float(found) == pytest.approx(float(expected))


def test_a_teacher_that_knows_more_than_the_data_is_followed() -> None:
    """The truth is noisy, the teacher is not: a student of both comes nearer to what is without noise."""
    clean = maps.Fields(60)
    noisy = maps.Fields(60)
    noise = torch.randn(noisy.truth.shape, generator=torch.Generator().manual_seed(0)).exp()
    teacher = geovision.train(fresh(), clean, progress=False)

    class Noisy(maps.Fields):
        def __getitem__(self, index: int):
            sample = super().__getitem__(index)
            return sample | {"target": sample["target"] * noise[self.numbers[index]]}

    alone = geovision.train(fresh(), Noisy(60), progress=False)
    taught = geovision.distill(teacher, fresh(), Noisy(60), share=0.8, progress=False)
    truth = torch.stack([clean[n]["target"] for n in range(60)])
    assert fields.rmse(said(taught, clean), truth) < 0.95 * fields.rmse(said(alone, clean), truth)


def test_what_cannot_be_taught() -> None:
    data = maps.Fields(8)
    with pytest.raises(OptionError, match="share=1"):
        geovision.distill(fresh(), fresh(), data, share=1.0)
    nearest = geovision.create("afield-nearest", **data.options())
    with pytest.raises(OptionError, match="not trained by steps"):
        geovision.distill(fresh(), nearest, data)
    with pytest.raises(OptionError, match="same field"):
        geovision.distill(fresh(), geovision.create("amask-tiny"), data)
