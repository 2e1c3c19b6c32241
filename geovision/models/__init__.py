"""Networks, and the model that carries one from physical units to an answer."""
