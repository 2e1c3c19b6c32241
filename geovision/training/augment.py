"""Random augmentation of batches, and mixing of samples with their targets.

All functions work on whole batches, on the device of the model, with random parameters for each sample.
Geometric changes apply to inputs, masks and gridded targets; colors stay in the valid range of the channel.
The transforms of torchvision draw one set of parameters for a whole batch, and Mixup of timm has no masks of
missing values, so neither is used. All random numbers come from torch's global generator, which the trainer
seeds before every step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from geovision.errors import OptionError
from geovision.spec import Augment, ClassTarget, InputSpec, MaskTarget, Target
from geovision.training.data_loading import Batch

__all__ = ["Augmentation", "mix_samples"]


class Augmentation:
    """Geometric and color augmentation of batches for one model.

    Args:
        augment: Settings of the augmentation.
        inputs: Inputs of the model. Geometric changes apply to those whose layout ends in ``y x``, color
            changes to the first input.
        target: Target of the model; masks and fields are transformed with the inputs.
        size: Height and width of the first input after augmentation, in cells. Default: None, unchanged.

    Raises:
        OptionError: Colors change, but the first input has no layout ``channel y x``.
    """

    def __init__(
        self,
        augment: Augment,
        inputs: Sequence[InputSpec],
        target: Target,
        *,
        size: tuple[int, int] | None = None,
    ) -> None:
        self.augment = augment
        self.first_input = inputs[0]
        self.is_dense = {spec.name for spec in inputs if spec.layout.split()[-2:] == ["y", "x"]}
        self.target = target
        self.size = size
        changes_color = bool(augment.brightness or augment.contrast or augment.saturation)
        self.is_color = changes_color and self.first_input.layout == "channel y x"
        if changes_color and not self.is_color:
            raise OptionError(
                f"input {self.first_input.name!r} has the layout ({self.first_input.layout}); a recipe that "
                "changes colors expects (channel y x)"
            )

    def __call__(self, batch: Batch) -> Batch:
        """Return the augmented batch; its values keep their units.

        Args:
            batch: Batch to augment.
        """
        batch = self._transform_geometry(batch)
        if not self.is_color:
            return batch
        name = self.first_input.name
        return batch._replace(inputs=batch.inputs | {name: self._jitter_color(batch.inputs[name])})

    # --- geometry ---------------------------------------------------------------------------------

    def _transform_geometry(self, batch: Batch) -> Batch:
        augment, first = self.augment, batch.inputs[self.first_input.name]
        if self.first_input.name not in self.is_dense:
            return batch
        warps = (
            augment.crop_area != (1.0, 1.0)
            or augment.rotate
            or augment.aspect != 1
            or augment.zoom
            or augment.translate
        )
        resizes = self.size is not None and tuple(first.shape[-2:]) != self.size
        if warps:
            return self._apply_transform(
                batch, _Warp(*_sample_affine(augment, first), padding_mode=_PADDING_MODES[augment.fill])
            )
        if resizes:
            assert self.size is not None
            batch = self._apply_transform(batch, _Resize())
        if augment.flip_x or augment.flip_y:
            batch = self._apply_transform(batch, _Flip(*_sample_flips(augment, len(first), first.device)))
        return batch

    def _apply_transform(self, batch: Batch, move: _SpatialTransform) -> Batch:
        inputs, valid = dict(batch.inputs), dict(batch.valid)
        for name in self.is_dense & set(inputs):
            size = self.size if name == self.first_input.name and self.size else inputs[name].shape[-2:]
            mask = valid.get(name)
            inputs[name], present = _transform_masked(move, inputs[name], mask, tuple(size), smooth=True)
            if present is not None:
                valid[name] = present
        target = batch.target
        if not isinstance(self.target, ClassTarget):
            smooth = not isinstance(self.target, MaskTarget)
            mask = valid.get("target")
            target, present = _transform_masked(move, target, mask, tuple(target.shape[-2:]), smooth=smooth)
            if present is not None:
                valid["target"] = present
        return batch._replace(inputs=inputs, valid=valid, target=target)

    # --- color ------------------------------------------------------------------------------------

    def _jitter_color(self, values: Tensor) -> Tensor:
        """Change the colors of each sample within the valid range."""
        augment, shape = self.augment, (len(values), 1, 1, 1)

        def factor(largest_change: float) -> Tensor:
            return 1 + largest_change * _uniform(len(values), values.device).view(shape)

        if augment.brightness:
            values = values * factor(augment.brightness)
        if augment.contrast:
            mean = values.mean((1, 2, 3), keepdim=True)
            values = torch.lerp(mean, values, factor(augment.contrast))
        if augment.saturation:
            gray = values.mean(1, keepdim=True)
            values = torch.lerp(gray, values, factor(augment.saturation))
        limits = torch.tensor([c.valid_range for c in self.first_input.channels], device=values.device)
        low, high = limits.T.unsqueeze(-1).unsqueeze(-1)
        return values.clamp(low, high)


def _uniform(count: int, device: torch.device) -> Tensor:
    return torch.rand(count, device=device) * 2 - 1


def _sample_flips(augment: Augment, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Select the samples to mirror left-right and top-bottom, bool, shape ``(count,)`` each."""
    x = (torch.rand(count, device=device) < 0.5) & augment.flip_x
    y = (torch.rand(count, device=device) < 0.5) & augment.flip_y
    return x, y


