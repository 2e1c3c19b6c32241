"""Lightning module that trains one stage of a recipe."""

from __future__ import annotations

import time
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from geovision import metrics
from geovision.errors import InputError
from geovision.metrics.field_metrics import FullFieldMetric
from geovision.models.geomodel import GeoModel
from geovision.spec import ClassTarget, Recipe, Stage
from geovision.training import optim
from geovision.training.augment import Augmentation, mix_samples
from geovision.training.data_loading import Batch, derive_seed
from geovision.training.teacher_targets import TeacherTargets, head_inputs

__all__ = ["CHECKPOINT_KEY", "StageModule"]

CHECKPOINT_KEY = "geovision"
"""Key of the geovision entry in a checkpoint: stage, epoch, batch, and whether the stage is finished."""


class StageModule(L.LightningModule):
    """Lightning module that trains a `GeoModel` in one stage of a recipe.

    No random state passes from one step to the next. Each step seeds torch's generator with
    (seed, stage, step), so a resumed training gives the same result as an uninterrupted one.

    Args:
        model: Model in the state after the previous stage.
        recipe: Training recipe.
        stage_index: Index of the stage, from 0.
        steps_per_epoch: Number of training steps per epoch.
        soft_targets: Class probabilities of the training samples that replace their labels, shape
            ``(sample, class)``. Default: None.
        size: Height and width of the first input in training, in cells. Default: None, its own.
        teacher_targets: Predictions of a teacher for the training samples. Default: None.
    """

    def __init__(
        self,
        model: GeoModel,
        recipe: Recipe,
        stage_index: int,
        *,
        steps_per_epoch: int,
        soft_targets: Tensor | None = None,
        size: tuple[int, int] | None = None,
        teacher_targets: TeacherTargets | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.recipe, self.stage_index, self.steps_per_epoch = recipe, stage_index, steps_per_epoch
        self.teacher_targets = teacher_targets
        self.soft: Tensor | None
        self.register_buffer("soft", soft_targets, persistent=False)
        self._augment = Augmentation(recipe.augment, model.inputs, model.target, size=size)
        own = model.inputs[0].size
        self._resize = Augmentation(type(recipe.augment)(), model.inputs, model.target, size=own)
        self._frozen_modules: list[nn.Module] = []
        # In a dictionary, so that torch does not register them as submodules.
        found = metrics.applicable(model.task.metrics, model.target)
        # A metric of all fields at once would store them all in every epoch.
        self._metrics = {
            "all": {n: each for n, each in found.items() if not isinstance(each, FullFieldMetric)}
        }
        # State of an unfinished epoch in a checkpoint: sum and number of losses, and time in s.
        self._resumed_totals = (0.0, 0, 0.0)
        self._begin_epoch()

    def _begin_epoch(self) -> None:
        loss, self.loss_steps, self._seconds = self._resumed_totals
        self.loss_sum, self._started = torch.tensor(loss), time.perf_counter()
        self._resumed_totals = (0.0, 0, 0.0)

    @property
    def stage(self) -> Stage:
        """Stage of the recipe that is trained."""
        return self.recipe.stages[self.stage_index]

    # --- hooks of lightning -----------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Freeze the parameters that this stage does not train."""
        # Must happen before several processes agree on the gradients that they exchange.
        self._frozen_modules = optim.freeze(self.model, self.stage)

    def configure_optimizers(self) -> Any:
        """Return the optimizer and the learning-rate schedule of the stage."""
        optimizer, schedule = optim.build_optimizer(
            self.model, self.stage, self.steps_per_epoch, fused=self.trainer.precision != "16-mixed"
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip the norm of the gradient to that of the stage."""
        # Lightning's own clipping rejects fused optimizers because of the scaled gradients of float16. Here
        # the optimizer is fused in the other precisions only.
        if self.stage.max_grad_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.stage.max_grad_norm)

    def on_train_start(self) -> None:
        """Switch to training mode and reset the sums of the epoch."""
        # Only this hook runs before the first step of a resumed epoch.
        self.train()
        self._begin_epoch()

    def train(self, mode: bool = True) -> StageModule:
        """Set the training mode; frozen modules stay in evaluation mode.

        Args:
            mode: Whether to train. Default: True.
        """
        super().train(mode)
        for module in self._frozen_modules:
            module.eval()
        return self

    def on_train_epoch_start(self) -> None:
        """Reset the sums of the epoch."""
        self._begin_epoch()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of an augmented batch, a scalar.

        Args:
            batch: Batch of training samples.
            batch_idx: Number of the batch in the epoch, unused.
        """
        torch.manual_seed(derive_seed(self.recipe.seed, self.stage_index, self.global_step, self.global_rank))
        batch = self._soften_targets(self._augment(self._to_float(batch)))
        if isinstance(self.model.target, ClassTarget):
            batch = mix_samples(batch, self.recipe.augment)
        loss = (
            self._loss(batch)
            if self.teacher_targets is None
            else self._distillation_loss(batch, self.teacher_targets)
        )
        self.loss_sum = self.loss_sum.to(loss.device) + loss.detach()
        self.loss_steps += 1
        return loss

    def _loss(self, batch: Batch) -> Tensor:
        values, target, valid = self._predict(batch)
        return self.model.loss(values, target, valid)

    def _distillation_loss(self, batch: Batch, teacher_targets: TeacherTargets) -> Tensor:
        with head_inputs(self.model.head) as features:
            values, target, valid = self._predict(batch)
        to_truth = self.model.loss(values, target, valid)
        return teacher_targets.loss(self.model, to_truth, values, batch.sample_index, features[0])

    def on_train_epoch_end(self) -> None:
        """Log the training loss for early stopping."""
        # The name is the value of `Recipe.monitor`. Every process has its own share of each batch.
        self.log("train_loss", self.training_loss, sync_dist=self.trainer.world_size > 1)

    def on_validation_epoch_start(self) -> None:
        """Reset the validation loss and the metrics."""
        self._validation = torch.zeros(2, dtype=torch.float64)
        for metric in self._metrics["all"].values():
            metric.to(self.device).reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to the validation loss and the metrics.

        Args:
            batch: Batch of validation samples.
            batch_idx: Number of the batch, unused.
        """
        batch = self._resize(self._to_float(batch))
        values, target, valid = self._predict(batch)
        head: Any = self.model.head
        prediction, observed = head.scored(values, target, valid)
        # Missing predictions and targets are excluded from loss and metrics.
        count = int(torch.isfinite(observed).sum()) if observed.is_floating_point() else len(observed)
        loss = float(self.model.loss(values, target, valid))
        self._validation += torch.tensor([loss * count, count], dtype=torch.float64)
        if count:
            for metric in self._metrics["all"].values():
                metric.update(prediction, observed)

    def on_validation_epoch_end(self) -> None:
        """Log the validation loss for early stopping."""
        self.log("val_loss", self.validation_loss)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the progress within the stage to a checkpoint."""
        loop = self.trainer.fit_loop
        progress: Any = loop.epoch_progress.current
        batches: Any = loop.epoch_loop.batch_progress.current
        whole = progress.processed == progress.ready
        checkpoint[CHECKPOINT_KEY] = {
            "stage": self.stage_index,
            "epoch": progress.processed,
            "batch": 0 if whole else batches.processed,
            "done": whole and (progress.processed >= self.stage.epochs or self.trainer.should_stop),
            "loss_sum": 0.0 if whole else float(self.loss_sum),
            "loss_steps": 0 if whole else self.loss_steps,
            "seconds": 0.0 if whole else self.seconds,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the sums of an unfinished epoch from a checkpoint."""
        header = checkpoint[CHECKPOINT_KEY]
        self._resumed_totals = header["loss_sum"], header["loss_steps"], header["seconds"]

    # --- values for the callbacks -----------------------------------------------------------------

    @property
    def validation_loss(self) -> float:
        """Mean loss over the validation samples of the last epoch."""
        total, count = self._validation.tolist()
        return total / max(count, 1)

    @property
    def training_loss(self) -> float:
        """Mean loss over the steps of this epoch so far."""
        return float(self.loss_sum) / max(self.loss_steps, 1)

    @property
    def seconds(self) -> float:
        """Duration of this epoch so far, in s."""
        return self._seconds + time.perf_counter() - self._started

    def metric_values(self) -> dict[str, float]:
        """Return the scalar validation metrics of this epoch by name."""
        found = {name: metric.compute() for name, metric in self._metrics["all"].items()}
        return {name: float(value) for name, value in found.items() if value.numel() == 1}

    # --- parts of a step --------------------------------------------------------------------------

    def _to_float(self, batch: Batch) -> Batch:
        """Convert bytes to fractions, and missing labels to the first class.

        See `InMemoryDataset` for the bytes. The mask excludes missing labels from the loss.
        """
        inputs = {n: v.float() / 255 if v.dtype == torch.uint8 else v for n, v in batch.inputs.items()}
        target, labeled = batch.target, batch.valid.get("target")
        if labeled is not None and isinstance(self.model.target, ClassTarget):
            target = torch.where(labeled, target, 0)
        return batch._replace(inputs=inputs, target=target)

    def _soften_targets(self, batch: Batch) -> Batch:
        """Convert class targets to probabilities if the recipe needs them."""
        target = self.model.target
        if not isinstance(target, ClassTarget):
            return batch
        smoothing, augment = self.recipe.label_smoothing, self.recipe.augment
        if self.soft is None and not (smoothing or augment.mixup or augment.cutmix):
            return batch
        count = len(target.classes)
        if self.soft is not None:
            share = self.soft[batch.sample_index]
        else:
            share = nn.functional.one_hot(batch.target, count).float()
        return batch._replace(target=share * (1 - smoothing) + smoothing / count)

    def _predict(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return values, targets and the mask where both are valid."""
        inputs = {name: _channels_last(values) for name, values in batch.inputs.items()}
        masks = {name: mask for name, mask in batch.valid.items() if name != "target"}
        output = self.model(inputs, valid=masks or None)
        valid = batch.valid.get("target")
        if output.valid is not None:
            valid = output.valid if valid is None else valid & output.valid
        self._check_grid(output.values, batch.target)
        return output.values.float(), batch.target, valid

    def _check_grid(self, values: Tensor, target: Tensor) -> None:
        expected = self.model.target
        if not isinstance(expected, ClassTarget) and values.shape[-2:] != target.shape[-2:]:
            raise InputError(
                f"{self.model.spec.name} predicts on a grid of {tuple(values.shape[-2:])} cells, but the "
                f"{expected.name} of the data has {tuple(target.shape[-2:])}; create the model for these "
                "data with factor= or grids="
            )

    def validate_batch(self, batch: Batch) -> None:
        """Validate that a batch matches the inputs and classes of the model.

        Args:
            batch: Batch of samples.

        Raises:
            InputError: Names, axes or units differ, or a label is not a class of the model.
        """
        batch = self._to_float(batch)
        masks = {name: mask for name, mask in batch.valid.items() if name != "target"}
        self.model.validate_inputs(batch.inputs, valid=masks or None)
        target = self.model.target
        if isinstance(target, ClassTarget):
            low, high = batch.target.min(), batch.target.max()
            if low < 0 or high >= len(target.classes):
                raise InputError(
                    f"labels are {int(low)} to {int(high)}, but the model has {len(target.classes)} "
                    f"classes, {', '.join(target.classes)}; mark missing labels in valid['target']"
                )


def _channels_last(values: Tensor) -> Tensor:
    return values.contiguous(memory_format=torch.channels_last) if values.ndim == 4 else values
