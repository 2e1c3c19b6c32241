"""Optional inference optimizations: layer fusion, int8 and CPU features. Plain torch works without."""
