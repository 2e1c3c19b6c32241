"""Synthetic radar images of polar seas, with and without polar lows.

A seeded generator draws them; they are not radar images. First a wind over the sea is composed: its mean,
gusts, rolls and cells of convection, fronts, rain, a vortex. The backscatter of the sea follows from the wind
and from the angle of incidence, in two polarizations. Land, sea ice and slicks have backscatter of their own.
The radar adds noise, the seams of its sub-swaths and the edge of its swath. Only the vortex distinguishes a
polar low: an eye of weak wind, and fronts that spiral into it. Everything else occurs in images with and
without a polar low. Images of one pass are similar: they share geometry, noise, wind and season.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geovision.datasets.synthetic.noise import Field, cells, fractal, interpolate_periodic, smoothstep
from geovision.datasets.synthetic.parallel import parallel_for
from geovision.errors import OptionError
from geovision.physics.backscatter import DEFAULT_DB_RANGES, db_to_counts, db_to_power, to_db
from geovision.readers.sar_png import write_image

__all__ = [
    "EXTENT",
    "GENERATOR_VERSION",
    "IMAGES_PER_PASS",
    "KINDS",
    "PIXEL_SIZE",
    "Eye",
    "SatellitePass",
    "SyntheticScene",
    "compose_pass",
    "image_at",
    "render",
    "render_single",
    "write",
]

# Results of models that were trained or evaluated on these images are comparable only within one
# version: a change of any pixel needs a new version. The version was frozen before the first training
# and is not tuned to training results.
GENERATOR_VERSION = 1

EXTENT = 400_000.0
"""Side of an image, in m, as published."""

PIXEL_SIZE = 500.0
"""Pixel size, in m, as published: 800 pixels per side."""

IMAGES_PER_PASS = 6
"""Number of images per satellite pass: two with a polar low, four without, one of each look-alike."""

_PASS_KINDS = ("polar-low", "front", "rain", "polar-low", "slicks", "open-sea")
_TEST_PASS_INTERVAL = 5  # one pass in five is for tests
_FIRST_DAY = datetime.datetime(2014, 11, 1)
_SEASON = 200  # days of the season of polar lows, from November 1
_SWATH = 205.0  # half of the swath's width, km
# Edges of the sub-swaths of the extra-wide mode, as fractions of the swath from near to far range.
_SEAMS = (0.0, 0.235, 0.43, 0.625, 0.82, 1.0)
_NEAR, _FAR = 19.5, 46.5  # angles of incidence at the edges of the swath, degrees
_TEXTURE = 256  # texels per side of a texture


@dataclass(frozen=True)
class SatellitePass:
    """Properties that all images of one pass share.

    Attributes:
        start: Time of the first image, UTC.
        look_direction: Direction of increasing range, in radians counterclockwise from east.
        mean_wind_speed: Mean wind speed, in m/s.
        wind_direction: Direction of the mean wind, in radians counterclockwise from east.
        noise_db: Noise of the cross-polarized channel in each sub-swath, in dB.
        residual_noise_fraction: Fraction of the noise that remains after processing.
        num_looks: Equivalent number of looks of a pixel of `PIXEL_SIZE`.
        gain_db: Calibration errors of the cross- and co-polarized channels, in dB.
        seam_db: Offset of each sub-swath in the co-polarized channel, in dB.
        ice_probability: Probability of sea ice in an image.
        land_probability: Probability of land in an image.
        convection: Depth of cells and rolls, as a fraction of the wind.
        southern_hemisphere: Whether the pass is over the southern hemisphere, where vortices rotate in the
            opposite direction.
    """

    start: datetime.datetime
    look_direction: float
    mean_wind_speed: float
    wind_direction: float
    noise_db: Field
    residual_noise_fraction: float
    num_looks: float
    gain_db: tuple[float, float]
    seam_db: Field
    ice_probability: float
    land_probability: float
    convection: float
    southern_hemisphere: bool


@dataclass(frozen=True)
class Eye:
    """Eye of a synthetic polar low, in pixels.

    Attributes:
        row: Row of the center, from the top.
        column: Column of the center.
        radius: Radius of the eye.
    """

    row: float
    column: float
    radius: float


@dataclass(frozen=True)
class SyntheticScene:
    """One image and its contents.

    Attributes:
        counts: Cross- and co-polarized counts, shape (2, y, x), dtype uint8; 0 is no data.
        eye: Eye of the polar low; None without a polar low.
        valid: Mask of pixels inside the swath, shape (y, x).
        land: Mask of land, shape (y, x).
        ice: Mask of sea ice, shape (y, x).
    """

    counts: NDArray[np.uint8]
    eye: Eye | None
    valid: NDArray[np.bool_]
    land: NDArray[np.bool_]
    ice: NDArray[np.bool_]


def compose_pass(rng: np.random.Generator, number: int) -> SatellitePass:
    """Draw the random properties of a satellite pass.

    Args:
        rng: Random generator for everything that varies.
        number: Number of the pass, from 0; it determines the date, in the season of polar lows.

    Returns:
        The pass.
    """
    ascending = rng.random() < 0.5
    # Near the pole the direction of the meridians changes along a pass, so the headings of images vary.
    look = math.radians(rng.normal(-15, 18)) if ascending else math.radians(180 + rng.normal(15, 18))
    return SatellitePass(
        start=_date(number) + datetime.timedelta(minutes=float(rng.uniform(0, 1440))),
        look_direction=look,
        mean_wind_speed=rng.uniform(6.0, 12.5),
        wind_direction=rng.uniform(-math.pi, math.pi),
        noise_db=_float(np.array([-26.5, -28.8, -29.3, -29.8, -29.6]) + rng.normal(0, 0.5, 5)),
        residual_noise_fraction=rng.uniform(0.1, 0.65),
        num_looks=rng.uniform(45, 160),
        gain_db=(rng.normal(0, 0.4), rng.normal(0, 0.4)),
        seam_db=_float(rng.normal(0, 0.22, 5)),
        ice_probability=float(rng.choice([0.1, 0.7])),
        land_probability=float(rng.choice([0.15, 0.7])),
        convection=rng.uniform(0.05, 0.2),
        southern_hemisphere=rng.random() < 0.2,
    )


def _date(number: int) -> datetime.datetime:
    year, day = divmod(number, _SEASON)
    return _FIRST_DAY.replace(year=_FIRST_DAY.year + year) + datetime.timedelta(days=day)


def _float(values: NDArray[np.floating]) -> Field:
    return values.astype(np.float32)


def render_single(kind: str, rng: np.random.Generator, *, pixel_size: float = PIXEL_SIZE) -> SyntheticScene:
    """Draw one image of a random pass; see `render`.

    Args:
        kind: One of `KINDS`.
        rng: Random generator for everything that varies.
        pixel_size: Pixel size, in m. Default: `PIXEL_SIZE`.

    Returns:
        The image and its contents.
    """
    return render(kind, compose_pass(rng, int(rng.integers(1000))), rng, pixel_size=pixel_size)


def render(
    kind: str, satellite_pass: SatellitePass, rng: np.random.Generator, *, pixel_size: float = PIXEL_SIZE
) -> SyntheticScene:
    """Draw one image of a pass.

    Args:
        kind: One of `KINDS`.
        satellite_pass: Pass with geometry, wind and noise.
        rng: Random generator for everything that varies; the same state gives the same image.
        pixel_size: Pixel size, in m; `EXTENT` is divided into such pixels. Coarser images show the same sea
            with less speckle. Default: `PIXEL_SIZE`.

    Returns:
        The image and its contents.

    Raises:
        OptionError: The kind is unknown.
    """
    if kind not in _WINDS:
        raise OptionError(f"kind {kind!r} is unknown; choose one of {', '.join(_WINDS)}")
    ground = _ImageGrid.create(satellite_pass, rng, pixel_size)
    sky = _Weather(ground, satellite_pass, rng)
    wind, slick_db = _WINDS[kind](sky)
    power = _sea(sky, np.maximum(wind, np.float32(0.4)), slick_db)
    ice, land = _ice(sky), _land(sky)
    power = _add_ice_and_land(sky, power, ice, land)
    counts = _simulate_counts(sky, power)
    return SyntheticScene(
        counts, ground.eye_in_pixels(sky.low), ground.valid, land > 0.5, (ice > 0.5) & (land <= 0.5)
    )


# --- grid -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _ImageGrid:
    """Pixel coordinates of an image.

    These are km east and north of the center of the image, and the position across the swath. `range`
    increases from -1 at the near edge of the swath to 1 at the far edge.
    """

    east: Field
    north: Field
    range: Field
    pixel: float
    valid: NDArray[np.bool_]

    @classmethod
    def create(cls, over: SatellitePass, rng: np.random.Generator, pixel_size: float) -> _ImageGrid:
        """Return the grid at a random position in the swath.

        Args:
            over: Pass of the image.
            rng: Random generator for the position.
            pixel_size: Pixel size, in m.

        Returns:
            The grid.
        """
        count = round(EXTENT / pixel_size)
        pixel = EXTENT / count / 1000
        along = (np.arange(count, dtype=np.float32) - np.float32((count - 1) / 2)) * np.float32(pixel)
        east, north = np.broadcast_arrays(along[None, :], -along[:, None])
        # The image is at a random position in the swath; in many images the edge of the swath is visible.
        middle = rng.uniform(-1, 1) * _SWATH * (0.65 if rng.random() < 0.4 else 0.15)
        c, s = np.float32(math.cos(over.look_direction)), np.float32(math.sin(over.look_direction))
        across = (east * c + north * s + np.float32(middle)) / np.float32(_SWATH)
        along_track = north * c - east * s
        # In some images the pass begins or ends.
        cut = rng.uniform(80, 190) if rng.random() < 0.15 else 1e6
        valid = (np.abs(across) < 1) & (along_track < np.float32(cut))
        return cls(east, north, across, pixel, valid)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the image, in pixels."""
        return self.east.shape  # type: ignore[return-value]

    def eye_in_pixels(self, low: _PolarLow | None) -> Eye | None:
        """Return the eye of a polar low in pixels.

        Args:
            low: Polar low, or None.

        Returns:
            The eye; None without a polar low.
        """
        if low is None:
            return None
        middle = (self.shape[0] - 1) / 2
        return Eye(middle - low.north / self.pixel, middle + low.east / self.pixel, low.eye / self.pixel)


