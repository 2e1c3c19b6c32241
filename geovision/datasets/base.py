"""What every data set is: samples in physical units, each with the group that splits keep together."""

from __future__ import annotations

import abc
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypedDict, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from geovision import registry
from geovision.datasets.downloads import DataverseRecord, RemoteFile
from geovision.errors import DatasetError, OptionError
from geovision.spec import ClassMapping, ClassTarget, InputSpec, Target, resolve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from geovision.heads.prediction import Prediction
    from geovision.models.geomodel import GeoModel

__all__ = [
    "DatasetCard",
    "GeoDataset",
    "HasLabels",
    "HasPaths",
    "HasPixelSize",
    "HasSoftTargets",
    "Sample",
    "collate",
]


class Sample(TypedDict):
    """One sample, in the form that models take.

    Attributes:
        inputs: By input name, in physical units, axes as in its `InputSpec.layout`.
        valid: By input name, which values are there (bool, the input's shape), and under "target"
            which labels are (the target's shape); absent: all.
        target: Class index (int64 scalar), or mask or field ``(channel, y, x)``.
        group: What a split must not cut: near-duplicate group, night, pass, storm day, winter.
        source: Where it was read from.
    """

    inputs: dict[str, Tensor]
    valid: dict[str, Tensor]
    target: Tensor
    group: str
    source: str


Transforms = Callable[[Sample], Sample]
"""A function of a sample that returns a sample of the same form, such as an augmentation."""


@dataclass(frozen=True)
class DatasetCard:
    """Where a data set comes from and what it must not be used for.

    Args:
        name, title: In the registry, and in full.
        source: DOI or address.
        license: Terms of the data.
        citation: How its authors want to be cited.
        split_group: What a split must keep together, in words.
        layout: Folder and file names, as its authors ship them.
        caveats: What misleads those who do not know the data.
    """

    name: str
    title: str
    source: str
    license: str
    citation: str
    split_group: str
    layout: str
    caveats: tuple[str, ...] = ()
    class_counts: dict[str, Any] = field(default_factory=dict)


