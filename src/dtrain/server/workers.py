"""Use cases about workers: the list of them, how busy they were, drain, and forgetting one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dtrain.protocol.errors import Conflict, NotFound
from dtrain.protocol.messages import Worker, WorkerList, WorkerSamples

from .jobs import claim, finish, presence
from .rules.leases import is_away
from .rules.samples import thinned
from .store import attempts as stored_attempts
from .store import events as stored_events
from .store import offers as stored_offers
from .store import worker_samples
from .store import workers as stored
from .store.database import moment, notice

if TYPE_CHECKING:
    import sqlalchemy as sa

    from .services import Services

MAX_SAMPLES = worker_samples.KEPT
"""Samples of a worker that are given at most."""


def listing(services: Services) -> WorkerList:
    """All workers, by name."""
    with services.database.read() as connection:
        taken = stored_attempts.taken(connection)
        offers = stored_offers.all_open(connection)
        rows = stored.listing(connection)
    now = services.clock.time()

    def shown(row: stored.WorkerRow) -> Worker:
        jobs = [job_id for job_id, _ in taken.get(row.id, [])]
        return _worker(row, jobs, offers.get(row.id, []), now)

    return WorkerList(workers=[shown(row) for row in rows])


def get(services: Services, worker_id: str) -> Worker:
    """One worker.

    Raises:
        NotFound: there is no such worker.
    """
    for worker in listing(services).workers:
        if worker.id == worker_id:
            return worker
    raise NotFound(f"There is no worker {worker_id}; `dtrain workers` lists the ones there are.")


def samples(services: Services, worker_id: str, *, points: int = MAX_SAMPLES) -> WorkerSamples:
    """How busy a worker was in the last 24 hours.

    Args:
        services: the server's parts.
        worker_id: the worker.
        points: how many samples are wanted at most; each is the mean of some that follow it.

    Raises:
        NotFound: there is no such worker.
    """
    now = services.clock.time()
    with services.database.read() as connection:
        stored.get(connection, worker_id)
        found = worker_samples.of_worker(connection, worker_id, now)
    return WorkerSamples(samples=thinned(found, points))


def drain(services: Services, worker_id: str) -> Worker:
    """Let a worker finish what it runs and take nothing new, until it is resumed."""
    return _set_drained(services, worker_id, drained=True)


def resume(services: Services, worker_id: str) -> Worker:
    """Let a drained worker take jobs again."""
    return _set_drained(services, worker_id, drained=False)


def forget(services: Services, worker_id: str, *, force: bool = False) -> None:
    """End a worker's credential and take it from the list.

    Args:
        services: the server's parts.
        worker_id: the worker.
        force: also if it has jobs; they are given to others.

    Raises:
        NotFound: there is no such worker.
        Conflict: it has jobs (`busy`), and there is no force.
    """

    def work(connection: sa.Connection) -> None:
        row = stored.get(connection, worker_id, lock=True)
        now = services.clock.time()
        presence.hold(connection, worker_id)
        found = stored_attempts.of_worker(connection, worker_id, stored_attempts.OPEN)
        busy = [attempt.job_id for attempt in found if attempt.state != "lost"]
        if busy and not force:
            raise Conflict(
                f"The worker {row.name} has {_jobs(busy)}; drain it first and wait, or forget it"
                " with force to have them run elsewhere.",
                code="busy",
            )
        for attempt in found:
            finish.settle(connection, attempt.job_id, attempt.number, now, give_up=True)
            if attempt.state != "finishing":
                presence.give_up(connection, attempt, now)
        claim.withdraw(connection, now, worker_id=worker_id)
        stored.forget(connection, worker_id)
        worker_samples.forget(connection, worker_id)
        stored_events.append(connection, "forgotten", now, worker_id=worker_id, name=row.name)
        notice(connection, claim.topic(worker_id))

    services.database.write(work)


def _jobs(ids: list[int]) -> str:
    return f"job{'' if len(ids) == 1 else 's'} {', '.join(map(str, ids))}"


def _set_drained(services: Services, worker_id: str, *, drained: bool) -> Worker:
    def work(connection: sa.Connection) -> None:
        row = stored.get(connection, worker_id, lock=True)
        if row.drained == drained:
            return
        now = services.clock.time()
        stored.update(connection, worker_id, drained=drained)
        if drained:
            claim.withdraw(connection, now, worker_id=worker_id)
        kind = "drained" if drained else "resumed"
        stored_events.append(connection, kind, now, worker_id=worker_id, name=row.name)
        notice(connection, claim.topic(worker_id))

    services.database.write(work)
    return get(services, worker_id)


def _worker(row: stored.WorkerRow, jobs: list[int], offers: list[int], now: float) -> Worker:
    return Worker(
        id=row.id,
        name=row.name,
        state=row.state(now),
        hostname=row.hostname,
        version=row.version,
        capacity=row.capacity,
        metrics=row.metrics,
        jobs=jobs,
        asks=row.asks,
        answer_on_page=row.answer_on_page,
        offers=offers,
        last_seen=moment(row.last_seen),
        takes_nothing=_takes_nothing(row, len(jobs), now),
    )


def _takes_nothing(row: stored.WorkerRow, running: int, now: float) -> str | None:
    """Why a worker takes no new job, as a sentence."""
    if row.left:
        return "Its agent has ended; it takes jobs again once it is started."
    if is_away(row.last_seen, now, left=False):
        return "It has not been heard of; it takes jobs again once it reaches the server."
    if row.drained:
        return "It was told to finish what runs and take nothing new, until it is resumed."
    if row.draining:
        return "Its agent is ending: it finishes what runs and takes nothing new."
    if running >= row.capacity.slots:
        slots = row.capacity.slots
        at_once = "one job" if slots == 1 else f"{slots} jobs"
        return f"All of its slots are taken; it runs {at_once} at once."
    return None
