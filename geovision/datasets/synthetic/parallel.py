"""Generators draw each picture from its own seed, so that pictures may be drawn side by side."""

from __future__ import annotations

import os
from collections.abc import Callable

__all__ = ["parallel_for"]

_MIN_PARALLEL_IMAGES = 60
"""Pictures from which on starting processes takes less time than it saves."""


def parallel_for(func: Callable[[int], object], count: int, *, num_images: int) -> None:
    """Call ``work(0)`` to ``work(count - 1)``, on all processors where there is much to draw.

    Args:
        func: Can be pickled, and writes what no other call writes.
        num_images: Drawn by all calls together.
    """
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if num_images >= _MIN_PARALLEL_IMAGES and processors > 1:
        try:
            from joblib import Parallel, delayed
        except ImportError:  # it comes with scikit-learn; drawing needs neither
            pass
        else:
            Parallel(n_jobs=min(processors, count))(delayed(func)(number) for number in range(count))
            return
    for number in range(count):
        func(number)
