"""Bias correction of precipitation from models and reanalyses, on the observed grid.

The networks are those of `geovision.tasks.downscale` on one grid; with ``factor`` above 1 they also increase
the resolution. The days of a free-running model do not correspond to observed days. Correct it by a method
with the capability ``unpaired``, or by a network that was trained on a reanalysis.
"""

from geovision.spec import DemoConfig, Recipe, Stage, Task
from geovision.tasks import downscale

TASK = Task(
    name="biascorrect",
    title="Bias correction of rain",
    question="How much rain would have been observed where the model simulates this amount?",
    chinese=("降水偏差订正", "模式给出这一降水量的地方，实际会观测到多少降水？"),
    inputs=(downscale.FIELDS_INPUT,),
    predictors=downscale.PREDICTORS,
    target=downscale.RAIN_TARGET,
    datasets={
        "biased-rain-grids": "geovision.datasets.rain_grids:BiasedRain",
        "iberia-correction": "geovision.datasets.iberia:IberiaCorrection",
    },
    head="geovision.heads.field:FieldHead",
    heads=downscale.HEADS,
    loss="",
    metrics=downscale.METRICS,
    recipe=downscale.RECIPE,
    demo=DemoConfig(
        "biascorrect-quantile-mapping", samples=200,
        recipe=Recipe(stages=(Stage(epochs=1),)),
    ),
    citation=downscale.TASK.citation,
)

MODELS = (
    *downscale.network_specs(
        "biascorrect", 1, (9_245_505, 5_643_851, 7_696_769, 1_219_905, 1_224_146, 13_377, 28_314)
    ),
    downscale.residual_spec(
        "biascorrect-maunet-residual", 1, {"factor": 1, "base": "bilinear"}, 139_985,
        "small MAUNet that learns the error of the interpolated field",
    ),
    *downscale.baseline_specs("biascorrect", 1),
)