class GeoDataset(Dataset[Sample], abc.ABC):
    """Samples of one task.

    An adapter reads files of one layout under `root`. `split` is one of `splits`, or None for all
    of them. Subsets keep everything but the samples.
    """

    card: ClassVar[DatasetCard]
    task: ClassVar[str]
    splits: ClassVar[tuple[str, ...]] = ()
    downloads: ClassVar[DataverseRecord | tuple[RemoteFile, ...] | None] = None
    """Where `geovision download` takes it from; None: only by hand, as its card says."""
    class_mapping: ClassVar[ClassMapping | None] = None
    """How a model of the task's own classes is scored here; None: only one with the same classes."""
    supports_unpaired: ClassVar[bool] = False
    """Its sources may be such that are not synchronous, and the constructor takes ``synchronous=False``."""
    target: Target
    transforms: Transforms | None = None
    """Function of a sample that returns a sample, applied last; subsets keep it."""
    synchronous: bool = True
    """Each truth is of the very time of its input; False: both have the same climate and no more."""

    @abc.abstractmethod
    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample:
        """Return one sample, after `transforms`."""
        sample = self.read_sample(index)
        return sample if self.transforms is None else self.transforms(sample)

    @abc.abstractmethod
    def read_sample(self, index: int) -> Sample:
        """Read one sample, before `transforms`."""

    def _prepare(self, root: str | Path, transforms: Transforms | None, download: bool) -> Path:
        """Store the transforms, download the files on request, and return the root as a path.

        Raises:
            DownloadError: The dataset has no download, or it failed.
        """
        self.transforms = transforms
        if download:
            resolve("geovision.hub.download:download")(self.card.name, root)
        return Path(root)

    @property
    @abc.abstractmethod
    def groups(self) -> Sequence[str]:
        """The split group of each sample, without reading it."""

    @property
    def is_consecutive(self) -> Sequence[bool] | None:
        """Of each sample whether it is the day after the one before it, in the same group; None where samples
        are no days."""
        return None

    @abc.abstractmethod
    def subset(self, indices: Sequence[int]) -> Self:
        """The same data set with these samples alone, in this order."""

    @abc.abstractmethod
    def plot(self, sample: Sample, prediction: Prediction | None = None) -> Figure:
        """A figure of one sample, with what a model said where that is given."""

    def model_kwargs(self) -> Mapping[str, Any]:
        """Return keywords of `geovision.create` that make a model fit this dataset.

        Classes, where they differ from those of the task; subclasses add grids and predictors.
        """
        own = registry.find_task(self.task).target if isinstance(self.target, ClassTarget) else None
        if isinstance(self.target, ClassTarget) and isinstance(own, ClassTarget):
            return {} if self.target.classes == own.classes else {"classes": self.target.classes}
        return {}

    def with_predictors(self, names: Sequence[str]) -> Self:
        """Return the same samples with these additional channels of the first input.

        Args:
            names: Names of the channels, in this order.

        Raises:
            OptionError: The dataset has no such channel.
        """
        if names:
            raise OptionError(
                f"{self.card.name} has no predictor {names[0]!r}, and no others to choose from; "
                "leave out the predictors"
            )
        return self

    def with_size(self, size: tuple[int, int]) -> Self:
        """Return the same samples at another size, or unchanged where the dataset has only one.

        Args:
            size: Height and width, in pixels.
        """
        return self

    def with_input(self, spec: InputSpec) -> Self:
        """Return the same samples at the size and pixel size of an input of a model.

        Datasets that cannot be read at several sizes are returned unchanged.

        Args:
            spec: First input of a model; a size or pixel size of None keeps that of the dataset.
        """
        return self

    def adapt_to(self, model: GeoModel) -> Self:
        """Return the same samples in the form that a model expects.

        Subclasses set what they can vary: image size, pixel size, scalars, predictors and class names. Grids
        cannot be changed here; create the model with `model_kwargs` of the dataset.

        Args:
            model: The model that is trained, evaluated or calibrated with the samples.

        Raises:
            OptionError: The dataset lacks a predictor of the model.
            DatasetError: A label is not a class of the model.
        """
        return self

    @classmethod
    @abc.abstractmethod
    def synthetic(cls, root: Path, n: int, *, seed: int = 0) -> Path:
        """Write `n` generated samples in this very layout under `root`, so that the real reader
        reads them back. The same seed gives the same files."""

    @classmethod
    def synthetic_samples(
        cls, count: int, *, seed: int = 0, size: tuple[int, int] | None = None
    ) -> Iterator[Sample]:
        """Yield generated samples as this adapter reads them; no files are left behind.

        Args:
            count: Largest number of samples.
            seed: Seed of the generator.
            size: Height and width that images are resized to. Default: the adapter's.
        """
        with tempfile.TemporaryDirectory() as folder:
            root = cls.synthetic(Path(folder), count, seed=seed)
            data = cls(root, size=size)  # type: ignore[call-arg]  # every adapter takes both
            for index in range(min(count, len(data))):
                yield data[index]

    def group_split(self, fraction: float = 0.2, *, seed: int = 0) -> tuple[Self, Self]:
        """(training, held back), no group in both, about `fraction` of the groups held back.

        Raises:
            DatasetError: There are fewer than two groups.
        """
        names = sorted(set(self.groups))
        if len(names) < 2:
            raise DatasetError(f"{self.card.name}: {len(names)} group; two or more are needed to split")
        order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed)).tolist()
        count = min(max(round(fraction * len(names)), 1), len(names) - 1)
        held = {names[index] for index in order[:count]}
        chosen = [group in held for group in self.groups]
        return (
            self.subset([index for index, back in enumerate(chosen) if not back]),
            self.subset([index for index, back in enumerate(chosen) if back]),
        )

    def folds(self, *, seed: int = 0, k: int = 5) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return `k` pairs of (training, test) positions; no group is in both.

        Args:
            seed: Seed of the order of the groups.
            k: Number of folds.

        Raises:
            DatasetError: There are fewer groups than folds.
        """
        names = sorted(set(self.groups))
        if len(names) < k:
            raise DatasetError(f"{self.card.name}: {len(names)} groups are too few for {k} folds")
        order = np.random.default_rng(seed).permutation(len(names))
        fold_of = {names[group]: place % k for place, group in enumerate(order)}
        number = np.array([fold_of[group] for group in self.groups], dtype=np.int64)
        return [(np.flatnonzero(number != fold), np.flatnonzero(number == fold)) for fold in range(k)]


@runtime_checkable
class HasLabels(Protocol):
    """A dataset whose class indices are known without reading a sample."""

    @property
    def labels(self) -> np.ndarray | Tensor:
        """Class index of each sample; -1 if it has no label."""


@runtime_checkable
class HasPaths(Protocol):
    """A dataset with one file for each sample."""

    @property
    def paths(self) -> Sequence[Path]:
        """The file of each sample."""


@runtime_checkable
class HasSoftTargets(Protocol):
    """A dataset of images that contains near-duplicates with different labels."""

    def soft_targets(self) -> np.ndarray:
        """Return the mean of the one-hot labels of near-duplicates, shape (sample, class)."""


@runtime_checkable
class HasPixelSize(Protocol):
    """A dataset of images that can be resampled to another pixel size on the ground."""

    def with_pixel_size(self, pixel_size: float) -> Self:
        """Return the same images at a pixel size in meters."""


def collate(samples: Sequence[Sample]) -> dict[str, Any]:
    """Stack samples to a batch: tensors along a new first axis, groups and sources as lists.

    A mask that only some samples have is filled with True for the others; an optional input that
    only some have is filled with 0 and marked missing.
    """
    names = dict.fromkeys(name for sample in samples for name in sample["inputs"])
    inputs, valid = {}, {}
    for name in names:
        some = next(s["inputs"][name] for s in samples if name in s["inputs"])
        inputs[name] = torch.stack([s["inputs"].get(name, torch.zeros_like(some)) for s in samples])
        if any(name in s["valid"] or name not in s["inputs"] for s in samples):
            valid[name] = torch.stack([_mask(sample, name, some) for sample in samples])
    target = torch.stack([sample["target"] for sample in samples])
    if any("target" in sample["valid"] for sample in samples):
        there = torch.ones_like(samples[0]["target"], dtype=torch.bool)
        valid["target"] = torch.stack([sample["valid"].get("target", there) for sample in samples])
    return {
        "inputs": inputs,
        "valid": valid,
        "target": target,
        "group": [sample["group"] for sample in samples],
        "source": [sample["source"] for sample in samples],
    }


def _mask(sample: Sample, name: str, like: Tensor) -> Tensor:
    if name not in sample["inputs"]:
        return torch.zeros_like(like, dtype=torch.bool)
    present = sample["valid"].get(name)
    return torch.ones_like(like, dtype=torch.bool) if present is None else present
