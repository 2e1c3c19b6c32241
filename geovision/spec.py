"""The form that every task fills: frozen records of plain data, without torch.

A task, a model, a recipe or a result is described here and built elsewhere. Builders are named as
``"geovision.module:name"`` and looked up by `resolve` when they are first used, so that listing and
documenting the registry never imports a network.
"""

from __future__ import annotations

import dataclasses
import importlib
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = [
    "AS_PUBLISHED",
    "COLOURS",
    "OUR_CHOICE",
    "OUR_MEASUREMENT",
    "OUR_RECONSTRUCTION",
    "Augment",
    "Capability",
    "Channel",
    "ClassCard",
    "ClassMerging",
    "ClassTarget",
    "Context",
    "Demo",
    "Fact",
    "FieldTarget",
    "Grid",
    "Grids",
    "InputSpec",
    "Mark",
    "MaskTarget",
    "ModelSpec",
    "Quantile",
    "Recipe",
    "Reference",
    "Slip",
    "Stage",
    "Target",
    "Task",
    "Text",
    "WeightSpec",
    "resolve",
]

Mark = Literal["as published", "our reconstruction", "our choice", "our measurement"]
AS_PUBLISHED: Mark = "as published"
OUR_RECONSTRUCTION: Mark = "our reconstruction"
OUR_CHOICE: Mark = "our choice"
OUR_MEASUREMENT: Mark = "our measurement"

Capability = Literal["exportable", "differentiable", "any_size", "grid_bound", "whole_period", "unpaired"]
"""``any_size``: takes fields of any height and width. ``grid_bound``: is fitted for one grid and answers on
that alone. ``whole_period``: what it says of a day depends on the period that is asked about. ``unpaired``:
is fitted on distributions alone, so that the days of its data need not be those of the truth."""

Fit = Literal["gradient", "closed_form", "none"]

COLOURS = ("red", "green", "blue")
"""Channels of a photo, in the order in which networks of photos take them."""


# --- what goes in -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Slip:
    """A likely mistake: values reaching beyond `above` and up to `upto` are told `hint`."""

    above: float
    upto: float
    hint: str


@dataclass(frozen=True)
class Quantile:
    """Over a whole file, the `q`-th quantile lies in [`low`, `high`]. Single values cannot show a
    wrong unit whose values lie inside the hard range; a quantile can."""

    q: float
    low: float
    high: float


@dataclass(frozen=True)
class Channel:
    """One physical quantity: its unit, what it can be, what it usually is.

    Args:
        name: The field's standard name, e.g. ``"reflectivity_dbz"``.
        unit: In UDUNITS spelling; ``"1"`` is dimensionless.
        valid_range: Hard limits, both included; a value beyond them is an error.
        plausible: Quantiles that a whole file must keep.
        mean, std: Statistics that normalisation subtracts and divides by, in `unit`.
        slips: Likely mistakes, matched in order when the hard range is left.
        colours: Of ``red``, ``green``, ``blue``, those in whose place this channel enters a network
            that knows photos; weights and statistics of such a network are taken over by them.
        baseline: What an explanation puts where a value is taken away, in `unit`: no echo, for instance.
            None: 0 where the quantity can be 0, and else its mean.
    """

    name: str
    unit: str
    valid_range: tuple[float, float]
    plausible: tuple[Quantile, ...] = ()
    mean: float = 0.0
    std: float = 1.0
    slips: tuple[Slip, ...] = ()
    colours: tuple[str, ...] = ()
    baseline: float | None = None

    def __post_init__(self) -> None:
        low, high = self.valid_range
        if unknown := sorted(set(self.colours) - set(COLOURS)):
            raise ValueError(f"channel {self.name!r}: {unknown[0]!r} is none of {', '.join(COLOURS)}")
        if not low < high:
            raise ValueError(f"channel {self.name!r}: empty range {self.valid_range}")
        if not self.std > 0:
            raise ValueError(f"channel {self.name!r}: std must be positive, not {self.std}")


