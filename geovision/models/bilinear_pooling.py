"""Bilinear pooling of the feature maps of a convolutional network.

Clouds are textures: Altocumulus differs from Stratocumulus in the repetition of its elements. The mean over a
map does not contain this information, but the second moments of the channels do (Gatys et al. 2015,
arXiv:1505.07376; Lin et al. 2015, arXiv:1504.07889). Signed square roots shorten their long tails (Perronnin
et al. 2010, doi:10.1007/978-3-642-15561-1_11).
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
    """Network of timm whose features are statistics of its stages.

    Args:
        backbone: Network of timm with stages (`forward_intermediates`).
        channels: Number of channels of each stage.
        moments: Index of the stage for the second moments, from 0. It has to be fine enough to contain
            texture, and coarse enough to have few channels.
        stages: Indices of the stages for the mean and standard deviation of each channel.
        whole: Append the pooled features of the network. Otherwise, the layers after the last used stage are
            removed.
        mirrored: Average the predictions over the image and its mirror image outside of training, because a
            sky has no preferred left and right. This doubles the computation.

    Attributes:
        num_features: Number of features.
        outlier_features: Features with the best out-of-distribution scores: means and standard deviations of
            the stages, which do not depend on the training on the classes.

    Shape:
        Image ``(batch, channel, y, x)``, normalized -> features ``(batch, num_features)``: means and standard
        deviations, second moments, pooled features. Their scales differ by orders of magnitude, so the head
        has to normalize them first.
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
        """Preferred layer for class activation maps, the stage of the second moments.

        All features depend on it, except the statistics of earlier stages.
        """
        return f"backbone.model.{self.backbone.stage_name(self.moments)}"

    @property
    def views(self) -> tuple[tuple[int, ...], ...]:
        """Axes along which each copy of an image is mirrored."""
        return ((), (-1,)) if self.mirrored else ((),)

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
            Features, shape (batch, num_features).
        """
        image = inputs[self.input_name]
        if self.training or not self.mirrored:
            return self._statistics(image)
        # `chunk` cannot be used, because the number of samples is dynamic in an exported graph.
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
    """Compute signed square roots of the second moments of the channels.

    The moments are ``m[i, j] = mean over y, x of maps[i] * maps[j]``. The result is ``sign(m) sqrt(|m|)`` of
    their upper triangle.

    Args:
        maps: Feature maps.

    Shape:
        ``(batch, channel, y, x)`` -> ``(batch, channel * (channel + 1) / 2)``, float32.
    """
    flat = rearrange(maps.float(), "b c y x -> b c (y x)")
    with torch.autocast(flat.device.type, enabled=False):  # sums over a map exceed the precision of bfloat16
        moments = einsum(flat, flat, "b i p, b j p -> b i j") / flat.shape[2]
    row, column = torch.triu_indices(flat.shape[1], flat.shape[1], device=flat.device)
    upper = moments[:, row, column]
    # The offset limits the slope of the root at zero.
    return upper.sign() * (upper.abs() + 1e-3).sqrt()


def _mean_and_std(maps: Tensor) -> Tensor:
    flat = rearrange(maps.float(), "b c y x -> b c (y x)")
    return torch.cat([flat.mean(2), (flat.var(2, correction=0) + 1e-5).sqrt()], dim=1)


def build(
    model_args: Mapping[str, Any], *, inputs: tuple[InputSpec, ...], size: tuple[int, int] | None
) -> BilinearPoolingBackbone:
    """Build a network with bilinear pooling.

    Args:
        model_args: ``moments``, ``stages``, ``whole`` and ``mirrored`` of `BilinearPoolingBackbone`, and the
            options of a timm backbone.
        inputs: Input specifications. The first one is used.
        size: Height and width of the input. None: that of the network.
    """
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
