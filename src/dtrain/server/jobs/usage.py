"""What a job has used of its worker while it ran, beside what it might have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dtrain.protocol.errors import NotFound
from dtrain.protocol.messages import JobUsage
from dtrain.protocol.resources import Capacity, request_of
from dtrain.server.rules.usage import thinned
from dtrain.server.store import attempt_samples, job_views, workers
from dtrain.server.store.database import moment

from .logs import attempt_of

if TYPE_CHECKING:
    import sqlalchemy as sa

    from dtrain.server.services import Services

MAX_SAMPLES = 2_000
"""Samples that are given at most."""


def usage(
    services: Services, job_id: int, *, attempt: int | None = None, points: int = MAX_SAMPLES
) -> JobUsage:
    """What an attempt has used so far.

    Args:
        services: the server's parts.
        job_id: the job's number.
        attempt: the attempt's; the latest if none is given.
        points: how many samples are wanted at most; 0 leaves them out.

    Raises:
        NotFound: there is no such job or attempt.
    """
    with services.database.read() as connection:
        found = attempt_of(connection, job_id, attempt)
        if found is None:
            return JobUsage(attempt=0, began=None, cpus=None, memory=None, samples=[])
        wanted = request_of(job_views.get(connection, job_id).spec)
        capacity = _capacity(connection, found.worker_id)
        taken = attempt_samples.of_attempt(connection, job_id, found.number) if points else []
    own_limit = found.finish.memory_limit if found.finish else None
    return JobUsage(
        attempt=found.number,
        began=moment(found.claimed_at),
        cpus=wanted.cpus or (capacity.cpus if capacity else None),
        memory=own_limit or wanted.memory or (capacity.memory if capacity else None),
        samples=list(thinned(taken, found.claimed_at, max(points, 1))),
    )


def _capacity(connection: sa.Connection, worker_id: str) -> Capacity | None:
    """What the worker has for jobs; None of one that was forgotten."""
    try:
        return workers.get(connection, worker_id).capacity
    except NotFound:
        return None
