"""HBMCD: the HuaYun-BJUT-MIP cloud dataset, the ten genera and the cloudless sky.

What the authors publish: 25 119 photos, the eleven abbreviations with their criteria, and that the
archive opens with a password they send on request. How it is laid out inside is not documented; a
folder for each abbreviation is inferred. Full names of the genera are recognised too.
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
_LAYOUT = f"a folder a class, {' '.join(_GENERA)} and No (no cloud), with photos"
_NO_CLOUD = ClassCard("No", Text("No cloud", "无云"))


class HBMCD(ImageDataset):
    """25 119 photos from instruments of one maker, a folder a class, without an official split."""

    card: ClassVar[DatasetCard] = DatasetCard(
        name="hbmcd",
        title="HuaYun-BJUT-MIP Cloud Dataset (HBMCD, also GBCID)",
        source="https://github.com/SadaharuZL/HuaYun-BJUT-MIP-Cloud-Dataset",
        license="no licence is stated; its authors send the password of the archive on request",
        citation="HuaYun-BJUT-MIP Cloud Dataset, Beijing University of Technology and Huayun Sounding",
        split_group="near-duplicate group; frames of one camera, so really the day, which is not given",
        layout=_LAYOUT,
        caveats=(
            "The layout is inferred, not documented.",
            "Instruments of one maker. If they stand still, as such instruments do, frames minutes apart "
            "look alike, and a split by photo tests on what was trained on.",
            "No cloud (No) is no genus: a model of genera is scored without it, and its contrail (Ct) has "
            "no counterpart here.",
        ),
    )
    task: ClassVar[str] = "cloud"
    class_mapping: ClassVar[ClassMapping] = ClassMapping(
        {code: (code,) for code in _GENERA}, excluded={"No": "no genus: no cloud in the photo"}
    )

    def scan(self) -> Sequence[ImageRecord]:
        target = self.build_target(())
        names = {card.code: (card.name.en,) for card in target.cards}
        return labeled_images(self.root, names | {"No": ("no cloud", "none", "clear")}, expected=_LAYOUT)

    def build_target(self, records: Sequence[ImageRecord]) -> ClassTarget:
        genera = registry.find_task(self.task).target
        assert isinstance(genera, ClassTarget)
        cards = [card for code in _GENERA if (card := genera.card(code))]
        return ClassTarget((*_GENERA, "No"), (*cards, _NO_CLOUD), order_source="alphabetical, No last")

    @classmethod
    def synthetic(cls, root: Path, n: int, *, seed: int = 0) -> Path:
        place = resolve("geovision.datasets.synthetic.image_classes:ClassFolder")
        places = [place(f"{code}/{code}_{{:05d}}.jpg", (code,)) for code in _GENERA]
        places.append(place("No/No_{:05d}.jpg", ("clear",)))
        write = resolve("geovision.datasets.synthetic.image_classes:write")
        return write(Path(root), n, places, seed=seed, size=(256, 256))
