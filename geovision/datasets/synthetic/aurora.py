"""Synthetic all-sky frames of the seven auroral forms, drawn by formula.

A seeded generator draws them; they are not photographs. Light is emitted on curtains and patches above the
Earth, along the magnetic field, in the lines of oxygen and nitrogen. A fisheye lens maps it to the frame. The
forms differ in the location and structure of the light, and one of them in its color. Nights differ in
camera, exposure, airglow, air, moon and direction of north, in the same way for all forms. Frames of one
night are similar, and two frames of one display are nearly the same.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geovision.datasets.synthetic.night_sky import (
    SkyView,
    background,
    compose_night,
    frame_time,
    lines_of_sight,
    simulate_camera,
)
from geovision.datasets.synthetic.noise import Field, cells, fractal, interpolate_periodic, smoothstep
from geovision.datasets.synthetic.parallel import parallel_for
from geovision.errors import OptionError, StorageError

__all__ = ["FORMS", "FRAMES_PER_NIGHT", "GENERATOR_VERSION", "render", "write"]

# Results of models that were trained or evaluated on these frames are comparable only within one
# version: a change of any pixel needs a new version. The version was frozen before the first training
# and is not tuned to training results. One change since then corrected the direction in which the
# stars rotate; a test of geometry found it before any result was published.
GENERATOR_VERSION = 1

_DISPLAYS, _FRAMES = 4, 2  # displays in a night, frames of a display
FRAMES_PER_NIGHT = _DISPLAYS * _FRAMES
"""Number of frames of one night."""

_LAYERS = np.array([95, 99, 103, 108, 114, 122, 133, 148, 168, 192, 219, 250, 290], np.float32)
_THICKNESS = np.gradient(_LAYERS).astype(np.float32)
# The excited state of the red line has a lifetime of more than a minute at great heights, and the
# oxygen drifts meanwhile. Curtains are therefore wider there.
_WIDENING = (0.7 * np.maximum(_THICKNESS - 6, 0))[:, None, None]

# Response of a color camera to each line: red, green, blue.
_GREEN = np.array([0.36, 1.00, 0.38], np.float32)  # 557.7 nm, atomic oxygen
_RED = np.array([1.00, 0.13, 0.20], np.float32)  # 630.0 nm, atomic oxygen
_VIOLET = np.array([0.45, 0.22, 1.00], np.float32)  # 427.8 nm, ionized nitrogen molecules
_CRIMSON = np.array([1.00, 0.22, 0.55], np.float32)  # first positive bands of nitrogen molecules


@dataclass(frozen=True)
class _EmissionSpectrum:
    """Relative strength of emission lines, and height of the green line.

    Attributes:
        red: Strength of the red line, relative to the green one.
        violet: Strength of the violet line, relative to the green one.
        crimson: Strength of the crimson bands, relative to the green line.
        peak: Height of the maximum of the green line, in km.
        reach: Upward extent of the green line above its maximum, in km.
    """

    red: float
    violet: float
    crimson: float
    peak: float
    reach: float

    def profile(self) -> Field:
        """Return the emission of each layer in red, green and blue.

        The shape is (layer, 3). The green line sums to 1.
        """
        below = np.minimum(_LAYERS - self.peak, 0)
        above = np.maximum(_LAYERS - self.peak, 0)
        green = np.exp(-((below / 7) ** 2) - above / self.reach)
        red = np.exp(-((np.minimum(_LAYERS - 225, 0) / 38) ** 2) - np.maximum(_LAYERS - 225, 0) / 60)
        violet = np.exp(-((below / 7) ** 2) - above / (self.reach + 45))
        crimson = np.exp(-(((_LAYERS - self.peak + 9) / 6) ** 2))
        lines = (
            (green, _GREEN, 1.0),
            (red, _RED, self.red),
            (violet, _VIOLET, self.violet),
            (crimson, _CRIMSON, self.crimson),
        )
        return sum(
            np.float32(amount) * (each * _THICKNESS / (each * _THICKNESS).sum())[:, None] * color
            for each, color, amount in lines
        )  # type: ignore[return-value]


@dataclass(frozen=True)
class _SkyCoordinates:
    """Magnetic coordinates of the sky above the camera.

    Attributes:
        east: Magnetic east of the foot of the field line in each layer, shape (layer, y, x), in km.
        north: Magnetic north of the same foot, shape (layer, y, x), in km.
        minutes: Time since the first frame of the display, in minutes.
    """

    east: Field
    north: Field
    minutes: float

    def rotated(self, angle: float) -> _SkyCoordinates:
        """Return the coordinates in rotated axes.

        Args:
            angle: Counterclockwise rotation of the axes, in radians.

        Returns:
            The rotated coordinates.
        """
        cosine, sine = np.float32(math.cos(angle)), np.float32(math.sin(angle))
        return _SkyCoordinates(
            self.east * cosine + self.north * sine, self.north * cosine - self.east * sine, self.minutes
        )

    def translated(self, east: float, north: float) -> _SkyCoordinates:
        """Return the coordinates relative to a shifted origin.

        Args:
            east: Eastward shift of the origin, in km.
            north: Northward shift of the origin, in km.

        Returns:
            The shifted coordinates.
        """
        return _SkyCoordinates(self.east - np.float32(east), self.north - np.float32(north), self.minutes)


def render(form: str, rng: np.random.Generator, size: tuple[int, int] = (128, 128)) -> NDArray[np.uint8]:
    """Draw one frame of one form, in a random night.

    Args:
        form: One of `FORMS`.
        rng: Random generator for everything that varies; the same state gives the same frame.
        size: Height and width, in pixels. Default: (128, 128).

    Returns:
        RGB frame, shape (height, width, 3), dtype uint8; black outside the circle of the sky.

    Raises:
        OptionError: The form is unknown.
    """
    if form not in _RENDERERS:
        raise OptionError(f"form {form!r} is unknown; choose one of {', '.join(_RENDERERS)}")
    view = lines_of_sight(compose_night(rng, int(rng.integers(1000))), size)
    return _frame(form, view, rng, rng, hours=rng.uniform(0, 12), minutes=0.0)


def write(root: Path, n: int, *, seed: int, size: tuple[int, int] = (128, 128)) -> Path:
    """Write frames in the published layout, ``TrainingImages/20050915_201500_class_3.png``.

    A night has `FRAMES_PER_NIGHT` frames of four displays, two per display, about a minute apart. The forms
    take turns. Every fourth night goes to ``TestImages``. The file name begins with the time in UTC. Frame i
    depends only on `seed` and i, not on `n`. Files of the same names are replaced.

    Args:
        root: Folder of the data set; created if it does not exist.
        n: Number of frames.
        seed: Seed of all random numbers.
        size: Height and width, in pixels. Default: (128, 128).

    Returns:
        `root`.

    Raises:
        StorageError: A file could not be written.
    """
    parallel_for(partial(_write_night, root, n, seed, size), math.ceil(n / FRAMES_PER_NIGHT), num_images=n)
    return root


def _write_night(root: Path, n: int, seed: int, size: tuple[int, int], number: int) -> None:
    night = compose_night(np.random.default_rng([seed, 0, number]), number)
    folder = root / ("TestImages" if number % 4 == 1 else "TrainingImages")
    view = lines_of_sight(night, size)
    for index in range(number * FRAMES_PER_NIGHT, min(n, (number + 1) * FRAMES_PER_NIGHT)):
        label, hours, frame = _render_frame_of_night(view, index, seed)
        _save(folder / f"{frame_time(night, hours):%Y%m%d_%H%M%S}_class_{label}.png", frame)


def _render_frame_of_night(view: SkyView, index: int, seed: int) -> tuple[int, float, NDArray[np.uint8]]:
    """Return class, hours and image of one frame of a data set.

    The hours count from the beginning of the night.
    """
    display, repeat = divmod(index, _FRAMES)
    label = display % len(FORMS)
    begin, step = np.random.default_rng([seed, 1, display]).uniform([0.2, 0.4], [2.6, 2.0])
    hours = 3.0 * (display % _DISPLAYS) + begin
    form, noise = np.random.default_rng([seed, 2, display]), np.random.default_rng([seed, 3, index])
    frame = _frame(FORMS[label], view, form, noise, hours=hours, minutes=repeat * step)
    return label, hours + repeat * step / 60, frame


def _frame(
    form: str,
    view: SkyView,
    display: np.random.Generator,
    noise: np.random.Generator,
    *,
    hours: float,
    minutes: float,
) -> NDArray[np.uint8]:
    """Draw one frame of a display.

    Whatever the form draws from `display` is the same in all frames of a display.
    """
    east, north, path = view.intersect_shells(_LAYERS)
    flux, light = _RENDERERS[form](display, _SkyCoordinates(east, north, minutes))
    aurora = np.einsum("lyx,lyx,lc->yxc", flux, path, light.profile(), optimize=True)
    image = background(view, hours=hours + minutes / 60) + aurora * view.transmission
    return simulate_camera(view, image, noise)


def _save(path: Path, image: NDArray[np.uint8]) -> None:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(stream.getvalue())
    except OSError as error:
        raise StorageError(
            f"{path}: could not be written ({error.strerror}); free some space or choose another folder"
        ) from error


# --- parts of the forms -------------------------------------------------------------------------


def _green_emission(rng: np.random.Generator, *, reach: float) -> _EmissionSpectrum:
    """Return a random spectrum that is mostly green."""
    return _EmissionSpectrum(
        rng.uniform(0, 0.14), rng.uniform(0.03, 0.18), rng.uniform(0, 0.08), rng.uniform(103, 114), reach
    )


def _curtain(across: Field, width: float, widening: Field = _WIDENING) -> Field:
    """Return the brightness across a curtain.

    The edge towards the equator is sharp; brightness fades towards the pole.
    """
    wide = np.where(across < 0, np.float32(0.55 * width), np.float32(1.35 * width)) + widening
    # A wider curtain spreads the same light and is fainter.
    return np.exp(-((across / wide) ** 2)) * (np.float32(width) / (np.float32(width) + widening))


def _along(rng: np.random.Generator, east: Field, *, scale: float, depth: float) -> Field:
    """Return the brightness along a curtain.

    It is 1 on average and varies by about `depth` over `scale` km.
    """
    texture = fractal(rng, 128, slope=1.2, coarsest=4)[9]
    position = east * np.float32(128 / (4 * scale))
    left = np.floor(position)
    first = left.astype(np.int32) & 127
    here = texture[first]
    here += (texture[(first + 1) & 127] - here) * (position - left)
    return np.maximum(1 + np.float32(depth) * here, 0)


def _bands(
    rng: np.random.Generator, sky: _SkyCoordinates, *, count: int, spread: tuple[float, float]
) -> Field:
    """Draw nearly parallel curtains from one horizon to the other.

    Their distances north of the camera are random within `spread`, in km.
    """
    sky = sky.rotated(rng.normal(0, 0.14)).translated(0, rng.normal(0, 4) * sky.minutes)
    texture = fractal(rng, 128, slope=2.2, coarsest=2)
    bend = rng.uniform(-0.18, 0.18) / 1000
    meander = rng.uniform(2, 26)
    flux = np.zeros_like(sky.east)
    places = np.sort(rng.uniform(*spread, count))
    for place in places:
        wave = interpolate_periodic(
            texture, sky.east * np.float32(0.10) + place, np.full_like(sky.east, place / 7)
        )
        line = np.float32(place) + np.float32(bend) * sky.east**2 + np.float32(meander) * wave
        width, strength = rng.uniform(6, 17), rng.uniform(0.45, 1.0)
        lit = _along(rng, sky.east, scale=rng.uniform(90, 260), depth=rng.uniform(0.1, 0.35))
        flux += np.float32(strength) * lit * _curtain(sky.north - line, width)
    return flux


def _filaments(rng: np.random.Generator, sky: _SkyCoordinates, *, count: int) -> Field:
    """Draw short curtains with rays, folds and curls within 250 km."""
    flux = np.zeros_like(sky.east)
    common = rng.normal(0, 0.35)
    for _ in range(count):
        away, towards = rng.uniform(0, 1) ** 0.6 * 230, rng.uniform(-math.pi, math.pi)
        drift = rng.normal(0, 9, 2) * sky.minutes
        here = sky.translated(away * math.sin(towards) + drift[0], away * math.cos(towards) + drift[1])
        _add_filament(rng, flux, here.rotated(common + rng.normal(0, 0.45)))
    return flux


def _add_filament(rng: np.random.Generator, flux: Field, here: _SkyCoordinates) -> None:
    length, width = rng.uniform(22, 75), rng.uniform(3.5, 7)
    curl = rng.uniform(0.3, 1.1) * float(rng.choice([-1, 1]))
    waves, strength = rng.uniform(1.2, 2.6), rng.uniform(0.5, 1.1)
    scale, depth = rng.uniform(6, 13), rng.uniform(0.5, 0.9)
    # The brightness is negligible beyond these distances.
    near = (np.abs(here.east) < 1.5 * length) & (np.abs(here.north) < 0.4 * length + 80)
    east, north = here.east[near], here.north[near]
    fold = np.float32(0.35 * length * curl) * np.sin(east * np.float32(waves / length))
    ends = np.exp(-((east / np.float32(length)) ** 4))
    widening = np.broadcast_to(_WIDENING, near.shape)[near]
    rays = _along(rng, east, scale=scale, depth=depth)
    flux[near] += np.float32(strength) * ends * rays * _curtain(north - fold, width, widening)


def _folded_curtains(rng: np.random.Generator, sky: _SkyCoordinates, *, fill: float) -> Field:
    """Draw folded curtains across most of the sky, in diffuse light."""
    sky = sky.rotated(rng.normal(0, 0.3)).translated(*(rng.normal(0, 25, 2) * sky.minutes))
    wide = fractal(rng, 128, slope=2.4, coarsest=2)
    fine = fractal(rng, 128, slope=1.7, coarsest=5)
    # 128 texels are about 1000 km of the wide texture and 500 km of the fine one.
    x, y = sky.east * np.float32(0.128), sky.north * np.float32(0.128)
    eddy = np.float32(rng.uniform(55, 110)) * interpolate_periodic(wide, x, y)
    curl = np.float32(rng.uniform(12, 28)) * interpolate_periodic(fine, 2 * x + 40, 2 * y)
    across = sky.north + eddy + curl
    along = sky.east + np.float32(70) * interpolate_periodic(wide, x + 64, y + 31)
    spacing, width = rng.uniform(75, 150), rng.uniform(8, 16)
    nearest = (across + np.float32(spacing / 2)) % np.float32(spacing) - np.float32(spacing / 2)
    rays = _along(rng, along, scale=rng.uniform(9, 22), depth=rng.uniform(0.3, 0.6))
    surges = np.clip(0.7 + 0.7 * interpolate_periodic(wide, x + 20, y + 90), 0.1, 2.2)
    veil = np.clip(0.5 + 0.5 * interpolate_periodic(wide, x + 90, y + 20), 0, 1.5)
    middle = rng.normal(0, 110 * fill**2, 2)
    distance = np.hypot(sky.east - np.float32(middle[0]), sky.north - np.float32(middle[1]))
    cover = smoothstep(rng.uniform(620, 900) * fill, 240 * fill, distance)
    return cover * (surges * rays * _curtain(nearest, width) + np.float32(rng.uniform(0.16, 0.34)) * veil)


def _patches(rng: np.random.Generator, sky: _SkyCoordinates) -> Field:
    """Draw separate diffuse blobs, each bright at its own time."""
    sky = sky.rotated(rng.uniform(-0.5, 0.5)).translated(rng.normal(0, 20) * sky.minutes, 0)
    spacing = rng.uniform(70, 150)
    # 16 texels per patch.
    texture = cells(rng, 256, spacing=16, spread=rng.uniform(0.3, 0.5), stretch=rng.uniform(1.0, 1.7))
    x, y = sky.east * np.float32(16 / spacing), sky.north * np.float32(16 / spacing)
    low = rng.uniform(0.1, 0.7)
    blobs = smoothstep(low, low + rng.uniform(0.9, 1.5), interpolate_periodic(texture, x, y))
    pulse = fractal(rng, 128, slope=1.6, coarsest=3)
    phase = np.float32(17.0 * sky.minutes)
    bright = np.clip(0.75 + 0.45 * interpolate_periodic(pulse, 0.4 * x + phase, 0.4 * y), 0.1, 1.6)
    center = rng.normal(0, 150, 2)
    distance = np.hypot(sky.east - np.float32(center[0]), sky.north - np.float32(center[1]))
    cover = smoothstep(rng.uniform(480, 800), rng.uniform(180, 320), distance)
    return cover * (blobs * bright + np.float32(rng.uniform(0.0, 0.12)))


# --- the forms ----------------------------------------------------------------------------------


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> np.float32:
    """Return a random radiance between two, with the geometric mean as median."""
    return np.float32(math.exp(rng.uniform(math.log(low), math.log(high))))


def _arcs_bands(rng: np.random.Generator, sky: _SkyCoordinates) -> tuple[Field, _EmissionSpectrum]:
    count = int(rng.choice([1, 2, 3], p=[0.4, 0.35, 0.25]))
    flux = _bands(rng, sky, count=count, spread=(-150, 170))
    return flux * _log_uniform(rng, 0.30, 1.2), _green_emission(rng, reach=rng.uniform(10, 26))


def _breakup(rng: np.random.Generator, sky: _SkyCoordinates) -> tuple[Field, _EmissionSpectrum]:
    light = _EmissionSpectrum(
        rng.uniform(0, 0.14),
        rng.uniform(0.05, 0.22),
        rng.uniform(0.02, 0.22),
        rng.uniform(99, 108),
        rng.uniform(16, 34),
    )
    return _folded_curtains(rng, sky, fill=1.0) * _log_uniform(rng, 0.5, 1.5), light


def _colored(rng: np.random.Generator, sky: _SkyCoordinates) -> tuple[Field, _EmissionSpectrum]:
    """Draw any shape, in colors other than green."""
    kind = rng.choice(["red above", "violet rays", "crimson border"], p=[0.45, 0.3, 0.25])
    light = {
        "red above": _EmissionSpectrum(
            rng.uniform(0.9, 2.4),
            rng.uniform(0.05, 0.3),
            rng.uniform(0, 0.1),
            rng.uniform(106, 118),
            rng.uniform(22, 45),
        ),
        "violet rays": _EmissionSpectrum(
            rng.uniform(0.1, 0.6),
            rng.uniform(0.8, 1.8),
            rng.uniform(0.05, 0.3),
            rng.uniform(104, 114),
            rng.uniform(25, 60),
        ),
        "crimson border": _EmissionSpectrum(
            rng.uniform(0.05, 0.4),
            rng.uniform(0.2, 0.7),
            rng.uniform(0.8, 1.6),
            rng.uniform(99, 105),
            rng.uniform(14, 26),
        ),
    }[str(kind)]
    shape = rng.random()
    if shape < 0.4:
        flux = _bands(rng, sky, count=int(rng.integers(1, 4)), spread=(-170, 190))
    elif shape < 0.7:
        flux = _filaments(rng, sky, count=int(rng.integers(5, 11)))
    else:
        flux = 0.8 * _folded_curtains(rng, sky, fill=rng.uniform(0.5, 0.9))
    return flux * _log_uniform(rng, 0.3, 1.2), light


def _discrete(rng: np.random.Generator, sky: _SkyCoordinates) -> tuple[Field, _EmissionSpectrum]:
    flux = _filaments(rng, sky, count=int(rng.integers(3, 10)))
    return flux * _log_uniform(rng, 0.45, 1.6), _green_emission(rng, reach=rng.uniform(20, 45))


def _edge(rng: np.random.Generator, sky: _SkyCoordinates) -> tuple[Field, _EmissionSpectrum]:
    """Draw any form low above one side of the horizon.

    It is at the edge of the range in which forms are visible.
    """
    towards = rng.normal(0, 0.5) + (math.pi if rng.random() < 0.25 else 0.0)
    turned = sky.rotated(-towards)
    distance = rng.uniform(230, 400)
    if rng.random() < 0.6:
        flux = _bands(rng, turned, count=int(rng.integers(1, 4)), spread=(distance, distance + 150))
    else:
        flux = _folded_curtains(rng, turned.translated(0, distance + 260), fill=rng.uniform(0.35, 0.5))
    return flux * _log_uniform(rng, 0.60, 1.8), _green_emission(rng, reach=rng.uniform(12, 40))


def _clear_faint(rng: np.random.Generator, sky: _SkyCoordinates) -> tuple[Field, _EmissionSpectrum]:
    """Draw nothing, or a veil or an arc like the airglow.

    The veil or the arc is hardly brighter than the airglow.
    """
    light, level = _green_emission(rng, reach=rng.uniform(12, 26)), np.float32(rng.uniform(0, 1) ** 1.5)
    if rng.random() < 0.5:
        return np.float32(0.10) * level * _bands(rng, sky, count=1, spread=(-250, 450)), light
    wide = fractal(rng, 128, slope=2.6, coarsest=1)
    veil = np.clip(
        0.6 + 0.5 * interpolate_periodic(wide, sky.east * np.float32(0.05), sky.north * np.float32(0.05)),
        0,
        2,
    )
    return np.float32(0.07) * level * veil, light


def _patchy(rng: np.random.Generator, sky: _SkyCoordinates) -> tuple[Field, _EmissionSpectrum]:
    light = _EmissionSpectrum(
        rng.uniform(0, 0.08),
        rng.uniform(0.08, 0.26),
        rng.uniform(0.02, 0.10),
        rng.uniform(97, 104),
        rng.uniform(7, 12),
    )
    return _patches(rng, sky) * _log_uniform(rng, 0.20, 0.80), light


_RENDERERS: Mapping[
    str, Callable[[np.random.Generator, _SkyCoordinates], tuple[Field, _EmissionSpectrum]]
] = {
    "arcs-bands": _arcs_bands,
    "breakup": _breakup,
    "colored": _colored,
    "discrete": _discrete,
    "edge": _edge,
    "clear-faint": _clear_faint,
    "patchy": _patchy,
}
FORMS = tuple(_RENDERERS)
"""Names of the forms, in the order of the classes ``class_0`` to ``class_6``."""
