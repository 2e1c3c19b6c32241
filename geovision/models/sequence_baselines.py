"""Sequence networks for comparison with HINet.

They take all sources as one stack of channels. The stack covers 20 times. It has 36 channels (21 radar levels
and 5 channels of each other source), and one map per source of the fraction of valid channels. Networks for
videos or time series take such an input. The head computes the logit from the last hidden state, or from the
single frame that is predicted. The networks are::

    convlstm, st-lstm, causal-lstm   layers over patches of 4 x 4 cells, `geovision.models.st_lstm`
    simvp                            `geovision.models.simvp`
    nbeats                           `geovision.models.nbeats`, each cell independently
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from torch import Tensor

from geovision.models.hinet import RecurrentEncoder
from geovision.models.layers.multisource import (
    MultiSourceNetwork,
    SourceSelector,
    check_options,
    check_size,
    last_time_steps,
    stack_sources,
)
from geovision.models.nbeats import NBeats
from geovision.models.simvp import SimVP
from geovision.models.st_lstm import (
    CausalLSTMCell,
    ConvLSTMCell,
    GradientHighway,
    RecurrentCell,
    RecurrentStack,
    STLSTMCell,
)
from geovision.spec import InputSpec, SampleContext

__all__ = ["RecurrentBaseline", "SequenceBaseline", "build_history", "build_recurrent"]

_CELLS: Mapping[str, Callable[[int, int, int], RecurrentCell]] = {
    "convlstm": ConvLSTMCell,
    "st-lstm": STLSTMCell,
    "causal-lstm": CausalLSTMCell,
}


class RecurrentBaseline(MultiSourceNetwork):
    """Recurrent stack over all sources.

    Args:
        inputs: Input specifications of the model.
        cell: ``"convlstm"``, ``"st-lstm"`` or ``"causal-lstm"``. The last one has a gradient highway.
        width: Number of channels of the recurrent cells. Default: 32.
        layers: Number of layers. Default: 3.
        kernel: Side of the recurrent convolutions, in patches. Default: 5.
        features: Number of features per cell. Default: 16.
        sources: Names of the inputs that the network uses. Default: all.
        presence: Append one map per source with the fraction of its valid channels. Default: True.
        source_dropout: Probability that a source of a sample is masked during training. Default: 0.
        checkpointing: Recompute the activations of each time in the backward pass, which needs less memory
            and more time. Default: False.

    Attributes:
        num_features: Number of features per cell, `features`.

    Shape:
        Inputs ``(batch, time, channel, y, x)`` and ``(batch, channel, y, x)``, y and x multiples of 4, any
        number of times -> ``(batch, features, y, x)``.
    """

    divisor = 4

    def __init__(
        self,
        inputs: Sequence[InputSpec],
        *,
        cell: Literal["convlstm", "st-lstm", "causal-lstm"],
        width: int = 32,
        layers: int = 3,
        kernel: int = 5,
        features: int = 16,
        sources: Sequence[str] | None = None,
        presence: bool = True,
        source_dropout: float = 0.0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.sources, self.add_indicator = SourceSelector(inputs, sources, dropout=source_dropout), presence
        channels = 16 * _num_channels(self.sources, presence)
        kind = _CELLS[cell]
        highway = GradientHighway(width, kernel) if cell == "causal-lstm" else None
        cells = [kind(each, width, kernel) for each in [channels] + [width] * (layers - 1)]
        self.branch = RecurrentEncoder(
            RecurrentStack(cells, highway=highway, grad_checkpointing=checkpointing), features
        )
        self.num_features = features

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
            Features, shape (batch, features, y, x).
        """
        sequence = stack_sources(self.sources(inputs, valid), presence=self.add_indicator)
        check_size(sequence, self.divisor, "a recurrent network over patches")
        return self.branch(sequence)


class SequenceBaseline(MultiSourceNetwork):
    """Network for a fixed number of times, over all sources.

    Args:
        inputs: Input specifications of the model.
        network: ``"simvp"`` or ``"nbeats"``.
        windows: Number of times. A shorter sequence is padded with missing times at its start, and the last
            times of a longer one are used. Default: 20.
        options: Options of `geovision.models.simvp.SimVP` or `geovision.models.nbeats.NBeats`. Default: none.
        sources: Names of the inputs that the network uses. Default: all.
        presence: Append one map per source with the fraction of its valid channels. Default: True.
        source_dropout: Probability that a source of a sample is masked during training. Default: 0.

    Attributes:
        num_features: Number of features per cell.

    Shape:
        Inputs ``(batch, time, channel, y, x)`` and ``(batch, channel, y, x)``, y and x multiples of 4 (SimVP)
        or any (N-BEATS) -> ``(batch, num_features, y, x)``.
    """

    def __init__(
        self,
        inputs: Sequence[InputSpec],
        *,
        network: Literal["simvp", "nbeats"],
        windows: int = 20,
        options: Mapping[str, int] | None = None,
        sources: Sequence[str] | None = None,
        presence: bool = True,
        source_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.sources, self.add_indicator = SourceSelector(inputs, sources, dropout=source_dropout), presence
        self.seq_len, self.name = windows, network
        kind = {"simvp": SimVP, "nbeats": NBeats}[network]
        self.network = kind(_num_channels(self.sources, presence), windows, **dict(options or {}))
        self.num_features = self.network.num_features

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
            Features, shape (batch, num_features, y, x).
        """
        sequence = stack_sources(self.sources(inputs, valid), presence=self.add_indicator)
        check_size(sequence, self.network.divisor, self.name)
        return self.network(last_time_steps(sequence, self.seq_len))


def _num_channels(sources: SourceSelector, presence: bool) -> int:
    """Return the number of maps at each time."""
    return sum(len(spec.channels) + presence for spec in sources.specs)


def build_recurrent(
    model_args: Mapping[str, Any], *, inputs: tuple[InputSpec, ...], size: tuple[int, int] | None
) -> RecurrentBaseline:
    """Build a recurrent baseline.

    Args:
        model_args: Keyword arguments of `RecurrentBaseline`.
        inputs: Input specifications of the model.
        size: Size of the inputs; ignored, because every size that is a multiple of 4 is supported.

    Raises:
        OptionError: An option is unknown.
    """
    check_options(RecurrentBaseline, model_args, "a recurrent network")
    return RecurrentBaseline(inputs, **model_args)


def build_history(
    model_args: Mapping[str, Any], *, inputs: tuple[InputSpec, ...], size: tuple[int, int] | None
) -> SequenceBaseline:
    """Build a baseline with a fixed number of times.

    Args:
        model_args: Keyword arguments of `SequenceBaseline`.
        inputs: Input specifications of the model.
        size: Size of the inputs; ignored, because the network does not depend on it.

    Raises:
        OptionError: An option is unknown.
    """
    check_options(SequenceBaseline, model_args, "a network over a history")
    return SequenceBaseline(inputs, **model_args)
