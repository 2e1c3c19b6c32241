"""Training by gradient descent, with one Lightning trainer per stage."""

from __future__ import annotations

import contextlib
import gc
import logging
import math
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning import Callback
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.plugins.io import CheckpointIO

from geovision import _atomic_io
from geovision._logging import suppress_logging
from geovision.accelerate._cpu_features import flush_denormals, has_fast_bfloat16
from geovision.datasets.base import GeoDataset, HasLabels, HasSoftTargets
from geovision.errors import DatasetError, OptionError
from geovision.models.geomodel import GeoModel
from geovision.spec import ClassTarget, Recipe, Stage
from geovision.training.callbacks import Best, CheckpointWriter, EMAWeights, EpochLog, Plateau
from geovision.training.data_loading import (
    EpochBatches,
    InMemoryDataset,
    balanced_batch_count,
    batch_count,
    load_into_memory,
)
from geovision.training.data_statistics import (
    fit_postprocessing,
    fit_statistics,
    has_postprocessing,
    needs_statistics,
)
from geovision.training.depthwise import unstrided_depthwise
from geovision.training.lightning_module import CHECKPOINT_KEY, StageModule
from geovision.training.logit_adjustment import adjust_logits, has_class_bias
from geovision.training.preparation import needs_validation
from geovision.training.progress import ProgressBar
from geovision.training.run_dir import RunDir
from geovision.training.teacher_targets import TeacherTargets

__all__ = ["TrainingRun", "fit_gradient"]

Size = tuple[int, int]


@dataclass
class TrainingRun:
    """Training run: model, data, recipe and log.

    Args:
        model: Model to train.
        data: Training samples.
        validation: Samples for early stopping and the log, or None.
        recipe: Training recipe.
        folder: Folder of the training; None writes no files.
        devices: Number of devices, or ``"auto"``.
        workers: Number of loader processes; 0 loads in this process.
        progress: Whether to show a progress bar on stderr.
        teacher_targets: Predictions of a teacher for the samples, in their order. Default: None.
        rows: Log with one row per epoch, which the training fills.
    """

    model: GeoModel
    data: GeoDataset
    validation: GeoDataset | None
    recipe: Recipe
    folder: RunDir | None
    devices: int | str
    workers: int
    progress: bool
    teacher_targets: TeacherTargets | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)


def fit_gradient(job: TrainingRun) -> None:
    """Train the model in place.

    The training continues from the checkpoint in the folder if there is one.

    Args:
        job: Training run.

    Raises:
        OptionError: The recipe does not fit the model or the data.
        DatasetError: There are no samples.
        InputError: The samples do not match the inputs of the model.
    """
    _validate(job)
    _train(job)
    # Lightning's trainer and its loops refer to each other and to the samples, which would otherwise stay in
    # memory during the next training.
    gc.collect()


def _train(job: TrainingRun) -> None:
    state = job.folder.state() if job.folder else None
    reached = state[CHECKPOINT_KEY] if state else {"stage": 0, "done": False}
    bar = ProgressBar(steps=_total_steps(job), epochs=job.recipe.epochs, enabled=job.progress)
    if state:
        job.rows[:] = state["callbacks"]["EpochLog"]["rows"]
        bar.step = job.rows[-1]["step"] if job.rows else 0
    samples = _StageData(job)
    if needs_statistics(job.model):
        fit_statistics(job.model, samples.first())
    with torch.random.fork_rng(), _limit_threads(job.workers), _suppress_lightning(), flush_denormals():
        for number in range(reached["stage"], len(job.recipe.stages)):
            is_current = number == reached["stage"]
            if state and is_current and reached["done"]:
                _load_stage_weights(job.model, state)
            else:
                _run_stage(job, number, samples, bar, reached if state and is_current else None)
    if job.recipe.logit_adjustment:
        adjust_logits(job.model, job.data, job.recipe.logit_adjustment)
    if has_postprocessing(job.model):
        fit_postprocessing(job.model, samples.first())


def _validate(job: TrainingRun) -> None:
    recipe = job.recipe
    if not recipe.stages or any(stage.epochs < 1 for stage in recipe.stages):
        raise OptionError(
            "the recipe lacks stages or epochs; expected one stage or more, each with one epoch or more"
        )
    if not len(job.data) or (job.validation is not None and not len(job.validation)):
        raise DatasetError(f"{job.data.card.name}: no sample for training or for validation; add samples")
    if job.validation is None and needs_validation(recipe):
        raise OptionError(
            "patience, keep='best' and schedule='plateau' need validation samples; pass validation=, or "
            "monitor='train_loss' for patience and 'plateau'"
        )
    if any(stage.decay_by == "step" and stage.optimizer != "adamw" for stage in recipe.stages):
        raise OptionError(
            "decay_by='step' is for optimizer='adamw'; the decay of 'sgd' is part of its gradient"
        )
    if any(stage.sampling == "balanced" for stage in recipe.stages):
        _labels(job.data)
        if recipe.logit_adjustment:
            raise OptionError(
                "logit_adjustment cannot be used with sampling='balanced', whose classes are equally "
                "frequent; set it to 0"
            )
    if recipe.conflict_labels == "soft" and not isinstance(job.data, HasSoftTargets):
        raise OptionError(
            f"{job.data.card.name} does not list near-duplicates, which conflict_labels='soft' needs"
        )
    if recipe.logit_adjustment and not has_class_bias(job.model):
        raise OptionError(f"{job.model.spec.name} has no bias for each class, which logit_adjustment needs")
    own = job.model.target.classes
    for data in (job.data, job.validation):
        if data is not None and isinstance(data.target, ClassTarget) and data.target.classes != own:
            raise OptionError(
                f"the data have the classes {', '.join(data.target.classes)}, but the model has "
                f"{', '.join(own)}; create the model with classes= of the data"
            )


