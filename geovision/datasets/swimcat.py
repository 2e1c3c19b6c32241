"""SWIMCAT: patches of the sky over Singapore in five types that are no genera.

What the authors publish: the five types, 784 patches of 125x125 pixels. The folder names with their
letters are those of copies in circulation, as we remember them; the types' own names are recognised
too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from geovision.datasets.base import DatasetCard
from geovision.datasets.class_folders import labeled_images
from geovision.datasets.image_classification import ImageDataset, ImageRecord
from geovision.spec import ClassCard, ClassMapping, ClassTarget, Text, resolve

__all__ = ["SWIMCAT"]

_CARDS = (
    ClassCard("sky", Text("Clear sky", "晴空")),
    ClassCard("pattern", Text("Patterned clouds", "斑状云")),
    ClassCard("thick-dark", Text("Thick dark clouds", "厚暗云")),
    ClassCard("thick-white", Text("Thick white clouds", "厚白云")),
    ClassCard("veil", Text("Veil clouds", "薄幕云")),
)
_TYPES = tuple(card.code for card in _CARDS)
_FOLDERS = {
    "sky": ("A", "A-sky", "clear", "clear sky"),
    "pattern": ("B", "B-pattern", "patterned", "patterned clouds"),
    "thick-dark": ("C", "C-thick-dark", "thick dark clouds"),
    "thick-white": ("D", "D-thick-white", "thick white clouds"),
    "veil": ("E", "E-veil", "veil clouds"),
}
_LAYOUT = "a folder a type: A-sky B-pattern C-thick-dark D-thick-white E-veil"
# What comes nearest in look, for generated patches only: the types map to no genus.
_SYNTHETIC_KINDS = {
    "sky": ("clear",),
    "pattern": ("Cc", "Ac"),
    "thick-dark": ("Ns",),
    "thick-white": ("St", "Sc"),
    "veil": ("Cs", "Ci"),
}


class SWIMCAT(ImageDataset):
    """784 patches of 125x125 pixels, a folder a type, without an official split.

    A model of genera cannot be scored here; the set trains and tests its own five types.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="swimcat",
        title="Singapore Whole-sky IMaging CATegories (SWIMCAT)",
        source="http://vintage.winklerbros.net/swimcat.html",
        license="free for research on request to its authors",
        citation="Dev, Lee and Winkler 2015, Categorization of cloud image patches using an improved "
        "texton-based approach, ICIP 2015",
        split_group="near-duplicate group; patches of one frame, which is not given",
        layout=_LAYOUT,
        caveats=(
            "The folder names with their letters are inferred from copies in circulation.",
            "Five types of look, not genera: no sum of genera makes one of them.",
            "Patches, not photos: without horizon and scale, element size in degrees cannot be seen.",
            "Thick dark is reported to be taken at night, the others by day: colour alone may tell it apart.",
            "Several patches may come from one frame; without its name a split by patch leaks.",
        ),
    )
    task: ClassVar[str] = "cloud"
    class_mapping: ClassVar[ClassMapping] = ClassMapping(
        {}, excluded=dict.fromkeys(_TYPES, "a type of look that several genera share")
    )

    def scan(self) -> Sequence[ImageRecord]:
        return labeled_images(self.root, _FOLDERS, expected=_LAYOUT)

    def build_target(self, records: Sequence[ImageRecord]) -> ClassTarget:
        return ClassTarget(_TYPES, _CARDS, order_source="letters of the folder names")

    @classmethod
    def synthetic(cls, root: Path, n: int, *, seed: int = 0) -> Path:
        place = resolve("geovision.datasets.synthetic.image_classes:ClassFolder")
        places = [
            place(f"{letter}-{code}/{letter}_{{}}.png", _SYNTHETIC_KINDS[code])
            for letter, code in zip("ABCDE", _TYPES, strict=True)
        ]
        write = resolve("geovision.datasets.synthetic.image_classes:write")
        return write(Path(root), n, places, seed=seed, size=(125, 125), frame="patch")
