"""CCSN: the Cirrus Cumulus Stratus Nimbus database of Zhang et al. 2018, ten genera and contrails."""

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
"""Photos of each class in the published set."""

_FOLDS = Path(__file__).parent / "fold_files" / "ccsn-v1.csv"

_log = logging.getLogger(__name__)


class CCSN(ImageDataset):
    """2543 photos of clouds from the ground, a folder a genus; the label is the folder.

    There is no official split. `split` takes ``"train"`` and ``"test"``: the last holds back fold 0
    of seed 0 of our fold file, about a fifth, near-duplicates kept together.

    A part of the set is fine; what is missing is logged.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="ccsn",
        title="Cirrus Cumulus Stratus Nimbus database (CCSN_v2)",
        source="doi:10.7910/DVN/CADDPD",
        license="see its Dataverse record; the authors of the photos are not named",
        citation="Zhang, Liu, Zhang and Song 2018, CloudNet: ground-based cloud classification with deep "
        "convolutional neural network, doi:10.1029/2018GL077787",
        split_group="near-duplicate group",
        layout="a folder a genus, Ac As Cb Cc Ci Cs Ct Cu Ns Sc St, with photos like Ac/Ac-N001.jpg",
        caveats=(
            "Near-duplicates: one photo in seven has a near-copy in the set, so a split by photo tests on "
            "what was trained on.",
            "Label conflicts: about one photo in ten has a near-copy that is filed under another genus. "
            "No honest score comes near 1.",
            "No official split: published accuracies, 0.57 to 0.98, each stand on a split of its own.",
            "Size as a shortcut: the record says 256x256, most files in circulation are 400x400 and 211 are "
            "256x256. Bring all photos to one size before anything learns from them.",
            "Contrail (Ct) is not a WMO genus; by the WMO a persistent one is Cirrus homogenitus.",
        ),
    )
    downloads: ClassVar[DataverseRecord] = DataverseRecord(
        "https://dataverse.harvard.edu",
        "doi:10.7910/DVN/CADDPD",
        # The second version first; single pictures where a record was uploaded unpacked.
        patterns=("CCSN_v2*.zip", "*.zip", "*.jpg"),
        strip_top_level=True,
    )
    task: ClassVar[str] = "cloud"
    splits: ClassVar[tuple[str, ...]] = ("train", "test")

    def scan(self) -> Sequence[ImageRecord]:
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
            _log.info("%s: a part of CCSN: %s", self.root, ", ".join(short))
        return records

    @property
    def fold_assignment(self) -> FoldAssignment:
        """Group and folds of every photo under `root` by our fold file; found when first asked for."""
        if "assignment" not in self._cache:
            paths = [record.path for record in self._records]
            self._cache["assignment"] = fold_file().assign(
                paths, self._relative_names(paths), self.input_spec
            )
        return self._cache["assignment"]

    def find_groups(self) -> Sequence[str]:
        return self.fold_assignment.groups

    def folds(self, *, seed: int = 0, k: int = 5, grouped: bool = True) -> list[TrainTestSplit]:
        """As in every set of photos; those of our fold file where it knows this `seed` and `k` and
        some of the photos, so that results can be compared."""
        file = fold_file()
        shipped = grouped and k == file.k and seed in file.seeds
        if not shipped or not self.fold_assignment.matched[self._index].any():
            return super().folds(seed=seed, k=k, grouped=grouped)
        return folds_to_splits(self.fold_assignment.folds[self._index, file.seeds.index(seed)], k)

    def split_indices(self, split: str) -> Sequence[int]:
        train, test = self.folds()[0]
        return list(train if split == "train" else test)

    @classmethod
    def synthetic(cls, root: Path, n: int, *, seed: int = 0) -> Path:
        return resolve("geovision.datasets.synthetic.sky:write")(Path(root), n, seed=seed)


@functools.cache
def fold_file() -> FoldFile:
    """Groups and folds of CCSN's photos, as shipped with geovision."""
    return FoldFile.read(_FOLDS)


def _describe_contents(root: Path) -> str:
    """What a folder holds that is not CCSN, in a few words."""
    entries = sorted(root.iterdir())
    if not entries:
        return "the folder is empty"
    if list_images(root):
        return "photos without class folders; the class of a photo is the folder that it lies in"
    inner = next((entry for entry in entries if (entry / "Ac").is_dir()), None)
    if inner is not None:
        return f"the classes are one folder further down, give {inner}"
    shown = ", ".join(entry.name for entry in entries[:4])
    return f"no class folder among {shown}{', …' if len(entries) > 4 else ''}"
