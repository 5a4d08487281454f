"""What an attempt uses of the machine at a moment, for its curves on the job's page."""

from __future__ import annotations

from collections.abc import Mapping

from dtrain.protocol.worker_messages import AttemptUsage

from . import cgroups, processes
from .memory_watch import resident
from .spool import AttemptFolder

GpuSamples = Mapping[str, dict[str, float]]
"""How busy GPUs are, by their UUIDs."""


def usage_of(folder: AttemptFolder, shim: int, gpus: GpuSamples) -> AttemptUsage | None:
    """What all that an attempt runs uses together; None if that cannot be told.

    Control groups count it, those of containers as well; where there is none, it is summed over
    the processes below the shim.

    Args:
        folder: of the attempt.
        shim: the number of its process.
        gpus: of the machine.

    Raises:
        OSError: it cannot be looked at now.
    """
    group = folder.used_group
    if group is None:
        return None
    cpu_time, memory = cgroups.cpu_time(group), cgroups.used(group)
    return AttemptUsage(
        cpu_time=processes.cpu_time(shim) if cpu_time is None else cpu_time,
        memory=resident(processes.descendants(shim)) if memory is None else memory,
        gpus=[gpus[uuid] for uuid in folder.gpus if uuid in gpus],
    )