@dataclass(frozen=True)
class _PolarLow:
    """Polar low.

    Center and radius of the eye are in km. `turns` is 1 for counterclockwise rotation, otherwise -1.
    """

    east: float
    north: float
    eye: float
    turns: int


class _Weather:
    """Random fields and wind of one image, shared by all its parts."""

    def __init__(self, ground: _ImageGrid, over: SatellitePass, rng: np.random.Generator) -> None:
        self.ground, self.satellite_pass, self.rng = ground, over, rng
        self.low: _PolarLow | None = None
        # Coordinates are distorted, because real weather has no exact lines and circles.
        amount = rng.uniform(4, 9)
        self.east = ground.east + np.float32(amount) * self.smooth(slope=1.7, coarsest=4)
        self.north = ground.north + np.float32(amount) * self.smooth(slope=1.7, coarsest=4)
        self.wind_from = over.wind_direction + rng.normal(0, 0.15)
        self.mean = over.mean_wind_speed * math.exp(rng.normal(0, 0.10))

    def smooth(self, *, slope: float, coarsest: float = 1.0) -> Field:
        """Return a random field over the image.

        Args:
            slope: Exponent of the spectrum.
            coarsest: Smallest wavenumber of the texture. Default: 1.

        Returns:
            Field, shape (y, x), cropped from one with mean 0 and standard deviation 1.
        """
        return self._enlarged(fractal(self.rng, _TEXTURE, slope=slope, coarsest=coarsest)[:128, :128])

    def cellular(self, spacing: float, spread: float) -> Field:
        """Return a field of cells.

        Args:
            spacing: Distance between cells, in km.
            spread: Relative width of the spectrum.

        Returns:
            Field, shape (y, x), cropped from one with mean 0 and standard deviation 1.
        """
        texels = max(spacing * 128 / 400, 2.0)
        return self._enlarged(cells(self.rng, _TEXTURE, spacing=texels, spread=spread)[:128, :128])

    def _enlarged(self, texture: Field) -> Field:
        image = Image.fromarray(np.ascontiguousarray(texture, dtype=np.float32))
        return np.asarray(image.resize(self.ground.shape[::-1], Image.Resampling.BICUBIC))

    def rotated(self, angle: float) -> tuple[Field, Field]:
        """Return distorted coordinates along and across a direction, in km.

        Args:
            angle: Direction, in radians counterclockwise from east.

        Returns:
            Coordinates along and across the direction, shape (y, x) each.
        """
        c, s = np.float32(math.cos(angle)), np.float32(math.sin(angle))
        return self.east * c + self.north * s, self.north * c - self.east * s


