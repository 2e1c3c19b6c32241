"""Batches of a data set in a reproducible order.

The order of epoch `e` of stage `s` is a function of (seed, s, e) only. A training that resumes within an
epoch therefore needs only the number of batches that were processed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from geovision.datasets.base import GeoDataset, Sample, collate
from geovision.errors import OptionError

__all__ = [
    "Batch",
    "EpochBatches",
    "InMemoryDataset",
    "balanced_batch_count",
    "batch_count",
    "derive_seed",
    "load_into_memory",
]

_READ_BATCH_SIZE = 64


class Batch(NamedTuple):
    """Batch of samples, stacked along the first axis.

    Attributes:
        inputs: Inputs by name; uint8 values are fractions of 255, see `InMemoryDataset`.
        valid: Masks of valid values by input name, and by ``"target"`` for the targets; an input without a
            mask is complete.
        target: Class indices, masks or fields.
        sample_index: Index of each sample in its data set, shape ``(batch,)``.
    """

    inputs: dict[str, Tensor]
    valid: dict[str, Tensor]
    target: Tensor
    sample_index: Tensor


class InMemoryDataset(Dataset[Sample]):
    """Data set in memory, which is read once.

    Images are stored as bytes, a quarter of the size of floats, if division by 255 reproduces the floats
    exactly.

    Args:
        inputs: Inputs of all samples by name, stacked along the first axis.
        valid: Masks of all samples by input name, and by ``"target"`` for the targets.
        target: Targets of all samples.
    """

    def __init__(self, inputs: dict[str, Tensor], valid: dict[str, Tensor], target: Tensor) -> None:
        self.inputs, self.valid, self.target = inputs, valid, target

    def __len__(self) -> int:
        return len(self.target)

    def batch(self, index: Sequence[int]) -> Batch:
        """Return the samples with these indices as a batch.

        Args:
            index: Indices of the samples.
        """
        rows = torch.tensor(index)
        return Batch(
            {name: values[rows] for name, values in self.inputs.items()},
            {name: values[rows] for name, values in self.valid.items()},
            self.target[rows],
            rows,
        )


def load_into_memory(
    data: GeoDataset, *, workers: int = 0, budget: int | None = None
) -> InMemoryDataset | None:
    """Read a data set into memory.

    Args:
        data: Data set to read.
        workers: Number of loader processes; 0 loads in this process. Default: 0.
        budget: Largest size in bytes. Default: None, a quarter of the memory of the machine.

    Returns:
        The data set in memory. None if it does not fit, its samples differ in shape, or it has transforms.
    """
    if getattr(data, "transforms", None) is not None:
        return None  # stored samples would repeat the first draw of a random transform
    if budget is None:
        budget = _total_memory() // 4
    first = _pack_inputs(collate([data[0]]))
    if _num_bytes(first) * len(data) > budget:
        return None
    loader = DataLoader(data, batch_size=_READ_BATCH_SIZE, num_workers=workers, collate_fn=_collate_packed)
    parts: list[dict[str, Any]] = []
    for part in loader:
        if parts and _sample_shapes(part) != _sample_shapes(parts[0]):
            return None
        parts.append(part)
    return InMemoryDataset(
        {name: _concatenate([part["inputs"][name] for part in parts]) for name in parts[0]["inputs"]},
        _concatenate_masks(parts),
        torch.cat([part["target"] for part in parts]),
    )


def _total_memory() -> int:
    """Return the memory in bytes; 4 GiB if not reported."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return 4 * 2**30


def _collate_packed(samples: Sequence[Sample]) -> dict[str, Any]:
    return _pack_inputs(collate(samples))


def _pack_inputs(batch: dict[str, Any]) -> dict[str, Any]:
    return batch | {"inputs": {name: _pack_uint8(values) for name, values in batch["inputs"].items()}}


def _pack_uint8(values: Tensor) -> Tensor:
    codes = (values * 255).round()
    if codes.numel() and codes.min() >= 0 and codes.max() <= 255 and torch.equal(codes / 255, values):
        return codes.to(torch.uint8)
    return values


def _concatenate(parts: list[Tensor]) -> Tensor:
    # A batch may contain only bytes by chance, such as a field of zeros, while others do not.
    if len({part.dtype for part in parts}) > 1:
        parts = [part / 255 if part.dtype == torch.uint8 else part for part in parts]
    return torch.cat(parts)


