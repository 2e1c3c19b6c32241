"""Weather radar: volumes of ODIM_H5 and NEXRAD level 2, and their levels on a Cartesian grid.

    >>> from geovision.readers.radar import read_volume, to_levels
    >>> to_levels(read_volume("40_20181220_060630.pvol.h5"))  # doctest: +SKIP

Extra ``[radar]``. No echo and not covered are told apart: ``-inf`` dBZ and NaN.
"""

from __future__ import annotations

from geovision.readers.radar.gridding import DEFAULT_LEVELS, RadarGrid, beam_height, grid_volume, slant_range
from geovision.readers.radar.volume import RadarVolume, Sweep, read_volume

__all__ = [
    "DEFAULT_LEVELS",
    "RadarGrid",
    "RadarVolume",
    "Sweep",
    "beam_height",
    "grid_volume",
    "read_volume",
    "slant_range",
]
