"""The memory of all jobs together, where no control group holds its limit.

Each shim looks at its own job's, and an engine at each container's; what they come to together can
be seen by the agent alone, while it runs. A job that is fast enough gets past the limit for a
moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dtrain.protocol.states import Cause

from . import cgroups
from .memory_watch import resident, shared_out
from .processes import Process
from .runner import Runner


class MemoryGuard:
    """Ends the largest of several jobs that use too much together.

    Args:
        runners: gives those that there are.
        limit: bytes for all of them.
    """

    def __init__(self, runners: Callable[[], Iterable[Runner]], limit: int) -> None:
        self._runners = runners
        self._limit = limit

    def look(self) -> None:
        """Look once; what one job uses alone is its shim's to see."""
        running = [runner for runner in self._runners() if runner.runs]
        if len(running) < 2 or any(runner.is_stopping for runner in running):
            return
        if sum(_used(runner, resident) for runner in running) <= self._limit:
            return
        used = {runner: _used(runner, shared_out) for runner in running}
        if sum(used.values()) > self._limit:
            max(used, key=used.__getitem__).stop(Cause.OUT_OF_MEMORY, at_once=True)


def _used(runner: Runner, count: Callable[[Iterable[Process]], int]) -> int:
    """Bytes that an attempt uses, as its own control group or its container's counts them.

    Where there is neither, its processes are counted.
    """
    group = runner.folder.used_group
    used = cgroups.used(group) if group else None
    return count(runner.processes()) if used is None else used