# --- wind -----------------------------------------------------------------------------------------


def _background(sky: _Weather) -> Field:
    """Return the background wind speed, in m/s.

    It consists of mean wind, gusts, rolls along the wind and cells of convection.
    """
    rng, depth = sky.rng, sky.satellite_pass.convection
    wind = np.float32(sky.mean) * np.exp(np.float32(0.15) * sky.smooth(slope=1.6))
    wind *= 1 + np.float32(0.07) * sky.smooth(slope=0.9, coarsest=8)
    if rng.random() < 0.6:  # open cells: narrow strong rims around weak middles
        cellular = sky.cellular(rng.uniform(14, 42), rng.uniform(0.3, 0.5))
        where = smoothstep(-0.6, 0.8, sky.smooth(slope=2.4))
        wind *= 1 + np.float32(1.1 * depth) * where * (
            np.exp(-np.abs(cellular) * np.float32(1.6)) - np.float32(0.45)
        )
    if rng.random() < 0.6:
        wind *= 1 + np.float32(0.55 * depth) * _rolls(sky)
    return wind


def _rolls(sky: _Weather) -> Field:
    """Return streaks along the wind that are a few km apart."""
    along, across = sky.rotated(sky.wind_from)
    texels = 10 / sky.rng.uniform(3, 6)  # a texel is a tenth of the distance between streaks
    texture = cells(sky.rng, _TEXTURE, spacing=10, spread=0.35, stretch=6.0)
    rolls = interpolate_periodic(texture, along * np.float32(texels), across * np.float32(texels))
    return rolls * smoothstep(-1.0, 0.6, sky.smooth(slope=2.4))


