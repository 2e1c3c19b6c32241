"""Elements that all synthetic sky photos share.

These are camera, sun, clear sky, ground and exposure. Radiances are linear, about 1 for a sunlit cloud.
Angles are in radians unless a name contains "degrees".
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geovision.datasets.synthetic.noise import Field, fractal, interpolate_periodic, smoothstep

__all__ = [
    "SkyScene",
    "blend",
    "clear_sky",
    "compose_scene",
    "ground",
    "haze",
    "overcast",
    "simulate_camera",
    "sun_disc",
]

Color = NDArray[np.floating]


@dataclass(frozen=True)
class SkyScene:
    """One view of one sky.

    Attributes:
        rng: Random generator for everything that varies.
        east: East component of the unit vector of each pixel's line of sight; the camera faces north.
        north: North component.
        up: Upward component.
        elevation: Elevation of each pixel.
        sun_angle: Angle between each pixel and the sun.
        degrees_per_pixel: Angle of one pixel at the center, in degrees.
        sun: Unit vector to the sun in the axes of the camera: right, up, towards the viewer.
        sun_east: East component of the horizontal direction of the sun.
        sun_north: North component of the horizontal direction of the sun.
        sun_color: Direct light on clouds, in red, green and blue.
        ambient: Light on clouds from the rest of the sky.
        zenith: Color of the sky at the zenith.
        horizon: Color of the sky at the horizon.
        low_sun: From 0 by day to 1 with the sun on the horizon.
        sun_visible: Whether the sun is in the image and the sky around it is bright.
    """

    rng: np.random.Generator
    east: Field
    north: Field
    up: Field
    elevation: Field
    sun_angle: Field
    degrees_per_pixel: float
    sun: Color
    sun_east: float
    sun_north: float
    sun_color: Color
    ambient: Color
    zenith: Color
    horizon: Color
    low_sun: float
    sun_visible: bool

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the image, in pixels."""
        return self.up.shape  # type: ignore[return-value]

    def intersect_layer(self, *, turn: float = 0.0) -> tuple[Field, Field]:
        """Return the intersection of each line of sight with a flat layer.

        Below the horizon the layer continues with its values just above the horizon.

        Args:
            turn: Rotation of the axes, in radians. Default: 0.

        Returns:
            x and y of the intersections, in units of the height of the layer, shape (y, x) each.
        """
        height = np.maximum(self.up, 0.035)
        x, y = self.east / height, self.north / height
        return x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)

    def transmittance(self, reach: float = 0.07) -> Field:
        """Return the transmittance of the haze before a layer.

        It is 0 at the horizon and 1 high above it.

        Args:
            reach: Elevation at which the transmittance is ``1 - 1 / e``, in radians. Default: 0.07.

        Returns:
            Transmittance, shape (y, x).
        """
        return 1 - np.exp(-np.maximum(self.elevation, 0) / reach)

    def center_elevation(self) -> float:
        """Return the elevation of the image center."""
        height, width = self.shape
        return float(self.elevation[height // 2, width // 2])


def compose_scene(
    rng: np.random.Generator,
    size: tuple[int, int],
    *,
    horizon: float = 0.5,
    sun_visible: float = 0.25,
    bottom_degrees: tuple[float, float] = (3.0, 32.0),
    dusk: float = 0.15,
) -> SkyScene:
    """Draw a random sky and camera position.

    Args:
        rng: Random generator for everything that varies.
        size: Height and width, in pixels.
        horizon: Probability that the horizon is in the image. Default: 0.5.
        sun_visible: Probability that the sun is in the image. Default: 0.25.
        bottom_degrees: Range of the elevation of the lower edge if the horizon is not in the image, in
            degrees. Default: (3, 32).
        dusk: Probability of a sun near the horizon. Default: 0.15.

    Returns:
        The scene.
    """
    height, width = size
    field_of_view = math.radians(rng.uniform(52, 68))
    focal = width / 2 / math.tan(field_of_view / 2)
    lower = rng.uniform(-9, -2) if rng.random() < horizon else rng.uniform(*bottom_degrees)
    pitch = math.radians(lower) + math.atan(height / 2 / focal)
    right = ((np.arange(width) + 0.5 - width / 2) / focal).astype(np.float32)[None, :]
    above = ((height / 2 - np.arange(height) - 0.5) / focal).astype(np.float32)[:, None]
    length = np.sqrt(1 + right**2 + above**2)
    east = right / length
    north = (math.cos(pitch) - above * math.sin(pitch)) / length
    up = (math.sin(pitch) + above * math.cos(pitch)) / length

    low_sun = float(rng.uniform(0.4, 1.0)) if rng.random() < dusk else float(rng.uniform(0, 0.25))
    shown = bool(rng.random() < sun_visible)
    sun_east, sun_north, sun_up = _sun(rng, pitch, field_of_view, low_sun, shown)
    cosine = east * sun_east + north * sun_north + up * sun_up
    toward_east_north = math.hypot(sun_east, sun_north)
    zenith, band, sun_color, ambient = _light(rng, low_sun)
    return SkyScene(
        rng,
        east,
        north,
        up,
        np.arcsin(up),
        np.arccos(np.clip(cosine, -1, 1)),
        math.degrees(1 / focal),
        np.array(
            [
                sun_east,
                -sun_north * math.sin(pitch) + sun_up * math.cos(pitch),
                -(sun_north * math.cos(pitch) + sun_up * math.sin(pitch)),
            ],
            dtype=np.float32,
        ),
        sun_east / toward_east_north,
        sun_north / toward_east_north,
        sun_color,
        ambient,
        zenith,
        band,
        low_sun,
        shown,
    )


def _sun(
    rng: np.random.Generator, pitch: float, field_of_view: float, low_sun: float, shown: bool
) -> tuple[float, float, float]:
    """Return the unit vector to the sun.

    The sun is in the image or well outside of it.
    """
    if shown:
        azimuth = rng.uniform(-0.4, 0.4) * field_of_view
        elevation = max(pitch + rng.uniform(-0.25, 0.35) * field_of_view, math.radians(4))
        if low_sun > 0.3:
            elevation = math.radians(rng.uniform(2, 9))
    else:
        azimuth = float(rng.choice([-1, 1])) * rng.uniform(0.8, 3.1)
        elevation = math.radians(rng.uniform(2, 10) if low_sun > 0.3 else rng.uniform(25, 65))
    return (
        math.cos(elevation) * math.sin(azimuth),
        math.cos(elevation) * math.cos(azimuth),
        math.sin(elevation),
    )


def _light(rng: np.random.Generator, low_sun: float) -> tuple[Color, Color, Color, Color]:
    """Return the colors of zenith, horizon, sun and ambient light."""
    turbid = rng.uniform(0, 1)
    zenith = np.array([0.045, 0.13, 0.40]) * (1 - turbid) + np.array([0.16, 0.30, 0.52]) * turbid
    band = np.array([0.34, 0.52, 0.76]) * (1 - turbid) + np.array([0.62, 0.68, 0.74]) * turbid
    sun = np.array([1.0, 0.96, 0.90])
    if low_sun > 0.3:
        dim = 1 - 0.55 * low_sun
        zenith = zenith * dim * (1 + low_sun * np.array([0.5, 0.0, -0.1]))
        glow = np.array([0.95, 0.50, 0.26]) if rng.random() < 0.7 else np.array([0.85, 0.48, 0.50])
        band = band * (1 - low_sun) + glow * low_sun * 0.8
        sun = sun * (1 - 0.7 * low_sun) + np.array([1.05, 0.55, 0.30]) * 0.7 * low_sun
    ambient = 0.35 * zenith + 0.40 * band + 0.06
    return tuple(np.float32(each) for each in (zenith, band, sun, ambient))  # type: ignore[return-value]


def blend(image: Field, color: Field, opacity: Field) -> Field:
    """Blend a layer over an image.

    Args:
        image: Radiances, shape (y, x, 3).
        color: Color of the layer, shape (3,) or (y, x, 3).
        opacity: Opacity of the layer, 0 to 1, shape (y, x).

    Returns:
        Radiances, shape (y, x, 3).
    """
    return image + (color - image) * opacity[..., None]


def clear_sky(scene: SkyScene, *, disc: bool = True) -> Field:
    """Return the radiance of the clear sky with sun and glow.

    Args:
        scene: Scene with the sun and the colors of the sky.
        disc: Whether the sun's disc is drawn. Default: True.

    Returns:
        Radiances, shape (y, x, 3).
    """
    low = np.exp(-np.maximum(scene.elevation, 0) / 0.28)
    if scene.low_sun > 0.3:  # dusk colors the sky around the sun, not all of the horizon
        low = low * (0.45 + 0.55 * np.exp(-scene.sun_angle / 0.9))
    image = scene.zenith + (scene.horizon - scene.zenith) * low[..., None]
    glow = 0.45 * np.exp(-scene.sun_angle / 0.30) + 0.55 * np.exp(-scene.sun_angle / 0.08)
    if disc:
        glow = glow + sun_disc(scene)
    return image + glow[..., None] * scene.sun_color


def sun_disc(scene: SkyScene) -> Field:
    """Return the radiance of the sun's disc and its glare.

    Args:
        scene: Scene with the sun.

    Returns:
        Radiance, shape (y, x).
    """
    radius = math.radians(max(0.35, scene.degrees_per_pixel))
    return 9 * smoothstep(radius * 1.6, radius * 0.7, scene.sun_angle) + 2.2 * np.exp(
        -scene.sun_angle / 0.022
    )


def haze(scene: SkyScene, image: Field, depth: float, color: Color) -> Field:
    """Draw haze in front of distant objects, at low elevation.

    Args:
        scene: Scene with the elevation of each pixel.
        image: Radiances, shape (y, x, 3).
        depth: Elevation at which the haze has decreased to ``1 / e``, in radians.
        color: Color of the haze, shape (3,).

    Returns:
        Radiances, shape (y, x, 3).
    """
    return blend(image, color, np.exp(-np.maximum(scene.elevation, 0) / depth) * 0.85)


# Colors of meadow, sunlit meadow, wet stone, dry grass, and backlit land.
_LANDS = np.array(
    [[0.05, 0.07, 0.03], [0.10, 0.13, 0.05], [0.03, 0.03, 0.035], [0.12, 0.10, 0.07], [0.012, 0.012, 0.015]],
    dtype=np.float32,
)


def ground(scene: SkyScene, image: Field, *, mist: float = 0.0) -> Field:
    """Draw the land below the horizon.

    It consists of hills, and sometimes trees, houses or a mast.

    Args:
        scene: Scene with the light and the random generator.
        image: Radiances behind the land, shape (y, x, 3).
        mist: Mist before the land, from 0 (clear) to 1 (land vanishes in gray). Default: 0.

    Returns:
        Radiances, shape (y, x, 3).
    """
    rng = scene.rng
    if scene.elevation[-1].max() > 0 and rng.random() < 0.75:
        return image
    skyline = _skyline(scene)
    land = smoothstep(skyline + 0.004, skyline - 0.002, scene.elevation)
    tint = _LANDS[rng.integers(len(_LANDS))]
    height, width = scene.shape
    rough = fractal(rng, 128, slope=1.2)
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    texture = 1 + 0.3 * interpolate_periodic(rough, x * 96 / width, y * 400 / height)
    light = 0.5 + scene.ambient.mean()
    color = tint * np.maximum(texture, 0.1)[..., None] * light
    far = image[np.argmax(land > 0.5, axis=0).clip(1) - 1, np.arange(width)].mean(0)
    color = color + (far - color) * np.float32(0.1 * rng.random() + 0.75 * mist)
    return blend(image, color, land)


def _skyline(scene: SkyScene) -> Field:
    """Return the elevation of the land's edge in each column."""
    rng, width = scene.rng, scene.shape[1]
    azimuth = np.arctan2(scene.east[-1], scene.north[-1])
    columns = (azimuth * 180).astype(np.float32)
    hills = interpolate_periodic(fractal(rng, 128, slope=2.2), columns * 0.35, np.full_like(columns, 7.0))
    edge = np.float32(rng.uniform(0.0, 0.03)) + np.float32(rng.uniform(0.004, 0.025)) * hills
    edge = edge + np.maximum(scene.elevation[-1], 0)
    kind = rng.choice(["bare", "trees", "houses", "mast"], p=[0.4, 0.3, 0.2, 0.1])
    if kind == "trees":
        crowns = interpolate_periodic(
            fractal(rng, 256, slope=1.1), columns * 2.5, np.full_like(columns, 11.0)
        )
        edge = edge + np.float32(0.02) * np.maximum(crowns + rng.uniform(-0.5, 1.2), 0)
    elif kind == "houses":
        for _ in range(rng.integers(2, 9)):
            left, wide = rng.uniform(0, width), rng.uniform(0.02, 0.12) * width
            inside = np.abs(np.arange(width) - left) < wide / 2
            roof = 0.6 * (1 - np.abs(np.arange(width) - left) / wide) if rng.random() < 0.5 else 0.3
            edge = edge + np.where(inside, np.float32(rng.uniform(0.01, 0.06)) * (0.5 + roof), 0)
    elif kind == "mast":
        place = rng.uniform(0.1, 0.9) * width
        edge = edge + np.where(np.abs(np.arange(width) - place) < max(1.0, width / 250), 0.15, 0)
    return edge.astype(np.float32)


def simulate_camera(scene: SkyScene, image: Field) -> NDArray[np.uint8]:
    """Convert radiances to counts: exposure, white balance, contrast, vignette and noise.

    As with automatic exposure, the exposure mostly compensates the brightness of the image. A dark cloud is
    therefore not recognizable by a dark image.

    Args:
        scene: Scene with the random generator.
        image: Radiances, shape (y, x, 3).

    Returns:
        sRGB image, shape (y, x, 3), dtype uint8.
    """
    rng = scene.rng
    bright = float(np.log(image.mean(-1) + 0.02).mean())
    target = np.log(rng.uniform(0.32, 0.58))
    gain = np.exp(0.65 * (target - bright) + rng.normal(0, 0.22))
    balance = np.exp(np.float32(rng.normal(0, 0.06, 3) * [1.0, 0.4, 1.0]))
    image = image * (np.float32(gain) * balance)
    height, width = scene.shape
    radius = np.hypot(np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None])
    image *= (1 - rng.uniform(0, 0.11) * radius**2).astype(np.float32)[..., None]
    image = 1 - np.exp(np.float32(-1.35) * image)  # highlights saturate softly
    image = np.sqrt(np.maximum(image, 0))  # close to the sRGB curve, and fast
    gray = (image @ np.full(3, 1 / 3, dtype=np.float32))[..., None]
    image = gray + (image - gray) * np.float32(rng.uniform(0.75, 1.35))
    centered = image - np.float32(0.5)
    image += np.float32(rng.uniform(0.0, 0.6)) * centered * (1 - np.abs(2 * centered))
    image += rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.uniform(0.002, 0.018))
    return np.clip(image * 255 + np.float32(0.5), 0, 255).astype(np.uint8)


def overcast(scene: SkyScene, *, gray: float, blue: float = 0.0) -> SkyScene:
    """Return the same view under an overcast sky, with diffuse light only.

    Args:
        scene: Scene to change.
        gray: Brightness of the sky.
        blue: Blue tint of the sky; negative values are reddish. Default: 0.

    Returns:
        The changed scene.
    """
    tint = [1 - 0.09 * blue, 1 - 0.02 * blue, 1 + 0.08 * blue]
    color = np.float32(gray) * np.array(tint, dtype=np.float32)
    return dataclasses.replace(scene, ambient=color, horizon=color, zenith=color)
