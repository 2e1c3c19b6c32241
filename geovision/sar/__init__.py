"""Synthetic-aperture radar scenes: probability maps, detections and quicklooks."""

from geovision.sar.scene import SceneSummary, predict_scene
from geovision.sar.scene_config import SceneConfig

__all__ = ["SceneConfig", "SceneSummary", "predict_scene"]
