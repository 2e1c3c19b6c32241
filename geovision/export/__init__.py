"""A model as one ONNX file that needs no torch: units in, calibrated answers out."""

from geovision.export.metadata import METADATA_KEY, describe
from geovision.export.onnx_file import export_onnx, lay_runtime
from geovision.export.quantize import calibration_inputs

__all__ = ["METADATA_KEY", "calibration_inputs", "describe", "export_onnx", "lay_runtime"]
