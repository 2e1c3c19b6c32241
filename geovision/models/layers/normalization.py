"""Physical units in: an eager check at the boundary, and a pure normalisation inside the model.

The two are apart on purpose. `check` looks at values and raises; `Normalise` has no branch that
depends on data, so it is exported and compiled with the network.
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
    """One sample or batch as a float32 tensor in the units of `spec`.

    Integers are counts where the input says so: full scale of their type is 1 (uint8: 255). This
    is a rule about types; no scale is ever guessed from values. `where` names it in errors.

    Raises:
        InputError: Integers where the input takes none, or values that are not numbers.
    """
    place = f"{where}: " if where else ""
    tensor = torch.as_tensor(values)
    if tensor.dtype in (torch.complex64, torch.complex128, torch.bool):
        raise InputError(f"{place}input {spec.name!r} takes numbers, not {tensor.dtype}")
    if tensor.is_floating_point():
        return tensor.float()
    if spec.integers == "refuse":
        raise InputError(
            f"{place}input {spec.name!r} is in {spec.channels[0].unit}, not in counts: "
            f"convert {tensor.dtype} to float in that unit"
        )
    return tensor.float() / torch.iinfo(tensor.dtype).max


def check_sample(sample: Tensor, spec: InputSpec, *, where: str = "", valid: Tensor | None = None) -> None:
    """Raise if one sample is not what `spec` describes; return nothing otherwise.

    Args:
        sample: One sample in physical units, axes as in ``spec.layout``.
        where: Path or index, quoted in the message.
        valid: Cells that count, broadcastable to `sample`; the rest may hold anything.

    Raises:
        InputError: Number of axes or channels, a value that is not finite, or out of the hard
            range. The message has channel, unit, what was seen, and the likely slip.
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
    # A rounding step of float32 beyond the limit is not a wrong unit.
    slack = 1e-6 * max(abs(least), abs(most), 1.0)
    if low >= least - slack and high <= most + slack:
        return
    reach = max(abs(low), abs(high))
    slip = next((s.hint for s in channel.unit_hints if s.above < reach <= s.upto), "")
    expected = f"expected {least:g} to {most:g}{unit}"
    raise InputError(
        f"{place}channel {channel.name!r}: values from {low:.4g} to {high:.4g}, {expected}"
        + (f" ({slip})" if slip else "")
    )


class Normalize(nn.Module):
    """Subtract the mean and divide by the standard deviation of each channel; missing becomes 0.

    Shape:
        each input ``(batch, *layout)`` -> the same shape.
    """

    def __init__(self, specs: Sequence[InputSpec]) -> None:
        super().__init__()
        self.names = tuple(spec.name for spec in specs)
        self.specs = {spec.name: spec for spec in specs}
        for spec in specs:
            shape = [-1 if axis == "channel" else 1 for axis in spec.layout.split()]
            mean = torch.tensor([channel.mean for channel in spec.channels]).view(shape)
            std = torch.tensor([channel.std for channel in spec.channels]).view(shape)
            # Constants of the specification, stored there; not parameters. As scale and shift the
            # whole normalisation is one pass over memory.
            self.register_buffer(f"{spec.name}_scale", 1 / std, persistent=False)
            self.register_buffer(f"{spec.name}_shift", -mean / std, persistent=False)

    def physical(self, name: str, values: Tensor) -> Tensor:
        """Return one input in physical units, float32. See `physical`."""
        return to_physical(values, self.specs[name])

    def forward(
        self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        normalised = {}
        for name in self.names:
            if name not in inputs:
                continue
            scale, shift = getattr(self, f"{name}_scale"), getattr(self, f"{name}_shift")
            values = torch.addcmul(shift, inputs[name], scale)
            if valid is not None and name in valid:
                values = torch.where(valid[name], values, 0.0)
            normalised[name] = values
        return normalised
