"""The rivals of HINet under one adapter: all sources stacked at every time, features of every cell out.

36 channels (21 levels, 5 of each other source) and one map a source of what is there, over 20 times: what a
network for videos or series takes. The last hidden state, or the one frame that is made, becomes the logit.

    convlstm, st-lstm, causal-lstm   layers over patches of 4 x 4 cells, `geovision.models.st_lstm`
    simvp                            `geovision.models.simvp`
    nbeats                           `geovision.models.nbeats`, every cell by itself
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
    """A recurrent stack over all sources.

    Args:
        inputs: Of the model.

    Keyword Args:
        cell: ``"convlstm"``, ``"st-lstm"`` or ``"causal-lstm"``; the last with a gradient highway.
        width, layers, kernel: Of the stack.
        features: Of every cell of the answer.
        sources: Names of the inputs that are taken; None: all.
        presence: Also one map a source of what is there.
        source_dropout: Probability in training that a source of a sample is missing.
        checkpointing: Of the activations of each time.

    Shape:
        inputs ``(batch, time, channel, y, x)`` and ``(batch, channel, y, x)``, y and x multiples of 4, any
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
        sequence = stack_sources(self.sources(inputs, valid), presence=self.add_indicator)
        check_size(sequence, self.divisor, "a recurrent network over patches")
        return self.branch(sequence)


class SequenceBaseline(MultiSourceNetwork):
    """A network that is built for so many times, over all sources.

    Args:
        inputs: Of the model.

    Keyword Args:
        network: ``"simvp"`` or ``"nbeats"``.
        windows: Times that it is built for; a shorter sequence begins with times of which nothing is known,
            of a longer one the last are taken.
        options: Further keywords of `geovision.models.simvp.SimVP` or `geovision.models.nbeats.NBeats`.
        sources, presence, source_dropout: As of `RecurrentBaseline`.

    Shape:
        As of `RecurrentBaseline`; N-BEATS takes any y and x.
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
        sequence = stack_sources(self.sources(inputs, valid), presence=self.add_indicator)
        check_size(sequence, self.network.divisor, self.name)
        return self.network(last_time_steps(sequence, self.seq_len))


def _num_channels(sources: SourceSelector, presence: bool) -> int:
    """Maps at each time."""
    return sum(len(spec.channels) + presence for spec in sources.specs)


def build_recurrent(
    model_args: Mapping[str, Any], *, inputs: tuple[InputSpec, ...], size: tuple[int, int] | None
) -> RecurrentBaseline:
    """The network that `arch` describes by the keywords of `RecurrentBaseline`."""
    check_options(RecurrentBaseline, model_args, "a recurrent network")
    return RecurrentBaseline(inputs, **model_args)


def build_history(
    model_args: Mapping[str, Any], *, inputs: tuple[InputSpec, ...], size: tuple[int, int] | None
) -> SequenceBaseline:
    """The network that `arch` describes by the keywords of `SequenceBaseline`."""
    check_options(SequenceBaseline, model_args, "a network over a history")
    return SequenceBaseline(inputs, **model_args)
