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
from .schema import artifacts, attempts, bundles, checkpoints, jobs, workers


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
            sa.func.coalesce(bundles.c.size, 0).label("bundle_size"),
            sa.func.coalesce(bundles.c.files, 0).label("bundle_files"),
            left_behind.label("artifact_count"),
            checkpoints.c.generation.label("checkpoint"),
            checkpoints.c.attempt.label("checkpoint_attempt"),
            checkpoints.c.files.label("checkpoint_files"),
            checkpoints.c.size.label("checkpoint_size"),
            checkpoints.c.taken_at.label("checkpoint_taken_at"),
        )
        .outerjoin(bundles, bundles.c.sha256 == jobs.c.bundle_sha256)
        .outerjoin(workers, workers.c.id == jobs.c.worker_id)
        .outerjoin(
            attempts, sa.and_(attempts.c.job_id == jobs.c.id, attempts.c.number == jobs.c.attempt)
        )
        .outerjoin(
            checkpoints,
            sa.and_(checkpoints.c.job_id == jobs.c.id, checkpoints.c.generation == newest),
        )
    )


_VIEW = _view()
_BY_ID = _VIEW.where(jobs.c.id == sa.bindparam("job_id"))
_BY_IDS = _VIEW.where(jobs.c.id.in_(sa.bindparam("job_ids", expanding=True))).order_by(jobs.c.id)


def get(connection: sa.Connection, job_id: int) -> Job:
    """A job as the API shows it.

    Raises:
        NotFound: there is no such job.
    """
    row = connection.execute(_BY_ID, {"job_id": job_id}).one_or_none()
    if row is None:
        raise missing(job_id)
    return _job(row)


def of_ids(connection: sa.Connection, job_ids: Sequence[int]) -> list[Job]:
    """Those of the jobs that there are, oldest first."""
    return [_job(row) for row in connection.execute(_BY_IDS, {"job_ids": job_ids})]


def of_query(
    connection: sa.Connection,
    matching: sa.Select[Any],
    order: Sequence[sa.ColumnElement[Any]],
    limit: int,
) -> list[Job]:
    """The first of the jobs whose numbers a query gives, in an order."""
    query = _VIEW.where(jobs.c.id.in_(matching)).order_by(*order).limit(limit)
    return [_job(row) for row in connection.execute(query)]


def counts(connection: sa.Connection, most: int | None = None) -> dict[str, int]:
    """How many jobs there are in each status, zeros included.

    Args:
        connection: a reading one.
        most: how far to count at most, so that it takes no longer with more jobs.
    """
    if most is not None:
        each = [sa.select(jobs.c.id).where(jobs.c.status == one).limit(most) for one in Status]
        numbers = [sa.select(sa.func.count()).select_from(one.subquery()) for one in each]
        row = connection.execute(sa.select(*(one.scalar_subquery() for one in numbers))).one()
        return dict(zip(map(str, Status), row, strict=True))
    rows = connection.execute(sa.select(jobs.c.status, sa.func.count()).group_by(jobs.c.status))
    return dict.fromkeys(map(str, Status), 0) | {row[0]: row[1] for row in rows}


def not_before(connection: sa.Connection, job_id: int) -> float | None:
    """When a job that waits for its next attempt may have it; None for any other."""
    return connection.execute(
        sa.select(jobs.c.not_before).where(jobs.c.id == job_id)
    ).scalar_one_or_none()


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
