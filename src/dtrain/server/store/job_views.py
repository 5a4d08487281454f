"""Jobs as the API shows them: the row, with what belongs to it from other tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from dtrain.protocol.messages import BundleInfo, Job
from dtrain.protocol.spec import JobSpec
from dtrain.protocol.states import Phase, Reason, Status

from .database import moment
from .jobs import missing
from .schema import artifacts, attempts, bundles, job_tags, jobs, workers


def get(connection: sa.Connection, job_id: int) -> Job:
    """A job as the API shows it.

    Raises:
        NotFound: there is no such job.
    """
    row = connection.execute(_view().where(jobs.c.id == job_id)).one_or_none()
    if row is None:
        raise missing(job_id)
    return _job(row)


def page(
    connection: sa.Connection,
    *,
    status: Sequence[Status],
    tag: str | None,
    worker: str | None,
    text: str | None,
    before: int | None,
    limit: int,
) -> list[Job]:
    """Jobs, newest first: those that match every filter given, with numbers below `before`."""
    query = _view()
    if status:
        query = query.where(jobs.c.status.in_(status))
    if tag:
        query = query.where(
            jobs.c.id.in_(sa.select(job_tags.c.job_id).where(job_tags.c.tag == tag))
        )
    if worker:
        named = sa.select(workers.c.id).where(
            sa.or_(workers.c.id == worker, workers.c.name == worker)
        )
        query = query.where(jobs.c.worker_id.in_(named))
    if text:
        query = query.where(jobs.c.name.icontains(text, autoescape=True))
    if before is not None:
        query = query.where(jobs.c.id < before)
    return [_job(row) for row in connection.execute(query.order_by(jobs.c.id.desc()).limit(limit))]


def counts(connection: sa.Connection) -> dict[str, int]:
    """How many jobs there are in each status, zeros included."""
    rows = connection.execute(sa.select(jobs.c.status, sa.func.count()).group_by(jobs.c.status))
    return dict.fromkeys(map(str, Status), 0) | {row[0]: row[1] for row in rows}


def _view() -> sa.Select[Any]:
    left_behind = (
        sa.select(sa.func.count())
        .where(artifacts.c.job_id == jobs.c.id, artifacts.c.attempt == jobs.c.attempt)
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
        )
        .join(bundles, bundles.c.sha256 == jobs.c.bundle_sha256)
        .outerjoin(workers, workers.c.id == jobs.c.worker_id)
        .outerjoin(
            attempts, sa.and_(attempts.c.job_id == jobs.c.id, attempts.c.number == jobs.c.attempt)
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
    )
