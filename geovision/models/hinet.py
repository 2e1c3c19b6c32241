"""HINet (Zhang et al. 2024, doi:10.12347/j.ycyk.20240520002) for hail.

The sources are radar, satellite, a numerical model and terrain. The structure is::

    for each source that changes with time:
        H = TMC-STLSTM, two layers (pixel_unshuffle_4 [X_1 .. X_T])       last hidden state of the top layer
        map = latest(X) + pixel_shuffle_4 (Conv 1x1 (H))                  channel k remains variable k
    fused = MDFFM [radar 1, FY4B 5, ERA5 5, DEM 5]                        16 maps, in the order of Fig. 11
    features = UCUNet(fused);  logit = Conv 1x1 (features), part of the head

Published: the sequence of modules, their names and sketches, and 16 maps as the input of UCUNet. Our
reconstruction: the cell (`geovision.models.tmc`), widths, patches of 4 x 4 cells, and the residual. The radar
becomes one map, so its residual refers to the largest reflectivity in the column. X consists of the channels
of the source and the fraction of valid channels.

The option `modules` selects a variant of the published ablation. The replacement of a missing module is our
reading::

    "stlstm"     ST-LSTM over all sources in one stack -> 16 maps, from which the head computes the logit
    "tmc"        the same with TMC-STLSTM
    "tmc-mdffm"  one branch per source, joined by MDFFM -> 16 maps
    "all"        "tmc-mdffm" followed by UCUNet
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
    """Recurrent encoder of a sequence of maps.

    It works on patches of 4 x 4 cells.

    Args:
        stack: Recurrent stack, with 16 input channels per channel of the sequence.
        filters: Number of output maps.

    Shape:
        ``(batch, time, channel, y, x)``, y and x multiples of 4 -> ``(batch, filters, y, x)``.
    """

    def __init__(self, stack: RecurrentStack, filters: int) -> None:
        super().__init__()
        self.stack = stack
        self.project = nn.Conv2d(stack.num_features, filters * _PATCH_SIZE**2, 1)

    def forward(self, sequence: Tensor) -> Tensor:
        """Encode a sequence, shape (batch, time, channel, y, x)."""
        hidden = self.stack(F.pixel_unshuffle(sequence, _PATCH_SIZE))
        return F.pixel_shuffle(self.project(hidden), _PATCH_SIZE)


class MDFFM(nn.Module):
    """Multi-source data feature fusion (MDFFM).

    The maps of all sources are concatenated. In cells in which a source is never valid, each of its maps has
    a learned value. A missing value therefore differs from an average value.

    Args:
        channels: Number of maps of each source, in order.
        batch_norm: Normalize the maps of each source by batch normalization first. Default: False.

    Shape:
        For each source, maps ``(batch, channel, y, x)`` and valid cells ``(batch, 1, y, x)`` ->
        ``(batch, all channels, y, x)``.
    """

    def __init__(self, channels: Sequence[int], *, batch_norm: bool = False) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(c) if batch_norm else nn.Identity() for c in channels)
        self.missing = nn.ParameterList(nn.Parameter(torch.zeros(c, 1, 1)) for c in channels)

    def forward(self, maps: Sequence[Tensor], valid: Sequence[Tensor]) -> Tensor:
        """Concatenate the maps of all sources.

        Args:
            maps: Maps of each source, shape (batch, channel, y, x).
            valid: Cells in which each source is valid at any time, bool, shape (batch, 1, y, x).
        """
        every = zip(maps, valid, self.norms, self.missing, strict=True)
        return torch.cat([torch.where(mask, norm(each), fill) for each, mask, norm, fill in every], dim=1)


class HINet(MultiSourceNetwork):
    """HINet, described in the module docstring.

    Args:
        inputs: Input specifications of the model. The first input is the radar.
        modules: Variant of the ablation: ``"stlstm"``, ``"tmc"``, ``"tmc-mdffm"`` or ``"all"``. Default:
            ``"all"``.
        sources: Names of the inputs that the network uses. Default: all.
        width: Width d of the recurrent cells. Default: 32.
        layers: Number of layers of a recurrent stack. Default: 2.
        kernel: Side of the recurrent convolutions, in patches. Default: 5.
        attention: Attention of the memories, ``"sdp"`` or ``"opa"``. Default: ``"sdp"``.
        heads: Number of heads of the relational memory. Default: 4.
        retention: Retention of the relational memory, above 0 and at most 1. Default: 1, as published.
        unet_width: Number of channels of the first stage of UCUNet. Default: 32.
        ucm: Reading of the connection modules, ``"strided"`` or ``"valid"``. Default: ``"strided"``.
        normalize_sources: Use batch normalization in MDFFM. Default: False.
        source_dropout: Probability that a source of a sample is masked during training. Default: 0.
        checkpointing: Recompute the activations of each time in the backward pass, which needs less memory
            and more time. Default: False.

    Attributes:
        num_features: Number of features per cell: `unet_width`, or the number of fused maps (16) without
            UCUNet.
        fused_channels: Source and channel of each map that `fuse` returns.
        layer_channels: Names of the channels of the layer that returns these maps, for attributions.

    Shape:
        Inputs ``(batch, time, channel, y, x)`` and ``(batch, channel, y, x)``, y and x multiples of 8, any
        number of times -> ``(batch, num_features, y, x)``.

    Raises:
        OptionError: The variant or another option is unknown.
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
        normalize_sources: bool = False,
        source_dropout: float = 0.0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if modules not in get_args(HINetVariant):
            raise OptionError(
                f"modules={modules!r} is unknown; choose one of {', '.join(get_args(HINetVariant))}"
            )
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
            # All sources are in one stack, with one map of the fraction of valid channels per source.
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
            self.mdffm = MDFFM([len(_fused_channels(spec)) for spec in specs], batch_norm=normalize_sources)
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
        """Compute the features of a batch.

        Args:
            inputs: Normalized inputs by name, each of shape ``(batch, *layout)``.
            valid: Valid values by input name, bool. Default: all values.
            context: Location and time of the samples; not used. Default: None.

        Returns:
            Features, shape (batch, num_features, y, x).
        """
        fused = self.fuse(inputs, valid=valid)
        return fused if self.unet is None else self.unet(fused)

    def fuse(self, inputs: Mapping[str, Tensor], *, valid: Mapping[str, Tensor] | None = None) -> Tensor:
        """Encode all sources to maps without a time axis.

        Args:
            inputs: Normalized inputs by name.
            valid: Valid values by input name, bool. Default: all values.

        Returns:
            Maps, shape (batch, fused channel, y, x).
        """
        sources = self.sources(inputs, valid)
        check_size(sources[0].values, UCUNet.divisor, "HINet")
        if self.single is not None:
            return self.single(stack_sources(sources))
        return self.mdffm(
            [self._encode_source(each) for each in sources], [each.any_valid for each in sources]
        )

    def _encode_source(self, source: SourceMaps) -> Tensor:
        """Encode one source to maps, shape (batch, channel, y, x)."""
        if not _has_time(source.spec):
            return source.values[:, 0]
        correction = self.branches[source.spec.name](stack_sources([source]))
        latest, present = source.latest_valid()
        return (
            _masked_max(latest, present) + correction
            if len(_fused_channels(source.spec)) == 1
            else latest + correction
        )


