"""Training recipes: stages, augmentation, and the evidence for them."""

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
    """Random augmentations that leave the class unchanged; all are off by default.

    Args:
        crop_area: Smallest and largest fraction of the image area that a random crop keeps.
            Default: (1, 1), no crop.
        aspect: Largest ratio of width to height of a crop, or of height to width, relative to the whole
            image. Default: 1, the shape is unchanged.
        translate: Largest shift of the center of a crop from that of the image, in both directions, as a
            fraction of the width and height of the image. Default: None, a crop is anywhere in the image.
        zoom: Largest relative change of the width and height of a crop, in both directions, in addition to
            `crop_area`. Default: 0.
        flip_x: Whether to mirror left and right with probability 0.5. Default: False.
        flip_y: Whether to mirror top and bottom with probability 0.5. Default: False.
        rotate: Largest rotation in both directions, in degrees. Default: 0.
        fill: Values of a crop outside the image. ``"zero"``: 0 in the unit of the input, and missing if
            the samples have masks. Default: ``"mirror"``, the mirrored image.
        brightness: Largest relative change of the brightness, in both directions. Default: 0.
        contrast: Largest relative change of the contrast, in both directions. Default: 0.
        saturation: Largest relative change of the saturation, in both directions. Default: 0.
        mixup: Parameter of the Beta distribution of mixup (Zhang et al. 2018, arXiv:1710.09412).
            Default: 0, off.
        cutmix: Parameter of the Beta distribution of CutMix (Yun et al. 2019, arXiv:1905.04899). If mixup is
            on too, each batch uses one of them. Default: 0, off.
        mix_probability: Fraction of the batches that are mixed, if mixup or CutMix is on. Default: 1.
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
    """Stage of a training with its own optimizer and schedule.

    Args:
        epochs: Number of passes over the training split.
        size: Height and width of the first input in this stage, in cells. Validation always uses the size
            of the input. Default: None, the size of the input.
        train: Parameters that are trained, ``"all"`` or ``"head"``. Default: ``"all"``.
        freeze: Number of leading blocks of the backbone that are frozen and stay in evaluation mode; the
            stem is the first. Default: 0.
        batch_norm: Statistics of batch normalization. ``"train"``: those of the batch, with an update of the
            running statistics; ``"frozen"``: the running statistics, unchanged. Default: ``"train"``.
        batch_size: Number of samples per step, over all devices. A last, smaller batch is dropped.
            Default: 32.
        sampling: Order of the samples. ``"shuffled"``: each sample once per epoch. ``"balanced"``: every
            batch has the same number of samples of each class, and an epoch contains the largest class once
            and repeats the others. Default: ``"shuffled"``.
        optimizer: Optimizer, ``"adamw"`` or ``"sgd"`` (momentum 0.9, Nesterov). Default: ``"adamw"``.
        lr: Peak learning rate, reached after `warmup` epochs. Default: 1e-3.
        head_lr: Learning rate of the head and of all other parameters outside the backbone.
            Default: None, `lr`.
        weight_decay: Weight decay; biases and normalization layers are exempt. Default: 0.05.
        decay_by: Unit of the weight decay. ``"rate"``: a step shrinks the weights by the learning rate times
            `weight_decay`. ``"step"``: by `weight_decay` itself, whatever the learning rate (Loshchilov and
            Hutter 2019, arXiv:1711.05101, with the schedule multiplier fixed at 1), for ``"adamw"`` only.
            Default: ``"rate"``.
        warmup: Number of epochs, possibly fractional, in which the learning rate rises from 0. Default: 0.
        schedule: Schedule of the learning rate. ``"cosine"``: decay to 0 at the end of the stage.
            ``"constant"``: no change. ``"plateau"``: halved after `plateau` epochs without a lower loss, see
            `Recipe.monitor`. Default: ``"cosine"``.
        plateau: Number of epochs to wait for a lower loss before the rate is halved. Default: 10.
        layer_decay: Factor on the learning rate from each layer to the previous one. Default: 1.
        max_grad_norm: Largest norm of the gradient. Default: 0, no clipping.
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
        """Return the same stage with another number of epochs.

        A shorter stage has a proportionally shorter warmup.

        Args:
            epochs: Number of passes over the training split.
        """
        warmup = self.warmup * min(1.0, epochs / self.epochs)
        return dataclasses.replace(self, epochs=epochs, warmup=warmup)


@dataclass(frozen=True)
class Recipe:
    """Training recipe: stages in order, and settings common to all of them.

    Args:
        stages: Stages, at least one, each with its own optimizer and schedule.
        augment: Random augmentation of the training samples. Default: none.
        label_smoothing: Fraction of the target that is spread over all classes, 0-1. Default: 0.
        conflict_labels: Labels of near-duplicates with different labels. ``"hard"``: the labels of the data
            set; ``"soft"``: the mean of these labels, in training only. Default: ``"hard"``.
        logit_adjustment: Strength of post-hoc logit adjustment, 0-1, which removes this part of the class
            frequencies of the training set from the predictions (Menon et al. 2021, arXiv:2007.07314).
            Frequencies in a collection differ from those in nature, and rare classes are predicted too
            rarely. Default: 0.
        ema: Decay of the exponential moving average of the weights. It starts low in each stage and rises
            to this value, so that short trainings forget the initial weights. Default: 0, off.
        patience: Number of epochs of the last stage without a lower loss (`monitor`) before early stopping.
            Default: 0, no early stopping.
        monitor: Loss that `patience` and the schedule ``"plateau"`` monitor, ``"val_loss"`` or
            ``"train_loss"``, the mean over the steps of an epoch. Default: ``"val_loss"``.
        keep: Weights that are kept: the ``"last"`` ones, or those of the last stage with the ``"best"``
            validation loss. Default: ``"last"``.
        precision: Precision of the computation, ``"32-true"``, ``"bf16-mixed"``, ``"16-mixed"`` or
            ``"auto"``, which is bf16 on hardware with fast bf16 arithmetic. Default: ``"auto"``.
        seed: Seed of the initialization, the sample order and the augmentation. Default: 0.
        evidence: Source of the recipe. Default: ``"our choice"``.
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
        """Number of epochs of all stages together."""
        return sum(stage.epochs for stage in self.stages)

    def with_epochs(self, epochs: int) -> Recipe:
        """Return the same recipe with another total number of epochs.

        The epochs are distributed in proportion to those of the stages. With fewer epochs than stages, only
        the last stages remain. A shorter stage has a shorter warmup, which would fill the stage otherwise.

        Args:
            epochs: Number of epochs of all stages together.

        >>> Recipe((Stage(epochs=5), Stage(epochs=15))).with_epochs(12).stages[1].epochs
        9
        """
        stages = self.stages[-epochs:]
        whole, spare = sum(stage.epochs for stage in stages), epochs - len(stages)
        ends = [round(spare * sum(s.epochs for s in stages[: n + 1]) / whole) for n in range(len(stages))]
        shares = [end - begin + 1 for begin, end in zip([0, *ends], ends, strict=False)]
        return dataclasses.replace(
            self, stages=tuple(stage.with_epochs(n) for stage, n in zip(stages, shares, strict=True))
        )
