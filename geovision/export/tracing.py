"""Tracing of a model into a graph of tensor operations, including its class-activation map.

The map is Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391), as in `geovision explain`. Its gradient also
consists of tensor operations. It is traced through the layers behind the layer of the map and becomes part
of the graph, so a program without automatic differentiation can compute the map.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.attention import SDPBackend, sdpa_kernel

from geovision.accelerate.fusion import fuse_layers
from geovision.attribution.class_activation import merge_flipped_passes, weight_activations
from geovision.attribution.layers import flip_axes, select_layer
from geovision.attribution.target import AttributionTarget
from geovision.errors import OptionError
from geovision.heads.classification import NormalizedHead
from geovision.models.example_inputs import random_inputs
from geovision.models.geomodel import GeoModel
from geovision.models.input_items import InputSample
from geovision.spec import ClassTarget, InputSpec

__all__ = ["MAP_OUTPUT", "TracedModel", "example_inputs", "graph_input_names", "mask_input_name", "trace"]

MAP_OUTPUT = "class_activation_map"
"""Name of the graph output with the class-activation map."""


@dataclass(frozen=True)
class TracedModel:
    """Traced graph of a model.

    Attributes:
        module: Module that maps tensors in the order of `inputs` to tensors in the order of `outputs`.
        inputs: Names of the graph inputs.
        outputs: Names of the graph outputs.
        example: One batch of inputs.
    """

    module: torch.fx.GraphModule
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    example: tuple[Tensor, ...]


def mask_input_name(spec: InputSpec) -> str:
    """Return the name of the graph input with the valid mask of an input.

    Args:
        spec: Specification of the input.

    Returns:
        Name of the mask; empty for required images, which are resized and complete.
    """
    return "" if spec.resize in ("squash", "crop") and not spec.optional else f"{spec.name}_valid"


def graph_input_names(model: GeoModel) -> tuple[str, ...]:
    """Return the names of the graph inputs, each followed by its mask.

    Args:
        model: Model to export.

    Returns:
        Names of the graph inputs.
    """
    return tuple(name for spec in model.inputs for name in (spec.name, mask_input_name(spec)) if name)


def example_inputs(
    model: GeoModel, count: int, *, axes: Mapping[str, int] | None = None, seed: int = 0
) -> dict[str, Tensor]:
    """Generate a batch of graph inputs without missing values.

    Args:
        model: Model to export.
        count: Number of samples.
        axes: Lengths of axes of variable length, by name. Default: None.
        seed: Random seed. Default: 0.

    Returns:
        Batch of each graph input, by name.

    Raises:
        OptionError: If the length of an axis is unknown or contradicts the model, or no input has the axis.
    """
    _check_axes(model, axes or {})
    found = random_inputs(model.inputs, count, axes=axes, seed=seed)
    if found is None:
        layouts = ", ".join(f"{spec.name} ({spec.layout})" for spec in model.inputs)
        raise OptionError(
            f"{model.spec.name}: an exported graph has fixed axes except the batch, and some lengths are "
            f"unknown in {layouts}; pass them, such as axes={{'y': 128, 'x': 128}}"
        )
    masks = {
        mask_input_name(spec): torch.ones_like(found[spec.name], dtype=torch.bool) for spec in model.inputs
    }
    return {name: (found | masks)[name] for name in graph_input_names(model)}


def _check_axes(model: GeoModel, axes: Mapping[str, int]) -> None:
    """Raise for an axis that no input has, or whose fixed length differs."""
    fixed = {spec.name: dict(zip("yx", spec.size or (), strict=False)) for spec in model.inputs}
    open_axes = sorted(
        {
            axis
            for spec in model.inputs
            for axis in spec.layout.split()
            if axis != "channel" and axis not in fixed[spec.name]
        }
    )
    for axis, length in axes.items():
        for name, known in fixed.items():
            if known.get(axis, length) != length:
                raise OptionError(
                    f"{model.spec.name}: {axis}={length}, but {axis} of {name} is {known[axis]}; omit it"
                )
        if not any(axis in spec.layout.split() for spec in model.inputs):
            raise OptionError(
                f"{model.spec.name}: no input has an axis {axis!r}; axes of variable length: "
                f"{', '.join(open_axes) or 'none'}"
            )


def trace(model: GeoModel, *, axes: Mapping[str, int] | None = None) -> TracedModel:
    """Trace a model with a dynamic batch size.

    Args:
        model: Model to export; unchanged.
        axes: Lengths of axes of variable length, by name. Default: None.

    Returns:
        Traced graph.

    Raises:
        OptionError: If the length of an axis is unknown.
    """
    prepared = _inference_copy(model)
    # The batch size must differ from all axis lengths, because tracing identifies equal symbolic sizes.
    lengths = {length for tensor in example_inputs(model, 1, axes=axes).values() for length in tensor.shape}
    count = next(number for number in range(2, 1000) if number not in lengths)
    inputs = example_inputs(model, count, axes=axes)
    function = _ExportModule(prepared, _map_layer(prepared, axes))
    outputs = function.named_outputs(*inputs.values())
    # Outputs that were never fitted, such as an outlier score, contain only NaN and are omitted.
    function.outputs = tuple(name for name, values in outputs.items() if not values.double().isnan().all())
    # The exporter does not support the gradient of fused attention kernels, but that of the plain formula.
    with sdpa_kernel(SDPBackend.MATH):
        module = make_fx(
            function,
            decomposition_table=_decompositions(),
            tracing_mode="symbolic",
            _allow_non_fake_inputs=True,  # the parameters
        )(*inputs.values())
    return TracedModel(module, tuple(inputs), function.outputs, tuple(inputs.values()))


def _inference_copy(model: GeoModel) -> GeoModel:
    """Return a copy for inference, with normalization layers fused into convolutions."""
    prepared = copy.copy(model)
    prepared._modules = dict(model._modules)
    prepared.normalize = copy.deepcopy(model.normalize)
    head: Any = model.head
    prepared.head = head.joined() if isinstance(head, NormalizedHead) else copy.deepcopy(head)
    prepared.network = fuse_layers(model, operator=False)
    return prepared.eval().cpu().requires_grad_(False)


def _map_layer(model: GeoModel, axes: Mapping[str, int] | None) -> str:
    """Return the layer of the class-activation map; empty for models without one."""
    if not isinstance(model.target, ClassTarget) or "differentiable" not in model.spec.capabilities:
        return ""
    sample = random_inputs(model.inputs, 1, axes=axes) or {}
    target = AttributionTarget(model, InputSample({name: values[0] for name, values in sample.items()}), None)
    return select_layer(target, None)


class _ExportModule(nn.Module):
    """Module that returns predictions as tensors, and the map of one layer."""

    def __init__(self, model: GeoModel, layer: str) -> None:
        super().__init__()
        self.model, self.layer = model, layer
        self.outputs: tuple[str, ...] = ()

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        named = self.named_outputs(*tensors)
        return tuple(named[name].detach() for name in self.outputs)

    def named_outputs(self, *tensors: Tensor) -> dict[str, Tensor]:
        """Return each output by its name."""
        given = dict(zip(graph_input_names(self.model), tensors, strict=True))
        inputs = {spec.name: given[spec.name] for spec in self.model.inputs}
        valid = {spec.name: given[mask] for spec in self.model.inputs if (mask := mask_input_name(spec))}
        kept: list[Tensor] = []
        with _CapturedLayer(self.model.network, self.layer, kept), torch.set_grad_enabled(bool(self.layer)):
            features = self.model.features(inputs, valid=valid or None)
            values = self.model.head(features)
        head: Any = self.model.head
        outputs = head.export_outputs(values, features)
        valid_cells = self.model.valid_mask(inputs, valid or None, values)
        if valid_cells is not None:
            outputs["valid"] = valid_cells.expand_as(values)
        return outputs | ({MAP_OUTPUT: self._class_activation_map(values, kept)} if self.layer else {})

    def _class_activation_map(self, values: Tensor, kept: Sequence[Tensor]) -> Tensor:
        """Return the map of the positive or most probable class, shape (batch, y, x)."""
        target: Any = self.model.target
        positive = target.classes.index(target.positive) if target.positive else None
        scores = values.amax(1) if positive is None else values[:, positive]
        gradients = torch.autograd.grad(scores.sum(), kept)
        network = self.model.network
        runs = [
            merge_flipped_passes(
                weight_activations(network, self.layer, run, gradient, "gradcam"), flip_axes(network)
            ).relu()
            for run, gradient in zip(kept, gradients, strict=True)
        ]
        return sum(runs[1:], runs[0])


class _CapturedLayer:
    """Context that captures the output of a layer, where gradients end; without layer, no effect."""

    def __init__(self, network: nn.Module, layer: str, captured: list[Tensor]) -> None:
        self.network, self.layer, self.captured = network, layer, captured
        self.hook: Any = None

    def __enter__(self) -> None:
        if self.layer:
            self.hook = self.network.get_submodule(self.layer).register_forward_hook(self._capture)

    def __exit__(self, *_: object) -> None:
        if self.hook:
            self.hook.remove()

    def _capture(self, _module: nn.Module, _given: Any, result: Tensor) -> Tensor:
        self.captured.append(result.detach().requires_grad_())
        return self.captured[-1].clone()  # later layers may modify it in place


# --- gradients in operations that the exporter supports -----------------------------------------


def _decompositions() -> dict[Any, Callable[..., Any]]:
    """Return decompositions of backward operations; other operations are not decomposed."""
    known = {
        operation: written
        for operation, written in torch._decomp.core_aten_decompositions().items()
        if "backward" in str(operation)
    }
    return known | {torch.ops.aten.convolution_backward.default: _convolution_backward}


def _convolution_backward(
    gradient: Tensor,
    inputs: Tensor,
    weight: Tensor,
    _bias_sizes: Any,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    _output_padding: Sequence[int],
    groups: int,
    _wanted: Sequence[bool],
) -> tuple[Tensor, None, None]:
    """Return the gradient of a convolution with respect to its input.

    This is a transposed convolution, or a convolution if the forward operation was transposed.
    """
    if transposed:
        back = torch.ops.aten.convolution(
            gradient, weight, None, stride, padding, dilation, False, [0] * len(stride), groups
        )
        return back, None, None
    missing = [
        inputs.shape[2 + axis]
        - ((gradient.shape[2 + axis] - 1) * step - 2 * pad + apart * (weight.shape[2 + axis] - 1) + 1)
        for axis, (step, pad, apart) in enumerate(zip(stride, padding, dilation, strict=True))
    ]
    back = torch.ops.aten.convolution(
        gradient, weight, None, stride, padding, dilation, True, missing, groups
    )
    return back, None, None
