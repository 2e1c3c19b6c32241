"""Readers of file formats, shared by datasets and prediction."""
