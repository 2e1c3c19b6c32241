"""What comes out of a model: classes with their cards, a mask or a field, and where it lies."""

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
    """One line of a card."""

    heading: Text
    text: Text


@dataclass(frozen=True)
class ClassCard:
    """What a reader should know about one class: its name, facts, and a caution.

    `level` groups classes for coarser scores (cloud levels, for instance).
    """

    code: str
    name: Text
    level: str = ""
    facts: tuple[Fact, ...] = ()
    caution: Text | None = None


@dataclass(frozen=True)
class ClassTarget:
    """One class out of several.

    Args:
        classes: In the order of the logits.
        cards: What to know about each, in the same order; or none.
        order_source: Who says that the order is this.
        outlier_flag: What an answer is flagged with where the input is of none of these kinds.
        color_dependent: Classes that a grey picture cannot show; never the answer to one.
        positive: The class that is looked for, where the question is whether it is there; scores of
            detections are its own.
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
            raise ValueError(f"a class stands twice in {self.classes}")
        codes = tuple(card.code for card in self.cards)
        if codes and codes != self.classes:
            raise ValueError(f"cards {codes} do not follow the classes {self.classes}")
        if self.positive and self.positive not in self.classes:
            raise ValueError(f"{self.positive!r} is none of the classes {self.classes}")

    @property
    def levels(self) -> tuple[str, ...]:
        """The level of each class, empty where the classes have none."""
        return tuple(card.level for card in self.cards) if self.cards else ()

    def card(self, code: str) -> ClassCard | None:
        """The card of a class; None where the classes have none."""
        return next((card for card in self.cards if card.code == code), None)


@dataclass(frozen=True)
class ClassMapping:
    """How the classes of a data set are made of those of a model that was trained on finer ones.

    A model class in none of `merged` has no counterpart in the data set: its probability is dropped
    and the others are scaled up to a sum of one. Without any `merged` class the data set cannot
    score such a model at all.

    Args:
        merged: Class of the data set to the model classes whose probabilities add up to it.
        excluded: Class of the data set that nothing adds up to, and why; its samples are not scored.
    """

    merged: Mapping[str, tuple[str, ...]]
    excluded: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        parts = [part for several in self.merged.values() for part in several]
        if len(set(parts)) != len(parts):
            raise ValueError(f"a model class is merged twice: {sorted(parts)}")
        if both := self.merged.keys() & self.excluded.keys():
            raise ValueError(f"classes both merged and excluded: {sorted(both)}")
        if empty := [name for name, several in self.merged.items() if not several]:
            raise ValueError(f"classes merged of nothing: {empty}; exclude them")

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that are scored, in order."""
        return tuple(self.merged)


@dataclass(frozen=True)
class MaskTarget:
    """Yes or no in every cell of a grid.

    Args:
        name: Of what is there or not, such as ``"hail"``.
        threshold: Probability from which the answer is yes.
    """

    name: str
    threshold: float = 0.5
    kind: Literal["mask"] = "mask"

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes: none."""
        return ()

    @property
    def cards(self) -> tuple[ClassCard, ...]:
        """Cards of the classes: none."""
        return ()


@dataclass(frozen=True)
class FieldTarget:
    """A physical quantity in every cell of a grid.

    Args:
        channel: Its name, its unit and its range; where that begins at 0 or above, no answer is negative.
        contour_levels: Values at which the colours of maps change; even steps where empty.
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
        """Names of the classes: none."""
        return ()

    @property
    def cards(self) -> tuple[ClassCard, ...]:
        """Cards of the classes: none."""
        return ()


Target = ClassTarget | MaskTarget | FieldTarget


@dataclass(frozen=True)
class Grid:
    """Middles of the cells of a grid along latitude and longitude, degrees north and east, ascending."""

    lat: tuple[float, ...]
    lon: tuple[float, ...]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in cells."""
        return len(self.lat), len(self.lon)


@dataclass(frozen=True)
class GridPair:
    """The grid that a model takes and the one that it answers on."""

    given: Grid
    target: Grid


@dataclass(frozen=True)
class SampleContext:
    """Where and when a sample was taken, for the models that need it.

    `lat`, `lon` in degrees north and east (arrays of the grid), `time` in UTC
    (numpy.datetime64), `target_grid` the (lat, lon) arrays that the answer is wanted on.
    """

    lat: Any = None
    lon: Any = None
    time: Any = None
    target_grid: Any = None
