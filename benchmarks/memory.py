"""How much memory a process took."""

from __future__ import annotations

import resource
from pathlib import Path

__all__ = ["forget_peak", "peak"]

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def peak() -> float:
    """Largest resident set of this program so far, MB of 10^6 bytes.

    Linux tells it of the program; what `resource` tells is of the process, and a program that another
    started begins with the other's.
    """
    if _STATUS.exists():
        (line,) = (line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def forget_peak() -> None:
    """Let `peak` begin again with what the program holds now; elsewhere than on Linux it cannot."""
    if _CLEAR.exists():
        _CLEAR.write_text("5")  # proc(5): resets the largest resident set
