"""Attempts: who runs what, under which lease, and how far its log has come."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from dtrain.protocol.resources import Request
from dtrain.protocol.states import Status
from dtrain.protocol.worker_messages import Finish
from dtrain.server.rules.leases import EXTENSION, PATIENCE

from .schema import attempts, jobs, requests

AttemptState = Literal["assigned", "live", "lost", "finishing", "ended"]

HOLDING: tuple[AttemptState, ...] = ("assigned", "live")
"""The states in which an attempt takes up its worker's resources."""
OPEN: tuple[AttemptState, ...] = ("assigned", "live", "lost", "finishing")


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One execution of a job on one worker."""

    job_id: int
    number: int
    worker_id: str
    secret_hash: str
    state: AttemptState
    lease_until: float
    """Seconds since the epoch."""
    told_cancel: int
    """The strongest cancel that has been sent to the worker."""
    claimed_at: float
    finish: Finish | None
    finish_at: float | None
    """When the end was reported, or the latest that belongs to it came."""
    log_bytes: int
    log_lines: int
    log_carry: bytes
    """The bytes since the last newline, as far as they can still become a record."""
    metric_records: int
    sampled_at: float | None
    """When the latest sample of what it uses was taken."""


class Standing(msgspec.Struct, frozen=True):
    """An attempt, and how it stands with its job."""

    attempt: Attempt
    runs: bool
    """Whether it is the one by which the job runs."""
    cancel: int
    """How strongly the job's end has been asked for."""


class Taken(msgspec.Struct, frozen=True):
    """What an attempt takes up at its worker."""

    job_id: int
    number: int
    request: Request
    cancel: int
    """How strongly the job's end has been asked for."""


def hash_secret(secret: str) -> str:
    """How a secret is stored. It is random and long, so a plain hash is enough."""
    return hashlib.sha256(secret.encode()).hexdigest()


_INSERT = attempts.insert()
_GET = sa.select(attempts).where(
    attempts.c.job_id == sa.bindparam("job_id"), attempts.c.number == sa.bindparam("number")
)
_LOCK = _GET.with_for_update()
_BY_SECRET = sa.select(attempts).where(
    attempts.c.secret_hash == sa.bindparam("secret_hash"),
    attempts.c.worker_id == sa.bindparam("worker_id"),
)
_OF_WORKER = (
    sa.select(attempts)
    .where(
        attempts.c.worker_id == sa.bindparam("worker_id"),
        attempts.c.state.in_(sa.bindparam("states", expanding=True)),
    )
    .order_by(attempts.c.claimed_at)
)
_JOBS_OF_WORKER = sa.select(attempts.c.job_id).where(
    attempts.c.worker_id == sa.bindparam("worker_id"), attempts.c.state.in_(OPEN)
)
_STANDINGS = (
    sa.select(
        attempts,
        jobs.c.status.label("job_status"),
        jobs.c.attempt.label("job_attempt"),
        jobs.c.cancel,
    )
    .join(jobs, jobs.c.id == attempts.c.job_id)
    .where(attempts.c.job_id.in_(sa.bindparam("job_ids", expanding=True)))
)
_OPEN_OF_JOB = sa.select(attempts).where(
    attempts.c.job_id == sa.bindparam("job_id"), attempts.c.state.in_(OPEN)
)
_TAKEN_OF = (
    sa.select(attempts.c.job_id, attempts.c.number, requests.c.body, jobs.c.cancel)
    .select_from(attempts)
    .join(jobs, jobs.c.id == attempts.c.job_id)
    .join(requests, requests.c.key == jobs.c.request_key)
    .where(attempts.c.worker_id == sa.bindparam("worker_id"), attempts.c.state.in_(HOLDING))
)
_UPDATE = attempts.update().where(
    attempts.c.job_id == sa.bindparam("this_job"), attempts.c.number == sa.bindparam("this_number")
)
_UPDATE_FINISHING = _UPDATE.where(attempts.c.state == "finishing")


def insert(
    connection: sa.Connection,
    job_id: int,
    number: int,
    worker_id: str,
    secret: str,
    now: float,
    lease: float,
) -> None:
    """Store a new attempt, assigned to the worker."""
    connection.execute(
        _INSERT,
        {
            "job_id": job_id,
            "number": number,
            "worker_id": worker_id,
            "secret_hash": hash_secret(secret),
            "state": "assigned",
            "lease_until": now + lease,
            "told_cancel": 0,
            "claimed_at": now,
            "log_bytes": 0,
            "log_lines": 0,
            "log_carry": b"",
            "metric_records": 0,
            "log_sealed": False,
        },
    )


def get(connection: sa.Connection, job_id: int, number: int) -> Attempt | None:
    """One attempt, or None."""
    row = connection.execute(_GET, {"job_id": job_id, "number": number}).one_or_none()
    return None if row is None else _attempt(row)


def lock(connection: sa.Connection, job_id: int, number: int) -> Attempt | None:
    """As `get`, and no other writer touches it until the transaction ends."""
    row = connection.execute(_LOCK, {"job_id": job_id, "number": number}).one_or_none()
    return None if row is None else _attempt(row)


