"""Jobs as the API shows them: the row, with what belongs to it from other tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from dtrain.protocol.messages import BundleInfo, CheckpointInfo, Job
from dtrain.protocol.spec import JobSpec
from dtrain.protocol.states import Phase, Reason, Status

from .database import moment
from .jobs import missing
from .schema import artifacts, attempts, bundles, checkpoints, job_tags, jobs, workers

_MANY = 1000
"""Jobs with a tag beyond which it does not matter how many there are."""


def get(connection: sa.Connection, job_id: int) -> Job:
    """A job as the API shows it.

    Raises:
        NotFound: there is no such job.
    """
    row = connection.execute(_view().where(jobs.c.id == job_id)).one_or_none()
    if row is None:
        raise missing(job_id)
    return _job(row)


def of_ids(connection: sa.Connection, job_ids: Sequence[int]) -> list[Job]:
    """Those of the jobs that there are, oldest first."""
    query = _view().where(jobs.c.id.in_(job_ids)).order_by(jobs.c.id)
    return [_job(row) for row in connection.execute(query)]


def page(
    connection: sa.Connection,
    *,
    status: Sequence[Status] = (),
    tags: Sequence[str] = (),
    worker: str | None = None,
    submitter: str | None = None,
    text: str | None = None,
    before: int | None = None,
    limit: int,
) -> list[Job]:
    """Jobs, newest first: those that match every filter given, with numbers below `before`."""
    where: list[sa.ColumnElement[bool]] = []
    if worker:
        named = sa.or_(workers.c.id == worker, workers.c.name == worker)
        ids = connection.execute(sa.select(workers.c.id).where(named)).scalars().all()
        where.append(jobs.c.worker_id.in_(ids))
    if submitter:
        where.append(jobs.c.submitter == submitter)
    if text:
        where.append(jobs.c.name.icontains(text, autoescape=True))
    matching = (
        _tagged(_rarest_first(connection, tags), status, where, before, limit)
        if tags
        else _by_status(status, where, before, limit)
    )
    query = _view().where(jobs.c.id.in_(matching)).order_by(jobs.c.id.desc())
    return [_job(row) for row in connection.execute(query)]


def _rarest_first(connection: sa.Connection, tags: Sequence[str]) -> list[str]:
    """The tags in the order of how many jobs carry them, as far as that needs to be known."""
    if len(tags) < 2:
        return list(tags)

    def carriers(tag: str) -> int:
        some = sa.select(job_tags.c.job_id).where(job_tags.c.tag == tag).limit(_MANY)
        return connection.execute(
            sa.select(sa.func.count()).select_from(some.subquery())
        ).scalar_one()

    return sorted(tags, key=carriers)


def _tagged(
    tags: Sequence[str],
    status: Sequence[Status],
    where: Sequence[sa.ColumnElement[bool]],
    before: int | None,
    limit: int,
) -> sa.Select[Any]:
    """The newest jobs that carry all of the tags, found from the first of these."""
    first, *others = tags
    query = (
        sa.select(job_tags.c.job_id)
        .join(jobs, jobs.c.id == job_tags.c.job_id)
        .where(job_tags.c.tag == first, *where)
        .order_by(job_tags.c.job_id.desc())
        .limit(limit)
    )
    for tag in others:
        other = job_tags.alias()
        query = query.where(
            sa.exists().where(other.c.tag == tag, other.c.job_id == job_tags.c.job_id)
        )
    if status:
        query = query.where(jobs.c.status.in_(status))
    return query if before is None else query.where(job_tags.c.job_id < before)


def _by_status(
    status: Sequence[Status],
    where: Sequence[sa.ColumnElement[bool]],
    before: int | None,
    limit: int,
) -> sa.Select[Any]:
    """The newest jobs, with several statuses those of each: every part is read off an index."""

    def newest(*more: sa.ColumnElement[bool]) -> sa.Select[Any]:
        query = sa.select(jobs.c.id).where(*where, *more).order_by(jobs.c.id.desc()).limit(limit)
        return query if before is None else query.where(jobs.c.id < before)

    if len(status) < 2:
        return newest(*(jobs.c.status == one for one in status))
    parts = [sa.select(newest(jobs.c.status == one).subquery().c.id) for one in status]
    either = sa.union_all(*parts).subquery()
    return sa.select(either.c.id).order_by(either.c.id.desc()).limit(limit)


def counts(connection: sa.Connection) -> dict[str, int]:
    """How many jobs there are in each status, zeros included."""
    rows = connection.execute(sa.select(jobs.c.status, sa.func.count()).group_by(jobs.c.status))
    return dict.fromkeys(map(str, Status), 0) | {row[0]: row[1] for row in rows}


def not_before(connection: sa.Connection, job_id: int) -> float | None:
    """When a job that waits for its next attempt may have it; None for any other."""
    return connection.execute(
        sa.select(jobs.c.not_before).where(jobs.c.id == job_id)
    ).scalar_one_or_none()


def _view() -> sa.Select[Any]:
    left_behind = (
        sa.select(sa.func.count())
        .where(artifacts.c.job_id == jobs.c.id, artifacts.c.attempt == jobs.c.attempt)
        .scalar_subquery()
    )
    kept = checkpoints.alias()
    newest = (
        sa.select(sa.func.max(kept.c.generation))
        .where(kept.c.job_id == jobs.c.id, kept.c.dropped_at.is_(None))
        .correlate(jobs)
        .scalar_subquery()
    )
    return (
        sa.select(
            jobs,
            workers.c.name.label("worker_name"),
            attempts.c.log_bytes,
            bundles.c.size.label("bundle_size"),
            bundles.c.files.label("bundle_files"),
            left_behind.label("artifact_count"),
            checkpoints.c.generation.label("checkpoint"),
            checkpoints.c.attempt.label("checkpoint_attempt"),
            checkpoints.c.files.label("checkpoint_files"),
            checkpoints.c.size.label("checkpoint_size"),
            checkpoints.c.taken_at.label("checkpoint_taken_at"),
        )
        .join(bundles, bundles.c.sha256 == jobs.c.bundle_sha256)
        .outerjoin(workers, workers.c.id == jobs.c.worker_id)
        .outerjoin(
            attempts, sa.and_(attempts.c.job_id == jobs.c.id, attempts.c.number == jobs.c.attempt)
        )
        .outerjoin(
            checkpoints,
            sa.and_(checkpoints.c.job_id == jobs.c.id, checkpoints.c.generation == newest),
        )
    )


def _job(row: sa.Row[Any]) -> Job:
    return Job(
        id=row.id,
        name=row.name,
        status=Status(row.status),
        phase=Phase(row.phase) if row.phase else None,
        reason=Reason(row.reason) if row.reason else None,
        message=row.message,
        attempt=row.attempt,
        worker=row.worker_name,
        worker_id=row.worker_id,
        progress=msgspec.json.decode(row.progress) if row.progress else None,
        fraction=row.fraction,
        exit_code=row.exit_code,
        signal=row.signal,
        peak_memory=row.peak_memory,
        traceback=row.traceback,
        log_bytes=row.log_bytes or 0,
        artifacts=row.artifact_count,
        cancel_requested=row.cancel > 0,
        retry_of=row.retry_of,
        submitter=row.submitter,
        spec=msgspec.json.decode(row.spec, type=JobSpec),
        bundle=BundleInfo(sha256=row.bundle_sha256, size=row.bundle_size, files=row.bundle_files),
        created_at=moment(row.created_at),
        started_at=moment(row.started_at) if row.started_at else None,
        finished_at=moment(row.finished_at) if row.finished_at else None,
        checkpoint=_checkpoint(row),
    )


def _checkpoint(row: sa.Row[Any]) -> CheckpointInfo | None:
    if row.checkpoint is None:
        return None
    return CheckpointInfo(
        generation=row.checkpoint,
        attempt=row.checkpoint_attempt,
        files=row.checkpoint_files,
        size=row.checkpoint_size,
        taken_at=moment(row.checkpoint_taken_at),
    )
