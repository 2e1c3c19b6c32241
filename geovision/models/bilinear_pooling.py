"""A convolutional network read by the statistics of its maps, not by their mean alone.

Clouds are textures: what tells Altocumulus from Stratocumulus is how its elements repeat, and the
mean over a map forgets that. The second moments of the channels keep it (Gatys et al. 2015,
arXiv:1505.07376; Lin et al. 2015, arXiv:1504.07889), with signed square roots against their long
tails (Perronnin et al. 2010, doi:10.1007/978-3-642-15561-1_11).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from einops import einsum, rearrange
from torch import Tensor, nn

from geovision.models.timm_backbone import TimmBackbone
from geovision.models.timm_backbone import build as build_backbone
from geovision.spec import InputSpec, SampleContext

__all__ = ["BilinearPoolingBackbone", "build", "second_moments"]


class BilinearPoolingBackbone(nn.Module):
    """A timm network whose features are statistics of its stages.

    Args:
        backbone: Any timm network with stages (`forward_intermediates`).
        channels: Channels of each of its stages.
        moments: Stage whose second moments are taken, from 0; fine enough to hold texture, coarse
            enough to have few channels.
        stages: Stages whose channels give mean and standard deviation.
        whole: Also the network's own pooled features. Without them what lies behind the last stage
            that is read is cut off.
        mirrored: In answers, the mean over the picture and its mirror image, as a sky knows no left
            and right; at twice the work.

    Attributes:
        outlier_features: Which features tell a strange picture best: means and deviations of the
            stages, before anything is learnt of the classes.

    Shape:
        image ``(batch, channel, y, x)``, normalised -> features ``(batch, num_features)``: means and
        deviations, second moments, pooled features. They differ in scale by orders of magnitude, so a
        head for them begins by normalising.
    """

    def __init__(
        self,
        backbone: TimmBackbone,
        channels: Sequence[int],
        *,
        moments: int,
        stages: Sequence[int],
        whole: bool,
        mirrored: bool,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.input_name = backbone.input_name
        self.mean, self.std, self.size = backbone.mean, backbone.std, backbone.size
        self.moments, self.stages = moments, tuple(stages)
        self.whole, self.mirrored = whole, mirrored
        self.taken = sorted({moments, *stages})
        if not whole:
            backbone.truncate_after(self.taken[-1])
        count = channels[moments]
        self.outlier_features = slice(0, 2 * sum(channels[stage] for stage in stages))
        self.num_features: int = (
            self.outlier_features.stop + count * (count + 1) // 2 + (backbone.num_features if whole else 0)
        )

    @property
    def explained_layer(self) -> str:
        """The layer whose maps tell best where a class is: the stage of the second moments, through
        which all that is read passes but for the statistics of earlier stages."""
        return f"backbone.model.{self.backbone.stage_name(self.moments)}"

    @property
    def views(self) -> tuple[tuple[int, ...], ...]:
        """The axes along which each passage of a picture in one batch is mirrored."""
        return ((), (-1,)) if self.mirrored else ((),)

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        *,
        valid: Mapping[str, Tensor] | None = None,
        context: SampleContext | None = None,
    ) -> Tensor:
        image = inputs[self.input_name]
        if self.training or not self.mirrored:
            return self._statistics(image)
        # Not chunked: how many samples there are is open in an exported graph.
        statistics = self._statistics(torch.cat([image, image.flip(-1)]))
        one, other = rearrange(statistics, "(mirrored b) f -> mirrored b f", mirrored=2)
        return (one + other) / 2

    def _statistics(self, image: Tensor) -> Tensor:
        network: Any = self.backbone.model
        found = network.forward_intermediates(
            image,
            indices=self.taken,
            output_fmt="NCHW",
            stop_early=not self.whole,
            intermediates_only=not self.whole,
        )
        last, maps = found if self.whole else (None, found)
        by_stage = dict(zip(self.taken, maps, strict=True))
        parts = [_mean_and_std(by_stage[stage]) for stage in self.stages]
        parts.append(second_moments(by_stage[self.moments]))
        if last is not None:
            parts.append(network.forward_head(last, pre_logits=True).float())
        return torch.cat(parts, dim=1)


def second_moments(maps: Tensor) -> Tensor:
    """Signed square roots of the second moments of the channels over the map.

    ``m[i, j] = mean over y, x of maps[i] * maps[j]``; the upper triangle, ``sign(m) sqrt(|m|)``.

    Shape:
        ``(batch, channel, y, x)`` -> ``(batch, channel * (channel + 1) / 2)``, float32.
    """
    flat = rearrange(maps.float(), "b c y x -> b c (y x)")
    with torch.autocast(flat.device.type, enabled=False):  # sums over a map need more digits than bfloat16
        moments = einsum(flat, flat, "b i p, b j p -> b i j") / flat.shape[2]
    row, column = torch.triu_indices(flat.shape[1], flat.shape[1], device=flat.device)
    upper = moments[:, row, column]
    # The offset keeps the slope of the root finite at zero.
    return upper.sign() * (upper.abs() + 1e-3).sqrt()


def _mean_and_std(maps: Tensor) -> Tensor:
    flat = rearrange(maps.float(), "b c y x -> b c (y x)")
    return torch.cat([flat.mean(2), (flat.var(2, correction=0) + 1e-5).sqrt()], dim=1)


def build(
    model_args: Mapping[str, Any], *, inputs: tuple[InputSpec, ...], size: tuple[int, int] | None
) -> BilinearPoolingBackbone:
    """The network that `arch` describes: as for a timm backbone, and ``moments`` (stage), ``stages``,
    ``whole`` and ``mirrored``."""
    own = ("moments", "stages", "whole", "mirrored")
    backbone = build_backbone({k: v for k, v in model_args.items() if k not in own}, inputs=inputs, size=size)
    info: Any = backbone.model.feature_info
    return BilinearPoolingBackbone(
        backbone,
        [stage["num_chs"] for stage in info],
        moments=model_args["moments"],
        stages=model_args["stages"],
        whole=model_args["whole"],
        mirrored=model_args["mirrored"],
    )
