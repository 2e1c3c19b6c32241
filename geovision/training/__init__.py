"""From a model and a data set to a trained model."""

from geovision.training.distillation import distill
from geovision.training.fit import train

__all__ = ["distill", "train"]
