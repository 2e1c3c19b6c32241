"""
Train on your own classes
=========================

A folder with one subfolder for each class is a data set. This example trains a tiny network on generated
photos, evaluates it on groups that it has not seen, and shows the confusion matrix. Near-duplicates stay
together in a split. The network is small and the photos are few, so the scores are low; the steps are those
of a real training.
"""

# %%
# Write generated photos of four kinds of sky into a folder for each kind.
import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import geovision
from geovision.datasets.synthetic.sky import render

KINDS = {"cumulus": "Cu", "cirrus": "Ci", "stratus": "St", "cumulonimbus": "Cb"}

folder = tempfile.TemporaryDirectory()
root = Path(folder.name)
rng = np.random.default_rng(0)
for kind, genus in KINDS.items():
    (root / kind).mkdir()
    for number in range(30):
        Image.fromarray(render(genus, rng, size=(64, 64))).save(root / kind / f"{number}.png")

data = geovision.load_dataset("folder", root, size=(64, 64))
train, test = data.group_split(0.3, seed=0)
print(len(train), "photos for training,", len(test), "for testing")

# %%
# Train a tiny network for some epochs. The recipe of the model is data: here with fewer epochs and smaller
# batches.
torch.manual_seed(0)
model = geovision.create("cloud-tiny", classes=data.target.classes, size=(64, 64))
recipe = model.recipe.with_epochs(12)
recipe = dataclasses.replace(
    recipe, stages=[dataclasses.replace(each, batch_size=12) for each in recipe.stages]
)
geovision.train(model, train, recipe=recipe, progress=False)

# %%
# Evaluate. Each metric has a 95 % bootstrap interval over groups.
report = geovision.evaluate(model, test, n_bootstrap=200)
print(report.text())

# %%
# The report draws its figures.
figure = report.figures()["confusion"]
figure
