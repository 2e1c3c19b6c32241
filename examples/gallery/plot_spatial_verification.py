"""
Verify fields of rain
=====================

A forecast with the right structure in the wrong place has a large point-wise error, twice: once where it
rains and once where it should. The fractions skill score (FSS; Roberts and Lean 2008) compares fractions of
events in neighborhoods and shows the scale from which a forecast is useful.
"""

# %%
# Shift a generated field by 6 cells, and smooth the same field. Both are forecasts of the original.
import torch
import torch.nn.functional as F

from geovision.datasets.synthetic.rain import daily_fields
from geovision.metrics.functional.neighborhood import fss, useful_fss
from geovision.metrics.functional.regression import correlation, rmse
from geovision.plots import new_figure

observed = torch.from_numpy(next(daily_fields(1, seed=5, size=(96, 128))))[None, None]
shifted = observed.roll(6, dims=-1)
smooth = F.avg_pool2d(observed, 13, stride=1, padding=6, count_include_pad=False)

for name, forecast in {"shifted": shifted, "smoothed": smooth}.items():
    print(f"{name:9s} RMSE {rmse(forecast, observed):.2f}, correlation {correlation(forecast, observed):.2f}")

# %%
# Compute the FSS of cells with at least the threshold, for neighborhoods of increasing size.
threshold = float(observed.quantile(0.9))
scales = [1, 3, 5, 9, 13, 17, 25, 33]
figure = new_figure(6, 4)
axes = figure.subplots()
for name, forecast in {"shifted": shifted, "smoothed": smooth}.items():
    scores = [float(fss(forecast, observed, threshold=threshold, scale=scale)) for scale in scales]
    axes.plot(scales, scores, marker="o", label=name)
axes.axhline(float(useful_fss(observed, threshold)), color="gray", linestyle="--", label="useful")
axes.set(xlabel="neighborhood, cells", ylabel="FSS", ylim=(0, 1))
axes.legend()
figure
