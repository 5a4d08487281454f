"""The record of every change: what the live stream shows and what an auditor reads."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec
import sqlalchemy as sa

from dtrain.protocol.messages import Event

from .database import moment, notice
from .schema import events

TOPIC = "events"
"""Told after every commit that holds an event."""
_LOCK = 0x445452  # any number, the same in every process
_TAKE_TURN = sa.select(sa.func.pg_advisory_xact_lock(_LOCK))
_INSERT = events.insert()
_AFTER = (
    sa.select(events)
    .where(events.c.id > sa.bindparam("event_id"))
    .order_by(events.c.id)
    .limit(sa.bindparam("limit", type_=sa.Integer))
)


def append(
    connection: sa.Connection,
    kind: str,
    now: float,
    *,
    job_id: int | None = None,
    worker_id: str | None = None,
    **data: Any,
) -> None:
    """Add an event. Ids rise in the order of the commits, so that a reader by id misses none."""
    if connection.dialect.name == "postgresql":
        # Ids are drawn before commits: without the lock a lower one could appear after a higher.
        connection.execute(_TAKE_TURN)
    connection.execute(
        _INSERT,
        {
            "kind": kind,
            "job_id": job_id,
            "worker_id": worker_id,
            "at": now,
            "data": msgspec.json.encode(data).decode(),
        },
    )
    notice(connection, TOPIC)


def after(connection: sa.Connection, event_id: int, limit: int) -> list[Event]:
    """The events that follow an id, oldest first."""
    rows = connection.execute(_AFTER, {"event_id": event_id, "limit": limit})
    return [_event(row) for row in rows]


def of_job(connection: sa.Connection, job_id: int, limit: int) -> list[Event]:
    """The events of one job, oldest first."""
    rows = connection.execute(
        sa.select(events).where(events.c.job_id == job_id).order_by(events.c.id).limit(limit)
    )
    return [_event(row) for row in rows]


def before(connection: sa.Connection, job_id: int, event_id: int | None, limit: int) -> list[Event]:
    """The events of one job that came before an id, the latest first; None begins at the end."""
    chosen = sa.select(events).where(events.c.job_id == job_id)
    if event_id is not None:
        chosen = chosen.where(events.c.id < event_id)
    return [
        _event(row) for row in connection.execute(chosen.order_by(events.c.id.desc()).limit(limit))
    ]


def of_job_and_kinds(connection: sa.Connection, job_id: int, kinds: Collection[str]) -> list[Event]:
    """The events of one job that are of some kinds, oldest first."""
    rows = connection.execute(
        sa.select(events)
        .where(events.c.job_id == job_id, events.c.kind.in_(kinds))
        .order_by(events.c.id)
    )
    return [_event(row) for row in rows]


def last_of_job(connection: sa.Connection, job_id: int) -> int:
    """The id of a job's latest event; 0 if it has none."""
    return (
        connection.execute(
            sa.select(sa.func.max(events.c.id)).where(events.c.job_id == job_id)
        ).scalar_one()
        or 0
    )


def bounds(connection: sa.Connection) -> tuple[int, int]:
    """The lowest and the highest id that are there; (0, 0) where there is none."""
    row = connection.execute(sa.select(sa.func.min(events.c.id), sa.func.max(events.c.id))).one()
    return row[0] or 0, row[1] or 0


def exists(connection: sa.Connection, event_id: int) -> bool:
    """Whether an event is there."""
    found = sa.select(events.c.id).where(events.c.id == event_id)
    return connection.execute(found).one_or_none() is not None


def prune(connection: sa.Connection, before: float, limit: int) -> int:
    """Forget events of jobs that ended long ago, and of workers; how many went."""
    old = sa.select(events.c.id).where(events.c.at < before).order_by(events.c.id).limit(limit)
    return connection.execute(events.delete().where(events.c.id.in_(old))).rowcount


def _event(row: sa.Row[Any]) -> Event:
    return Event(
        id=row.id,
        kind=row.kind,
        job_id=row.job_id,
        worker_id=row.worker_id,
        at=moment(row.at),
        data=msgspec.json.decode(row.data),
    )
