"""Every dataset of the registry: its card, its generated layout, its groups and its samples."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from geovision import registry
from geovision.datasets.base import GeoDataset
from geovision.spec import ClassTarget, resolve

# Own data have no layout of their own to generate.
NAMES = [name for name in registry.list_datasets() if name not in registry.CUSTOM_DATASETS]
COUNT = 8


def adapter(name: str) -> type[GeoDataset]:
    return resolve(registry.dataset_reference(name)[1])


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", NAMES)
def test_the_card_is_complete(name: str):
    card = adapter(name).card
    assert card.name == name
    assert adapter(name).task == registry.dataset_reference(name)[0].name
    assert all((card.title, card.source, card.license, card.citation, card.split_group, card.layout))


@pytest.mark.parametrize("name", NAMES)
def test_the_adapter_reads_the_generated_layout(name: str, tmp_path: Path):
    data = adapter(name)(adapter(name).synthetic(tmp_path, COUNT, seed=3))
    assert len(data.groups) == len(data) > 0
    assert all(isinstance(group, str) and group for group in data.groups)
    for index in (0, len(data) - 1):
        sample = data[index]
        assert sample["group"] == data.groups[index]
        assert all(values.is_floating_point() for values in sample["inputs"].values())
        if isinstance(data.target, ClassTarget):
            assert sample["target"].dtype == torch.int64
            assert 0 <= int(sample["target"]) < len(data.target.classes)
    part = data.subset([len(data) - 1])
    assert list(part.groups) == [data.groups[-1]]


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_files(name: str, tmp_path: Path):
    first, second, other = (
        adapter(name).synthetic(tmp_path / folder, COUNT, seed=seed)
        for folder, seed in (("first", 3), ("second", 3), ("other", 4))
    )
    assert files(first) == files(second)
    assert files(first) != files(other)