def _front_profile(across: Field, width: float, decay: float) -> Field:
    """Return the wind profile across a front.

    The wind increases within `width` km of 0, is strong behind the front and decreases over `decay` km.
    """
    sharp = 1 / (1 + np.exp(np.clip(-across / np.float32(width), -30, 30)))
    return sharp * np.exp(-np.maximum(across, 0) / np.float32(decay))


def _front_line(across: Field, width: float) -> Field:
    """Return the profile of the narrow rough line of a front."""
    return np.exp(-((across / np.float32(width)) ** 2))


def _shower_modulation(sky: _Weather) -> Field:
    """Return the modulation of a front by showers, around 1."""
    return np.maximum(1 + np.float32(0.75) * sky.smooth(slope=1.1, coarsest=10), 0)


def _polar_low(sky: _Weather) -> tuple[Field, Field | None]:
    """Return the wind of a vortex.

    It has weak wind in the eye and fronts that spiral into it. The wind is strongest where the mean wind adds
    to the rotation.
    """
    rng = sky.rng
    wind = _background(sky)
    if rng.random() < 0.4:
        wind = _with_rain(sky, wind, count=int(rng.integers(1, 6)))
    low = _place_low(sky)
    sky.low = low
    away, angle, near = _polar_coordinates(sky, low)
    scale = rng.uniform(80, 150)
    turning = _tangential_wind(away, rng.uniform(6.0, 10.5), low.eye)
    ux, uy = -math.cos(sky.wind_from), -math.sin(sky.wind_from)
    flow = np.float32(rng.uniform(0.5, 0.8)) * wind
    sine, cosine = np.sin(angle), np.cos(angle)
    turned = np.float32(low.turns) * turning
    inside = np.exp(-((away / np.float32(1.9 * scale)) ** 2))
    vortex = np.hypot(flow * np.float32(ux) - turned * sine, flow * np.float32(uy) + turned * cosine)
    wind = wind + inside * (vortex - wind)
    for start in _arm_angles(rng):
        wind = _with_arm(sky, wind, low, away, angle, start=start, scale=scale)
    calm = rng.uniform(1.6, 3.6)
    eye = smoothstep(0.70, 1.15, near)
    return np.float32(calm) + (wind - np.float32(calm)) * eye, None


def _place_low(sky: _Weather) -> _PolarLow:
    """Return a polar low with a visible eye.

    It is within 75 km of the center of the image.
    """
    rng, ground = sky.rng, sky.ground
    eye = math.exp(rng.uniform(math.log(8), math.log(22)))
    for _ in range(200):
        towards, away = rng.uniform(-math.pi, math.pi), 75 * math.sqrt(rng.uniform(0, 1))
        east, north = away * math.cos(towards), away * math.sin(towards)
        row = int((ground.shape[0] - 1) / 2 - north / ground.pixel)
        column = int((ground.shape[1] - 1) / 2 + east / ground.pixel)
        if abs(float(ground.range[row, column])) * _SWATH < _SWATH - 1.5 * eye and ground.valid[row, column]:
            break
    return _PolarLow(east, north, eye, -1 if sky.satellite_pass.southern_hemisphere else 1)


def _polar_coordinates(sky: _Weather, low: _PolarLow) -> tuple[Field, Field, Field]:
    """Return polar coordinates around the low.

    These are the distance in km, the direction, and the distance in radii of the eye.
    """
    rng = sky.rng
    # The distortion is reduced near the eye, so that its center keeps its position.
    straight = np.hypot(sky.ground.east - np.float32(low.east), sky.ground.north - np.float32(low.north))
    bent = smoothstep(0, 2.5 * low.eye, straight)
    east = sky.ground.east + bent * (sky.east - sky.ground.east) - np.float32(low.east)
    north = sky.ground.north + bent * (sky.north - sky.ground.north) - np.float32(low.north)
    oval, towards = rng.uniform(0.60, 1.0), rng.uniform(0, math.pi)
    c, s = np.float32(math.cos(towards)), np.float32(math.sin(towards))
    along, across = east * c + north * s, (north * c - east * s) / np.float32(oval)
    away = np.maximum(np.hypot(along, across) * np.float32(math.sqrt(oval)), np.float32(0.3))
    ragged = np.exp(np.float32(0.22) * sky.smooth(slope=1.4, coarsest=10))
    return away, np.arctan2(north, east), away * ragged / np.float32(low.eye)


