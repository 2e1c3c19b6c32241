"""
Explain a prediction
====================

``geovision.explain`` attributes a prediction to the pixels of its input. Two methods are compared on a
generated photo: Grad-CAM, which is fast and coarse, and integrated gradients, whose values sum to the
explained difference.
"""

# %%
# Generate one photo of a cumulonimbus.
import numpy as np

import geovision
from geovision.datasets.synthetic.sky import render

photo = render("Cb", np.random.default_rng(3)).transpose(2, 0, 1)  # (channel, y, x)
model = geovision.create("cloud-mobilenetv2", pretrained=True)
prediction = model.predict(photo)[0]
print(prediction.label, f"{prediction.confidence:.2f}")

# %%
# Grad-CAM weights the feature maps of the last convolution by their gradients.
explanation = geovision.explain(model, photo, method="gradcam")
figure = explanation.plot()
figure

# %%
# Integrated gradients are complete: the attributions sum to the difference between the logit of the photo
# and the logit of the baseline. The relative error of this sum is a check of the number of steps.
explanation = geovision.explain(model, photo, method="integrated-gradients", steps=16)
print(f"relative error of the sum: {explanation.completeness.relative_error:.3f}")
figure = explanation.plot()
figure
