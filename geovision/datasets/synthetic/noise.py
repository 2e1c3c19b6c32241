"""Random textures: periodic Gaussian fields with a given spectrum, and their interpolation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Field", "cells", "fractal", "interpolate_periodic", "smoothstep"]

Field = NDArray[np.floating]


def fractal(
    rng: np.random.Generator, size: int, *, slope: float = 2.0, stretch: float = 1.0, coarsest: float = 1.0
) -> Field:
    """Return scale-free noise with a power-law spectrum.

    The amplitude falls with wavenumber to the power of ``-slope``.

    Args:
        rng: Random generator for the noise.
        size: Number of texels along each side; the texture is periodic.
        slope: Exponent of the spectrum, from 1 (rough) to 3 (smooth). Default: 2.
        stretch: Ratio of length to width of the features, along the second axis. Default: 1.
        coarsest: Smallest wavenumber; longer waves than ``size / coarsest`` are left out. Default: 1.

    Returns:
        Texture, shape (size, size), with mean 0 and standard deviation 1.
    """
    wavenumber = _wavenumber(size, stretch)
    amplitude = np.maximum(wavenumber, coarsest) ** np.float32(-slope) * (wavenumber >= 0.75 * coarsest)
    return _synthesize(rng, size, amplitude)


def cells(
    rng: np.random.Generator, size: int, *, spacing: float, spread: float = 0.3, stretch: float = 1.0
) -> Field:
    """Return noise of one scale: cells that repeat about every `spacing` texels.

    Args:
        rng: Random generator for the noise.
        size: Number of texels along each side; the texture is periodic.
        spacing: Distance between cells, in texels.
        spread: Relative width of the spectral ring, from 0.1 (regular) to 0.5 (irregular). Default: 0.3.
        stretch: 1 for round cells, larger for rolls along the second axis. Default: 1.

    Returns:
        Texture, shape (size, size), with mean 0 and standard deviation 1.
    """
    relative = _wavenumber(size, stretch) * np.float32(spacing / size)
    amplitude = np.exp(np.float32(-0.5) * ((relative - 1) / np.float32(spread)) ** 2)
    return _synthesize(rng, size, amplitude)


def _wavenumber(size: int, stretch: float) -> Field:
    along_y = np.fft.fftfreq(size, 1 / size)[:, None]
    along_x = np.fft.rfftfreq(size, 1 / size)[None, :]
    return np.hypot(along_y, along_x * stretch).astype(np.float32)


def _synthesize(rng: np.random.Generator, size: int, amplitude: Field) -> Field:
    parts = rng.standard_normal((*amplitude.shape, 2), dtype=np.float32)
    parts *= amplitude[..., None]
    parts[0, 0] = 0
    spectrum = parts.view(np.complex64)[..., 0]
    field = np.fft.irfft2(spectrum, s=(size, size))
    return (field / field.std()).astype(np.float32)


def interpolate_periodic(texture: Field, x: Field, y: Field) -> Field:
    """Interpolate a periodic texture bilinearly at fractional texel coordinates.

    Args:
        texture: Texture, shape (size, size); `size` is a power of two, so that wrapping is a bit mask.
        x: Coordinates along the second axis, in texels.
        y: Coordinates along the first axis, in texels; same shape as `x`.

    Returns:
        Interpolated values, in the shape of `x`.
    """
    size = texture.shape[0]
    column, row = np.floor(x), np.floor(y)
    dx, dy = x - column, y - row
    left = column.astype(np.int32) & (size - 1)
    here = (row.astype(np.int32) & (size - 1)) * size
    right = (left + 1) & (size - 1)
    below = (here + size) & (size * size - 1)
    flat = texture.ravel()
    upper = flat.take(here + left)
    upper += (flat.take(here + right) - upper) * dx
    lower = flat.take(below + left)
    lower += (flat.take(below + right) - lower) * dx
    upper += (lower - upper) * dy
    return upper


def smoothstep(low: float | Field, high: float | Field, values: Field) -> Field:
    """Return a smooth step from 0 below `low` to 1 above `high`.

    Args:
        low: Value with result 0; larger than `high` for a falling step.
        high: Value with result 1.
        values: Values at which the step is evaluated.

    Returns:
        Values from 0 to 1.
    """
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
