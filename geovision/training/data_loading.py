"""Batches of a data set, in an order that is found again after a kill.

Epoch `e` of stage `s` has one order, a function of (seed, s, e) alone, so that a training that
goes on in the middle of an epoch needs to know no more than how many batches it has seen.
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
    """Samples along the first axis.

    Attributes:
        inputs: By name. uint8 holds fractions of 255, see `Rows`.
        valid: By input name, and "target" for the labels; absent: all there.
        target: Class indices, or masks or fields.
        sample_index: Of each sample in its data set.
    """

    inputs: dict[str, Tensor]
    valid: dict[str, Tensor]
    target: Tensor
    sample_index: Tensor


class InMemoryDataset(Dataset[Sample]):
    """A whole data set in memory, read once; a batch is one look-up.

    Pictures were bytes before they were fractions. Where dividing the bytes by 255 gives the very
    same floats, bytes are what is kept, at a quarter of the size.
    """

    def __init__(self, inputs: dict[str, Tensor], valid: dict[str, Tensor], target: Tensor) -> None:
        self.inputs, self.valid, self.target = inputs, valid, target

    def __len__(self) -> int:
        return len(self.target)

    def batch(self, index: Sequence[int]) -> Batch:
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
    """Read a data set into memory; None where it would not fit, or its samples differ in shape.

    Args:
        workers: Processes that read.
        budget: Bytes that it may take; None: a quarter of the machine's memory.
    """
    if getattr(data, "transforms", None) is not None:
        return None  # kept samples would repeat the first draw of a random transform
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
    """Bytes of memory that the machine has; 4 GiB where the system does not say."""
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
    # One batch may be all bytes by chance (a field of zeros) where the others are not.
    if len({part.dtype for part in parts}) > 1:
        parts = [part / 255 if part.dtype == torch.uint8 else part for part in parts]
    return torch.cat(parts)


def _concatenate_masks(parts: list[dict[str, Any]]) -> dict[str, Tensor]:
    """The masks of all parts; a part without one has everything."""
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
    """Samples together with their position."""

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
    """Which samples make which batch. Every process of a training takes its own share of each."""

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
            chance = torch.Generator().manual_seed(derive_seed(*self.seed, self.epoch))
            if self.balance is None:
                order = torch.randperm(self.size, generator=chance)
            else:
                order = _balanced_order(self.balance, self.batch_size, chance)
            rank, world = _rank_and_world_size()
        first, self.start = self.start, 0
        for number in range(first, len(self)):
            batch = order[number * self.batch_size : (number + 1) * self.batch_size].tolist()
            # Shares of one length, or the processes would wait for one another for ever.
            share = -(-len(batch) // world)
            yield (batch * world)[rank * share : (rank + 1) * share]


def _balanced_order(labels: Tensor, batch_size: int, chance: torch.Generator) -> Tensor:
    """An epoch's samples, batch after batch, each with as many of every class: class by class in random
    orders, a new one where a class is used up."""
    classes, counts = _count_classes(labels)
    share, batches = batch_size // len(classes), balanced_batch_count(labels, batch_size)
    columns = []
    for label, count in zip(classes.tolist(), counts.tolist(), strict=True):
        own = torch.nonzero(labels == label)[:, 0]
        rounds = -(-batches * share // count)
        order = torch.cat([own[torch.randperm(count, generator=chance)] for _ in range(rounds)])
        columns.append(order[: batches * share].view(batches, share))
    # Mixed within each batch, where neighbours may be blended with one another.
    places = torch.rand(batches, share * len(classes), generator=chance).argsort(1)
    return torch.cat(columns, 1).gather(1, places).flatten()


def _count_classes(labels: Tensor) -> tuple[Tensor, Tensor]:
    """The classes that have samples, and how many; a negative label is none."""
    return labels[labels >= 0].unique(return_counts=True)


def _rank_and_world_size() -> tuple[int, int]:
    """(rank of this process, number of processes) of the training."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


class EpochBatches:
    """Batches of a data set, epoch by epoch.

    Args:
        data: Read as it is needed, or once and for all: `Rows`.
        batch_size: Samples a batch, over all processes of the training.
        seed: Numbers that the order depends on, beside the epoch; None: the order of the data set.
            A shuffled epoch leaves out a last, smaller batch.
        workers: Processes that read, where the data are not in memory.
        balance: Class of each sample ``(sample,)``; a shuffled epoch then has as many samples of each
            class in every batch. None: samples as they come.
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
        # Lightning looks for `set_epoch` under these names.
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
        self._order.epoch = epoch

    def start_at(self, epoch: int, batch: int) -> None:
        """Begin the next epoch with this batch; those after it are whole."""
        self._order.epoch, self._order.start = epoch, batch

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Batch]:
        # A generator looks at the epoch when the first batch is asked for, not before.
        if isinstance(self.data, InMemoryDataset):
            for index in self._order:
                yield self.data.batch(index)
        else:
            assert self._loader is not None
            yield from self._loader


def batch_count(samples: int, batch_size: int, *, shuffled: bool) -> int:
    """Batches of an epoch; a shuffled one leaves out a last, smaller batch unless it is the only."""
    whole = samples // batch_size
    return whole if shuffled and whole else -(-samples // batch_size)


def balanced_batch_count(labels: Tensor, batch_size: int) -> int:
    """Batches of an epoch in which every batch has as many samples of each class: so many that the
    largest class is through.

    Args:
        labels: Class of each sample ``(sample,)``; a negative one is none.

    Raises:
        OptionError: There are no labels, or a batch cannot be shared evenly among the classes.

    >>> balanced_batch_count(torch.tensor([1] * 254 + [0] * 1293), 16)
    162
    """
    classes, counts = _count_classes(labels)
    if not len(classes) or batch_size % len(classes):
        raise OptionError(
            f"batch_size {batch_size} cannot be shared evenly among {len(classes)} classes, as "
            "sampling='balanced' does; take a multiple of their number"
        )
    return -(-int(counts.max()) * len(classes) // batch_size)


def derive_seed(*numbers: int) -> int:
    """One seed from several numbers, such as (seed, stage, step): near numbers, far seeds."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
