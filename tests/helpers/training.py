"""Training of a small classifier, and comparisons of the results."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import nn

import geovision
from geovision.models.geomodel import GeoModel
from geovision.spec import Recipe, Stage
from helpers.blobs import CLASSES

__all__ = [
    "PLAIN",
    "ClassMeans",
    "assert_same",
    "build_class_means",
    "column",
    "state",
    "tiny",
    "train",
    "with_stage",
]

PLAIN = Recipe(stages=(Stage(epochs=2, batch_size=16, lr=3e-3),), precision="32-true")


def tiny(**options) -> GeoModel:
    torch.manual_seed(0)
    return geovision.create("cloud-tiny", classes=CLASSES, size=(32, 32), **options)


def with_stage(recipe: Recipe, **changes) -> Recipe:
    return dataclasses.replace(recipe, stages=(dataclasses.replace(recipe.stages[0], **changes),))


def train(model, data, recipe=PLAIN, **options) -> GeoModel:
    return geovision.train(model, data, recipe=recipe, **({"progress": False} | options))


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same(a: dict, b: dict, tolerance: float = 0.0) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=tolerance, atol=tolerance, equal_nan=True, msg=name)


def column(folder: Path, name: str) -> list[float]:
    head, *rows = [line.split(",") for line in (folder / "log.csv").read_text().splitlines()]
    return [float(row[head.index(name)]) for row in rows]


class ClassMeans(nn.Module):
    """Classifier by the distance to the mean color of each class."""

    num_features = 3

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("means", torch.zeros(3, 3))

    def fit(self, data) -> None:
        samples = [data[index] for index in range(len(data))]
        colors = torch.stack([sample["inputs"]["image"].mean((1, 2)) for sample in samples])
        labels = torch.stack([sample["target"] for sample in samples])
        self.means.copy_(torch.stack([colors[labels == label].mean(0) for label in range(3)]))

    def forward(self, inputs, *, valid=None, context=None):
        return -torch.cdist(inputs["image"].mean((2, 3)), self.means).square()


def build_class_means(arch, *, inputs, size) -> ClassMeans:
    return ClassMeans()
