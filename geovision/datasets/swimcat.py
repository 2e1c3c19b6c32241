"""SWIMCAT: patches of the sky over Singapore in five types that are not genera.

The authors document the five types and 784 patches of 125x125 pixels. The folder names with their letters
were not checked against an original: they are those of copies in circulation, from memory. The names of the
types are also recognized.
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
_LAYOUT = "one folder for each type: A-sky B-pattern C-thick-dark D-thick-white E-veil"
# Most similar genera, for generated patches only: no type corresponds to a genus.
_SYNTHETIC_KINDS = {
    "sky": ("clear",),
    "pattern": ("Cc", "Ac"),
    "thick-dark": ("Ns",),
    "thick-white": ("St", "Sc"),
    "veil": ("Cs", "Ci"),
}


class SWIMCAT(ImageDataset):
    """784 patches of 125x125 pixels in five folders, without an official split.

    A model of genera cannot be evaluated on this dataset; models are trained and tested with its own five
    types. The arguments are those of `ImageDataset`.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="swimcat",
        title="Singapore Whole-sky IMaging CATegories (SWIMCAT)",
        source="http://vintage.winklerbros.net/swimcat.html",
        license="free for research on request to the authors",
        citation="Dev, Lee and Winkler 2015, Categorization of cloud image patches using an improved "
        "texton-based approach, ICIP 2015",
        split_group="near-duplicate group; the frame of a patch is not published",
        layout=_LAYOUT,
        caveats=(
            "The folder names with their letters are inferred from copies in circulation.",
            "Five types of appearance, not genera: no type is a sum of genera.",
            "Patches, not photos: without horizon and scale, element sizes in degrees cannot be estimated.",
            "Thick dark clouds are reported to be night images and the others day images, so color alone may "
            "separate them.",
            "Several patches may come from one frame. The frame is not published, so a split by patch leaks.",
        ),
    )
    task: ClassVar[str] = "cloud"
    class_mapping: ClassVar[ClassMapping] = ClassMapping(
        {}, excluded=dict.fromkeys(_TYPES, "a type of appearance that several genera share")
    )

    def scan(self) -> Sequence[ImageRecord]:
        """Return the records of all patches in the folders of the types.

        Raises:
            DatasetError: A folder is not a known type, or there is no such folder.
        """
        return labeled_images(self.root, _FOLDERS, expected=_LAYOUT)

    def build_target(self, records: Sequence[ImageRecord]) -> ClassTarget:
        """Return the five types.

        Args:
            records: Records of all patches; not used.
        """
        return ClassTarget(_TYPES, _CARDS, order_source="letters of the folder names")

    @classmethod
    def synthetic(cls, root: Path, n: int, *, seed: int = 0) -> Path:
        """Write generated patches in the layout of this dataset.

        Args:
            root: Folder to write to.
            n: Number of patches.
            seed: Seed of the generator. Default: 0.
        """
        class_folder = resolve("geovision.datasets.synthetic.image_classes:ClassFolder")
        folders = [
            class_folder(f"{letter}-{code}/{letter}_{{}}.png", _SYNTHETIC_KINDS[code])
            for letter, code in zip("ABCDE", _TYPES, strict=True)
        ]
        write = resolve("geovision.datasets.synthetic.image_classes:write")
        return write(Path(root), n, folders, seed=seed, size=(125, 125), frame="patch")
