"""Base class of all datasets: samples in physical units, each with its split group."""

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
    """One sample, in the form that models expect.

    Attributes:
        inputs: Tensors by input name, in physical units. The axes are those of the `InputSpec.layout`.
        valid: Valid masks by input name (bool, shape of the input). The key "target" contains the valid mask
            of the target (shape of the target). Without a mask, all values are valid.
        target: Class index (int64 scalar), or mask or field, shape ``(channel, y, x)``.
        group: Name of the group that a split keeps together: near-duplicate group, night, pass, storm day or
            winter.
        source: Path of the file that the sample was read from.
    """

    inputs: dict[str, Tensor]
    valid: dict[str, Tensor]
    target: Tensor
    group: str
    source: str


Transforms = Callable[[Sample], Sample]
"""Function from a sample to a sample of the same form, such as an augmentation."""


@dataclass(frozen=True)
class DatasetCard:
    """Origin, terms and known limitations of a dataset.

    Args:
        name: Name in the registry.
        title: Full title.
        source: DOI or address.
        license: License of the data.
        citation: Citation that the authors request.
        split_group: Description of the group that a split keeps together.
        layout: Names of folders and files, as published by the authors.
        caveats: Known problems of the data and of published results. Default: none.
        class_counts: Published number of samples by class. Default: none.
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

    An adapter reads files of one layout below `root`. `split` is one of `splits`, or None for all samples. A
    subset keeps everything except the samples that are left out.
    """

    card: ClassVar[DatasetCard]
    """Origin, terms and known limitations."""
    task: ClassVar[str]
    """Name of the task in the registry."""
    splits: ClassVar[tuple[str, ...]] = ()
    """Names of the official splits."""
    downloads: ClassVar[DataverseRecord | tuple[RemoteFile, ...] | None] = None
    """Files for `geovision download`; None: obtain them by hand, as the card describes."""
    class_mapping: ClassVar[ClassMapping | None] = None
    """Mapping of predicted task classes to classes of the dataset; None: both must have the same classes."""
    supports_unpaired: ClassVar[bool] = False
    """Whether sources without common days are supported, with ``synchronous=False``."""
    target: Target
    """Target of the samples: classes, field or mask."""
    transforms: Transforms | None = None
    """Function from a sample to a sample, applied last; subsets keep it."""
    synchronous: bool = True
    """Whether each target has the same time as its input; if False, they share only the climate."""

    @abc.abstractmethod
    def __len__(self) -> int:
        """Return the number of samples."""

    def __getitem__(self, index: int) -> Sample:
        """Return one sample, after `transforms`."""
        sample = self.read_sample(index)
        return sample if self.transforms is None else self.transforms(sample)

    @abc.abstractmethod
    def read_sample(self, index: int) -> Sample:
        """Read one sample, before `transforms`.

        Args:
            index: Position of the sample.
        """

    def _prepare(self, root: str | Path, transforms: Transforms | None, download: bool) -> Path:
        """Store the transforms, download the files on request and return the root.

        Raises:
            DownloadError: The dataset has no download, or the download failed.
        """
        self.transforms = transforms
        if download:
            resolve("geovision.hub.download:download")(self.card.name, root)
        return Path(root)

    @property
    @abc.abstractmethod
    def groups(self) -> Sequence[str]:
        """Split group of each sample, without reading the samples."""

    @property
    def is_consecutive(self) -> Sequence[bool] | None:
        """Whether each sample is the day after the previous sample of the same group.

        None if the samples are not daily.
        """
        return None

    @abc.abstractmethod
    def subset(self, indices: Sequence[int]) -> Self:
        """Return the dataset with these samples only, in this order.

        Args:
            indices: Positions of the samples.
        """

    @abc.abstractmethod
    def plot(self, sample: Sample, prediction: Prediction | None = None) -> Figure:
        """Plot one sample, with a prediction if there is one.

        Args:
            sample: Sample of this dataset.
            prediction: Prediction of a model for the sample. Default: None.
        """

    def model_kwargs(self) -> Mapping[str, Any]:
        """Return keywords of `geovision.create` that make a model fit this dataset.

        The keywords contain the classes if they differ from those of the task. Subclasses add grids and
        predictors.
        """
        own = registry.find_task(self.task).target if isinstance(self.target, ClassTarget) else None
        if isinstance(self.target, ClassTarget) and isinstance(own, ClassTarget):
            return {} if self.target.classes == own.classes else {"classes": self.target.classes}
        return {}

    def with_predictors(self, names: Sequence[str]) -> Self:
        """Return the same samples with additional channels of the first input.

        Args:
            names: Names of the channels, in this order.

        Raises:
            OptionError: The dataset has no such channel.
        """
        if names:
            raise OptionError(
                f"{self.card.name} has no predictor {names[0]!r} and no other additional channels; "
                "leave out the predictors"
            )
        return self

    def with_size(self, size: tuple[int, int]) -> Self:
        """Return the same samples at another size.

        A dataset with only one size is returned unchanged.

        Args:
            size: Height and width, in pixels.
        """
        return self

    def with_input(self, spec: InputSpec) -> Self:
        """Return the same samples at the size and pixel size of a model input.

        A dataset that cannot be read at several sizes is returned unchanged.

        Args:
            spec: First input of a model; a size or pixel size of None keeps that of the dataset.
        """
        return self

    def adapt_to(self, model: GeoModel) -> Self:
        """Return the same samples in the form that a model expects.

        Subclasses set what can vary: image size, pixel size, scalars, predictors and class names. Grids
        cannot be changed here; create the model with `model_kwargs` of the dataset.

        Args:
            model: Model that is trained, evaluated or calibrated with the samples.

        Raises:
            OptionError: The dataset lacks a predictor of the model.
            DatasetError: A label is not a class of the model.
        """
        return self

    @classmethod
    @abc.abstractmethod
    def synthetic(cls, root: Path, n: int, *, seed: int = 0) -> Path:
        """Write generated samples in the layout of this dataset.

        The reader of the real files also reads the generated ones. The same seed gives the same files.

        Args:
            root: Folder to write to.
            n: Number of samples.
            seed: Seed of the generator. Default: 0.
        """

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
        """Split the samples into two parts that have no group in common.

        Args:
            fraction: Fraction of the groups in the second part, at least one group. Default: 0.2.
            seed: Seed of the random order of the groups. Default: 0.

        Returns:
            Training part and held-out part.

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
            self.subset([index for index, is_held in enumerate(chosen) if not is_held]),
            self.subset([index for index, is_held in enumerate(chosen) if is_held]),
        )

    def folds(self, *, seed: int = 0, k: int = 5) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return `k` pairs of (training, test) positions; no group is in both.

        Args:
            seed: Seed of the random order of the groups. Default: 0.
            k: Number of folds. Default: 5.

        Raises:
            DatasetError: There are fewer groups than folds.
        """
        names = sorted(set(self.groups))
        if len(names) < k:
            raise DatasetError(f"{self.card.name}: {len(names)} groups are too few for {k} folds; reduce k")
        order = np.random.default_rng(seed).permutation(len(names))
        fold_of = {names[group]: rank % k for rank, group in enumerate(order)}
        folds = np.array([fold_of[group] for group in self.groups], dtype=np.int64)
        return [(np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)) for fold in range(k)]


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
        """File of each sample."""


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
    """Stack samples to a batch.

    Tensors are stacked along a new first axis; groups and sources become lists. A mask that only some samples
    have is True for the others. An optional input that only some samples have is 0 and marked as missing for
    the others.

    Args:
        samples: Samples with the same shapes.
    """
    names = dict.fromkeys(name for sample in samples for name in sample["inputs"])
    inputs, valid = {}, {}
    for name in names:
        example = next(s["inputs"][name] for s in samples if name in s["inputs"])
        inputs[name] = torch.stack([s["inputs"].get(name, torch.zeros_like(example)) for s in samples])
        if any(name in s["valid"] or name not in s["inputs"] for s in samples):
            valid[name] = torch.stack([_mask(sample, name, example) for sample in samples])
    target = torch.stack([sample["target"] for sample in samples])
    if any("target" in sample["valid"] for sample in samples):
        all_valid = torch.ones_like(samples[0]["target"], dtype=torch.bool)
        valid["target"] = torch.stack([sample["valid"].get("target", all_valid) for sample in samples])
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
