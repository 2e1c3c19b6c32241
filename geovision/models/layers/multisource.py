"""Maps of several sources and times with missing values.

They are the inputs of networks for hail.

A source that changes with time has the shape (batch, time, channel, y, x), a constant source (batch, channel,
y, x). All sources have the same grid and the same number of times. Missing values are 0 after normalization,
and a mask marks each of them. A missing source is masked completely.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange, reduce
from torch import Tensor, nn

from geovision.errors import InputError, OptionError
from geovision.spec import InputSpec

__all__ = [
    "MultiSourceNetwork",
    "SourceMaps",
    "SourceSelector",
    "check_options",
    "check_size",
    "last_time_steps",
    "stack_sources",
]


@dataclass(frozen=True)
class SourceMaps:
    """Values and mask of one source.

    Attributes:
        spec: Specification of the input.
        values: Normalized values, shape (batch, time, channel, y, x), 0 where missing. A constant source has
            one time.
        valid: Valid values, bool, in the same shape.
    """

    spec: InputSpec
    values: Tensor
    valid: Tensor

    @property
    def valid_fraction(self) -> Tensor:
        """Fraction of valid channels, shape (batch, time, 1, y, x)."""
        return reduce(self.valid.to(self.values.dtype), "b t c y x -> b t 1 y x", "mean")

    @property
    def any_valid(self) -> Tensor:
        """Cells with any valid value, shape (batch, 1, y, x)."""
        return reduce(self.valid, "b t c y x -> b 1 y x", "any")

    def latest_valid(self) -> tuple[Tensor, Tensor]:
        """Return the latest valid value of each cell and its mask.

        Both have the shape (batch, channel, y, x).
        """
        values, valid = self.values[:, 0], self.valid[:, 0]
        for value, present in zip(self.values.unbind(1)[1:], self.valid.unbind(1)[1:], strict=True):
            values, valid = torch.where(present, value, values), valid | present
        return values, valid


class SourceSelector(nn.Module):
    """Conversion of the inputs of a model to `SourceMaps`.

    The order is that of the specifications.

    Args:
        inputs: Specifications of all inputs of the model.
        chosen: Names of the inputs that the network uses. Default: all.
        dropout: Probability that a source of a sample is masked during training. One source always remains.
            The network thereby learns to predict without the others. Default: 0.

    Raises:
        OptionError: A source is unknown, or no source is chosen, or the probability is not in [0, 1).
    """

    def __init__(
        self, inputs: Sequence[InputSpec], chosen: Sequence[str] | None = None, *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        known = [spec.name for spec in inputs]
        wrong = [name for name in chosen or () if name not in known]
        if wrong or chosen == ():
            raise OptionError(f"sources={tuple(chosen or ())}: expected one or more of {', '.join(known)}")
        if not 0 <= dropout < 1:
            raise OptionError(f"source_dropout={dropout}: expected 0 or more and below 1")
        self.specs = tuple(spec for spec in inputs if chosen is None or spec.name in chosen)
        self.dropout = dropout

    def forward(
        self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor] | None = None
    ) -> list[SourceMaps]:
        """Return all chosen sources, including missing ones.

        Args:
            inputs: Normalized inputs by name, each of shape ``(batch, *layout)``.
            valid: Valid values by input name, bool. Default: all values.

        Raises:
            InputError: Sources have different grids or different numbers of times, or none is given.
        """
        given = {spec.name: _with_time(inputs[spec.name], spec) for spec in self.specs if spec.name in inputs}
        like = _reference_source(given, inputs)
        kept = self._draw_sources(like)
        found = []
        for number, spec in enumerate(self.specs):
            if spec.name in given:
                values = given[spec.name]
                mask = (valid or {}).get(spec.name)
                present = (
                    torch.ones_like(values, dtype=torch.bool) if mask is None else _with_time(mask, spec)
                )
            else:
                times = like.shape[1] if "time" in spec.layout.split() else 1
                values = like.new_zeros(len(like), times, len(spec.channels), *like.shape[-2:])
                present = torch.zeros_like(values, dtype=torch.bool)
            if kept is not None:
                present = present & rearrange(kept[:, number], "b -> b 1 1 1 1")
                values = torch.where(present, values, 0.0)
            found.append(SourceMaps(spec, values, present))
        return found

    def _draw_sources(self, like: Tensor) -> Tensor | None:
        """Draw the sources that remain, bool, shape (batch, source); None: all."""
        if not self.training or self.dropout == 0:
            return None
        draws = torch.rand(len(like), len(self.specs), device=like.device)
        return (draws >= self.dropout) | (draws == draws.amax(1, keepdim=True))


class MultiSourceNetwork(nn.Module):
    """Network of several sources that masks cells without any observation.

    Attributes:
        sources: Selection of the inputs that the network uses.
    """

    sources: SourceSelector

    def valid_mask(
        self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor] | None, shape: Sequence[int]
    ) -> Tensor | None:
        """Return the cells with a valid value in any variable source.

        A variable source is one that changes with time. If no source changes with time, all sources count.

        Args:
            inputs: Inputs by name.
            valid: Valid values by input name, bool. None: all values.
            shape: Shape of the output.

        Returns:
            Valid cells, bool, shape (batch, 1, y, x). None: all cells.
        """
        specs = [s for s in self.sources.specs if "time" in s.layout.split()] or list(self.sources.specs)
        masks = []
        for spec in specs:
            if spec.name in inputs:
                if valid is None or spec.name not in valid:
                    return None
                mask = _with_time(valid[spec.name], spec)
                masks.append(reduce(mask, "b t c y x -> b 1 y x", "any"))
        if not masks:
            some = next(iter(inputs.values()))
            return some.new_zeros((shape[0], 1, *shape[-2:]), dtype=torch.bool)
        return torch.stack(masks).any(0)


def _with_time(values: Tensor, spec: InputSpec) -> Tensor:
    return values if "time" in spec.layout.split() else rearrange(values, "b c y x -> b 1 c y x")


def _reference_source(given: Mapping[str, Tensor], inputs: Mapping[str, Tensor]) -> Tensor:
    """Return the source with the most times.

    It is an error if the sources have different grids or numbers of times.
    """
    if not given:
        raise InputError(f"none of the sources of this model is given; got {', '.join(inputs) or 'no input'}")
    name, like = max(given.items(), key=lambda each: each[1].shape[1])
    for other, values in given.items():
        if values.shape[-2:] != like.shape[-2:]:
            raise InputError(
                f"input {other!r} has {values.shape[-2]} x {values.shape[-1]} cells, {name!r} has "
                f"{like.shape[-2]} x {like.shape[-1]}; regrid them to the same grid"
            )
        if values.shape[1] not in (1, like.shape[1]):
            raise InputError(
                f"input {other!r} has {values.shape[1]} times, {name!r} has {like.shape[1]}; "
                "fill gaps with masked time steps"
            )
    return like


def stack_sources(sources: Sequence[SourceMaps], *, presence: bool = True) -> Tensor:
    """Concatenate all sources along the channel axis.

    Constant sources are repeated at every time.

    Args:
        sources: Sources, in order.
        presence: Append one map per source with the fraction of its valid channels. Default: True.

    Returns:
        Maps, shape (batch, time, channel, y, x).
    """
    maps = [each.values for each in sources]
    if presence:
        maps += [each.valid_fraction for each in sources]
    times = max(each.shape[1] for each in maps)
    return torch.cat([each.expand(-1, times, -1, -1, -1) for each in maps], dim=2)


def check_size(maps: Tensor, divisor: int, name: str) -> None:
    """Raise an error if a side is not a multiple of `divisor`.

    Args:
        maps: Maps, shape (…, y, x).
        divisor: Divisor of both sides, in cells.
        name: Name of the network, quoted in the message.

    Raises:
        InputError: The size is not a multiple. The message contains the size to pad to.
    """
    height, width = maps.shape[-2:]
    if height % divisor or width % divisor:
        to = (-(-height // divisor) * divisor, -(-width // divisor) * divisor)
        raise InputError(
            f"{name} needs a height and width divisible by {divisor}, not {height} x {width}; pad to {to}"
        )


def check_options(network: type[nn.Module], model_args: Mapping[str, Any], name: str) -> None:
    """Raise an error if a network does not have an option.

    The options of a network are its keyword-only arguments.

    Args:
        network: Class of the network.
        model_args: Options by name.
        name: Name of the network, quoted in the message.

    Raises:
        OptionError: An option is unknown. The message lists the known ones.
    """
    parameters = inspect.signature(network).parameters.values()
    known = [each.name for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY]
    if unknown := sorted(set(model_args) - set(known)):
        raise OptionError(f"{name} has no option {unknown[0]!r}; known: {', '.join(known)}")


def last_time_steps(sequence: Tensor, times: int) -> Tensor:
    """Return the last time steps of a sequence.

    A shorter sequence is padded with zeros at its start.

    Args:
        sequence: Maps, shape (batch, time, channel, y, x).
        times: Number of time steps to return.
    """
    short = times - sequence.shape[1]
    if short <= 0:
        return sequence[:, -times:]
    padding = sequence.new_zeros(sequence.shape[0], short, *sequence.shape[2:])
    return torch.cat([padding, sequence], dim=1)
