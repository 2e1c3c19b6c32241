"""Reader of weather radar volumes, and gridding to constant heights.

The formats are ODIM_H5 and NEXRAD level 2.

    >>> from geovision.readers.radar import grid_volume, read_volume
    >>> grid_volume(read_volume("40_20181220_060630.pvol.h5"))  # doctest: +SKIP

Requires the extra ``[radar]``. No echo is ``-inf`` dBZ, and not covered is NaN.
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
