"""Other libraries kept from talking, where what they say is told otherwise or concerns their makers."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["suppress_logging"]


@contextmanager
def suppress_logging(*loggers: str, below: int) -> Iterator[None]:
    """Within it, loggers of these names pass on nothing below a level.

    Only the loggers themselves: one beneath them that has a level of its own has to be named, too.
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
