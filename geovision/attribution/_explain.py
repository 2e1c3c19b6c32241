"""The way from a sample to its explanation, the same for every model."""

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
from geovision.attribution.geometry import place
from geovision.attribution.input_attribution import completeness, integrated_gradients, occlusion, patch
from geovision.attribution.layers import as_maps, channel_names, chosen_layer, named_layer
from geovision.attribution.result import Completeness, Explanation, InputMap
from geovision.attribution.target import AttributionTarget, answering, check_target, is_map
from geovision.errors import OptionError
from geovision.models.geomodel import GeoModel
from geovision.models.input_items import InputItem, iter_input_items
from geovision.spec import InputSpec

__all__ = ["check", "explain", "explain_source"]


def explain(model: GeoModel, source: Any, *, target: str | None, settings: AttributionConfig) -> Explanation:
    """Explain the answer for one sample. See `geovision.explain`."""
    check(model, target=target, settings=settings)
    sources = iter_input_items(source, model.inputs)
    first = next(sources, None)
    if first is None or next(sources, None) is not None:
        raise OptionError(f"explain takes one sample, not {'none' if first is None else 'several'}")
    return explain_source(model, first, target=target, settings=settings)


def check(model: GeoModel, *, target: str | None, settings: AttributionConfig) -> None:
    """Raise what would be wrong for any sample.

    Raises:
        OptionError: The model has no gradient and the method needs one, or it has no such class.
    """
    if settings.method != "occlusion" and "differentiable" not in model.spec.capabilities:
        raise OptionError(
            f"{model.spec.name} has no gradient, which {settings.method} needs; occlusion needs none"
        )
    check_target(model, target)


def explain_source(
    model: GeoModel, source: InputItem, *, target: str | None, settings: AttributionConfig
) -> Explanation:
    """Explain the answer for one sample that is not read yet.

    Raises:
        InputError: The sample cannot be read.
        OptionError: No such layer, or a patch that does not fit.
    """
    loaded = source.load(model.inputs)
    with answering(model), flush_denormals():
        return _explained(
            source, AttributionTarget(model, loaded, target, orientations=settings.orientations), settings
        )


def _explained(source: InputItem, question: AttributionTarget, settings: AttributionConfig) -> Explanation:
    adds_up: Completeness | None = None
    scalars: dict[str, float] = {}
    if settings.method in (*LAYER_METHODS, "deeplift"):
        named = named_layer(question.model.network) if settings.method == "deeplift" else None
        settings = dataclasses.replace(settings, layer=chosen_layer(question, settings.layer or named))
        found, adds_up = _of_layer(source, question, settings)
        inputs = {next(spec.name for spec in question.specs if is_map(spec)): found}
    else:
        settings, parts = _by_value(question, settings)
        inputs = {}
        for spec, part in zip(question.specs, parts, strict=True):
            names = tuple(channel.name for channel in spec.channels)
            if is_map(spec):
                inputs[spec.name] = _laid(source, spec, part, spec.layout, names)
            else:
                scalars |= {name: float(number) for name, number in zip(names, part, strict=True)}
        if settings.method in COMPLETE_METHODS:
            adds_up = completeness(question, parts)
    return Explanation(
        source=source.name,
        model=question.model.spec.name,
        label=question.label,
        logit=question.logit,
        probability=question.probability,
        settings=settings,
        inputs=inputs,
        scalars=scalars,
        completeness=adds_up,
        left_out=_left_out(question),
    )


def _left_out(question: AttributionTarget) -> dict[str, float]:
    """What is lost without each input, of maps that are made of several."""
    if len(question.specs) < 2 or question.index is not None:
        return {}
    inputs = {spec.name: tensor for spec, tensor in zip(question.specs, question.tensors, strict=True)}
    valid = {name: mask.expand_as(inputs[name]) for name, mask in question.valid.items() if name in inputs}
    return source_ablation(question.model, inputs, valid=valid, score=question.score_of)


def _of_layer(
    source: InputItem, question: AttributionTarget, settings: AttributionConfig
) -> tuple[InputMap, Completeness | None]:
    """The maps of one layer, where the first input with a picture lies, and whether they add up."""
    layer = settings.layer or ""
    spec = next(spec for spec in question.specs if is_map(spec))
    if settings.method != "deeplift":
        cells = class_activation(question, layer, settings.method)
        return _laid(source, spec, cells, "time y x" if cells.ndim == 3 else "y x"), None
    part = deeplift(question, layer)
    maps = as_maps(question.model.network, layer, part[None])
    if maps is None:
        raise OptionError(f"layer {layer!r} gives {tuple(part.shape)}, which is no map")
    names = channel_names(question.model.network, layer, maps.shape[1])
    return _laid(source, spec, maps[0], "channel y x", names), completeness(question, [part])


def _by_value(
    question: AttributionTarget, settings: AttributionConfig
) -> tuple[AttributionConfig, list[Tensor]]:
    """The settings that were used, and a contribution for each value of each input."""
    if settings.method == "integrated-gradients":
        parts, steps = integrated_gradients(
            question, steps=settings.steps, batch_size=settings.samples_a_pass
        )
        return dataclasses.replace(settings, steps=steps), parts
    parts = occlusion(
        question, window=settings.window, stride=settings.stride, batch_size=settings.samples_a_pass
    )
    first, tensor = next(
        pair for pair in zip(question.specs, question.tensors, strict=True) if is_map(pair[0])
    )
    (*_, window), (*_, stride) = patch(first, tensor, settings.window, settings.stride)
    return dataclasses.replace(settings, window=window, stride=stride), parts


def _laid(
    source: InputItem, spec: InputSpec, values: Tensor, axes: str, channels: tuple[str, ...] = ()
) -> InputMap:
    """The map of one input, where it belongs in what was given for it."""
    placement = place(source.values[spec.name], spec, where=source.name)
    array = values.detach().cpu().float().numpy()
    return InputMap(np.ascontiguousarray(array), axes, placement.window, placement.picture, channels)
