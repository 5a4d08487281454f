"""What is due by the clock alone: leases that ran out, delays that are over, workers not heard of.

It is asked for every second, also by a server that has nothing to do. So it is one question.
"""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from dtrain.protocol.states import Phase, Status
from dtrain.server.rules.leases import GIVE_UP, LEASE, OFFLINE_AFTER, PATIENCE
from dtrain.server.rules.lifecycle import MAX_DELAY

from .attempts import HOLDING
from .schema import attempts, jobs, offers, workers


class Due(msgspec.Struct, frozen=True):
    """What is due; of each kind some, if there is much."""

    silent: list[tuple[int, int]] = []
    """Job and number of attempts whose lease has run out, and whose jobs do not say so yet."""
    lost: list[tuple[int, int]] = []
    """Job and number of attempts whose lease ran out long ago."""
    overdue: list[tuple[int, int]] = []
    """Job and number of attempts whose end lacks bytes, of which none came for long."""
    retries: list[int] = []
    """Jobs whose delay before a new attempt is over; see `rules.lifecycle.is_due`."""
    unseen: list[str] = []
    """Workers with open offers that were not heard of for long, or have left."""


def _part(kind: str, found: sa.Select[Any], *columns: str) -> sa.Select[Any]:
    rows = found.limit(sa.bindparam("limit", type_=sa.Integer)).subquery()
    number, text = sa.cast(sa.null(), sa.Integer), sa.cast(sa.null(), sa.String)
    given = {name: rows.c[name] for name in columns}
    return sa.select(
        sa.literal(kind).label("kind"),
        given.get("job_id", number).label("job_id"),
        given.get("number", number).label("number"),
        given.get("worker_id", text).label("worker_id"),
    )


_HELD = sa.select(attempts.c.job_id, attempts.c.number).where(attempts.c.state.in_(HOLDING))
_DUE = sa.union_all(
    _part(
        "silent",
        _HELD.join(jobs, jobs.c.id == attempts.c.job_id)
        .where(attempts.c.lease_until < sa.bindparam("now"), jobs.c.phase != Phase.UNREACHABLE)
        .order_by(attempts.c.lease_until),
        *("job_id", "number"),
    ),
    _part(
        "lost",
        _HELD.where(attempts.c.lease_until < sa.bindparam("lease_before"))
        .order_by(attempts.c.lease_until),
        *("job_id", "number"),
    ),
    _part(
        "overdue",
        sa.select(attempts.c.job_id, attempts.c.number)
        .where(attempts.c.state == "finishing", attempts.c.finish_at < sa.bindparam("byte_before")),
        *("job_id", "number"),
    ),
    _part(
        "retries",
        sa.select(jobs.c.id.label("job_id"))
        .where(jobs.c.status == Status.PENDING)
        .where(
            sa.or_(
                jobs.c.not_before <= sa.bindparam("now"), jobs.c.not_before > sa.bindparam("latest")
            )
        ),
        "job_id",
    ),
    _part(
        "unseen",
        sa.select(workers.c.id.label("worker_id"))
        .join(offers, offers.c.worker_id == workers.c.id)
        .where(offers.c.state == "open")
        .where(sa.or_(workers.c.last_seen < sa.bindparam("seen_before"), workers.c.left))
        .distinct(),
        "worker_id",
    ),
)  # fmt: skip


def due(connection: sa.Connection, now: float, limit: int) -> Due:
    """What is due now, of each kind so many at most."""
    values = {
        "now": now,
        "limit": limit,
        "latest": now + MAX_DELAY,
        "lease_before": now - GIVE_UP + LEASE,
        "byte_before": now - PATIENCE,
        "seen_before": now - OFFLINE_AFTER,
    }
    found: dict[str, list[Any]] = {}
    for row in connection.execute(_DUE, values):
        job = row.job_id if row.number is None else (row.job_id, row.number)
        found.setdefault(row.kind, []).append(row.worker_id or job)
    return Due(**found)
