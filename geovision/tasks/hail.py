"""Hail masks from radar volumes, satellite, reanalysis and terrain.

The mask refers to the last time of the input. The question, the sources, the chain of networks, the recipe
and the published scores are those of HINet, Zhang et al. 2024, doi:10.12347/j.ycyk.20240520002. Its code is
not public, and its formulas are missing in the available text, so the networks are reconstructions
(`geovision.models.hinet`). The levels, the infrared channels and the reanalysis fields are reconstructions
too, because the paper gives their number but no list.

`CAVEATS` lists limitations of a comparison with the published tables; every model card contains them.
"""

from geovision.spec import (
    AS_PUBLISHED,
    OUR_CHOICE,
    OUR_RECONSTRUCTION,
    Capability,
    Channel,
    DemoConfig,
    InputSpec,
    MaskTarget,
    ModelSpec,
    QuantileRange,
    Recipe,
    Reference,
    Stage,
    Task,
    UnitHint,
)

NO_ECHO = -33.0
"""Reflectivity of observed cells without an echo, in dBZ; cells that were not observed are masked."""

LEVELS = (
    500, 1000, 1500, 2000, 2500, 3000, 3500, 4000, 4500, 5000, 5500, 6000, 7000, 8000, 9000, 10000, 12000,
    14000, 15500, 17000, 19000,
)  # fmt: skip
"""Levels of the national mosaic, in m above mean sea level; our interpretation of "21 levels"."""

_CELSIUS = UnitHint(0.0, 150.0, "looks like degrees Celsius; add 273.15")


def _reflectivity(level: int) -> Channel:
    # All levels share one scale, so that normalization does not move the maximum of a column.
    return Channel(
        f"reflectivity_{level}m", "dBZ", (NO_ECHO, 80.0), mean=-15.0, std=25.0, baseline=NO_ECHO,
        unit_hints=(UnitHint(80.0, 1e9, "looks like Z in mm6 m-3; give 10 log10(Z)"),),
    )  # fmt: skip


def _brightness(wavelength: str, mean: float, std: float) -> Channel:
    return Channel(f"brightness_temperature_{wavelength}um", "K", (160.0, 340.0), mean=mean, std=std,
                   unit_hints=(_CELSIUS,))  # fmt: skip


_TIMES = "time channel y x"
_READER = "geovision.readers.hail_samples:read_input"

RADAR = InputSpec("radar", tuple(_reflectivity(level) for level in LEVELS), layout=_TIMES, reader=_READER)

FY4B = InputSpec(
    "fy4b",
    # AGRI channels 9, 10, 12, 13 and 14: water vapor, cloud phase and split window; our choice.
    (_brightness("6.25", 232.0, 12.0), _brightness("6.95", 242.0, 15.0), _brightness("8.55", 265.0, 28.0),
     _brightness("10.8", 267.0, 29.0), _brightness("12.0", 265.0, 29.0)),
    layout=_TIMES, reader=_READER, optional=True,
)  # fmt: skip

ERA5 = InputSpec(
    "era5",
    (
        # A height of 0 would mean arctic air instead of missing data, so attributions use the mean.
        Channel("freezing_level", "m", (0.0, 7000.0), (QuantileRange(0.99, 200.0, 7000.0),), 3800.0, 800.0,
                baseline=3800.0),
        Channel("minus20_level", "m", (0.0, 11000.0), (QuantileRange(0.99, 1000.0, 11000.0),), 7000.0, 900.0,
                baseline=7000.0),
        Channel("cape", "J kg-1", (0.0, 12000.0), mean=1200.0, std=900.0),
        Channel("shear_0_6km", "m s-1", (0.0, 120.0), mean=15.0, std=8.0),
        Channel("dewpoint_2m", "K", (200.0, 320.0), mean=290.0, std=6.0, unit_hints=(_CELSIUS,)),
    ),
    layout=_TIMES, reader=_READER, optional=True,
)  # fmt: skip

