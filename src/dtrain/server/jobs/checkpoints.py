"""What a job needs to go on elsewhere: kept in generations, whole or not at all.

The worker says what was in the job's checkpoint folder at one moment. The server says which of the
contents it lacks; once it has all of them, the same message makes them the job's newest generation,
in one transaction. So a generation that is seen is whole; a message that is repeated, or late,
changes nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import sqlalchemy as sa

from dtrain.protocol.checkpoints import objection
from dtrain.protocol.errors import Invalid, NotFound
from dtrain.protocol.messages import CheckpointFile, CheckpointList
from dtrain.protocol.worker_messages import (
    CheckpointFileInfo,
    Generation,
    GenerationAnswer,
    KeptGeneration,
    KeptGenerations,
)
from dtrain.server.store import checkpoints, job_views, jobs

from .fencing import AttemptRef, current, stale

if TYPE_CHECKING:
    from dtrain.server.services import Services


def kept(services: Services, ref: AttemptRef) -> KeptGenerations:
    """What an attempt can go on from.

    Raises:
        Conflict: the attempt no longer counts.
    """
    with services.database.read() as connection:
        current(connection, ref, lock=False)
        found = checkpoints.listing(connection, ref.job_id)
    return KeptGenerations(
        generations=[
            KeptGeneration(number=one.generation, attempt=one.attempt, files=one.files)
            for one in found
        ],
        limit=services.settings.max_checkpoint_bytes,
    )


def content(services: Services, ref: AttemptRef, sha256: str) -> Path:
    """Where the content of a file of the job's checkpoints is.

    Raises:
        Conflict: the attempt no longer counts.
        NotFound: the job has no such content.
    """
    with services.database.read() as connection:
        current(connection, ref, lock=False)
        if not checkpoints.has_content(connection, ref.job_id, sha256):
            raise NotFound("The job's checkpoints have no such content.")
    return services.blobs.path(sha256)


def put_content(services: Services, ref: AttemptRef, sha256: str, upload: BinaryIO) -> None:
    """Store a content that a generation is to have.

    Raises:
        Conflict: the attempt no longer counts.
        Invalid: the bytes are not those of the hash, or there are too many.
    """
    with services.database.read() as connection:
        current(connection, ref, lock=False)
    limit = services.settings.max_checkpoint_bytes
    services.blobs.receive(upload, limit=limit, expected_sha256=sha256)


def keep(services: Services, ref: AttemptRef, message: Generation) -> GenerationAnswer:
    """Make what a worker describes the job's newest generation, if nothing of it is missing.

    Returns:
        Whether it is. It is not if its number is none that follows the newest: then it was late.

    Raises:
        Conflict: the attempt no longer counts.
        Invalid: the files cannot lie in one folder, or are too large.
    """
    _check(services, message.files)
    with services.database.read() as connection:
        current(connection, ref, lock=False)
    missing = _missing(services, message.files)

    def work(connection: sa.Connection) -> GenerationAnswer:
        job = jobs.lock(connection, ref.job_id)
        current(connection, ref)
        if job is None or job.status.final:
            raise stale(ref)
        newest = checkpoints.newest(connection, ref.job_id)
        if _is_the_same(message.files, checkpoints.files(connection, ref.job_id, newest)):
            return GenerationAnswer(kept=True, newest=newest, missing=[])
        if missing or message.number != newest + 1:
            return GenerationAnswer(kept=False, newest=newest, missing=missing)
        now = services.clock.time()
        checkpoints.put(connection, ref.job_id, message.number, ref.attempt, message.files, now)
        return GenerationAnswer(kept=True, newest=message.number, missing=[])

    return services.database.write(work)


def listing(services: Services, job_id: int) -> CheckpointList:
    """The checkpoints of a job that are kept, the newest first.

    Raises:
        NotFound: there is no such job.
    """
    with services.database.read() as connection:
        job_views.get(connection, job_id)
        return CheckpointList(checkpoints=checkpoints.listing(connection, job_id))


def file(
    services: Services, job_id: int, generation: int, path: str
) -> tuple[CheckpointFile, Path]:
    """One file of a checkpoint, and where its bytes are.

    Raises:
        NotFound: there is no such job, generation or file.
    """
    with services.database.read() as connection:
        job_views.get(connection, job_id)
        found = checkpoints.files(connection, job_id, generation)
    for one in found:
        if one.path == path:
            return one, services.blobs.path(one.sha256)
    raise NotFound(f"Job {job_id} has no such file in a checkpoint {generation} that is kept.")


def _check(services: Services, files: list[CheckpointFileInfo]) -> None:
    wrong = objection(one.path for one in files)
    if wrong:
        raise Invalid(wrong, field="files")
    size = sum(one.size for one in files)
    if size > services.settings.max_checkpoint_bytes:
        raise Invalid(
            f"The checkpoint has {size / 1024**2:,.0f} MB, and"
            f" {services.settings.max_checkpoint_mb:,} are accepted; have the job keep less, or"
            " raise DTRAIN_MAX_CHECKPOINT_MB.",
            code="too_large",
            status=413,
        )


def _missing(services: Services, files: list[CheckpointFileInfo]) -> list[str]:
    """The contents that are not here; those that are here stay for the transaction that follows.

    One that has another size than it should is taken for damaged: it has to come once more.
    """
    missing = []
    for sha256, size in dict.fromkeys((one.sha256, one.size) for one in files):
        try:
            there = services.blobs.renew(sha256).stat().st_size
        except (NotFound, FileNotFoundError):
            there = None
        if there != size:
            missing.append(sha256)
    return missing


def _is_the_same(told: list[CheckpointFileInfo], there: list[CheckpointFile]) -> bool:
    ours = {(one.path, one.size, one.sha256, one.mode) for one in told}
    return ours == {(one.path, one.size, one.sha256, one.mode) for one in there}
