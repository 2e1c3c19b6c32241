"""Validation of inputs in physical units, and their normalization in the model.

The two are separate on purpose. `check_sample` inspects values and raises errors. `Normalize` has no branch
that depends on data, so it is exported and compiled with the network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from geovision.errors import InputError
from geovision.spec import Channel, InputSpec

__all__ = ["Normalize", "check_sample", "to_physical"]


def to_physical(values: np.ndarray | Tensor, spec: InputSpec, *, where: str = "") -> Tensor:
    """Convert a sample or batch to float32 in physical units.

    If the input accepts integers, they are counts, and the full scale of their type corresponds to 1
    (uint8: 255). The scale depends on the type alone; it is never guessed from values.

    Args:
        values: Sample or batch.
        spec: Specification of the input.
        where: Path or index of the sample, quoted in errors. Default: none.

    Raises:
        InputError: The values are integers and the input does not accept them, or they are not numbers.
    """
    place = f"{where}: " if where else ""
    tensor = torch.as_tensor(values)
    if tensor.dtype in (torch.complex64, torch.complex128, torch.bool):
        raise InputError(f"{place}input {spec.name!r} has data type {tensor.dtype}; expected numbers")
    if tensor.is_floating_point():
        return tensor.float()
    if spec.integers == "refuse":
        raise InputError(
            f"{place}input {spec.name!r} is in {spec.channels[0].unit}, not in counts; "
            f"convert {tensor.dtype} to float in that unit"
        )
    return tensor.float() / torch.iinfo(tensor.dtype).max


def check_sample(sample: Tensor, spec: InputSpec, *, where: str = "", valid: Tensor | None = None) -> None:
    """Raise an error if a sample does not match its specification.

    Args:
        sample: One sample in physical units, with the axes of ``spec.layout``.
        spec: Specification of the input.
        where: Path or index of the sample, quoted in the message. Default: none.
        valid: Valid cells, bool, broadcastable to `sample`. Other cells are not validated. Default: all.

    Raises:
        InputError: The number of axes or channels is wrong, or a value is not finite or outside of the valid
            range. The message contains the channel, the unit, the observed values and a probable cause.
    """
    place = f"{where}: " if where else ""
    axes = spec.layout.split()
    if sample.ndim != len(axes):
        raise InputError(
            f"{place}input {spec.name!r} has {len(axes)} axes ({spec.layout}), "
            f"got shape {tuple(sample.shape)}"
        )
    count = sample.shape[spec.channel_axis]
    if count != len(spec.channels):
        names = ", ".join(channel.name for channel in spec.channels)
        raise InputError(
            f"{place}input {spec.name!r} has {len(spec.channels)} channels ({names}) along axis "
            f"{spec.channel_axis} of ({spec.layout}), got {count} in shape {tuple(sample.shape)}"
        )
    if 0 in sample.shape:
        raise InputError(f"{place}input {spec.name!r} is empty: shape {tuple(sample.shape)}")
    for index, channel in enumerate(spec.channels):
        values = sample.select(spec.channel_axis, index)
        if valid is not None:
            values = values[valid.expand_as(sample).select(spec.channel_axis, index)]
        _check_channel(values, channel, place)


def _check_channel(values: Tensor, channel: Channel, place: str) -> None:
    if values.numel() == 0:
        return
    unit = "" if channel.unit == "1" else f" {channel.unit}"
    bad = values.numel() - int(torch.isfinite(values).sum())
    if bad:
        raise InputError(
            f"{place}channel {channel.name!r}: {bad} of {values.numel()} values are NaN or infinite; "
            "mark missing cells in valid="
        )
    low, high = (float(values.min()), float(values.max()))
    least, most = channel.valid_range
    # Values may exceed the limits by a rounding error of float32.
    slack = 1e-6 * max(abs(least), abs(most), 1.0)
    if low >= least - slack and high <= most + slack:
        return
    largest = max(abs(low), abs(high))
    hint = next((s.hint for s in channel.unit_hints if s.above < largest <= s.upto), "")
    expected = f"expected {least:g} to {most:g}{unit}"
    raise InputError(
        f"{place}channel {channel.name!r}: values from {low:.4g} to {high:.4g}, {expected}"
        + (f" ({hint})" if hint else "")
    )


class Normalize(nn.Module):
    """Standardization of each channel, with missing values set to 0.

    The mean of the channel is subtracted and the result is divided by its standard deviation.

    Args:
        specs: Specifications of the inputs, with mean and standard deviation per channel.

    Shape:
        Each input ``(batch, *layout)`` -> the same shape.
    """

    def __init__(self, specs: Sequence[InputSpec]) -> None:
        super().__init__()
        self.names = tuple(spec.name for spec in specs)
        self.specs = {spec.name: spec for spec in specs}
        for spec in specs:
            shape = [-1 if axis == "channel" else 1 for axis in spec.layout.split()]
            mean = torch.tensor([channel.mean for channel in spec.channels]).view(shape)
            std = torch.tensor([channel.std for channel in spec.channels]).view(shape)
            # The constants are stored in the specification, so the buffers are not saved. In the form of
            # scale and shift, the normalization needs one pass over memory.
            self.register_buffer(f"{spec.name}_scale", 1 / std, persistent=False)
            self.register_buffer(f"{spec.name}_shift", -mean / std, persistent=False)

    def physical(self, name: str, values: Tensor) -> Tensor:
        """Return one input in physical units, float32; see `to_physical`.

        Args:
            name: Name of the input.
            values: Sample or batch.
        """
        return to_physical(values, self.specs[name])

    def forward(
        self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Normalize a batch.

        Args:
            inputs: Inputs by name in physical units, each of shape ``(batch, *layout)``.
            valid: Valid values by input name, bool. Default: all values.

        Returns:
            Normalized inputs by name.
        """
        normalized = {}
        for name in self.names:
            if name not in inputs:
                continue
            scale, shift = getattr(self, f"{name}_scale"), getattr(self, f"{name}_shift")
            values = torch.addcmul(shift, inputs[name], scale)
            if valid is not None and name in valid:
                values = torch.where(valid[name], values, 0.0)
            normalized[name] = values
        return normalized
