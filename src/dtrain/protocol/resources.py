"""What a job asks for, what a worker has, and whether the one fits the other."""

from __future__ import annotations

import msgspec

from .spec import JobSpec
from .states import Executor


class Gpu(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU of a worker, as its driver names it."""

    index: int
    uuid: str
    name: str
    memory: int
    """Bytes."""


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
    isolation: str = "process"
    """The level of isolation that a probe has shown to work; never more than was shown."""


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
    if request.python and not _has_python(request.python, capacity.pythons):
        has = ", ".join(capacity.pythons) or "none known"
        found.append(Shortfall(what="python", wanted=request.python, has=has, lasting=True))
    return found


def fits(request: Request, capacity: Capacity, free: Free) -> bool:
    """Whether a request can be placed on a worker now."""
    return not shortfalls(request, capacity, free)


def _has_executor(request: Request, capacity: Capacity) -> bool:
    if request.executor is Executor.AUTO:
        return request.image is None or Executor.DOCKER in capacity.executors
    return request.executor in capacity.executors


def _has_python(wanted: str, pythons: list[str]) -> bool:
    return any(found == wanted or found.startswith(f"{wanted}.") for found in pythons)
