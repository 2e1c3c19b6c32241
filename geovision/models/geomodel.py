"""A complete model: physical units in, network, head, labelled prediction out."""

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
    """A model with prediction from files or arrays, and saving.

    Instances are built by `geovision.create` and `geovision.load`. The chain is ``normalize``, ``network``,
    ``head`` and the decoding of `predict`. Attributes are those of `BaseModel`.
    """

    def predict(
        self,
        inputs: Any,
        *,
        batch_size: int = 32,
        precision: str = "auto",
        skip_errors: bool = False,
    ) -> list[Prediction]:
        """Labelled answers for files, arrays or tensors, in their order.

        Args:
            inputs: A path (file, folder or glob), an array or tensor (one sample or a batch), a
                Pillow image, a mapping from input names to these, or a list of any of them.
            batch_size: Samples a forward pass.
            precision: ``"float32"``, ``"bfloat16"``, or ``"auto"``: bfloat16 for classes, where the
                processor computes in it and the scores survive it (tried on generated pictures);
                float32 for everything else. ``"int8"``: convolutions in 8-bit integers, for classes of
                pictures on a processor that has instructions for it. It is faster and changes some answers.
            skip_errors: An input that cannot be read gives a `Prediction` flagged ``unreadable``
                in its place instead of an error.

        Raises:
            InputError: Wrong unit, range, shape; `UnreadableFileError`: a file that cannot be read.
            OptionError: A precision that is not known, or for which the model or the processor is not made.
        """
        return predict(self, inputs, batch_size=batch_size, precision=precision, skip_errors=skip_errors)

    def save(self, folder: str | Path, *, fp16: bool = False, card: str = "") -> Path:
        """Write ``model.safetensors``, ``config.json`` and ``README.md``, whole or not at all.

        Args:
            folder: Created where it is missing; a model in it is replaced.
            fp16: Store parameters in half precision, at half the size.
            card: Text of the card's body; written from the registry and the training record where
                empty.

        Raises:
            StorageError: It could not be written; what stood in `folder` is untouched.
        """
        return write(self, Path(folder), fp16=fp16, card=card)


def build_model(spec: ModelSpec, task: Task, config: ModelConfig) -> GeoModel:
    """Build the model that a registry entry and a caller's options describe, freshly initialised.

    Raises:
        OptionError: A size below 1, a measurement, predictor or head that the task does not know, classes
            or grids where there are none, or a pixel size where cells have none.
    """
    if config.size is not None and min(config.size) < 1:
        raise OptionError(f"size {config.size}: expected a height and a width of 1 or more")
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
    """The inputs with this size for the first, and for the others that lie on its grid."""
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
        raise OptionError(f"task {task.name!r} answers with classes, which lie on no grid")
    return {"grids": grids}


def _head_factory(spec: ModelSpec, task: Task, options: ModelConfig) -> partial[nn.Module]:
    """The class of the head with its own options."""
    reference = spec.head or task.head
    if options.head:
        if options.head not in task.heads:
            known = ", ".join(task.heads) or "none to choose"
            raise OptionError(f"task {task.name!r} has no head {options.head!r}; known: {known}")
        reference = task.heads[options.head]
    own = {} if options.head else dict(spec.head_args)
    kind = resolve(reference)
    chosen = own | dict(options.head_args)
    taken = inspect.signature(kind).parameters
    if unknown := sorted(set(chosen) - set(taken)):
        raise OptionError(f"{kind.__name__} has no option {unknown[0]!r}; it has {', '.join(taken)}")
    return partial(kind, **chosen)


def _with_pixel_size(given: InputSpec, pixel_size: float, task: Task) -> InputSpec:
    if given.pixel_size is None:
        raise OptionError(f"task {task.name!r} has no pixel size: its pictures have none on the ground")
    if not pixel_size > 0:
        raise OptionError(f"pixel_size={pixel_size}: expected metres, above 0")
    return given.with_pixel_size(pixel_size)


def _build_target(task: Task, classes: tuple[str, ...]) -> Target:
    if not classes:
        return task.target
    if not isinstance(task.target, ClassTarget):
        raise OptionError(f"task {task.name!r} has no classes to choose")
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
