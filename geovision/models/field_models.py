"""Networks of fields as models: what stands before them, whatever the network.

    fields ──▶ transform of each channel ──▶ onto the working grid ──▶ network ──▶ features
    masks  ──────────────────────────────────────────▶ presence, one channel ──┘

The working grid is that of the answer in blocks of `factor` cells, which the network refines. Without grids,
it is that of the input, at any size.
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
"""By name: called with (channels, factor=, …); `forward(x, size)` gives features."""


class FieldNetwork(nn.Module):
    """A network with transforms, masks and grids.

    Args:
        network: One of `NETWORKS`, built.
        input_spec: The input, of one layout ``channel y x``.
        factor: How many times finer the network's answer is than the grid that it works on.
        grids: Of the input and of the answer; None: bound to none.
        transforms: Names of the transforms of a channel, by the prefix of its name. The longest prefix
            applies, ``""`` to all other channels. Default: no transform.
        local: Learned fields of the answer's grid that stand beside the features: what is the same every
            day, such as relief; 0: none. They need grids.
        skip: The interpolated first channel is a feature too. The head has to learn what to make of it;
            `geovision.models.residual_learning` begins from it.

    Shape:
        ``(batch, channel, y, x)``, normalised -> ``(batch, num_features, factor y, factor x)``, or on the
        grid of the answer.
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
            raise OptionError(f"local={local} fields stand on the grid of the answer; give grids=")
        self.local = nn.Parameter(torch.zeros(local, *grids.target.size)) if local and grids else None
        own: Any = network.num_features
        self.num_features: int = own + local + skip
        self.interpolate = Regrid(grids, factor) if skip else None
        self.linear = StandardScaler() if skip else Scaler()

    def fit_statistics(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> None:
        """Fit the transforms, unless they are."""
        fields, there = self._input_and_mask(inputs, valid)
        if self.interpolate is not None and not _is_fitted(self.linear):
            self.linear.fit(fields[:, :1], there[:, :1])
        for index, each in enumerate(self._chains()):
            if not _is_fitted(each):
                channel = self.input_spec.channels[index].name
                try:
                    each.fit(fields[:, index : index + 1], there[:, index : index + 1])
                except InputError as error:
                    raise InputError(f"{channel}: {str(error).removeprefix('channel 0 ')}") from error

    def valid_mask(
        self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor] | None, shape: Sequence[int]
    ) -> Tensor | None:
        """Where something went in at all: a day that is missing everywhere has no answer."""
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
        fields, there = self._input_and_mask(inputs, valid)
        parts = [each(fields[:, i : i + 1]) for i, each in enumerate(self._chains())]
        moved, present = self.regrid(torch.cat(parts, 1), there)
        x = torch.cat([moved, present.to(moved).mean(1, keepdim=True)], 1)
        features = self.network(x)
        if tuple(x.shape[-2:]) == self.working_size and self.target_size is not None:
            height, width = self.target_size  # its last block may reach beyond
            features = features[..., :height, :width]
        if self.local is not None:
            features = torch.cat([features, self.local.expand(len(features), -1, -1, -1)], 1)
        if self.interpolate is not None:
            finer, _ = self.interpolate(self.linear(fields[:, :1]), there[:, :1])
            features = torch.cat([features, finer], 1)
        return features

    def _input_and_mask(
        self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        fields = inputs[self.input_spec.name]
        there = (valid or {}).get(self.input_spec.name)
        return fields, torch.ones_like(fields, dtype=torch.bool) if there is None else there

    def _chains(self) -> list[ScalerChain]:
        return [each for each in self.transforms if isinstance(each, ScalerChain)]


def _transforms_of(channel: str, transforms: Mapping[str, Sequence[str]]) -> Sequence[str]:
    """Return the names of the transforms of a channel."""
    prefix = max((each for each in transforms if channel.startswith(each)), key=len, default=None)
    return () if prefix is None else tuple(transforms[prefix])


def _is_fitted(transform: Scaler) -> bool:
    """Whether every statistic is a number; a transform without any is."""
    return all(bool(torch.isfinite(each).all()) for each in transform.buffers())


def build(
    model_args: Mapping[str, Any],
    *,
    inputs: Sequence[InputSpec],
    size: tuple[int, int] | None = None,
    grids: GridPair | None = None,
) -> FieldNetwork:
    """A network of `NETWORKS` as a model of fields.

    Args:
        model_args: ``network`` and its options; ``factor``; ``transforms``, names by prefix of the channel;
            ``local``; ``skip``.
        size: Any will do.

    Raises:
        OptionError: A network or an option that is not known.
    """
    options = dict(model_args)
    name = options.pop("network")
    if name not in NETWORKS:
        near = nearest(name, NETWORKS)
        raise OptionError(
            f"network {name!r}; known: {', '.join(NETWORKS)}"
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
            f"{name} has no option {unknown[0]!r}; it has {', '.join(known)}, factor, transforms, local, skip"
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
