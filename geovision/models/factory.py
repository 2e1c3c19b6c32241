"""Build models by name, freshly initialized."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from geovision import registry
from geovision.errors import OptionError
from geovision.models.geomodel import GeoModel, ModelConfig, build_model
from geovision.models.timm_backbone import TimmBackbone, load_backbone_weights, pretrained_config_for
from geovision.spec import ClassTarget, GridPair, ModelSpec

__all__ = ["create_model"]


def create_model(
    name: str,
    *,
    num_classes: int | None = None,
    classes: Sequence[str] | None = None,
    backbone_weights: str | Path | None = None,
    scalars: Sequence[str] = (),
    size: tuple[int, int] | None = None,
    drop_rate: float | None = None,
    pixel_size: float | None = None,
    db_range: Mapping[str, tuple[float, float]] | None = None,
    predictors: Sequence[str] = (),
    grids: GridPair | None = None,
    model_args: Mapping[str, Any] | None = None,
    head: str = "",
    head_args: Mapping[str, Any] | None = None,
) -> GeoModel:
    """Build a model by name, with new or backbone weights.

    This is `geovision.create` without trained weights.

    Args:
        name: Registry name, ``task-architecture``.
        num_classes: Number of classes, if it differs from the task's. The classes are named ``"0"``,
            ``"1"``, … Default: the task's classes.
        classes: Class names that replace those of the task. Default: the task's classes.
        backbone_weights: ``"imagenet"``, a timm tag, or the path of a ``.safetensors`` file with weights of
            the backbone alone. The head keeps its initial parameters. Default: None.
        scalars: Names of scalar measurements that the model takes in addition to the image, such as
            ``["cloud_base_height"]``. Default: none.
        size: Height and width that images are resized to, in pixels. Default: the registry's.
        drop_rate: Dropout probability before the last layer, 0 to 1. Default: the registry's.
        pixel_size: Width of a pixel on the ground, in m, for tasks whose pixels have a size. It changes
            the size in pixels accordingly, unless `size` is given. Default: the registry's.
        db_range: Values in dB of the lowest and the highest 8-bit count, by channel name, such as
            `geovision.physics.backscatter.DEFAULT_DB_RANGES`. They are stored with the model, which cannot
            process scenes in dB without them. Default: unknown.
        predictors: Names of the task's predictor channels that are appended to those of the first input.
            Default: none.
        grids: Input grid and output grid of a model of fields. Default: the model is not bound to a grid.
        model_args: Options of the network that replace those of the registry entry, such as
            ``{"factor": 2}``. Default: none.
        head: Name of one of the task's heads, such as ``"quantiles"``. Default: the registry's.
        head_args: Options of the head that replace those of the registry entry. Default: none.

    Returns:
        The model in evaluation mode, on the CPU.

    Raises:
        UnknownModelError: No model has this name. The message contains the nearest names.
        OptionError: Options exclude each other, or the task or model does not support them.
    """
    spec = registry.find_model(name)
    chosen = _classes(spec, num_classes, classes)
    known = pretrained_config_for(Path(backbone_weights)) if backbone_weights else None
    options = ModelConfig(
        classes=chosen,
        scalars=tuple(scalars),
        size=size,
        drop_rate=spec.drop_rate if drop_rate is None else drop_rate,
        model_args={**(known.options if known else {}), **(model_args or {})},
        mean=known.mean if known else (),
        std=known.std if known else (),
        pixel_size=pixel_size,
        db_range={name: (low, high) for name, (low, high) in (db_range or {}).items()},
        predictors=tuple(predictors),
        grids=grids,
        head=head,
        head_args=dict(head_args or {}),
    )
    model = build_model(spec, registry.find_task(spec.task), options)
    if backbone_weights:
        backbone = next((m for m in model.modules() if isinstance(m, TimmBackbone)), None)
        if backbone is None:
            raise OptionError(f"{spec.name} has no timm backbone; omit `backbone_weights`")
        load_backbone_weights(backbone, spec.model_args, backbone_weights)
    return model.eval()


def _classes(spec: ModelSpec, num_classes: int | None, classes: Sequence[str] | None) -> tuple[str, ...]:
    if classes is not None:
        if num_classes not in (None, len(classes)):
            raise OptionError(f"num_classes={num_classes}, but `classes` has {len(classes)} names")
        if len(classes) < 2:
            raise OptionError(f"a classifier needs at least two classes, got {list(classes)}")
        return tuple(classes)
    if num_classes is None:
        return ()
    if num_classes < 2:
        raise OptionError(f"a classifier needs at least two classes, got num_classes={num_classes}")
    own = registry.find_task(spec.task).target
    if isinstance(own, ClassTarget) and len(own.classes) == num_classes:
        return ()
    return tuple(str(index) for index in range(num_classes))
