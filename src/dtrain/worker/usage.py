"""What an attempt uses of the machine at a moment, for its curves on the job's page."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from dtrain.protocol.worker_messages import AttemptUsage

from . import cgroups, processes
from .launcher import Running
from .memory_watch import resident
from .spool import AttemptFolder

GpuSamples = Mapping[str, dict[str, float]]
"""How busy GPUs are, by their UUIDs."""


def usage_of(
    folder: AttemptFolder, running: Running | None, gpus: GpuSamples
) -> AttemptUsage | None:
    """What all that an attempt runs uses together; None if nothing runs, or it cannot be told.

    Control groups count it, those of containers as well; where there is none, it is summed over
    the processes below the shim.

    Args:
        folder: of the attempt.
        running: the attempt, once it was started.
        gpus: of the machine.
    """
    with contextlib.suppress(OSError):  # a curve is not worth a poll
        if running is None or not running.alive():
            return None
        group = folder.used_group
        if group is not None:
            cpu_time, memory = cgroups.cpu_time(group), cgroups.used(group)
            if cpu_time is None:
                cpu_time = processes.cpu_time(running.pid)
            if memory is None:
                memory = resident(processes.descendants(running.pid))
            found = [gpus[uuid] for uuid in folder.gpus if uuid in gpus]
            return AttemptUsage(cpu_time=cpu_time, memory=memory, gpus=found)
    return None
