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
    """Build a model by name, with new weights or those of a backbone.

    This is `geovision.create` without trained weights, which documents the arguments.

    Returns:
        The model in evaluation mode, on the CPU.

    Raises:
        UnknownModelError: No such model; the message contains the nearest names.
        OptionError: Options that exclude each other, or that the task or model does not have.
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
            raise OptionError(f"{spec.name} has no backbone that takes backbone_weights")
        load_backbone_weights(backbone, spec.model_args, backbone_weights)
    return model.eval()


def _classes(spec: ModelSpec, num_classes: int | None, classes: Sequence[str] | None) -> tuple[str, ...]:
    if classes is not None:
        if num_classes not in (None, len(classes)):
            raise OptionError(f"num_classes={num_classes} but {len(classes)} classes were named")
        if len(classes) < 2:
            raise OptionError(f"a classifier needs two classes or more, got {list(classes)}")
        return tuple(classes)
    if num_classes is None:
        return ()
    if num_classes < 2:
        raise OptionError(f"a classifier needs two classes or more, got num_classes={num_classes}")
    own = registry.find_task(spec.task).target
    if isinstance(own, ClassTarget) and len(own.classes) == num_classes:
        return ()
    return tuple(str(index) for index in range(num_classes))
