"""Jobs: rows, and the one door through which a job's status changes."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from dtrain.protocol.errors import Conflict, NotFound
from dtrain.protocol.messages import BundleInfo
from dtrain.protocol.resources import Request, request_of
from dtrain.protocol.spec import JobSpec
from dtrain.protocol.states import Phase, Reason, Status
from dtrain.server.rules.lifecycle import JobState, Transition
from dtrain.server.rules.scheduling import Waiting

from . import events
from .database import insert_once, notice
from .schema import bundles, job_tags, jobs, offers, requests, workers

_LIFECYCLE = (
    "status",
    "phase",
    "reason",
    "message",
    "attempt",
    "worker_id",
    "cancel",
    "restarts",
    "retries",
    "not_before",
    "exit_code",
    "signal",
    "peak_memory",
    "traceback",
    "started_at",
    "finished_at",
)
"""The columns that are a field of `JobState` as they are."""


KIND = "job"
"""The kind of the topics of jobs."""


_INSERT = jobs.insert().returning(jobs.c.id)
_UPDATE = (
    jobs.update()
    .where(
        jobs.c.id == sa.bindparam("this_job"),
        jobs.c.status == sa.bindparam("this_status"),
        jobs.c.attempt == sa.bindparam("this_attempt"),
        jobs.c.version == sa.bindparam("this_version"),
    )
    .returning(
        jobs.c.request_key,
        sa.select(workers.c.name)
        .where(workers.c.id == jobs.c.worker_id)
        .correlate(jobs)
        .scalar_subquery()
        .label("worker"),
    )
)
_PROGRESS = jobs.update().where(
    jobs.c.id == sa.bindparam("this_job"), jobs.c.attempt == sa.bindparam("this_attempt")
)
_GET = sa.select(jobs).where(jobs.c.id == sa.bindparam("job_id"))
_LOCK = _GET.with_for_update()
_LOCK_IF_FREE = _GET.with_for_update(skip_locked=True)
_LOCK_ALL = (
    sa.select(jobs)
    .where(jobs.c.id.in_(sa.bindparam("job_ids", expanding=True)))
    .order_by(jobs.c.id)
    .with_for_update()
)
_IS_REQUEST = sa.select(requests.c.key).where(requests.c.key == sa.bindparam("key"))
_BY_IDEMPOTENCY_KEY = sa.select(jobs.c.id).where(jobs.c.idempotency_key == sa.bindparam("key"))
_SPEC = (
    sa.select(jobs.c.spec, jobs.c.submitter, bundles)
    .join(bundles, bundles.c.sha256 == jobs.c.bundle_sha256)
    .where(jobs.c.id == sa.bindparam("job_id"))
)
_WITHOUT_BUNDLE = sa.select(jobs.c.id).where(
    jobs.c.id.in_(sa.bindparam("job_ids", expanding=True)),
    ~sa.exists().where(bundles.c.sha256 == jobs.c.bundle_sha256),
)
_WORKER_NAME = sa.select(workers.c.name).where(workers.c.id == sa.bindparam("worker_id"))


def topic(job_id: int) -> str:
    """What is told when a job, its log or its metrics have moved."""
    return f"{KIND}:{job_id}"


def queued_topic(request_key: str) -> str:
    """What is told when a job with such a request has begun to wait."""
    return f"queued:{request_key}"


def progress_topic(job_id: int) -> str:
    """What is told when a job has a new PROGRESS record."""
    return f"progress:{job_id}"


def insert(
    connection: sa.Connection,
    spec: JobSpec,
    bundle_sha256: str,
    now: float,
    *,
    submitter: str | None = None,
    retry_of: int | None = None,
    idempotency_key: str | None = None,
) -> int:
    """Store a new job and return its number."""
    state = JobState(id=0)
    row = _lifecycle_values(state) | {
        "name": spec.name,
        "spec": msgspec.json.encode(spec).decode(),
        "submitter": submitter,
        "bundle_sha256": bundle_sha256,
        "request_key": _request_key(connection, request_of(spec)),
        "priority": spec.priority,
        "retry_of": retry_of,
        "idempotency_key": idempotency_key,
        "created_at": now,
        "version": 0,
    }
    job_id: int = connection.execute(_INSERT, row).scalar_one()
    tags = [{"tag": tag, "job_id": job_id} for tag in dict.fromkeys(spec.tags)]
    if tags:
        connection.execute(job_tags.insert(), tags)
    _announce(connection, "submitted", msgspec.structs.replace(state, id=job_id), None, now)
    notice(connection, queued_topic(str(row["request_key"])))
    return job_id


def apply(connection: sa.Connection, transition: Transition, now: float) -> JobState:
    """Store one step of a job's life, with its event: the only writer of a status.

    Raises:
        Conflict: the job is no longer as the transition found it; nothing is stored.
    """
    before, after = transition.before, transition.after
    which = {
        "this_job": before.id,
        "this_status": before.status,
        "this_attempt": before.attempt,
        "this_version": before.version,
    }
    values = _lifecycle_values(after) | {"version": after.version}
    if after.attempt != before.attempt:
        values |= {"progress": None, "fraction": None}
    stored = connection.execute(_UPDATE, which | values).one_or_none()
    if stored is None:
        raise Conflict(f"Job {before.id} has changed meanwhile; try again.", code="stale")
    _announce(connection, transition.event, after, stored.worker, now)
    if after.status is Status.PENDING and after.phase is Phase.QUEUED:
        notice(connection, queued_topic(stored.request_key))
    return after


def set_progress(
    connection: sa.Connection, job_id: int, attempt: int, record: str, fraction: float | None
) -> None:
    """Keep the latest PROGRESS record of the attempt that counts."""
    which = {"this_job": job_id, "this_attempt": attempt}
    connection.execute(_PROGRESS, which | {"progress": record, "fraction": fraction})
    notice(connection, progress_topic(job_id))


def progress_of(
    connection: sa.Connection, job_ids: Sequence[int]
) -> list[tuple[int, str | None, float | None]]:
    """The latest PROGRESS record of each job, as JSON, and how much is done."""
    rows = connection.execute(
        sa.select(jobs.c.id, jobs.c.progress, jobs.c.fraction).where(jobs.c.id.in_(job_ids))
    )
    return [(row.id, row.progress, row.fraction) for row in rows]


def lock(connection: sa.Connection, job_id: int, *, skip_locked: bool = False) -> JobState | None:
    """A job's state, kept from other writers until the transaction ends.

    Args:
        connection: inside a writing transaction.
        job_id: the job's number.
        skip_locked: give None instead of waiting for another writer.

    Returns:
        None if there is no such job, or another writer has it.
    """
    statement = _LOCK_IF_FREE if skip_locked else _LOCK
    row = connection.execute(statement, {"job_id": job_id}).one_or_none()
    return None if row is None else _state(row)


def lock_all(connection: sa.Connection, job_ids: Collection[int]) -> dict[int, JobState]:
    """Keep jobs from other writers; in the order of their numbers, so that none waits for ever."""
    if not job_ids:
        return {}
    rows = connection.execute(_LOCK_ALL, {"job_ids": list(job_ids)})
    return {row.id: _state(row) for row in rows}


def locked(connection: sa.Connection, job_id: int) -> JobState:
    """As `lock`, for a caller that needs the job.

    Raises:
        NotFound: there is no such job.
    """
    state = lock(connection, job_id)
    if state is None:
        raise missing(job_id)
    return state


def missing(job_id: int) -> NotFound:
    """The error for a number that no job has."""
    return NotFound(f"There is no job {job_id}; `dtrain jobs` lists the ones there are.")


def _kinds() -> sa.Select[Any]:
    """The requests of which a job waits, each found by one step through the index."""
    first = (
        sa.select(sa.func.min(jobs.c.request_key).label("key"))
        .where(jobs.c.status == Status.PENDING)
        .cte("kinds", recursive=True)
    )
    following = (
        sa.select(sa.func.min(jobs.c.request_key))
        .where(jobs.c.status == Status.PENDING, jobs.c.request_key > first.c.key)
        .scalar_subquery()
    )
    kinds = first.union_all(sa.select(following).where(first.c.key.is_not(None)))
    return sa.select(requests.c.key, requests.c.body).join(kinds, kinds.c.key == requests.c.key)


_KINDS = _kinds()
_DECLINED = sa.select(offers.c.job_id).where(
    offers.c.job_id == jobs.c.id,
    offers.c.worker_id == sa.bindparam("worker_id"),
    offers.c.state == "declined",
)
_WAITING = (
    sa.select(jobs.c.id, jobs.c.priority)
    .where(jobs.c.status == Status.PENDING, jobs.c.request_key == sa.bindparam("key"))
    .where(sa.or_(jobs.c.not_before.is_(None), jobs.c.not_before <= sa.bindparam("now")))
    .where(~sa.exists(_DECLINED))
    .order_by(jobs.c.priority.desc(), jobs.c.id)
    .limit(sa.bindparam("limit", type_=sa.Integer))
)


def waiting(connection: sa.Connection, now: float, worker_id: str, per_kind: int) -> list[Waiting]:
    """The first waiting jobs of each kind of request that the worker has not declined."""
    found: list[Waiting] = []
    values = {"now": now, "worker_id": worker_id, "limit": per_kind}
    for key, body in connection.execute(_KINDS).all():
        rows = connection.execute(_WAITING, values | {"key": key})
        request = msgspec.json.decode(body, type=Request)
        found += [Waiting(job_id=row.id, priority=row.priority, request=request) for row in rows]
    return found


def position(connection: sa.Connection, job: Waiting) -> int:
    """How many waiting jobs are served before this one."""
    earlier = sa.or_(
        jobs.c.priority > job.priority,
        sa.and_(jobs.c.priority == job.priority, jobs.c.id < job.job_id),
    )
    return connection.execute(
        sa.select(sa.func.count()).where(jobs.c.status == Status.PENDING, earlier)
    ).scalar_one()


def find_idempotent(connection: sa.Connection, key: str) -> int | None:
    """The job that was submitted with the key; another submission with it waits for this one."""
    if connection.dialect.name == "postgresql":
        lock = int(key[:15], 16)
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(lock)))
    return connection.execute(_BY_IDEMPOTENCY_KEY, {"key": key}).scalar_one_or_none()


def spec_of(connection: sa.Connection, job_id: int) -> tuple[JobSpec, BundleInfo, str | None]:
    """What a worker needs to know of a job: spec, bundle, submitter.

    Raises:
        NotFound: there is no such job, or its bundle is not known any more.
    """
    row = connection.execute(_SPEC, {"job_id": job_id}).one_or_none()
    if row is None:
        raise missing(job_id)
    spec = msgspec.json.decode(row.spec, type=JobSpec)
    return spec, BundleInfo(sha256=row.sha256, size=row.size, files=row.files), row.submitter


def without_bundle(connection: sa.Connection, job_ids: Sequence[int]) -> set[int]:
    """Those of the jobs whose bundle is not known any more: nobody can run them."""
    if not job_ids:
        return set()
    return set(connection.execute(_WITHOUT_BUNDLE, {"job_ids": job_ids}).scalars())


def note_declined(
    connection: sa.Connection, job_id: int, worker_id: str, reason: str | None, now: float
) -> None:
    """Add to a job's history that the owner of a worker declined it."""
    name = connection.execute(_WORKER_NAME, {"worker_id": worker_id}).scalar_one_or_none()
    events.append(
        connection,
        "declined",
        now,
        job_id=job_id,
        worker_id=worker_id,
        worker=name,
        declined_because=reason,
    )
    notice(connection, topic(job_id))