def _tangential_wind(away: Field, strongest: float, eye: float) -> Field:
    """Return the tangential wind speed.

    It peaks just outside the eye and decreases slowly.
    """
    relative = away / np.float32(1.5 * eye)
    return np.float32(strongest) * np.where(
        relative < 1, relative, np.power(np.maximum(relative, 1), np.float32(-0.45))
    )


def _arm_angles(rng: np.random.Generator) -> list[float]:
    """Return the directions of the fronts at the eye, in radians.

    There are one or two fronts, rarely three.
    """
    count = int(rng.choice([1, 2, 3], p=[0.45, 0.45, 0.10]))
    first = rng.uniform(-math.pi, math.pi)
    return [first + 2 * math.pi * number / count + rng.normal(0, 0.3) for number in range(count)]


def _with_arm(
    sky: _Weather,
    wind: Field,
    low: _PolarLow,
    away: Field,
    angle: Field,
    *,
    start: float,
    scale: float,
    begins: float = 0.0,
) -> Field:
    """Add a spiral front around the low.

    The front follows a logarithmic spiral and fades over about `scale` km.
    """
    rng = sky.rng
    pitch = math.radians(rng.uniform(14, 26))
    # With distance from the eye the fronts lag behind the rotation.
    phase = np.float32(low.turns) * angle + np.float32(1 / math.tan(pitch)) * np.log(
        away / np.float32(low.eye)
    )
    phase = phase - np.float32(start)
    turn = np.float32(2 * math.pi)
    phase = phase - turn * np.round(phase / turn)
    across = phase * away * np.float32(math.sin(pitch))
    reach = rng.uniform(1.0, 1.6) * scale
    fades = np.exp(-((away / np.float32(reach)) ** 4)) * smoothstep(begins, begins + 12, away + np.float32(6))
    # The spiral wraps around the eye and closes there.
    strength, width = rng.uniform(3.5, 7.0), rng.uniform(0.6, 1.8)
    wind = wind + fades * np.float32(strength) * (
        _front_profile(across, width, rng.uniform(14, 45)) - np.float32(0.18)
    )
    rough = (
        rng.uniform(0.8, 2.6)
        * _shower_modulation(sky)
        * _front_line(across - np.float32(1.0), rng.uniform(1.2, 2.8))
    )
    return wind + fades * rough


def _front(sky: _Weather) -> tuple[Field, Field | None]:
    """Return the wind of one to three fronts or shear lines.

    They cross the image or bend in it; none of them is closed.
    """
    rng = sky.rng
    wind = _background(sky)
    for _ in range(int(rng.choice([1, 2, 3], p=[0.45, 0.4, 0.15]))):
        wind = _with_hook(sky, wind) if rng.random() < 0.45 else _with_front(sky, wind)
    if rng.random() < 0.4:
        wind = _with_rain(sky, wind, count=int(rng.integers(1, 6)))
    return wind, None


def _with_front(sky: _Weather, wind: Field) -> Field:
    """Add a front from edge to edge.

    It is bent with a radius of hundreds of km and often has waves.
    """
    rng = sky.rng
    along, across = sky.rotated(rng.uniform(-math.pi, math.pi))
    across = across + np.float32(rng.uniform(-110, 110)) + along**2 * np.float32(rng.uniform(-1, 1) / 700)
    if rng.random() < 0.5:
        length, height = rng.uniform(45, 130), rng.uniform(3, 10)
        phase = np.float32(rng.uniform(0, 6)) + sky.smooth(slope=2.2)
        across = across + np.float32(height) * np.sin(along * np.float32(2 * math.pi / length) + phase)
    strength, width = rng.uniform(3.5, 7.0), rng.uniform(0.6, 1.8)
    wind = wind + np.float32(strength) * (
        _front_profile(across, width, rng.uniform(20, 90)) - np.float32(0.15)
    )
    rough = (
        rng.uniform(0.8, 2.6)
        * _shower_modulation(sky)
        * _front_line(across - np.float32(1.0), rng.uniform(1.2, 2.8))
    )
    return wind + rough


def _with_hook(sky: _Weather, wind: Field) -> Field:
    """Add a bent part of a front, like an arm of a low.

    Its center is distant or empty.
    """
    rng = sky.rng
    towards, away = rng.uniform(-math.pi, math.pi), rng.uniform(60, 190)
    low = _PolarLow(
        away * math.cos(towards), away * math.sin(towards), rng.uniform(15, 30), int(rng.choice([-1, 1]))
    )
    distance, angle, _ = _polar_coordinates(sky, low)
    start, scale = rng.uniform(-math.pi, math.pi), rng.uniform(90, 170)
    return _with_arm(sky, wind, low, distance, angle, start=start, scale=scale, begins=rng.uniform(70, 100))


