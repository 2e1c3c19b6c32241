"""Synthetic observations of a storm, each with its own gaps.

The sources are radar, satellite, reanalysis and terrain:

- The radar is located in the plain or in a valley. It has no data behind ridges, below its lowest beam or
  directly above itself. Some volumes are missing, sometimes several in a row.
- The satellite imager observes every cloud top from above, every 4 km and 15 minutes: anvils, and updrafts
  that overshoot them. It does not observe the cloud below the top or the height at which hail melts.
- The reanalysis contains the height of freezing and the potential for convection, every 25 km and every hour,
  with errors. It contains no single cells.
- The ground is known everywhere. Over high ground less hail melts and the core reaches the ground sooner.
  Behind a ridge, an empty radar image contains no information.

Any change of the formulas needs a new `GENERATOR_VERSION` of `geovision.datasets.synthetic.storm`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geovision.datasets.synthetic.noise import interpolate_periodic, smoothstep
from geovision.datasets.synthetic.storm_cells import Storm, StormCell

__all__ = ["brightness_temperatures", "environment", "radar_coverage", "radar_site", "simulate_radar"]

Field = NDArray[np.floating]

_EARTH = 4 / 3 * 6371.0  # effective radius for refracted radar beams, km
_LOWEST, _HIGHEST = 0.5, 19.5  # elevations of the radar, degrees
_RAY = 40  # points along a beam at which the ground is sampled


# --- radar --------------------------------------------------------------------------------------


def radar_site(rng: np.random.Generator, storm: Storm) -> tuple[float, float, float]:
    """Return the position of the radar.

    The radar is at the lowest of some random places around the tile.

    Args:
        rng: Random generator for the places.
        storm: Storm that is observed.

    Returns:
        x and y in the axes of the tile, in km, and the height of the antenna, in m.
    """
    height, width = storm.shape
    angle, distance = rng.uniform(0, 2 * np.pi, 5), rng.uniform(15, 90, 5)
    x, y = width / 2 + distance * np.cos(angle), height / 2 + distance * np.sin(angle)
    ground = storm.ground.height(storm.origin[0] + x, storm.origin[1] + y)
    lowest = int(np.argmin(ground))
    return float(x[lowest]), float(y[lowest]), float(ground[lowest]) + 30


def radar_coverage(storm: Storm, site: tuple[float, float, float], levels: Field) -> NDArray[np.bool_]:
    """Return the mask of points that the radar observes.

    They are above the ground, between the lowest and the highest beam, and not behind a ridge.

    Args:
        storm: Storm that is observed.
        site: x and y of the radar, in km, and the height of its antenna, in m.
        levels: Heights, shape (level,), in m above mean sea level.

    Returns:
        The mask, shape (level, y, x).
    """
    x, y = np.meshgrid(*storm.axes)
    distance = np.hypot(x - site[0], y - site[1])
    share = (np.arange(_RAY, dtype=np.float32)[:, None, None] + 0.5) / _RAY
    along = np.maximum(distance * share, 0.1)
    ground = storm.ground.height(
        storm.origin[0] + site[0] + (x - site[0]) * share, storm.origin[1] + site[1] + (y - site[1]) * share
    )
    horizon = np.maximum(_angle(ground, along, site[2]).max(0), _LOWEST)
    height = levels.astype(np.float32)[:, None, None]
    angle = _angle(height, np.maximum(distance, 0.5), site[2])
    return (angle >= horizon) & (angle <= _HIGHEST) & (height >= storm.elevation)


def _angle(height: Field, distance: Field, antenna: float) -> Field:
    """Return the elevation angle of a height, in degrees.

    The height is in m and the distance in km.
    """
    return np.degrees(np.arctan((height - antenna) / 1000 / distance - distance / (2 * _EARTH)))


def simulate_radar(
    rng: np.random.Generator, storm: Storm, truth: Field, coverage: NDArray[np.bool_]
) -> Field:
    """Return one measured volume.

    It has noise of 1 dB, steps of 0.5 dB, and nothing below 5 dBZ.

    Args:
        rng: Random generator for the noise.
        storm: Storm that is observed.
        truth: True reflectivity, shape (level, y, x), in dBZ.
        coverage: Mask of observed points from `radar_coverage`, same shape.

    Returns:
        Reflectivity, same shape, in dBZ; ``-inf`` without echo, NaN where it is not observed.
    """
    noise = rng.standard_normal(truth.shape, dtype=np.float32) + np.float32(storm.day.calibration)
    measured = np.round((truth + noise) * 2) / 2
    measured[measured < 5] = -np.inf
    measured[np.isneginf(truth)] = -np.inf
    measured[~coverage] = np.nan
    return measured


# --- satellite ----------------------------------------------------------------------------------


def brightness_temperatures(rng: np.random.Generator, storm: Storm, time: float, pixel: int = 4) -> Field:
    """Return brightness temperatures at 6.25, 6.95, 8.55, 10.8 and 12.0 um.

    Args:
        rng: Random generator for the noise.
        storm: Storm that is observed.
        time: Time, in minutes; 0 is the last window.
        pixel: Side of a satellite pixel, in km. Default: 4.

    Returns:
        Brightness temperatures, shape (channel, y, x), in K, constant within each pixel.
    """
    ground = _ground_temperature(storm)
    top = _cloud_tops(storm, time)
    thin = smoothstep(0.5, 1.8, _advected_cloud_texture(storm, time))
    window = np.minimum(ground, _temperature(storm, top))
    window = window - thin * 0.45 * np.maximum(window - 228, 0)
    # Water vapor hides low levels. Tops above the anvil are warmer because of the stratosphere.
    above = np.maximum(top - storm.day.tropopause, 0) / 1000
    upper = _water_vapor_temperature(window, 238.0) + 1.8 * above
    middle = _water_vapor_temperature(window, 248.0) + 1.2 * above
    clear = smoothstep(230, 290, window)
    channels = np.stack([upper, middle, window - 1.5 + 1.0 * clear, window, window - 0.4 - 1.6 * clear])
    coarse = _block_mean(channels, pixel)
    coarse += rng.normal(0, 0.4, coarse.shape)
    height, width = storm.shape
    return np.repeat(np.repeat(coarse, pixel, 1), pixel, 2)[:, :height, :width]


def _ground_temperature(storm: Storm) -> Field:
    return 273.15 + (storm.day.freezing_level - storm.elevation) * 6.8e-3 + 1.5


def _temperature(storm: Storm, height: Field) -> Field:
    return 273.15 - (height - storm.day.freezing_level) * storm.day.lapse


def _advected_cloud_texture(storm: Storm, time: float) -> Field:
    x, y = storm.axes
    return interpolate_periodic(
        storm.cloud_texture,
        *np.meshgrid(x - 1.4 * storm.day.motion[0] * time, y - 1.4 * storm.day.motion[1] * time),
    )


def _cloud_tops(storm: Storm, time: float) -> Field:
    """Return the height of the highest cloud, in m; 0 without cloud."""
    x, y = np.meshgrid(*storm.axes)
    tops = np.zeros(storm.shape)
    motion = storm.day.motion / np.hypot(*storm.day.motion)
    for cell in storm.cells:
        if not -8 < time - cell.onset < 110:
            continue
        east, north = storm.cell_position(cell, time)
        tower, spread, dome, faded = _cloud(cell, storm, time)
        reach = spread / 2
        lean = 0.035 * storm.day.shear * tower / 1000 * 0.6
        dx, dy = x - east - lean * motion[0], y - north - lean * motion[1]
        away = np.hypot(dx, dy) / (cell.radius + 1.5)
        anvil = np.hypot(dx - reach * motion[0], dy - reach * motion[1]) / (cell.radius + 2 + spread)
        sheet = (storm.day.tropopause - 500 - 1500 * faded) * (tower >= storm.day.tropopause - 1000)
        np.maximum(tops, np.where(anvil < 1, sheet - 900 * anvil**2, 0), out=tops)
        np.maximum(
            tops, np.where(away < 1.3, tower + dome * np.exp(-2.5 * away**2) - 500 * away**2, 0), out=tops
        )
    return tops


def _cloud(cell: StormCell, storm: Storm, time: float) -> tuple[float, float, float, float]:
    """Return the shape of a cell's cloud.

    It consists of the height of the tower in m, the spread of the anvil in km, the height of the overshoot in
    m, and the faded fraction.
    """
    age = time - cell.onset + 8  # the cloud appears before the echo
    grown = min(max(age / (cell.growth_minutes + 4), 0.0), 1.0)
    _, _, fallen, faded = cell.phase_fractions(time)
    anvil = min(storm.day.tropopause, cell.core_top + 4500)
    spread = max(time - cell.onset - 0.8 * cell.growth_minutes, 0.0) * 0.35
    vigor = smoothstep(0.65, 0.95, np.array(grown)) * (1 - smoothstep(0.1, 0.7, np.array(fallen)))
    dome = 62.0 * max(cell.updraft - 12, 0) * float(vigor)
    tower = (4500 + (anvil - 4500) * grown) * (1 - 0.12 * faded)
    return tower, spread, dome, faded


def _water_vapor_temperature(window: Field, vapor: float) -> Field:
    """Return the temperature in a water vapor channel.

    It is that of cloud tops where they are colder than the vapor.
    """
    return np.minimum(window + 0.8, vapor - 0.12 * np.maximum(vapor - window, 0))


def _block_mean(channels: Field, pixel: int) -> Field:
    """Return means over square blocks.

    Incomplete blocks are filled with the values at the edge.
    """
    _, height, width = channels.shape
    grow = ((0, 0), (0, -height % pixel), (0, -width % pixel))
    whole = np.pad(channels, grow, mode="edge")
    return whole.reshape(len(channels), whole.shape[1] // pixel, pixel, -1, pixel).mean((2, 4))


# --- reanalysis ---------------------------------------------------------------------------------


def environment(rng: np.random.Generator, storm: Storm, hours: int, pixel: int = 25) -> Field:
    """Return the reanalysis of a storm.

    Its channels are freezing level, level of -20 degrees Celsius, CAPE, shear and dewpoint.

    Args:
        rng: Random generator for the errors.
        storm: Storm that is observed.
        hours: Number of hours.
        pixel: Side of a reanalysis pixel, in km. Default: 25.

    Returns:
        Values, shape (hour, channel, y, x), constant within each pixel: two levels in m, CAPE in J kg-1,
        shear in m s-1, dewpoint in K.
    """
    day = storm.day
    height, width = storm.shape
    shape = (hours, -(-height // pixel), -(-width // pixel))
    common = [day.freezing_level, day.minus20_level, day.cape, day.shear, day.dewpoint]
    # One error is common to the whole sample, another is independent for each pixel and hour.
    whole, single = (70.0, 90.0, 0.12, 1.2, 0.7), (30.0, 40.0, 0.06, 0.6, 0.4)
    fields = []
    for value, wide, narrow in zip(common, whole, single, strict=True):
        error = wide * rng.standard_normal() + narrow * rng.standard_normal(shape)
        fields.append(value * np.exp(error) if wide < 0.5 else value + error)
    coarse = np.stack(fields, 1)
    return np.repeat(np.repeat(coarse, pixel, 2), pixel, 3)[:, :, :height, :width]
