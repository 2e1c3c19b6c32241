"""Downscaling of precipitation from reanalyses and models to a finer grid.

The question, MAUNet and MAUNet-Light are those of Mishra Sharma and Mitra 2024 (Neural Comput. Appl.,
doi:10.1007/s00521-024-09978-4) and arXiv:2602.12980. `geovision.models.maunet` separates the published parts
of the networks from our reconstruction. Additional fields are selected by name.
"""

from collections.abc import Mapping
from typing import Any, Literal

from geovision.grid_channels import (
    AIR_PRESSURE_AT_SEA_LEVEL,
    AIR_TEMPERATURE,
    AIR_TEMPERATURE_850,
    EASTWARD_MOISTURE_FLUX,
    NORTHWARD_MOISTURE_FLUX,
    PRECIPITATION,
    SPECIFIC_HUMIDITY,
    SPECIFIC_HUMIDITY_850,
    SURFACE_ALTITUDE,
    adjacent_day_channels,
)
from geovision.spec import (
    OUR_CHOICE,
    OUR_RECONSTRUCTION,
    Capability,
    DemoConfig,
    EvidenceLevel,
    FieldTarget,
    InputSpec,
    ModelSpec,
    Recipe,
    Stage,
    Task,
)

FIELDS_INPUT = InputSpec("fields", (PRECIPITATION,))

_WEATHER_CHANNELS = (
    AIR_TEMPERATURE, AIR_PRESSURE_AT_SEA_LEVEL, AIR_TEMPERATURE_850, SPECIFIC_HUMIDITY, SPECIFIC_HUMIDITY_850,
    EASTWARD_MOISTURE_FLUX, NORTHWARD_MOISTURE_FLUX,
)  # fmt: skip

PREDICTORS = (
    *_WEATHER_CHANNELS, SURFACE_ALTITUDE,
    *(other for channel in (PRECIPITATION, *_WEATHER_CHANNELS) for other in adjacent_day_channels(channel)),
)  # fmt: skip

RAIN_TARGET = FieldTarget(PRECIPITATION, contour_levels=(0.1, 0.5, 1, 2, 5, 10, 20, 30, 50, 75, 100, 150))

METRICS = (
    "rmse", "mae", "bias", "correlation", "time_correlation",
    "csi(threshold=1)", "csi(threshold=10)", "ets(threshold=10)", "pod(threshold=10)", "far(threshold=10)",
    "fss(threshold=10, scale=5)", "quantile_bias(q=0.95)", "quantile_bias(q=0.99)", "quantile_bias(q=0.999)",
    "wet_day_frequency_bias", "sdii_bias", "rx1day_bias", "cdd_bias", "cwd_bias",
    "psnr(data_range=100)", "ssim(data_range=100)", "ms_ssim(data_range=100)", "ralsd", "wasserstein",
    "crps", "spread", "spread_error_ratio",
)  # fmt: skip

HEADS = {
    "value": "geovision.heads.field:FieldHead",
    "quantiles": "geovision.heads.field:QuantileHead",
    "bernoulli-gamma": "geovision.heads.field:BernoulliGammaHead",
}

RECIPE = Recipe(
    stages=(Stage(epochs=60, batch_size=32, lr=1e-3, weight_decay=0.01, warmup=2, max_grad_norm=1.0),),
    ema=0.99
)

TASK = Task(
    name="downscale",
    title="Downscaling of rain",
    question="How much rain falls in each cell of a finer grid?",
    chinese=("降水降尺度", "更细网格的每个格点上降水量是多少？"),
    inputs=(FIELDS_INPUT,),
    predictors=PREDICTORS,
    target=RAIN_TARGET,
    datasets={
        "rain-grids": "geovision.datasets.rain_grids:CoarseRain",
        "iberia": "geovision.datasets.iberia:IberiaWinters",
    },
    head="geovision.heads.field:FieldHead",
    heads=HEADS,
    loss="",
    metrics=METRICS,
    recipe=RECIPE,
    demo=DemoConfig(
        "downscale-maunet-bicubic", samples=200,
        recipe=Recipe(stages=(Stage(epochs=20, batch_size=8, lr=4e-3, weight_decay=0.0, warmup=1),)),
    ),
    citation="Mishra Sharma and Mitra 2024, Neural Comput. Appl., doi:10.1007/s00521-024-09978-4; "
    "arXiv:2602.12980 (MAUNet-Light)",
)

