"""Differences, correlation, structure and distribution of fields.

Every function takes a prediction and a target of one shape (time, ..., y, x) in one unit, and a mask `valid`,
broadcastable to them. Cells that are NaN in either field or invalid are excluded.

`over` selects the axes to reduce: ``"all"`` returns one number; ``"time"``, the first axis, a map of shape
(..., y, x); ``"space"``, the last two axes, a series of shape (time, ...). Results without valid cells are
NaN. Results are float64.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from geovision.errors import InputError
from geovision.metrics._masked import mask_pair, masked_mean

__all__ = [
    "Over",
    "bias",
    "correlation",
    "mae",
    "multiscale_ssim",
    "psnr",
    "quantile_pairs",
    "relative_bias",
    "rmse",
    "ssim",
    "std_ratio",
    "wasserstein",
]

Over = Literal["all", "time", "space"]

MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Weights of the scales, finest first (Wang et al. 2003, section 3.2)."""


def _axes(field: Tensor, over: Over) -> tuple[int, ...]:
    return {"all": tuple(range(field.ndim)), "time": (0,), "space": (-2, -1)}[over]


# --- differences --------------------------------------------------------------------------------


def rmse(prediction: Tensor, truth: Tensor, valid: Tensor | None = None, *, over: Over = "all") -> Tensor:
    """Compute the root mean squared error, in the unit of the field; 0 is best.

    Args:
        prediction: Predicted field, shape (time, ..., y, x); NaN where missing.
        truth: Target field, same shape and unit; NaN where missing.
        valid: Cells to include, bool, broadcastable. Default: all.
        over: Axes to reduce; see the module description. Default: ``"all"``.
    """
    p, t, mask = mask_pair(prediction, truth, valid)
    return masked_mean((p - t) ** 2, mask, _axes(p, over)).sqrt()


def mae(prediction: Tensor, truth: Tensor, valid: Tensor | None = None, *, over: Over = "all") -> Tensor:
    """Compute the mean absolute error, in the unit of the field; 0 is best.

    Args:
        prediction: Predicted field, shape (time, ..., y, x); NaN where missing.
        truth: Target field, same shape and unit; NaN where missing.
        valid: Cells to include, bool, broadcastable. Default: all.
        over: Axes to reduce; see the module description. Default: ``"all"``.
    """
    p, t, mask = mask_pair(prediction, truth, valid)
    return masked_mean((p - t).abs(), mask, _axes(p, over))


def bias(prediction: Tensor, truth: Tensor, valid: Tensor | None = None, *, over: Over = "all") -> Tensor:
    """Compute the mean error, in the unit of the field; 0 is best.

    Above 0 the prediction is too high.

    Args:
        prediction: Predicted field, shape (time, ..., y, x); NaN where missing.
        truth: Target field, same shape and unit; NaN where missing.
        valid: Cells to include, bool, broadcastable. Default: all.
        over: Axes to reduce; see the module description. Default: ``"all"``.
    """
    p, t, mask = mask_pair(prediction, truth, valid)
    return masked_mean(p - t, mask, _axes(p, over))


def relative_bias(
    prediction: Tensor, truth: Tensor, valid: Tensor | None = None, *, over: Over = "all"
) -> Tensor:
    """Compute the bias as a fraction of the mean target; 0 is best.

    Args:
        prediction: Predicted field, shape (time, ..., y, x); NaN where missing.
        truth: Target field, same shape and unit; NaN where missing.
        valid: Cells to include, bool, broadcastable. Default: all.
        over: Axes to reduce; see the module description. Default: ``"all"``.
    """
    p, t, mask = mask_pair(prediction, truth, valid)
    axes = _axes(p, over)
    return masked_mean(p - t, mask, axes) / masked_mean(t, mask, axes)


def correlation(
    prediction: Tensor, truth: Tensor, valid: Tensor | None = None, *, over: Over = "all"
) -> Tensor:
    """Compute the Pearson correlation, -1 to 1 (best).

    The correlation is in time for each cell (``over="time"``), in space for each time step
    (``over="space"``), or over all values together. NaN if either field is constant.

    Args:
        prediction: Predicted field, shape (time, ..., y, x); NaN where missing.
        truth: Target field, same shape and unit; NaN where missing.
        valid: Cells to include, bool, broadcastable. Default: all.
        over: Axes to reduce; see the module description. Default: ``"all"``.
    """
    p, t, mask = mask_pair(prediction, truth, valid)
    axes = _axes(p, over)

    def centered(field: Tensor) -> Tensor:
        mean = masked_mean(field, mask, axes)
        for axis in sorted(axis % field.ndim for axis in axes):
            mean = mean.unsqueeze(axis)
        return torch.where(mask, field - mean, torch.zeros_like(field))

    a, b = centered(p), centered(t)
    product = (a.square().sum(axes) * b.square().sum(axes)).sqrt()
    # The rounding error of a constant is not variation.
    scale = (p.square().sum(axes) * t.square().sum(axes)).sqrt()
    result = ((a * b).sum(axes) / product).clamp(-1, 1)
    return torch.where(product > 1e-12 * scale, result, torch.full_like(result, torch.nan))


