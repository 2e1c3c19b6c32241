"""Night sky of an all-sky camera.

It includes lens, stars, airglow, moon, horizon and sensor. Radiances are linear; 1 is about an auroral arc of
ordinary brightness. Heights and distances are in kilometers, angles in radians.
"""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geovision.datasets.synthetic.noise import Field, fractal, interpolate_periodic, smoothstep

__all__ = [
    "CameraNight",
    "Moon",
    "SkyView",
    "background",
    "compose_night",
    "frame_time",
    "lines_of_sight",
    "simulate_camera",
]

EARTH_RADIUS = 6371.0

_MAGNETIC_DIP = math.radians(77.0)  # of the field at Kiruna, 67.8 N 20.4 E
_LATITUDE = math.radians(67.8)
_FIRST_AUTUMN = 2005
_SEASON = 200  # number of sufficiently dark nights, from the middle of September


@dataclass(frozen=True)
class Moon:
    """Position of the moon in a night, which is taken as constant.

    Attributes:
        azimuth: Azimuth of the center, in radians.
        zenith_angle: Zenith angle of the center, in radians.
        radiance: Radiance of the moonlit sky at the zenith.
    """

    azimuth: float
    zenith_angle: float
    radiance: float


@dataclass(frozen=True)
class CameraNight:
    """Properties that all frames of one night share.

    These are camera, air, moon, and the sky behind the aurora.

    Attributes:
        date: Date of the evening.
        radius: Radius of the sky's circle, as a fraction of half the frame.
        center: (x, y) of the circle, as a fraction of half the frame.
        edge_zenith_angle: Zenith angle at the edge of the circle, in radians.
        rotation: Direction of north in the frame, in radians.
        airglow: Radiance of the airglow at the zenith, in red, green and blue.
        extinction: Optical depth at the zenith, in red, green and blue.
        city_light: Azimuth, width and radiance of the nearest city lights.
        gain: Exposure.
        balance: Exposure of red, green and blue, relative to `gain`.
        noise: Standard deviation of a dark pixel, and factor of the shot noise.
        blur: Standard deviation of the lens's blur, in pixels of a frame that is 128 pixels wide.
        gamma: Exponent of the conversion from light to counts.
        stars: East, north, up and radiance of each star at the beginning of the night, shape (star, 4).
        milky_way: Pole of the galactic plane, and radiance.
        skyline: Elevation of the horizon in each of 64 directions, in radians.
        hot_pixels: Relative row, relative column and radiance of each hot pixel, shape (pixel, 3).
        moon: Moon; None if it is below the horizon.
    """

    date: datetime.date
    radius: float
    center: tuple[float, float]
    edge_zenith_angle: float
    rotation: float
    airglow: Field
    extinction: Field
    city_light: tuple[float, float, float]
    gain: float
    balance: Field
    noise: tuple[float, float]
    blur: float
    gamma: float
    stars: Field
    milky_way: tuple[Field, float]
    skyline: Field
    hot_pixels: Field
    moon: Moon | None


def compose_night(rng: np.random.Generator, number: int, *, moonlit: float = 0.2) -> CameraNight:
    """Draw a random night and its camera.

    Args:
        rng: Random generator for everything that varies.
        number: Number of the night, from 0; it determines the date, in the dark season.
        moonlit: Probability of a moon above the horizon. Default: 0.2.

    Returns:
        The night.
    """
    count = int(rng.integers(150, 320))
    return CameraNight(
        date=_date(number),
        radius=rng.uniform(0.90, 1.0),
        center=(rng.uniform(-0.04, 0.04), rng.uniform(-0.04, 0.04)),
        edge_zenith_angle=math.radians(rng.uniform(82, 89)),
        rotation=rng.uniform(-math.pi, math.pi),
        airglow=_float(np.array([0.75, 1.0, 0.55]) * rng.uniform(0.6, 1.4, 3) * rng.uniform(0.010, 0.055)),
        extinction=_float(np.array([0.08, 0.13, 0.22]) * rng.uniform(0.7, 2.2)),
        city_light=(rng.uniform(-math.pi, math.pi), rng.uniform(0.25, 0.7), rng.uniform(0, 0.35) ** 1.5),
        gain=math.exp(rng.normal(0, 0.30)),
        balance=_float(np.exp(rng.normal(0, 0.10, 3))),
        noise=(rng.uniform(0.005, 0.024), rng.uniform(0.02, 0.05)),
        blur=rng.uniform(0.35, 0.85),
        gamma=rng.uniform(0.55, 0.80),
        stars=_stars(rng, count),
        milky_way=(_direction(rng), rng.uniform(0.0, 0.035)),
        skyline=_skyline(rng),
        hot_pixels=_float(np.column_stack([rng.uniform(0, 1, (6, 2)), rng.uniform(0.1, 0.6, (6, 1))])),
        moon=_moon(rng) if rng.random() < moonlit else None,
    )


