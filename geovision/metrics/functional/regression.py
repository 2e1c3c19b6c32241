"""How near a field is to the truth: differences, correlation, structure, distribution.

Every function takes `prediction` and `truth` of one shape ``(time, …, y, x)`` in one unit, and `valid`,
broadcastable to them. A cell that is NaN in either, or not valid, does not count. `over` says what is
summed up: ``"all"`` gives one number; ``"time"``, the first axis, a map ``(…, y, x)``; ``"space"``, the
last two, a series ``(time, …)``. What nothing counts for is NaN. Results are float64.
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
"""Of the scales, finest first (Wang et al. 2003, section 3.2)."""


def _axes(field: Tensor, over: Over) -> tuple[int, ...]:
    return {"all": tuple(range(field.ndim)), "time": (0,), "space": (-2, -1)}[over]


# --- differences --------------------------------------------------------------------------------


def rmse(prediction: Tensor, truth: Tensor, valid: Tensor | None = None, *, over: Over = "all") -> Tensor:
    """Root of the mean squared difference, in the unit of the field."""
    p, t, there = mask_pair(prediction, truth, valid)
    return masked_mean((p - t) ** 2, there, _axes(p, over)).sqrt()


def mae(prediction: Tensor, truth: Tensor, valid: Tensor | None = None, *, over: Over = "all") -> Tensor:
    """Mean absolute difference, in the unit of the field."""
    p, t, there = mask_pair(prediction, truth, valid)
    return masked_mean((p - t).abs(), there, _axes(p, over))


def bias(prediction: Tensor, truth: Tensor, valid: Tensor | None = None, *, over: Over = "all") -> Tensor:
    """Mean difference, in the unit of the field; above 0 the prediction is too high."""
    p, t, there = mask_pair(prediction, truth, valid)
    return masked_mean(p - t, there, _axes(p, over))


def relative_bias(
    prediction: Tensor, truth: Tensor, valid: Tensor | None = None, *, over: Over = "all"
) -> Tensor:
    """`bias` as a fraction of the mean of the truth."""
    p, t, there = mask_pair(prediction, truth, valid)
    axes = _axes(p, over)
    return masked_mean(p - t, there, axes) / masked_mean(t, there, axes)


def correlation(
    prediction: Tensor, truth: Tensor, valid: Tensor | None = None, *, over: Over = "all"
) -> Tensor:
    """Pearson correlation, -1 to 1; NaN where either does not vary.

    In time (``over="time"``) of each cell, in space (``over="space"``) of each time step, or of all
    values together.
    """
    p, t, there = mask_pair(prediction, truth, valid)
    axes = _axes(p, over)

    def centred(field: Tensor) -> Tensor:
        mean = masked_mean(field, there, axes)
        for axis in sorted(axis % field.ndim for axis in axes):
            mean = mean.unsqueeze(axis)
        return torch.where(there, field - mean, torch.zeros_like(field))

    a, b = centred(p), centred(t)
    spread = (a.square().sum(axes) * b.square().sum(axes)).sqrt()
    # What rounding leaves of a constant is no variation.
    scale = (p.square().sum(axes) * t.square().sum(axes)).sqrt()
    found = ((a * b).sum(axes) / spread).clamp(-1, 1)
    return torch.where(spread > 1e-12 * scale, found, torch.full_like(found, torch.nan))


def std_ratio(
    prediction: Tensor, truth: Tensor, valid: Tensor | None = None, *, over: Over = "all"
) -> Tensor:
    """Standard deviation over that of the truth, over the cells that both have; 1 where they vary alike."""
    p, t, there = mask_pair(prediction, truth, valid)
    axes = _axes(p, over)

    def variance(field: Tensor) -> Tensor:
        return masked_mean(field * field, there, axes) - masked_mean(field, there, axes) ** 2

    return (variance(p).clamp_min(0) / variance(t).clamp_min(0)).sqrt()


def psnr(
    prediction: Tensor, truth: Tensor, valid: Tensor | None = None, *, data_range: float, over: Over = "all"
) -> Tensor:
    """``10 log10(data_range^2 / MSE)``, dB. It means nothing without its range, which is stated with it.

    Args:
        data_range: Of the field, in its unit; one number for all that is compared.
    """
    return 20 * torch.log10(_check_data_range(data_range) / rmse(prediction, truth, valid, over=over))


def _check_data_range(data_range: float) -> float:
    if not data_range > 0:
        raise InputError(f"data_range={data_range}: expected the range of the field in its unit, above 0")
    return data_range


# --- structure ----------------------------------------------------------------------------------


def ssim(
    prediction: Tensor, truth: Tensor, valid: Tensor | None = None, *, data_range: float, window: int = 11
) -> Tensor:
    """Mean structural similarity over all fields, -1 to 1 (Wang et al. 2004, doi:10.1109/TIP.2003.819861).

    Moments are taken in a Gaussian window of 1.5 cells; K1 = 0.01, K2 = 0.03. Cells whose window reaches
    beyond the grid are left out, as published. Missing cells have no weight in a window; those themselves,
    and cells where less than half of the window's weight is there, do not count.

    Args:
        prediction, truth: ``(time, …, y, x)``, sides at least `window`.
        data_range: Of the field, in its unit.
        window: Cells along each side, odd.

    Raises:
        InputError: A field smaller than the window.
    """
    similarity, _, counts = _ssim_map(prediction, truth, valid, data_range, window)
    return masked_mean(similarity, counts, range(similarity.ndim))


def multiscale_ssim(
    prediction: Tensor,
    truth: Tensor,
    valid: Tensor | None = None,
    *,
    data_range: float,
    scales: int = 5,
    window: int = 11,
) -> Tensor:
    """Mean multi-scale structural similarity, 0-1 (Wang et al. 2003, doi:10.1109/ACSSC.2003.1292216).

    Contrast and structure at each scale, luminance at the coarsest, each to the power of its weight; a
    scale is the mean over 2 x 2 cells of the one before, of those that are there. Below 0 counts as 0.

    Args:
        scales: With fewer than five the weights of the finest are scaled up to a sum of 1.

    Raises:
        InputError: A field whose coarsest scale is smaller than the window.
    """
    if not 1 <= scales <= len(MS_SSIM_WEIGHTS):
        raise InputError(f"scales={scales}: expected 1 to {len(MS_SSIM_WEIGHTS)}")
    side = min(truth.shape[-2:])
    if side // 2 ** (scales - 1) < window:
        raise InputError(
            f"a side of {side} cells is too small for {scales} scales of a window of {window}; "
            f"take fewer scales or a smaller window"
        )
    p, t, there = mask_pair(prediction, truth, valid)
    # All five as published, though rounding makes their sum 1.0001.
    total = 1.0 if scales == len(MS_SSIM_WEIGHTS) else sum(MS_SSIM_WEIGHTS[:scales])
    weights = [weight / total for weight in MS_SSIM_WEIGHTS[:scales]]
    product = torch.ones(p.shape[:-2], dtype=p.dtype, device=p.device)
    for scale, weight in enumerate(weights):
        if scale:
            p, t, there = _downsample(p, t, there)
        whole, structure, counts = _ssim_map(p, t, there, data_range, window)
        each = masked_mean(whole if scale == scales - 1 else structure, counts, (-2, -1))
        product = product * each.clamp_min(0) ** weight
    return product.nanmean()


def _downsample(p: Tensor, t: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
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
    """The index and its part without luminance ``(…, y - window + 1, x - window + 1)``, and where they
    count."""
    p, t, there = mask_pair(prediction, truth, valid)
    if min(p.shape[-2:]) < window or window % 2 == 0:
        raise InputError(
            f"fields of {p.shape[-2]} x {p.shape[-1]} cells and a window of {window}; the "
            "window must be odd and fit into the field"
        )
    at = torch.arange(window, dtype=p.dtype, device=p.device) - window // 2
    line = torch.exp(-0.5 * (at / 1.5) ** 2)
    line = line / line.sum()
    weight = _gaussian_filter(there.double(), line)

    def local(field: Tensor) -> Tensor:
        return _gaussian_filter(field, line) / weight.clamp_min(1e-9)

    mean_p, mean_t = local(p), local(t)
    var_p, var_t = local(p * p) - mean_p**2, local(t * t) - mean_t**2
    covariance = local(p * t) - mean_p * mean_t
    c1, c2 = (0.01 * _check_data_range(data_range)) ** 2, (0.03 * data_range) ** 2
    structure = (2 * covariance + c2) / (var_p + var_t + c2)
    luminance = (2 * mean_p * mean_t + c1) / (mean_p**2 + mean_t**2 + c1)
    edge = window // 2
    inside = there[..., edge : there.shape[-2] - edge, edge : there.shape[-1] - edge]
    return luminance * structure, structure, inside & (weight >= 0.5)


def _gaussian_filter(field: Tensor, kernel: Tensor) -> Tensor:
    planes = F.conv2d(_flatten_planes(field), kernel.view(1, 1, -1, 1))
    planes = F.conv2d(planes, kernel.view(1, 1, 1, -1))
    return planes.view(*field.shape[:-2], *planes.shape[-2:])


# --- distribution -------------------------------------------------------------------------------


def wasserstein(prediction: Tensor, truth: Tensor, valid: Tensor | None = None) -> Tensor:
    """Distance between the distributions of all values, in the unit of the field: the mean absolute
    difference of the sorted values (Wasserstein-1 in one dimension; Villani 2003, section 2.2)."""
    p, t, there = mask_pair(prediction, truth, valid)
    return (p[there].sort().values - t[there].sort().values).abs().mean()


def quantile_pairs(
    prediction: Tensor, truth: Tensor, valid: Tensor | None = None, *, quantiles: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Quantiles of all values of both, ``(quantile,)`` each, for a quantile-quantile plot.

    Args:
        quantiles: 0-1; where None, the percentiles, and finer ones up to 0.9999.
    """
    p, t, there = mask_pair(prediction, truth, valid)
    if quantiles is None:
        percent = torch.arange(1, 100, dtype=torch.float64) / 100
        quantiles = torch.cat([percent, 1 - torch.logspace(-2.2, -4, 10, dtype=torch.float64)])
    return _quantile(p[there], quantiles), _quantile(t[there], quantiles)


def _quantile(values: Tensor, quantiles: Tensor) -> Tensor:
    """Linear between the sorted values; torch.quantile refuses more than 16 million of them."""
    ordered = values.sort().values
    if not len(ordered):
        return torch.full_like(quantiles, torch.nan)
    at = quantiles.to(ordered) * (len(ordered) - 1)
    low = at.floor().long()
    high = (low + 1).clamp_max(len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])
