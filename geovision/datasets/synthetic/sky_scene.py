"""What every picture of the sky shares: where the camera looks, where the sun stands, the clear sky
behind the clouds, the ground in front of them, and what a camera makes of it.

Radiances are linear, about 1 for a sunlit cloud; angles are in radians unless a name says degrees.
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
        east, north, up: Unit vector of each pixel's line of sight; the camera looks north.
        elevation: Of each pixel.
        sun_angle: Angle between each pixel and the sun.
        degrees_per_pixel: At the centre.
        sun: Unit vector to the sun, in the camera's axes: right, up, towards the viewer.
        sun_east, sun_north: Direction of the sun over the ground.
        sun_color, ambient: Light on clouds: direct, and from the rest of the sky.
        low_sun: 0 by day, 1 when the sun stands on the horizon.
        sun_visible: The sun stands in the picture and the sky around it is bright.
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
        return self.up.shape  # type: ignore[return-value]

    def intersect_layer(self, *, turn: float = 0.0) -> tuple[Field, Field]:
        """Where each line of sight meets a flat layer, in units of the layer's height, the axes
        turned by `turn`. Below the horizon the layer is continued as just above it."""
        height = np.maximum(self.up, 0.035)
        x, y = self.east / height, self.north / height
        return x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)

    def transmittance(self, reach: float = 0.07) -> Field:
        """How little of the air's haze stands before a layer: 0 at the horizon, 1 high up."""
        return 1 - np.exp(-np.maximum(self.elevation, 0) / reach)

    def center_elevation(self) -> float:
        """Elevation of the picture's centre."""
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
    """Point a camera at a sky.

    Args:
        size: (height, width) in pixels.
        horizon: Probability that the horizon is in the picture.
        sun_visible: Probability that the sun is.
        bottom_degrees: Range of the elevation of the lower edge where the horizon is not in it.
        dusk: Probability of a sun near the horizon.
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
    zenith, band, sun_colour, ambient = _light(rng, low_sun)
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
        sun_colour,
        ambient,
        zenith,
        band,
        low_sun,
        shown,
    )


def _sun(
    rng: np.random.Generator, pitch: float, field_of_view: float, low_sun: float, shown: bool
) -> tuple[float, float, float]:
    """Unit vector to the sun: in the picture, or well outside of it."""
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
    """Colours of the zenith, the horizon, the sun and the light from the rest of the sky."""
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
    """A layer of `colour`, ``(3,)`` or ``(y, x, 3)``, of opacity ``(y, x)`` over an image."""
    return image + (color - image) * opacity[..., None]


def clear_sky(scene: SkyScene, *, disc: bool = True) -> Field:
    """The clear sky ``(y, x, 3)``, with the sun and its glow; `disc` False leaves the sun itself out."""
    low = np.exp(-np.maximum(scene.elevation, 0) / 0.28)
    if scene.low_sun > 0.3:  # dusk colours the sky around the sun, not all of the horizon
        low = low * (0.45 + 0.55 * np.exp(-scene.sun_angle / 0.9))
    image = scene.zenith + (scene.horizon - scene.zenith) * low[..., None]
    glow = 0.45 * np.exp(-scene.sun_angle / 0.30) + 0.55 * np.exp(-scene.sun_angle / 0.08)
    if disc:
        glow = glow + sun_disc(scene)
    return image + glow[..., None] * scene.sun_color


def sun_disc(scene: SkyScene) -> Field:
    """Radiance of the sun itself and of its glare in the lens."""
    radius = math.radians(max(0.35, scene.degrees_per_pixel))
    return 9 * smoothstep(radius * 1.6, radius * 0.7, scene.sun_angle) + 2.2 * np.exp(
        -scene.sun_angle / 0.022
    )


def haze(scene: SkyScene, image: Field, depth: float, color: Color) -> Field:
    """Air of a colour in front of what is low and therefore far; `depth` is its angle."""
    return blend(image, color, np.exp(-np.maximum(scene.elevation, 0) / depth) * 0.85)


# Meadow, lit meadow, wet stone, dry grass, and a land against the light.
_LANDS = np.array(
    [[0.05, 0.07, 0.03], [0.10, 0.13, 0.05], [0.03, 0.03, 0.035], [0.12, 0.10, 0.07], [0.012, 0.012, 0.015]],
    dtype=np.float32,
)


def ground(scene: SkyScene, image: Field, *, mist: float = 0.0) -> Field:
    """The land below the horizon: hills, and at times trees, houses or wires.

    Args:
        mist: 0 for clear air, 1 for land that vanishes in grey.
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
    colour = tint * np.maximum(texture, 0.1)[..., None] * light
    far = image[np.argmax(land > 0.5, axis=0).clip(1) - 1, np.arange(width)].mean(0)
    colour = colour + (far - colour) * np.float32(0.1 * rng.random() + 0.75 * mist)
    return blend(image, colour, land)


def _skyline(scene: SkyScene) -> Field:
    """Elevation of the land's edge in each column ``(x,)``."""
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
    """What a camera makes of radiances: exposure, white balance, contrast, vignette, noise.

    Exposure follows the picture's own brightness most of the way, as automatic exposure does, so
    that a dark cloud is not told by a dark picture.
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
    image = np.sqrt(np.maximum(image, 0))  # close to sRGB's curve, and fast
    grey = (image @ np.full(3, 1 / 3, dtype=np.float32))[..., None]
    image = grey + (image - grey) * np.float32(rng.uniform(0.75, 1.35))
    centred = image - np.float32(0.5)
    image += np.float32(rng.uniform(0.0, 0.6)) * centred * (1 - np.abs(2 * centred))
    image += rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.uniform(0.002, 0.018))
    return np.clip(image * 255 + np.float32(0.5), 0, 255).astype(np.uint8)


def overcast(scene: SkyScene, *, gray: float, blue: float = 0.0) -> SkyScene:
    """The same view under an overcast sky: light from everywhere, `grey` in brightness."""
    tint = [1 - 0.09 * blue, 1 - 0.02 * blue, 1 + 0.08 * blue]
    colour = np.float32(gray) * np.array(tint, dtype=np.float32)
    return dataclasses.replace(scene, ambient=colour, horizon=colour, zenith=colour)
