"""Any network of segmentation-models-pytorch as the backbone of a task that answers with a map."""

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


# A vision transformer takes one size alone unless its positions are interpolated.
_NETWORK_KWARGS: dict[str, dict[str, Any]] = {"dpt": {"dynamic_img_size": True}}


class SmpNetwork(MultiSourceNetwork):
    """A network of smp over all sources; its last convolution is left to the head.

    Args:
        inputs: Of the model.

    Keyword Args:
        network: smp's name in small letters, such as ``"unet"`` or ``"deeplabv3plus"``.
        encoder: smp's name, such as ``"resnet18"``, or ``"tu-"`` and a name of timm's.
        frames: Of a source that changes with time, the ``"last"`` window, or all ``"stacked"`` as channels.
        windows: Of stacked ones how many; a shorter sequence begins with windows of which nothing is known,
            of a longer one the last are taken.
        sources: Names of the inputs that are taken; None: all.
        presence: Also one map a source and window, the share of its channels that is there.
        source_dropout: Probability in training that a source of a sample is missing.

    Attributes:
        num_features: Of every cell.

    Shape:
        inputs ``(batch, time, channel, y, x)`` or ``(batch, channel, y, x)``, y and x as smp takes them ->
        ``(batch, num_features, y, x)``.

    Raises:
        OptionError: smp cannot build this.
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
            raise OptionError(f"frames={frames!r} is not known; choose last or stacked")
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
        head.set_submodule(where, nn.Identity())  # what makes a coarse map finer stays
        self.num_features: int = last.in_channels
        # The coarsest maps of DPT are half as fine as the patches.
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
        maps = [part for source in self.sources(inputs, valid) for part in self._stack_channels(source)]
        stack = torch.cat(maps, dim=1)
        check_size(stack, self.divisor, self.name)
        return self.model(stack)

    def _stack_channels(self, source: SourceMaps) -> list[Tensor]:
        """Values of a source and what is there, every window's as channels ``(batch, channel, y, x)``."""
        parts = [source.values, source.valid_fraction] if self.add_indicator else [source.values]
        times = self.seq_len if "time" in source.spec.layout.split() else 1
        return [rearrange(last_time_steps(part, times), "b t c y x -> b (t c) y x") for part in parts]


def build(
    model_args: Mapping[str, Any], *, inputs: tuple[InputSpec, ...], size: tuple[int, int] | None
) -> SmpNetwork:
    """The network that `arch` describes by the keywords of `SmpNetwork`."""
    check_options(SmpNetwork, model_args, "a network of smp")
    return SmpNetwork(inputs, **model_args)
