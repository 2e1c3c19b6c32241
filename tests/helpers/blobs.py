"""Data set without files: noisy images around the color of their class."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from geovision.datasets.base import DatasetCard, GeoDataset, Sample
from geovision.spec import ClassTarget

CLASSES = ("red", "green", "blue")


class Blobs(GeoDataset):
    """Images of one dominant color, 8-bit values as fractions, each in its own group.

    Args:
        n: Number of images.
        noise: Standard deviation of the noise; the color contrast is 0.3.
        wrong: Fraction of wrong labels.
        unlabelled: Fraction of missing labels.
    """

    card: ClassVar[DatasetCard] = DatasetCard("blobs", "Blobs", "", "", "", "picture", "none")
    task: ClassVar[str] = "cloud"

    def __init__(
        self,
        n: int = 96,
        *,
        size: tuple[int, int] = (32, 32),
        seed: int = 0,
        noise: float = 0.2,
        wrong: float = 0.0,
        unlabelled: float = 0.0,
    ) -> None:
        self.target = ClassTarget(CLASSES)
        draw = np.random.default_rng(seed)
        self.labels = torch.from_numpy(draw.integers(0, 3, n))
        color = 0.35 + 0.3 * np.eye(3)[self.labels.numpy()][:, :, None, None]
        pictures = (color + noise * draw.standard_normal((n, 3, *size))).clip(0, 1)
        self.pictures = torch.from_numpy((pictures * 255).round().astype(np.uint8))
        wrong_labels = torch.from_numpy(draw.random(n) < wrong)
        self.labels = torch.where(wrong_labels, (self.labels + 1) % 3, self.labels)
        self.known = torch.from_numpy(draw.random(n) >= unlabelled)
        self.reads = 0

    def __len__(self) -> int:
        return len(self.labels)

    def read_sample(self, index: int) -> Sample:
        self.reads += 1
        valid = {} if bool(self.known.all()) else {"target": self.known[index]}
        label = self.labels[index] if self.known[index] else torch.tensor(-1)
        picture = self.pictures[index].float() / 255
        name = str(index)
        return Sample(inputs={"image": picture}, valid=valid, target=label, group=name, source=name)

    @property
    def groups(self) -> Sequence[str]:
        return [str(index) for index in range(len(self))]

    def subset(self, indices: Sequence[int]) -> Self:
        other = copy.copy(self)
        rows = torch.as_tensor(indices)
        other.pictures, other.labels, other.known = self.pictures[rows], self.labels[rows], self.known[rows]
        return other

    def plot(self, sample, prediction=None):
        raise NotImplementedError

    @classmethod
    def synthetic(cls, root: Path, n: int, *, seed: int = 0) -> Path:
        raise NotImplementedError


class Undecided(Blobs):
    """Images whose near-duplicates have the labels of all classes."""

    def soft_targets(self) -> np.ndarray:
        return np.full((len(self), 3), 1 / 3, dtype=np.float32)


def onehot(labels: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(labels, 3).float()