def _labels(data: GeoDataset) -> torch.Tensor:
    """Return the class of each sample, shape ``(sample,)``.

    Raises:
        OptionError: The data set has no list of labels.
    """
    if not isinstance(data, HasLabels):
        raise OptionError(f"{data.card.name} has no list of labels, which sampling='balanced' needs")
    return torch.as_tensor(np.asarray(data.labels))


def _total_steps(job: TrainingRun) -> int:
    """Return the number of steps of the whole training."""
    return sum(stage.epochs * _epoch_steps(job, stage) for stage in job.recipe.stages)


def _epoch_steps(job: TrainingRun, stage: Stage) -> int:
    if stage.sampling == "balanced":
        return balanced_batch_count(_labels(job.data), stage.batch_size)
    return batch_count(len(job.data), stage.batch_size, shuffled=True)


# --- data ---------------------------------------------------------------------------------------


class _StageData:
    """Samples of each stage, in memory if they fit."""

    def __init__(self, job: TrainingRun) -> None:
        self.job = job
        self._kept: dict[str, tuple[Size | None, GeoDataset | InMemoryDataset]] = {}
        self.soft = None
        if job.recipe.conflict_labels == "soft":
            self.soft = torch.from_numpy(np.asarray(job.data.soft_targets(), dtype=np.float32))  # type: ignore[attr-defined]

    def size(self, stage: Stage) -> Size | None:
        """Return the size of the first input; None for the native grid."""
        return stage.size or self.job.model.inputs[0].size

    def first(self) -> GeoDataset | InMemoryDataset:
        """Return the training samples of the first stage."""
        return self._read(self.job.recipe.stages[0])

    def _read(self, stage: Stage) -> GeoDataset | InMemoryDataset:
        size = self.size(stage)
        if size is not None:
            # At this size, a crop of mean area needs no resampling.
            scale = 1 / math.sqrt(sum(self.job.recipe.augment.crop_area) / 2)
            size = (round(size[0] * scale), round(size[1] * scale))
        return self._at("training", self.job.data, size)

    def training(self, number: int) -> EpochBatches:
        """Return the training batches of a stage."""
        stage, job = self.job.recipe.stages[number], self.job
        data = self._read(stage)
        balance = _labels(job.data) if stage.sampling == "balanced" else None
        return EpochBatches(
            data,
            batch_size=stage.batch_size,
            seed=(job.recipe.seed, number),
            workers=job.workers,
            balance=balance,
        )

    def validation(self, number: int) -> EpochBatches | None:
        """Return the validation batches of a stage, or None."""
        stage, job = self.job.recipe.stages[number], self.job
        if job.validation is None:
            return None
        # Validation always uses the input size of the model, not that of the stage.
        data = self._at("validation", job.validation, job.model.inputs[0].size)
        return EpochBatches(data, batch_size=stage.batch_size, workers=job.workers)

    def _at(self, use: str, data: GeoDataset, size: Size | None) -> GeoDataset | InMemoryDataset:
        """Return the samples at a size and the model's pixel size.

        If the data set does not support resizing, its samples are unchanged and the batches are resized.
        """
        if use in self._kept and self._kept[use][0] == size:
            return self._kept[use][1]
        self._kept.pop(use, None)
        resized = data.with_input(self.job.model.inputs[0].with_size(None))
        if size:
            resized = resized.with_size(size)
        found = load_into_memory(resized, workers=self.job.workers) or resized
        self._kept[use] = size, found
        return found


# --- one stage ----------------------------------------------------------------------------------


def _run_stage(
    job: TrainingRun, number: int, samples: _StageData, bar: ProgressBar, progress: Mapping[str, Any] | None
) -> None:
    """Train one stage, from its start or from the checkpoint."""
    stage = job.recipe.stages[number]
    batches, validation = samples.training(number), samples.validation(number)
    module = StageModule(
        job.model,
        job.recipe,
        number,
        steps_per_epoch=len(batches),
        soft_targets=samples.soft,
        size=samples.size(stage),
        teacher_targets=job.teacher_targets,
    )
    if progress:
        batches.start_at(progress["epoch"], progress["batch"])
        bar.step += progress["batch"]
    else:
        module.validate_batch(next(iter(batches)))
    trainer = _trainer(job, stage, _callbacks(job, number, bar))
    checkpoint = job.folder.checkpoint if job.folder and progress else None
    with _restore_after_training(job.model), unstrided_depthwise(job.model), _propagate_interrupt(job.folder):
        trainer.fit(module, batches, validation, ckpt_path=checkpoint, weights_only=True)
    if trainer.world_size > 1 and job.folder:  # another process wrote the log
        state = job.folder.state()
        assert state is not None
        job.rows[:] = state["callbacks"]["EpochLog"]["rows"]