TRANSFORMS = {"precipitation": ["log1p", "zscore"], "": ["zscore"]}
"""Transforms of the channels of a network, by the prefix of their names."""

_NETWORK = "geovision.models.field_models:build"
_BASELINE = "geovision.models.field_baselines:build"
_IDENTITY_HEAD = "geovision.heads.field:GivenField"
_ANY: frozenset[Capability] = frozenset({"exportable", "differentiable", "any_size"})
_BOUND: frozenset[Capability] = frozenset({"grid_bound"})
_UNPAIRED: frozenset[Capability] = frozenset({"grid_bound", "unpaired", "first_channel"})


def network_specs(task: str, factor: int, parameters: tuple[int, ...]) -> tuple[ModelSpec, ...]:
    """Return the registry entries of the networks.

    The last one is a small network for tests and demonstrations.

    Args:
        task: Name of the task.
        factor: Ratio of the resolutions of target and input grid.
        parameters: Number of parameters of each network, in order.
    """
    small = {"widths": [4, 6, 8]}
    rows: tuple[tuple[str, dict[str, Any], dict[str, Any], EvidenceLevel, str], ...] = (
        ("maunet", {"network": "maunet"}, small, OUR_RECONSTRUCTION,
         "MAUNet from its published description; the rest is reconstructed"),
        ("maunet-light", {"network": "maunet", "widths": [50, 100, 200, 400]}, small, OUR_RECONSTRUCTION,
         "0.61 times the parameters of MAUNet, a student for its distillation"),
        ("unet", {"network": "unet"}, small, OUR_CHOICE, "U-Net of the same widths as MAUNet"),
        ("edsr", {"network": "edsr"}, {"width": 4, "blocks": 1}, OUR_CHOICE,
         "EDSR, baseline (Lim et al. 2017, arXiv:1707.02921)"),
        ("srdrn", {"network": "srdrn"}, {"width": 4, "blocks": 1, "finest": 6}, OUR_CHOICE,
         "SRDRN (Wang et al. 2021, doi:10.1029/2020WR029308); the order of layers is our interpretation"),
        ("srcnn", {"network": "srcnn"}, {"widths": [4, 3]}, OUR_CHOICE,
         "SRCNN (Dong et al. 2014, arXiv:1501.00092)"),
        ("tiny", {"network": "maunet", "widths": [8, 16, 24], "dropout": 0.0, "skip": True}, small,
         OUR_CHOICE,
         "for tests and demonstrations, not for use"),
    )  # fmt: skip
    return tuple(
        ModelSpec(f"{task}-{name}", task, _NETWORK,
                  {"factor": factor, "transforms": TRANSFORMS, **arch}, capabilities=_ANY,
                  tiny_args=tiny,
                  num_parameters=count, evidence=mark, note=note)
        for (name, arch, tiny, mark, note), count in zip(rows, parameters, strict=True)
    )  # fmt: skip


