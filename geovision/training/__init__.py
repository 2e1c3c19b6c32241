"""From a model and a data set to a trained model."""

from geovision.training._train import train
from geovision.training.distillation import distill

__all__ = ["distill", "train"]