def _callbacks(job: TrainingRun, number: int, bar: ProgressBar) -> list[Callback]:
    recipe, last = job.recipe, number == len(job.recipe.stages) - 1
    found: list[Callback] = []
    if last and recipe.keep == "best":
        found.append(Best())
    if recipe.ema:
        found.append(EMAWeights(recipe.ema))
    if job.recipe.stages[number].schedule == "plateau":
        found.append(Plateau(job.recipe.stages[number].plateau, recipe.monitor))
    if last and recipe.patience:
        found.append(EarlyStopping(recipe.monitor, patience=recipe.patience))
    found += [bar, EpochLog(job.folder.path if job.folder else None, job.rows, bar.show_row)]
    if job.folder:
        found.append(CheckpointWriter(job.folder.checkpoint))
    return found


def _trainer(job: TrainingRun, stage: Stage, callbacks: list[Callback]) -> L.Trainer:
    kind = _device_kind()
    count = _device_count(job.devices, kind)
    return L.Trainer(
        accelerator=kind,
        devices=count,
        # `train` must return once, not once in every process.
        strategy="ddp_spawn" if count > 1 else "auto",
        sync_batchnorm=count > 1 and kind == "cuda",
        precision=_precision(job.recipe, kind),
        max_epochs=stage.epochs,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
        logger=False,
        enable_checkpointing=job.folder is not None,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )


def _device_kind() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _device_count(devices: int | str, kind: str) -> int:
    if devices == "auto":
        return torch.cuda.device_count() if kind == "cuda" else 1
    try:
        count = int(devices)
    except ValueError:
        count = 0
    if count < 1:
        raise OptionError(f"devices={devices!r} is invalid; expected 'auto' or an integer of at least 1")
    return count


def _precision(recipe: Recipe, kind: str) -> Any:
    if recipe.precision == "16-mixed" and kind == "cpu":
        raise OptionError("precision='16-mixed' needs a GPU; use 'auto' or '32-true' on a CPU")
    if recipe.precision != "auto":
        return recipe.precision
    return "bf16-mixed" if has_fast_bfloat16(kind) else "32-true"


def _load_stage_weights(model: GeoModel, state: Mapping[str, Any]) -> None:
    """Load the weights after a finished stage into a model."""
    best = state["callbacks"].get("Best")
    weights = (
        best["weights"]
        if best
        else {
            name.removeprefix("model."): value
            for name, value in state["state_dict"].items()
            if name.startswith("model.")
        }
    )
    model.load_state_dict(weights)


class AtomicCheckpointIO(CheckpointIO):
    """Checkpoint plugin that writes atomically and reads without executing code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint atomically.

        Args:
            checkpoint: Content of the checkpoint.
            path: Path of the file.
            storage_options: Ignored. Default: None.
        """

        def write(temporary: Path) -> None:
            with temporary.open("wb") as stream:
                torch.save(checkpoint, stream)

        _atomic_io.write_files(Path(path).parent, {Path(path).name: write})

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> Any:
        """Read a checkpoint onto the CPU.

        Args:
            path: Path of the file.
            map_location: Ignored. Default: ``"cpu"``.
            weights_only: Ignored; only weights are read. Default: True.
        """
        return torch.load(path, map_location="cpu", weights_only=True)

    def remove_checkpoint(self, path: Any) -> None:
        """Delete a checkpoint.

        Args:
            path: Path of the file, which may be missing.
        """
        Path(path).unlink(missing_ok=True)


# --- temporary changes of the process -----------------------------------------------------------


@contextlib.contextmanager
def _restore_after_training(model: GeoModel) -> Iterator[None]:
    """Train in channels-last format, then restore format and trainable parameters."""
    trainable = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    try:
        yield
    finally:
        model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(trainable[name])


@contextlib.contextmanager
def _limit_threads(workers: int) -> Iterator[None]:
    """Leave one core for each loader process."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before - workers))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _suppress_lightning() -> Iterator[None]:
    """Suppress Lightning's messages on settings that this trainer chooses."""
    loggers = ("lightning", "lightning.pytorch", "lightning.fabric")
    with suppress_logging(*loggers, below=logging.ERROR), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\.")
        yield


@contextlib.contextmanager
def _propagate_interrupt(folder: RunDir | None) -> Iterator[None]:
    """Raise KeyboardInterrupt after an interrupt and restore the signal handler.

    Lightning raises SystemExit instead and ignores later interrupts.
    """
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT) if main else None
    try:
        yield
    except SystemExit as error:
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        if folder:
            print(
                f"Interrupted. {folder.path} contains the training; continue it with resume=True.",
                file=sys.stderr,
            )
        raise KeyboardInterrupt from None
    finally:
        if main:
            signal.signal(signal.SIGINT, before)