def baseline_specs(task: str, factor: int) -> tuple[ModelSpec, ...]:
    """Return the registry entries of statistical baselines.

    Args:
        task: Name of the task.
        factor: Ratio of the resolutions of target and input grid.
    """

    def entry(
        name: str, arch: Mapping[str, Any], fit: Literal["closed_form", "none"],
        capabilities: frozenset[Capability], note: str,
    ) -> ModelSpec:
        return ModelSpec(f"{task}-{name}", task, _BASELINE, {"factor": factor, **arch}, fit=fit,
                         head=_IDENTITY_HEAD,
                         capabilities=capabilities, num_parameters=0, note=note,
                         not_exportable_reason="a baseline to compare with")  # fmt: skip

    interpolated = [
        entry(method, {"kind": "interpolated", "method": method}, "none",
              frozenset({"any_size", "first_channel"}),
              f"{method} interpolation of the input precipitation")
        for method in ("nearest", "bilinear", "bicubic")
    ]  # fmt: skip
    return (
        entry("climatology", {"kind": "climatology"}, "closed_form", _UNPAIRED,
              "mean of the training data in each cell"),
        *interpolated,
        entry("linear-scaling", {"kind": "corrected", "by": "linear-scaling"}, "closed_form", _UNPAIRED,
              "bilinear, multiplied by the ratio of the means (Lenderink et al. 2007)"),
        entry("quantile-mapping", {"kind": "corrected", "by": "quantile-mapping"}, "closed_form", _UNPAIRED,
              "bilinear, each value mapped to the observed quantile (Gudmundsson et al. 2012)"),
        entry("quantile-delta", {"kind": "corrected", "by": "quantile-delta"}, "closed_form",
              _UNPAIRED | {"whole_period"},
              "bilinear, preserves the relative change of each quantile (Cannon et al. 2015)"),
        entry("ridge", {"kind": "ridge"}, "closed_form", _BOUND,
              "ridge regression on 60 principal components of all channels"),
    )  # fmt: skip


# Result of a search on inner winters over Iberia, see docs/tasks/downscale.md. Twice the epochs or twice the
# dropout rate gave no improvement.
RESIDUAL_RECIPE = Recipe(
    stages=(Stage(epochs=12, batch_size=32, lr=2e-3, weight_decay=0.01, warmup=2, max_grad_norm=1.0),),
    precision="32-true",
)


def residual_spec(name: str, members: int, base: Mapping[str, Any], parameters: int, note: str) -> ModelSpec:
    """Return the registry entry of a small residual MAUNet.

    It learns the residuals of a baseline and is meant for a few winters of one region.

    Args:
        name: Name of the model.
        members: Number of ensemble members.
        base: Options of the baseline.
        parameters: Number of parameters.
        note: Note on the model.
    """
    arch = {"network": "maunet", "widths": [16, 32, 64], "dropout": 0.2, "members": members,
            "transforms": TRANSFORMS, **base}  # fmt: skip
    return ModelSpec(
        name, name.partition("-")[0], "geovision.models.residual_learning:build", arch, evidence=OUR_CHOICE,
        head="geovision.models.residual_learning:ResidualHead",
        head_args={"members": members, "share": 0.55},
        capabilities=_BOUND | {"differentiable"}, recipe=RESIDUAL_RECIPE, tiny_args={"widths": [4, 6, 8]},
        not_exportable_reason="uses statistics of the cells of one grid", num_parameters=parameters,
        note=note,
    )  # fmt: skip


_RIDGE_ARGS = {"factor": 2, "base": "ridge", "components": 100, "penalty": 300.0}


MODELS = (
    *network_specs("downscale", 4, (9_499_969, 5_799_251, 7_877_377, 1_515_329, 1_962_132, 13_377, 32_346)),
    residual_spec("downscale-maunet-residual", 1, _RIDGE_ARGS, 147_985,
             "small MAUNet that learns the residuals of a ridge regression"),
    residual_spec("downscale-maunet-bicubic", 1, {"factor": 4, "base": "bicubic"}, 155_985,
             "small MAUNet that learns the residuals of bicubic interpolation"),
    residual_spec("downscale-maunet-ensemble", 5, _RIDGE_ARGS, 739_925,
             "ensemble of five maunet-residual; the prediction is their mean"),
    *baseline_specs("downscale", 4),
)  # fmt: skip
