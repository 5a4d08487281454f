"""The end of an attempt: recorded when it is first told, applied when all of its bytes are here."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from dtrain.protocol.errors import Conflict, Invalid, NotFound
from dtrain.protocol.states import Cause, Phase, Status
from dtrain.protocol.worker_messages import Finish, FinishAnswer
from dtrain.server.rules.lifecycle import EndReported, Finished, JobState, Moved
from dtrain.server.rules.records import last_record
from dtrain.server.store import artifacts, attempts, checkpoints, jobs, workers
from dtrain.server.store.attempts import Attempt
from dtrain.server.store.database import notice

from . import claim, records
from .advancing import advanced
from .appending import Piece, append, piece
from .fencing import AttemptRef, owned, stale

if TYPE_CHECKING:
    from dtrain.server.services import Services


def finish(services: Services, ref: AttemptRef, message: Finish) -> FinishAnswer:
    """An attempt has ended on its worker. Its slot is free from now on, or taken by the next job.

    Returns:
        Whether the end is applied, and what has to be sent: before it is, or late, if it was
        applied without. The next job, if one is asked for, once it is applied.

    Raises:
        Conflict: the attempt no longer counts (`stale`), or has ended otherwise (`different`).
        Invalid: the end of the log is longer than the log.
    """
    if len(message.log_tail) > message.log_bytes:
        raise Invalid("The end of the log is longer than log_bytes says.", field="log_tail")
    told = msgspec.structs.replace(message, log_tail=b"", claim=None)
    tail = piece(message.log_bytes - len(message.log_tail), message.log_tail)

    def work(connection: sa.Connection) -> FinishAnswer:
        now = services.clock.time()
        if message.cause is Cause.HANDED_BACK:
            # Its agent stops: a poll of its that is still held must not take the job once more.
            workers.update(connection, ref.worker_id, draining=True)
        worker = None
        if message.claim is not None:
            with suppress(NotFound):  # it was forgotten just now; its end counts all the same
                # Before the job: polls keep them from others in this order, too.
                worker = workers.get(connection, ref.worker_id, lock=True)
        answer = _told(connection, ref, told, tail, now)
        if worker is None or message.claim is None or not answer.applied:
            notice(connection, claim.topic(ref.worker_id))
            return answer
        assignment, is_spent = claim.refill(connection, worker, message.claim, now)
        return msgspec.structs.replace(answer, assignment=assignment, secret_spent=is_spent)

    return services.database.write(work)


def _told(
    connection: sa.Connection, ref: AttemptRef, told: Finish, tail: Piece, now: float
) -> FinishAnswer:
    """Record the end when it is first told, and apply it if nothing is missing."""
    job = jobs.lock(connection, ref.job_id)
    attempt = owned(connection, ref)
    if attempt.finish is not None:
        if attempt.finish != told:
            raise Conflict(
                f"Attempt {ref.attempt} of job {ref.job_id} has ended in another way.",
                code="different",
            )
        return _answer(connection, attempt)
    if attempt.state == "ended" or job is None or job.attempt != ref.attempt or job.status.final:
        raise stale(ref)
    if tail.data and tail.offset <= attempt.log_bytes:
        attempt = append(connection, attempt, tail, now, counts=True)
    recorded = msgspec.json.encode(told).decode()
    attempts.update(connection, attempt, state="finishing", finish=recorded, finish_at=now)
    attempt = msgspec.structs.replace(attempt, state="finishing", finish=told, finish_at=now)
    if told.cause is Cause.EXITED and job.phase is Phase.PREPARING:
        # It has run, for too short a time to be told.
        job = advanced(connection, job, Moved(Phase.EXECUTING), now)
    answer = _answer(connection, attempt)
    if job.status is Status.PENDING or not _is_complete(answer):
        job = advanced(connection, job, EndReported(), now)
    return _settled(connection, job, attempt, answer, now)


def settle(
    connection: sa.Connection, job_id: int, number: int, now: float, *, give_up: bool = False
) -> None:
    """Apply a reported end once nothing of the attempt is missing; read what comes even later.

    Args:
        connection: inside a writing transaction.
        job_id: the job's number.
        number: the attempt's.
        now: seconds since the epoch.
        give_up: apply it even if something is missing, and say so.
    """
    attempt = attempts.lock(connection, job_id, number)
    if attempt is not None:
        settle_held(connection, jobs.locked(connection, job_id), attempt, now, give_up=give_up)


def settle_held(
    connection: sa.Connection,
    job: JobState,
    attempt: Attempt,
    now: float,
    *,
    give_up: bool = False,
) -> FinishAnswer:
    """As `settle`, of a job and an attempt that are kept from other writers, as they are now.

    Returns:
        What its worker is told of the end.
    """
    return _settled(connection, job, attempt, _answer(connection, attempt), now, give_up=give_up)


def _settled(
    connection: sa.Connection,
    job: JobState,
    attempt: Attempt,
    answer: FinishAnswer,
    now: float,
    *,
    give_up: bool = False,
) -> FinishAnswer:
    """As `settle_held`, where it is known what is missing (`answer`)."""
    if attempt.finish is None or attempt.state not in {"finishing", "ended"}:
        return answer
    is_late = attempt.state == "ended"
    if not is_late and not give_up and not _is_complete(answer):
        return answer
    counts = job.attempt == attempt.number and not job.status.final and not is_late
    if answer.missing_log_from is None and attempt.log_carry:
        tail = last_record(attempt.log_carry)
        total_records = records.store(connection, attempt, tail, now, counts=counts)
        attempts.update(connection, attempt, log_carry=b"", metric_records=total_records)
    if is_late:
        return answer
    if counts:
        job = advanced(connection, job, Finished(attempt.finish, _incomplete(answer)), now)
        if job.status is Status.COMPLETED:
            checkpoints.drop(connection, job.id, now)
    attempts.end(connection, attempt, now)
    return msgspec.structs.replace(answer, applied=True)


def _answer(connection: sa.Connection, attempt: Attempt) -> FinishAnswer:
    told = attempt.finish
    if told is None:
        return FinishAnswer(applied=attempt.state == "ended")
    kept = artifacts.listing(connection, attempt.job_id, attempt.number) if told.artifacts else []
    there = {(found.path, found.sha256) for found in kept}
    return FinishAnswer(
        applied=attempt.state == "ended",
        missing_log_from=attempt.log_bytes if attempt.log_bytes < told.log_bytes else None,
        missing_artifacts=[
            wanted.path for wanted in told.artifacts if (wanted.path, wanted.sha256) not in there
        ],
    )


def _is_complete(answer: FinishAnswer) -> bool:
    return answer.missing_log_from is None and not answer.missing_artifacts


def _incomplete(answer: FinishAnswer) -> str | None:
    """What is missing of an attempt, as a sentence."""
    if answer.missing_log_from is not None:
        return f"Its log is incomplete from byte {answer.missing_log_from} on."
    if answer.missing_artifacts:
        return f"{len(answer.missing_artifacts)} of its artifacts are missing."
    return None