def _rain(sky: _Weather) -> tuple[Field, Field | None]:
    rng = sky.rng
    wind = _with_rain(sky, _background(sky), count=int(rng.integers(4, 14)))
    return (_with_front(sky, wind) if rng.random() < 0.3 else wind), None


def _with_rain(sky: _Weather, wind: Field, *, count: int) -> Field:
    """Add showers.

    A shower has a rough core, a calm area and the rim of the gust front, which is stronger downwind.
    """
    rng, wind = sky.rng, wind.copy()
    for _ in range(count):
        east, north = rng.uniform(-190, 190, 2)
        size, strength = math.exp(rng.uniform(math.log(4), math.log(17))), rng.uniform(2.5, 6.0)
        stale, core = rng.uniform(0.2, 0.7), rng.uniform(2.0, 6.0)
        thick = rng.uniform(0.14, 0.32) * size
        near = (np.abs(sky.ground.east - np.float32(east)) < 4 * size + 12) & (
            np.abs(sky.ground.north - np.float32(north)) < 4 * size + 12
        )
        if not near.any():
            continue
        # Small features are distorted less than large ones.
        dx = (sky.east + sky.ground.east)[near] / 2 - np.float32(east)
        dy = (sky.north + sky.ground.north)[near] / 2 - np.float32(north)
        away = np.maximum(np.hypot(dx, dy), np.float32(0.1))
        downwind = (
            -(dx * np.float32(math.cos(sky.wind_from)) + dy * np.float32(math.sin(sky.wind_from))) / away
        )
        rim = np.exp(-(((away - np.float32(size)) / np.float32(thick)) ** 2))
        middle = np.exp(-((away / np.float32(0.75 * size)) ** 4))
        # The core is upwind, because it is older than the rim.
        shower = np.exp(-(((dx + np.float32(0.3 * size)) ** 2 + dy**2) / np.float32((0.25 * size) ** 2)))
        wind[near] = (
            wind[near] * (1 - np.float32(stale) * middle)
            + np.float32(core) * shower
            + (np.float32(strength) * rim * (np.float32(0.55) + np.float32(0.45) * downwind))
        )
    return wind


def _slicks(sky: _Weather) -> tuple[Field, Field | None]:
    """Return weak wind and slicks.

    Films damp the waves in filaments and eddies. Calm areas are as dark as an eye.
    """
    rng = sky.rng
    wind = _background(sky) * np.float32(rng.uniform(0.5, 0.75))
    texture = sky.smooth(slope=2.3, coarsest=5)
    filaments = np.exp(-((texture / np.float32(rng.uniform(0.06, 0.14))) ** 2))
    where = smoothstep(-0.2, 1.2, sky.smooth(slope=2.2))
    for _ in range(int(rng.integers(1, 5))):
        east, north = rng.uniform(-150, 150, 2)
        away = np.hypot(
            sky.east - np.float32(east), (sky.north - np.float32(north)) * np.float32(rng.uniform(0.8, 1.5))
        )
        size = math.exp(rng.uniform(math.log(8), math.log(35)))
        calm = smoothstep(0.5 * size, rng.uniform(1.1, 1.7) * size, away)
        wind = np.float32(1.6) + (wind - np.float32(1.6)) * (
            1 - np.float32(rng.uniform(0.5, 1.0)) * (1 - calm)
        )
    return wind, np.float32(-rng.uniform(3, 8)) * where * filaments


def _open_sea(sky: _Weather) -> tuple[Field, Field | None]:
    wind = _background(sky)
    if sky.rng.random() < 0.35:  # a wind gradient across the image, without an edge
        along, _ = sky.rotated(sky.rng.uniform(-math.pi, math.pi))
        wind = wind * (1 + np.float32(0.45) * np.tanh(along / np.float32(120)))
    return wind, None


_WINDS: Mapping[str, Callable[[_Weather], tuple[Field, Field | None]]] = {
    "polar-low": _polar_low,
    "front": _front,
    "rain": _rain,
    "slicks": _slicks,
    "open-sea": _open_sea,
}
KINDS = tuple(_WINDS)
"""Kinds of images; the first is the polar low, the others are look-alikes without one."""


# --- backscatter ----------------------------------------------------------------------------------


def _incidence(ground: _ImageGrid) -> Field:
    """Return the angle of incidence, in degrees."""
    return np.float32(_NEAR) + np.float32((_FAR - _NEAR) / 2) * (ground.range + 1)


