"""What attempts used of their workers, again and again while they ran."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from dtrain.protocol.worker_messages import AttemptUsage

from .schema import attempt_samples


def add(
    connection: sa.Connection, job_id: int, attempt: int, usage: AttemptUsage, now: float
) -> None:
    """Store a sample."""
    encoded = msgspec.json.encode(usage).decode()
    connection.execute(
        attempt_samples.insert().values(job_id=job_id, attempt=attempt, at=now, usage=encoded)
    )


def of_attempt(
    connection: sa.Connection, job_id: int, attempt: int
) -> list[tuple[float, AttemptUsage]]:
    """The samples of an attempt, oldest first, each with when it was taken."""
    rows = connection.execute(
        sa.select(attempt_samples.c.at, attempt_samples.c.usage)
        .where(attempt_samples.c.job_id == job_id, attempt_samples.c.attempt == attempt)
        .order_by(attempt_samples.c.at)
    )
    return [(row.at, msgspec.json.decode(row.usage, type=AttemptUsage)) for row in rows]
