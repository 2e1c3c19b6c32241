"""Power spectra of fields and their distance."""

from __future__ import annotations

import torch
from torch import Tensor

from geovision.metrics._masked import mask_pair

__all__ = ["ralsd", "spectrum"]


def spectrum(field: Tensor, *, spacing: float = 1.0) -> tuple[Tensor, Tensor]:
    """Compute the power spectrum, averaged over directions and fields.

    The squared modulus of the discrete Fourier transform, divided by the number of cells, is averaged over
    rings with a width of one wavenumber of the longer side (Ruzanski and Chandrasekar 2011,
    doi:10.1109/TGRS.2010.2052463).

    Args:
        field: Fields without missing cells, shape (..., y, x).
        spacing: Distance between cells, any unit. Default: 1.

    Returns:
        Frequency in cycles per unit of `spacing`, and power, shape (ring,) each, float64. The first ring is
        the mean of the field.
    """
    height, width = field.shape[-2:]
    side = max(height, width)
    power = torch.fft.fft2(field.double()).abs().square() / (height * width)
    power = power.reshape(-1, height, width).mean(0)
    y, x = (torch.fft.fftfreq(n, dtype=torch.float64, device=field.device) * side for n in (height, width))
    ring = torch.hypot(y[:, None], x[None, :]).round().long().flatten()
    count = (side + 1) // 2
    totals = torch.zeros(int(ring.max()) + 1, dtype=torch.float64, device=field.device)
    sums = totals.scatter_add(0, ring, power.flatten())
    cells = totals.scatter_add(0, ring, torch.ones_like(power).flatten())
    frequency = torch.arange(count, dtype=torch.float64, device=field.device) / (side * spacing)
    return frequency, (sums / cells)[:count]


def ralsd(prediction: Tensor, truth: Tensor, valid: Tensor | None = None) -> Tensor:
    """Compute the radially averaged log spectral distance, in dB; 0 is best.

    ``sqrt(mean over rings of (10 log10(S_target / S_prediction))^2)`` of the mean spectra S, without the ring
    of the mean (Harris et al. 2022, doi:10.1029/2022MS003120). Cells that are missing in either field are set
    to 0 in both, so both spectra contain their outline. A ring without power in both fields counts as equal.

    Args:
        prediction: Predicted field, shape (time, ..., y, x); NaN where missing.
        truth: Target field, same shape and unit; NaN where missing.
        valid: Cells to include, bool, broadcastable. Default: all.
    """
    p, t, _ = mask_pair(prediction, truth, valid)
    (_, predicted), (_, target) = spectrum(p), spectrum(t)
    tiny = torch.finfo(torch.float64).tiny
    decibels = 10 * torch.log10(target[1:].clamp_min(tiny) / predicted[1:].clamp_min(tiny))
    return decibels.square().mean().sqrt()
