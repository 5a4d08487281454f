"""Which job runs where: the only placement decision, and its explanation from the same predicates.

Waiting jobs with equal requests are alike but for priority and age, so callers pass the first few
of each kind and the cost does not grow with the length of the queue.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from dtrain.protocol.messages import WorkerFit
from dtrain.protocol.resources import Capacity, Free, Request, Shortfall, fits, shortfalls


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A job that waits."""

    job_id: int
    priority: int
    request: Request


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that may take jobs."""

    worker_id: str
    capacity: Capacity
    free: Free
    declined: frozenset[int] = frozenset()
    """The jobs that its owner declined."""


class Placement(msgspec.Struct, frozen=True):
    """A job, and the worker it goes to."""

    job_id: int
    worker_id: str


def order(job: Waiting) -> tuple[int, int]:
    """The order in which jobs are served: by priority, then by age."""
    return (-job.priority, job.job_id)


def plan(waiting: Iterable[Waiting], workers: Sequence[Candidate]) -> list[Placement]:
    """Give each waiting job, in their order, to the first worker that it fits.

    A job that fits nowhere now lets later ones pass: a machine never idles for a bigger job's sake.
    """
    free = {worker.worker_id: worker.free for worker in workers}
    placements: list[Placement] = []
    for job in sorted(waiting, key=order):
        for worker in workers:
            if suits(job, worker, free[worker.worker_id]):
                free[worker.worker_id] = _less(free[worker.worker_id], job.request)
                placements.append(Placement(job.job_id, worker.worker_id))
                break
    return placements


def suits(job: Waiting, worker: Candidate, free: Free) -> bool:
    """Whether a worker with so much free may be given the job."""
    return job.job_id not in worker.declined and fits(job.request, worker.capacity, free)


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """A worker as an explanation sees it, fit or not."""

    candidate: Candidate
    name: str
    state: str
    """`online`, `draining` or `offline`."""
    reason: str | None = None
    """Why its owner declined the job."""


def explain(job: Waiting, position: int, peers: Sequence[Peer]) -> tuple[str, list[WorkerFit]]:
    """Why a job waits: one sentence, and what keeps it off each worker."""
    found = [
        WorkerFit(
            worker_id=peer.candidate.worker_id,
            worker=peer.name,
            state=peer.state,
            declined=job.job_id in peer.candidate.declined,
            reason=peer.reason,
            shortfalls=shortfalls(job.request, peer.candidate.capacity, peer.candidate.free),
        )
        for peer in peers
    ]
    return _summary(position, found), found


def _summary(position: int, fits_: list[WorkerFit]) -> str:
    able = [fit for fit in fits_ if not any(short.lasting for short in fit.shortfalls)]
    willing = [fit for fit in able if not fit.declined]
    online = [fit for fit in willing if fit.state == "online"]
    if not fits_:
        return "No worker has joined yet; start one."
    if not able:
        lacking = _most_common(fits_)
        return f"No worker could run it even when idle: {lacking}."
    if not willing:
        declined = [f"{fit.worker} ({fit.reason})" if fit.reason else fit.worker for fit in able]
        names = in_words(declined, "and")
        return (
            f"Every worker that could run it has declined it: {names}; add another one, or hand it"
            " in again."
        )
    if not online:
        states = ", ".join(sorted({f"{fit.worker} is {fit.state}" for fit in willing})[:3])
        return f"Every worker that could run it is away: {states}."
    if any(not fit.shortfalls for fit in online):
        ahead = f"{position} ahead of it" if position else "it is next"
        return f"A worker is free for it; {ahead}."
    ahead = f"with {position} ahead of it" if position else "and it is next"
    return f"It waits for a worker to become free, {ahead}."


def in_words(names: Sequence[str], between: str) -> str:
    """Names as part of a sentence, three of them at most: `one, two and 3 more`."""
    if len(names) > 3:
        return f"{', '.join(names[:2])} {between} {len(names) - 2} more"
    return f" {between} ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)


def _most_common(fits_: list[WorkerFit]) -> str:
    lasting = [short for fit in fits_ for short in fit.shortfalls if short.lasting]
    what = Counter(short.what for short in lasting).most_common(1)[0][0]
    example = next(short for short in lasting if short.what == what)
    return f"it asks for {_words(example)}"


def _words(short: Shortfall) -> str:
    return short.wanted if short.what == "labels" else f"{short.what} {short.wanted}"


def _less(free: Free, request: Request) -> Free:
    return Free(
        slots=free.slots - 1,
        cpus=free.cpus - request.cpus,
        memory=free.memory - request.memory,
        gpus=free.gpus - request.gpus,
    )