@dataclass(frozen=True)
class InputSpec:
    """One named input of a model.

    Args:
        name: Key in the mapping that `GeoModel.forward` takes.
        channels: In the order of the channel axis.
        layout: Axes of one sample, in einops spelling: ``"channel y x"``, ``"channel"``, …
        size: (height, width) that files are brought to; None keeps the native grid.
        resize: ``"squash"`` to exactly `size`, ``"crop"`` the short side to `size` and cut the
            centre, ``"window"``: the middle `size` cells are cut out as they are, what lies beyond
            the sample being missing, or ``"none"``: a field on its own grid is never resampled.
        reader: ``"module:function"`` that reads one file of this input for `predict`.
        integers: ``"fraction"``: an integer array holds counts, full scale of its type being 1;
            ``"refuse"``: an integer array is an error.
        optional: The input may be missing; the model is told so by its presence mask.
        pixel_size: Metres on the ground that a cell is wide and high; None: it has no size there.
            Readers bring files to it by averages over areas.
    """

    name: str
    channels: tuple[Channel, ...]
    layout: str = "channel y x"
    size: tuple[int, int] | None = None
    resize: Literal["squash", "crop", "window", "none"] = "none"
    reader: str = ""
    integers: Literal["fraction", "refuse"] = "refuse"
    optional: bool = False
    pixel_size: float | None = None

    @property
    def channel_axis(self) -> int:
        """Position of the channel axis in one sample."""
        return self.layout.split().index("channel")

    def with_size(self, size: tuple[int, int] | None) -> InputSpec:
        return dataclasses.replace(self, size=size)

    def with_pixel_size(self, pixel_size: float) -> InputSpec:
        """The same ground in cells of another size, metres: `size` changes along, to whole cells.

        Raises:
            ValueError: The cells have no size on the ground.
        """
        if self.pixel_size is None:
            raise ValueError(f"input {self.name!r} has no pixel size to change")
        size = self.size
        if size is not None:
            scale = self.pixel_size / pixel_size
            size = (max(round(size[0] * scale), 1), max(round(size[1] * scale), 1))
        return dataclasses.replace(self, size=size, pixel_size=pixel_size)

    def with_statistics(self, mean: tuple[float, ...], std: tuple[float, ...]) -> InputSpec:
        """The same input, normalised by other statistics: one of each for every channel, or, where
        channels stand for colours, those of red, green and blue, averaged over a channel's own."""
        channels = tuple(
            dataclasses.replace(channel, mean=m, std=s)
            for channel, m, s in zip(self.channels, self._each(mean), self._each(std), strict=True)
        )
        return dataclasses.replace(self, channels=channels)

    def _each(self, numbers: tuple[float, ...]) -> tuple[float, ...]:
        if len(numbers) != len(COLOURS) or not all(channel.colours for channel in self.channels):
            return numbers
        by_colour = dict(zip(COLOURS, numbers, strict=True))
        return tuple(statistics.fmean(by_colour[c] for c in channel.colours) for channel in self.channels)


