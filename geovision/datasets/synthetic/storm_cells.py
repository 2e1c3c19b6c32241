"""Synthetic hailstorms with a completely known state: day, ground and cells.

A day has heights of 0 and -20 degrees Celsius, instability and shear. The updraft of a cell is as strong as
the day allows. It determines the reflectivity of the core and the height to which the core is lifted. A cell
has four phases: it grows, its core is held aloft, the core falls, and the core remains at the ground and
fades:

    height of the core:  4.5 km -> its summit | held | down to the ground | there
    cloud top:           ahead of the echo; overshoots the anvil while the core is held, sinks as it falls

Heights are in m above mean sea level, lengths in km and times in minutes. x increases to the east and y to
the north, from the southwestern corner. Any change of the formulas needs a new `GENERATOR_VERSION` of
`geovision.datasets.synthetic.storm`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from geovision.datasets.synthetic.noise import fractal, interpolate_periodic, smoothstep

__all__ = [
    "MEDIAN_HAIL_FRACTION",
    "Landscape",
    "Storm",
    "StormCell",
    "StormDay",
    "compose_day",
    "compose_storm",
    "reflectivity",
]

Field = NDArray[np.floating]
TerrainKind = Literal["plain", "complex"]

MEDIAN_HAIL_FRACTION = 0.5
"""Median fraction of the severe hail index that is hail, limited by the number of hail embryos."""

_TEXTURE = 256  # texels per side of a texture
_NO_ECHO_DBZ = -60.0  # dBZ, below any echo


@dataclass(frozen=True)
class StormDay:
    """Atmospheric conditions of a storm day.

    Attributes:
        freezing_level: Height of 0 degrees Celsius, in m.
        minus20_level: Height of -20 degrees Celsius, in m.
        cape: Convective available potential energy, in J kg-1.
        shear: Wind shear between the ground and 6 km, in m s-1.
        dewpoint: Dewpoint at 2 m, in K.
        tropopause: Height of the anvils, in m.
        motion: Eastward and northward motion of the storms, in km per minute.
        calibration: Calibration error of the radars, in dB.
    """

    freezing_level: float
    minus20_level: float
    cape: float
    shear: float
    dewpoint: float
    tropopause: float
    motion: tuple[float, float]
    calibration: float

    @property
    def lapse(self) -> float:
        """Decrease of temperature with height above the freezing level, in K m-1."""
        return 20 / (self.minus20_level - self.freezing_level)


@dataclass(frozen=True)
class Landscape:
    """Periodic landscape of 256 km, with heights at any position.

    Attributes:
        texture: Heights on a grid of 1 km, shape (256, 256), in m.
        terrain: ``"plain"`` or ``"complex"``.
    """

    texture: Field
    terrain: TerrainKind

    def height(self, x: Field, y: Field) -> Field:
        """Return the height of the ground, in m above mean sea level.

        Args:
            x: Eastward positions, in km.
            y: Northward positions, in km; broadcast with `x`.

        Returns:
            Heights in the broadcast shape of `x` and `y`.
        """
        x, y = np.broadcast_arrays(x, y)
        return interpolate_periodic(self.texture, x, y)


@dataclass(frozen=True)
class StormCell:
    """One storm cell.

    Attributes:
        x: Eastward position of the core at time 0, the last window, in km.
        y: Northward position of the core at time 0, in km.
        onset: Time of onset, in minutes; negative before the last window.
        growth_minutes: Duration of growth, in minutes.
        mature_minutes: Duration of the core aloft, in minutes.
        descent_minutes: Duration of the descent of the core, in minutes.
        touchdown_minutes: Duration of the core at the ground, in minutes.
        updraft: Updraft speed, in m s-1.
        core_dbz: Maximum reflectivity of the core, in dBZ.
        core_top: Height to which the core is lifted, in m.
        radius: Distance in which the reflectivity decreases by 12 dB, in km.
        depth: Upward distance in which the reflectivity decreases by 4 dB, in km.
        rain: Reflectivity of the core minus that of the rain below it, in dB.
        hail_fraction: Fraction of the severe hail index that is hail, which no instrument observes.
    """

    x: float
    y: float
    onset: float
    growth_minutes: float
    mature_minutes: float
    descent_minutes: float
    touchdown_minutes: float
    updraft: float
    core_dbz: float
    core_top: float
    radius: float
    depth: float
    rain: float
    hail_fraction: float

    def phase_fractions(self, time: float) -> tuple[float, float, float, float]:
        """Return the completed fraction of each phase, 0 to 1.

        Args:
            time: Time, in minutes; 0 is the last window.

        Returns:
            Fractions of growth, maturity, descent and touchdown.
        """
        age = time - self.onset
        fractions = []
        for length in (
            self.growth_minutes,
            self.mature_minutes,
            self.descent_minutes,
            self.touchdown_minutes,
        ):
            fractions.append(min(max(age / length, 0.0), 1.0))
            age -= length
        return fractions[0], fractions[1], fractions[2], fractions[3]

    def is_active(self, time: float) -> bool:
        """Return whether the cell exists at a time.

        Args:
            time: Time, in minutes; 0 is the last window.

        Returns:
            True between the onset and the end of the last phase.
        """
        return (
            0
            < time - self.onset
            < self.growth_minutes + self.mature_minutes + self.descent_minutes + self.touchdown_minutes
        )


@dataclass(frozen=True)
class Storm:
    """Tile of ground with all cells that pass over it.

    Attributes:
        day: Atmospheric conditions.
        ground: Landscape that contains the tile.
        origin: x and y of the corner of the tile in the landscape, in km.
        shape: Numbers of points (y, x), 1 km apart.
        cells: Cells, in order of creation.
        echo_texture: Periodic texture of the echoes.
        cloud_texture: Periodic texture of the clouds.
    """

    day: StormDay
    ground: Landscape
    origin: tuple[float, float]
    shape: tuple[int, int]
    cells: tuple[StormCell, ...]
    echo_texture: Field
    cloud_texture: Field

    @property
    def axes(self) -> tuple[Field, Field]:
        """Coordinates x and y of the tile, in km from its corner.

        The shapes are (x,) and (y,), and points are 1 km apart.
        """
        return np.arange(self.shape[1], dtype=np.float32), np.arange(self.shape[0], dtype=np.float32)

    @property
    def elevation(self) -> Field:
        """Height of the ground, shape (y, x), in m."""
        x, y = self.axes
        return self.ground.height(self.origin[0] + x[None, :], self.origin[1] + y[:, None])

    def cell_position(self, cell: StormCell, time: float) -> tuple[float, float]:
        """Return x and y of a cell at a time, in km.

        Args:
            cell: Cell of the storm.
            time: Time, in minutes; 0 is the last window.

        Returns:
            x and y, in km from the corner of the tile.
        """
        return cell.x + time * self.day.motion[0], cell.y + time * self.day.motion[1]


# --- day, ground and cells ----------------------------------------------------------------------


def compose_day(rng: np.random.Generator) -> StormDay:
    """Draw the random conditions of a storm day.

    Args:
        rng: Random generator for everything that varies.

    Returns:
        The day.
    """
    freezing = float(np.clip(rng.normal(4300, 850), 2700, 5600))
    direction = rng.normal(0, 0.6)
    speed = rng.uniform(0.25, 0.7)
    return StormDay(
        freezing_level=freezing,
        minus20_level=freezing + float(np.clip(rng.normal(2900, 250), 2300, 3500)),
        cape=float(np.clip(np.exp(rng.normal(7.5, 0.4)), 500, 4500)),
        shear=float(np.clip(rng.normal(17, 6), 4, 35)),
        dewpoint=float(rng.normal(280 + 2.6e-3 * freezing, 1.5)),
        tropopause=float(rng.normal(10800 + 0.55 * freezing, 500)),
        motion=(speed * float(np.cos(direction)), speed * float(np.sin(direction))),
        calibration=float(rng.normal(0, 0.7)),
    )


def compose_ground(rng: np.random.Generator, terrain: TerrainKind) -> Landscape:
    """Draw a random landscape.

    A plain varies by some tens of meters. Complex terrain has plateaus of up to two kilometers with ridges
    and valleys.

    Args:
        rng: Random generator for the terrain.
        terrain: ``"plain"`` or ``"complex"``.

    Returns:
        The landscape.
    """
    rough = fractal(rng, _TEXTURE, slope=2.2, coarsest=4.0)
    if terrain == "plain":
        return Landscape(60 + 35 * rough, terrain)
    plateau = smoothstep(-0.9, 0.9, fractal(rng, _TEXTURE, slope=3.0, coarsest=2.5))
    ridge = np.exp(-((rough / np.float32(0.6)) ** 2))
    return Landscape(200 + 1300 * plateau + 900 * ridge, terrain)


def compose_storm(
    rng: np.random.Generator, day: StormDay, terrain: TerrainKind, shape: tuple[int, int], earliest: float
) -> Storm:
    """Draw a random tile with its cells.

    Args:
        rng: Random generator for everything that varies.
        day: Atmospheric conditions.
        terrain: ``"plain"`` or ``"complex"``.
        shape: Numbers of points (y, x), 1 km apart.
        earliest: Time of the first window, in minutes, negative.

    Returns:
        The storm.
    """
    ground = compose_ground(rng, terrain)
    origin = (float(rng.integers(_TEXTURE)), float(rng.integers(_TEXTURE)))
    height, width = shape
    # One cell near the center whose core may be at the ground in the last window. The number of further
    # cells is proportional to area and time.
    cells = [
        _cell(
            rng,
            day,
            ground,
            origin,
            (0.3 * width, 0.7 * width),
            (0.3 * height, 0.7 * height),
            down=rng.random() < 0.6,
        )
    ]
    reach = 12.0 - earliest * 0.1
    several = rng.poisson((width + reach) * (height + reach) * (60 - earliest) / 1.0e5)
    cells += [
        _cell(
            rng,
            day,
            ground,
            origin,
            (-reach, width + reach),
            (-reach, height + reach),
            down=False,
            earliest=earliest,
        )
        for _ in range(several)
    ]
    return Storm(
        day,
        ground,
        origin,
        shape,
        tuple(cells),
        echo_texture=fractal(rng, _TEXTURE, slope=1.6, coarsest=6.0),
        cloud_texture=fractal(rng, _TEXTURE, slope=2.2, coarsest=2.0, stretch=2.0),
    )


def _cell(
    rng: np.random.Generator,
    day: StormDay,
    ground: Landscape,
    origin: tuple[float, float],
    x: tuple[float, float],
    y: tuple[float, float],
    *,
    down: bool,
    earliest: float = 0.0,
) -> StormCell:
    # Storms form preferentially over high ground: one of three positions, weighted by height.
    places = np.array([[rng.uniform(*x), rng.uniform(*y)] for _ in range(3)])
    weight = np.exp(ground.height(origin[0] + places[:, 0], origin[1] + places[:, 1]) / 500)
    place = places[rng.choice(3, p=weight / weight.sum())]
    grow, hold, fall, stay = (rng.uniform(*each) for each in ((12, 20), (8, 16), (9, 15), (10, 20)))
    into = rng.uniform(-0.1, 0.8) if down else rng.uniform(earliest - 45, 0)
    onset = -(grow + hold + fall + stay * into) if down else into
    vigor = rng.uniform(0.85, 1.3) if down else rng.uniform(0.6, 1.25)
    updraft = float(np.clip(0.44 * np.sqrt(2 * day.cape) * vigor + 0.25 * (day.shear - 17), 8, 60))
    return StormCell(
        float(place[0]),
        float(place[1]),
        float(onset),
        grow,
        hold,
        fall,
        stay,
        updraft,
        core_dbz=float(np.clip(55.3 + 0.24 * updraft + rng.normal(0, 1.6), 46, 66)),
        core_top=float(np.clip(5700 + 65 * updraft + rng.normal(0, 500), 4500, 9500)),
        radius=float(rng.uniform(5.0, 9.0)),
        depth=float(rng.uniform(0.55, 1.0)),
        rain=float(rng.uniform(0.0, 0.8)),
        hail_fraction=float(MEDIAN_HAIL_FRACTION * np.exp(rng.normal(0, 0.3))),
    )


# --- reflectivity -------------------------------------------------------------------------------


def reflectivity(storm: Storm, time: float, levels: Field) -> tuple[Field, Field]:
    """Return the true reflectivity, as a perfect radar would observe it.

    Args:
        storm: Storm to observe.
        time: Time, in minutes; 0 is the last window.
        levels: Heights, shape (level,), in m above mean sea level.

    Returns:
        Reflectivity, shape (level, y, x), in dBZ, ``-inf`` without echo and NaN below the ground; and the
        hail fraction of the strongest cell of each column, shape (y, x), `MEDIAN_HAIL_FRACTION` without a
        cell.
    """
    levels = levels.astype(np.float32)
    volume = _rain(storm, time, levels)
    embryos, best = np.full(storm.shape, MEDIAN_HAIL_FRACTION), np.full(storm.shape, _NO_ECHO_DBZ, np.float32)
    for cell in storm.cells:
        if not cell.is_active(time):
            continue
        rows, columns = _cell_window(storm, cell, time)
        if rows.start >= rows.stop or columns.start >= columns.stop:
            continue
        echo = _echo(storm, cell, time, levels, rows, columns)
        here = volume[:, rows, columns]
        np.maximum(here, echo, out=here)
        column = echo.max(0)
        stronger = column > best[rows, columns]
        best[rows, columns][stronger] = column[stronger]
        embryos[rows, columns][stronger] = cell.hail_fraction
    volume[volume < 0] = -np.inf
    volume[levels[:, None, None] < storm.elevation] = np.nan
    return volume, embryos


def core(cell: StormCell, ground: float, time: float) -> tuple[float, float]:
    """Return height, in m, and reflectivity, in dBZ, of the core.

    Args:
        cell: Storm cell.
        ground: Height of the ground below the cell, in m.
        time: Time, in minutes; 0 is the last window.

    Returns:
        Height and reflectivity.
    """
    grown, _, fallen, faded = cell.phase_fractions(time)
    low = max(4300.0, ground + 1500)
    height = low + (max(cell.core_top, low) - low) * grown**1.3
    height += (ground + 200 - height) * fallen
    strength = 22 + (cell.core_dbz - 22) * grown**0.55
    return height, strength - 2.5 * fallen - 14 * faded**1.5


def _echo(storm: Storm, cell: StormCell, time: float, levels: Field, rows: slice, columns: slice) -> Field:
    x, y = (axis[part] for axis, part in zip(storm.axes, (columns, rows), strict=True))
    east, north = storm.cell_position(cell, time)
    ground = float(storm.ground.height(np.array(storm.origin[0] + east), np.array(storm.origin[1] + north)))
    height, strength = core(cell, ground, time)
    grown, _, fallen, _ = cell.phase_fractions(time)
    apart = (levels - height) / 1000 / np.where(levels > height, cell.depth, 2.0)
    rain = np.where(levels > height, np.inf, cell.rain + 22 * (1 - grown**2))
    profile = strength - np.minimum(4 * apart**2, rain)
    # The storm leans in the direction of the shear, in proportion to its strength.
    lean = (levels - ground) / 1000 * 0.035 * storm.day.shear * (1 - 0.5 * fallen)
    motion = np.hypot(*storm.day.motion)
    dx = x[None, None, :] - east - lean[:, None, None] * storm.day.motion[0] / motion
    dy = y[None, :, None] - north - lean[:, None, None] * storm.day.motion[1] / motion
    radius = (
        cell.radius
        * (0.55 + 0.45 * grown)
        * (1 + 0.22 * _advected(storm, storm.echo_texture, time, rows, columns))
    )
    return profile[:, None, None] - 12 * (dx**2 + dy**2) / np.maximum(radius, 1.5) ** 2


def _rain(storm: Storm, time: float, levels: Field) -> Field:
    """Return background rain in patches.

    It extends to about the height of -20 degrees Celsius.
    """
    everywhere = (slice(0, storm.shape[0]), slice(0, storm.shape[1]))
    texture = _advected(storm, storm.echo_texture, time, *everywhere)
    ground = 18 + 11 * texture
    top = storm.day.freezing_level + 1800 * (texture - 0.3)
    fading = np.maximum(levels[:, None, None] - top, 0) / 1000 * 9
    return np.where(texture > 0.2, ground - fading, _NO_ECHO_DBZ)


def _advected(storm: Storm, texture: Field, time: float, rows: slice, columns: slice) -> Field:
    x, y = storm.axes
    moved = storm.day.motion[0] * time, storm.day.motion[1] * time
    grid = np.meshgrid(x[columns] - moved[0], y[rows] - moved[1])
    return interpolate_periodic(texture, *grid)


def _cell_window(storm: Storm, cell: StormCell, time: float) -> tuple[slice, slice]:
    """Return the rows and columns of a cell, including its tilt."""
    east, north = storm.cell_position(cell, time)
    reach = 2.6 * cell.radius + 0.5 * storm.day.shear
    bounds = [
        slice(max(int(middle - reach), 0), max(min(int(middle + reach) + 1, size), 0))
        for middle, size in ((north, storm.shape[0]), (east, storm.shape[1]))
    ]
    return bounds[0], bounds[1]
