"""Two memory cells (TMC) of HINet (Zhang et al. 2024).

The module also contains an ST-LSTM with their forget gates. The published formulas name the parts. The
descriptions and symbols are those of the two-memory model of Le, Tran and Venkatesh 2020 (Self-Attentive
Associative Memory, arXiv:2002.03519), from which the rest is adopted. The following is our reconstruction. At
one time, with Z = [X_t, H_{t-1}] and the width d of the cell::

    U = tanh(Wu Z)    V = tanh(Wv Z)                            two sets of d maps, convolutions 1x1
    f1 = mean of U over space,  f2 = mean of V,  f3 = W3 mean of Z
    x_t = U V' / (h w)                                          d x d: correlation of the channels
    F = s(Wf f1 + Yf tanh(Mi_{t-1}) + 1)   I = s(Wj f1 + Yj tanh(Mi_{t-1}))
    Mi_t = F.Mi_{t-1} + I.x_t                                   item memory
    vr   = softmax(f3)' Mr_{t-1} f2                             value read from the relational memory
    Mr_t = l Mr_{t-1} + a1 SA(Mi_t + a2 vr (x) f2)              relational memory, one d x d per head
    Mi_t <- Mi_t + a3 tanh(G1 Vf(Mr_t))                         transfer; Vf flattens heads and rows

    SA, "sdp": softmax(Q K' / sqrt(d)) V over the d rows, for each head (as published)
    SA, "opa": mean over rows i of tanh(q . k_i) (x) v_i, one query q per head (Le et al., who use the sum)
    Q, K, V are linear in the rows, each normalized to mean 0 and standard deviation 1.

    f  = s(Wi (Mi_t C_{t-1}(p)) + 1)        f' = s(Wr [Mr_{t,n} M_t^{l-1}(p)]_n + 1)     at every cell p

Here s is the logistic function, "." the elementwise product, (x) the outer product and ' the transpose.
Tokens are channels (the "elements" of the paper). Space is pooled, so the size of the memories does not
depend on the size of the map. The tanh of U, V and G1 are ours and bound Mi. With a retention l of 1, as
published, Mr grows at most linearly with time, because the rows of the input of SA are normalized; l < 1
bounds it as well. With Wi = Wr = 0, the cell is an ST-LSTM with constant forget gates, s(1).
"""

from __future__ import annotations

from typing import Literal

import torch
from einops import einsum, rearrange, reduce
from torch import Tensor, nn

from geovision.errors import OptionError
from geovision.models.st_lstm import States, STLSTMCell

__all__ = ["Attention", "SelfAttention", "TMCForgetGates", "TMCSTLSTMCell", "TwoMemoryCells"]

Attention = Literal["sdp", "opa"]


class SelfAttention(nn.Module):
    """Self-attention SA over the rows of a matrix.

    Args:
        hidden_channels: Number d of rows and columns of the matrix.
        num_heads: Number of heads.
        kind: ``"sdp"`` for scaled dot products, ``"opa"`` for outer products.

    Shape:
        ``(batch, d, d)`` -> ``(batch, num_heads, d, d)``.

    Raises:
        OptionError: The kind is unknown.
    """

    def __init__(self, hidden_channels: int, num_heads: int, kind: Attention) -> None:
        super().__init__()
        if kind not in ("sdp", "opa"):
            raise OptionError(f"attention={kind!r} is unknown; choose sdp or opa")
        self.num_heads, self.kind = num_heads, kind
        self.norm = nn.LayerNorm(hidden_channels)
        self.keys_and_values = nn.Linear(
            hidden_channels, 2 * (hidden_channels * num_heads if kind == "sdp" else hidden_channels)
        )
        # Dot products have one query per row, outer products one mixture of the rows per head.
        self.queries = (
            nn.Linear(hidden_channels, hidden_channels * num_heads)
            if kind == "sdp"
            else nn.Linear(hidden_channels, num_heads)
        )

    def forward(self, matrix: Tensor) -> Tensor:
        """Return one matrix per head, shape (batch, num_heads, d, d)."""
        rows = self.norm(matrix)
        if self.kind == "sdp":
            q, k, v = (
                rearrange(each, "b i (n d) -> b n i d", n=self.num_heads)
                for each in (self.queries(rows), *self.keys_and_values(rows).chunk(2, dim=-1))
            )
            return nn.functional.scaled_dot_product_attention(q, k, v)
        k, v = self.keys_and_values(rows).chunk(2, dim=-1)
        q = rearrange(self.queries(rearrange(rows, "b i d -> b d i")), "b d n -> b n 1 d")
        weights = (q * rearrange(k, "b i d -> b 1 i d")).tanh()
        return einsum(weights, v, "b n i d, b i e -> b n d e") / matrix.shape[-1]


