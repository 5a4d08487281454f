"""The machine that a run is on: what it is, and how fast it was meanwhile."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

LOOP = "a fixed loop of Python, the machine's speed meanwhile"
_ADDITIONS = 5_000_000
"""Enough that the loop meets whatever else wants the core."""
USUAL = 125
"""Milliseconds of the loop on an idle core of today."""


def loop_milliseconds() -> float:
    """How long a fixed loop takes, which needs nothing but a core."""
    begin = time.perf_counter()
    total = 0
    for value in range(_ADDITIONS):
        total += value
    return (time.perf_counter() - begin) * 1000


def description() -> str:
    """Cores, memory and kernel."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    return (
        f"{len(os.sched_getaffinity(0))} cores ({_processor()}), {memory:.0f} GiB,"
        f" Linux {platform.release()}"
    )


def load() -> str:
    """The load average of the last minute."""
    return f"{os.getloadavg()[0]:.1f}"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
