"""Corrections of a modelled field that are known without a network: what a network has to beat.

Each is fitted cell by cell on dates that both fields have, and then corrects any date. A correction for
each month, season or other group is one correction a group. NaN counts nowhere and stays NaN; no
correction makes negative values of a quantity that has none.
"""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from geovision.errors import InputError

__all__ = ["EmpiricalQuantileMapping", "LinearScaling", "QuantileDeltaMapping"]

_MAX_RATIO = 10.0
"""Largest factor of a correction by ratios: a cell that is dry in the model says nothing about its rain."""


class _Correction(nn.Module):
    """Buffers of the grid that it is fitted on."""

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        for name in self._buffers:
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *rest)


class LinearScaling(_Correction):
    """The field times the ratio of the means, in each cell (Lenderink et al. 2007), the ratio at most 10.

    Shape:
        ``(time, y, x)`` -> the same.
    """

    ratio: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("ratio", torch.full((1, 1), torch.nan))

    @torch.no_grad()
    def fit(self, modeled: Tensor, observed: Tensor) -> None:
        """From fields of the same dates ``(time, y, x)``."""
        m, o = _common(modeled, observed)
        mean, wanted = m.nanmean(0), o.nanmean(0)
        self.ratio = (wanted / mean.clamp_min(1e-9)).clamp(0, _MAX_RATIO)

    def forward(self, field: Tensor) -> Tensor:
        return field * self.ratio


class EmpiricalQuantileMapping(_Correction):
    """Each value to the observed one of the same rank, in each cell (Panofsky and Brier 1968; Gudmundsson et
    al. 2012, doi:10.5194/hess-16-3383-2012).

    Linear between `nodes` quantiles; beyond the highest one by the ratio there, which does not blow up.
    Where the model is dry more often than the truth, its dry days stay dry.

    Args:
        num_quantiles: Quantiles kept.

    Shape:
        ``(time, y, x)`` -> the same.
    """

    modelled: Tensor
    observed: Tensor

    def __init__(self, *, num_quantiles: int = 100) -> None:
        super().__init__()
        self.register_buffer("levels", (torch.arange(num_quantiles) + 0.5) / num_quantiles, persistent=False)
        self.register_buffer("modelled", torch.full((num_quantiles, 1, 1), torch.nan))
        self.register_buffer("observed", torch.full((num_quantiles, 1, 1), torch.nan))
        self._cache: _CachedLines | None = None

    @torch.no_grad()
    def fit(self, modeled: Tensor, observed: Tensor) -> None:
        """From fields of the same dates ``(time, y, x)``; ranks alone are compared, so the days need not
        follow each other."""
        m, o = _common(modeled, observed)
        self.modelled = _quantiles(m, self.levels)  # type: ignore[arg-type]
        self.observed = _quantiles(o, self.levels)  # type: ignore[arg-type]

    def forward(self, field: Tensor) -> Tensor:
        return _evaluate_lines(field, self._cached_lines())

    def _cached_lines(self) -> _PiecewiseLinear:
        """The lines of the quantiles at hand, which many batches share."""
        nodes = (self.modelled, self.observed)
        # Tensors of inference mode do not tell when they change.
        versions = None if any(each.is_inference() for each in nodes) else [each._version for each in nodes]
        kept = self._cache
        if kept and kept.versions == versions and all(map(operator.is_, kept.nodes, nodes)):
            return kept.lines
        ratio = (self.observed[-1] / self.modelled[-1].clamp_min(1e-9)).clamp(0, _MAX_RATIO)
        lines = _fit_lines(*nodes, ratio)
        self._cache = _CachedLines(nodes, versions, lines) if versions else None
        return lines


class QuantileDeltaMapping(EmpiricalQuantileMapping):
    """Quantile mapping that keeps the relative change of each quantile (Cannon et al. 2015,
    doi:10.1175/JCLI-D-14-00754.1): a value of the period at hand is multiplied by the ratio of observed to
    modelled quantile, in the period fitted, at its own rank in its period. The ratio is at most 10.

    Shape:
        ``(time, y, x)``, a whole period -> the same.
    """

    def forward(self, field: Tensor, period: Tensor | None = None) -> Tensor:
        """The corrected field.

        Args:
            period: Quantiles of the period that it is of, from `quantiles_of`; None: `field` is all of it.
        """
        levels = self.levels.view(-1, 1, 1).expand_as(self.modelled)  # type: ignore[operator]
        own = self.compute_quantiles(field) if period is None else period
        rank = _interpolate(field, own, levels)
        modelled, observed = (
            _interpolate(rank, levels, self.modelled),
            _interpolate(rank, levels, self.observed),
        )
        return field * (observed / modelled.clamp_min(1e-9)).clamp(0, _MAX_RATIO)

    def compute_quantiles(self, field: Tensor) -> Tensor:
        """The quantiles of a period ``(time, y, x)`` that ranks are taken in, ``(node, y, x)``."""
        return _quantiles(field, self.levels)  # type: ignore[arg-type]


