"""Targets of a model: classes with their cards, masks, fields and grids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from geovision.spec.inputs import Channel, Text

__all__ = [
    "ClassCard",
    "ClassMapping",
    "ClassTarget",
    "Fact",
    "FieldTarget",
    "Grid",
    "GridPair",
    "MaskTarget",
    "SampleContext",
    "Target",
]


@dataclass(frozen=True)
class Fact:
    """Heading and text of one line of a card.

    Args:
        heading: Heading of the line.
        text: Text of the line.
    """

    heading: Text
    text: Text


@dataclass(frozen=True)
class ClassCard:
    """Description of one class: name, facts and a caution.

    Args:
        code: Code of the class, as in `ClassTarget.classes`.
        name: Name of the class.
        level: Group of the class for coarser scores, such as the cloud level. Default: none.
        facts: Facts about the class. Default: none.
        caution: Limitation that a reader should be aware of. Default: None.
    """

    code: str
    name: Text
    level: str = ""
    facts: tuple[Fact, ...] = ()
    caution: Text | None = None


@dataclass(frozen=True)
class ClassTarget:
    """Classification target: one of several classes.

    Args:
        classes: Codes of the classes, in the order of the logits.
        cards: Description of each class, in the same order. Default: none.
        order_source: Source of the order of the classes. Default: none.
        outlier_flag: Flag of a prediction for an out-of-distribution input. Default: ``"outlier"``.
        color_dependent: Classes that a gray image cannot show and that are never predicted for one.
            Default: none.
        positive: Class to be detected, in a task of detection; detection scores refer to it.
            Default: none.
        kind: Kind of the target, always ``"class"``.

    Raises:
        ValueError: A class is repeated, the cards do not match the classes, or `positive` is unknown.
    """

    classes: tuple[str, ...]
    cards: tuple[ClassCard, ...] = ()
    order_source: str = ""
    outlier_flag: str = "outlier"
    color_dependent: tuple[str, ...] = ()
    positive: str = ""
    kind: Literal["class"] = "class"

    def __post_init__(self) -> None:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"classes {self.classes} are not unique; remove the repeated class")
        codes = tuple(card.code for card in self.cards)
        if codes and codes != self.classes:
            raise ValueError(
                f"cards {codes} differ from classes {self.classes}; give one card per class in this order"
            )
        if self.positive and self.positive not in self.classes:
            raise ValueError(f"positive class {self.positive!r} is unknown; expected one of {self.classes}")

    @property
    def levels(self) -> tuple[str, ...]:
        """Level of each class; empty if the classes have no cards."""
        return tuple(card.level for card in self.cards) if self.cards else ()

    def card(self, code: str) -> ClassCard | None:
        """Return the card of a class, or None if missing.

        Args:
            code: Code of the class.
        """
        return next((card for card in self.cards if card.code == code), None)


@dataclass(frozen=True)
class ClassMapping:
    """Mapping from model classes to coarser classes of a data set.

    A model class outside `merged` has no counterpart in the data set. Its probability is dropped, and the
    others are rescaled to a sum of 1. If `merged` is empty, the data set cannot score the model.

    Args:
        merged: Model classes whose probabilities are added, by class of the data set.
        excluded: Reason for the exclusion, by class of the data set without a model class; samples of these
            classes are not scored. Default: none.

    Raises:
        ValueError: A model class is merged twice, or a class is empty or both merged and excluded.
    """

    merged: Mapping[str, tuple[str, ...]]
    excluded: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        parts = [part for several in self.merged.values() for part in several]
        if len(set(parts)) != len(parts):
            raise ValueError(f"a model class is merged twice in {sorted(parts)}; merge each only once")
        if both := self.merged.keys() & self.excluded.keys():
            raise ValueError(f"classes {sorted(both)} are both merged and excluded; remove them from one")
        if empty := [name for name, several in self.merged.items() if not several]:
            raise ValueError(f"classes {empty} contain no model class; move them to excluded=")

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes of the data set that are scored, in order."""
        return tuple(self.merged)


@dataclass(frozen=True)
class MaskTarget:
    """Segmentation target: yes or no in every cell of a grid.

    Args:
        name: Name of the phenomenon, such as ``"hail"``.
        threshold: Probability from which a cell is predicted positive, 0-1. Default: 0.5.
        kind: Kind of the target, always ``"mask"``.
    """

    name: str
    threshold: float = 0.5
    kind: Literal["mask"] = "mask"

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; always empty."""
        return ()

    @property
    def cards(self) -> tuple[ClassCard, ...]:
        """Cards of the classes; always empty."""
        return ()


@dataclass(frozen=True)
class FieldTarget:
    """Regression target: a physical quantity in every cell of a grid.

    Args:
        channel: Name, unit and valid range of the quantity. If the range starts at 0 or above, predictions
            are never negative.
        contour_levels: Values at which the colors of maps change, in the unit of the channel.
            Default: none, even steps.
        kind: Kind of the target, always ``"field"``.
    """

    channel: Channel
    contour_levels: tuple[float, ...] = ()
    kind: Literal["field"] = "field"

    @property
    def name(self) -> str:
        """Name of the quantity."""
        return self.channel.name

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; always empty."""
        return ()

    @property
    def cards(self) -> tuple[ClassCard, ...]:
        """Cards of the classes; always empty."""
        return ()


Target = ClassTarget | MaskTarget | FieldTarget


@dataclass(frozen=True)
class Grid:
    """Regular grid of latitudes and longitudes, given by its cell centers.

    Args:
        lat: Latitudes of the cell centers, in degrees north, ascending.
        lon: Longitudes of the cell centers, in degrees east, ascending.
    """

    lat: tuple[float, ...]
    lon: tuple[float, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in cells."""
        return len(self.lat), len(self.lon)


@dataclass(frozen=True)
class GridPair:
    """Grid of the input of a model and grid of its predictions.

    Args:
        given: Grid of the input.
        target: Grid of the predictions.
    """

    given: Grid
    target: Grid


@dataclass(frozen=True)
class SampleContext:
    """Location and time of a sample, for models that need them.

    Args:
        lat: Latitudes of the grid, array in degrees north. Default: None.
        lon: Longitudes of the grid, array in degrees east. Default: None.
        time: Time of the sample in UTC, ``numpy.datetime64``. Default: None.
        target_grid: Latitudes and longitudes of the grid of the predictions, two arrays. Default: None.
    """

    lat: Any = None
    lon: Any = None
    time: Any = None
    target_grid: Any = None
