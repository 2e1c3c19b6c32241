"""The form that every task fills: frozen records of plain data, without torch.

A task, a model, a recipe or a result is described here and built elsewhere. Builders are named as
``"geovision.module:name"`` and looked up by `resolve` when they are first used, so that listing and
documenting the registry never imports a network.
"""

from geovision.spec.inputs import COLOURS, Channel, InputSpec, PictureFile, Quantile, Text, UnitHint
from geovision.spec.recipes import (
    AS_PUBLISHED,
    OUR_CHOICE,
    OUR_MEASUREMENT,
    OUR_RECONSTRUCTION,
    Augment,
    EvidenceLevel,
    Recipe,
    Stage,
)
from geovision.spec.targets import (
    ClassCard,
    ClassMerging,
    ClassTarget,
    Context,
    Fact,
    FieldTarget,
    Grid,
    Grids,
    MaskTarget,
    Target,
)
from geovision.spec.tasks import Capability, Demo, ModelSpec, Reference, Task, WeightSpec, resolve

__all__ = [
    "AS_PUBLISHED",
    "COLOURS",
    "OUR_CHOICE",
    "OUR_MEASUREMENT",
    "OUR_RECONSTRUCTION",
    "Augment",
    "Capability",
    "Channel",
    "ClassCard",
    "ClassMerging",
    "ClassTarget",
    "Context",
    "Demo",
    "EvidenceLevel",
    "Fact",
    "FieldTarget",
    "Grid",
    "Grids",
    "InputSpec",
    "MaskTarget",
    "ModelSpec",
    "PictureFile",
    "Quantile",
    "Recipe",
    "Reference",
    "Stage",
    "Target",
    "Task",
    "Text",
    "UnitHint",
    "WeightSpec",
    "resolve",
]
