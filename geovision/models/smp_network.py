"""Networks of segmentation-models-pytorch (smp) as backbones for dense predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import segmentation_models_pytorch as smp
import torch
from einops import rearrange
from torch import Tensor, nn

from geovision.errors import OptionError
from geovision.models.layers.multisource import (
    MultiSourceNetwork,
    SourceMaps,
    SourceSelector,
    check_options,
    check_size,
    last_time_steps,
)
from geovision.spec import InputSpec, SampleContext

__all__ = ["SmpNetwork", "build"]


# A vision transformer has a fixed input size unless its position embeddings are interpolated.
_NETWORK_KWARGS: dict[str, dict[str, Any]] = {"dpt": {"dynamic_img_size": True}}


class SmpNetwork(MultiSourceNetwork):
    """Network of smp over all sources.

    Its last convolution is replaced by the head.

    Args:
        inputs: Input specifications of the model.
        network: Name in smp in lower case, such as ``"unet"`` or ``"deeplabv3plus"``.
        encoder: Name of the encoder in smp, such as ``"resnet18"``, or ``"tu-"`` followed by a timm name.
        frames: Times of a source that changes with time: ``"last"``, or all ``"stacked"`` as channels.
            Default: ``"last"``.
        windows: Number of stacked times. A shorter sequence is padded with missing times at its start, and
            the last times of a longer one are used. Default: 20.
        sources: Names of the inputs that the network uses. Default: all.
        presence: Append one map per source and time with the fraction of its valid channels. Default: True.
        source_dropout: Probability that a source of a sample is masked during training. Default: 0.

    Attributes:
        num_features: Number of features per cell.
        divisor: Divisor of the height and width of the input, in cells.

    Shape:
        Inputs ``(batch, time, channel, y, x)`` or ``(batch, channel, y, x)``, y and x multiples of `divisor`
        -> ``(batch, num_features, y, x)``.

    Raises:
        OptionError: An option is unknown, or smp cannot build the network.
    """

    def __init__(
        self,
        inputs: Sequence[InputSpec],
        *,
        network: str,
        encoder: str,
        frames: Literal["last", "stacked"] = "last",
        windows: int = 20,
        sources: Sequence[str] | None = None,
        presence: bool = True,
        source_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if frames not in ("last", "stacked"):
            raise OptionError(f"frames={frames!r} is unknown; choose last or stacked")
        self.sources, self.add_indicator = SourceSelector(inputs, sources, dropout=source_dropout), presence
        self.seq_len = windows if frames == "stacked" else 1
        self.name = f"smp's {network} on {encoder}"
        channels = sum(
            (len(spec.channels) + presence) * (self.seq_len if "time" in spec.layout.split() else 1)
            for spec in self.sources.specs
        )
        try:
            model: Any = smp.create_model(
                network,
                encoder,
                encoder_weights=None,
                in_channels=channels,
                **_NETWORK_KWARGS.get(network, {}),
            )
        except (KeyError, ValueError, RuntimeError, AttributeError, TypeError) as error:
            raise OptionError(f"{self.name} cannot be built: {error}") from error
        head: nn.Module = model.segmentation_head
        *_, (where, last) = (
            (name, part) for name, part in head.named_modules() if isinstance(part, nn.Conv2d)
        )
        head.set_submodule(where, nn.Identity())  # the upsampling of the head remains
        self.num_features: int = last.in_channels
        # The coarsest maps of DPT have half the resolution of the patches.
        stride: int = model.encoder.output_stride * (2 if network == "dpt" else 1)
        self.divisor = stride if model.requires_divisible_input_shape else 1
        self.model: nn.Module = model

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
        maps = [part for source in self.sources(inputs, valid) for part in self._stack_channels(source)]
        stack = torch.cat(maps, dim=1)
        check_size(stack, self.divisor, self.name)
        return self.model(stack)

    def _stack_channels(self, source: SourceMaps) -> list[Tensor]:
        """Return the values and presence of a source, times as channels."""
        parts = [source.values, source.valid_fraction] if self.add_indicator else [source.values]
        times = self.seq_len if "time" in source.spec.layout.split() else 1
        return [rearrange(last_time_steps(part, times), "b t c y x -> b (t c) y x") for part in parts]


def build(
    model_args: Mapping[str, Any], *, inputs: tuple[InputSpec, ...], size: tuple[int, int] | None
) -> SmpNetwork:
    """Build a network of smp.

    Args:
        model_args: Keyword arguments of `SmpNetwork`.
        inputs: Input specifications of the model.
        size: Size of the inputs; ignored, because the network does not depend on it.

    Raises:
        OptionError: An option is unknown, or smp cannot build the network.
    """
    check_options(SmpNetwork, model_args, "a network of smp")
    return SmpNetwork(inputs, **model_args)
