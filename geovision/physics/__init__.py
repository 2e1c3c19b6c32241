"""Physical formulas without learning."""
