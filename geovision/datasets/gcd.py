"""GCD and MGCD: ground-based clouds in seven sky types, collected at Tianjin Normal University.

The authors document the seven types and the genera that each merges, the numbers and sizes of the photos, and
the split into training and test (https://github.com/shuangliutjnu). The names of folders and files were found
in third-party programs that read a copy of GCD: ``train`` and ``test`` folders, class folders ``1_cumulus``
to ``7_mixed``, and files such as ``1_cumulus_000009.jpg``. For MGCD the same layout is inferred from its
tables of measurements, which the authors store as ``trainmol/1_cumulus.xlsx``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from geovision.datasets.base import DatasetCard
from geovision.datasets.class_folders import labeled_images, split_folder
from geovision.datasets.image_classification import ImageDataset, ImageRecord
from geovision.errors import DatasetError
from geovision.spec import ClassCard, ClassMapping, ClassTarget, Text, resolve

__all__ = ["GCD", "MGCD", "SKY_TYPES"]

SKY_TYPES = ("cumulus", "altocumulus", "cirrus", "clearsky", "stratocumulus", "cumulonimbus", "mixed")
"""Class codes in the order of the numbers 1 to 7 in the folder names."""

_NAMES = {
    "cumulus": Text("Cumulus", "积云"),
    "altocumulus": Text("Altocumulus and cirrocumulus", "高积云和卷积云"),
    "cirrus": Text("Cirrus and cirrostratus", "卷云和卷层云"),
    "clearsky": Text("Clear sky", "晴空"),
    "stratocumulus": Text("Stratocumulus, stratus and altostratus", "层积云、层云和高层云"),
    "cumulonimbus": Text("Cumulonimbus and nimbostratus", "积雨云和雨层云"),
    "mixed": Text("Mixed cloud", "混合云"),
}
_FOLDERS = {
    code: (f"{number}", f"{number}_{code}", _NAMES[code].en) for number, code in enumerate(SKY_TYPES, start=1)
}
_TARGET = ClassTarget(
    SKY_TYPES, tuple(ClassCard(code, _NAMES[code]) for code in SKY_TYPES), order_source="folder numbers"
)
_CLASS_MAPPING = ClassMapping(
    {
        "cumulus": ("Cu",),
        "altocumulus": ("Ac", "Cc"),
        "cirrus": ("Ci", "Cs"),
        "stratocumulus": ("Sc", "St", "As"),
        "cumulonimbus": ("Cb", "Ns"),
    },
    excluded={
        "clearsky": "not a genus: at most a tenth of the sky is cloud",
        "mixed": "several genera in one photo; a prediction of one genus cannot be right or wrong",
    },
)
_TYPES_CAVEAT = (
    "Seven merged types, not genera. A model of genera is evaluated on five of them by adding "
    "probabilities. Clear sky and mixed have no counterpart among the genera. The contrail (Ct) of the model "
    "has no counterpart here; its probability is removed before the others are normalized to one."
)
_LAYOUT = (
    "train and test, each with one folder for each type: 1_cumulus 2_altocumulus 3_cirrus 4_clearsky "
    "5_stratocumulus 6_cumulonimbus 7_mixed"
)


class _SevenSkyTypes(ImageDataset):
    """Photos in train and test folders, each with seven types; one of the two folders is enough."""

    task: ClassVar[str] = "cloud"
    splits: ClassVar[tuple[str, ...]] = ("train", "test")
    class_mapping: ClassVar[ClassMapping] = _CLASS_MAPPING

    def scan(self) -> Sequence[ImageRecord]:
        """Return the records of all photos in the train and test folders.

        Raises:
            DatasetError: Both folders are missing, or a folder is not a known class.
        """
        folders = {split: split_folder(self.root, split) for split in self.splits}
        if not any(folders.values()):
            shown = ", ".join(sorted(path.name for path in self.root.iterdir())[:4]) or "nothing"
            raise DatasetError(f"{self.root}: no train or test folder, but {shown}; expected {_LAYOUT}")
        return [
            record
            for split, folder in folders.items()
            if folder is not None
            for record in labeled_images(folder, _FOLDERS, expected=_LAYOUT, split=split)
        ]

    def build_target(self, records: Sequence[ImageRecord]) -> ClassTarget:
        """Return the seven sky types.

        Args:
            records: Records of all photos; not used.
        """
        return _TARGET

    def split_indices(self, split: str) -> Sequence[int]:
        """Return the positions of the photos of a split.

        Args:
            split: "train" or "test".

        Raises:
            DatasetError: The folder of the split is missing.
        """
        indices = super().split_indices(split)
        if not indices:
            raise DatasetError(f"{self.root}: the {split} split is missing; expected {_LAYOUT}")
        return indices


class GCD(_SevenSkyTypes):
    """19 000 photos of 512x512 pixels from nine provinces: 10 000 for training, 9 000 for test.

    The arguments are those of `ImageDataset`.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="gcd",
        title="TJNU Ground-based Cloud Dataset (GCD)",
        source="https://github.com/shuangliutjnu/TJNU-Ground-based-Cloud-Dataset",
        license="free for research under the GCD Agreement, which a person must accept",
        citation="Liu, Duan, Zhang, Cao and Durrani 2022, Ground-based remote sensing cloud classification "
        "via context graph attention network, IEEE TGRS 60, doi:10.1109/TGRS.2021.3063255",
        split_group="near-duplicate group; the official split does not keep it together",
        layout=_LAYOUT,
        caveats=(
            _TYPES_CAVEAT,
            "The official split leaks: a public audit of a copy counts 159 groups of equal files, 156 of "
            "them with members in both training and test. Run `geovision audit gcd ROOT`.",
            "Classes are imbalanced: 348 training photos of mixed, 3003 of cumulonimbus.",
            "Place and time of a photo are not published, so frames of one afternoon can only be kept "
            "together if they are near-duplicates.",
        ),
        class_counts={
            "train": dict(zip(SKY_TYPES, (775, 725, 1153, 2150, 1846, 3003, 348), strict=True)),
            "test": dict(zip(SKY_TYPES, (750, 750, 753, 1589, 1790, 2761, 607), strict=True)),
        },
    )

    @classmethod
    def synthetic(cls, root: Path, n: int, *, seed: int = 0) -> Path:
        """Write generated photos in the layout of this dataset.

        Args:
            root: Folder to write to.
            n: Number of photos.
            seed: Seed of the generator. Default: 0.
        """
        return _synthetic(root, n, seed=seed, frame="photo")