def std_ratio(
    prediction: Tensor, truth: Tensor, valid: Tensor | None = None, *, over: Over = "all"
) -> Tensor:
    """Compute the ratio of standard deviations, prediction to target; 1 is best.

    Both are computed over the cells that are valid in both fields.

    Args:
        prediction: Predicted field, shape (time, ..., y, x); NaN where missing.
        truth: Target field, same shape and unit; NaN where missing.
        valid: Cells to include, bool, broadcastable. Default: all.
        over: Axes to reduce; see the module description. Default: ``"all"``.
    """
    p, t, mask = mask_pair(prediction, truth, valid)
    axes = _axes(p, over)

    def variance(field: Tensor) -> Tensor:
        return masked_mean(field * field, mask, axes) - masked_mean(field, mask, axes) ** 2

    return (variance(p).clamp_min(0) / variance(t).clamp_min(0)).sqrt()


def psnr(
    prediction: Tensor, truth: Tensor, valid: Tensor | None = None, *, data_range: float, over: Over = "all"
) -> Tensor:
    """Compute the peak signal-to-noise ratio (PSNR), in dB; higher is better.

    ``10 log10(data_range^2 / MSE)``. Report the data range with the value, because the value depends on it.

    Args:
        prediction: Predicted field, shape (time, ..., y, x); NaN where missing.
        truth: Target field, same shape and unit; NaN where missing.
        valid: Cells to include, bool, broadcastable. Default: all.
        data_range: Range of the field, in its unit, the same for all compared fields.
        over: Axes to reduce; see the module description. Default: ``"all"``.

    Raises:
        InputError: `data_range` is not above 0.
    """
    return 20 * torch.log10(_check_data_range(data_range) / rmse(prediction, truth, valid, over=over))


def _check_data_range(data_range: float) -> float:
    """Return the data range if it is above 0."""
    if not data_range > 0:
        raise InputError(f"data_range={data_range}; expected the range of the field in its unit, above 0")
    return data_range


# --- structure ----------------------------------------------------------------------------------


def ssim(
    prediction: Tensor, truth: Tensor, valid: Tensor | None = None, *, data_range: float, window: int = 11
) -> Tensor:
    """Compute the mean structural similarity (SSIM), -1 to 1 (best).

    Moments are computed in a Gaussian window with a standard deviation of 1.5 cells; K1 = 0.01, K2 = 0.03
    (Wang et al. 2004, doi:10.1109/TIP.2003.819861). As published, cells whose window extends beyond the grid
    are excluded. Missing cells have no weight in a window. Missing cells, and cells with less than half of
    the window's weight valid, are excluded from the mean.

    Args:
        prediction: Predicted field, shape (time, ..., y, x), with sides of at least `window`.
        truth: Target field, same shape and unit.
        valid: Cells to include, bool, broadcastable. Default: all.
        data_range: Range of the field, in its unit.
        window: Side of the window, in cells, odd. Default: 11.

    Raises:
        InputError: A field is smaller than the window, the window is even, or `data_range` is not above 0.
    """
    similarity, _, counted = _ssim_map(prediction, truth, valid, data_range, window)
    return masked_mean(similarity, counted, range(similarity.ndim))


def multiscale_ssim(
    prediction: Tensor,
    truth: Tensor,
    valid: Tensor | None = None,
    *,
    data_range: float,
    scales: int = 5,
    window: int = 11,
) -> Tensor:
    """Compute the mean multi-scale structural similarity (MS-SSIM), 0 to 1 (best).

    The product of contrast and structure at each scale, and luminance at the coarsest, each to the power of
    its weight (Wang et al. 2003, doi:10.1109/ACSSC.2003.1292216). Each scale is the mean of the valid cells
    in 2 x 2 cells of the scale before. Negative values are replaced by 0.

    Args:
        prediction: Predicted field, shape (time, ..., y, x).
        truth: Target field, same shape and unit.
        valid: Cells to include, bool, broadcastable. Default: all.
        data_range: Range of the field, in its unit.
        scales: Number of scales, 1 to 5. With fewer than five, the weights of the finest scales are scaled to
            a sum of 1. Default: 5.
        window: Side of the window, in cells, odd. Default: 11.

    Raises:
        InputError: The coarsest scale of a field is smaller than the window, or a parameter is out of range.
    """
    if not 1 <= scales <= len(MS_SSIM_WEIGHTS):
        raise InputError(f"scales={scales}; expected 1 to {len(MS_SSIM_WEIGHTS)}")
    side = min(truth.shape[-2:])
    if side // 2 ** (scales - 1) < window:
        raise InputError(
            f"a side of {side} cells is too small for {scales} scales of a window of {window}; "
            f"use fewer scales or a smaller window"
        )
    p, t, mask = mask_pair(prediction, truth, valid)
    # The five weights are used as published; their sum is 1.0001 because they are rounded.
    total = 1.0 if scales == len(MS_SSIM_WEIGHTS) else sum(MS_SSIM_WEIGHTS[:scales])
    weights = [weight / total for weight in MS_SSIM_WEIGHTS[:scales]]
    product = torch.ones(p.shape[:-2], dtype=p.dtype, device=p.device)
    for scale, weight in enumerate(weights):
        if scale:
            p, t, mask = _downsample(p, t, mask)
        similarity, structure, counted = _ssim_map(p, t, mask, data_range, window)
        each = masked_mean(similarity if scale == scales - 1 else structure, counted, (-2, -1))
        product = product * each.clamp_min(0) ** weight
    return product.nanmean()


