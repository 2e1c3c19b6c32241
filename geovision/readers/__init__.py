"""Readers of file formats, one module per format, shared by datasets and prediction."""
