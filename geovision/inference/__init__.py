"""Inference on archives of files, rasters and grids."""

from geovision.inference._predict_grid import predict_grid
from geovision.inference._predict_raster import RasterSummary, predict_raster
from geovision.inference.archive import ArchiveProgress, ArchiveSummary, RowProducer, run_archive
from geovision.inference.executor import ExecutorConfig
from geovision.inference.prediction_writer import PredictionWriter
from geovision.inference.sliding_window import ArraySource
from geovision.inference.table import open_table, read_table

__all__ = [
    "ArchiveProgress",
    "ArchiveSummary",
    "ArraySource",
    "ExecutorConfig",
    "PredictionWriter",
    "RasterSummary",
    "RowProducer",
    "open_table",
    "predict_grid",
    "predict_raster",
    "read_table",
    "run_archive",
]
