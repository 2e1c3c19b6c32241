"""Formulas of metrics as functions of tensors with masks.

The metric classes of `geovision.metrics` use them.
"""