def _has_time(spec: InputSpec) -> bool:
    return "time" in spec.layout.split()


def _fused_channels(spec: InputSpec) -> list[tuple[str, str]]:
    """Return source and channel of each map of a source.

    Radar levels become one map.
    """
    units = {channel.unit for channel in spec.channels}
    if _has_time(spec) and units == {"dBZ"}:
        return [(spec.name, "maximum_reflectivity")]
    return [(spec.name, channel.name) for channel in spec.channels]


def _masked_max(values: Tensor, valid: Tensor) -> Tensor:
    """Return the largest valid value of all channels.

    The result has the shape (batch, 1, y, x). It is 0 in cells without a valid value.
    """
    lowest = torch.finfo(values.dtype).min
    largest = torch.where(valid, values, lowest).amax(1, keepdim=True)
    return torch.where(valid.any(1, keepdim=True), largest, 0.0)


def build(
    model_args: Mapping[str, Any], *, inputs: tuple[InputSpec, ...], size: tuple[int, int] | None
) -> HINet:
    """Build HINet.

    Args:
        model_args: Keyword arguments of `HINet`.
        inputs: Input specifications of the model.
        size: Size of the inputs; ignored, because every size that is a multiple of 8 is supported.

    Raises:
        OptionError: An option is unknown.
    """
    check_options(HINet, model_args, "HINet")
    return HINet(inputs, **model_args)
