"""Bias corrections of a modeled field, as baselines for networks.

Each correction is fitted in each cell, on dates that both fields contain. It then corrects any date. For
corrections by month, season or another group, fit one correction per group. NaN is ignored in the fit and
remains NaN. No correction produces negative values from non-negative ones.
"""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from geovision.errors import InputError

__all__ = ["EmpiricalQuantileMapping", "LinearScaling", "QuantileDeltaMapping"]

_MAX_RATIO = 10.0
"""Largest factor of a correction by ratios; a dry cell in the model has no information on its rain."""


class _Correction(nn.Module):
    """Base class of corrections.

    The buffers have the size of the training grid.
    """

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        for name in self._buffers:
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *rest)


class LinearScaling(_Correction):
    """Linear scaling, which multiplies the field by the ratio of the means.

    The ratio of observed to modeled mean is computed in each cell (Lenderink et al. 2007). It is at most 10.

    Shape:
        ``(time, y, x)`` -> the same shape.
    """

    ratio: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("ratio", torch.full((1, 1), torch.nan))

    @torch.no_grad()
    def fit(self, modeled: Tensor, observed: Tensor) -> None:
        """Fit the correction to fields of the same dates.

        Args:
            modeled: Modeled fields, shape (time, y, x), NaN where missing.
            observed: Observed fields, in the same shape and unit.
        """
        m, o = _common(modeled, observed)
        mean, wanted = m.nanmean(0), o.nanmean(0)
        self.ratio = (wanted / mean.clamp_min(1e-9)).clamp(0, _MAX_RATIO)

    def forward(self, field: Tensor) -> Tensor:
        """Return the corrected field."""
        return field * self.ratio


class EmpiricalQuantileMapping(_Correction):
    """Empirical quantile mapping.

    Each value is replaced by the observed value of equal rank. The mapping is fitted in each cell (Panofsky
    and Brier 1968; Gudmundsson et al. 2012, doi:10.5194/hess-16-3383-2012). It is linear between quantiles.
    Above the highest quantile, values are multiplied by the ratio at this quantile, which limits the
    extrapolation. If the model has more dry days than the observations, its dry days remain dry.

    Args:
        num_quantiles: Number of quantiles. Default: 100.

    Shape:
        ``(time, y, x)`` -> the same shape.
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
        """Fit the mapping to fields of the same dates.

        Only ranks are compared, so the days need not be consecutive.

        Args:
            modeled: Modeled fields, shape (time, y, x), NaN where missing.
            observed: Observed fields, in the same shape and unit.
        """
        m, o = _common(modeled, observed)
        self.modelled = _quantiles(m, self.levels)  # type: ignore[arg-type]
        self.observed = _quantiles(o, self.levels)  # type: ignore[arg-type]

    def forward(self, field: Tensor) -> Tensor:
        """Return the corrected field."""
        return _evaluate_lines(field, self._cached_lines())

    def _cached_lines(self) -> _PiecewiseLinear:
        """Return the piecewise linear mapping, computed once per set of quantiles."""
        nodes = (self.modelled, self.observed)
        # Tensors created in inference mode have no version counter.
        versions = None if any(each.is_inference() for each in nodes) else [each._version for each in nodes]
        kept = self._cache
        if kept and kept.versions == versions and all(map(operator.is_, kept.nodes, nodes)):
            return kept.lines
        ratio = (self.observed[-1] / self.modelled[-1].clamp_min(1e-9)).clamp(0, _MAX_RATIO)
        lines = _fit_lines(*nodes, ratio)
        self._cache = _CachedLines(nodes, versions, lines) if versions else None
        return lines


class QuantileDeltaMapping(EmpiricalQuantileMapping):
    """Quantile delta mapping, which preserves the relative change of each quantile.

    After Cannon et al. 2015, doi:10.1175/JCLI-D-14-00754.1. Each value has a rank in its own period. It is
    multiplied by the ratio of observed to modeled quantile of the training period at this rank. The ratio is
    at most 10.

    Args:
        num_quantiles: Number of quantiles. Default: 100.

    Shape:
        ``(time, y, x)``, a complete period -> the same shape.
    """

    def forward(self, field: Tensor, period: Tensor | None = None) -> Tensor:
        """Return the corrected field.

        Args:
            field: Modeled field, shape (time, y, x).
            period: Quantiles of the period of the field, from `compute_quantiles`. Default: `field` is the
                complete period.
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
        """Return the quantiles of a period, to which ranks refer.

        Args:
            field: Fields of the period, shape (time, y, x).

        Returns:
            Quantiles, shape (quantile, y, x).
        """
        return _quantiles(field, self.levels)  # type: ignore[arg-type]


