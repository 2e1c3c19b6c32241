"""How much a field varies at each scale, and how far that is from the truth."""

from __future__ import annotations

import torch
from torch import Tensor

from geovision.metrics._masked import mask_pair

__all__ = ["ralsd", "spectrum"]


def spectrum(field: Tensor, *, spacing: float = 1.0) -> tuple[Tensor, Tensor]:
    """Power by wavenumber, averaged over directions and over all fields.

    The squared modulus of the discrete Fourier transform, over the number of cells, averaged over rings
    one wavenumber of the longer side wide (Ruzanski and Chandrasekar 2011, doi:10.1109/TGRS.2010.2052463).

    Args:
        field: ``(…, y, x)`` without missing cells.
        spacing: Between cells.

    Returns:
        Frequency in cycles per unit of `spacing` and power, ``(ring,)`` each, float64; the first ring is
        the mean.
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
    """Radially averaged log spectral distance, dB (Harris et al. 2022, doi:10.1029/2022MS003120).

    ``sqrt(mean over rings of (10 log10(truth / prediction))^2)`` of the mean spectra, without the ring
    of the mean. Cells that are missing in either are set to 0 in both, which leaves their outline in both
    spectra; a ring without power in both counts as equal.

    Args:
        prediction, truth: ``(time, …, y, x)``.
    """
    p, t, _ = mask_pair(prediction, truth, valid)
    (_, own), (_, wanted) = spectrum(p), spectrum(t)
    tiny = torch.finfo(torch.float64).tiny
    decibels = 10 * torch.log10(wanted[1:].clamp_min(tiny) / own[1:].clamp_min(tiny))
    return decibels.square().mean().sqrt()