def _sea(sky: _Weather, wind: Field, slick_db: Field | None) -> Field:
    """Return the backscatter of the sea as linear power.

    The shape is (2, y, x), cross- and co-polarized. The coefficients are rounded from C-band measurements.
    The co-polarized backscatter decreases with the angle of incidence, rises as a power of the wind and is
    weaker across the wind. The cross-polarized backscatter rises by about 0.6 dB per m/s and hardly depends
    on the angle.
    """
    angle = _incidence(sky.ground)
    azimuth = 2 * (sky.wind_from - sky.satellite_pass.look_direction)
    steep = angle - 33
    co = np.float32(-13.4 + 0.9 * math.cos(azimuth)) - np.float32(0.44) * steep + np.float32(0.006) * steep**2
    growth = np.float32(1.25) + np.float32(0.025) * steep
    co = co + 10 * growth * np.log10(wind / 10)
    cross = np.float32(-35.4) + np.float32(0.58) * wind + 4 * np.log10(np.minimum(wind, 5) / 5)
    both = np.stack([cross, co])
    return db_to_power(both if slick_db is None else both + np.stack([slick_db / 2, slick_db]))


def _ice(sky: _Weather) -> Field:
    """Return the sea ice cover, 0 to 1.

    The ice extends from one side of the image and has eddies along its edge.
    """
    rng = sky.rng
    if rng.random() > sky.satellite_pass.ice_probability:
        return np.zeros_like(sky.east)
    along, across = sky.rotated(rng.uniform(-math.pi, math.pi))
    curls = np.float32(rng.uniform(6, 16)) * sky.smooth(slope=1.6, coarsest=5)
    edge = rng.uniform(25, 175)
    if sky.low is not None:
        c, s = _direction_of(along, across, sky)
        edge = max(edge, sky.low.east * c + sky.low.north * s + 2.2 * sky.low.eye + 18)
    return smoothstep(edge - 1.5, edge + 1.5, across + curls)


def _direction_of(along: Field, across: Field, sky: _Weather) -> tuple[float, float]:
    """Return the unit vector (east, north) along which `across` increases.

    It is derived from the change of `across` over the grid.
    """
    middle, last = sky.ground.shape[0] // 2, sky.ground.shape[0] - 1
    span = last * sky.ground.pixel
    east = float(across[middle, last] - across[middle, 0]) / span
    north = float(across[0, middle] - across[last, middle]) / span
    length = math.hypot(east, north)
    return east / length, north / length


def _land(sky: _Weather) -> Field:
    """Return the land cover, 0 to 1.

    It has a coast with inlets, and islands.
    """
    rng = sky.rng
    if rng.random() > sky.satellite_pass.land_probability:
        return np.zeros_like(sky.east)
    rugged = sky.smooth(slope=1.5, coarsest=2)
    along, _ = sky.rotated(rng.uniform(-math.pi, math.pi))
    height = rugged + (along - np.float32(rng.uniform(60, 230))) / np.float32(55)
    if rng.random() < 0.4:
        height = np.maximum(height, sky.smooth(slope=1.8, coarsest=5) - np.float32(rng.uniform(1.7, 2.4)))
    if sky.low is not None:
        away = np.hypot(
            sky.ground.east - np.float32(sky.low.east), sky.ground.north - np.float32(sky.low.north)
        )
        height = height - 6 * (1 - smoothstep(1.4 * sky.low.eye, 2.6 * sky.low.eye + 15, away))
    return smoothstep(-0.02, 0.02, height)


def _add_ice_and_land(sky: _Weather, power: Field, ice: Field, land: Field) -> Field:
    if ice.any():
        floes = sky.smooth(slope=1.0, coarsest=12)
        age = sky.smooth(slope=2.0, coarsest=2)
        leads = np.exp(-((sky.smooth(slope=1.5, coarsest=6) / np.float32(0.05)) ** 2))
        steep = _incidence(sky.ground) - 33
        texture = np.float32(1.1) * floes + np.float32(1.6) * age - 5 * leads
        scattered = db_to_power(
            np.stack([np.float32(-24.5) + texture, -15 - np.float32(0.22) * steep + texture])
        )
        power = power + ice * (scattered - power)
    if land.any():
        relief = sky.smooth(slope=1.2, coarsest=8)
        # Slopes towards the radar are bright.
        slope = np.gradient(relief, axis=1) * np.float32(
            math.cos(sky.satellite_pass.look_direction)
        ) - np.gradient(relief, axis=0) * np.float32(math.sin(sky.satellite_pass.look_direction))
        bright = (
            np.float32(2.2) * np.tanh(-2 * slope / np.float32(max(float(slope.std()), 1e-6)))
            + np.float32(1.2) * relief
        )
        power = power + land * (db_to_power(np.stack([-17.5 + bright, -9 + bright])) - power)
    return power


