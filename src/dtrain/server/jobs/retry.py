"""A user wants a job to run once more: as a new job, since an end is never taken back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from dtrain.protocol.messages import Job
from dtrain.server.store import job_views, jobs

if TYPE_CHECKING:
    from dtrain.server.services import Services


def retry(services: Services, job_id: int, *, by: str | None) -> Job:
    """Queue a new job with the same bundle and spec.

    Raises:
        NotFound: there is no such job.
    """

    def work(connection: sa.Connection) -> Job:
        earlier = job_views.get(connection, job_id)
        again = jobs.insert(
            connection,
            earlier.spec,
            earlier.bundle.sha256,
            services.clock.time(),
            submitter=by,
            retry_of=job_id,
        )
        return job_views.get(connection, again)

    return services.database.write(work)
