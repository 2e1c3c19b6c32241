"""All-sky cameras: frames to predictions, keograms, occurrence rates and camera calibration."""

from geovision.allsky._keogram import Keogram, Meridian, keogram
from geovision.allsky._occurrence import Occurrence, occurrence
from geovision.allsky._predict_archive import predict_archive
from geovision.allsky.frames import FrameConfig

__all__ = ["FrameConfig", "Keogram", "Meridian", "Occurrence", "keogram", "occurrence", "predict_archive"]
