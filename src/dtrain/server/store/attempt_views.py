"""Attempts as people look at them: who ran a job when, and what its worker said of the end."""

from __future__ import annotations

from datetime import datetime

import msgspec
import sqlalchemy as sa

from dtrain.protocol.worker_messages import Finish

from .attempts import AttemptState
from .database import moment
from .schema import attempts, workers


class AttemptView(msgspec.Struct, frozen=True, kw_only=True):
    """One execution of a job."""

    number: int
    worker_id: str
    worker: str | None
    """Its name; None of a worker that was forgotten."""
    state: AttemptState
    claimed_at: datetime
    ended_at: datetime | None
    """When it was over for the server."""
    finish: Finish | None
    """How it ended, by its worker's word."""
    log_bytes: int


def of_job(connection: sa.Connection, job_id: int) -> list[AttemptView]:
    """A job's attempts, the latest first."""
    rows = connection.execute(
        sa.select(
            attempts.c.number,
            attempts.c.worker_id,
            workers.c.name,
            attempts.c.state,
            attempts.c.claimed_at,
            attempts.c.ended_at,
            attempts.c.finish,
            attempts.c.log_bytes,
        )
        .outerjoin(workers, workers.c.id == attempts.c.worker_id)
        .where(attempts.c.job_id == job_id)
        .order_by(attempts.c.number.desc())
    )
    return [
        AttemptView(
            number=row.number,
            worker_id=row.worker_id,
            worker=row.name,
            state=row.state,
            claimed_at=moment(row.claimed_at),
            ended_at=moment(row.ended_at) if row.ended_at else None,
            finish=msgspec.json.decode(row.finish, type=Finish) if row.finish else None,
            log_bytes=row.log_bytes,
        )
        for row in rows
    ]
