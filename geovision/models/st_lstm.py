"""Recurrent cells on maps: ConvLSTM, ST-LSTM, Causal LSTM with its gradient highway, and their stack.

``*`` is a convolution, ``.`` the product of cells, ``s`` the logistic function. X is the input of a layer,
H its hidden state, C its own memory from one time to the next, and M the memory that climbs through the
layers of one time and goes on at the bottom of the next: M_t^0 = M_{t-1}^L.

ConvLSTM (Shi et al. 2015, arXiv:1506.04214, without peepholes):

    g = tanh(Wxg*X + Whg*H)   i = s(Wxi*X + Whi*H)   f = s(Wxf*X + Whf*H + 1)   o = s(Wxo*X + Who*H)
    C_t = f.C_{t-1} + i.g     H_t = o.tanh(C_t)

ST-LSTM (Wang et al. 2017, PredRNN; arXiv:2103.09504):

    g  = tanh(Wxg*X + Whg*H)    i  = s(Wxi*X + Whi*H)    f  = s(Wxf*X + Whf*H + 1)
    g' = tanh(W'xg*X + Wmg*M)   i' = s(W'xi*X + Wmi*M)   f' = s(W'xf*X + Wmf*M + 1)
    C_t = f.C_{t-1} + i.g       M_t^l = f'.M_t^{l-1} + i'.g'
    o = s(Wxo*X + Who*H + Wo*[C_t, M_t])                 H_t = o.tanh(W1x1*[C_t, M_t])

Causal LSTM (Wang et al. 2018, PredRNN++, arXiv:1804.06300), one after the other instead of side by side:

    g, i, f    from [X, H, C_{t-1}]                      C_t = f.C_{t-1} + i.g
    g', i', f' from [X, C_t, M^{l-1}]                    M_t^l = f'.tanh(W3*M^{l-1}) + i'.g'
    o = tanh(W4*[X, C_t, M_t])                           H_t = o.tanh(W5*[C_t, M_t])

Gradient highway unit, between its first and second layer:

    P = tanh(Wpx*X + Wpz*Z_{t-1})   S = s(Wsx*X + Wsz*Z_{t-1})   Z_t = S.P + (1-S).Z_{t-1}

All layers have one width. There is no normalisation over y and x, which would fix the size of the maps.
Every state begins at 0 with every sequence.
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
"""What a layer hands to itself at the next time: H first, then its memories."""


def conv2d_same(channels: int, filters: int, kernel: int, *, bias: bool = True) -> nn.Conv2d:
    """A convolution that keeps the size of the maps."""
    return nn.Conv2d(channels, filters, kernel, padding=kernel // 2, bias=bias)


class RecurrentCell(nn.Module):
    """One layer of a recurrent stack at one time.

    Args:
        channels: Of the input X.
        width: Of H and of every memory.
        kernel: Side of the convolutions, odd.
    """

    def __init__(self, channels: int, width: int, kernel: int) -> None:
        super().__init__()
        self.channels, self.width, self.kernel = channels, width, kernel

    def initial_state(self, x: Tensor) -> States:
        """The states before the first time, for maps like `x`: H and C, all 0."""
        zeros = x.new_zeros(x.shape[0], self.width, *x.shape[-2:])
        return zeros, zeros

    def forward(self, x: Tensor, states: States, m: Tensor) -> tuple[States, Tensor]:
        """One time.

        Args:
            x: ``(batch, channels, y, x)``.
            states: Of this layer, one time before.
            m: M of the layer below ``(batch, width, y, x)``.

        Returns:
            The states now, H first, and M of this layer.
        """
        raise NotImplementedError


class ConvLSTMCell(RecurrentCell):
    """See the module; M passes by untouched."""

    def __init__(self, in_channels: int, hidden_channels: int, kernel_size: int) -> None:
        super().__init__(in_channels, hidden_channels, kernel_size)
        self.x_gates = conv2d_same(in_channels, 4 * hidden_channels, kernel_size)
        self.h_gates = conv2d_same(hidden_channels, 4 * hidden_channels, kernel_size, bias=False)

    def forward(self, x: Tensor, states: States, m: Tensor) -> tuple[States, Tensor]:
        h, c = states
        g, i, f, o = (self.x_gates(x) + self.h_gates(h)).chunk(4, dim=1)
        c = (f + 1).sigmoid() * c + i.sigmoid() * g.tanh()
        return (o.sigmoid() * c.tanh(), c), m


class ForgetGates(nn.Module):
    """f and f' of the ST-LSTM, what another cell may replace."""

    def __init__(self, in_channels: int, hidden_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.x_gates = conv2d_same(in_channels, 2 * hidden_channels, kernel_size)
        self.h_gate = conv2d_same(hidden_channels, hidden_channels, kernel_size, bias=False)
        self.m_gate = conv2d_same(hidden_channels, hidden_channels, kernel_size, bias=False)

    def initial_state(self, x: Tensor) -> States:
        """Memories of its own before the first time: none."""
        return ()

    def forward(
        self, x: Tensor, h: Tensor, c: Tensor, m: Tensor, memories: States
    ) -> tuple[Tensor, Tensor, States]:
        """f, f' and its own memories now."""
        f, f_ = self.x_gates(x).chunk(2, dim=1)
        return (f + self.h_gate(h) + 1).sigmoid(), (f_ + self.m_gate(m) + 1).sigmoid(), ()


class STLSTMCell(RecurrentCell):
    """See the module.

    Args:
        in_channels, hidden_channels, kernel_size: As of `Cell`.
        forget: What gives f and f'; None: `ForgetGates`.
    """

    def __init__(
        self, in_channels: int, hidden_channels: int, kernel_size: int, *, forget: nn.Module | None = None
    ) -> None:
        super().__init__(in_channels, hidden_channels, kernel_size)
        self.x_gates = conv2d_same(in_channels, 5 * hidden_channels, kernel_size)  # of g i g' i' o
        self.h_gates = conv2d_same(hidden_channels, 3 * hidden_channels, kernel_size, bias=False)  # of g i o
        self.m_gates = conv2d_same(hidden_channels, 2 * hidden_channels, kernel_size, bias=False)  # of g' i'
        self.o_gate = conv2d_same(2 * hidden_channels, hidden_channels, kernel_size, bias=False)
        self.mix = nn.Conv2d(2 * hidden_channels, hidden_channels, 1)
        self.forget = forget or ForgetGates(in_channels, hidden_channels, kernel_size)

    def initial_state(self, x: Tensor) -> States:
        own: ForgetGates = self.forget  # type: ignore[assignment]
        return *super().initial_state(x), *own.initial_state(x)

    def forward(self, x: Tensor, states: States, m: Tensor) -> tuple[States, Tensor]:
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
    """See the module."""

    def __init__(self, in_channels: int, hidden_channels: int, kernel_size: int) -> None:
        super().__init__(in_channels, hidden_channels, kernel_size)
        self.x_gates = conv2d_same(in_channels, 7 * hidden_channels, kernel_size)  # of g i f g' i' f' o
        self.h_gates = conv2d_same(hidden_channels, 3 * hidden_channels, kernel_size, bias=False)  # of g i f
        self.c_gates = conv2d_same(hidden_channels, 3 * hidden_channels, kernel_size, bias=False)  # of g i f
        self.new_c_gates = conv2d_same(
            hidden_channels, 4 * hidden_channels, kernel_size, bias=False
        )  # of g' i' f' o
        self.m_gates = conv2d_same(
            hidden_channels, 3 * hidden_channels, kernel_size, bias=False
        )  # of g' i' f'
        self.keep = conv2d_same(hidden_channels, hidden_channels, kernel_size)  # W3
        self.new_m_gate = conv2d_same(hidden_channels, hidden_channels, kernel_size, bias=False)  # of o
        self.mix = nn.Conv2d(2 * hidden_channels, hidden_channels, 1)  # W5

    def forward(self, x: Tensor, states: States, m: Tensor) -> tuple[States, Tensor]:
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
    """See the module: a short way for what must not be forgotten, and for its gradient.

    Shape:
        X and Z ``(batch, width, y, x)`` -> Z.
    """

    def __init__(self, hidden_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.x_gates = conv2d_same(hidden_channels, 2 * hidden_channels, kernel_size)
        self.z_gates = conv2d_same(hidden_channels, 2 * hidden_channels, kernel_size, bias=False)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        p, s = (self.x_gates(x) + self.z_gates(z)).chunk(2, dim=1)
        s = s.sigmoid()
        return s * p.tanh() + (1 - s) * z


class RecurrentStack(nn.Module):
    """Layers one above the other, from a sequence of maps to the last hidden state of the top.

    Args:
        cells: From the bottom; all of one width.
        highway: Between the first and the second layer.
        grad_checkpointing: Keep of each time the states alone and compute the rest again for the gradient:
            less memory, a third more time.

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
        """The states of every layer, M and Z before the first time."""
        zeros = x.new_zeros(x.shape[0], self.num_features, *x.shape[-2:])
        return [cell.initial_state(x) for cell in self._cells()], zeros, zeros

    def step(
        self, x: Tensor, states: list[States], m: Tensor, z: Tensor
    ) -> tuple[list[States], Tensor, Tensor]:
        """One time: the states of every layer, M of the top, and Z."""
        now = []
        for number, (cell, before) in enumerate(zip(self._cells(), states, strict=True)):
            after, m = cell(x, before, m)
            now.append(after)
            x = after[0]
            if number == 0 and self.highway is not None:
                x = z = self.highway(x, z)
        return now, m, z

    def forward(self, sequence: Tensor) -> Tensor:
        states, m, z = self.initial_state(sequence[:, 0])
        for x in sequence.unbind(1):
            if self.grad_checkpointing and torch.is_grad_enabled():
                states, m, z = checkpoint(self.step, x, states, m, z, use_reentrant=False)
            else:
                states, m, z = self.step(x, states, m, z)
        return states[-1][0]

    def _cells(self) -> list[RecurrentCell]:
        return list(self.cells)  # type: ignore[arg-type]
