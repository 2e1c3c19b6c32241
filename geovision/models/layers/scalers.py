"""Invertible transforms of fields, fitted on the training years.

Each scaler has the methods `fit`, `forward` and `inverse`. Its statistics are buffers, so they are saved with
the model and the training years are not needed again. NaN is ignored in the statistics and remains NaN.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from geovision.errors import InputError, OptionError

__all__ = [
    "SCALERS",
    "Log1pScaler",
    "MinMaxScaler",
    "Scaler",
    "ScalerChain",
    "SquareRootScaler",
    "StandardScaler",
    "build_scaler_chain",
]


class Scaler(nn.Module):
    """Identity transform, and base class of the scalers.

    Args:
        channels: Number of channels, each with its own statistics. Default: 1.

    Shape:
        ``(…, channel, y, x)`` -> the same shape.
    """

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.channels = channels

    @torch.no_grad()
    def fit(self, fields: Tensor, valid: Tensor | None = None) -> None:
        """Compute the statistics from the fields of the training years.

        Args:
            fields: Fields, shape (sample, channel, y, x). NaN is ignored.
            valid: Valid cells, bool, broadcastable to the fields. Default: all cells.
        """

    def forward(self, field: Tensor) -> Tensor:
        """Transform a field."""
        return field

    def inverse(self, field: Tensor) -> Tensor:
        """Transform a field back to its original unit."""
        return field


class Log1pScaler(Scaler):
    """Transform ``log(1 + x)`` of values above -1.

    It shortens the tail of precipitation.
    """

    def forward(self, field: Tensor) -> Tensor:
        """Return ``log(1 + field)``."""
        return torch.log1p(field)

    def inverse(self, field: Tensor) -> Tensor:
        """Return ``exp(field) - 1``."""
        return torch.expm1(field)


class SquareRootScaler(Scaler):
    """Square root of non-negative values; negative values are set to 0."""

    def forward(self, field: Tensor) -> Tensor:
        """Return the square root of a field."""
        return field.clamp_min(0).sqrt()

    def inverse(self, field: Tensor) -> Tensor:
        """Return the square of a field."""
        return field.clamp_min(0).square()


class _LinearScaler(Scaler):
    """Transform ``(x - shift) / scale`` of each channel."""

    shift: Tensor
    scale: Tensor

    def __init__(self, channels: int = 1) -> None:
        super().__init__(channels)
        # NaN before the fit, so that a missing fit is noticed.
        self.register_buffer("shift", torch.full((channels, 1, 1), torch.nan))
        self.register_buffer("scale", torch.full((channels, 1, 1), torch.nan))

    def forward(self, field: Tensor) -> Tensor:
        """Return ``(field - shift) / scale``."""
        return (field - self.shift) / self.scale

    def inverse(self, field: Tensor) -> Tensor:
        """Return ``field * scale + shift``."""
        return field * self.scale + self.shift

    def _store(self, shift: list[Tensor], scale: list[Tensor]) -> None:
        for channel, each in enumerate(scale):
            if not each > 0:
                raise InputError(f"channel {channel} is constant over the training years; omit it")
        self.shift.copy_(torch.stack(shift).view(-1, 1, 1))
        self.scale.copy_(torch.stack(scale).view(-1, 1, 1))


class StandardScaler(_LinearScaler):
    """Standardization of each channel to mean 0 and standard deviation 1.

    Args:
        channels: Number of channels. Default: 1.
    """

    @torch.no_grad()
    def fit(self, fields: Tensor, valid: Tensor | None = None) -> None:
        """Compute mean and standard deviation of each channel; see `Scaler.fit`."""
        values = _values_per_channel(fields, valid, self.channels)
        self._store([each.mean() for each in values], [each.std() for each in values])


class MinMaxScaler(_LinearScaler):
    """Scaling of each channel to the range 0 to 1.

    The minimum becomes 0, the maximum 1. New data may exceed this range.

    Args:
        channels: Number of channels. Default: 1.
    """

    @torch.no_grad()
    def fit(self, fields: Tensor, valid: Tensor | None = None) -> None:
        """Compute minimum and maximum of each channel; see `Scaler.fit`."""
        values = _values_per_channel(fields, valid, self.channels)
        self._store([each.min() for each in values], [each.max() - each.min() for each in values])


class ScalerChain(Scaler):
    """Sequence of scalers.

    Each scaler is fitted to the output of the previous one.

    Args:
        *transforms: Scalers, in the order of application.
    """

    def __init__(self, *transforms: Scaler) -> None:
        super().__init__(transforms[0].channels if transforms else 1)
        self.transforms = nn.ModuleList(transforms)

    @torch.no_grad()
    def fit(self, fields: Tensor, valid: Tensor | None = None) -> None:
        """Fit all scalers in order; see `Scaler.fit`."""
        for each in self._each():
            each.fit(fields, valid)
            fields = each(fields)

    def forward(self, field: Tensor) -> Tensor:
        """Apply all scalers in order."""
        for each in self._each():
            field = each(field)
        return field

    def inverse(self, field: Tensor) -> Tensor:
        """Invert all scalers in reverse order."""
        for each in reversed(self._each()):
            field = each.inverse(field)
        return field

    def _each(self) -> list[Scaler]:
        return [each for each in self.transforms if isinstance(each, Scaler)]


SCALERS = {
    "identity": Scaler,
    "log1p": Log1pScaler,
    "sqrt": SquareRootScaler,
    "zscore": StandardScaler,
    "minmax": MinMaxScaler,
}
"""Scaler classes by name."""


def build_scaler_chain(names: Sequence[str], channels: int = 1) -> ScalerChain:
    """Build a chain of scalers by name.

    Args:
        names: Names of the scalers, keys of `SCALERS`, in the order of application.
        channels: Number of channels. Default: 1.

    Raises:
        OptionError: A name is unknown.

    >>> build_scaler_chain(["log1p", "zscore"]).transforms[0]
    Log1pScaler()
    """
    for name in names:
        if name not in SCALERS:
            raise OptionError(f"unknown transform {name!r}; known: {', '.join(SCALERS)}")
    return ScalerChain(*(SCALERS[name](channels) for name in names))


def _values_per_channel(fields: Tensor, valid: Tensor | None, channels: int) -> list[Tensor]:
    if fields.ndim != 4 or fields.shape[1] != channels:
        raise InputError(f"fields have shape {tuple(fields.shape)}; expected (sample, {channels}, y, x)")
    usable = torch.isfinite(fields) if valid is None else torch.isfinite(fields) & valid
    values = [fields[:, channel][usable[:, channel]].double() for channel in range(channels)]
    for channel, each in enumerate(values):
        if len(each) < 2:
            raise InputError(
                f"channel {channel} has {len(each)} values in the training years; expected two or more"
            )
    return values
