"""Changes of a field before a network sees it, fitted on the training years alone and kept as buffers.

Each has `fit`, is called on a field, and has an `inverse`. What they hold is saved with the model they
stand in, so that nobody has to know the years they come from. NaN counts in no statistic and stays NaN.
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
    """The identity, and the base of the others.

    Args:
        channels: Of the fields; each has statistics of its own.

    Shape:
        ``(…, channel, y, x)`` -> the same.
    """

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.channels = channels

    @torch.no_grad()
    def fit(self, fields: Tensor, valid: Tensor | None = None) -> None:
        """Take what is needed from the fields of the training years.

        Args:
            fields: ``(sample, channel, y, x)``.
            valid: Cells that count, broadcastable; NaN never does.
        """

    def forward(self, field: Tensor) -> Tensor:
        return field

    def inverse(self, field: Tensor) -> Tensor:
        """Back to the unit that came in."""
        return field


class Log1pScaler(Scaler):
    """``log(1 + x)``, which draws the tail of rain in. Values are above -1."""

    def forward(self, field: Tensor) -> Tensor:
        return torch.log1p(field)

    def inverse(self, field: Tensor) -> Tensor:
        return torch.expm1(field)


class SquareRootScaler(Scaler):
    """``sqrt(x)`` of values that are not negative."""

    def forward(self, field: Tensor) -> Tensor:
        return field.clamp_min(0).sqrt()

    def inverse(self, field: Tensor) -> Tensor:
        return field.clamp_min(0).square()


class _LinearScaler(Scaler):
    """``(x - shift) / scale`` of each channel."""

    shift: Tensor
    scale: Tensor

    def __init__(self, channels: int = 1) -> None:
        super().__init__(channels)
        # NaN until fitted, so that a forgotten fit is seen.
        self.register_buffer("shift", torch.full((channels, 1, 1), torch.nan))
        self.register_buffer("scale", torch.full((channels, 1, 1), torch.nan))

    def forward(self, field: Tensor) -> Tensor:
        return (field - self.shift) / self.scale

    def inverse(self, field: Tensor) -> Tensor:
        return field * self.scale + self.shift

    def _keep(self, shift: list[Tensor], scale: list[Tensor]) -> None:
        for channel, each in enumerate(scale):
            if not each > 0:
                raise InputError(f"channel {channel} does not vary over the training years; leave it out")
        self.shift.copy_(torch.stack(shift).view(-1, 1, 1))
        self.scale.copy_(torch.stack(scale).view(-1, 1, 1))


class StandardScaler(_LinearScaler):
    """Each channel less its mean, by its standard deviation."""

    @torch.no_grad()
    def fit(self, fields: Tensor, valid: Tensor | None = None) -> None:
        values = _values_per_channel(fields, valid, self.channels)
        self._keep([each.mean() for each in values], [each.std() for each in values])


class MinMaxScaler(_LinearScaler):
    """Each channel from its lowest value, 0, to its highest, 1; what is new may lie beyond."""

    @torch.no_grad()
    def fit(self, fields: Tensor, valid: Tensor | None = None) -> None:
        values = _values_per_channel(fields, valid, self.channels)
        self._keep([each.min() for each in values], [each.max() - each.min() for each in values])


class ScalerChain(Scaler):
    """One after another; each is fitted on what those before it give."""

    def __init__(self, *transforms: Scaler) -> None:
        super().__init__(transforms[0].channels if transforms else 1)
        self.transforms = nn.ModuleList(transforms)

    @torch.no_grad()
    def fit(self, fields: Tensor, valid: Tensor | None = None) -> None:
        for each in self._each():
            each.fit(fields, valid)
            fields = each(fields)

    def forward(self, field: Tensor) -> Tensor:
        for each in self._each():
            field = each(field)
        return field

    def inverse(self, field: Tensor) -> Tensor:
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
"""By name."""


def build_scaler_chain(names: Sequence[str], channels: int = 1) -> ScalerChain:
    """Transforms by name, in order.

    Raises:
        OptionError: An unknown name.

    >>> chain(["log1p", "zscore"]).transforms[0]
    Log1p()
    """
    for name in names:
        if name not in SCALERS:
            raise OptionError(f"transform {name!r}; known: {', '.join(SCALERS)}")
    return ScalerChain(*(SCALERS[name](channels) for name in names))


def _values_per_channel(fields: Tensor, valid: Tensor | None, channels: int) -> list[Tensor]:
    if fields.ndim != 4 or fields.shape[1] != channels:
        raise InputError(f"fields of shape {tuple(fields.shape)}; expected (sample, {channels}, y, x)")
    there = torch.isfinite(fields) if valid is None else torch.isfinite(fields) & valid
    values = [fields[:, channel][there[:, channel]].double() for channel in range(channels)]
    for channel, each in enumerate(values):
        if len(each) < 2:
            raise InputError(
                f"channel {channel} has {len(each)} values in the training years; two are needed"
            )
    return values
