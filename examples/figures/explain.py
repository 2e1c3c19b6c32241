"""Figure explain.png: a generated polar low, explained by four methods.

python benchmarks/explain_eye.py --train runs/eye && python examples/figures/explain.py runs/eye
"""

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import geovision
from geovision.datasets.synthetic import sar_sea

IMAGES = Path(__file__).parents[2] / "docs" / "images"

WAYS = (
    {"method": "gradcam"},
    {"method": "layercam", "layer": "blocks.1.activation_2", "orientations": 8},
    {"method": "integrated-gradients"},
    {"method": "occlusion", "window": 16, "stride": 4},
)

model = geovision.load(sys.argv[1])
rng = np.random.default_rng([7, 1, 3])
over = sar_sea.compose_pass(np.random.default_rng([7, 0, 3]), 3)
scene = sar_sea.render("polar-low", over, rng, pixel_size=model.inputs[0].pixel_size)


def panel(way: dict) -> Image.Image:
    """Return the figure of an explanation as an image."""
    stream = io.BytesIO()
    geovision.explain(model, scene.counts, **way).plot().savefig(stream, format="png", dpi=54)
    return Image.open(stream).convert("RGB")


panels = [panel(way) for way in WAYS]
width, height = panels[0].size
sheet = Image.new("RGB", (2 * width, 2 * height), "white")
for number, each in enumerate(panels):
    sheet.paste(each, (number % 2 * width, number // 2 * height))
sheet.save(IMAGES / "explain.png", optimize=True)
