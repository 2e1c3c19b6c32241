"""What in a picture speaks for an answer: one mechanism for every model of the registry."""

from geovision.explanation._explain import check, explain, explain_source
from geovision.explanation.aggregate import Tally
from geovision.explanation.config import COMPLETE_METHODS, METHODS, Settings
from geovision.explanation.geometry import Window
from geovision.explanation.input_attribution import TOLERANCE
from geovision.explanation.layers import map_layers
from geovision.explanation.result import Completeness, Explanation, InputMap
from geovision.explanation.target import Question

__all__ = [
    "COMPLETE_METHODS",
    "METHODS",
    "TOLERANCE",
    "Completeness",
    "Explanation",
    "InputMap",
    "Question",
    "Settings",
    "Tally",
    "Window",
    "check",
    "explain",
    "explain_source",
    "map_layers",
]
