"""Optional inference optimizations: layer fusion, int8 and CPU features.

All models work without them, in plain torch.
"""
