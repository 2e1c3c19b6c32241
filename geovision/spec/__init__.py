"""The form that every task fills: frozen records of plain data, without torch.

A task, a model, a recipe or a result is described here and built elsewhere. Builders are named as
``"geovision.module:name"`` and looked up by `resolve` when they are first used, so that listing and
documenting the registry never imports a network.
"""

from geovision.spec.inputs import (
    COLORS,
    Channel,
    ImageFileSpec,
    InputSpec,
    QuantileRange,
    Text,
    UnitHint,
)
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
    ClassMapping,
    ClassTarget,
    Fact,
    FieldTarget,
    Grid,
    GridPair,
    MaskTarget,
    SampleContext,
    Target,
)
from geovision.spec.tasks import Capability, DemoConfig, ModelSpec, Reference, Task, WeightSpec, resolve

__all__ = [
    "AS_PUBLISHED",
    "COLORS",
    "OUR_CHOICE",
    "OUR_MEASUREMENT",
    "OUR_RECONSTRUCTION",
    "Augment",
    "Capability",
    "Channel",
    "ClassCard",
    "ClassMapping",
    "ClassTarget",
    "DemoConfig",
    "EvidenceLevel",
    "Fact",
    "FieldTarget",
    "Grid",
    "GridPair",
    "ImageFileSpec",
    "InputSpec",
    "MaskTarget",
    "ModelSpec",
    "QuantileRange",
    "Recipe",
    "Reference",
    "SampleContext",
    "Stage",
    "Target",
    "Task",
    "Text",
    "UnitHint",
    "WeightSpec",
    "resolve",
]
