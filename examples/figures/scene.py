"""Figure scene.png: the quicklook that `geovision scene` writes for a generated pass.

A tiny model is trained on generated images for a minute or two. It predicts an unseen pass of open sea, a
polar low and open sea.

    python examples/figures/scene.py
"""

import tempfile
from pathlib import Path

import torch
from PIL import Image

import geovision
from geovision.datasets.synthetic import sar_scene, sar_sea
from geovision.physics.backscatter import DEFAULT_DB_RANGES
from geovision.registry import find_task
from geovision.sar import SceneConfig, predict_scene

IMAGES = Path(__file__).parents[2] / "docs" / "images"

EPOCHS = 30

torch.manual_seed(0)
limits = {name: (each.low, each.high) for name, each in DEFAULT_DB_RANGES.items()}
model = geovision.create("polarlow-tiny", db_range=limits)
with tempfile.TemporaryDirectory() as folder:
    root = Path(folder)
    sar_sea.write(root / "pictures", 360, seed=11, pixel_size=2000.0)
    data = geovision.load_dataset("polar-lows", root / "pictures", split="train", pixel_size=2000.0)
    test = geovision.load_dataset("polar-lows", root / "pictures", split="test", pixel_size=2000.0)
    recipe = find_task("polarlow").demo.recipe.with_epochs(EPOCHS)
    geovision.train(model, data, recipe=recipe, progress=False)
    print(geovision.evaluate(model, test, n_bootstrap=0).text())
    kinds = ("open-sea", "polar-low", "open-sea")
    print(
        sar_scene.write(root / "pass.tif", kinds, seed=7, pixel_size=200.0, corner=(300_000.0, 8_600_000.0))
    )
    found = predict_scene(
        model, root / "pass.tif", root / "pass", SceneConfig("db"), overlap=0.75, min_valid=0.5
    )
    print(*found.detections, found.seconds, sep="\n")
    with Image.open(found.files["picture"]) as picture:
        small = picture.convert("RGB").resize((600, round(600 * picture.height / picture.width)))
    small.save(IMAGES / "scene.png", optimize=True)
