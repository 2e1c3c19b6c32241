"""Complete model, from inputs in physical units to labeled predictions."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from geovision.errors import OptionError
from geovision.heads.ood import FeatureDistance
from geovision.heads.prediction import Prediction
from geovision.models._base import BaseModel, ModelConfig, Output
from geovision.models._predict import predict
from geovision.models.layers.scalar_fusion import ScalarFusion, scalar_input
from geovision.models.protocols import HasInputSize, HasOODFeatures, HasPretrainedStatistics
from geovision.models.serialization import write
from geovision.spec import ClassTarget, GridPair, InputSpec, ModelSpec, Target, Task, resolve

__all__ = ["GeoModel", "ModelConfig", "Output", "build_model"]


class GeoModel(BaseModel):
    """Model that predicts from files or arrays and can be saved.

    Instances are built by `geovision.create` and `geovision.load`. A prediction passes through ``normalize``,
    ``network``, ``head`` and the decoding of the head. Parameters and attributes are those of `BaseModel`.
    """

    def predict(
        self,
        inputs: Any,
        *,
        batch_size: int = 32,
        precision: str = "auto",
        skip_errors: bool = False,
    ) -> list[Prediction]:
        """Predict from files, arrays or tensors, in their order.

        Args:
            inputs: Path (file, folder or glob pattern), array or tensor (one sample or a batch), Pillow
                image, mapping from input names to these, or a list of any of them.
            batch_size: Number of samples per forward pass. Default: 32.
            precision: ``"float32"``, ``"bfloat16"``, ``"int8"`` or ``"auto"``. ``"auto"`` selects bfloat16
                for classes if the processor computes in it and the scores of generated images change
                little, and float32 in all other cases. ``"int8"`` computes convolutions in 8-bit integers.
                It requires an image classifier and a processor with 8-bit instructions. It is faster and
                changes some predictions. Default: ``"auto"``.
            skip_errors: Return a `Prediction` with the flag ``unreadable`` for an input that cannot be
                read, instead of raising an error. Default: False.

        Returns:
            One prediction per sample.

        Raises:
            InputError: The unit, range or shape of an input is wrong.
            UnreadableFileError: A file cannot be read.
            OptionError: The precision is unknown, or the model or the processor does not support it.
        """
        return predict(self, inputs, batch_size=batch_size, precision=precision, skip_errors=skip_errors)

    def save(self, folder: str | Path, *, fp16: bool = False, card: str = "") -> Path:
        """Save the weights, the configuration and the model card.

        The files are ``model.safetensors``, ``config.json`` and ``README.md``. Either all of them are
        written or none.

        Args:
            folder: Output folder. It is created if missing, and a model in it is replaced.
            fp16: Store the parameters in half precision, at half the size. Default: False.
            card: Text of the model card. Default: rendered from the registry and the training record.

        Returns:
            The output folder.

        Raises:
            StorageError: The files cannot be written. The previous content of `folder` is unchanged.
        """
        return write(self, Path(folder), fp16=fp16, card=card)


def build_model(spec: ModelSpec, task: Task, config: ModelConfig) -> GeoModel:
    """Build a model with initial parameters from a registry entry and options.

    Args:
        spec: Registry entry.
        task: Task of the entry.
        config: Options beyond the entry.

    Returns:
        The model, with random parameters.

    Raises:
        OptionError: The size is below 1, or the task does not define a measurement, predictor or head of
            this name. Also if the task has no classes, grids or pixel size, but the options set them.
    """
    if config.size is not None and min(config.size) < 1:
        raise OptionError(f"size={config.size}: expected a height and a width of 1 or more")
    target = _build_target(task, config.classes)
    inputs = list(spec.inputs or task.inputs)
    if config.predictors:
        inputs[0] = _with_predictors(inputs[0], task, config.predictors)
    inputs[0].validate_encoded_ranges(config.db_range)
    if config.pixel_size is not None:
        inputs[0] = _with_pixel_size(inputs[0], config.pixel_size, task)
    builder = resolve(spec.builder)
    network = builder(
        dict(spec.model_args) | dict(config.model_args),
        inputs=tuple(inputs),
        size=config.size,
        **_grid_kwargs(task, config.grids),
    )
    own = network if isinstance(network, HasPretrainedStatistics) else None
    mean, std = config.mean or (own.mean if own else ()), config.std or (own.std if own else ())
    if mean:
        inputs[0] = inputs[0].with_statistics(mean, std)
    size = config.size or (network.size if isinstance(network, HasInputSize) else None)
    if size:
        inputs = _resize_inputs(inputs, size)
    if config.scalars:
        inputs.append(scalar_input(_scalar_channels(task, config.scalars)))
        network = ScalarFusion(network, len(config.scalars))
    head: Any = _head_factory(spec, task, config)(network.num_features, target, dropout=config.drop_rate)
    if config.grids:
        head.grid = config.grids.target
    if isinstance(network, HasOODFeatures):
        head.outlier = FeatureDistance(network.num_features, feature_slice=network.outlier_features)
    return GeoModel(spec, task, config, tuple(inputs), target, network, head)


def _resize_inputs(inputs: Sequence[InputSpec], size: tuple[int, int]) -> list[InputSpec]:
    """Set the size of the first input and others on its grid."""
    grid = (inputs[0].size, inputs[0].pixel_size)
    return [
        each.with_size(size) if each.layout.endswith("y x") and (each.size, each.pixel_size) == grid else each
        for each in inputs
    ]


def _with_predictors(given: InputSpec, task: Task, names: Sequence[str]) -> InputSpec:
    known = {channel.name: channel for channel in task.predictors}
    for name in names:
        if name not in known:
            raise OptionError(
                f"task {task.name!r} has no predictor {name!r}; known: {', '.join(known) or 'none'}"
            )
    return dataclasses.replace(given, channels=(*given.channels, *(known[name] for name in names)))


def _grid_kwargs(task: Task, grids: GridPair | None) -> dict[str, GridPair]:
    if grids is None:
        return {}
    if isinstance(task.target, ClassTarget):
        raise OptionError(f"task {task.name!r} predicts classes, which have no grid; omit `grids`")
    return {"grids": grids}


def _head_factory(spec: ModelSpec, task: Task, options: ModelConfig) -> partial[nn.Module]:
    """Return the class of the head with its options bound."""
    reference = spec.head or task.head
    if options.head:
        if options.head not in task.heads:
            known = ", ".join(task.heads) or "none"
            raise OptionError(f"task {task.name!r} has no head {options.head!r}; known: {known}")
        reference = task.heads[options.head]
    own = {} if options.head else dict(spec.head_args)
    kind = resolve(reference)
    chosen = own | dict(options.head_args)
    taken = inspect.signature(kind).parameters
    if unknown := sorted(set(chosen) - set(taken)):
        raise OptionError(f"{kind.__name__} has no option {unknown[0]!r}; known: {', '.join(taken)}")
    return partial(kind, **chosen)


def _with_pixel_size(given: InputSpec, pixel_size: float, task: Task) -> InputSpec:
    if given.pixel_size is None:
        raise OptionError(f"task {task.name!r} has no pixel size on the ground; omit `pixel_size`")
    if not pixel_size > 0:
        raise OptionError(f"pixel_size={pixel_size}: expected a size above 0, in m")
    return given.with_pixel_size(pixel_size)


def _build_target(task: Task, classes: tuple[str, ...]) -> Target:
    if not classes:
        return task.target
    if not isinstance(task.target, ClassTarget):
        raise OptionError(f"task {task.name!r} does not predict classes; omit `classes` and `num_classes`")
    own = task.target
    if set(classes) <= set(own.classes) and own.cards:
        cards = tuple(c for code in classes if (c := own.card(code)))
        positive = own.positive if own.positive in classes else ""
        return ClassTarget(classes, cards, outlier_flag=own.outlier_flag, positive=positive)
    return ClassTarget(classes, outlier_flag=own.outlier_flag)


def _scalar_channels(task: Task, names: Sequence[str]) -> tuple:
    known = {channel.name: channel for channel in task.scalars}
    for name in names:
        if name not in known:
            raise OptionError(
                f"task {task.name!r} has no measurement {name!r}; known: {', '.join(known) or 'none'}"
            )
    return tuple(known[name] for name in names)
