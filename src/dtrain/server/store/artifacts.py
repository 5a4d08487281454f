"""Artifacts: the files that attempts left behind; their bytes are blobs."""

from __future__ import annotations

import sqlalchemy as sa

from dtrain.protocol.messages import Artifact

from .schema import artifacts, checkpoint_files, log_chunks

_OF_ATTEMPT = (
    sa.select(artifacts)
    .where(
        artifacts.c.job_id == sa.bindparam("job_id"),
        artifacts.c.attempt == sa.bindparam("attempt"),
    )
    .order_by(artifacts.c.path)
)
_OF_LATEST = (
    sa.select(artifacts)
    .where(artifacts.c.job_id == sa.bindparam("job_id"))
    .where(
        artifacts.c.attempt
        == sa.select(sa.func.max(artifacts.c.attempt))
        .where(artifacts.c.job_id == sa.bindparam("job_id"))
        .scalar_subquery()
    )
    .order_by(artifacts.c.path)
)
_INSERT = artifacts.insert()
_DELETE = artifacts.delete().where(
    artifacts.c.job_id == sa.bindparam("job_id"),
    artifacts.c.attempt == sa.bindparam("attempt"),
    artifacts.c.path == sa.bindparam("path"),
)


def put(connection: sa.Connection, job_id: int, artifact: Artifact) -> None:
    """Store an artifact, in the place of an earlier one of the same attempt and path."""
    which = {"job_id": job_id, "attempt": artifact.attempt, "path": artifact.path}
    connection.execute(_DELETE, which)
    connection.execute(_INSERT, which | {"size": artifact.size, "sha256": artifact.sha256})


def listing(connection: sa.Connection, job_id: int, attempt: int | None = None) -> list[Artifact]:
    """The artifacts of one attempt, by path; without a number, of the latest that left any."""
    if attempt is None:
        rows = connection.execute(_OF_LATEST, {"job_id": job_id})
    else:
        rows = connection.execute(_OF_ATTEMPT, {"job_id": job_id, "attempt": attempt})
    return [
        Artifact(path=row.path, size=row.size, sha256=row.sha256, attempt=row.attempt)
        for row in rows
    ]


def attempts_with_any(connection: sa.Connection, job_id: int) -> list[int]:
    """The numbers of a job's attempts that left something, rising."""
    return list(
        connection.execute(
            sa.select(artifacts.c.attempt)
            .where(artifacts.c.job_id == job_id)
            .distinct()
            .order_by(artifacts.c.attempt)
        ).scalars()
    )


def needed(connection: sa.Connection, hashes: set[str]) -> set[str]:
    """Those of the blobs that an artifact, a checkpoint or a log is in."""
    used = sa.union(
        sa.select(artifacts.c.sha256).where(artifacts.c.sha256.in_(hashes)),
        sa.select(checkpoint_files.c.sha256).where(checkpoint_files.c.sha256.in_(hashes)),
        sa.select(log_chunks.c.blob_sha256).where(log_chunks.c.blob_sha256.in_(hashes)),
    )
    return set(connection.execute(used).scalars())
