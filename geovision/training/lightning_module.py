"""One stage of training as lightning sees it."""

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
"""Key of our own entry in a checkpoint: stage, epoch, batch, and whether the stage is done."""


class StageModule(L.LightningModule):
    """Trains a `GeoModel` through one stage of a recipe.

    Nothing random is carried from one step to the next: each step seeds torch's generator from
    (seed, stage, step), so that a step gives the same result after a kill as without one.

    Args:
        model: In whatever state the stage before left it.
        stage_index: Of the stage, from 0.
        soft: Class probabilities ``(sample, class)`` of the training samples, instead of their
            labels.
        size: (height, width) that pictures are trained at; None: their own.
        teacher_targets: What a teacher said of the training samples.
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
        # In a dictionary, where torch does not take them for parts of the network.
        found = metrics.applicable(model.task.metrics, model.target)
        # A score of all fields at once would keep them all, every epoch anew.
        self._metrics = {
            "all": {n: each for n, each in found.items() if not isinstance(each, FullFieldMetric)}
        }
        # What a checkpoint in the middle of an epoch holds of it: sum and number of losses, seconds.
        self._resumed_totals = (0.0, 0, 0.0)
        self._begin_epoch()

    def _begin_epoch(self) -> None:
        loss, self.loss_steps, self._seconds = self._resumed_totals
        self.loss_sum, self._started = torch.tensor(loss), time.perf_counter()
        self._resumed_totals = (0.0, 0, 0.0)

    @property
    def stage(self) -> Stage:
        return self.recipe.stages[self.stage_index]

    # --- what lightning calls ---------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        # Before several processes agree on the gradients that they exchange.
        self._frozen_modules = optim.freeze(self.model, self.stage)

    def configure_optimizers(self) -> Any:
        optimizer, schedule = optim.build_optimizer(
            self.model, self.stage, self.steps_per_epoch, fused=self.trainer.precision != "16-mixed"
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        # Lightning's own refuses fused optimisers, because of the scaled gradients of float16; ours
        # is fused in the other precisions alone.
        if self.stage.max_grad_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.stage.max_grad_norm)

    def on_train_start(self) -> None:
        # The only hook that comes before the first step of an epoch that is gone on with.
        self.train()
        self._begin_epoch()

    def train(self, mode: bool = True) -> StageModule:
        super().train(mode)
        for module in self._frozen_modules:
            module.eval()
        return self

    def on_train_epoch_start(self) -> None:
        self._begin_epoch()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
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

    def _distillation_loss(self, batch: Batch, teaching: TeacherTargets) -> Tensor:
        with head_inputs(self.model.head) as features:
            values, target, valid = self._predict(batch)
        to_truth = self.model.loss(values, target, valid)
        return teaching.loss(self.model, to_truth, values, batch.sample_index, features[0])

    def on_train_epoch_end(self) -> None:
        # Early stopping looks for this name; every process has seen its own share of each batch.
        self.log("train_loss", self.training_loss, sync_dist=self.trainer.world_size > 1)

    def on_validation_epoch_start(self) -> None:
        self._validation = torch.zeros(2, dtype=torch.float64)
        for metric in self._metrics["all"].values():
            metric.to(self.device).reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        batch = self._resize(self._to_float(batch))
        values, target, valid = self._predict(batch)
        head: Any = self.model.head
        prediction, truth = head.scored(values, target, valid)
        # Where an answer or its truth is missing, both a loss and a score have nothing to say.
        count = int(torch.isfinite(truth).sum()) if truth.is_floating_point() else len(truth)
        loss = float(self.model.loss(values, target, valid))
        self._validation += torch.tensor([loss * count, count], dtype=torch.float64)
        if count:
            for metric in self._metrics["all"].values():
                metric.update(prediction, truth)

    def on_validation_epoch_end(self) -> None:
        # Lightning's early stopping looks for this name.
        self.log("val_loss", self.validation_loss)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
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
        header = checkpoint[CHECKPOINT_KEY]
        self._resumed_totals = header["loss_sum"], header["loss_steps"], header["seconds"]

    # --- what the callbacks read ------------------------------------------------------------------

    @property
    def validation_loss(self) -> float:
        """Mean over the validation samples of the last epoch."""
        total, count = self._validation.tolist()
        return total / max(count, 1)

    @property
    def training_loss(self) -> float:
        """Mean over the steps of this epoch so far."""
        return float(self.loss_sum) / max(self.loss_steps, 1)

    @property
    def seconds(self) -> float:
        """Time spent on this epoch so far."""
        return self._seconds + time.perf_counter() - self._started

    def metric_values(self) -> dict[str, float]:
        """The task's metrics on the validation samples of this epoch, those that are one number."""
        found = {name: metric.compute() for name, metric in self._metrics["all"].items()}
        return {name: float(value) for name, value in found.items() if value.numel() == 1}

    # --- parts of a step --------------------------------------------------------------------------

    def _to_float(self, batch: Batch) -> Batch:
        """The batch in numbers that can be computed with: bytes as fractions of their full scale (see
        `data.Rows`), missing labels as the first class, which their mask keeps out."""
        inputs = {n: v.float() / 255 if v.dtype == torch.uint8 else v for n, v in batch.inputs.items()}
        target, known = batch.target, batch.valid.get("target")
        if known is not None and isinstance(self.model.target, ClassTarget):
            target = torch.where(known, target, 0)
        return batch._replace(inputs=inputs, target=target)

    def _soften_targets(self, batch: Batch) -> Batch:
        """Class targets as probabilities where the recipe asks for more than labels."""
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
        """(values, target, where both are there) of a batch."""
        inputs = {name: _channels_last(values) for name, values in batch.inputs.items()}
        masks = {name: mask for name, mask in batch.valid.items() if name != "target"}
        output = self.model(inputs, valid=masks or None)
        valid = batch.valid.get("target")
        if output.valid is not None:
            valid = output.valid if valid is None else valid & output.valid
        self._check_grid(output.values, batch.target)
        return output.values.float(), batch.target, valid

    def _check_grid(self, values: Tensor, target: Tensor) -> None:
        asked = self.model.target
        if not isinstance(asked, ClassTarget) and values.shape[-2:] != target.shape[-2:]:
            raise InputError(
                f"{self.model.spec.name} answers on a grid of {tuple(values.shape[-2:])} cells, and the "
                f"{asked.name} of the data is on one of {tuple(target.shape[-2:])}; create the "
                "model for these data (factor, grids)"
            )

    def validate_batch(self, batch: Batch) -> None:
        """Raise if a batch is not what the model takes.

        Raises:
            InputError: Its names, axes, units, or classes beyond the model's.
        """
        batch = self._to_float(batch)
        masks = {name: mask for name, mask in batch.valid.items() if name != "target"}
        self.model.validate_inputs(batch.inputs, valid=masks or None)
        target = self.model.target
        if isinstance(target, ClassTarget):
            low, high = batch.target.min(), batch.target.max()
            if low < 0 or high >= len(target.classes):
                raise InputError(
                    f"labels from {int(low)} to {int(high)}, but the model has {len(target.classes)} "
                    f"classes, {', '.join(target.classes)}; mark missing labels in valid['target']"
                )


def _channels_last(values: Tensor) -> Tensor:
    return values.contiguous(memory_format=torch.channels_last) if values.ndim == 4 else values