class MGCD(_SevenSkyTypes):
    """8 000 all-sky photos of 1024x1024 pixels from Tianjin, half for training, half for test.

    The dataset also has four measurements for each photo (temperature, humidity, pressure, wind speed) in
    separate tables. It is not documented which row belongs to which file, so they are not read. The arguments
    are those of `ImageDataset`.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="mgcd",
        title="TJNU Multimodal Ground-based Cloud Database (MGCD)",
        source="https://github.com/shuangliutjnu/Multimodal-Ground-based-Cloud-Database",
        license="free for research under the MGCD Agreement, which a person must accept",
        citation="Liu et al. 2020, Multi-evidence and multi-modal fusion network for ground-based cloud "
        "recognition, Remote Sensing 12, 464, doi:10.3390/rs12030464",
        split_group="near-duplicate group; the day would be better, because all frames are from one camera "
        "at one place, but it is not published",
        layout=f"{_LAYOUT} (inferred for the photos; the authors document only the tables)",
        caveats=(
            _TYPES_CAVEAT,
            "One fisheye camera at one place, 2017 to 2018: a model also learns its lens, its horizon and "
            "its weather.",
            "Frames of one day are similar and may be in both parts of the official split.",
            "The measurements are not read: the order of their rows is not documented.",
        ),
    )

    @classmethod
    def synthetic(cls, root: Path, n: int, *, seed: int = 0) -> Path:
        """Write generated photos in the layout of this dataset.

        Args:
            root: Folder to write to.
            n: Number of photos.
            seed: Seed of the generator. Default: 0.
        """
        return _synthetic(root, n, seed=seed, frame="all_sky")


def _synthetic(root: Path, n: int, *, seed: int, frame: str) -> Path:
    class_folder = resolve("geovision.datasets.synthetic.image_classes:ClassFolder")
    kinds = {**_CLASS_MAPPING.merged, "clearsky": ("clear",), "mixed": ("mixed",)}
    folders = [
        class_folder(f"{split}/{number}_{code}/{number}_{code}_{{:06d}}.jpg", kinds[code])
        for split in ("train", "test")
        for number, code in enumerate(SKY_TYPES, start=1)
    ]
    write = resolve("geovision.datasets.synthetic.image_classes:write")
    return write(Path(root), n, folders, seed=seed, size=(256, 256), frame=frame)
