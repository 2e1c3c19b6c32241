"""Recurrent cells on maps: ConvLSTM, ST-LSTM and Causal LSTM.

The module also contains the gradient highway and the stack of cells.

``*`` is a convolution, ``.`` the elementwise product, ``s`` the logistic function. X is the input of a layer,
H its hidden state, and C its memory from one time to the next. M is the memory that passes through the layers
of one time from bottom to top and continues at the bottom of the next time: M_t^0 = M_{t-1}^L.

ConvLSTM (Shi et al. 2015, arXiv:1506.04214, without peepholes)::

    g = tanh(Wxg*X + Whg*H)   i = s(Wxi*X + Whi*H)   f = s(Wxf*X + Whf*H + 1)   o = s(Wxo*X + Who*H)
    C_t = f.C_{t-1} + i.g     H_t = o.tanh(C_t)

ST-LSTM (Wang et al. 2017, PredRNN; arXiv:2103.09504)::

    g  = tanh(Wxg*X + Whg*H)    i  = s(Wxi*X + Whi*H)    f  = s(Wxf*X + Whf*H + 1)
    g' = tanh(W'xg*X + Wmg*M)   i' = s(W'xi*X + Wmi*M)   f' = s(W'xf*X + Wmf*M + 1)
    C_t = f.C_{t-1} + i.g       M_t^l = f'.M_t^{l-1} + i'.g'
    o = s(Wxo*X + Who*H + Wo*[C_t, M_t])                 H_t = o.tanh(W1x1*[C_t, M_t])

Causal LSTM (Wang et al. 2018, PredRNN++, arXiv:1804.06300), whose memories are updated in sequence instead of
in parallel::

    g, i, f    from [X, H, C_{t-1}]                      C_t = f.C_{t-1} + i.g
    g', i', f' from [X, C_t, M^{l-1}]                    M_t^l = f'.tanh(W3*M^{l-1}) + i'.g'
    o = tanh(W4*[X, C_t, M_t])                           H_t = o.tanh(W5*[C_t, M_t])

Gradient highway unit, between the first and the second layer of the Causal LSTM::

    P = tanh(Wpx*X + Wpz*Z_{t-1})   S = s(Wsx*X + Wsz*Z_{t-1})   Z_t = S.P + (1-S).Z_{t-1}

All layers have the same width. There is no normalization over y and x, because it would fix the size of the
maps. All states are 0 at the start of each sequence.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

__all__ = [
    "CausalLSTMCell",
    "ConvLSTMCell",
    "ForgetGates",
    "GradientHighway",
    "RecurrentCell",
    "RecurrentStack",
    "STLSTMCell",
    "States",
    "conv2d_same",
]

States = tuple[Tensor, ...]
"""State that a layer passes to the next time: H, followed by its memories."""


def conv2d_same(channels: int, filters: int, kernel: int, *, bias: bool = True) -> nn.Conv2d:
    """Return a convolution that preserves the size of the maps.

    Args:
        channels: Number of input channels.
        filters: Number of output channels.
        kernel: Side of the kernel, odd.
        bias: Add a bias. Default: True.
    """
    return nn.Conv2d(channels, filters, kernel, padding=kernel // 2, bias=bias)


class RecurrentCell(nn.Module):
    """Base class of the cells, which are layers of a recurrent stack.

    Args:
        channels: Number of channels of the input X.
        width: Number of channels of H and of each memory.
        kernel: Side of the convolutions, odd.
    """

    def __init__(self, channels: int, width: int, kernel: int) -> None:
        super().__init__()
        self.channels, self.width, self.kernel = channels, width, kernel

    def initial_state(self, x: Tensor) -> States:
        """Return the initial states H and C, which are 0.

        Args:
            x: Input maps, shape (batch, channel, y, x), which define batch size and map size.
        """
        zeros = x.new_zeros(x.shape[0], self.width, *x.shape[-2:])
        return zeros, zeros

    def forward(self, x: Tensor, states: States, m: Tensor) -> tuple[States, Tensor]:
        """Compute one time step.

        Args:
            x: Input maps, shape (batch, channels, y, x).
            states: States of this layer at the previous time.
            m: Memory M of the layer below, shape (batch, width, y, x).

        Returns:
            New states, H first, and M of this layer.
        """
        raise NotImplementedError


class ConvLSTMCell(RecurrentCell):
    """ConvLSTM cell (Shi et al. 2015, arXiv:1506.04214), which returns M unchanged.

    Args:
        in_channels: Number of channels of the input X.
        hidden_channels: Number of channels of H and of each memory.
        kernel_size: Side of the convolutions, odd.
    """

    def __init__(self, in_channels: int, hidden_channels: int, kernel_size: int) -> None:
        super().__init__(in_channels, hidden_channels, kernel_size)
        self.x_gates = conv2d_same(in_channels, 4 * hidden_channels, kernel_size)
        self.h_gates = conv2d_same(hidden_channels, 4 * hidden_channels, kernel_size, bias=False)

    def forward(self, x: Tensor, states: States, m: Tensor) -> tuple[States, Tensor]:
        """Compute one time step; see `RecurrentCell.forward`."""
        h, c = states
        g, i, f, o = (self.x_gates(x) + self.h_gates(h)).chunk(4, dim=1)
        c = (f + 1).sigmoid() * c + i.sigmoid() * g.tanh()
        return (o.sigmoid() * c.tanh(), c), m


class ForgetGates(nn.Module):
    """Forget gates f and f' of the ST-LSTM.

    Another module can replace them.

    Args:
        in_channels: Number of channels of the input X.
        hidden_channels: Number of channels of H and of each memory.
        kernel_size: Side of the convolutions, odd.
    """

    def __init__(self, in_channels: int, hidden_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.x_gates = conv2d_same(in_channels, 2 * hidden_channels, kernel_size)
        self.h_gate = conv2d_same(hidden_channels, hidden_channels, kernel_size, bias=False)
        self.m_gate = conv2d_same(hidden_channels, hidden_channels, kernel_size, bias=False)

    def initial_state(self, x: Tensor) -> States:
        """Return the initial memories of the gates, of which there are none.

        Args:
            x: Input maps, shape (batch, channel, y, x).
        """
        return ()

    def forward(
        self, x: Tensor, h: Tensor, c: Tensor, m: Tensor, memories: States
    ) -> tuple[Tensor, Tensor, States]:
        """Compute the forget gates.

        Args:
            x: Input maps X, shape (batch, in_channels, y, x).
            h: Hidden state H, shape (batch, hidden_channels, y, x).
            c: Memory C, in the same shape.
            m: Memory M of the layer below, in the same shape.
            memories: Memories of the gates at the previous time.

        Returns:
            Gates f and f', and the new memories of the gates.
        """
        f, f_ = self.x_gates(x).chunk(2, dim=1)
        return (f + self.h_gate(h) + 1).sigmoid(), (f_ + self.m_gate(m) + 1).sigmoid(), ()


class STLSTMCell(RecurrentCell):
    """ST-LSTM cell (Wang et al. 2017, PredRNN; arXiv:2103.09504).

    Args:
        in_channels: Number of channels of the input X.
        hidden_channels: Number of channels of H and of each memory.
        kernel_size: Side of the convolutions, odd.
        forget: Module that computes the gates f and f'. Default: `ForgetGates`.
    """

    def __init__(
        self, in_channels: int, hidden_channels: int, kernel_size: int, *, forget: nn.Module | None = None
    ) -> None:
        super().__init__(in_channels, hidden_channels, kernel_size)
        self.x_gates = conv2d_same(in_channels, 5 * hidden_channels, kernel_size)  # gates g i g' i' o
        self.h_gates = conv2d_same(
            hidden_channels, 3 * hidden_channels, kernel_size, bias=False
        )  # gates g i o
        self.m_gates = conv2d_same(
            hidden_channels, 2 * hidden_channels, kernel_size, bias=False
        )  # gates g' i'
        self.o_gate = conv2d_same(2 * hidden_channels, hidden_channels, kernel_size, bias=False)
        self.mix = nn.Conv2d(2 * hidden_channels, hidden_channels, 1)
        self.forget = forget or ForgetGates(in_channels, hidden_channels, kernel_size)

    def initial_state(self, x: Tensor) -> States:
        """Return the initial H, C and memories of the gates."""
        own: ForgetGates = self.forget  # type: ignore[assignment]
        return *super().initial_state(x), *own.initial_state(x)

    def forward(self, x: Tensor, states: States, m: Tensor) -> tuple[States, Tensor]:
        """Compute one time step; see `RecurrentCell.forward`."""
        h, c, *memories = states
        f, f_, memories = self.forget(x, h, c, m, tuple(memories))
        xg, xi, xg_, xi_, xo = self.x_gates(x).chunk(5, dim=1)
        hg, hi, ho = self.h_gates(h).chunk(3, dim=1)
        mg, mi = self.m_gates(m).chunk(2, dim=1)
        c = f * c + (xi + hi).sigmoid() * (xg + hg).tanh()
        m = f_ * m + (xi_ + mi).sigmoid() * (xg_ + mg).tanh()
        both = torch.cat([c, m], dim=1)
        h = (xo + ho + self.o_gate(both)).sigmoid() * self.mix(both).tanh()
        return (h, c, *memories), m


class CausalLSTMCell(RecurrentCell):
    """Causal LSTM cell (Wang et al. 2018, PredRNN++, arXiv:1804.06300).

    Args:
        in_channels: Number of channels of the input X.
        hidden_channels: Number of channels of H and of each memory.
        kernel_size: Side of the convolutions, odd.
    """

    def __init__(self, in_channels: int, hidden_channels: int, kernel_size: int) -> None:
        super().__init__(in_channels, hidden_channels, kernel_size)
        self.x_gates = conv2d_same(in_channels, 7 * hidden_channels, kernel_size)  # gates g i f g' i' f' o
        self.h_gates = conv2d_same(
            hidden_channels, 3 * hidden_channels, kernel_size, bias=False
        )  # gates g i f
        self.c_gates = conv2d_same(
            hidden_channels, 3 * hidden_channels, kernel_size, bias=False
        )  # gates g i f
        self.new_c_gates = conv2d_same(
            hidden_channels, 4 * hidden_channels, kernel_size, bias=False
        )  # gates g' i' f' o
        self.m_gates = conv2d_same(
            hidden_channels, 3 * hidden_channels, kernel_size, bias=False
        )  # gates g' i' f'
        self.keep = conv2d_same(hidden_channels, hidden_channels, kernel_size)  # W3
        self.new_m_gate = conv2d_same(hidden_channels, hidden_channels, kernel_size, bias=False)  # gate o
        self.mix = nn.Conv2d(2 * hidden_channels, hidden_channels, 1)  # W5

    def forward(self, x: Tensor, states: States, m: Tensor) -> tuple[States, Tensor]:
        """Compute one time step; see `RecurrentCell.forward`."""
        h, c = states
        *of_c, xg_, xi_, xf_, xo = self.x_gates(x).chunk(7, dim=1)
        g, i, f = (torch.cat(of_c, dim=1) + self.h_gates(h) + self.c_gates(c)).chunk(3, dim=1)
        c = (f + 1).sigmoid() * c + i.sigmoid() * g.tanh()
        cg, ci, cf, co = self.new_c_gates(c).chunk(4, dim=1)
        mg, mi, mf = self.m_gates(m).chunk(3, dim=1)
        g_, i_, f_ = (xg_ + cg + mg).tanh(), (xi_ + ci + mi).sigmoid(), (xf_ + cf + mf + 1).sigmoid()
        m = f_ * self.keep(m).tanh() + i_ * g_
        o = (xo + co + self.new_m_gate(m)).tanh()
        return (o * self.mix(torch.cat([c, m], dim=1)).tanh(), c), m


class GradientHighway(nn.Module):
    """Gradient highway unit, a short path for long-term information and its gradient.

    Args:
        hidden_channels: Number of channels of X and Z.
        kernel_size: Side of the convolutions, odd.

    Shape:
        X and Z ``(batch, hidden_channels, y, x)`` -> Z.
    """

    def __init__(self, hidden_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.x_gates = conv2d_same(hidden_channels, 2 * hidden_channels, kernel_size)
        self.z_gates = conv2d_same(hidden_channels, 2 * hidden_channels, kernel_size, bias=False)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """Return the new Z from X and the previous Z.

        Args:
            x: Input maps X, shape (batch, hidden_channels, y, x).
            z: Previous state Z, in the same shape.
        """
        p, s = (self.x_gates(x) + self.z_gates(z)).chunk(2, dim=1)
        s = s.sigmoid()
        return s * p.tanh() + (1 - s) * z


class RecurrentStack(nn.Module):
    """Stack of recurrent layers.

    The output is the last hidden state of the top layer.

    Args:
        cells: Cells from bottom to top, all of the same width.
        highway: Gradient highway between the first and the second layer. Default: None.
        grad_checkpointing: Store only the states of each time and recompute the rest in the backward pass.
            This needs less memory and a third more time. Default: False.

    Attributes:
        num_features: Width of the cells.

    Shape:
        ``(batch, time, channel, y, x)``, any number of times, any size -> ``(batch, width, y, x)``.
    """

    def __init__(
        self,
        cells: Sequence[RecurrentCell],
        *,
        highway: GradientHighway | None = None,
        grad_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.cells = nn.ModuleList(cells)
        self.highway = highway
        self.grad_checkpointing = grad_checkpointing
        self.num_features = cells[0].width

    def initial_state(self, x: Tensor) -> tuple[list[States], Tensor, Tensor]:
        """Return the initial states of all layers, M and Z.

        Args:
            x: Maps of the first time, shape (batch, channel, y, x).
        """
        zeros = x.new_zeros(x.shape[0], self.num_features, *x.shape[-2:])
        return [cell.initial_state(x) for cell in self._cells()], zeros, zeros

    def step(
        self, x: Tensor, states: list[States], m: Tensor, z: Tensor
    ) -> tuple[list[States], Tensor, Tensor]:
        """Compute one time step of all layers.

        Args:
            x: Input maps, shape (batch, channel, y, x).
            states: States of each layer at the previous time.
            m: Memory M of the top layer at the previous time, shape (batch, width, y, x).
            z: State Z of the gradient highway at the previous time, in the same shape.

        Returns:
            States of all layers, M of the top layer, and Z.
        """
        now = []
        for number, (cell, before) in enumerate(zip(self._cells(), states, strict=True)):
            after, m = cell(x, before, m)
            now.append(after)
            x = after[0]
            if number == 0 and self.highway is not None:
                x = z = self.highway(x, z)
        return now, m, z

    def forward(self, sequence: Tensor) -> Tensor:
        """Return the last hidden state of the top layer."""
        states, m, z = self.initial_state(sequence[:, 0])
        for x in sequence.unbind(1):
            if self.grad_checkpointing and torch.is_grad_enabled():
                states, m, z = checkpoint(self.step, x, states, m, z, use_reentrant=False)
            else:
                states, m, z = self.step(x, states, m, z)
        return states[-1][0]

    def _cells(self) -> list[RecurrentCell]:
        return list(self.cells)  # type: ignore[arg-type]