def by_secret(connection: sa.Connection, worker_id: str, secret: str) -> Attempt | None:
    """The attempt of the worker that was claimed with the secret."""
    values = {"secret_hash": hash_secret(secret), "worker_id": worker_id}
    row = connection.execute(_BY_SECRET, values).one_or_none()
    return None if row is None else _attempt(row)


def of_worker(
    connection: sa.Connection, worker_id: str, states: tuple[AttemptState, ...]
) -> list[Attempt]:
    """The worker's attempts that are in one of the states, oldest first."""
    rows = connection.execute(_OF_WORKER, {"worker_id": worker_id, "states": states})
    return [_attempt(row) for row in rows]


def jobs_of_worker(connection: sa.Connection, worker_id: str) -> set[int]:
    """The jobs of the worker's attempts that have not ended."""
    return set(connection.execute(_JOBS_OF_WORKER, {"worker_id": worker_id}).scalars())


def standings(
    connection: sa.Connection, job_ids: Collection[int]
) -> dict[tuple[int, int], Standing]:
    """All attempts of the jobs, by job and number."""
    return {
        (row.job_id, row.number): Standing(
            _attempt(row),
            runs=row.job_status == Status.RUNNING and row.job_attempt == row.number,
            cancel=row.cancel,
        )
        for row in connection.execute(_STANDINGS, {"job_ids": list(job_ids)})
    }


def open_of_job(connection: sa.Connection, job_id: int) -> list[Attempt]:
    """The job's attempts that have not ended."""
    return [_attempt(row) for row in connection.execute(_OPEN_OF_JOB, {"job_id": job_id})]


def numbers(connection: sa.Connection, job_id: int) -> list[int]:
    """The numbers of a job's attempts, the latest last."""
    return list(
        connection.execute(
            sa.select(attempts.c.number)
            .where(attempts.c.job_id == job_id)
            .order_by(attempts.c.number)
        ).scalars()
    )


def taken(connection: sa.Connection) -> dict[str, list[tuple[int, Request]]]:
    """For each worker the jobs that take up its resources, with what they asked for."""
    rows = connection.execute(
        sa.select(attempts.c.worker_id, attempts.c.job_id, requests.c.body)
        .join(jobs, jobs.c.id == attempts.c.job_id)
        .join(requests, requests.c.key == jobs.c.request_key)
        .where(attempts.c.state.in_(HOLDING))
        .order_by(attempts.c.job_id)
    )
    found: dict[str, list[tuple[int, Request]]] = {}
    for worker_id, job_id, body in rows:
        request = msgspec.json.decode(body, type=Request)
        found.setdefault(worker_id, []).append((job_id, request))
    return found


def taken_of(connection: sa.Connection, worker_id: str) -> list[Taken]:
    """What the attempts at one worker take up."""
    rows = connection.execute(_TAKEN_OF, {"worker_id": worker_id})
    return [
        Taken(row.job_id, row.number, msgspec.json.decode(row.body, type=Request), row.cancel)
        for row in rows
    ]


def update(connection: sa.Connection, attempt: Attempt, **values: Any) -> None:
    """Change columns of an attempt."""
    which = {"this_job": attempt.job_id, "this_number": attempt.number}
    connection.execute(_UPDATE, which | values)


def end(connection: sa.Connection, attempt: Attempt, now: float) -> None:
    """The attempt is over for good."""
    update(connection, attempt, state="ended", ended_at=now)


def note_arrival(connection: sa.Connection, job_id: int, number: int, now: float) -> None:
    """Something came of what an attempt's reported end waits for."""
    which = {"this_job": job_id, "this_number": number}
    connection.execute(_UPDATE_FINISHING, which | {"finish_at": now})


def unsealed(connection: sa.Connection, limit: int) -> list[tuple[int, int]]:
    """Job and number of ended attempts whose log lies in the database."""
    rows = connection.execute(
        sa.select(attempts.c.job_id, attempts.c.number)
        .where(attempts.c.log_sealed.is_(False), attempts.c.state == "ended")
        .limit(limit)
    )
    return [(row.job_id, row.number) for row in rows]


def extend_leases(connection: sa.Connection, now: float) -> int:
    """Give every worker some time to show itself; to how many attempts that was given.

    No lease ends before, nor any patience with a reported end, and none lasts for hours because
    the clock was set back.
    """
    leases = connection.execute(
        attempts.update().where(attempts.c.state.in_(HOLDING)).values(lease_until=now + EXTENSION)
    )
    latest = now + EXTENSION - PATIENCE
    ends = connection.execute(
        attempts.update()
        .where(attempts.c.state == "finishing")
        .where(sa.or_(attempts.c.finish_at < latest, attempts.c.finish_at > now))
        .values(finish_at=latest)
    )
    return leases.rowcount + ends.rowcount


def _attempt(row: sa.Row[Any]) -> Attempt:
    return Attempt(
        job_id=row.job_id,
        number=row.number,
        worker_id=row.worker_id,
        secret_hash=row.secret_hash,
        state=row.state,
        lease_until=row.lease_until,
        told_cancel=row.told_cancel,
        claimed_at=row.claimed_at,
        finish=msgspec.json.decode(row.finish, type=Finish) if row.finish else None,
        finish_at=row.finish_at,
        log_bytes=row.log_bytes,
        log_lines=row.log_lines,
        log_carry=bytes(row.log_carry),
        metric_records=row.metric_records,
        sampled_at=row.sampled_at,
    )