def _date(number: int) -> datetime.date:
    autumn = datetime.date(_FIRST_AUTUMN + number // _SEASON, 9, 15)
    return autumn + datetime.timedelta(days=number % _SEASON)


def _float(values: NDArray[np.floating]) -> Field:
    return values.astype(np.float32)


def _direction(rng: np.random.Generator) -> Field:
    vector = rng.normal(0, 1, 3)
    return _float(vector / np.linalg.norm(vector))


def _stars(rng: np.random.Generator, count: int) -> Field:
    """Return directions over the whole sphere and radiances of random stars.

    With each fainter magnitude the number of stars grows about threefold.
    """
    vectors = rng.normal(0, 1, (2 * count, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    radiance = 0.10 * rng.uniform(0.02, 1.0, 2 * count) ** -0.80
    return _float(np.column_stack([vectors, np.minimum(radiance, 2.5)]))


def _skyline(rng: np.random.Generator) -> Field:
    """Return the elevation of hills and trees in 64 directions, in radians."""
    rough = fractal(rng, 64, slope=1.4)[0]
    return _float(np.maximum(math.radians(rng.uniform(0, 5)) + math.radians(2.0) * rough, 0.0))


def _moon(rng: np.random.Generator) -> Moon:
    return Moon(
        azimuth=rng.uniform(-math.pi, math.pi),
        zenith_angle=math.radians(rng.uniform(25, 80)),
        radiance=rng.uniform(0.02, 0.10),
    )


# --- lines of sight -----------------------------------------------------------------------------


@dataclass(frozen=True)
class SkyView:
    """Lines of sight of one night's camera.

    Attributes:
        night: Night and camera.
        zenith_angle: Zenith angle of each pixel, shape (y, x), in radians.
        azimuth: Azimuth of each pixel, from north over east, shape (y, x), in radians.
        east: East component of the unit vector of the line of sight, shape (y, x).
        north: North component, shape (y, x).
        up: Upward component, shape (y, x).
        in_circle: 1 within the circle and above the skyline, 0 outside, smooth between, shape (y, x).
        transmission: Transmission of the air, shape (y, x, 3).
    """

    night: CameraNight
    zenith_angle: Field
    azimuth: Field
    east: Field
    north: Field
    up: Field
    in_circle: Field
    transmission: Field

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the frame, in pixels."""
        return self.up.shape  # type: ignore[return-value]

    def intersect_shells(self, height: Field) -> tuple[Field, Field, Field]:
        """Intersect the lines of sight with shells around the Earth.

        Each intersection is projected along the magnetic field line down to 100 km.

        Args:
            height: Heights of the shells, shape (layer,), in km.

        Returns:
            Magnetic east and north of the camera, in km, and the length of the path through a shell relative
            to its thickness (van Rhijn 1921); shape (layer, y, x) each.
        """
        layers = height.astype(np.float32)[:, None, None]
        impact = np.float32(EARTH_RADIUS) * np.sin(self.zenith_angle) / (EARTH_RADIUS + layers)
        # The angle at the Earth's center is the third angle of the triangle camera, shell, center.
        distance = np.float32(EARTH_RADIUS) * (self.zenith_angle - np.arcsin(impact))
        path = 1 / np.sqrt(1 - impact**2)
        # Field lines lean towards the equator with height, so their foot is farther north.
        foot = (layers - np.float32(100.0)) / np.float32(math.tan(_MAGNETIC_DIP))
        return distance * np.sin(self.azimuth), distance * np.cos(self.azimuth) + foot, path


def lines_of_sight(night: CameraNight, size: tuple[int, int]) -> SkyView:
    """Compute the lines of sight of a night's camera.

    The lens is an equidistant fisheye: the zenith angle is proportional to the distance from the center.

    Args:
        night: Night and camera.
        size: Height and width, in pixels.

    Returns:
        The view.
    """
    height, width = size
    half = min(height, width) / 2
    x = (np.arange(width, dtype=np.float32)[None, :] + 0.5 - width / 2) / half - night.center[0]
    y = (np.arange(height, dtype=np.float32)[:, None] + 0.5 - height / 2) / half - night.center[1]
    reach = np.hypot(x, y) / night.radius
    zenith_angle = np.minimum(reach, 1.0).astype(np.float32) * np.float32(night.edge_zenith_angle)
    # In a view from below, east is to the left of north.
    azimuth = np.arctan2(-x, -y).astype(np.float32) - np.float32(night.rotation)
    elevation = np.float32(math.pi / 2) - zenith_angle
    direction = (azimuth / np.float32(2 * math.pi) * 64).astype(np.float32)
    ring = np.tile(night.skyline, (64, 1))
    skyline = interpolate_periodic(ring, direction, np.zeros_like(direction))
    pixel = night.edge_zenith_angle / (half * night.radius)
    inside = smoothstep(1.0 + 0.5 / half, 1.0 - 0.5 / half, reach)
    inside = inside * smoothstep(skyline - pixel / 2, skyline + pixel / 2, elevation)
    air_mass = 1 / (np.cos(zenith_angle) + 0.025 * np.exp(-11 * np.cos(zenith_angle)))  # Rozenberg 1966
    return SkyView(
        night,
        zenith_angle,
        azimuth,
        np.sin(zenith_angle) * np.sin(azimuth),
        np.sin(zenith_angle) * np.cos(azimuth),
        np.cos(zenith_angle),
        inside.astype(np.float32),
        np.exp(-air_mass[..., None] * night.extinction).astype(np.float32),
    )


# --- sky without aurora -------------------------------------------------------------------------


def background(view: SkyView, *, hours: float) -> Field:
    """Return the radiance of the sky without aurora.

    It includes airglow, stars, the Milky Way, city lights, the moon and the moonlit sky.

    Args:
        view: Lines of sight of the camera.
        hours: Time since the beginning of the night, in hours; the stars rotate with it.

    Returns:
        Radiances, shape (y, x, 3).
    """
    night = view.night
    shell = EARTH_RADIUS / (EARTH_RADIUS + 95.0)  # the height of the green airglow, km
    path = 1 / np.sqrt(1 - (shell * np.sin(view.zenith_angle)) ** 2)
    image = path[..., None] * night.airglow
    image = image + _milky_way(view, hours)[..., None] * np.array([1.0, 0.95, 0.95], dtype=np.float32)
    image = image * view.transmission + _lights(view)
    if night.moon is not None:
        image = image + _moonlight(view, night.moon)
    stars = _star_field(view, hours)[..., None] * np.array([1.0, 0.97, 1.0], dtype=np.float32)
    return (image + stars * view.transmission).astype(np.float32)


def _rotate_sky(vectors: Field, hours: float) -> Field:
    """Return directions after some hours, shape (n, 3): east, north and up.

    The sky rotates about the celestial pole so that stars in the east rise.
    """
    angle = -hours * 2 * math.pi / 23.93
    pole = np.array([0.0, math.cos(_LATITUDE), math.sin(_LATITUDE)])
    along = (vectors @ pole)[:, None] * pole
    across = np.cross(pole, vectors)
    return along + (vectors - along) * math.cos(angle) + across * math.sin(angle)


def _milky_way(view: SkyView, hours: float) -> Field:
    pole, radiance = view.night.milky_way
    east, north, up = _rotate_sky(pole[None], hours)[0]
    from_plane = view.east * east + view.north * north + view.up * up
    return np.float32(radiance) * np.exp(-((from_plane / 0.16) ** 2))


def _star_field(view: SkyView, hours: float) -> Field:
    """Return the stars as points, each spread over the four nearest pixels."""
    night, (height, width) = view.night, view.shape
    vectors = _rotate_sky(night.stars[:, :3], hours)
    visible = vectors[:, 2] > math.cos(night.edge_zenith_angle)
    east, north, up = vectors[visible].T
    half = min(height, width) / 2
    reach = np.arccos(np.clip(up, -1, 1)) / night.edge_zenith_angle * night.radius
    azimuth = np.arctan2(east, north) + night.rotation
    column = (night.center[0] - reach * np.sin(azimuth)) * half + width / 2 - 0.5
    row = (night.center[1] - reach * np.cos(azimuth)) * half + height / 2 - 0.5
    field = np.zeros((height, width), dtype=np.float32)
    left, top = np.floor(column).astype(int), np.floor(row).astype(int)
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        share = np.abs(1 - down - (row - top)) * np.abs(1 - right - (column - left))
        y, x = top + down, left + right
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        np.add.at(field, (y[inside], x[inside]), (share * night.stars[visible, 3])[inside])
    return field


def _lights(view: SkyView) -> Field:
    azimuth, wide, radiance = view.night.city_light
    away = np.abs((view.azimuth - azimuth + math.pi) % (2 * math.pi) - math.pi)
    low = np.exp(-np.maximum(math.pi / 2 - view.zenith_angle, 0) / 0.13)
    dome = np.float32(radiance) * np.exp(-((away / wide) ** 2)) * low
    return dome[..., None] * np.array([1.0, 0.72, 0.42], dtype=np.float32)


def _moonlight(view: SkyView, moon: Moon) -> Field:
    towards = (
        math.sin(moon.zenith_angle) * math.sin(moon.azimuth),
        math.sin(moon.zenith_angle) * math.cos(moon.azimuth),
        math.cos(moon.zenith_angle),
    )
    cosine = view.east * towards[0] + view.north * towards[1] + view.up * towards[2]
    apart = np.arccos(np.clip(cosine, -1, 1))
    scattered = (0.6 + 0.4 * cosine**2) * moon.radiance  # Rayleigh phase function, and light from the ground
    glare = 9.0 * np.exp(-((apart / 0.045) ** 2)) + 12 * moon.radiance * np.exp(-apart / 0.10)
    blue_sky = scattered[..., None] * np.array([0.55, 0.75, 1.0], dtype=np.float32)
    return blue_sky + glare[..., None] * np.array([1.0, 0.97, 0.90], dtype=np.float32)


# --- the camera ---------------------------------------------------------------------------------


def simulate_camera(view: SkyView, image: Field, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Convert radiances to counts: lens blur, exposure, noise and quantization.

    The exposure is that of the night and varies slightly between frames. Highlights saturate softly.

    Args:
        view: Lines of sight of the camera.
        image: Radiances, shape (y, x, 3).
        rng: Random generator for exposure and noise.

    Returns:
        RGB frame, shape (y, x, 3), dtype uint8.
    """
    night = view.night
    image = image * view.in_circle[..., None]
    image = _gaussian_blur(image, night.blur * min(view.shape) / 128)
    image = image * night.balance * np.float32(night.gain * math.exp(rng.normal(0, 0.05)))
    _add_hot_pixels(image, night.hot_pixels)
    dark, shot = night.noise
    spread = np.sqrt(np.float32(dark**2) + np.float32(shot**2) * np.maximum(image, 0))
    image = image + spread * rng.standard_normal(image.shape, dtype=np.float32)
    image = 1 - np.exp(np.float32(-1.6) * np.maximum(image, 0))
    image = image ** np.float32(night.gamma)
    outside = view.zenith_angle >= np.float32(night.edge_zenith_angle) * np.float32(1 - 1e-6)
    image[outside] = 0.0  # archives mask the area outside the circle
    return np.clip(image * 255 + np.float32(0.5), 0, 255).astype(np.uint8)


def _gaussian_blur(image: Field, sigma: float) -> Field:
    """Blur an image along both axes; pixels beyond the edges are 0."""
    reach = max(1, math.ceil(3 * sigma))
    offsets = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2).astype(np.float32)
    kernel /= kernel.sum()
    for axis in (0, 1):
        pad = [(reach, reach) if each == axis else (0, 0) for each in range(3)]
        padded = np.pad(image, pad)
        length = image.shape[axis]
        image = sum(
            weight * np.take(padded, range(start, start + length), axis=axis)
            for start, weight in enumerate(kernel)
        )  # type: ignore[assignment]
    return image


def _add_hot_pixels(image: Field, hot: Field) -> None:
    height, width = image.shape[:2]
    for y, x, radiance in hot:
        image[int(y * height), int(x * width), int(100 * radiance) % 3] += radiance


def frame_time(night: CameraNight, hours: float) -> datetime.datetime:
    """Return the time of a frame.

    Args:
        night: Night of the frame.
        hours: Time after 17 UTC of the evening, in hours.

    Returns:
        The time in UTC, rounded to seconds.
    """
    evening = datetime.datetime.combine(night.date, datetime.time(17))
    return evening + datetime.timedelta(seconds=round(3600 * hours))
