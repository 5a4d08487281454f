"""How busy workers were: one sample a minute, for a day."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from dtrain.protocol.messages import WorkerMetrics, WorkerSample

from .database import insert_once, moment
from .schema import worker_samples

KEPT = 24 * 60
"""Minutes for which samples are kept."""


def minute_of(now: float) -> int:
    """Which minute it is, counted from the epoch."""
    return int(now // 60)


def add(connection: sa.Connection, worker_id: str, metrics: WorkerMetrics, now: float) -> None:
    """Store a sample, unless the minute has one."""
    encoded = msgspec.json.encode(metrics).decode()
    insert_once(
        connection,
        worker_samples,
        worker_id=worker_id,
        minute=minute_of(now),
        metrics=encoded,
    )


def of_worker(connection: sa.Connection, worker_id: str, now: float) -> list[WorkerSample]:
    """The samples of a worker that are kept, oldest first."""
    rows = connection.execute(
        sa.select(worker_samples.c.minute, worker_samples.c.metrics)
        .where(worker_samples.c.worker_id == worker_id)
        .where(worker_samples.c.minute > minute_of(now) - KEPT)
        .order_by(worker_samples.c.minute)
    )
    return [
        WorkerSample(
            at=moment(row.minute * 60.0),
            metrics=msgspec.json.decode(row.metrics, type=WorkerMetrics),
        )
        for row in rows
    ]


def prune(connection: sa.Connection, now: float) -> None:
    """Throw away the samples that are too old."""
    too_old = worker_samples.c.minute <= minute_of(now) - KEPT
    connection.execute(worker_samples.delete().where(too_old))


def forget(connection: sa.Connection, worker_id: str) -> None:
    """Throw away all samples of a worker."""
    connection.execute(worker_samples.delete().where(worker_samples.c.worker_id == worker_id))
