"""Radar scenes on a map: GeoTIFF and COG, read in parts, averaged in linear power to a model's pixels."""

from geovision.readers.scenes.counts import CountsRaster, averaged, check_pixels, write_counts
from geovision.readers.scenes.geotiff import RadarScene, open_scene
from geovision.readers.scenes.grid import Grid, model_grid, rasterio_module
from geovision.readers.scenes.quantities import QUANTITIES

__all__ = [
    "QUANTITIES", "CountsRaster", "Grid", "RadarScene", "averaged", "check_pixels", "model_grid",
    "open_scene", "rasterio_module", "write_counts",
]  # fmt: skip
