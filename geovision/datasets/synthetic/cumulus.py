"""Heaped clouds: cauliflower of overlapping domes on a flat base, lit by the sun."""

from __future__ import annotations

import numpy as np

from geovision.datasets.synthetic.noise import Field, fractal, interpolate_periodic, smoothstep
from geovision.datasets.synthetic.sky_scene import Color, SkyScene

__all__ = ["CumulusCloud", "render_cumulus", "roughness_texture"]


class CumulusCloud:
    """The domes of one cloud, in pixels.

    Args:
        left_right: Centre of the base.
        base: Row of the flat base.
        width, height: Of the whole cloud.
        tower: 0 for a mound, 1 for a column that keeps its width upwards.
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
        # A row along the base, cut flat by it, on which the others stand.
        row = np.linspace(-0.5, 0.5, count) + rng.uniform(-0.04, 0.04, count)
        across, rise = np.concatenate([across, row]), np.concatenate([rise, np.zeros(count)])
        radius = np.concatenate([radius, np.minimum(width * rng.uniform(0.08, 0.15, count), 0.5 * height)])
        if tower:
            # A spine of large domes, close enough to hide what is behind them.
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
        """Smaller domes on the upper edges of the large ones."""
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
    """Paint one cloud into `image`.

    Args:
        texture: Fractal texture that frays the domes.
        shade: How dark the base is, 0-1.
        haze_fraction: 0 near, 1 lost in the haze.
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
    colour = _shade_surface(scene, cloud, depth, crumbs, y, shade)
    colour = colour + (scene.horizon - colour) * np.float32(haze_fraction)
    image[rows, columns] += (colour - image[rows, columns]) * opacity[..., None]


def _depth(heap: CumulusCloud, x: Field, y: Field, warp: Field) -> Field:
    """How far the cloud's surface stands out towards the viewer, in pixels; 0 outside."""
    depth = np.zeros_like(x)
    x0, y0 = x[0, 0], y[0, 0]
    x, y = x + warp, y + warp[::-1]
    margin = float(np.abs(warp).max())
    for centre_x, centre_y, radius in zip(heap.x, heap.y, heap.radius, strict=True):
        reach = radius + margin
        rows = slice(max(int(centre_y - reach - y0), 0), max(int(centre_y + reach - y0) + 1, 0))
        columns = slice(max(int(centre_x - reach - x0), 0), max(int(centre_x + reach - x0) + 1, 0))
        part = depth[rows, columns]
        if part.size:
            inside = radius**2 - (x[rows, columns] - centre_x) ** 2 - (y[rows, columns] - centre_y) ** 2
            np.maximum(part, np.sqrt(np.maximum(inside, 0)), out=part)
    return depth


def _shade_surface(
    scene: SkyScene, heap: CumulusCloud, depth: Field, crumbs: Field, y: Field, shade: float
) -> Field:
    """Colour of the cloud's surface: sunlight on its slopes, skylight, and a base in shadow."""
    slope_y, slope_x = np.gradient(depth + 0.012 * heap.width * crumbs)
    length = np.sqrt(1 + slope_x**2 + slope_y**2)
    facing = (-slope_x * scene.sun[0] + slope_y * scene.sun[1] + scene.sun[2]) / length
    sunlit = np.clip(0.5 + 0.55 * facing, 0.08, 1)
    above = np.clip((heap.base - y) / (0.5 * heap.height + 1), 0, 1)
    sunlit = sunlit * (1 - shade * (1 - above) ** 1.5)
    skylit = 0.9 - 0.5 * shade * (1 - above)
    # Cloud scatters what it is lit by almost white: the blue of the sky survives only in part.
    ambient: Color = 0.55 * scene.ambient + 0.45 * scene.ambient.mean()
    return 1.05 * sunlit[..., None] * scene.sun_color + 0.75 * skylit[..., None] * ambient


def roughness_texture(rng: np.random.Generator) -> Field:
    """The texture that frays heaps."""
    return fractal(rng, 128, slope=1.7, coarsest=3)
