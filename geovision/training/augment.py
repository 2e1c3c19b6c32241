"""Random changes of a batch that leave its answer unchanged, and mixing that changes both.

Everything works on whole batches with parameters of each sample's own, on the device of the model.
Geometry moves inputs, masks and gridded targets alike; colours stay within the channel's range.
All chance comes from torch's global generator, which the trainer seeds anew for every step.
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
    """The geometry and colours of an `Augment`, for one model.

    Args:
        augment: What may change.
        inputs: The model's inputs; those whose layout ends in ``y x`` are moved, and the first is
            coloured.
        target: Masks and fields are moved with the inputs.
        size: (height, width) that the first input leaves with; None: its own.
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
        colour = augment.brightness or augment.contrast or augment.saturation
        self.is_color = bool(colour) and self.first_input.layout == "channel y x"
        if colour and not self.is_color:
            raise OptionError(
                f"a recipe that changes colours needs (channel y x), not ({self.first_input.layout})"
            )

    def __call__(self, batch: Batch) -> Batch:
        """The batch changed, its values in the units they came in."""
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

    # --- colour -----------------------------------------------------------------------------------

    def _jitter_color(self, values: Tensor) -> Tensor:
        """Relative changes of each sample, clipped to the hard range of each channel."""
        augment, shape = self.augment, (len(values), 1, 1, 1)

        def factor(most: float) -> Tensor:
            return 1 + most * _uniform(len(values), values.device).view(shape)

        if augment.brightness:
            values = values * factor(augment.brightness)
        if augment.contrast:
            mean = values.mean((1, 2, 3), keepdim=True)
            values = torch.lerp(mean, values, factor(augment.contrast))
        if augment.saturation:
            grey = values.mean(1, keepdim=True)
            values = torch.lerp(grey, values, factor(augment.saturation))
        limits = torch.tensor([c.valid_range for c in self.first_input.channels], device=values.device)
        low, high = limits.T.unsqueeze(-1).unsqueeze(-1)
        return values.clamp(low, high)


def _uniform(count: int, device: torch.device) -> Tensor:
    return torch.rand(count, device=device) * 2 - 1


def _sample_flips(augment: Augment, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Which samples are mirrored left-right and top-bottom: bool ``(count,)`` each."""
    x = (torch.rand(count, device=device) < 0.5) & augment.flip_x
    y = (torch.rand(count, device=device) < 0.5) & augment.flip_y
    return x, y


def _sample_affine(augment: Augment, like: Tensor) -> tuple[Tensor]:
    """Crop, mirror and rotation of each sample as one affine map ``(batch, 2, 3)`` from the place in
    the result to the place in the sample, both from -1 to 1 across the grid."""
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
    # A turn by one angle on the ground is sheared in units of half a height and half a width.
    tall = height / width
    top = torch.stack([wide * angle.cos(), -high * angle.sin() * tall, x], dim=1)
    bottom = torch.stack([wide * angle.sin() / tall, high * angle.cos(), y], dim=1)
    return (torch.stack([top, bottom], dim=1),)


def _crop_centers(
    augment: Augment, wide: tuple[Tensor, int], high: tuple[Tensor, int]
) -> tuple[Tensor, Tensor]:
    """Middles of the crops, from -1 to 1 across the picture: anywhere, or shifted from its middle."""
    if augment.translate is None:
        return _random_center(*wide), _random_center(*high)
    # A shift by a fraction of the picture is twice that from -1 to 1.
    most = 2 * augment.translate
    return most * _uniform(len(wide[0]), wide[0].device), most * _uniform(len(high[0]), high[0].device)


def _random_center(extent: Tensor, cells: int) -> Tensor:
    """Random centre, from -1 to 1, of windows with these fractions of `cells`. They begin at whole
    cells: a window that is neither scaled nor turned is cut out and not blurred, so that a network
    that looks at texture sees in training what it will see later."""
    room = (cells * (1 - extent)).floor()
    first = (torch.rand_like(extent) * (room + 1)).floor().clamp(max=room)
    return 2 * first / cells - 1 + extent


class _SpatialTransform:
    """A change of place, the same for every grid of a sample."""

    def __call__(self, values: Tensor, size: tuple[int, ...], *, smooth: bool) -> Tensor:
        """`values` ``(batch, plane, y, x)`` moved onto a grid of `size`, nearest where not smooth."""
        raise NotImplementedError


_PADDING_MODES = {"mirror": "reflection", "zero": "zeros"}
"""`Augment.fill` in the words of `grid_sample`."""


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
    """Values of any layout ending in ``y x`` moved, and where they are there afterwards.

    A cell between present and missing ones takes the mean of the present, weighted as the
    interpolation weighs them, and counts as present where they have at least half of the weight.
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
    """Each sample mixed with its neighbour in the batch, by one share for the whole batch.

    mixup (Zhang et al. 2018, arXiv:1710.09412) adds the two, x = a x1 + (1 - a) x2, with a from
    Beta(mixup, mixup). CutMix (Yun et al. 2019, arXiv:1905.04899) puts a rectangle of the other
    into the picture; a is then the area that is left. Targets are mixed by the same share.

    Args:
        batch: `target` holds class probabilities ``(batch, class)``.
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
    # What is there only in one of the two is missing in their mixture.
    valid = {name: mask & mask.roll(1, 0) for name, mask in batch.valid.items()}
    return batch._replace(inputs=inputs, valid=valid, target=_blend(batch.target, share, None))


def _cutmix_box(picture: Tensor, share: float) -> tuple[tuple[slice, slice], float]:
    """A rectangle with about 1 - `share` of a picture's area, and the share that it leaves."""
    height, width = picture.shape[-2:]
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