class TwoMemoryCells(nn.Module):
    """Item memory Mi and relational memory Mr, updated once per time step.

    Args:
        channels: Number of channels of Z = [X, H].
        width: Width d of the cell.
        heads: Number n of heads of the relational memory. Default: 4.
        attention: ``"sdp"`` or ``"opa"``. Default: ``"sdp"``.
        retention: Factor l of Mr per time step, above 0 and at most 1. Default: 1, as published.

    Shape:
        Z ``(batch, channels, y, x)``, Mi ``(batch, d, d)``, Mr ``(batch, n, d, d)`` -> Mi, Mr.

    Raises:
        OptionError: The retention is not in (0, 1].
    """

    def __init__(
        self,
        channels: int,
        width: int,
        *,
        heads: int = 4,
        attention: Attention = "sdp",
        retention: float = 1.0,
    ) -> None:
        super().__init__()
        if not 0 < retention <= 1:
            raise OptionError(f"retention={retention}: expected a value above 0 and at most 1")
        self.width, self.heads, self.retention = width, heads, retention
        self.u_and_v = nn.Conv2d(channels, 2 * width, 1)  # Wu, Wv
        self.f3 = nn.Linear(channels, heads)
        self.gates_of_input = nn.Linear(width, 2 * width)  # Wf, Wj
        self.gates_of_memory = nn.Linear(width, 2 * width, bias=False)  # Yf, Yj
        self.attention = SelfAttention(width, heads, attention)
        self.transfer = nn.Linear(heads * width, width)  # G1
        self.a1, self.a2, self.a3 = (nn.Parameter(torch.tensor(0.1)) for _ in range(3))

    def initial_state(self, x: Tensor) -> States:
        """Return the initial Mi and Mr, which are 0.

        Args:
            x: Maps with the batch size, device and data type of the input.
        """
        d = self.width
        return x.new_zeros(x.shape[0], d, d), x.new_zeros(x.shape[0], self.heads, d, d)

    def forward(self, z: Tensor, mi: Tensor, mr: Tensor) -> States:
        """Update the memories by one time step.

        Args:
            z: Concatenation of X and H, shape (batch, channels, y, x).
            mi: Item memory, shape (batch, d, d).
            mr: Relational memory, shape (batch, n, d, d).

        Returns:
            New item memory and relational memory.
        """
        u, v = rearrange(self.u_and_v(z).tanh(), "b d y x -> b d (y x)").chunk(2, dim=1)
        f1, f2 = u.mean(-1), v.mean(-1)
        x = einsum(u, v, "b i p, b j p -> b i j") / u.shape[-1]
        # The contribution of the input to the gates is the same for all rows, as in Le et al.
        gates = rearrange(self.gates_of_input(f1), "b g -> b 1 g") + self.gates_of_memory(mi.tanh())
        forget, write = gates.chunk(2, dim=-1)
        mi = (forget + 1).sigmoid() * mi + write.sigmoid() * x
        f3 = self.f3(reduce(z, "b c y x -> b c", "mean"))
        vr = einsum(f3.softmax(-1), mr, f2, "b n, b n i j, b j -> b i")
        matrix = mi + self.a2 * rearrange(vr, "b i -> b i 1") * rearrange(f2, "b j -> b 1 j")
        mr = self.retention * mr + self.a1 * self.attention(matrix)
        # Vf flattens heads and rows, and G1 combines them to d rows.
        transferred = self.transfer(rearrange(mr, "b n i j -> b j (n i)"))
        return mi + self.a3 * rearrange(transferred, "b j i -> b i j").tanh(), mr


class TMCForgetGates(nn.Module):
    """Forget gates f and f' from the two memories.

    They replace `geovision.models.st_lstm.ForgetGates`.

    Args:
        in_channels: Number of channels of X.
        hidden_channels: Width d of the cell.
        num_heads: Number of heads of the relational memory. Default: 4.
        attention: ``"sdp"`` or ``"opa"``. Default: ``"sdp"``.
        retention: Retention of the relational memory, above 0 and at most 1. Default: 1, as published.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        *,
        num_heads: int = 4,
        attention: Attention = "sdp",
        retention: float = 1.0,
    ) -> None:
        super().__init__()
        self.memories = TwoMemoryCells(
            in_channels + hidden_channels,
            hidden_channels,
            heads=num_heads,
            attention=attention,
            retention=retention,
        )
        self.wi = nn.Linear(hidden_channels, hidden_channels, bias=False)
        self.wr = nn.Linear(num_heads * hidden_channels, hidden_channels, bias=False)

    def initial_state(self, x: Tensor) -> States:
        """Return the initial memories Mi and Mr, which are 0."""
        return self.memories.initial_state(x)

    def forward(
        self, x: Tensor, h: Tensor, c: Tensor, m: Tensor, memories: States
    ) -> tuple[Tensor, Tensor, States]:
        """Compute the forget gates and the memories; see `geovision.models.st_lstm.ForgetGates`."""
        mi, mr = self.memories(torch.cat([x, h], dim=1), *memories)
        # Wi (Mi C) = (Wi Mi) C: one d x d matrix per sample, independent of the size of the map.
        f = _matmul_per_pixel(self.wi.weight @ mi, c)
        f_ = _matmul_per_pixel(self.wr.weight @ rearrange(mr, "b n i j -> b (n i) j"), m)
        return (f + 1).sigmoid(), (f_ + 1).sigmoid(), (mi, mr)


def _matmul_per_pixel(matrix: Tensor, maps: Tensor) -> Tensor:
    """Multiply matrices by the channels of each cell.

    The shapes are (batch, d, d) and (batch, d, y, x).
    """
    return einsum(matrix, maps, "b i j, b j y x -> b i y x")


class TMCSTLSTMCell(STLSTMCell):
    """ST-LSTM cell with the forget gates `TMCForgetGates`.

    All other parts are those of `geovision.models.st_lstm.STLSTMCell`.

    Args:
        in_channels: Number of channels of X.
        hidden_channels: Number of channels of H and of each memory.
        kernel_size: Side of the convolutions, odd.
        num_heads: Number of heads of the relational memory. Default: 4.
        attention: ``"sdp"`` or ``"opa"``. Default: ``"sdp"``.
        retention: Retention of the relational memory, above 0 and at most 1. Default: 1, as published.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        kernel_size: int,
        *,
        num_heads: int = 4,
        attention: Attention = "sdp",
        retention: float = 1.0,
    ) -> None:
        forget = TMCForgetGates(
            in_channels, hidden_channels, num_heads=num_heads, attention=attention, retention=retention
        )
        super().__init__(in_channels, hidden_channels, kernel_size, forget=forget)
