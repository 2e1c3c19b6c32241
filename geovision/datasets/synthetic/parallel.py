"""Generators draw each picture from its own seed, so that pictures may be drawn side by side."""

from __future__ import annotations

import os
from collections.abc import Callable

__all__ = ["each"]

_WORTH_IT = 60
"""Pictures from which on starting processes takes less time than it saves."""


def each(work: Callable[[int], object], count: int, *, pictures: int) -> None:
    """Call ``work(0)`` to ``work(count - 1)``, on all processors where there is much to draw.

    Args:
        work: Can be pickled, and writes what no other call writes.
        pictures: Drawn by all calls together.
    """
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if pictures >= _WORTH_IT and processors > 1:
        try:
            from joblib import Parallel, delayed
        except ImportError:  # it comes with scikit-learn; drawing needs neither
            pass
        else:
            Parallel(n_jobs=min(processors, count))(delayed(work)(number) for number in range(count))
            return
    for number in range(count):
        work(number)