DEM = InputSpec(
    "dem",
    (
        Channel("elevation", "m", (-500.0, 9000.0), mean=500.0, std=600.0),
        Channel("slope", "degree", (0.0, 90.0), mean=6.0, std=8.0),
        Channel("curvature", "m-1", (-1.0, 1.0), mean=0.0, std=1e-3),
        # A direction of 0 would mean north instead of missing data, so attributions use another value.
        Channel("aspect", "degree", (0.0, 360.0), mean=180.0, std=104.0, baseline=180.0),
        Channel("flow_direction", "degree", (0.0, 360.0), mean=157.5, std=103.0, baseline=157.5),
    ),
    reader=_READER, optional=True,
)  # fmt: skip

CAVEATS = (
    "For one mask F1 = 2 IoU / (1 + IoU), so F1 is never below IoU; in 8 of the 16 published rows it is.",
    "Three published tables give four different IoU for the full network: 0.84, 0.88, 0.81 and 0.85.",
    "The published case studies are from years of the training data.",
    "The label is computed from reflectivity, which is also an input.",
    "Sources were matched to the nearest time, which is up to 30 minutes (reanalysis) or 7.5 minutes "
    "(satellite) in the future.",
)

_PAPER = "Zhang et al. 2024, doi:10.12347/j.ycyk.20240520002"
_INCONSISTENT_F1_NOTE = "F1 below IoU, which is impossible for one mask"


def _published_scores(model: str, iou: float, f1: float, what: str) -> tuple[Reference, Reference]:
    note = what if f1 >= iou else f"{what}; {_INCONSISTENT_F1_NOTE}"
    return (
        Reference("csi", iou, model, AS_PUBLISHED, _PAPER, note),
        Reference("f1", f1, model, AS_PUBLISHED, _PAPER, note),
    )


_HINET_NAME = "hail-hinet"
PUBLISHED_SCORES = (
    *_published_scores(_HINET_NAME, 0.26, 0.44, "modules: ST-LSTM"),
    *_published_scores(_HINET_NAME, 0.62, 0.54, "modules: TMC"),
    *_published_scores(_HINET_NAME, 0.79, 0.71, "modules: TMC and MDFFM"),
    *_published_scores(_HINET_NAME, 0.84, 0.86, "modules: all"),
    *_published_scores(_HINET_NAME, 0.31, 0.29, "sources: radar"),
    *_published_scores(_HINET_NAME, 0.52, 0.47, "sources: radar, FY4B"),
    *_published_scores(_HINET_NAME, 0.69, 0.71, "sources: radar, FY4B, ERA5"),
    *_published_scores(_HINET_NAME, 0.88, 0.85, "sources: all"),
    *_published_scores(_HINET_NAME, 0.81, 0.83, "plain"),
    *_published_scores(_HINET_NAME, 0.85, 0.87, "complex terrain"),
    *_published_scores("hail-causal-lstm", 0.69, 0.79, "plain"),
    *_published_scores("hail-causal-lstm", 0.75, 0.79, "complex terrain"),
    *_published_scores("hail-simvp", 0.73, 0.65, "plain"),
    *_published_scores("hail-simvp", 0.81, 0.74, "complex terrain"),
    *_published_scores("hail-nbeats", 0.76, 0.72, "plain"),
    *_published_scores("hail-nbeats", 0.64, 0.68, "complex terrain"),
)

PUBLISHED = Recipe(
    stages=(
        Stage(epochs=75, batch_size=32, optimizer="adamw", lr=1e-3, weight_decay=0.0, schedule="constant"),
    ),
    evidence=AS_PUBLISHED,
)  # fmt: skip

SHORT = Recipe(
    stages=(Stage(epochs=30, batch_size=8, lr=2e-3, weight_decay=1e-4, warmup=1, max_grad_norm=1.0),),
    evidence=OUR_CHOICE,
)

