"""Frozen dataclasses that describe tasks, models, recipes and targets.

This package contains descriptions only and does not import torch. Builders are named by strings of the
form ``"geovision.module:name"``, which `resolve` imports on first use. The registry is therefore listed and
documented without the import of a network.
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
