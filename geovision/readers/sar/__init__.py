"""Readers of SAR scenes in GeoTIFF or SAFE.

Scenes are averaged in linear power to the grid of a model.
"""

from geovision.readers.sar.geotiff import RadarScene, open_scene
from geovision.readers.sar.map_grid import MapGrid, model_grid, rasterio_module
from geovision.readers.sar.quantities import QUANTITIES
from geovision.readers.sar.safe import is_safe, write_map
from geovision.readers.sar.warp import (
    CountsRaster,
    average_to_grid,
    check_db_range,
    check_pixels,
    write_counts,
)

__all__ = [
    "QUANTITIES",
    "CountsRaster",
    "MapGrid",
    "RadarScene",
    "average_to_grid",
    "check_db_range",
    "check_pixels",
    "is_safe",
    "model_grid",
    "open_scene",
    "rasterio_module",
    "write_counts",
    "write_map",
]