def _sample_affine(augment: Augment, like: Tensor) -> tuple[Tensor]:
    """Return one random affine map per sample, shape ``(batch, 2, 3)``.

    The map combines crop, mirroring and rotation. It converts positions in the result to positions in the
    sample, both from -1 to 1 across the grid.
    """
    count, device = len(like), like.device
    height, width = like.shape[-2:]
    least, most = augment.crop_area
    side = (least + (most - least) * torch.rand(count, device=device)).sqrt()
    shape = (0.5 * math.log(augment.aspect) * _uniform(count, device)).exp()
    wide, high = (side * shape).clamp(max=1), (side / shape).clamp(max=1)
    angle = math.radians(augment.rotate) * _uniform(count, device)
    x, y = _crop_centers(augment, (wide, width), (high, height))
    if augment.zoom:
        zoom = 1 + augment.zoom * _uniform(count, device)
        wide, high = wide * zoom, high * zoom
    flip_x, flip_y = _sample_flips(augment, count, device)
    wide, high = torch.where(flip_x, -wide, wide), torch.where(flip_y, -high, high)
    # A rotation is a shear in coordinates from -1 to 1 if height and width differ.
    tall = height / width
    top = torch.stack([wide * angle.cos(), -high * angle.sin() * tall, x], dim=1)
    bottom = torch.stack([wide * angle.sin() / tall, high * angle.cos(), y], dim=1)
    return (torch.stack([top, bottom], dim=1),)


def _crop_centers(
    augment: Augment, wide: tuple[Tensor, int], high: tuple[Tensor, int]
) -> tuple[Tensor, Tensor]:
    """Return the centers of crops, from -1 to 1."""
    if augment.translate is None:
        return _random_center(*wide), _random_center(*high)
    # The coordinates span 2, so a fraction of the image is twice as much in coordinates.
    most = 2 * augment.translate
    return most * _uniform(len(wide[0]), wide[0].device), most * _uniform(len(high[0]), high[0].device)


def _random_center(extent: Tensor, cells: int) -> Tensor:
    """Return random centers of windows, from -1 to 1.

    Windows start at whole cells. A window that is not scaled or rotated is therefore not blurred, and its
    texture is the same in training and inference.
    """
    room = (cells * (1 - extent)).floor()
    first = (torch.rand_like(extent) * (room + 1)).floor().clamp(max=room)
    return 2 * first / cells - 1 + extent


class _SpatialTransform:
    """Geometric transform that is the same for every grid of a sample."""

    def __call__(self, values: Tensor, size: tuple[int, ...], *, smooth: bool) -> Tensor:
        """Transform values onto a grid.

        Args:
            values: Values, shape ``(batch, plane, y, x)``.
            size: Height and width of the result, in cells.
            smooth: Whether to interpolate bilinearly; else the nearest cell is used.
        """
        raise NotImplementedError


_PADDING_MODES = {"mirror": "reflection", "zero": "zeros"}
"""Padding modes of `grid_sample`, by `Augment.fill`."""


class _Warp(_SpatialTransform):
    def __init__(self, affine: Tensor, *, padding_mode: str) -> None:
        self.affine, self.padding_mode = affine, padding_mode

    def __call__(self, values: Tensor, size: tuple[int, ...], *, smooth: bool) -> Tensor:
        grid = F.affine_grid(self.affine, [len(values), 1, *size], align_corners=False)
        mode = "bilinear" if smooth else "nearest"
        return F.grid_sample(values, grid, mode=mode, padding_mode=self.padding_mode, align_corners=False)


