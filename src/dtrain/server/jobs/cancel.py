"""A user wants a job to end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from dtrain.protocol.messages import Job
from dtrain.server.rules.lifecycle import CancelAsked, advance
from dtrain.server.store import events, job_views, jobs
from dtrain.server.store.database import notice

from . import claim

if TYPE_CHECKING:
    from dtrain.server.services import Services


def cancel(services: Services, job_id: int, *, by: str | None) -> Job:
    """End a job: one that waits at once, one that runs as soon as nothing of it is left.

    Repeating it on a job that is being cancelled takes away its time to end by itself. A job that
    has ended is left as it is.

    Raises:
        NotFound: there is no such job.
    """

    def work(connection: sa.Connection) -> Job:
        state = jobs.locked(connection, job_id)
        now = services.clock.time()
        transition = advance(state, CancelAsked(), now)
        if transition is not None:
            events.append(connection, "cancel_asked", now, job_id=job_id, by=by)
            after = jobs.apply(connection, transition, now)
            claim.withdraw(connection, now, job_id=job_id)
            if after.worker_id is not None:
                notice(connection, claim.topic(after.worker_id))
        return job_views.get(connection, job_id)

    return services.database.write(work)
