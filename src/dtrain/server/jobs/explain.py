"""Why is a job where it is?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from dtrain.protocol.messages import Explanation, Job
from dtrain.protocol.resources import free_of, request_of
from dtrain.protocol.states import Phase, Status
from dtrain.server.rules.scheduling import Candidate, Peer, Waiting, in_words
from dtrain.server.rules.scheduling import explain as explained
from dtrain.server.store import attempts, job_views, jobs, offers, workers

if TYPE_CHECKING:
    import sqlalchemy as sa

    from dtrain.server.services import Services

_RUNNING = {
    Phase.PREPARING: "its environment is being prepared.",
    Phase.EXECUTING: "its script runs.",
    Phase.FINISHING: "it has ended, the last of its log and files are on their way.",
    Phase.CANCELLING: "it has been asked to end, and is given time to.",
    Phase.UNREACHABLE: "the worker has not been heard of; if it stays away, the job starts again"
    " elsewhere.",
}


def explain(services: Services, job_id: int) -> Explanation:
    """Why a job is where it is: a sentence, its place in the line, what each worker lacks.

    Raises:
        NotFound: there is no such job.
    """
    now = services.clock.time()
    with services.database.read() as connection:
        job = job_views.get(connection, job_id)
        if job.status is not Status.PENDING:
            return Explanation(summary=_told(job), position=None, workers=[])
        waiting = Waiting(job_id=job_id, priority=job.spec.priority, request=request_of(job.spec))
        position = jobs.position(connection, waiting)
        peers = _peers(connection, job_id, now)
        asked = set(offers.open_of_job(connection, job_id))
        not_before = job_views.not_before(connection, job_id)
    retry_in = None if not_before is None else max(not_before - now, 0.0)
    summary, found = explained(waiting, position, peers)
    if job.phase is Phase.OFFERED:
        names = [peer.name for peer in peers if peer.candidate.worker_id in asked]
        summary = f"It waits for the word of the owner of {in_words(names, 'or')}."
    elif retry_in is not None:
        wait = f"The next attempt may start in {math.ceil(retry_in)} s."
        summary = f"{job.message or ''} {wait}".strip()
    return Explanation(summary=summary, position=position, workers=found, retry_in=retry_in)


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
            reason=declined.get(row.id),
        )
        for row in workers.listing(connection)
    ]


def _told(job: Job) -> str:
    """What is to be said of a job that does not wait."""
    if job.status is Status.RUNNING:
        what = _RUNNING.get(job.phase or Phase.EXECUTING, "it runs.")
        return f"It is on {job.worker}, attempt {job.attempt}: {what}"
    if job.status is Status.COMPLETED:
        return f"It completed on {job.worker}, with attempt {job.attempt}."
    how = "failed" if job.status is Status.FAILED else "was cancelled"
    when = f"with attempt {job.attempt}" if job.attempt else "before it ran"
    return f"It {how} {when}. {job.message or ''}".strip()