def _common(modelled: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
    if modelled.shape != observed.shape or modelled.ndim != 3:
        raise InputError(
            f"fields of shapes {tuple(modelled.shape)} and {tuple(observed.shape)}; expected "
            "one shape (time, y, x), from geovision.readers.grids.align and regrid"
        )
    there = torch.isfinite(modelled) & torch.isfinite(observed)
    gap = torch.full((), torch.nan, dtype=modelled.dtype)
    return torch.where(there, modelled, gap), torch.where(there, observed, gap)


def _quantiles(field: Tensor, levels: Tensor) -> Tensor:
    """``(level, y, x)``, by sorting: torch.nanquantile refuses more than 16 million values."""
    there = torch.isfinite(field)
    ordered = torch.where(there, field, torch.inf).sort(0).values
    count = there.sum(0, keepdim=True)
    at = (levels.view(-1, 1, 1) * count - 0.5).clamp_min(0).minimum((count - 1).clamp_min(0))
    low = at.floor().long()
    lower, upper = ordered.gather(0, low), ordered.gather(0, (low + 1).minimum((count - 1).clamp_min(0)))
    found = torch.where(upper > lower, lower + (at - low) * (upper - lower), lower)
    return torch.where(count > 0, found, torch.nan)


class _PiecewiseLinear(NamedTuple):
    """A broken line for each cell ``(cell, …)``: its nodes, and where each of its lines begins, how high and
    how steep. Line k leads to node k from the one before it; lines 0 and last are those beyond the ends."""

    nodes: Tensor
    begins: Tensor
    heights: Tensor
    slopes: Tensor


class _CachedLines(NamedTuple):
    """Lines, and the quantiles that they were made of."""

    nodes: tuple[Tensor, Tensor]
    versions: list[int]
    lines: _PiecewiseLinear


def _fit_lines(given: Tensor, wanted: Tensor, beyond: Tensor | None = None) -> _PiecewiseLinear:
    """From nodes to nodes ``(node, y, x)``; beyond the ends level.

    Args:
        beyond: What a value above the highest node is multiplied by instead, ``(y, x)``.
    """
    nodes, cells = (each.flatten(1).T.contiguous() for each in (given, wanted))
    level = torch.zeros_like(nodes[:, :1])
    steps = nodes.diff(dim=1)
    slopes = torch.where(steps > 0, cells.diff(dim=1) / steps.clamp_min(1e-12), 0.0)
    last = (nodes[:, -1:], cells[:, -1:], level)
    if beyond is not None:
        last = (level, level, beyond.flatten()[:, None])
    return _PiecewiseLinear(
        nodes,
        torch.cat([nodes[:, :1], nodes[:, :-1], last[0]], dim=1),
        torch.cat([cells[:, :1], cells[:, :-1], last[1]], dim=1),
        torch.cat([level, slopes, last[2]], dim=1),
    )


def _evaluate_lines(field: Tensor, lines: _PiecewiseLinear) -> Tensor:
    """The height of its cell's line at each value ``(time, y, x)``; NaN stays. Where several nodes are one
    value, as those of dry days are, the lowest is taken."""
    values = field.flatten(1).T.contiguous()
    line = torch.searchsorted(lines.nodes, values)
    begins, slopes, heights = (each.gather(1, line) for each in (lines.begins, lines.slopes, lines.heights))
    return (values - begins).mul_(slopes).add_(heights).T.reshape(field.shape)


def _interpolate(field: Tensor, given: Tensor, wanted: Tensor) -> Tensor:
    """Linear from nodes to nodes ``(node, y, x)`` in each cell; beyond the ends, the ends; NaN stays."""
    return _evaluate_lines(field, _fit_lines(given, wanted))
