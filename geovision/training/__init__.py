"""Training of a model on a dataset."""

from geovision.training._train import train
from geovision.training.distillation import distill
from geovision.training.preparation import create_for, hold_back, needs_validation, select_recipe

__all__ = ["create_for", "distill", "hold_back", "needs_validation", "select_recipe", "train"]