# --- what comes out -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Text:
    """A sentence in the two languages that the cards speak."""

    en: str
    zh: str


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
        told_by_colour: Classes that a grey picture cannot show; never the answer to one.
        positive: The class that is looked for, where the question is whether it is there; scores of
            detections are its own.
    """

    classes: tuple[str, ...]
    cards: tuple[ClassCard, ...] = ()
    order_source: str = ""
    outlier_flag: str = "outlier"
    told_by_colour: tuple[str, ...] = ()
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
class ClassMerging:
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


@dataclass(frozen=True)
class FieldTarget:
    """A physical quantity in every cell of a grid.

    Args:
        channel: Its name, its unit and its range; where that begins at 0 or above, no answer is negative.
        levels: Values at which the colours of maps change; even steps where empty.
    """

    channel: Channel
    levels: tuple[float, ...] = ()
    kind: Literal["field"] = "field"

    @property
    def name(self) -> str:
        return self.channel.name


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
class Grids:
    """The grid that a model takes and the one that it answers on."""

    given: Grid
    target: Grid


@dataclass(frozen=True)
class Context:
    """Where and when a sample was taken, for the models that need it.

    `lat`, `lon` in degrees north and east (arrays of the grid), `time` in UTC
    (numpy.datetime64), `target_grid` the (lat, lon) arrays that the answer is wanted on.
    """

    lat: Any = None
    lon: Any = None
    time: Any = None
    target_grid: Any = None


# --- how it is trained and what is known about it -----------------------------------------------


@dataclass(frozen=True)
class Augment:
    """Random changes that leave the class unchanged; nothing by default.

    Args:
        crop_area: Smallest and largest fraction of the area that a random crop keeps.
        aspect: Largest ratio of width to height of a crop, or of height to width, relative to the
            whole picture; 1 keeps its shape.
        translate: Largest shift either way of a crop's middle from that of the picture, as a fraction
            of the picture's width and height; None: a crop lies anywhere within the picture.
        zoom: Largest relative change of the width and height of a crop, either way, beside
            `crop_area`.
        flip_x, flip_y: Mirror left-right, top-bottom, each half of the time.
        rotate: Largest rotation either way, degrees.
        fill: What stands where a crop reaches beyond the picture: ``"mirror"`` is its mirror image,
            ``"zero"`` is 0 in the unit of the input, and missing where the samples have masks.
        brightness, contrast, saturation: Largest relative change either way.
        mixup: Parameter of the Beta distribution of mixup (Zhang et al. 2018, arXiv:1710.09412);
            0 is off.
        cutmix: The same for CutMix (Yun et al. 2019, arXiv:1905.04899). Where both are on, each
            batch takes one of them.
        mix_probability: Fraction of the batches that are mixed at all.
    """

    crop_area: tuple[float, float] = (1.0, 1.0)
    aspect: float = 1.0
    translate: float | None = None
    zoom: float = 0.0
    flip_x: bool = False
    flip_y: bool = False
    rotate: float = 0.0
    fill: Literal["mirror", "zero"] = "mirror"
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    mix_probability: float = 1.0


@dataclass(frozen=True)
class Stage:
    """One stretch of training.

    Args:
        epochs: Passes over the training split.
        size: (height, width) in this stage; None is the input's own size, at which validation always
            is.
        train: ``"all"`` parameters or the ``"head"`` alone.
        freeze: Leading blocks of the backbone that stay as they are, in evaluation mode; the stem
            is the first.
        batch_norm: ``"train"`` normalises by the batch and keeps running statistics; ``"frozen"``
            normalises by the statistics that are there.
        batch_size: Samples a step, over all devices. A last, smaller batch is left out.
        sampling: ``"shuffled"``: an epoch is every sample once; ``"balanced"``: every batch has as many
            samples of each class, and an epoch is the largest class once, the others over again.
        optimizer: ``"adamw"`` or ``"sgd"`` (momentum 0.9, Nesterov).
        lr: Peak learning rate, reached after `warmup` epochs.
        head_lr: That of the head, and of all else that is not the backbone; None: `lr`.
        weight_decay: Not applied to biases and normalisation.
        decay_by: ``"rate"``: a step shrinks the weights by the learning rate times `weight_decay`;
            ``"step"``: by `weight_decay` itself, however low the rate has fallen (Loshchilov and Hutter
            2019, arXiv:1711.05101, whose schedule is held at 1). The last is for ``"adamw"`` alone.
        warmup: Epochs, or a part of one, over which the rate rises from zero.
        schedule: ``"cosine"`` falls to zero at the end of the stage; ``"constant"`` stays;
            ``"plateau"`` halves whenever `plateau` epochs brought no better loss (`Recipe.monitor`).
        plateau: Epochs to wait for a better loss.
        layer_decay: Factor on the learning rate from each layer to the one before it.
        clip: Largest norm of the gradient; 0 does not clip.
    """

    epochs: int
    size: tuple[int, int] | None = None
    train: Literal["all", "head"] = "all"
    freeze: int = 0
    batch_norm: Literal["train", "frozen"] = "train"
    batch_size: int = 32
    sampling: Literal["shuffled", "balanced"] = "shuffled"
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: float = 1e-3
    head_lr: float | None = None
    weight_decay: float = 0.05
    decay_by: Literal["rate", "step"] = "rate"
    warmup: float = 0.0
    schedule: Literal["cosine", "constant", "plateau"] = "cosine"
    plateau: int = 10
    layer_decay: float = 1.0
    clip: float = 0.0

    def in_epochs(self, epochs: int) -> Stage:
        """The same stage, longer or shorter."""
        warmup = self.warmup * min(1.0, epochs / self.epochs)
        return dataclasses.replace(self, epochs=epochs, warmup=warmup)


@dataclass(frozen=True)
class Recipe:
    """How a model is trained: stages in order, and what holds for all of them.

    Args:
        stages: One or more, each with its own optimiser and schedule.
        augment: Random changes of the training samples.
        label_smoothing: Fraction of the target spread over all classes.
        conflict_labels: ``"hard"`` takes each label as filed; ``"soft"`` gives near-duplicates
            with different labels the mean of those labels, in training only.
        flatten_prior: Part of the training set's class frequencies that is taken out of the answers
            after training, 0-1: what is frequent in a collection need not be so in the world, and
            rare classes are answered too seldom (Menon et al. 2021, arXiv:2007.07314).
        ema: Decay of the running average of the weights that is kept; 0 is off. It starts low in
            each stage and rises to this, so that short trainings forget their beginning.
        patience: Epochs of the last stage without a better loss (`monitor`) before it stops;
            0 trains to the end.
        monitor: The loss that `patience` and the schedule ``"plateau"`` watch: ``"val_loss"`` or
            ``"train_loss"``, the mean over the steps of an epoch.
        keep: Weights that are kept: the ``"last"``, or those of the last stage with the ``"best"``
            validation loss.
        precision: ``"32-true"``, ``"bf16-mixed"``, ``"16-mixed"``, or ``"auto"``: bf16 where the
            processor computes in it.
        seed: Of initialisation, order and augmentation.
        mark: Who says so.
    """

    stages: tuple[Stage, ...]
    augment: Augment = Augment()
    label_smoothing: float = 0.0
    conflict_labels: Literal["hard", "soft"] = "hard"
    flatten_prior: float = 0.0
    ema: float = 0.0
    patience: int = 0
    monitor: Literal["val_loss", "train_loss"] = "val_loss"
    keep: Literal["last", "best"] = "last"
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    seed: int = 0
    mark: Mark = OUR_CHOICE

    @property
    def epochs(self) -> int:
        return sum(stage.epochs for stage in self.stages)

    def with_epochs(self, epochs: int) -> Recipe:
        """The same recipe in this many epochs, shared out among the stages as they are now; with
        fewer epochs than stages the last stages stay. Where a stage becomes shorter, so does its
        warm-up, which would fill it otherwise.

        >>> Recipe((Stage(epochs=5), Stage(epochs=15))).with_epochs(8).stages[1].epochs
        6
        """
        stages = self.stages[-epochs:]
        whole, spare = sum(stage.epochs for stage in stages), epochs - len(stages)
        ends = [round(spare * sum(s.epochs for s in stages[: n + 1]) / whole) for n in range(len(stages))]
        shares = [end - begin + 1 for begin, end in zip([0, *ends], ends, strict=False)]
        return dataclasses.replace(
            self, stages=tuple(stage.in_epochs(n) for stage, n in zip(stages, shares, strict=True))
        )


@dataclass(frozen=True)
class Reference:
    """One published or measured figure, with who states it."""

    metric: str
    value: float
    model: str
    mark: Mark
    source: str
    note: str = ""


@dataclass(frozen=True)
class WeightSpec:
    """Trained parameters that exist.

    Args:
        tag: What follows the dot in ``task-architecture.tag``.
        location: ``"package:NAME"`` is a folder inside geovision; ``"hf:owner/repo@revision"``.
        licence: Of the weights, an SPDX identifier.
        trained_on: Data set and its terms.
        figures: Metric name to value; the card holds intervals and the command.
    """

    tag: str
    location: str
    licence: str
    trained_on: str
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelSpec:
    """One line of the registry.

    Args:
        name: ``task-architecture``.
        task: Name of the task.
        builder: ``"module:function"`` that takes the resolved spec and gives the network.
        arch: Options of the builder.
        fit: ``"gradient"``, ``"closed_form"`` (the network has ``fit(data)`` or the head
            ``fit(features, labels)``), or ``"none"``.
        inputs, head: Where they differ from the task's.
        head_options: Keywords of the head.
        capabilities: What contract tests and engines may do with it.
        unexportable: Why it is not carried into other formats; empty where it is.
        dropout: Before the last layer, unless the caller says otherwise.
        recipe: Where it differs from the task's.
        weights: Trained parameters that exist; the first is what ``pretrained=True`` takes.
        tiny: Options of the builder that make a model for tests and demonstrations.
        parameters: Trainable parameters with the task's own target; a test counts them again.
        mark, note: Whose architecture it is, and what to know about it.
    """

    name: str
    task: str
    builder: str
    arch: Mapping[str, Any] = field(default_factory=dict)
    fit: Fit = "gradient"
    inputs: tuple[InputSpec, ...] = ()
    head: str = ""
    head_options: Mapping[str, Any] = field(default_factory=dict)
    capabilities: frozenset[Capability] = frozenset({"exportable", "differentiable"})
    unexportable: str = ""
    dropout: float = 0.0
    recipe: Recipe | None = None
    weights: tuple[WeightSpec, ...] = ()
    tiny: Mapping[str, Any] = field(default_factory=dict)
    parameters: int | None = None
    mark: Mark = OUR_CHOICE
    note: str = ""

    @property
    def architecture(self) -> str:
        return self.name.removeprefix(f"{self.task}-")

    def weight(self, tag: str) -> WeightSpec | None:
        return next((weight for weight in self.weights if weight.tag == tag), None)


@dataclass(frozen=True)
class Demo:
    """What `geovision demo` does for a task: seeded data, a small model, a short training.

    Args:
        model: Its name in the registry.
        samples: Number of generated ones, training and held back together.
        size: (height, width) of the first input.
        seed: Of the data, the split and the model.
        photos: A reader's own photos are inputs of this task, and its weights are asked about them.
    """

    model: str
    samples: int
    recipe: Recipe
    size: tuple[int, int] | None = None
    seed: int = 0
    photos: bool = False


@dataclass(frozen=True)
class Task:
    """One question, and everything that answers it, by name.

    Args:
        name: Also the file name in `geovision.tasks` and the first word of each model's name.
        question: What it answers, as its user would ask.
        chinese: Title and question once more, for pages that speak both languages.
        inputs: What a model of the task takes, in physical units.
        scalars: Measurements that a model may take beside the first input, each optional.
        target: What comes out.
        dataset: Adapter of the main data set; `other_datasets` of the rest, by name.
        head: Class of the head; `heads`: others to choose from, by name.
        loss: Function of (values, target, valid); empty where the heads have a loss of their own.
        predictors: Channels that a model may take beside those of its first input, on the same grid, by name.
        metrics: Names; the first is the headline.
        backbones: Families whose every member is a model of this task: ``"timm"``, ``"smp"``.
        recipe: Of every model that has none of its own; `recipes`: others to choose from, by name.
        published: What others state; `cautions`: what to know before comparing with it.
        demo: Settings of the demonstration.
    """

    name: str
    title: str
    question: str
    inputs: tuple[InputSpec, ...]
    target: Target
    datasets: Mapping[str, str]
    head: str
    loss: str
    metrics: tuple[str, ...]
    recipe: Recipe
    demo: Demo
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    heads: Mapping[str, str] = field(default_factory=dict)
    scalars: tuple[Channel, ...] = ()
    predictors: tuple[Channel, ...] = ()
    backbones: tuple[Literal["timm", "smp"], ...] = ()
    published: tuple[Reference, ...] = ()
    cautions: tuple[str, ...] = ()
    citation: str = ""
    chinese: tuple[str, str] | None = None

    @property
    def dataset(self) -> str:
        """Name of the main data set: the first."""
        return next(iter(self.datasets))


def resolve(reference: str) -> Any:
    """The object that ``"module:name"`` names.

    >>> resolve("geovision.errors:nearest").__name__
    'nearest'
    """
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)
