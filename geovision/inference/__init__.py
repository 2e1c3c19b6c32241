"""Models over more than fits into one call: archives of frames, scenes on a map."""

from geovision.allsky.frames import Reading
from geovision.inference._predict_raster import MapSummary, over_map
from geovision.inference.archive import Progress, Summary, archive
from geovision.inference.executor import Workers
from geovision.inference.prediction_writer import AnswerFiles
from geovision.inference.sliding_window import Arrays
from geovision.inference.table import open_table, read_table
from geovision.sar.scene import SceneSummary, scene
from geovision.sar.scene_config import Declared

__all__ = [
    "AnswerFiles", "Arrays", "Declared", "MapSummary", "Progress", "Reading", "SceneSummary", "Summary",
    "Workers", "archive", "open_table", "over_map", "read_table", "scene",
]  # fmt: skip