def _downsample(p: Tensor, t: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Average prediction, target and mask over blocks of 2 x 2 cells."""
    share = F.avg_pool2d(_flatten_planes(valid.double()), 2)
    means = [F.avg_pool2d(_flatten_planes(field), 2) / share.clamp_min(1e-9) for field in (p, t)]
    shape = (*p.shape[:-2], *share.shape[-2:])
    enough = (share >= 0.5).view(shape)
    return means[0].view(shape), means[1].view(shape), enough


def _flatten_planes(field: Tensor) -> Tensor:
    return field.reshape(-1, 1, *field.shape[-2:])


def _ssim_map(
    prediction: Tensor, truth: Tensor, valid: Tensor | None, data_range: float, window: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the similarity, its part without luminance, and the mask of valid cells.

    All have shape (..., y - window + 1, x - window + 1).
    """
    p, t, mask = mask_pair(prediction, truth, valid)
    if min(p.shape[-2:]) < window or window % 2 == 0:
        raise InputError(
            f"fields of {p.shape[-2]} x {p.shape[-1]} cells and a window of {window} cells; "
            "the window must be odd and not larger than the field"
        )
    at = torch.arange(window, dtype=p.dtype, device=p.device) - window // 2
    line = torch.exp(-0.5 * (at / 1.5) ** 2)
    line = line / line.sum()
    weight = _gaussian_filter(mask.double(), line)

    def local(field: Tensor) -> Tensor:
        return _gaussian_filter(field, line) / weight.clamp_min(1e-9)

    mean_p, mean_t = local(p), local(t)
    var_p, var_t = local(p * p) - mean_p**2, local(t * t) - mean_t**2
    covariance = local(p * t) - mean_p * mean_t
    c1, c2 = (0.01 * _check_data_range(data_range)) ** 2, (0.03 * data_range) ** 2
    structure = (2 * covariance + c2) / (var_p + var_t + c2)
    luminance = (2 * mean_p * mean_t + c1) / (mean_p**2 + mean_t**2 + c1)
    edge = window // 2
    inside = mask[..., edge : mask.shape[-2] - edge, edge : mask.shape[-1] - edge]
    return luminance * structure, structure, inside & (weight >= 0.5)


def _gaussian_filter(field: Tensor, kernel: Tensor) -> Tensor:
    planes = F.conv2d(_flatten_planes(field), kernel.view(1, 1, -1, 1))
    planes = F.conv2d(planes, kernel.view(1, 1, 1, -1))
    return planes.view(*field.shape[:-2], *planes.shape[-2:])


# --- distribution -------------------------------------------------------------------------------


def wasserstein(prediction: Tensor, truth: Tensor, valid: Tensor | None = None) -> Tensor:
    """Compute the Wasserstein-1 distance between all values; 0 is best.

    Mean absolute difference of the sorted values, in the unit of the field (Villani 2003, section 2.2).

    Args:
        prediction: Predicted field, shape (time, ..., y, x); NaN where missing.
        truth: Target field, same shape and unit; NaN where missing.
        valid: Cells to include, bool, broadcastable. Default: all.
    """
    p, t, mask = mask_pair(prediction, truth, valid)
    return (p[mask].sort().values - t[mask].sort().values).abs().mean()


def quantile_pairs(
    prediction: Tensor, truth: Tensor, valid: Tensor | None = None, *, quantiles: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Compute quantiles of all values of both fields, for a quantile-quantile plot.

    Args:
        prediction: Predicted field, shape (time, ..., y, x); NaN where missing.
        truth: Target field, same shape and unit; NaN where missing.
        valid: Cells to include, bool, broadcastable. Default: all.
        quantiles: Probabilities, 0 to 1, shape (quantile,). Default: the percentiles, and finer ones up to
            0.9999.

    Returns:
        Quantiles of the prediction and of the target, shape (quantile,) each.
    """
    p, t, mask = mask_pair(prediction, truth, valid)
    if quantiles is None:
        percent = torch.arange(1, 100, dtype=torch.float64) / 100
        quantiles = torch.cat([percent, 1 - torch.logspace(-2.2, -4, 10, dtype=torch.float64)])
    return _quantile(p[mask], quantiles), _quantile(t[mask], quantiles)


def _quantile(values: Tensor, quantiles: Tensor) -> Tensor:
    """Return quantiles, linear between sorted values; torch.quantile is limited to 16 million."""
    ordered = values.sort().values
    if not len(ordered):
        return torch.full_like(quantiles, torch.nan)
    at = quantiles.to(ordered) * (len(ordered) - 1)
    low = at.floor().long()
    high = (low + 1).clamp_max(len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])
