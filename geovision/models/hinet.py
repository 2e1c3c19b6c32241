"""HINet (Zhang et al. 2024, doi:10.12347/j.ycyk.20240520002): hail from radar, satellite, model, terrain.

    for every source that changes with time:
        H = TMC-STLSTM, two layers (pixel_unshuffle_4 [X_1 .. X_T])       last hidden state of the top
        map = latest(X) + pixel_shuffle_4 (Conv 1x1 (H))                  channel k still means variable k
    fused = MDFFM [radar 1, FY4B 5, ERA5 5, DEM 5]                        16 maps, in the order of Fig. 11
    features = UCUNet(fused);  logit = Conv 1x1 (features), the head's

Published: the chain, the modules by name and sketch, 16 maps into UCUNet. Our reconstruction: the cell
(`geovision.models.tmc`), widths, patches of 4 x 4 cells, and the residual; for the radar, which becomes one
map, it is of the largest reflectivity in the column. X has, beside its channels, the share of them that is
there.

The published ablation of modules, by `modules`; what takes the place of a missing module is our reading:

    "stlstm"     ST-LSTM over all sources in one stack -> 16 maps, of which the head makes the logit
    "tmc"        the same with TMC-STLSTM
    "tmc-mdffm"  a branch for each source, joined by MDFFM -> 16 maps
    "all"        and UCUNet
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geovision.errors import OptionError
from geovision.models.layers.multisource import (
    MultiSourceNetwork,
    SourceMaps,
    SourceSelector,
    check_options,
    check_size,
    stack_sources,
)
from geovision.models.st_lstm import RecurrentCell, RecurrentStack, STLSTMCell
from geovision.models.tmc import Attention, TMCSTLSTMCell
from geovision.models.ucunet import UCMVariant, UCUNet
from geovision.spec import InputSpec, SampleContext

__all__ = ["MDFFM", "HINet", "HINetVariant", "RecurrentEncoder", "build"]

HINetVariant = Literal["stlstm", "tmc", "tmc-mdffm", "all"]

_PATCH_SIZE = 4


class RecurrentEncoder(nn.Module):
    """A sequence of maps to maps without time: a recurrent stack over patches of 4 x 4 cells.

    Args:
        stack: Over ``16 channels`` maps.
        filters: Maps that are made.

    Shape:
        ``(batch, time, channel, y, x)``, y and x multiples of 4 -> ``(batch, filters, y, x)``.
    """

    def __init__(self, stack: RecurrentStack, filters: int) -> None:
        super().__init__()
        self.stack = stack
        self.project = nn.Conv2d(stack.num_features, filters * _PATCH_SIZE**2, 1)

    def forward(self, sequence: Tensor) -> Tensor:
        hidden = self.stack(F.pixel_unshuffle(sequence, _PATCH_SIZE))
        return F.pixel_shuffle(self.project(hidden), _PATCH_SIZE)


class MDFFM(nn.Module):
    """Multi-source data feature fusion: the maps of all sources side by side.

    Where a source was never there, its maps hold a learnt number each, so that "missing" is told and
    "average" is not guessed.

    Args:
        channels: Maps of each source, in order.
        batch_norm: Batch normalisation of each source's maps first.

    Shape:
        for each source ``(batch, its channels, y, x)`` and where it was seen ``(batch, 1, y, x)`` ->
        ``(batch, all channels, y, x)``.
    """

    def __init__(self, channels: Sequence[int], *, batch_norm: bool = False) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(c) if batch_norm else nn.Identity() for c in channels)
        self.missing = nn.ParameterList(nn.Parameter(torch.zeros(c, 1, 1)) for c in channels)

    def forward(self, maps: Sequence[Tensor], valid: Sequence[Tensor]) -> Tensor:
        every = zip(maps, valid, self.norms, self.missing, strict=True)
        return torch.cat([torch.where(there, norm(each), gone) for each, there, norm, gone in every], dim=1)


class HINet(MultiSourceNetwork):
    """See the file.

    Args:
        inputs: Of the model; the first is the radar.

    Keyword Args:
        modules: Up to which module, see the file.
        sources: Names of the inputs that are taken; None: all.
        width: d, of the recurrent cells.
        layers: Of a stack.
        kernel: Side of the recurrent convolutions.
        attention: ``"sdp"`` or ``"opa"``, of the memories.
        heads: Of the relational memory.
        retention: Of the relational memory, 1 as published.
        unet_width: Of UCUNet's first stage.
        ucm: ``"strided"`` or ``"valid"``, reading of the connection modules.
        normalise_sources: Batch normalisation in MDFFM.
        source_dropout: Probability in training that a source of a sample is missing.
        checkpointing: Of the activations of each time: less memory in training, more time.

    Attributes:
        num_features: `unet_width`, or 16 without UCUNet.
        fused_channels: (source, channel) of each map that `fused` gives.
        layer_channels: Names of the channels of the layer that gives these maps, for explanations.

    Shape:
        inputs ``(batch, time, channel, y, x)`` and ``(batch, channel, y, x)``, y and x multiples of 8, any
        number of times -> ``(batch, num_features, y, x)``.
    """

    def __init__(
        self,
        inputs: Sequence[InputSpec],
        *,
        modules: HINetVariant = "all",
        sources: Sequence[str] | None = None,
        width: int = 32,
        layers: int = 2,
        kernel: int = 5,
        attention: Attention = "sdp",
        heads: int = 4,
        retention: float = 1.0,
        unet_width: int = 32,
        ucm: UCMVariant = "strided",
        normalise_sources: bool = False,
        source_dropout: float = 0.0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if modules not in get_args(HINetVariant):
            raise OptionError(f"modules={modules!r} is not known; choose {', '.join(get_args(HINetVariant))}")
        self.sources = SourceSelector(inputs, sources, dropout=source_dropout)

        def cell(channels: int) -> RecurrentCell:
            if modules == "stlstm":
                return STLSTMCell(channels, width, kernel)
            return TMCSTLSTMCell(
                channels, width, kernel, num_heads=heads, attention=attention, retention=retention
            )

        def stack(channels: int) -> RecurrentStack:
            inside = [cell(width) for _ in range(layers - 1)]
            return RecurrentStack(
                [cell(channels * _PATCH_SIZE**2), *inside], grad_checkpointing=checkpointing
            )

        specs = self.sources.specs
        self.fused_channels = tuple(pair for spec in specs for pair in _fused_channels(spec))
        count = len(self.fused_channels)
        self.layer_channels: dict[str, tuple[str, ...]] = {}
        self.single: RecurrentEncoder | None = None
        if modules in ("stlstm", "tmc"):
            # All sources in one stack, with a map of presence for each.
            self.single = RecurrentEncoder(
                stack(sum(len(spec.channels) for spec in specs) + len(specs)), count
            )
        else:
            self.branches = nn.ModuleDict(
                {
                    s.name: RecurrentEncoder(stack(len(s.channels) + 1), len(_fused_channels(s)))
                    for s in specs
                    if _has_time(s)
                }
            )
            self.mdffm = MDFFM([len(_fused_channels(spec)) for spec in specs], batch_norm=normalise_sources)
            self.layer_channels["mdffm"] = tuple(" ".join(pair) for pair in self.fused_channels)
        self.unet = UCUNet(count, unet_width, ucm_variant=ucm) if modules == "all" else None
        self.num_features = self.unet.num_features if self.unet is not None else count

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        *,
        valid: Mapping[str, Tensor] | None = None,
        context: SampleContext | None = None,
    ) -> Tensor:
        fused = self.fuse(inputs, valid=valid)
        return fused if self.unet is None else self.unet(fused)

    def fuse(self, inputs: Mapping[str, Tensor], *, valid: Mapping[str, Tensor] | None = None) -> Tensor:
        """The maps of all sources without time ``(batch, fused channel, y, x)``, from normalised inputs."""
        sources = self.sources(inputs, valid)
        check_size(sources[0].values, UCUNet.divisor, "HINet")
        if self.single is not None:
            return self.single(stack_sources(sources))
        return self.mdffm(
            [self._encode_source(each) for each in sources], [each.any_valid for each in sources]
        )

    def _encode_source(self, source: SourceMaps) -> Tensor:
        """One source without time ``(batch, channel, y, x)``."""
        if not _has_time(source.spec):
            return source.values[:, 0]
        correction = self.branches[source.spec.name](stack_sources([source]))
        latest, there = source.latest_valid()
        return (
            _masked_max(latest, there) + correction
            if len(_fused_channels(source.spec)) == 1
            else latest + correction
        )


def _has_time(spec: InputSpec) -> bool:
    return "time" in spec.layout.split()


def _fused_channels(spec: InputSpec) -> list[tuple[str, str]]:
    """(source, channel) of the maps that a source becomes: its own channels, or one of radar levels."""
    units = {channel.unit for channel in spec.channels}
    if _has_time(spec) and units == {"dBZ"}:
        return [(spec.name, "maximum_reflectivity")]
    return [(spec.name, channel.name) for channel in spec.channels]


def _masked_max(values: Tensor, there: Tensor) -> Tensor:
    """The largest value of all channels that are there ``(batch, 1, y, x)``; 0 where none is."""
    lowest = torch.finfo(values.dtype).min
    largest = torch.where(there, values, lowest).amax(1, keepdim=True)
    return torch.where(there.any(1, keepdim=True), largest, 0.0)


def build(
    model_args: Mapping[str, Any], *, inputs: tuple[InputSpec, ...], size: tuple[int, int] | None
) -> HINet:
    """The HINet that `arch` describes by the keywords of `HINet`; any `size` is taken."""
    check_options(HINet, model_args, "HINet")
    return HINet(inputs, **model_args)
