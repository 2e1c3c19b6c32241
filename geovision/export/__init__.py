"""Export of models as ONNX files, which read physical units and return calibrated predictions."""

from geovision.export.metadata import METADATA_KEY, build_metadata
from geovision.export.onnx_file import copy_runtime, export_onnx
from geovision.export.quantize import calibration_inputs

__all__ = ["METADATA_KEY", "build_metadata", "calibration_inputs", "copy_runtime", "export_onnx"]
