"""Why is a job waiting?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dtrain.protocol.messages import Explanation, Job
from dtrain.protocol.resources import free_of, request_of
from dtrain.protocol.states import Phase, Status
from dtrain.server.rules.scheduling import Candidate, Peer, Waiting
from dtrain.server.rules.scheduling import explain as explained
from dtrain.server.store import attempts, job_views, jobs, offers, workers

if TYPE_CHECKING:
    import sqlalchemy as sa

    from dtrain.server.services import Services


def explain(services: Services, job_id: int) -> Explanation:
    """Why a job is where it is: a sentence, its place in the line, what each worker lacks.

    Raises:
        NotFound: there is no such job.
    """
    with services.database.read() as connection:
        job = job_views.get(connection, job_id)
        if job.status is not Status.PENDING:
            return Explanation(summary=_told(job), position=None, workers=[])
        waiting = Waiting(job_id=job_id, priority=job.spec.priority, request=request_of(job.spec))
        position = jobs.position(connection, waiting)
        peers = _peers(connection, job_id, services.clock.time())
    summary, found = explained(waiting, position, peers)
    if job.phase is Phase.OFFERED:
        summary = "It is before a worker's owner, who has not answered yet."
    elif job.phase is Phase.RETRY_WAIT:
        summary = f"{job.message or ''} It waits a little before the next attempt.".strip()
    return Explanation(summary=summary, position=position, workers=found)


def _peers(connection: sa.Connection, job_id: int, now: float) -> list[Peer]:
    declined = offers.declined(connection, job_id)
    taken = attempts.taken(connection)
    return [
        Peer(
            candidate=Candidate(
                worker_id=row.id,
                capacity=row.capacity,
                free=free_of(row.capacity, [request for _, request in taken.get(row.id, [])]),
                declined=frozenset({job_id} if row.id in declined else ()),
            ),
            name=row.name,
            state=row.state(now),
        )
        for row in workers.listing(connection)
    ]


def _told(job: Job) -> str:
    if job.status is Status.RUNNING:
        return f"It runs on {job.worker}, attempt {job.attempt}: {job.phase}."
    return f"It has ended as {job.status}. {job.message or ''}".strip()
