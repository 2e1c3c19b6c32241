"""Peak memory of a process."""

from __future__ import annotations

import resource
from pathlib import Path

__all__ = ["forget_peak", "peak"]

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def peak() -> float:
    """Return the largest resident set of this program so far, in MB of 10^6 bytes.

    The value of Linux refers to the program. The value of `resource` refers to the process, so a program that
    another one started begins with the value of the other.
    """
    if _STATUS.exists():
        (line,) = (line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def forget_peak() -> None:
    """Reset `peak` to the current memory; without effect on systems other than Linux."""
    if _CLEAR.exists():
        _CLEAR.write_text("5")  # proc(5): resets the largest resident set
