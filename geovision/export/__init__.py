"""A model as one ONNX file that needs no torch: units in, calibrated answers out."""

from geovision.export.description import METADATA_KEY, describe
from geovision.export.onnx_file import export, lay_runtime
from geovision.export.quantise import calibration_inputs

__all__ = ["METADATA_KEY", "calibration_inputs", "describe", "export", "lay_runtime"]
