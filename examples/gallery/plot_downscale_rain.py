"""
Downscale daily rain
====================

Coarse rain becomes rain on a finer grid. Two methods without a network are fitted and compared: bilinear
interpolation and ridge regression on principal components of the coarse field. They are baselines that a
network has to beat. The data are generated days and their area means; ridge regression needs more days than
these to be better.
"""

# %%
# Write generated winters and load them. ``group_split`` keeps the days of a winter together.
import tempfile
from pathlib import Path

import geovision
from geovision.datasets.rain_grids import CoarseRain
from geovision.plots.fields import plot_fields

folder = tempfile.TemporaryDirectory()
data = geovision.load_dataset("rain-grids", CoarseRain.synthetic(Path(folder.name), 180, seed=2))
train, test = data.group_split(0.25, seed=0)
print(len(train), "days for training,", len(test), "for testing")

# %%
# Fit both methods and compare them on the days of the test winters.
models = {}
for name in ("downscale-bilinear", "downscale-ridge"):
    model = geovision.create(name, **train.model_kwargs())
    models[name] = geovision.train(model, train, progress=False)
    report = geovision.evaluate(models[name], test, n_bootstrap=100)
    rmse, correlation = report.metrics["rmse"], report.metrics["correlation"]
    print(f"{name:20s} RMSE {rmse.value:.2f} mm/day, correlation {correlation.value:.3f}")

# %%
# Show the wettest day of the test winters.
day = max(range(len(test)), key=lambda index: float(test[index]["target"].nanmean()))
sample = test[day]
prediction = models["downscale-ridge"].predict(sample["inputs"])[0]
target = test.target
figure = plot_fields(
    next(iter(sample["inputs"].values()))[0].numpy(),
    prediction.values,
    sample["target"][0].numpy(),
    unit=target.channel.unit,
    levels=target.contour_levels,
    suptitle="Coarse rain, ridge regression, target",
)
figure
