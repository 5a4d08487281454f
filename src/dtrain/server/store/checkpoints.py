"""Checkpoints: generations of what jobs need to go on elsewhere; their contents are blobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from dtrain.protocol.messages import Checkpoint, CheckpointFile
from dtrain.protocol.states import FINAL
from dtrain.protocol.worker_messages import CheckpointFileInfo

from .database import moment
from .schema import checkpoint_files, checkpoints, jobs

KEPT = 2
"""Generations of a job that are kept: should one be damaged, there is the one before."""


_DROP = checkpoints.update().where(
    checkpoints.c.job_id == sa.bindparam("this_job"), checkpoints.c.dropped_at.is_(None)
)
_DROP_BEFORE = _DROP.where(checkpoints.c.generation < sa.bindparam("before"))


def put(
    connection: sa.Connection,
    job_id: int,
    generation: int,
    attempt: int,
    files: Sequence[CheckpointFileInfo],
    now: float,
) -> None:
    """Store a generation, and drop those before the newest ones."""
    connection.execute(
        checkpoints.insert().values(
            job_id=job_id,
            generation=generation,
            attempt=attempt,
            files=len(files),
            size=sum(file.size for file in files),
            taken_at=now,
        )
    )
    connection.execute(
        checkpoint_files.insert(),
        [
            {
                "job_id": job_id,
                "generation": generation,
                "path": file.path,
                "size": file.size,
                "sha256": file.sha256,
                "mode": file.mode,
            }
            for file in files
        ],
    )
    drop(connection, job_id, now, before=generation + 1 - KEPT)


def newest(connection: sa.Connection, job_id: int) -> int:
    """The number of a job's newest generation; 0 if there is none."""
    highest = sa.select(sa.func.max(checkpoints.c.generation))
    return connection.execute(highest.where(checkpoints.c.job_id == job_id)).scalar_one() or 0


def listing(connection: sa.Connection, job_id: int) -> list[Checkpoint]:
    """The generations of a job that are kept, the newest first."""
    rows = connection.execute(
        sa.select(checkpoints)
        .where(checkpoints.c.job_id == job_id, checkpoints.c.dropped_at.is_(None))
        .order_by(checkpoints.c.generation.desc())
    ).all()
    return [
        Checkpoint(
            generation=row.generation,
            attempt=row.attempt,
            size=row.size,
            taken_at=moment(row.taken_at),
            files=files(connection, job_id, row.generation),
        )
        for row in rows
    ]


def files(connection: sa.Connection, job_id: int, generation: int) -> list[CheckpointFile]:
    """The files of a generation, by path; none if it is not kept."""
    rows = connection.execute(
        sa.select(checkpoint_files)
        .join(
            checkpoints,
            sa.and_(
                checkpoints.c.job_id == checkpoint_files.c.job_id,
                checkpoints.c.generation == checkpoint_files.c.generation,
            ),
        )
        .where(
            checkpoint_files.c.job_id == job_id,
            checkpoint_files.c.generation == generation,
            checkpoints.c.dropped_at.is_(None),
        )
    )
    found = [
        CheckpointFile(path=row.path, size=row.size, sha256=row.sha256, mode=row.mode)
        for row in rows
    ]
    return sorted(found, key=lambda file: file.path)


def has_content(connection: sa.Connection, job_id: int, sha256: str) -> bool:
    """Whether a content belongs to a generation of the job."""
    found = sa.select(checkpoint_files.c.path).where(
        checkpoint_files.c.sha256 == sha256, checkpoint_files.c.job_id == job_id
    )
    return connection.execute(found.limit(1)).first() is not None


def drop(connection: sa.Connection, job_id: int, now: float, *, before: int | None = None) -> None:
    """Keep the generations of a job no longer: all of them, or those before one."""
    values: dict[str, Any] = {"this_job": job_id, "dropped_at": now}
    if before is None:
        connection.execute(_DROP, values)
    else:
        connection.execute(_DROP_BEFORE, values | {"before": before})


def drop_outdated(connection: sa.Connection, now: float, ended_before: float) -> None:
    """Keep those of jobs no longer that ended before a time."""
    ended = sa.exists().where(
        jobs.c.id == checkpoints.c.job_id,
        jobs.c.status.in_(FINAL),
        jobs.c.finished_at < ended_before,
    )
    connection.execute(
        checkpoints.update().where(checkpoints.c.dropped_at.is_(None), ended).values(dropped_at=now)
    )


def forget_dropped(connection: sa.Connection, before: float, limit: int) -> set[str]:
    """Forget some generations that were dropped before a time; the hashes of what was in them."""
    which = sa.select(checkpoints.c.job_id, checkpoints.c.generation)
    found = connection.execute(which.where(checkpoints.c.dropped_at < before).limit(limit)).all()
    hashes: set[str] = set()
    for job_id, generation in found:
        hashes |= set(connection.execute(_hashes(job_id, generation)).scalars())
        connection.execute(
            checkpoints.delete().where(
                checkpoints.c.job_id == job_id, checkpoints.c.generation == generation
            )
        )
    return hashes


def _hashes(job_id: int, generation: int) -> sa.Select[Any]:
    return sa.select(checkpoint_files.c.sha256).where(
        checkpoint_files.c.job_id == job_id, checkpoint_files.c.generation == generation
    )
