"""What in a picture speaks for an answer: one mechanism for every model of the registry."""

from geovision.explanation.attribution import TOLERANCE
from geovision.explanation.explain import check, explain, explain_source
from geovision.explanation.explanation import Completeness, Explanation, InputMap
from geovision.explanation.layers import map_layers
from geovision.explanation.placement import Window
from geovision.explanation.question import Question
from geovision.explanation.settings import COMPLETE_METHODS, METHODS, Settings
from geovision.explanation.tally import Tally

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
