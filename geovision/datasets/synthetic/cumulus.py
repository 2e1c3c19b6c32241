"""Cumulus clouds: overlapping domes on a flat base, lit by the sun."""

from __future__ import annotations

import numpy as np

from geovision.datasets.synthetic.noise import Field, fractal, interpolate_periodic, smoothstep
from geovision.datasets.synthetic.sky_scene import Color, SkyScene

__all__ = ["CumulusCloud", "render_cumulus", "roughness_texture"]


class CumulusCloud:
    """Domes of one cloud, in pixels.

    Args:
        rng: Random generator for the domes.
        left_right: Column of the center of the base.
        base: Row of the flat base.
        width: Width of the whole cloud, in pixels.
        height: Height of the whole cloud, in pixels.
        tower: Shape from 0 for a mound to 1 for a column with constant width. Default: 0.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        *,
        left_right: float,
        base: float,
        width: float,
        height: float,
        tower: float = 0.0,
    ) -> None:
        self.left_right, self.base, self.width, self.height = left_right, base, width, height
        count = int(np.clip(width / 5, 3, 9))
        across = rng.uniform(-0.5, 0.5, count)
        across[: count // 2] *= 0.6
        ceiling = (1 - (2 * np.abs(across)) ** 1.6) * (1 - 0.5 * tower)
        radius = np.minimum(width * rng.uniform(0.12, 0.22, count), 0.6 * height) * (1 + 0.3 * tower)
        rise = np.maximum(ceiling * height - radius, 0) * rng.uniform(0.25, 1.0, count)
        # A row of domes along the flat base, below the others.
        row = np.linspace(-0.5, 0.5, count) + rng.uniform(-0.04, 0.04, count)
        across, rise = np.concatenate([across, row]), np.concatenate([rise, np.zeros(count)])
        radius = np.concatenate([radius, np.minimum(width * rng.uniform(0.08, 0.15, count), 0.5 * height)])
        if tower:
            # A central column of large domes, dense enough to hide the background.
            spine = np.linspace(0.1, 1, int(6 + 8 * tower))
            across = np.concatenate([across, rng.uniform(-0.12, 0.12, len(spine)) * (1.1 - spine)])
            wide = width * rng.uniform(0.20, 0.28, len(spine)) * (1 - 0.25 * spine)
            radius = np.concatenate([radius, wide])
            rise = np.concatenate([rise, spine * (height - wide)])
        self.x = left_right + across * width * 0.85
        self.y = base - rise
        self.radius = radius
        self._bud(rng, 5 if width > 12 else 2)

    def _bud(self, rng: np.random.Generator, children: int) -> None:
        """Add smaller domes to the upper edges of the large ones."""
        angle = rng.uniform(0.05 * np.pi, 0.95 * np.pi, (len(self.x), children))
        radius = self.radius[:, None] * rng.uniform(0.3, 0.6, angle.shape)
        x = self.x[:, None] + np.cos(angle) * self.radius[:, None] * 0.9
        y = self.y[:, None] - np.sin(angle) * self.radius[:, None] * 0.9
        self.x = np.concatenate([self.x, x.ravel()]).astype(np.float32)
        self.y = np.concatenate([self.y, y.ravel()]).astype(np.float32)
        self.radius = np.concatenate([self.radius, radius.ravel()]).astype(np.float32)


def render_cumulus(
    scene: SkyScene,
    image: Field,
    cloud: CumulusCloud,
    *,
    texture: Field,
    shade: float = 0.55,
    haze_fraction: float = 0.0,
) -> None:
    """Draw one cloud into an image in place.

    Args:
        scene: Scene with the light and the random generator.
        image: Radiances to draw into, shape (y, x, 3).
        cloud: Cloud to draw.
        texture: Fractal texture that roughens the domes, from `roughness_texture`.
        shade: Darkness of the base, 0 to 1. Default: 0.55.
        haze_fraction: Haze before the cloud, from 0 (near) to 1 (invisible). Default: 0.
    """
    pad = 0.12 * cloud.width + 3
    top = min(cloud.base - cloud.height, (cloud.y - cloud.radius).min())
    rows = slice(*np.clip([int(top - pad), int(cloud.base + pad / 2)], 0, image.shape[0]))
    left, right = (cloud.x - cloud.radius).min() - pad, (cloud.x + cloud.radius).max() + pad
    columns = slice(*np.clip([int(left), int(right)], 0, image.shape[1]))
    if rows.stop - rows.start < 2 or columns.stop - columns.start < 2:
        return
    y, x = np.mgrid[rows, columns].astype(np.float32)
    offset = float(scene.rng.uniform(0, 999))
    step = 26 / cloud.width
    fray = interpolate_periodic(texture, x * step + offset, y * step)
    crumbs = interpolate_periodic(texture, x * step * 4, y * step * 4 + offset)
    warp = (fray * 0.045 + crumbs * 0.014) * min(cloud.width, 2 * cloud.height)
    depth = _depth(cloud, x, y, warp)
    floor = cloud.base + 0.012 * cloud.height * fray
    soft = max(1.2, 0.012 * cloud.width)
    opacity = smoothstep(0.0, soft * 1.6, depth) * smoothstep(floor + soft, floor - soft, y)
    color = _shade_surface(scene, cloud, depth, crumbs, y, shade)
    color = color + (scene.horizon - color) * np.float32(haze_fraction)
    image[rows, columns] += (color - image[rows, columns]) * opacity[..., None]


def _depth(cloud: CumulusCloud, x: Field, y: Field, warp: Field) -> Field:
    """Return the height of the surface towards the viewer, in pixels.

    It is 0 outside the cloud.
    """
    depth = np.zeros_like(x)
    x0, y0 = x[0, 0], y[0, 0]
    x, y = x + warp, y + warp[::-1]
    margin = float(np.abs(warp).max())
    for center_x, center_y, radius in zip(cloud.x, cloud.y, cloud.radius, strict=True):
        reach = radius + margin
        rows = slice(max(int(center_y - reach - y0), 0), max(int(center_y + reach - y0) + 1, 0))
        columns = slice(max(int(center_x - reach - x0), 0), max(int(center_x + reach - x0) + 1, 0))
        part = depth[rows, columns]
        if part.size:
            inside = radius**2 - (x[rows, columns] - center_x) ** 2 - (y[rows, columns] - center_y) ** 2
            np.maximum(part, np.sqrt(np.maximum(inside, 0)), out=part)
    return depth


def _shade_surface(
    scene: SkyScene, cloud: CumulusCloud, depth: Field, crumbs: Field, y: Field, shade: float
) -> Field:
    """Return the color of the cloud's surface.

    It results from sunlit slopes, skylight and a base in shadow.
    """
    slope_y, slope_x = np.gradient(depth + 0.012 * cloud.width * crumbs)
    length = np.sqrt(1 + slope_x**2 + slope_y**2)
    facing = (-slope_x * scene.sun[0] + slope_y * scene.sun[1] + scene.sun[2]) / length
    sunlit = np.clip(0.5 + 0.55 * facing, 0.08, 1)
    above = np.clip((cloud.base - y) / (0.5 * cloud.height + 1), 0, 1)
    sunlit = sunlit * (1 - shade * (1 - above) ** 1.5)
    skylit = 0.9 - 0.5 * shade * (1 - above)
    # A cloud scatters nearly white light, so only part of the blue of the sky remains.
    ambient: Color = 0.55 * scene.ambient + 0.45 * scene.ambient.mean()
    return 1.05 * sunlit[..., None] * scene.sun_color + 0.75 * skylit[..., None] * ambient


def roughness_texture(rng: np.random.Generator) -> Field:
    """Return the texture that roughens cumulus clouds.

    Args:
        rng: Random generator for the texture.

    Returns:
        Periodic texture, shape (128, 128), with mean 0 and standard deviation 1.
    """
    return fractal(rng, 128, slope=1.7, coarsest=3)
