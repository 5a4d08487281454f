"""A user wants a job forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from dtrain.server.store import attempts, jobs
from dtrain.server.store.database import notice

from . import claim

if TYPE_CHECKING:
    from dtrain.server.services import Services


def delete(services: Services, job_id: int) -> None:
    """Forget a job and all that belongs to it; one that runs is killed, its worker told at once.

    Its bundle and artifacts go later, when no other job needs them (`housekeeping`).

    Raises:
        NotFound: there is no such job.
    """

    def work(connection: sa.Connection) -> None:
        now = services.clock.time()
        jobs.locked(connection, job_id)
        claim.withdraw(connection, now, job_id=job_id)
        for attempt in attempts.open_of_job(connection, job_id):
            notice(connection, claim.topic(attempt.worker_id))
        jobs.delete(connection, job_id, now)

    services.database.write(work)
