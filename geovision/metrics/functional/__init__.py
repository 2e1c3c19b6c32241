"""Formulas of metrics as functions of tensors with masks; `geovision.metrics` has the classes above them."""
