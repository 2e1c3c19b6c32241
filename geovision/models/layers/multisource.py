"""Maps of several sources over several times, any of them missing, as networks of hail take them.

A source that changes with time is ``(batch, time, channel, y, x)``, one that does not
``(batch, channel, y, x)``; all lie on one grid, and all have as many times. What is missing is 0 after
normalisation and told by a mask, value by value; a source that is not there at all is missing everywhere.
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
    """One source.

    Attributes:
        spec: Its channels.
        values: ``(batch, time, channel, y, x)``, normalised, 0 where missing; one time for a source that
            does not change.
        valid: Of bool, the same shape.
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
        """Cells with a valid value in any channel at any time, shape (batch, 1, y, x)."""
        return reduce(self.valid, "b t c y x -> b 1 y x", "any")

    def latest_valid(self) -> tuple[Tensor, Tensor]:
        """The last value that was there, and where there was one, ``(batch, channel, y, x)`` each."""
        values, valid = self.values[:, 0], self.valid[:, 0]
        for value, there in zip(self.values.unbind(1)[1:], self.valid.unbind(1)[1:], strict=True):
            values, valid = torch.where(there, value, values), valid | there
        return values, valid


class SourceSelector(nn.Module):
    """From the inputs of a model to `SourceMaps`, in the order of the specifications.

    Args:
        inputs: All of the model.
        chosen: Names of those that the network takes; None: all.
        dropout: Probability in training that a source of a sample is missing; one always stays. So a
            network learns to do without.

    Raises:
        OptionError: No such source.
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
        """All chosen sources, those that are missing too.

        Raises:
            InputError: Two sources on different grids, or with different numbers of times.
        """
        given = {spec.name: _with_time(inputs[spec.name], spec) for spec in self.specs if spec.name in inputs}
        like = _reference_source(given, inputs)
        drawn = self._drawn(like)
        found = []
        for number, spec in enumerate(self.specs):
            if spec.name in given:
                values = given[spec.name]
                mask = (valid or {}).get(spec.name)
                there = torch.ones_like(values, dtype=torch.bool) if mask is None else _with_time(mask, spec)
            else:
                times = like.shape[1] if "time" in spec.layout.split() else 1
                values = like.new_zeros(len(like), times, len(spec.channels), *like.shape[-2:])
                there = torch.zeros_like(values, dtype=torch.bool)
            if drawn is not None:
                there = there & rearrange(drawn[:, number], "b -> b 1 1 1 1")
                values = torch.where(there, values, 0.0)
            found.append(SourceMaps(spec, values, there))
        return found

    def _drawn(self, like: Tensor) -> Tensor | None:
        """Which sources stay ``(batch, source)``; None: all."""
        if not self.training or self.dropout == 0:
            return None
        draws = torch.rand(len(like), len(self.specs), device=like.device)
        return (draws >= self.dropout) | (draws == draws.amax(1, keepdim=True))


class MultiSourceNetwork(nn.Module):
    """A network of several sources, which says where it knew nothing."""

    sources: SourceSelector

    def valid_mask(
        self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor] | None, shape: Sequence[int]
    ) -> Tensor | None:
        """Where any of the sources that change with time was there ``(batch, 1, y, x)``; None: everywhere."""
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
    """One of the sources, that with the most times; all agree in everything but their channels."""
    if not given:
        raise InputError(f"none of the sources of this model is there; got {', '.join(inputs) or 'nothing'}")
    name, like = max(given.items(), key=lambda each: each[1].shape[1])
    for other, values in given.items():
        if values.shape[-2:] != like.shape[-2:]:
            raise InputError(
                f"input {other!r} has {values.shape[-2]} x {values.shape[-1]} cells, {name!r} has "
                f"{like.shape[-2]} x {like.shape[-1]}; bring them to one grid"
            )
        if values.shape[1] not in (1, like.shape[1]):
            raise InputError(
                f"input {other!r} has {values.shape[1]} times, {name!r} has {like.shape[1]}; "
                "fill the gaps with masked windows"
            )
    return like


def stack_sources(sources: Sequence[SourceMaps], *, presence: bool = True) -> Tensor:
    """All sources along one channel axis, in order, what does not change repeated at every time.

    Args:
        presence: Also one map a source, behind them all: the share of its channels that is there.

    Returns:
        ``(batch, time, channel, y, x)``.
    """
    maps = [each.values for each in sources]
    if presence:
        maps += [each.valid_fraction for each in sources]
    times = max(each.shape[1] for each in maps)
    return torch.cat([each.expand(-1, times, -1, -1, -1) for each in maps], dim=2)


def check_size(maps: Tensor, divisor: int, name: str) -> None:
    """Raise if height or width is no multiple of `divisor`.

    Raises:
        InputError: With the size to pad to.
    """
    height, width = maps.shape[-2:]
    if height % divisor or width % divisor:
        to = (-(-height // divisor) * divisor, -(-width // divisor) * divisor)
        raise InputError(
            f"{name} takes heights and widths divisible by {divisor}, not {height} x {width}: pad to {to}"
        )


def check_options(network: type[nn.Module], model_args: Mapping[str, Any], name: str) -> None:
    """Raise if a network has no option of one of these names: its keyword-only arguments.

    Raises:
        OptionError: With those that it has.
    """
    parameters = inspect.signature(network).parameters.values()
    known = [each.name for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY]
    if unknown := sorted(set(model_args) - set(known)):
        raise OptionError(f"{name} takes no option {unknown[0]!r}; known: {', '.join(known)}")


def last_time_steps(sequence: Tensor, times: int) -> Tensor:
    """The last `times` of a sequence ``(batch, time, channel, y, x)``; a shorter one begins with times at
    which nothing is there."""
    short = times - sequence.shape[1]
    if short <= 0:
        return sequence[:, -times:]
    nothing = sequence.new_zeros(sequence.shape[0], short, *sequence.shape[2:])
    return torch.cat([nothing, sequence], dim=1)