class _Resize(_SpatialTransform):
    def __call__(self, values: Tensor, size: tuple[int, ...], *, smooth: bool) -> Tensor:
        if tuple(values.shape[-2:]) == tuple(size):
            return values
        if smooth:
            return F.interpolate(values, size=list(size), mode="bilinear", antialias=True)
        return F.interpolate(values, size=list(size), mode="nearest-exact")


class _Flip(_SpatialTransform):
    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x.view(-1, 1, 1, 1), y.view(-1, 1, 1, 1)

    def __call__(self, values: Tensor, size: tuple[int, ...], *, smooth: bool) -> Tensor:
        if self.x.any():
            values = torch.where(self.x, values.flip(-1), values)
        return torch.where(self.y, values.flip(-2), values) if self.y.any() else values


def _transform_masked(
    move: _SpatialTransform, values: Tensor, mask: Tensor | None, size: tuple[int, ...], *, smooth: bool
) -> tuple[Tensor, Tensor | None]:
    """Transform values with a layout ending in ``y x``, and their mask.

    A cell between valid and missing ones is the mean of the valid ones with the weights of the interpolation.
    It is valid if these have at least half of the weight. The mask is None if `mask` is None.
    """
    leading = values.shape[1:-2]
    planes = values.float().flatten(1, -3)
    if mask is None:
        return move(planes, size, smooth=smooth).unflatten(1, leading), None
    weight = mask.expand_as(values).float().flatten(1, -3)
    share = move(weight, size, smooth=smooth)
    total = move(torch.where(weight > 0, planes, 0.0) * weight, size, smooth=smooth)
    moved = (total / share.clamp_min(1e-6)).unflatten(1, leading)
    return moved, (share >= 0.5).unflatten(1, leading)


# --- mixing -------------------------------------------------------------------------------------


def mix_samples(batch: Batch, augment: Augment) -> Batch:
    """Mix each sample with its neighbor in the batch.

    All samples of the batch have the same weight.

    Mixup (Zhang et al. 2018, arXiv:1710.09412) adds both samples, ``x = a x1 + (1 - a) x2``, with a from
    Beta(mixup, mixup). CutMix (Yun et al. 2019, arXiv:1905.04899) inserts a rectangle of the other sample
    into the image; a is then the fraction of the remaining area. Targets are mixed with the same weight.

    Args:
        batch: Batch whose targets are class probabilities, shape ``(batch, class)``.
        augment: Settings of the augmentation.

    Returns:
        The mixed batch, or the same batch if mixing is off or does not apply to it.
    """
    rates = {"mixup": augment.mixup, "cutmix": augment.cutmix}
    methods = [name for name, rate in rates.items() if rate > 0]
    if not methods or len(batch.target) < 2 or float(torch.rand(())) >= augment.mix_probability:
        return batch
    method = methods[int(torch.randint(len(methods), ()))]
    rate = torch.tensor(rates[method])
    share = float(torch.distributions.Beta(rate, rate).sample())
    box = None
    if method == "cutmix":
        box, share = _cutmix_box(next(iter(batch.inputs.values())), share)
    inputs = {name: _blend(values, share, box) for name, values in batch.inputs.items()}
    # A value is missing in the mixture if it is missing in one of the two samples.
    valid = {name: mask & mask.roll(1, 0) for name, mask in batch.valid.items()}
    return batch._replace(inputs=inputs, valid=valid, target=_blend(batch.target, share, None))


def _cutmix_box(image: Tensor, share: float) -> tuple[tuple[slice, slice], float]:
    """Return a random rectangle, and the remaining fraction of the image area.

    The remaining fraction is about `share`, up to whole cells.
    """
    height, width = image.shape[-2:]
    side = math.sqrt(1 - share)
    tall, wide = round(height * side), round(width * side)
    top = int(torch.randint(height - tall + 1, ()))
    left = int(torch.randint(width - wide + 1, ()))
    box = slice(top, top + tall), slice(left, left + wide)
    return box, 1 - tall * wide / (height * width)


def _blend(values: Tensor, share: float, box: tuple[slice, slice] | None) -> Tensor:
    other = values.roll(1, 0)
    if box is None or values.ndim < 4:
        return torch.lerp(other, values, share)
    mixed = values.clone()
    mixed[..., box[0], box[1]] = other[..., box[0], box[1]]
    return mixed
