"""What a job asks for, what a worker has, and whether the one fits the other."""

from __future__ import annotations

import re

import msgspec

from .spec import JobSpec
from .states import Executor

_RANGE = re.compile(r"(\d{1,4}\.\d{1,4})\.(\d{1,4})-(\d{1,4})", re.ASCII)


class Gpu(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU of a worker, as its driver names it."""

    index: int
    uuid: str
    name: str
    memory: int
    """Bytes."""


class Protection(msgspec.Struct, frozen=True, kw_only=True):
    """What of a worker's isolation is on, as a small real job has shown when the agent started."""

    memory: str
    """What holds the limits of memory: `cgroup`, the kernel; `supervised`, looking every second."""
    cpu: str
    """What holds those of processors: `cgroup`; `affinity`, whole ones for all jobs together."""
    pids: bool
    """Whether the number of a job's processes has a limit."""
    uid: bool
    """Whether each job runs as a user of its own."""
    pid_namespace: bool
    """Whether a job sees no processes but its own."""
    filesystem: bool
    """Whether a job writes nowhere but where it should, and sees nothing of the worker's files."""

    @property
    def level(self) -> str:
        """The word for it: `namespace`, `user` or `process`."""
        if self.pid_namespace and self.filesystem:
            return "namespace"
        return "user" if self.uid else "process"

    @property
    def words(self) -> str:
        """What jobs have of their own, and what holds their limits, as a part of a sentence."""
        parts = {"user": self.uid, "processes": self.pid_namespace, "files": self.filesystem}
        own = [word for word, has in parts.items() if has]
        apart = f"a job has its own {_listed(own)}" if own else "jobs have nothing of their own"
        held = {"memory": self.memory, "CPUs": self.cpu, "processes": self.pids and self.memory}
        by_kernel = [word for word, how in held.items() if how == "cgroup"]
        limits = f"cgroups hold limits of {_listed(by_kernel)}" if by_kernel else "no cgroups"
        return f"{apart}; {limits}"


def _listed(words: list[str]) -> str:
    """Words as a list in a sentence."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker has for jobs, all of it together."""

    slots: int
    """Jobs that may run at once."""
    cpus: float
    memory: int
    """Bytes that jobs may use together."""
    executors: list[Executor]
    gpus: list[Gpu] = []
    labels: dict[str, str] = {}
    pythons: list[str] = []
    """Versions of the interpreters found, the worker's own first."""
    fetchable_pythons: list[str] = []
    """Versions that the worker can fetch when a job asks for one, as `version_ranges` has them."""
    isolation: str = "process"
    """The level of isolation that a probe has shown to work; never more than was shown."""
    protection: Protection | None = None
    """What that consists of; None from a worker that does not say."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a job's spec that decides where it can run; equal requests are served alike."""

    cpus: float = 0.0
    memory: int = 0
    """Bytes."""
    gpus: int = 0
    labels: dict[str, str] = {}
    executor: Executor = Executor.AUTO
    image: str | None = None
    python: str | None = None


class Free(msgspec.Struct, frozen=True, kw_only=True):
    """What of a worker's capacity no attempt has taken."""

    slots: int
    cpus: float
    memory: int
    gpus: int


class Shortfall(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that keeps a job off a worker."""

    what: str
    """`slots`, `cpus`, `memory`, `gpus`, `labels`, `executor` or `python`."""
    wanted: str
    has: str
    lasting: bool
    """True if the worker could not run the job even when idle."""


def request_of(spec: JobSpec) -> Request:
    """The request that a spec makes."""
    return Request(
        cpus=spec.cpus or 0.0,
        memory=int((spec.memory_gb or 0) * 1024**3),
        gpus=spec.gpus,
        labels=spec.labels,
        executor=spec.executor,
        image=spec.image,
        python=spec.python,
    )


def free_of(capacity: Capacity, taken: list[Request]) -> Free:
    """What is left of a capacity beside the requests that have been placed on it."""
    return Free(
        slots=capacity.slots - len(taken),
        cpus=capacity.cpus - sum(request.cpus for request in taken),
        memory=capacity.memory - sum(request.memory for request in taken),
        gpus=len(capacity.gpus) - sum(request.gpus for request in taken),
    )


def shortfalls(request: Request, capacity: Capacity, free: Free) -> list[Shortfall]:
    """Everything that keeps a request off a worker; empty if it fits now."""
    found: list[Shortfall] = []

    def amount(what: str, wanted: float, has: float, most: float, unit: float, suffix: str) -> None:
        if wanted > has + 1e-9:
            found.append(
                Shortfall(
                    what=what,
                    wanted=f"{wanted / unit:g}{suffix}",
                    has=f"{max(has, 0) / unit:g}{suffix}",
                    lasting=wanted > most + 1e-9,
                )
            )

    amount("slots", 1, free.slots, capacity.slots, 1, "")
    amount("cpus", request.cpus, free.cpus, capacity.cpus, 1, "")
    amount("memory", request.memory, free.memory, capacity.memory, 1024**3, " GB")
    amount("gpus", request.gpus, free.gpus, len(capacity.gpus), 1, "")
    for key, value in request.labels.items():
        if capacity.labels.get(key) != value:
            has = capacity.labels.get(key, "no such label")
            found.append(Shortfall(what="labels", wanted=f"{key}={value}", has=has, lasting=True))
    if not _has_executor(request, capacity):
        asked = request.executor
        wanted = Executor.DOCKER if asked is Executor.AUTO else asked
        has = ", ".join(capacity.executors)
        found.append(Shortfall(what="executor", wanted=wanted, has=has, lasting=True))
    is_contained = request.executor is Executor.DOCKER or request.image is not None
    if request.python and not is_contained and not _has_python(request.python, capacity):
        has = ", ".join(capacity.pythons) or "none known"
        if capacity.fetchable_pythons:
            has += f"; can fetch {', '.join(capacity.fetchable_pythons)}"
        found.append(Shortfall(what="python", wanted=request.python, has=has, lasting=True))
    return found


def fits(request: Request, capacity: Capacity, free: Free) -> bool:
    """Whether a request can be placed on a worker now."""
    return not shortfalls(request, capacity, free)


def _has_executor(request: Request, capacity: Capacity) -> bool:
    if request.executor is Executor.AUTO:
        return request.image is None or Executor.DOCKER in capacity.executors
    return request.executor in capacity.executors


def _has_python(wanted: str, capacity: Capacity) -> bool:
    has = [*capacity.pythons, *capacity.fetchable_pythons]
    return any(_is_among(wanted, versions) for versions in has)


def _is_among(wanted: str, versions: str) -> bool:
    """Whether a version that was asked for is one of `3.12.2-4`, or the single one given."""
    several = _RANGE.fullmatch(versions)
    if several is None:
        return _is_one(versions, wanted)
    minor, _, patch = wanted.rpartition(".")
    if minor != several[1]:
        return _is_one(several[1], wanted)
    return len(patch) <= 4 and int(several[2]) <= int(patch) <= int(several[3])


def _is_one(version: str, wanted: str) -> bool:
    return version == wanted or version.startswith(f"{wanted}.")


def version_ranges(versions: list[str]) -> list[str]:
    """Versions such as `3.12.4`, the newest first, those without a gap as one: `3.12.2-4`."""
    parts = sorted({tuple(map(int, version.split("."))) for version in versions}, reverse=True)
    ranges: list[tuple[tuple[int, ...], int]] = []
    for *minor, patch in parts:
        if ranges and ranges[-1][0] == (*minor, patch + 1):
            ranges[-1] = ((*minor, patch), ranges[-1][1])
        else:
            ranges.append(((*minor, patch), patch))
    return [
        ".".join(map(str, first)) + ("" if first[-1] == last else f"-{last}")
        for first, last in ranges
    ]
