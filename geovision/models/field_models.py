"""Transforms, masks and grids of networks of fields.

Inputs are processed in the following order::

    fields ──▶ transform of each channel ──▶ working grid ──▶ network ──▶ features
    masks  ───────────────────────────────▶ presence, one channel ──┘

The working grid consists of blocks of `factor` x `factor` cells of the target grid, which the network
refines. Without grids, it is the grid of the input, at any size.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from einops import reduce
from torch import Tensor, nn

from geovision.errors import InputError, OptionError, nearest
from geovision.models.layers.regrid import Regrid, coarsen_grid
from geovision.models.layers.scalers import Scaler, ScalerChain, StandardScaler, build_scaler_chain
from geovision.models.maunet import MAUNet
from geovision.models.superresolution import EDSR, SRCNN, SRDRN, UNet
from geovision.spec import GridPair, InputSpec, SampleContext

__all__ = ["NETWORKS", "FieldNetwork", "build"]

NETWORKS: Mapping[str, type[nn.Module]] = {
    "maunet": MAUNet,
    "unet": UNet,
    "edsr": EDSR,
    "srdrn": SRDRN,
    "srcnn": SRCNN,
}
"""Classes of networks by name.

They are called as ``network(in_channels, factor=, …)``, and ``forward(x, size)`` returns features.
"""


class FieldNetwork(nn.Module):
    """Network of fields with transforms, masks and grids.

    Args:
        network: Instance of one of `NETWORKS`.
        input_spec: Specification of the input, with the layout ``channel y x``.
        factor: Number of output cells per cell of the working grid along each side.
        grids: Input grid and target grid. None: the model is not bound to a grid.
        transforms: Names of the transforms of a channel, by the prefix of its name. The longest prefix
            applies, ``""`` to all other channels. Default: no transform.
        local: Number of learned fields on the target grid that are appended to the features. They represent
            properties that are the same every day, such as orography. They require `grids`. Default: 0.
        skip: Append the interpolated first channel to the features. The head has to learn its weight;
            `geovision.models.residual_learning` uses it as the base instead. Default: False.

    Shape:
        ``(batch, channel, y, x)``, normalized -> ``(batch, num_features, factor y, factor x)``, or the size
        of the target grid.

    Raises:
        OptionError: Local fields are requested without grids.
    """

    def __init__(
        self,
        network: nn.Module,
        input_spec: InputSpec,
        *,
        factor: int,
        grids: GridPair | None,
        transforms: Mapping[str, Sequence[str]] | None = None,
        local: int = 0,
        skip: bool = False,
    ) -> None:
        super().__init__()
        self.network, self.input_spec, self.factor = network, input_spec, factor
        working = coarsen_grid(grids.target, factor) if grids else None
        self.target_size = grids.target.size if grids else None
        self.working_size = working.size if working else None
        self.regrid = Regrid(GridPair(grids.given, working) if grids and working else None)
        self.transforms = nn.ModuleList(
            build_scaler_chain(_transforms_of(channel.name, transforms or {}))
            for channel in input_spec.channels
        )
        if local and not grids:
            raise OptionError(f"local={local}: local fields need a target grid; pass `grids`")
        self.local = nn.Parameter(torch.zeros(local, *grids.target.size)) if local and grids else None
        own: Any = network.num_features
        self.num_features: int = own + local + skip
        self.interpolate = Regrid(grids, factor) if skip else None
        self.linear = StandardScaler() if skip else Scaler()

    def fit_statistics(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> None:
        """Fit the transforms that have not been fitted yet.

        Args:
            inputs: Normalized training inputs by name, each of shape (sample, channel, y, x).
            valid: Valid values by input name, bool.
        """
        fields, present = self._input_and_mask(inputs, valid)
        if self.interpolate is not None and not _is_fitted(self.linear):
            self.linear.fit(fields[:, :1], present[:, :1])
        for index, each in enumerate(self._chains()):
            if not _is_fitted(each):
                channel = self.input_spec.channels[index].name
                try:
                    each.fit(fields[:, index : index + 1], present[:, index : index + 1])
                except InputError as error:
                    raise InputError(f"{channel}: {str(error).removeprefix('channel 0 ')}") from error

    def valid_mask(
        self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor] | None, shape: Sequence[int]
    ) -> Tensor | None:
        """Return the samples with at least one valid input value.

        Args:
            inputs: Inputs by name.
            valid: Valid values by input name, bool. None: all values.
            shape: Shape of the output.

        Returns:
            Valid samples, bool, shape (batch, 1, 1, 1). None: all samples.
        """
        if valid is None or self.input_spec.name not in valid:
            return None
        return reduce(valid[self.input_spec.name], "b c y x -> b 1 1 1", "any")

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        *,
        valid: Mapping[str, Tensor] | None = None,
        context: SampleContext | None = None,
    ) -> Tensor:
        """Compute the features of a batch.

        Args:
            inputs: Normalized inputs by name, each of shape ``(batch, *layout)``.
            valid: Valid values by input name, bool. Default: all values.
            context: Location and time of the samples; not used. Default: None.

        Returns:
            Features, shape (batch, num_features, y, x), on the output grid.
        """
        fields, mask = self._input_and_mask(inputs, valid)
        parts = [each(fields[:, i : i + 1]) for i, each in enumerate(self._chains())]
        regridded, present = self.regrid(torch.cat(parts, 1), mask)
        x = torch.cat([regridded, present.to(regridded).mean(1, keepdim=True)], 1)
        features = self.network(x)
        if tuple(x.shape[-2:]) == self.working_size and self.target_size is not None:
            height, width = self.target_size  # the last block may extend beyond the target grid
            features = features[..., :height, :width]
        if self.local is not None:
            features = torch.cat([features, self.local.expand(len(features), -1, -1, -1)], 1)
        if self.interpolate is not None:
            finer, _ = self.interpolate(self.linear(fields[:, :1]), mask[:, :1])
            features = torch.cat([features, finer], 1)
        return features

    def _input_and_mask(
        self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        fields = inputs[self.input_spec.name]
        mask = (valid or {}).get(self.input_spec.name)
        return fields, torch.ones_like(fields, dtype=torch.bool) if mask is None else mask

    def _chains(self) -> list[ScalerChain]:
        return [each for each in self.transforms if isinstance(each, ScalerChain)]


def _transforms_of(channel: str, transforms: Mapping[str, Sequence[str]]) -> Sequence[str]:
    """Return the names of the transforms of a channel."""
    prefix = max((each for each in transforms if channel.startswith(each)), key=len, default=None)
    return () if prefix is None else tuple(transforms[prefix])


def _is_fitted(transform: Scaler) -> bool:
    """Return whether all statistics are finite; a transform without statistics is fitted."""
    return all(bool(torch.isfinite(each).all()) for each in transform.buffers())


def build(
    model_args: Mapping[str, Any],
    *,
    inputs: Sequence[InputSpec],
    size: tuple[int, int] | None = None,
    grids: GridPair | None = None,
) -> FieldNetwork:
    """Build a network of fields.

    Args:
        model_args: ``network``, a key of `NETWORKS`, and its options; ``factor``, ``transforms``, ``local``
            and ``skip`` of `FieldNetwork`.
        inputs: Input specifications, exactly one.
        size: Size of the input; ignored, because every size is supported.
        grids: Input grid and target grid. Default: the model is not bound to a grid.

    Raises:
        OptionError: The network or an option is unknown.
    """
    options = dict(model_args)
    name = options.pop("network")
    if name not in NETWORKS:
        near = nearest(name, NETWORKS)
        raise OptionError(
            f"unknown network {name!r}; known: {', '.join(NETWORKS)}"
            + (f". Did you mean {near[0]!r}?" if near else "")
        )
    (given,) = inputs
    own = {key: options.pop(key) for key in ("transforms", "local", "skip") if key in options}
    factor = int(options.pop("factor", 1))
    known = [
        key for key in inspect.signature(NETWORKS[name]).parameters if key not in ("in_channels", "factor")
    ]
    if unknown := sorted(set(options) - set(known)):
        raise OptionError(
            f"{name} has no option {unknown[0]!r}; known: {', '.join(known)}, factor, transforms, local, skip"
        )
    network = NETWORKS[name](len(given.channels) + 1, factor=factor, **options)
    return FieldNetwork(
        network,
        given,
        factor=factor,
        grids=grids,
        transforms=own.get("transforms"),
        local=int(own.get("local", 0)),
        skip=bool(own.get("skip", False)),
    )
