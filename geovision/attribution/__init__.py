"""Attribution maps: which parts of an input support a prediction."""

from geovision.attribution._explain import explain, explain_item, validate_explanation
from geovision.attribution.aggregate import AttributionSummary
from geovision.attribution.config import COMPLETE_METHODS, METHODS, AttributionConfig
from geovision.attribution.geometry import InputWindow
from geovision.attribution.input_attribution import TOLERANCE
from geovision.attribution.layers import spatial_layers
from geovision.attribution.result import Completeness, Explanation, InputMap
from geovision.attribution.target import AttributionTarget

__all__ = [
    "COMPLETE_METHODS",
    "METHODS",
    "TOLERANCE",
    "AttributionConfig",
    "AttributionSummary",
    "AttributionTarget",
    "Completeness",
    "Explanation",
    "InputMap",
    "InputWindow",
    "explain",
    "explain_item",
    "spatial_layers",
    "validate_explanation",
]
