"""File formats to arrays: one module a family of formats, shared by data sets and prediction."""
