"""Parallel generation of images.

Each image depends on its own seed only.
"""

from __future__ import annotations

import os
from collections.abc import Callable

__all__ = ["parallel_for"]

_MIN_PARALLEL_IMAGES = 60
"""Number of images from which parallel processes save more time than their start takes."""


def parallel_for(func: Callable[[int], object], count: int, *, num_images: int) -> None:
    """Call ``func(0)`` to ``func(count - 1)``, in parallel processes for many images.

    Args:
        func: Function of the number of the call. It can be pickled, and no two calls write the same file.
        count: Number of calls.
        num_images: Number of images drawn by all calls together.
    """
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if num_images >= _MIN_PARALLEL_IMAGES and processors > 1:
        try:
            from joblib import Parallel, delayed
        except ImportError:  # joblib is a dependency of scikit-learn; generation needs neither
            pass
        else:
            Parallel(n_jobs=min(processors, count))(delayed(func)(number) for number in range(count))
            return
    for number in range(count):
        func(number)
