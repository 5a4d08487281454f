"""What keeps jobs within their limits and apart, from each other and from the agent."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import msgspec

from dtrain.protocol.resources import Protection

from . import cgroups
from .executors.base import Confinement, Limits, Plan
from .ownership import give
from .spool import AttemptFolder, WorkerFolder
from .views import Views

GIB = 1024**3
_DEVICES = ("nvidia*", "kfd", "dri/render*")
"""Devices that jobs compute on, whose groups they need."""


class Means(msgspec.Struct, frozen=True, kw_only=True):
    """What can be used for it on a machine; the probe tries it out."""

    group: dict[str, str] = {}
    """The worker's control group."""
    uids: range | None = None
    """The numbers of users that jobs can have; None for the agent's."""
    namespaces: bool = False
    confines: bool = True
    """Whether jobs are kept from new privileges."""


class Isolation:
    """Isolation as it is on a worker.

    Args:
        folder: of the worker.
        means: that work here.
        views: of jobs.
        memory: bytes for all jobs together; None for all that there are.
        cpus: processors for all jobs together; None for all that there are.
        pids: processes and threads of each job.
    """

    def __init__(
        self,
        folder: WorkerFolder,
        means: Means,
        views: Views,
        *,
        memory: int | None,
        cpus: float | None,
        pids: int,
    ) -> None:
        self.means = means
        self._folder = folder
        self.views = views
        self._memory = memory
        self._cpus = cpus
        self._pids = pids
        if means.uids is not None:
            os.umask(0o022)  # what is shared can be read; what is not has its mode from the start
        if means.group:
            cgroups.make(means.group, memory, cpus)

    @property
    def protection(self) -> Protection:
        """What of it is on."""
        means = self.means
        return Protection(
            memory="cgroup" if "memory" in means.group else "supervised",
            cpu="cgroup" if "cpu" in means.group else "affinity",
            pids="pids" in means.group or self._counts_users,
            uid=means.uids is not None,
            pid_namespace=means.namespaces,
            filesystem=means.namespaces,
        )

    def unheld_memory(self, *, has_containers: bool) -> int | None:
        """Bytes for all jobs together, if there is such a limit that maybe no group holds.

        Many engines have the groups of their containers elsewhere than in the worker's.
        """
        return None if "memory" in self.means.group and not has_containers else self._memory

    @property
    def _counts_users(self) -> bool:
        """Whether the kernel counts the processes of each job's user apart from all others.

        In user namespaces it does so from Linux 5.14 on.
        """
        means = self.means
        in_namespaces = means.namespaces and os.geteuid() != 0
        return means.uids is not None or (in_namespaces and _kernel() >= (5, 14))

    def enclosed(self, folder: AttemptFolder, plan: Plan) -> Plan:
        """The plan of an attempt with its limits and its confinement, made ready.

        A plan whose steps see to that by themselves stays as it is.

        Raises:
            OSError: the kernel or the disk does not let us.
        """
        if plan.contained:
            return plan
        spec = folder.assignment.spec
        own = None if spec.memory_gb is None else int(spec.memory_gb * GIB)
        limits = [limit for limit in (own, self._memory) if limit is not None]
        return msgspec.structs.replace(
            plan,
            limits=self._limits(folder.path.name, min(limits, default=None), spec.cpus),
            confinement=self._confinement(folder),
        )

    def release(self, folder: AttemptFolder) -> None:
        """Let go of what an attempt had beside its folder. Harmless if it had nothing."""
        group = folder.group
        if group:
            with contextlib.suppress(OSError):
                cgroups.remove(group)

    def sweep(self) -> None:
        """Kill and remove what is left of attempts that are gone."""
        names = {attempt.path.name for attempt in self._folder.attempts()}
        for folder in {Path(folder) for folder in self.means.group.values()}:
            for path in folder.iterdir():
                if path.is_dir() and path.name not in {*names, cgroups.CONTAINERS}:
                    left = {"": str(path)}
                    cgroups.kill(left, 1.0)
                    with contextlib.suppress(OSError):
                        cgroups.remove(left)

    def close(self) -> None:
        """Remove the worker's group, unless attempts are left in it."""
        for folder in set(self.means.group.values()):
            with contextlib.suppress(OSError):
                Path(folder).rmdir()

    def _limits(self, name: str, memory: int | None, cpus: float | None) -> Limits:
        group = cgroups.inside(self.means.group, name)
        if group:
            cgroups.make(group, memory, cpus, self._pids, as_one=True)
        affinity: list[int] = []
        if self._cpus is not None and "cpu" not in group:
            affinity = sorted(os.sched_getaffinity(0))[: max(1, round(self._cpus))]
        counts = "pids" not in group and self._counts_users
        processes = self._pids if counts else None
        return Limits(group=group, memory=memory, affinity=affinity, processes=processes)

    def _confinement(self, folder: AttemptFolder) -> Confinement | None:
        means = self.means
        if not means.confines:
            return None
        uid = None if means.uids is None else self._free_uid(means.uids)
        if uid is not None:
            self._open_ways(folder)
            for path in filter(Path.exists, folder.owned):
                give(path, uid)
        view = self.views.of(folder, foreign=uid is not None) if means.namespaces else None
        return Confinement(
            uid=uid,
            groups=sorted(_device_groups()) if uid is not None else [],
            namespaces=means.namespaces,
            user_namespace=means.namespaces and os.geteuid() != 0,
            view=view,
        )

    def _free_uid(self, uids: range) -> int:
        """A number that no attempt of this worker has."""
        taken = self._folder.uids()
        while (uid := uids[secrets.randbelow(len(uids))]) in taken:
            pass
        return uid

    def _open_ways(self, folder: AttemptFolder) -> None:
        """Let other users pass on to what they may read, without seeing what else there is."""
        for path in (self._folder.path, folder.path.parent, folder.path):
            path.chmod(0o711)
        self._folder.environments.chmod(0o755)


def key_of(folder: WorkerFolder) -> str:
    """What tells a worker from others of this machine."""
    return hashlib.sha256(os.fsencode(folder.path)).hexdigest()[:12]


def _kernel() -> tuple[int, int]:
    """The version of Linux; the oldest if it cannot be told."""
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _device_groups() -> Iterator[int]:
    found = {path.stat().st_gid for pattern in _DEVICES for path in Path("/dev").glob(pattern)}
    yield from found - {0}