TASK = Task(
    name="hail",
    title="Hail",
    question="In which cells does hail reach the ground at the end of these radar volumes?",
    chinese=("冰雹识别", "在这些雷达体扫结束时，何处有冰雹降至地面？"),
    inputs=(RADAR, FY4B, ERA5, DEM),
    target=MaskTarget("hail"),
    datasets={"hail-samples": "geovision.datasets.hail_samples:HailSamples"},
    head="geovision.heads.mask:MaskHead",
    loss="",
    metrics=(
        "csi", "f1", "pod", "far", "pofd", "frequency_bias", "hss", "ets", "sedi",
        "fss(scale=1)", "fss(scale=5)", "fss(scale=11)", "fss(scale=21)", "fss(scale=41)",
        "brier", "brier_skill", "calibration_error", "pr_auc",
        "object_pod", "object_far", "object_distance",
        "csi(per_sample=True)", "f1(per_sample=True)", "pod(per_sample=True)", "far(per_sample=True)",
    ),
    backbones=("smp",),
    recipe=PUBLISHED,
    recipes={"published": PUBLISHED, "short": SHORT},
    published=PUBLISHED_SCORES,
    cautions=CAVEATS,
    demo=DemoConfig(
        "hail-tiny", samples=48, size=(48, 48),
        recipe=Recipe(
            stages=(Stage(epochs=8, batch_size=8, lr=5e-3, weight_decay=0.0, warmup=1, max_grad_norm=1.0),)
        ),
    ),
    citation=_PAPER,
)  # fmt: skip


_HINET = "geovision.models.hinet:build"
_RECURRENT = "geovision.models.sequence_baselines:build_recurrent"
_SEQUENCE = "geovision.models.sequence_baselines:build_history"
_SMP = "geovision.models.smp_network:build"
_ANY: frozenset[Capability] = frozenset({"differentiable", "exportable", "any_size"})
_SIZED: frozenset[Capability] = frozenset({"differentiable", "exportable"})
_BALANCED_HEAD_ARGS = {"error": "bce", "positive_weight": "balanced"}
_TINY_ARGS = {"width": 4, "kernel": 3}

MODELS = (
    ModelSpec("hail-hinet", "hail", _HINET, {"source_dropout": 0.1}, capabilities=_ANY,
              tiny_args=_TINY_ARGS | {"unet_width": 4}, num_parameters=6_709_963, evidence=OUR_RECONSTRUCTION,
              note="the published chain; the cell, widths and patches follow the text"),
    ModelSpec("hail-tiny", "hail", _HINET, {"width": 8, "kernel": 3, "unet_width": 8, "source_dropout": 0.1},
              head_args=_BALANCED_HEAD_ARGS, capabilities=_ANY,
              tiny_args=_TINY_ARGS | {"unet_width": 4}, num_parameters=434_115,
              note="HINet for tests and demonstrations, not for use"),
    ModelSpec("hail-convlstm", "hail", _RECURRENT, {"cell": "convlstm"}, capabilities=_ANY,
              tiny_args=_TINY_ARGS, num_parameters=2_568_849, evidence=OUR_RECONSTRUCTION,
              note="Shi et al. 2015, arXiv:1506.04214; mentioned in the paper without a published score"),
    ModelSpec("hail-stlstm", "hail", _RECURRENT, {"cell": "st-lstm"}, capabilities=_ANY,
              tiny_args=_TINY_ARGS, num_parameters=4_648_977, evidence=OUR_RECONSTRUCTION,
              note="PredRNN, Wang et al. 2017"),
    ModelSpec("hail-causal-lstm", "hail", _RECURRENT, {"cell": "causal-lstm"}, capabilities=_ANY,
              tiny_args=_TINY_ARGS, num_parameters=5_212_337, evidence=OUR_RECONSTRUCTION,
              note="PredRNN++ with its gradient highway, Wang et al. 2018, arXiv:1804.06300"),
    ModelSpec("hail-simvp", "hail", _SEQUENCE, {"network": "simvp"}, capabilities=_ANY,
              tiny_args={"windows": 3, "options": {"width": 4, "hidden": 8, "blocks": 2, "groups": 2}},
              num_parameters=6_686_433, evidence=OUR_RECONSTRUCTION,
              note="Gao et al. 2022, arXiv:2206.05099, with one output frame"),
    ModelSpec("hail-nbeats", "hail", _SEQUENCE, {"network": "nbeats"}, capabilities=_ANY,
              tiny_args={"windows": 3, "options": {"width": 8, "blocks": 2, "features": 4}},
              num_parameters=1_453_185,
              evidence=OUR_RECONSTRUCTION,
              note="Oreshkin et al. 2020, arXiv:1905.10437; applied to every cell independently"),
    ModelSpec("hail-unet-resnet18", "hail", _SMP, {"network": "unet", "encoder": "resnet18"},
              capabilities=_SIZED, num_parameters=14_444_113,
              note="U-Net on the last window; model_args={'frames': 'stacked'} uses all windows"),
)  # fmt: skip
