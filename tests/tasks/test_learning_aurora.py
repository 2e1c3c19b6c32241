"""A tiny network learns the generated forms of aurora within a number of optimizer steps.

It is scored on nights that it was not trained on. Nearest neighbors in pixels do not generalize to them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from sklearn.metrics import precision_score
from sklearn.neighbors import KNeighborsClassifier

import geovision
from geovision.datasets.kvammen import KvammenAurora
from geovision.datasets.synthetic import aurora
from geovision.spec import Augment, Recipe, Stage

# Reached when this was written, with seeds 0 and 1: macro precision 0.96 and 0.95 after 720 steps
# (about half a minute on one core) on 392 frames of 49 held-back nights; chance is 0.14. The nearest
# neighbors in pixels reach 0.45 there, and 0.86 where frames instead of nights are held back.
UNTRAINED = 0.25
NEIGHBORS, LEAKING = 0.60, 0.75


@dataclass(frozen=True)
class Study:
    """Size of a training and the macro precision that it reaches."""

    frames: int
    side: int
    size: int
    epochs: int
    steps: int
    goal: float


FULL = Study(frames=1568, side=96, size=64, epochs=20, steps=720, goal=0.90)
# Measured with seeds 0 and 1: macro precision 0.72 and 0.79 after 208 steps on 144 held-back frames.
SHORT = Study(frames=560, side=64, size=32, epochs=16, steps=208, goal=0.60)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Use one thread; a second one slows so small a network on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(
    scope="module", params=[SHORT, pytest.param(FULL, marks=pytest.mark.slow)], ids=["short", "full"]
)
def study(request: pytest.FixtureRequest) -> Study:
    return request.param


@pytest.fixture(scope="module")
def data(study: Study, tmp_path_factory: pytest.TempPathFactory) -> KvammenAurora:
    folder = tmp_path_factory.mktemp("nights")
    root = aurora.write(folder, study.frames, seed=0, size=(study.side, study.side))
    return KvammenAurora(root, size=(study.size, study.size))


def test_a_tiny_network_learns_the_generated_forms(study: Study, data: KvammenAurora) -> None:
    training, held_back = data.group_split(0.25, seed=0)
    assert not set(training.groups) & set(held_back.groups)
    torch.manual_seed(0)
    model = geovision.create("aurora-tiny", size=(study.size, study.size))
    assert geovision.evaluate(model, held_back, n_bootstrap=0).metrics["macro_precision"].value < UNTRAINED
    recipe = Recipe(
        stages=(Stage(epochs=study.epochs, batch_size=32, lr=3e-3, warmup=1),),
        augment=Augment(flip_x=True, flip_y=True),
        precision="32-true",
    )
    geovision.train(model, training, recipe=recipe, progress=False)
    assert model.training_record["steps"] == study.steps
    assert geovision.evaluate(model, held_back, n_bootstrap=0).metrics["macro_precision"].value >= study.goal


def test_neighbors_in_pixels_recognize_nights_and_not_forms(data: KvammenAurora) -> None:
    small = data.with_size((16, 16))
    pixels = np.stack([small.pixels(index).ravel() for index in range(len(small))]).astype(np.float32)

    def score(training: np.ndarray, test: np.ndarray) -> float:
        neighbors = KNeighborsClassifier(1).fit(pixels[training], data.labels[training])
        guess = neighbors.predict(pixels[test])
        return float(precision_score(data.labels[test], guess, average="macro", zero_division=0))

    assert score(*data.folds(k=4)[0]) < NEIGHBORS
    assert score(*data.folds(k=4, grouped=False)[0]) > LEAKING
