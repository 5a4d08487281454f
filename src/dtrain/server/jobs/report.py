"""What a worker sends about an attempt while it lasts: phase, log, artifacts.

Every call carries the attempt's secret. A repeated call is harmless, and a log is taken at a byte
offset, so that nothing can be lost or doubled on the way.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import sqlalchemy as sa

from dtrain.protocol.errors import Conflict, Invalid
from dtrain.protocol.messages import Artifact, BundleInfo
from dtrain.protocol.states import Phase
from dtrain.protocol.worker_messages import LogAnswer, PhaseReport
from dtrain.server.rules.lifecycle import Moved, advance
from dtrain.server.rules.records import read_records
from dtrain.server.store import artifacts, attempts, jobs, logs
from dtrain.server.store.attempts import Attempt
from dtrain.server.store.database import notice

from . import records
from .fencing import AttemptRef, current, owned
from .finish import settle

if TYPE_CHECKING:
    from dtrain.server.services import Services


def bundle(services: Services, ref: AttemptRef) -> tuple[BundleInfo, Path]:
    """The bundle of an attempt's job, and where its ZIP is.

    Raises:
        Conflict: the attempt no longer counts.
    """
    with services.database.read() as connection:
        current(connection, ref)
        info = jobs.spec_of(connection, ref.job_id)[1]
    return info, services.bundles.path(info.sha256)


def phase(services: Services, ref: AttemptRef, message: PhaseReport) -> None:
    """The attempt goes on to another phase.

    Raises:
        Conflict: the attempt no longer counts.
        Invalid: it is no phase that a worker reports.
    """
    if message.phase not in {Phase.PREPARING, Phase.EXECUTING, Phase.CANCELLING}:
        raise Invalid(
            "A worker reports the phases preparing, executing and cancelling.", field="phase"
        )

    def work(connection: sa.Connection) -> None:
        current(connection, ref)
        now = services.clock.time()
        transition = advance(jobs.locked(connection, ref.job_id), Moved(message.phase), now)
        if transition is not None:
            jobs.apply(connection, transition, now)

    services.database.write(work)


def append_log(services: Services, ref: AttemptRef, offset: int, data: bytes) -> LogAnswer:
    """Store log bytes and, in the same transaction, the PROGRESS records that they complete.

    Bytes that are there already are passed over. Also the late bytes of an attempt that no longer
    counts are kept, in that attempt's own log.

    Args:
        services: the server's parts.
        ref: the attempt.
        offset: of the first byte, in the attempt's log.
        data: at most `logs.MAX_CHUNK` bytes.

    Raises:
        Conflict: bytes before the offset are missing (`log_gap`, with the offset to go on from),
            or the attempt is not the worker's.
    """
    if len(data) > logs.MAX_CHUNK:
        raise Invalid(f"Send at most {logs.MAX_CHUNK} bytes of log at once.", status=413)
    compressed = logs.compress(data)

    def work(connection: sa.Connection) -> LogAnswer:
        job = jobs.lock(connection, ref.job_id)
        attempt = owned(connection, ref)
        if offset > attempt.log_bytes:
            raise Conflict(
                f"The log goes on at byte {attempt.log_bytes}.",
                code="log_gap",
                status=416,
                offset=attempt.log_bytes,
            )
        fresh = data[attempt.log_bytes - offset :]
        if not fresh:
            return LogAnswer(offset=attempt.log_bytes)
        packed = compressed if len(fresh) == len(data) else logs.compress(fresh)
        counts = job is not None and job.attempt == ref.attempt and not job.status.final
        end = _store_log(connection, attempt, fresh, packed, services.clock.time(), counts=counts)
        settle(connection, ref.job_id, ref.attempt, services.clock.time())
        return LogAnswer(offset=end)

    return services.database.write(work)


def put_artifact(
    services: Services, ref: AttemptRef, path: str, sha256: str, upload: BinaryIO
) -> None:
    """Store a file that the attempt left behind.

    Raises:
        Conflict: the attempt no longer counts.
        Invalid: the bytes are not those of the hash, or there are too many.
    """
    with services.database.read() as connection:
        current(connection, ref)
    blob = services.blobs.receive(
        upload, limit=services.settings.max_artifact_bytes, expected_sha256=sha256
    )

    def work(connection: sa.Connection) -> None:
        jobs.lock(connection, ref.job_id)
        current(connection, ref)
        left = Artifact(path=path, size=blob.size, sha256=blob.sha256, attempt=ref.attempt)
        artifacts.put(connection, ref.job_id, left)
        notice(connection, jobs.topic(ref.job_id))
        settle(connection, ref.job_id, ref.attempt, services.clock.time())

    services.database.write(work)


def _store_log(
    connection: sa.Connection,
    attempt: Attempt,
    data: bytes,
    compressed: bytes,
    now: float,
    *,
    counts: bool,
) -> int:
    start, lines = attempt.log_bytes, attempt.log_lines
    logs.append(connection, attempt.job_id, attempt.number, start, lines, data, compressed)
    reading = read_records(attempt.log_carry, data)
    total_records = records.store(connection, attempt, reading, now, counts=counts)
    attempts.update(
        connection,
        attempt,
        log_bytes=start + len(data),
        log_lines=lines + data.count(b"\n"),
        log_carry=reading.carry,
        metric_records=total_records,
        log_sealed=False,
    )
    notice(connection, jobs.topic(attempt.job_id))
    return start + len(data)
