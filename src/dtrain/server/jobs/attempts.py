"""What became of each attempt of a job."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Literal

import msgspec

from dtrain.protocol.messages import Event, Job
from dtrain.protocol.resources import request_of
from dtrain.protocol.states import Cause, Phase, Status
from dtrain.protocol.worker_messages import Finish
from dtrain.server.rules.endings import ending_of
from dtrain.server.store import attempt_views, events, job_views
from dtrain.server.store.attempt_views import AttemptView

if TYPE_CHECKING:
    from dtrain.server.services import Services

Outcome = Literal["running", "completed", "failed", "cancelled", "lost"]

_ENDS = ("lost", "queued", "cancelled", "failed")
"""Events that end an attempt of which its worker does not say how."""
_RUNS = {
    Phase.PREPARING: "Its environment is being prepared.",
    Phase.EXECUTING: "Its script runs.",
    Phase.CANCELLING: "It was asked to end, and is given time to.",
    Phase.UNREACHABLE: "Its worker does not answer.",
}


class AttemptRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt, from its beginning to what became of it."""

    number: int
    worker_id: str
    worker: str | None
    """Its name; None of a worker that was forgotten."""
    began: datetime
    ended: datetime | None
    outcome: Outcome
    how: str
    """How it ended, or what it is at, as a sentence."""
    exit_code: int | None
    signal: int | None
    """The number of the signal that ended it."""
    peak_memory: int | None
    """Bytes."""
    memory_limit: int | None
    """Bytes that it might use; None if all that its worker had."""
    ran: float | None
    """Seconds in which user code ran."""
    log_bytes: int


def attempts(services: Services, job_id: int) -> list[AttemptRecord]:
    """The attempts of a job, the latest first.

    Raises:
        NotFound: there is no such job.
    """
    with services.database.read() as connection:
        job = job_views.get(connection, job_id)
        found = attempt_views.of_job(connection, job_id)
        ends = {
            event.data.get("attempt"): event
            for event in events.of_job_and_kinds(connection, job_id, _ENDS)
        }
    return [_record(job, view, ends.get(view.number)) for view in found]


def _record(job: Job, view: AttemptView, end: Event | None) -> AttemptRecord:
    finish = view.finish
    memory_limit = request_of(job.spec).memory or None
    outcome, how = _told(job, view, end, memory_limit)
    return AttemptRecord(
        number=view.number,
        worker_id=view.worker_id,
        worker=view.worker,
        began=view.claimed_at,
        ended=view.ended_at,
        outcome=outcome,
        how=how,
        exit_code=finish.exit_code if finish else None,
        signal=finish.signal if finish else None,
        peak_memory=finish.peak_memory if finish else None,
        memory_limit=(finish.memory_limit if finish else None) or memory_limit,
        ran=finish.duration if finish else None,
        log_bytes=view.log_bytes,
    )


def _told(
    job: Job, view: AttemptView, end: Event | None, memory_limit: int | None
) -> tuple[Outcome, str]:
    if view.state == "finishing":
        return "running", "It has ended; the last of its log and files are on their way."
    if view.finish is not None:
        return _of_finish(view.finish, memory_limit, job.spec.time_limit)
    if view.state == "lost":
        return "lost", "Its worker was lost; it may yet come back."
    if view.state != "ended":
        return "running", _RUNS.get(job.phase or Phase.EXECUTING, "It runs.")
    return _without_word(end)


def _of_finish(
    finish: Finish, memory_limit: int | None, time_limit: float | None
) -> tuple[Outcome, str]:
    """By its worker's word."""
    if finish.cause is Cause.HANDED_BACK:
        return "lost", "Its worker was stopped and handed the job back."
    if finish.cause is Cause.SHIM_LOST:
        return "lost", "The job's supervisor was lost; nobody knows how it ended."
    ending = ending_of(finish, memory_limit, time_limit)
    if ending.status is Status.COMPLETED:
        return "completed", "It completed."
    outcome: Outcome = "cancelled" if ending.status is Status.CANCELLED else "failed"
    return outcome, ending.message or ""


def _without_word(end: Event | None) -> tuple[Outcome, str]:
    """By what the server made of its silence."""
    if end is None:
        return "lost", "It ended without a word of its worker."
    message = str(end.data.get("message") or "")
    if end.kind == "queued":
        return "lost", "Its worker never began; the job went back to the queue."
    if end.kind == "cancelled":
        return "cancelled", message
    return "lost", message or "Its worker was lost."