def _concatenate_masks(parts: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Concatenate masks; a part without a mask is complete."""
    names = {name: mask for part in parts for name, mask in part["valid"].items()}
    return {
        name: torch.cat(
            [
                part["valid"].get(name, torch.ones(len(part["target"]), *like.shape[1:], dtype=torch.bool))
                for part in parts
            ]
        )
        for name, like in names.items()
    }


def _num_bytes(batch: dict[str, Any]) -> int:
    return sum(values.nbytes for values in [*batch["inputs"].values(), batch["target"]])


def _sample_shapes(batch: dict[str, Any]) -> dict[str, torch.Size]:
    shapes = {name: values.shape[1:] for name, values in batch["inputs"].items()}
    return shapes | {"target": batch["target"].shape[1:]}


class _IndexedDataset(Dataset):
    """Data set whose samples include their index."""

    def __init__(self, data: GeoDataset) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[int, Sample]:
        return index, self.data[index]


def _collate_indexed(pairs: Sequence[tuple[int, Sample]]) -> Batch:
    batch = collate([sample for _, sample in pairs])
    index = torch.tensor([position for position, _ in pairs])
    return Batch(batch["inputs"], batch["valid"], batch["target"], index)


class _BatchSampler(Sampler[list[int]]):
    """Sampler that gives every process its share of each batch."""

    def __init__(
        self, size: int, batch_size: int, seed: tuple[int, ...] | None, balance: Tensor | None = None
    ) -> None:
        self.size, self.batch_size, self.seed, self.balance = size, batch_size, seed, balance
        self.epoch = self.start = 0

    def __len__(self) -> int:
        if self.balance is not None:
            return balanced_batch_count(self.balance, self.batch_size)
        return batch_count(self.size, self.batch_size, shuffled=self.seed is not None)

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.arange(self.size)
        rank, world = 0, 1
        if self.seed is not None:
            generator = torch.Generator().manual_seed(derive_seed(*self.seed, self.epoch))
            if self.balance is None:
                order = torch.randperm(self.size, generator=generator)
            else:
                order = _balanced_order(self.balance, self.batch_size, generator)
            rank, world = _rank_and_world_size()
        first, self.start = self.start, 0
        for number in range(first, len(self)):
            batch = order[number * self.batch_size : (number + 1) * self.batch_size].tolist()
            # Shares need the same length, or the processes would wait for each other forever.
            share = -(-len(batch) // world)
            yield (batch * world)[rank * share : (rank + 1) * share]


def _balanced_order(labels: Tensor, batch_size: int, generator: torch.Generator) -> Tensor:
    """Return the sample indices of an epoch with balanced batches.

    Every batch has the same number of samples of each class. Each class has a random order, and a new one
    after all of its samples were used.
    """
    classes, counts = _count_classes(labels)
    share, batches = batch_size // len(classes), balanced_batch_count(labels, batch_size)
    columns = []
    for label, count in zip(classes.tolist(), counts.tolist(), strict=True):
        own = torch.nonzero(labels == label)[:, 0]
        rounds = -(-batches * share // count)
        order = torch.cat([own[torch.randperm(count, generator=generator)] for _ in range(rounds)])
        columns.append(order[: batches * share].view(batches, share))
    # Shuffle within each batch, because mixup and CutMix mix neighbors.
    positions = torch.rand(batches, share * len(classes), generator=generator).argsort(1)
    return torch.cat(columns, 1).gather(1, positions).flatten()


def _count_classes(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the classes with samples and their counts; negative labels are missing."""
    return labels[labels >= 0].unique(return_counts=True)


def _rank_and_world_size() -> tuple[int, int]:
    """Return the rank of this process and the number of processes."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


class EpochBatches:
    """Iterable over the batches of a data set, epoch by epoch.

    Args:
        data: Data set, which is read on demand unless it is an `InMemoryDataset`.
        batch_size: Number of samples per batch, over all processes of the training.
        seed: Numbers that determine the order together with the epoch. A shuffled epoch drops a last,
            smaller batch. Default: None, the order of the data set.
        workers: Number of loader processes if the data are not in memory. Default: 0.
        balance: Class of each sample, shape ``(sample,)``; a shuffled epoch then has the same number of
            samples of each class in every batch. Default: None, no balancing.
    """

    def __init__(
        self,
        data: GeoDataset | InMemoryDataset,
        *,
        batch_size: int,
        seed: tuple[int, ...] | None = None,
        workers: int = 0,
        balance: Tensor | None = None,
    ) -> None:
        self.data = data
        # Lightning calls `set_epoch` of these attributes.
        self.sampler, self.batch_sampler = self, None
        self._order = _BatchSampler(len(data), batch_size, seed, balance)
        self._loader = None
        if not isinstance(data, InMemoryDataset):
            self._loader = DataLoader(
                _IndexedDataset(data),
                batch_sampler=self._order,
                num_workers=workers,
                collate_fn=_collate_indexed,
                persistent_workers=workers > 0,
            )

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that determines the order.

        Args:
            epoch: Number of the epoch, from 0.
        """
        self._order.epoch = epoch

    def start_at(self, epoch: int, batch: int) -> None:
        """Start the next epoch at a batch; later epochs are complete.

        Args:
            epoch: Number of the epoch, from 0.
            batch: Number of its first batch, from 0.
        """
        self._order.epoch, self._order.start = epoch, batch

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Batch]:
        # A generator reads the epoch when the first batch is requested.
        if isinstance(self.data, InMemoryDataset):
            for index in self._order:
                yield self.data.batch(index)
        else:
            assert self._loader is not None
            yield from self._loader


def batch_count(samples: int, batch_size: int, *, shuffled: bool) -> int:
    """Return the number of batches of an epoch.

    A shuffled epoch drops a last, smaller batch unless it is the only one.

    Args:
        samples: Number of samples.
        batch_size: Number of samples per batch.
        shuffled: Whether the epoch is shuffled.
    """
    whole = samples // batch_size
    return whole if shuffled and whole else -(-samples // batch_size)


def balanced_batch_count(labels: Tensor, batch_size: int) -> int:
    """Return the number of batches of an epoch with balanced classes.

    The epoch contains every sample of the largest class.

    Args:
        labels: Class of each sample, shape ``(sample,)``; negative if missing.
        batch_size: Number of samples per batch.

    Raises:
        OptionError: There are no labels, or the batch size is no multiple of the number of classes.

    >>> balanced_batch_count(torch.tensor([1] * 254 + [0] * 1293), 16)
    162
    """
    classes, counts = _count_classes(labels)
    if not len(classes) or batch_size % len(classes):
        raise OptionError(
            f"batch_size={batch_size} is not a multiple of the number of classes, {len(classes)}, which "
            "sampling='balanced' requires; change batch_size"
        )
    return -(-int(counts.max()) * len(classes) // batch_size)


def derive_seed(*numbers: int) -> int:
    """Return one seed for several numbers, such as seed, stage and step.

    Similar numbers give unrelated seeds.

    Args:
        *numbers: Non-negative integers.
    """
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
