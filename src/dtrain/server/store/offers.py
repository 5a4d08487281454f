"""Offers: jobs that are before a worker's owner, and those that the owner declined."""

from __future__ import annotations

import sqlalchemy as sa

from .schema import offers

_OPEN_OF_WORKER = (
    sa.select(offers.c.job_id)
    .where(offers.c.worker_id == sa.bindparam("worker_id"), offers.c.state == "open")
    .order_by(offers.c.job_id)
)
_WITHDRAW = (
    sa.delete(offers).where(offers.c.state == "open").returning(offers.c.job_id, offers.c.worker_id)
)
_OF_JOB = offers.c.job_id == sa.bindparam("job_id")
_OF_WORKER = offers.c.worker_id == sa.bindparam("worker_id")
_WITHDRAW_OF_JOB = _WITHDRAW.where(_OF_JOB)
_WITHDRAW_OF_WORKER = _WITHDRAW.where(_OF_WORKER)
_WITHDRAW_ONE = _WITHDRAW.where(_OF_JOB, _OF_WORKER)


def open_of_worker(connection: sa.Connection, worker_id: str) -> list[int]:
    """The jobs whose offers are open at the worker, oldest first."""
    return list(connection.execute(_OPEN_OF_WORKER, {"worker_id": worker_id}).scalars())


def open_of_job(connection: sa.Connection, job_id: int) -> list[str]:
    """The workers at which the job's offer is open."""
    return list(
        connection.execute(
            sa.select(offers.c.worker_id).where(offers.c.job_id == job_id, offers.c.state == "open")
        ).scalars()
    )


def all_open(connection: sa.Connection) -> dict[str, list[int]]:
    """The jobs whose offers are open, oldest first, by worker."""
    found: dict[str, list[int]] = {}
    query = sa.select(offers.c.worker_id, offers.c.job_id).where(offers.c.state == "open")
    for worker_id, job_id in connection.execute(query.order_by(offers.c.job_id)):
        found.setdefault(worker_id, []).append(job_id)
    return found


def declined(connection: sa.Connection, job_id: int) -> dict[str, str | None]:
    """The workers whose owner declined the job, with the reasons that were given."""
    rows = connection.execute(
        sa.select(offers.c.worker_id, offers.c.reason).where(
            offers.c.job_id == job_id, offers.c.state == "declined"
        )
    )
    return {row.worker_id: row.reason for row in rows}


def insert(connection: sa.Connection, job_id: int, worker_id: str, now: float) -> None:
    """Open an offer."""
    connection.execute(
        offers.insert().values(job_id=job_id, worker_id=worker_id, state="open", at=now)
    )


def decline(
    connection: sa.Connection, job_id: int, worker_id: str, reason: str | None, now: float
) -> bool:
    """The owner says no; False if the offer is not open."""
    return (
        connection.execute(
            offers.update()
            .where(
                offers.c.job_id == job_id,
                offers.c.worker_id == worker_id,
                offers.c.state == "open",
            )
            .values(state="declined", reason=reason, at=now)
        ).rowcount
        == 1
    )


def withdraw(
    connection: sa.Connection, *, job_id: int | None = None, worker_id: str | None = None
) -> list[tuple[int, str]]:
    """Take back the open offers of a job, of a worker, or of a job at a worker; which they were."""
    if worker_id is None:
        gone = connection.execute(_WITHDRAW_OF_JOB, {"job_id": job_id})
    elif job_id is None:
        gone = connection.execute(_WITHDRAW_OF_WORKER, {"worker_id": worker_id})
    else:
        gone = connection.execute(_WITHDRAW_ONE, {"job_id": job_id, "worker_id": worker_id})
    return [(row.job_id, row.worker_id) for row in gone]
