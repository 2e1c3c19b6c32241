"""Computation of an explanation from a sample, the same for every model."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from torch import Tensor

from geovision.accelerate._cpu_features import flush_denormals
from geovision.attribution.ablation import source_ablation
from geovision.attribution.class_activation import class_activation
from geovision.attribution.config import COMPLETE_METHODS, LAYER_METHODS, AttributionConfig
from geovision.attribution.deeplift import deeplift
from geovision.attribution.geometry import locate_input
from geovision.attribution.input_attribution import (
    completeness,
    integrated_gradients,
    occlusion,
    patch_and_stride,
)
from geovision.attribution.layers import channel_names, default_layer, select_layer, to_feature_maps
from geovision.attribution.result import Completeness, Explanation, InputMap
from geovision.attribution.target import AttributionTarget, check_target, eval_mode, is_spatial
from geovision.errors import OptionError
from geovision.models.geomodel import GeoModel
from geovision.models.input_items import InputItem, iter_input_items
from geovision.spec import InputSpec

__all__ = ["explain", "explain_item", "validate_explanation"]


def explain(model: GeoModel, source: Any, *, target: str | None, config: AttributionConfig) -> Explanation:
    """Explain the prediction for one sample.

    See `geovision.explain` for examples and all options.

    Args:
        model: Model whose prediction is explained.
        source: One sample: a path, an image, an array or a mapping of inputs, as for `GeoModel.predict`.
        target: Name of the class to explain. None: the positive class of the task, or else the most probable
            class. Always None for a field or a mask.
        config: Method of attribution and its options.

    Returns:
        The explanation with its maps.

    Raises:
        OptionError: `source` is not exactly one sample, or `validate_explanation` rejects the options.
        InputError: The sample cannot be read.
    """
    validate_explanation(model, target=target, config=config)
    sources = iter_input_items(source, model.inputs)
    first = next(sources, None)
    if first is None or next(sources, None) is not None:
        raise OptionError(f"explain expects one sample, not {'none' if first is None else 'several'}")
    return explain_item(model, first, target=target, config=config)


def validate_explanation(model: GeoModel, *, target: str | None, config: AttributionConfig) -> None:
    """Raise an error for options that fit no sample of the model.

    Args:
        model: Model whose prediction is explained.
        target: Name of the class to explain, or None.
        config: Method of attribution and its options.

    Raises:
        OptionError: The method needs a gradient and the model has none, or the model has no class `target`.
    """
    if config.method != "occlusion" and "differentiable" not in model.spec.capabilities:
        raise OptionError(
            f"{model.spec.name} has no gradient, which {config.method} needs; use occlusion, which needs none"
        )
    check_target(model, target)


def explain_item(
    model: GeoModel, item: InputItem, *, target: str | None, config: AttributionConfig
) -> Explanation:
    """Explain the prediction for one sample that has not been read yet.

    Args:
        model: Model whose prediction is explained.
        item: Sample to read.
        target: Name of the class to explain. None: see `explain`.
        config: Method of attribution and its options.

    Returns:
        The explanation with its maps.

    Raises:
        InputError: The sample cannot be read.
        OptionError: The layer does not exist, or the patch does not fit the input.
    """
    loaded = item.load(model.inputs)
    with eval_mode(model), flush_denormals():
        return _compute_explanation(
            item, AttributionTarget(model, loaded, target, orientations=config.orientations), config
        )


def _compute_explanation(
    item: InputItem, target: AttributionTarget, config: AttributionConfig
) -> Explanation:
    adds_up: Completeness | None = None
    scalars: dict[str, float] = {}
    if config.method in (*LAYER_METHODS, "deeplift"):
        named = default_layer(target.model.network) if config.method == "deeplift" else None
        config = dataclasses.replace(config, layer=select_layer(target, config.layer or named))
        found, adds_up = _attribute_layer(item, target, config)
        inputs = {next(spec.name for spec in target.specs if is_spatial(spec)): found}
    else:
        config, parts = _attribute_inputs(target, config)
        inputs = {}
        for spec, part in zip(target.specs, parts, strict=True):
            names = tuple(channel.name for channel in spec.channels)
            if is_spatial(spec):
                inputs[spec.name] = _make_input_map(item, spec, part, spec.layout, names)
            else:
                scalars |= {name: float(number) for name, number in zip(names, part, strict=True)}
        if config.method in COMPLETE_METHODS:
            adds_up = completeness(target, parts)
    return Explanation(
        source=item.name,
        model=target.model.spec.name,
        label=target.label,
        logit=target.logit,
        probability=target.probability,
        config=config,
        inputs=inputs,
        scalars=scalars,
        completeness=adds_up,
        ablation=_ablate_sources(target),
    )


def _ablate_sources(target: AttributionTarget) -> dict[str, float]:
    """Return the ablation of each input.

    It is empty for classes and for models of one input.
    """
    if len(target.specs) < 2 or target.class_index is not None:
        return {}
    inputs = {spec.name: tensor for spec, tensor in zip(target.specs, target.tensors, strict=True)}
    valid = {name: mask.expand_as(inputs[name]) for name, mask in target.valid.items() if name in inputs}
    return source_ablation(target.model, inputs, valid=valid, score=target.score_output)


def _attribute_layer(
    item: InputItem, target: AttributionTarget, config: AttributionConfig
) -> tuple[InputMap, Completeness | None]:
    """Return the map of one layer and its completeness.

    The map is placed on the first spatial input. Class activation maps have no completeness.
    """
    layer = config.layer or ""
    spec = next(spec for spec in target.specs if is_spatial(spec))
    if config.method != "deeplift":
        cells = class_activation(target, layer, config.method)
        return _make_input_map(item, spec, cells, "time y x" if cells.ndim == 3 else "y x"), None
    part = deeplift(target, layer)
    maps = to_feature_maps(target.model.network, layer, part[None])
    if maps is None:
        raise OptionError(
            f"layer {layer!r} returns shape {tuple(part.shape)}, which is not a map; choose another layer"
        )
    names = channel_names(target.model.network, layer, maps.shape[1])
    return _make_input_map(item, spec, maps[0], "channel y x", names), completeness(target, [part])


def _attribute_inputs(
    target: AttributionTarget, config: AttributionConfig
) -> tuple[AttributionConfig, list[Tensor]]:
    """Return the used configuration and the contributions of each input."""
    if config.method == "integrated-gradients":
        parts, steps = integrated_gradients(target, steps=config.steps, batch_size=config.samples_per_pass)
        return dataclasses.replace(config, steps=steps), parts
    parts = occlusion(target, window=config.window, stride=config.stride, batch_size=config.samples_per_pass)
    first, tensor = next(
        pair for pair in zip(target.specs, target.tensors, strict=True) if is_spatial(pair[0])
    )
    (*_, window), (*_, stride) = patch_and_stride(first, tensor, config.window, config.stride)
    return dataclasses.replace(config, window=window, stride=stride), parts


def _make_input_map(
    item: InputItem, spec: InputSpec, values: Tensor, axes: str, channels: tuple[str, ...] = ()
) -> InputMap:
    """Return the map of one input, placed on its original image."""
    placement = locate_input(item.values[spec.name], spec, where=item.name)
    array = values.detach().cpu().float().numpy()
    return InputMap(np.ascontiguousarray(array), axes, placement.window, placement.image, channels)
