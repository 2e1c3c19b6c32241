"""Suppression of log messages of third-party libraries."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["suppress_logging"]


@contextmanager
def suppress_logging(*loggers: str, below: int) -> Iterator[None]:
    """Suppress the messages of loggers below a level.

    The levels of child loggers do not change: a child with a level of its own must be listed, too.

    Args:
        loggers: Names of loggers.
        below: Lowest level that is still reported.

    Yields:
        None. The previous levels are restored at the end.
    """
    known = [logging.getLogger(name) for name in loggers]
    before = [logger.level for logger in known]
    for logger in known:
        logger.setLevel(below)
    try:
        yield
    finally:
        for logger, level in zip(known, before, strict=True):
            logger.setLevel(level)
