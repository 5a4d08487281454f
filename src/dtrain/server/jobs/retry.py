"""A user wants a job to run once more: as a new job, since an end is never taken back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from dtrain.protocol.errors import Invalid
from dtrain.protocol.messages import Job
from dtrain.server.rules.endings import BUNDLE_LOST
from dtrain.server.store import bundles, job_views, jobs

from .idempotency import Submission, earlier, stored_key

if TYPE_CHECKING:
    from dtrain.server.services import Services


def retry(
    services: Services, job_id: int, *, by: str | None, idempotency_key: str | None = None
) -> tuple[Job, bool]:
    """Queue a new job with the same bundle and spec.

    Args:
        services: the server's parts.
        job_id: the job that is to run once more.
        by: who wants it, as far as it is known.
        idempotency_key: chosen by the client; the same key again gives the same job.

    Returns:
        The job, and whether it is new.

    Raises:
        NotFound: there is no such job.
        Invalid: the key is not acceptable, or the bundle is gone.
        Conflict: the key has been used for a different job.
    """
    key = stored_key(idempotency_key, by)

    def work(connection: sa.Connection) -> tuple[Job, bool]:
        model = job_views.get(connection, job_id)
        submission = Submission(model.spec, model.bundle.sha256, retry_of=job_id)
        job = earlier(connection, key, submission)
        if job is not None:
            return job, False
        if bundles.known(connection, model.bundle.sha256) is None:
            raise Invalid(BUNDLE_LOST, code="bundle_lost")
        again = jobs.insert(
            connection,
            model.spec,
            model.bundle.sha256,
            services.clock.time(),
            submitter=by,
            retry_of=job_id,
            idempotency_key=key,
        )
        return job_views.get(connection, again), True

    return services.database.write(work)
