"""Networks, and the model class that maps physical inputs to predictions."""
