"""
Read a hail sample
==================

A hail sample joins radar, satellite, reanalysis and terrain on one grid. Each source has a mask, so that a
missing source is not read as zero. This example shows one generated sample and the prediction of an
untrained network of the HINet family, which shows the form of the output and has no skill.
"""

# %%
# Write and load generated samples.
import tempfile
from pathlib import Path

import torch

import geovision
from geovision.datasets.hail_samples import HailSamples

folder = tempfile.TemporaryDirectory()
root = HailSamples.synthetic(Path(folder.name), 8, seed=7, size=(64, 64), windows=6)
data = geovision.load_dataset("hail-samples", root)
for name, values in data[0]["inputs"].items():
    print(f"{name:6s} {tuple(values.shape)}")

# %%
# Plot the first sample: the fields of the last time and the history of the core.
figure = data.plot(data[0])
figure

# %%
# Predict. A cell belongs to the mask if its probability reaches the threshold.
torch.manual_seed(0)
model = geovision.create("hail-tiny", **data.model_kwargs())
prediction = model.predict(data[0]["inputs"])[0]
print("probability:", prediction.probability.shape, "threshold:", prediction.threshold)
