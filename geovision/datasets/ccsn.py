"""CCSN (Zhang et al. 2018): photos of ten cloud genera and contrails."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from geovision import registry
from geovision.datasets.base import DatasetCard
from geovision.datasets.downloads import DataverseRecord
from geovision.datasets.image_classification import ImageDataset, ImageRecord, list_images
from geovision.datasets.splits import FoldAssignment, FoldFile, TrainTestSplit, folds_to_splits
from geovision.errors import DatasetError
from geovision.spec import ClassTarget, resolve

__all__ = ["CCSN", "CLASS_COUNTS", "fold_file"]

CLASS_COUNTS = {
    "Ac": 221,
    "As": 188,
    "Cb": 242,
    "Cc": 268,
    "Ci": 139,
    "Cs": 287,
    "Ct": 200,
    "Cu": 182,
    "Ns": 274,
    "Sc": 340,
    "St": 202,
}
"""Number of photos of each class in the published dataset."""

_FOLDS = Path(__file__).parent / "fold_files" / "ccsn-v1.csv"

_log = logging.getLogger(__name__)


class CCSN(ImageDataset):
    """2543 photos of clouds from the ground, in one folder for each genus.

    There is no official split. `split` accepts ``"train"`` and ``"test"``: the test split is fold 0 of seed 0
    of the shipped fold file, about a fifth of the photos. Near-duplicates are kept together.

    The folder may contain only some of the published photos; a log message lists the missing ones. The
    arguments are those of `ImageDataset`.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="ccsn",
        title="Cirrus Cumulus Stratus Nimbus database (CCSN_v2)",
        source="doi:10.7910/DVN/CADDPD",
        license="see its Dataverse record; the authors of the photos are not named",
        citation="Zhang, Liu, Zhang and Song 2018, CloudNet: ground-based cloud classification with deep "
        "convolutional neural network, doi:10.1029/2018GL077787",
        split_group="near-duplicate group",
        layout="one folder for each genus, Ac As Cb Cc Ci Cs Ct Cu Ns Sc St, with photos such as "
        "Ac/Ac-N001.jpg",
        caveats=(
            "Near-duplicates: one photo in seven has a near-duplicate in the dataset. A random split by "
            "photo tests on photos that were used for training.",
            "Label conflicts: about one photo in ten has a near-duplicate with the label of another genus. "
            "Scores close to 1 are therefore not plausible.",
            "No official split: published accuracies, 0.57 to 0.98, are each based on a different split.",
            "Image size as a shortcut: the record states 256x256, most files in circulation are 400x400 and "
            "211 are 256x256. Resize all photos to one size before training.",
            "Contrail (Ct) is not a WMO genus; the WMO name of a persistent one is Cirrus homogenitus.",
        ),
    )
    downloads: ClassVar[DataverseRecord] = DataverseRecord(
        "https://dataverse.harvard.edu",
        "doi:10.7910/DVN/CADDPD",
        # The second version first; single images if a record was uploaded unpacked.
        patterns=("CCSN_v2*.zip", "*.zip", "*.jpg"),
        strip_top_level=True,
    )
    task: ClassVar[str] = "cloud"
    splits: ClassVar[tuple[str, ...]] = ("train", "test")

    def scan(self) -> Sequence[ImageRecord]:
        """Return the records of all photos in the folders of the genera.

        Raises:
            DatasetError: There is no folder of a genus.
        """
        target = registry.find_task(self.task).target
        assert isinstance(target, ClassTarget)
        folders = {code: self.root / code for code in target.classes if (self.root / code).is_dir()}
        if not folders:
            raise DatasetError(f"{self.root}: {_describe_contents(self.root)}; expected {self.card.layout}")
        records = [
            ImageRecord(path, code) for code, folder in folders.items() for path in list_images(folder)
        ]
        counts = {code: sum(record.label == code for record in records) for code in CLASS_COUNTS}
        short = [
            f"{code} {counts[code]} of {CLASS_COUNTS[code]}"
            for code in CLASS_COUNTS
            if counts[code] < CLASS_COUNTS[code]
        ]
        if short:
            _log.info("%s contains only a part of CCSN: %s", self.root, ", ".join(short))
        return records

    @property
    def fold_assignment(self) -> FoldAssignment:
        """Groups and folds of every photo, from the shipped fold file; computed on first access."""
        if "assignment" not in self._cache:
            paths = [record.path for record in self._records]
            self._cache["assignment"] = fold_file().assign(
                paths, self._relative_names(paths), self.input_spec
            )
        return self._cache["assignment"]

    def find_groups(self) -> Sequence[str]:
        """Return the near-duplicate group of every record."""
        return self.fold_assignment.groups

    def folds(self, *, seed: int = 0, k: int = 5, grouped: bool = True) -> list[TrainTestSplit]:
        """Return `k` pairs of (training, test) positions.

        The folds of the shipped fold file are used if it contains this `seed` and `k` and some of the photos,
        so that results can be compared. Otherwise the folds are computed as in `ImageDataset.folds`.

        Args:
            seed: Seed of the folds. Default: 0.
            k: Number of folds. Default: 5.
            grouped: Whether to keep near-duplicates together, see `ImageDataset.folds`. Default: True.
        """
        file = fold_file()
        shipped = grouped and k == file.k and seed in file.seeds
        if not shipped or not self.fold_assignment.matched[self._index].any():
            return super().folds(seed=seed, k=k, grouped=grouped)
        return folds_to_splits(self.fold_assignment.folds[self._index, file.seeds.index(seed)], k)

    def split_indices(self, split: str) -> Sequence[int]:
        """Return the positions of the photos of a split.

        Args:
            split: "train" or "test".
        """
        train, test = self.folds()[0]
        return list(train if split == "train" else test)

    @classmethod
    def synthetic(cls, root: Path, n: int, *, seed: int = 0) -> Path:
        """Write generated photos in the layout of this dataset.

        Args:
            root: Folder to write to.
            n: Number of photos.
            seed: Seed of the generator. Default: 0.
        """
        return resolve("geovision.datasets.synthetic.sky:write")(Path(root), n, seed=seed)


@functools.cache
def fold_file() -> FoldFile:
    """Return the groups and folds of the CCSN photos, as shipped with geovision."""
    return FoldFile.read(_FOLDS)


def _describe_contents(root: Path) -> str:
    """Describe the content of a folder that does not have the layout of CCSN."""
    entries = sorted(root.iterdir())
    if not entries:
        return "the folder is empty"
    if list_images(root):
        return "photos without class folders; the folder of a photo must be its class"
    inner = next((entry for entry in entries if (entry / "Ac").is_dir()), None)
    if inner is not None:
        return f"the class folders are in {inner}, pass that folder"
    shown = ", ".join(entry.name for entry in entries[:4])
    return f"no class folder among {shown}{', …' if len(entries) > 4 else ''}"