# --- measurement ----------------------------------------------------------------------------------


def _simulate_counts(sky: _Weather, power: Field) -> NDArray[np.uint8]:
    """Return the measured counts, shape (2, y, x).

    They contain speckle, noise, calibration errors and seams, and are 0 outside the swath.
    """
    rng, over, ground = sky.rng, sky.satellite_pass, sky.ground
    # A coarser pixel averages more looks.
    looks = over.num_looks * (ground.pixel * 1000 / PIXEL_SIZE) ** 2
    speckle = 1 + rng.standard_normal(power.shape, dtype=np.float32) / np.float32(math.sqrt(looks))
    swath, place = _sub_swath(ground.range)
    # The antenna gain is highest at the center of each sub-swath, so noise is highest at the seams.
    shape = np.float32(1.5) * (place**2) - np.float32(0.5)
    noise = db_to_power(over.noise_db[swath] + shape) * np.float32(over.residual_noise_fraction)
    received = np.stack([power[0] + noise, power[1] + np.float32(0.1) * noise]) * np.maximum(
        speckle, np.float32(0.05)
    )
    sigma0 = to_db(received)
    sigma0[0] += np.float32(over.gain_db[0])
    sigma0[1] += np.float32(over.gain_db[1]) + over.seam_db[swath]
    names = ("cross_pol", "co_pol")
    return np.stack(
        [
            db_to_counts(channel, DEFAULT_DB_RANGES[name], valid=ground.valid)
            for name, channel in zip(names, sigma0, strict=True)
        ]
    )


def _sub_swath(position: Field) -> tuple[NDArray[np.int64], Field]:
    """Return number of the sub-swath and position in it, -1 to 1."""
    share = np.clip((position + 1) / 2, 0, np.float32(0.9999))
    edges = np.array(_SEAMS, np.float32)
    number = np.clip(np.searchsorted(edges, share, side="right") - 1, 0, len(_SEAMS) - 2)
    low, high = edges[number], edges[number + 1]
    return number, 2 * (share - low) / (high - low) - 1


# --- files ------------------------------------------------------------------------------------------


def write(root: Path, n: int, *, seed: int, pixel_size: float = PIXEL_SIZE) -> Path:
    """Write images in the published layout, ``train/pos/cffe42_20191012T084028_…_mos_rgb.png``.

    A pass has `IMAGES_PER_PASS` images within some minutes, two of them with a polar low. Every fifth pass
    goes to ``test``. Red and green are the cross-polarized channel, blue is the co-polarized channel. Image i
    depends only on `seed` and i, not on `n`. Files of the same names are replaced.

    Args:
        root: Folder of the data set; created if it does not exist.
        n: Number of images.
        seed: Seed of all random numbers.
        pixel_size: Pixel size, in m; sizes other than the published 500 m are written into the files.
            Default: `PIXEL_SIZE`.

    Returns:
        `root`.

    Raises:
        StorageError: A file could not be written.
    """
    parallel_for(partial(_write_image, root, seed, pixel_size), n, num_images=n)
    return root


def image_at(index: int, *, seed: int, pixel_size: float = PIXEL_SIZE) -> tuple[str, SyntheticScene]:
    """Return path and contents of one image of `write`.

    The contents include what the files do not contain.

    Args:
        index: Number of the image, from 0.
        seed: Seed of all random numbers.
        pixel_size: Pixel size, in m. Default: `PIXEL_SIZE`.

    Returns:
        Path below the root, and the image with its contents.
    """
    number, place = divmod(index, IMAGES_PER_PASS)
    over = compose_pass(np.random.default_rng([seed, 0, number]), number)
    kind = _PASS_KINDS[place]
    scene = render(kind, over, np.random.default_rng([seed, 1, index]), pixel_size=pixel_size)
    split = "test" if number % _TEST_PASS_INTERVAL == 1 else "train"
    return f"{split}/{'pos' if scene.eye else 'neg'}/{_filename(over, place, seed, index)}", scene


def _write_image(root: Path, seed: int, pixel_size: float, index: int) -> None:
    path, scene = image_at(index, seed=seed, pixel_size=pixel_size)
    write_image(root / path, scene.counts, pixel_size)


def _filename(over: SatellitePass, place: int, seed: int, index: int) -> str:
    start = over.start + datetime.timedelta(seconds=75 * place)
    stop = start + datetime.timedelta(seconds=64 + 20 * (place % 3))
    code = np.random.default_rng([seed, 2, index]).integers(16**6)
    return f"{code:06x}_{start:%Y%m%dT%H%M%S}_{stop:%Y%m%dT%H%M%S}_mos_rgb.png"
