"""Inference on inputs larger than one batch: archives of files, rasters and grids."""

from geovision.inference._predict_grid import predict_grid
from geovision.inference._predict_raster import MapSummary, predict_raster
from geovision.inference.archive import Progress, RowProducer, Summary, run_archive
from geovision.inference.executor import ExecutorConfig
from geovision.inference.prediction_writer import PredictionWriter
from geovision.inference.sliding_window import Arrays
from geovision.inference.table import open_table, read_table

__all__ = [
    "Arrays",
    "ExecutorConfig",
    "MapSummary",
    "PredictionWriter",
    "Progress",
    "RowProducer",
    "Summary",
    "open_table",
    "predict_grid",
    "predict_raster",
    "read_table",
    "run_archive",
]
