"""HBMCD: the HuaYun-BJUT-MIP cloud dataset, the ten genera and the cloudless sky.

The authors document 25 119 photos and the eleven abbreviations with their criteria. They send the password of
the archive on request. The layout of the archive is not documented; one folder for each abbreviation is
inferred. Full names of the genera are also recognized.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from geovision import registry
from geovision.datasets.base import DatasetCard
from geovision.datasets.class_folders import labeled_images
from geovision.datasets.image_classification import ImageDataset, ImageRecord
from geovision.spec import ClassCard, ClassMapping, ClassTarget, Text, resolve

__all__ = ["HBMCD"]

_GENERA = ("Ac", "As", "Cb", "Cc", "Ci", "Cs", "Cu", "Ns", "Sc", "St")
_LAYOUT = f"one folder for each class, {' '.join(_GENERA)} and No (no cloud), with photos"
_NO_CLOUD = ClassCard("No", Text("No cloud", "无云"))


class HBMCD(ImageDataset):
    """25 119 photos from instruments of one manufacturer, in class folders, without official split.

    The arguments are those of `ImageDataset`.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="hbmcd",
        title="HuaYun-BJUT-MIP Cloud Dataset (HBMCD, also GBCID)",
        source="https://github.com/SadaharuZL/HuaYun-BJUT-MIP-Cloud-Dataset",
        license="no license is stated; the authors send the password of the archive on request",
        citation="HuaYun-BJUT-MIP Cloud Dataset, Beijing University of Technology and Huayun Sounding",
        split_group="near-duplicate group; the day would be better for frames of one camera, but it is not "
        "published",
        layout=_LAYOUT,
        caveats=(
            "The layout is inferred, not documented.",
            "Instruments of one manufacturer. Such instruments are usually fixed, so frames minutes apart "
            "are similar, and a random split by photo tests on photos that were used for training.",
            "No cloud (No) is not a genus: a model of genera is evaluated without it. The contrail (Ct) of "
            "the model has no counterpart here.",
        ),
    )
    task: ClassVar[str] = "cloud"
    class_mapping: ClassVar[ClassMapping] = ClassMapping(
        {code: (code,) for code in _GENERA}, excluded={"No": "not a genus: no cloud in the photo"}
    )

    def scan(self) -> Sequence[ImageRecord]:
        """Return the records of all photos in the class folders.

        Raises:
            DatasetError: A folder is not a known class, or there is no class folder.
        """
        target = self.build_target(())
        names = {card.code: (card.name.en,) for card in target.cards}
        return labeled_images(self.root, names | {"No": ("no cloud", "none", "clear")}, expected=_LAYOUT)

    def build_target(self, records: Sequence[ImageRecord]) -> ClassTarget:
        """Return the ten genera and the cloudless sky.

        Args:
            records: Records of all photos; not used.
        """
        genera = registry.find_task(self.task).target
        assert isinstance(genera, ClassTarget)
        cards = [card for code in _GENERA if (card := genera.card(code))]
        return ClassTarget((*_GENERA, "No"), (*cards, _NO_CLOUD), order_source="alphabetical, No last")

    @classmethod
    def synthetic(cls, root: Path, n: int, *, seed: int = 0) -> Path:
        """Write generated photos in the layout of this dataset.

        Args:
            root: Folder to write to.
            n: Number of photos.
            seed: Seed of the generator. Default: 0.
        """
        class_folder = resolve("geovision.datasets.synthetic.image_classes:ClassFolder")
        folders = [class_folder(f"{code}/{code}_{{:05d}}.jpg", (code,)) for code in _GENERA]
        folders.append(class_folder("No/No_{:05d}.jpg", ("clear",)))
        write = resolve("geovision.datasets.synthetic.image_classes:write")
        return write(Path(root), n, folders, seed=seed, size=(256, 256))
