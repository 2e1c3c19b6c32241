"""How a model is trained, and whose idea it was."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "AS_PUBLISHED",
    "OUR_CHOICE",
    "OUR_MEASUREMENT",
    "OUR_RECONSTRUCTION",
    "Augment",
    "EvidenceLevel",
    "Recipe",
    "Stage",
]

EvidenceLevel = Literal["as published", "our reconstruction", "our choice", "our measurement"]
AS_PUBLISHED: EvidenceLevel = "as published"
OUR_RECONSTRUCTION: EvidenceLevel = "our reconstruction"
OUR_CHOICE: EvidenceLevel = "our choice"
OUR_MEASUREMENT: EvidenceLevel = "our measurement"


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
        max_grad_norm: Largest norm of the gradient; 0 does not clip.
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
    max_grad_norm: float = 0.0

    def with_epochs(self, epochs: int) -> Stage:
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
        logit_adjustment: Part of the training set's class frequencies that is taken out of the answers
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
        evidence: Source of the recipe.
    """

    stages: tuple[Stage, ...]
    augment: Augment = Augment()
    label_smoothing: float = 0.0
    conflict_labels: Literal["hard", "soft"] = "hard"
    logit_adjustment: float = 0.0
    ema: float = 0.0
    patience: int = 0
    monitor: Literal["val_loss", "train_loss"] = "val_loss"
    keep: Literal["last", "best"] = "last"
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    seed: int = 0
    evidence: EvidenceLevel = OUR_CHOICE

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
            self, stages=tuple(stage.with_epochs(n) for stage, n in zip(stages, shares, strict=True))
        )