def delete(connection: sa.Connection, job_id: int, now: float) -> None:
    """Forget a job and all that belongs to it.

    Raises:
        NotFound: there is no such job.
    """
    if connection.execute(jobs.delete().where(jobs.c.id == job_id)).rowcount != 1:
        raise missing(job_id)
    events.append(connection, "deleted", now, job_id=job_id)
    notice(connection, topic(job_id))


def request(connection: sa.Connection, key: str) -> Request | None:
    """The request with a key."""
    body = connection.execute(
        sa.select(requests.c.body).where(requests.c.key == key)
    ).scalar_one_or_none()
    return None if body is None else msgspec.json.decode(body, type=Request)


def _request_key(connection: sa.Connection, request: Request) -> str:
    body = msgspec.json.encode(request, order="deterministic").decode()
    key = hashlib.sha256(body.encode()).hexdigest()
    if connection.execute(_IS_REQUEST, {"key": key}).first() is None:
        insert_once(connection, requests, key=key, body=body)
    return key


def _lifecycle_values(state: JobState) -> dict[str, Any]:
    values = {name: getattr(state, name) for name in _LIFECYCLE}
    return values | {"lost_on": msgspec.json.encode(state.lost_on).decode()}


def _state(row: sa.Row[Any]) -> JobState:
    spec = msgspec.json.decode(row.spec, type=JobSpec)
    values = {name: getattr(row, name) for name in _LIFECYCLE}
    values["status"] = Status(row.status)
    values["phase"] = Phase(row.phase) if row.phase else None
    values["reason"] = Reason(row.reason) if row.reason else None
    return JobState(
        id=row.id,
        lost_on=tuple(msgspec.json.decode(row.lost_on, type=list[str])),
        max_retries=spec.max_retries,
        memory_limit=request_of(spec).memory or None,
        time_limit=spec.time_limit,
        version=row.version,
        **values,
    )


def _announce(
    connection: sa.Connection, kind: str, state: JobState, worker: str | None, now: float
) -> None:
    events.append(
        connection,
        kind,
        now,
        job_id=state.id,
        worker_id=state.worker_id,
        status=state.status,
        phase=state.phase,
        reason=state.reason,
        message=state.message,
        attempt=state.attempt,
        worker=worker,
    )
    notice(connection, topic(state.id))
