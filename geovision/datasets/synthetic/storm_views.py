"""What instruments and a reanalysis see of a generated storm, each with gaps of its own.

- The radar stands where radars stand, in the plain or in a valley. It does not see behind ridges, below its
  lowest beam, or right above itself; now and then a volume is missing, or some in a row.
- The imager looks from above and sees every cloud top, 4 km and 15 minutes apart: anvils, and where updrafts
  overshoot them. It does not see what is below, nor how high hail melts.
- The reanalysis knows the height of freezing and what the air could do, 25 km and an hour apart, with errors;
  it knows nothing of a single cell.
- The ground is known everywhere: over high ground less melts, the core comes down sooner, and behind a ridge
  an empty radar means nothing.

Nothing here may change without a new `GENERATOR_VERSION` of `geovision.datasets.synthetic.storm`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geovision.datasets.synthetic.noise import interpolate_periodic, smoothstep
from geovision.datasets.synthetic.storm_cells import Storm, StormCell

__all__ = ["brightness_temperatures", "environment", "radar_coverage", "radar_site", "simulate_radar"]

Field = NDArray[np.floating]

_EARTH = 4 / 3 * 6371.0  # km, for beams
_LOWEST, _HIGHEST = 0.5, 19.5  # elevations of the radar, degrees
_RAY = 40  # points along a beam at which the ground is looked at


# --- radar --------------------------------------------------------------------------------------


def radar_site(rng: np.random.Generator, storm: Storm) -> tuple[float, float, float]:
    """x and y of the radar, km in the tile's axes, and the height of its antenna, m: the lowest of some
    places around the tile."""
    height, width = storm.shape
    angle, distance = rng.uniform(0, 2 * np.pi, 5), rng.uniform(15, 90, 5)
    x, y = width / 2 + distance * np.cos(angle), height / 2 + distance * np.sin(angle)
    ground = storm.ground.height(storm.origin[0] + x, storm.origin[1] + y)
    lowest = int(np.argmin(ground))
    return float(x[lowest]), float(y[lowest]), float(ground[lowest]) + 30


def radar_coverage(storm: Storm, site: tuple[float, float, float], levels: Field) -> NDArray[np.bool_]:
    """``(level, y, x)``: above ground, between the lowest and the highest beam, and not behind a ridge."""
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
    """Elevation at which a height, m, is seen at a distance, km; degrees."""
    return np.degrees(np.arctan((height - antenna) / 1000 / distance - distance / (2 * _EARTH)))


def simulate_radar(
    rng: np.random.Generator, storm: Storm, truth: Field, coverage: NDArray[np.bool_]
) -> Field:
    """One volume as measured: noise of 1 dB, steps of half a dB, nothing below 5 dBZ.

    Args:
        truth: ``(level, y, x)``, dBZ.
        coverage: The same shape, from `radar_coverage`.
    """
    noise = rng.standard_normal(truth.shape, dtype=np.float32) + np.float32(storm.day.calibration)
    measured = np.round((truth + noise) * 2) / 2
    measured[measured < 5] = -np.inf
    measured[np.isneginf(truth)] = -np.inf
    measured[~coverage] = np.nan
    return measured


# --- satellite ----------------------------------------------------------------------------------


def brightness_temperatures(rng: np.random.Generator, storm: Storm, time: float, pixel: int = 4) -> Field:
    """``(channel, y, x)``, K, at 6.25, 6.95, 8.55, 10.8 and 12.0 um, in pixels of 4 km."""
    ground = _ground_temperature(storm)
    top = _cloud_tops(storm, time)
    thin = smoothstep(0.5, 1.8, _advected_cloud_texture(storm, time))
    window = np.minimum(ground, _temperature(storm, top))
    window = window - thin * 0.45 * np.maximum(window - 228, 0)
    # Vapour hides what is low; above the anvil the stratosphere is warmer and adds to it.
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
    """Height of the highest cloud, m; 0 where there is none."""
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
    """Height of the tower, m; spread of the anvil, km; height of the overshoot, m; how much it has faded."""
    age = time - cell.onset + 8  # the cloud is there before the echo
    grown = min(max(age / (cell.growth_minutes + 4), 0.0), 1.0)
    _, _, fallen, faded = cell.phase_fractions(time)
    anvil = min(storm.day.tropopause, cell.core_top + 4500)
    spread = max(time - cell.onset - 0.8 * cell.growth_minutes, 0.0) * 0.35
    vigour = smoothstep(0.65, 0.95, np.array(grown)) * (1 - smoothstep(0.1, 0.7, np.array(fallen)))
    dome = 62.0 * max(cell.updraft - 12, 0) * float(vigour)
    tower = (4500 + (anvil - 4500) * grown) * (1 - 0.12 * faded)
    return tower, spread, dome, faded


def _water_vapor_temperature(window: Field, vapour: float) -> Field:
    """What a channel of vapour sees: cloud tops where they are colder than the vapour."""
    return np.minimum(window + 0.8, vapour - 0.12 * np.maximum(vapour - window, 0))


def _block_mean(channels: Field, pixel: int) -> Field:
    """Means over squares; at the far edges over what is there."""
    _, height, width = channels.shape
    grow = ((0, 0), (0, -height % pixel), (0, -width % pixel))
    whole = np.pad(channels, grow, mode="edge")
    return whole.reshape(len(channels), whole.shape[1] // pixel, pixel, -1, pixel).mean((2, 4))


# --- reanalysis ---------------------------------------------------------------------------------


def environment(rng: np.random.Generator, storm: Storm, hours: int, pixel: int = 25) -> Field:
    """``(hour, channel, y, x)`` in pixels of 25 km: freezing level and level of -20 degrees, m, CAPE,
    J kg-1, shear, m s-1, dewpoint, K."""
    day = storm.day
    height, width = storm.shape
    shape = (hours, -(-height // pixel), -(-width // pixel))
    common = [day.freezing_level, day.minus20_level, day.cape, day.shear, day.dewpoint]
    # An error that a storm day has as a whole, and one of each cell and hour.
    whole, single = (70.0, 90.0, 0.12, 1.2, 0.7), (30.0, 40.0, 0.06, 0.6, 0.4)
    fields = []
    for value, wide, narrow in zip(common, whole, single, strict=True):
        error = wide * rng.standard_normal() + narrow * rng.standard_normal(shape)
        fields.append(value * np.exp(error) if wide < 0.5 else value + error)
    coarse = np.stack(fields, 1)
    return np.repeat(np.repeat(coarse, pixel, 2), pixel, 3)[:, :, :height, :width]
