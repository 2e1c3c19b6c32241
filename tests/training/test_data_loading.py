"""Batches: order of an epoch, data in memory, and shares of several processes."""

from __future__ import annotations

import pytest
import torch
from helpers.blobs import Blobs

from geovision.errors import OptionError
from geovision.training import data_loading as training_data
from geovision.training.data_loading import (
    EpochBatches,
    InMemoryDataset,
    balanced_batch_count,
    batch_count,
    load_into_memory,
)


def positions(batches: EpochBatches) -> list[list[int]]:
    return [batch.sample_index.tolist() for batch in batches]


def test_an_epoch_has_every_sample_at_most_once_and_drops_a_small_last_batch():
    seen = [
        i
        for batch in positions(EpochBatches(load_into_memory(Blobs(50)), batch_size=16, seed=(3, 0)))
        for i in batch
    ]
    assert len(seen) == 48 == len(set(seen))
    assert set(seen) <= set(range(50))


def test_a_dataset_smaller_than_a_batch_is_one_batch():
    assert sorted(positions(EpochBatches(load_into_memory(Blobs(5)), batch_size=16, seed=(3, 0)))[0]) == list(
        range(5)
    )
    assert batch_count(5, 16, shuffled=True) == 1


def test_validation_keeps_the_order_and_every_sample():
    seen = positions(EpochBatches(load_into_memory(Blobs(50)), batch_size=16))
    assert [i for batch in seen for i in batch] == list(range(50))
    assert [len(batch) for batch in seen] == [16, 16, 16, 2]


def test_epochs_differ_and_the_same_epoch_is_reproducible():
    batches = EpochBatches(load_into_memory(Blobs(64)), batch_size=16, seed=(3, 0))
    first = positions(batches)
    batches.set_epoch(1)
    second = positions(batches)
    batches.set_epoch(0)
    assert positions(batches) == first != second
    assert positions(EpochBatches(load_into_memory(Blobs(64)), batch_size=16, seed=(3, 1))) != first


def test_an_epoch_resumes_at_any_batch_and_the_next_is_complete():
    rows = load_into_memory(Blobs(64))
    whole = EpochBatches(rows, batch_size=16, seed=(3, 0))
    whole.set_epoch(2)
    expected = positions(whole)
    late = EpochBatches(rows, batch_size=16, seed=(3, 0))
    late.start_at(2, 3)
    assert positions(late) == expected[3:]
    assert positions(late) == expected


@pytest.mark.parametrize("workers", [0, 1])
def test_reading_on_demand_gives_the_same_batches(workers):
    data = Blobs(40)
    stored = EpochBatches(load_into_memory(data), batch_size=16, seed=(1, 0))
    read = EpochBatches(data, batch_size=16, seed=(1, 0), workers=workers)
    for batches in (stored, read):
        batches.start_at(1, 1)
    for a, b in zip(stored, read, strict=True):
        assert torch.equal(a.inputs["image"].float() / 255, b.inputs["image"])
        assert torch.equal(a.target, b.target)
        assert torch.equal(a.sample_index, b.sample_index)


def test_processes_share_each_batch(monkeypatch):
    rows = load_into_memory(Blobs(40))
    alone = positions(EpochBatches(rows, batch_size=8, seed=(1, 0)))
    shares = []
    for rank in (0, 1):
        monkeypatch.setattr(training_data, "_rank_and_world_size", lambda rank=rank: (rank, 2))
        shares.append(positions(EpochBatches(rows, batch_size=8, seed=(1, 0))))
    assert [a + b for a, b in zip(*shares, strict=True)] == alone


def test_images_are_kept_as_bytes_without_loss():
    data = Blobs(20)
    rows = load_into_memory(data)
    assert rows.inputs["image"].dtype == torch.uint8
    assert torch.equal(rows.batch([7]).inputs["image"].float() / 255, data[7]["inputs"]["image"][None])
    assert data.reads == 22  # each once, the first also to measure its size, and the one above


def test_fields_are_kept_in_float32():
    class Fields(Blobs):
        def read_sample(self, index):
            sample = super().read_sample(index)
            # The first batch can be stored as bytes by chance: all zeros.
            field = torch.zeros(1, 4, 4) if index < 64 else torch.full((1, 4, 4), 0.1234 * index)
            return sample | {"inputs": {"image": field}}

    rows = load_into_memory(Fields(80))
    assert rows.inputs["image"].dtype == torch.float32
    assert torch.equal(rows.inputs["image"][70], torch.full((1, 4, 4), 0.1234 * 70))


def test_masks_of_some_samples_become_masks_of_all():
    rows = load_into_memory(Blobs(100, unlabelled=0.3))
    assert rows.valid["target"].shape == (100,)
    assert 0 < int((~rows.valid["target"]).sum()) < 60
    assert bool((rows.target[~rows.valid["target"]] == -1).all())


def test_large_data_and_different_shapes_are_read_on_demand():
    assert load_into_memory(Blobs(20), budget=1000) is None
    assert isinstance(load_into_memory(Blobs(20), budget=10**6), InMemoryDataset)

    class Grids(Blobs):
        def read_sample(self, index):
            return super().read_sample(index) | {"inputs": {"image": torch.rand(1, 4, 4 + index // 64)}}

    assert load_into_memory(Grids(80)) is None


# --- balanced batches ---------------------------------------------------------------------------


def balanced(labels: list[int], batch_size: int) -> EpochBatches:
    return EpochBatches(
        load_into_memory(Blobs(len(labels))), batch_size=batch_size, seed=(3, 0), balance=torch.tensor(labels)
    )


def test_balanced_batches_contain_the_largest_class_completely():
    labels = torch.tensor([0] * 40 + [1] * 7)
    seen = positions(balanced(labels.tolist(), 8))
    assert len(seen) == 10
    for batch in seen:
        assert labels[batch].bincount().tolist() == [4, 4]
    times = torch.tensor(seen).flatten().bincount(minlength=47)
    assert set(times[:40].tolist()) == {1}
    assert set(times[40:].tolist()) == {
        5,
        6,
    }  # 40 places for 7 samples: each appears once before any is repeated
    firsts = {int(labels[batch[0]]) for batch in seen}
    assert firsts == {0, 1}  # classes are mixed within a batch


def test_the_published_dataset_takes_162_steps():
    assert balanced_batch_count(torch.tensor([0] * 1293 + [1] * 254), 16) == 162


def test_a_balanced_epoch_has_its_own_order_and_resumes():
    labels = [0] * 30 + [1] * 10
    first = balanced(labels, 6)
    expected = positions(first)
    assert positions(balanced(labels, 6)) == expected
    first.set_epoch(1)
    assert positions(first) != expected
    first.start_at(0, 7)
    assert positions(first) == expected[7:]


def test_samples_without_a_label_are_not_drawn():
    seen = [i for batch in positions(balanced([0] * 8 + [1] * 8 + [-1] * 4, 4)) for i in batch]
    assert max(seen) < 16


def test_a_batch_size_that_is_no_multiple_of_the_classes_is_refused():
    with pytest.raises(OptionError, match="batch_size=16 is not a multiple of the number of classes, 3"):
        balanced_batch_count(torch.tensor([0, 1, 2]), 16)
    with pytest.raises(OptionError, match="number of classes, 0"):
        balanced_batch_count(torch.tensor([-1, -1]), 16)


def test_data_with_transforms_are_not_kept_in_memory():
    data = Blobs(8)
    assert load_into_memory(data) is not None
    data.transforms = lambda sample: sample
    assert load_into_memory(data) is None
