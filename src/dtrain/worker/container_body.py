"""What containers are, in the words of the engine's API: their folders, limits and variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from .docker_settings import TEMPORARY, DockerSettings
from .spool import AttemptFolder

WORKER_LABEL = "dtrain.worker"
ATTEMPT_LABEL = "dtrain.attempt"

WORK = "/dtrain/work"
HOME = "/dtrain/home"
ENVIRONMENT = "/dtrain/environment"
_OUTPUT = "/dtrain/output"
_CHECKPOINTS = "/dtrain/checkpoints"


def container_body(
    folder: AttemptFolder, settings: DockerSettings, labels: Mapping[str, str]
) -> dict[str, Any]:
    """What every container of an attempt is, whatever runs in it.

    Args:
        folder: of the attempt.
        settings: the owner's.
        labels: of the worker's containers.
    """
    memory, cpus = limits_of(folder, settings)
    limits: dict[str, Any] = {} if memory is None else {"Memory": memory, "MemorySwap": memory}
    if cpus is not None:
        limits["NanoCpus"] = int(cpus * 1e9)
    if "processes" not in settings.lacking:
        limits["PidsLimit"] = settings.processes
    if settings.parent is not None:
        limits["CgroupParent"] = settings.parent
    if folder.gpus:
        limits["DeviceRequests"] = [_gpus(folder.gpus, settings)]
    # Labels are by file; those of an attempt's folders, and of volumes, are not ours to change.
    labelled = ["label=disable"] if settings.has_selinux else []
    return {
        "Labels": {**labels, ATTEMPT_LABEL: folder.path.name},
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": {
            "Mounts": _mounts(folder, settings),
            "Init": True,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges", *labelled],
            "ShmSize": memory or _half_of_the_memory(),
            "RestartPolicy": {"Name": "no"},
            **limits,
        },
    }


def limits_of(folder: AttemptFolder, settings: DockerSettings) -> tuple[int | None, float | None]:
    """Bytes and processors that a container of an attempt may use; None for all that there are.

    An engine that cannot hold a limit refuses containers with it, so there is none then.
    """
    spec = folder.assignment.spec
    own = None if spec.memory_gb is None else int(spec.memory_gb * 1024**3)
    memory = [limit for limit in (own, settings.memory) if limit is not None]
    cpus = [limit for limit in (spec.cpus, settings.cpus) if limit is not None]
    lacking = settings.lacking
    return (
        None if "memory" in lacking else min(memory, default=None),
        None if "processors" in lacking else min(cpus, default=None),
    )


def lacking_limits(info: Mapping[str, Any]) -> tuple[str, ...]:
    """What an engine cannot limit, by what it says of itself: a rootless one what it was not given.

    Args:
        info: the engine's; what is not in it is taken to be there.
    """
    wanted = {
        "memory": ("MemoryLimit",),
        "processors": ("CpuCfsPeriod", "CpuCfsQuota"),
        "processes": ("PidsLimit",),
    }
    return tuple(
        what for what, names in wanted.items() if any(info.get(name) is False for name in names)
    )


def mount(source: str, target: str, *, read_only: bool = False) -> dict[str, Any]:
    """A folder or file of this machine in a container."""
    return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only}


def variables_of(
    folder: AttemptFolder, settings: DockerSettings, worker_name: str
) -> dict[str, str]:
    """The variables of a job in a container, beside those of its image."""
    assignment = folder.assignment
    gpus = {"CUDA_VISIBLE_DEVICES": ",".join(folder.gpus)} if folder.gpus else {}
    return {
        "TERM": "dumb",
        "PYTHONUNBUFFERED": "1",
        "HOME": HOME,
        "USER": "dtrain",
        "TMPDIR": TEMPORARY,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        **settings.environment,
        **assignment.spec.env,
        "DTRAIN_JOB_ID": str(assignment.job_id),
        "DTRAIN_ATTEMPT": str(assignment.attempt),
        "DTRAIN_WORKER_NAME": worker_name,
        "DTRAIN_OUTPUT_DIR": _OUTPUT,
        "DTRAIN_CHECKPOINT_DIR": _CHECKPOINTS,
        **gpus,
    }


def _mounts(folder: AttemptFolder, settings: DockerSettings) -> list[dict[str, Any]]:
    own = {
        folder.work: WORK,
        folder.output: _OUTPUT,
        folder.checkpoints: _CHECKPOINTS,
        folder.home: HOME,
        folder.tmp: TEMPORARY,
    }
    owners = settings.volumes
    return [
        *(mount(str(path), target) for path, target in own.items()),
        *(mount(volume.source, volume.target, read_only=volume.read_only) for volume in owners),
    ]


def _gpus(gpus: list[str], settings: DockerSettings) -> dict[str, Any]:
    if settings.is_podman:
        return {"Driver": "cdi", "DeviceIDs": [f"nvidia.com/gpu={gpu}" for gpu in gpus]}
    return {"DeviceIDs": gpus, "Capabilities": [["gpu"]]}


def _half_of_the_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