def _common(modeled: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
    """Return both fields with NaN where either of them is missing."""
    if modeled.shape != observed.shape or modeled.ndim != 3:
        raise InputError(
            f"fields have shapes {tuple(modeled.shape)} and {tuple(observed.shape)}; expected one shape "
            "(time, y, x). Use geovision.readers.grids.align and regrid."
        )
    present = torch.isfinite(modeled) & torch.isfinite(observed)
    gap = torch.full((), torch.nan, dtype=modeled.dtype)
    return torch.where(present, modeled, gap), torch.where(present, observed, gap)


def _quantiles(field: Tensor, levels: Tensor) -> Tensor:
    """Return the quantiles, shape (level, y, x), by sorting.

    `torch.nanquantile` is limited to 16 million values.
    """
    present = torch.isfinite(field)
    ordered = torch.where(present, field, torch.inf).sort(0).values
    count = present.sum(0, keepdim=True)
    at = (levels.view(-1, 1, 1) * count - 0.5).clamp_min(0).minimum((count - 1).clamp_min(0))
    low = at.floor().long()
    lower, upper = ordered.gather(0, low), ordered.gather(0, (low + 1).minimum((count - 1).clamp_min(0)))
    found = torch.where(upper > lower, lower + (at - low) * (upper - lower), lower)
    return torch.where(count > 0, found, torch.nan)


class _PiecewiseLinear(NamedTuple):
    """Piecewise linear function of each cell, shape (cell, …).

    Segment k connects node k - 1 to node k. The first and the last segment are the extrapolations.

    Attributes:
        nodes: Positions of the nodes.
        begins: Position at which each segment begins.
        heights: Value of each segment at its begin.
        slopes: Slope of each segment.
    """

    nodes: Tensor
    begins: Tensor
    heights: Tensor
    slopes: Tensor


class _CachedLines(NamedTuple):
    """Piecewise linear functions, and the quantiles that they were computed from."""

    nodes: tuple[Tensor, Tensor]
    versions: list[int]
    lines: _PiecewiseLinear


def _fit_lines(given: Tensor, wanted: Tensor, beyond: Tensor | None = None) -> _PiecewiseLinear:
    """Return the piecewise linear functions through given nodes.

    Args:
        given: Positions of the nodes, shape (node, y, x).
        wanted: Values at the nodes, in the same shape.
        beyond: Factor of values above the highest node, shape (y, x). Default: constant extrapolation, as
            below the lowest node.
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
    """Evaluate the function of each cell; NaN remains NaN.

    If several nodes are equal, as for dry days, the lowest one applies.
    """
    values = field.flatten(1).T.contiguous()
    line = torch.searchsorted(lines.nodes, values)
    begins, slopes, heights = (each.gather(1, line) for each in (lines.begins, lines.slopes, lines.heights))
    return (values - begins).mul_(slopes).add_(heights).T.reshape(field.shape)


def _interpolate(field: Tensor, given: Tensor, wanted: Tensor) -> Tensor:
    """Interpolate linearly between nodes, shape (node, y, x), with constant extrapolation."""
    return _evaluate_lines(field, _fit_lines(given, wanted))
