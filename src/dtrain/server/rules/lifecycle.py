"""The life of a job: the only state machine, a pure function of (job, happening, now).

    –         submitted                                                   → pending
    pending   claimed; the current attempt, or its end, comes back        → running
    pending   the current attempt's end arrives after its lease was lost  → completed, failed
    pending   the user cancels                                            → cancelled
    pending   its bundle is gone                                          → failed
    running   the current attempt ends; the restart budget is spent       → completed, failed
    running   the kill is confirmed; the lease is lost after a cancel     → cancelled
    running   lease lost, handed back, not started; a retry is left       → pending

A final status never changes. `store.jobs.apply` is the only writer of what is decided here.
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from dtrain.protocol.errors import Conflict
from dtrain.protocol.states import Cause, Phase, Reason, Status
from dtrain.protocol.worker_messages import Finish

from .endings import BUNDLE_LOST, Ending, ending_of

MAX_RESTARTS = 3
"""Restarts after losses and starts that failed, neither of them the job's fault."""
POISON_WORKERS = 3
"""A job that was lost on so many different workers is taken for the cause."""
RESTART_DELAY = 10.0
RETRY_DELAY = 1.0
"""Seconds before the first restart or retry; doubled for each further one."""
MAX_DELAY = 360.0

_OF_ATTEMPTS = frozenset({Phase.PREPARING, Phase.EXECUTING, Phase.FINISHING, Phase.CANCELLING})
"""What a worker can say that an attempt is at."""


class JobState(msgspec.Struct, frozen=True, kw_only=True):
    """All of a job that the lifecycle reads and writes."""

    id: int
    status: Status = Status.PENDING
    phase: Phase | None = Phase.QUEUED
    reason: Reason | None = None
    message: str | None = None
    attempt: int = 0
    worker_id: str | None = None
    cancel: int = 0
    """0: not asked for; 1: with grace; 2: at once."""
    restarts: int = 0
    retries: int = 0
    lost_on: tuple[str, ...] = ()
    """The workers on which attempts were lost, in order."""
    max_retries: int = 0
    memory_limit: int | None = None
    """Bytes."""
    time_limit: float | None = None
    """Seconds."""
    not_before: float | None = None
    exit_code: int | None = None
    signal: int | None = None
    peak_memory: int | None = None
    traceback: str | None = None
    started_at: float | None = None
    finished_at: float | None = None
    version: int = 0


class Offered(msgspec.Struct, frozen=True):
    """The job is before an owner."""


class OffersGone(msgspec.Struct, frozen=True):
    """No owner has the job before him any more."""


class BundleLost(msgspec.Struct, frozen=True):
    """Nobody can run the job: what it consists of is gone from the server."""


class RetryDue(msgspec.Struct, frozen=True):
    """The delay before a new attempt is over."""


class Claimed(msgspec.Struct, frozen=True):
    """A worker took the job."""

    worker_id: str


class Returned(msgspec.Struct, frozen=True):
    """The current attempt shows itself again after it was given up, or out of reach."""

    phase: Phase


class Moved(msgspec.Struct, frozen=True):
    """The worker reports a phase of the current attempt."""

    phase: Phase


class OutOfReach(msgspec.Struct, frozen=True):
    """The lease ran out; the attempt may still run."""


class Lost(msgspec.Struct, frozen=True):
    """The attempt is given up: its worker is gone, or no longer has it."""


class NeverStarted(msgspec.Struct, frozen=True):
    """The worker never got the assignment."""


class CancelAsked(msgspec.Struct, frozen=True):
    """A user wants the job to end."""


class EndReported(msgspec.Struct, frozen=True):
    """The attempt is over on its worker; what it left is on its way."""


class Finished(msgspec.Struct, frozen=True):
    """The attempt is over, and what it left is here or given up."""

    finish: Finish
    incomplete: str | None = None
    """What is missing of it, as a sentence."""


Happening = (
    Offered
    | OffersGone
    | BundleLost
    | RetryDue
    | Claimed
    | Returned
    | Moved
    | OutOfReach
    | Lost
    | NeverStarted
    | CancelAsked
    | EndReported
    | Finished
)


class Transition(msgspec.Struct, frozen=True):
    """One step of a job's life, to be stored as a whole or not at all."""

    before: JobState
    after: JobState
    event: str


def advance(job: JobState, happening: Happening, now: float) -> Transition | None:
    """What a happening makes of a job; None if it changes nothing.

    Args:
        job: the job as it is stored.
        happening: what happened to it.
        now: seconds since the epoch.

    Raises:
        Conflict: the happening is impossible in the job's present state.
    """
    step = _step(job, happening, now)
    if step is None:
        return None
    event, after = step
    return Transition(job, msgspec.structs.replace(after, version=job.version + 1), event)


def is_due(not_before: float | None, now: float) -> bool:
    """Whether a delay is over; one that is longer than any shows that the clock was set back."""
    return not_before is not None and not now < not_before <= now + MAX_DELAY


def _step(job: JobState, happening: Happening, now: float) -> tuple[str, JobState] | None:
    match happening:
        case Offered() | OffersGone() | RetryDue():
            return _while_waiting(job, happening)
        case BundleLost():
            ending = Ending(Status.FAILED, Reason.BUNDLE_INVALID, BUNDLE_LOST)
            return _ended(job, ending, now) if job.status is Status.PENDING else None
        case Claimed(worker_id):
            return _claimed(job, worker_id, now)
        case Returned(phase):
            return _returned(job, phase)
        case Moved(phase):
            return _moved(job, phase)
        case OutOfReach():
            return _moved(job, Phase.UNREACHABLE)
        case EndReported():
            # An end that comes after the attempt was given up is a way of coming back.
            waits = job.status is Status.PENDING
            return (_returned if waits else _moved)(job, Phase.FINISHING)
        case Lost():
            return _lost(job, now) if job.status is Status.RUNNING else None
        case NeverStarted():
            return _requeued(job, now) if job.status is Status.RUNNING else None
        case CancelAsked():
            return _cancel_asked(job, now)
        case Finished():
            return _finished(job, happening, now)
        case _:
            assert_never(happening)


def _while_waiting(
    job: JobState, happening: Offered | OffersGone | RetryDue
) -> tuple[str, JobState] | None:
    leaves, enters = {
        Offered: (Phase.QUEUED, Phase.OFFERED),
        OffersGone: (Phase.OFFERED, Phase.QUEUED),
        RetryDue: (Phase.RETRY_WAIT, Phase.QUEUED),
    }[type(happening)]
    if job.phase is not leaves:
        return None
    return enters.value, msgspec.structs.replace(job, phase=enters, not_before=None)


def _claimed(job: JobState, worker_id: str, now: float) -> tuple[str, JobState]:
    if job.status is not Status.PENDING:
        raise Conflict(f"Job {job.id} has been taken already.", code="withdrawn")
    return "claimed", msgspec.structs.replace(
        job,
        status=Status.RUNNING,
        phase=Phase.PREPARING,
        attempt=job.attempt + 1,
        worker_id=worker_id,
        not_before=None,
        started_at=now,
        exit_code=None,
        signal=None,
        message=None,
        peak_memory=None,
        traceback=None,
    )


def _returned(job: JobState, phase: Phase) -> tuple[str, JobState] | None:
    if phase not in _OF_ATTEMPTS:  # whatever a worker says, it has the attempt
        phase = Phase.EXECUTING
    if job.status is Status.RUNNING:
        return _moved(job, phase) if job.phase is Phase.UNREACHABLE else None
    if job.status.final:
        raise Conflict(f"Job {job.id} has ended.", code="stale")
    # The restart was charged when the attempt was given up; it turned out not to be needed.
    return "returned", msgspec.structs.replace(
        job,
        status=Status.RUNNING,
        phase=phase,
        restarts=max(job.restarts - 1, 0),
        lost_on=job.lost_on[:-1],
        not_before=None,
        message=None,
    )


def _moved(job: JobState, phase: Phase) -> tuple[str, JobState] | None:
    if job.status is not Status.RUNNING or job.phase is phase:
        return None
    if job.cancel and phase in {Phase.PREPARING, Phase.EXECUTING}:
        return None
    return phase.value, msgspec.structs.replace(job, phase=phase)


def _lost(job: JobState, now: float) -> tuple[str, JobState]:
    if job.cancel:
        return _cancelled(job, now)
    lost_on = (*job.lost_on, job.worker_id or "")
    job = msgspec.structs.replace(job, lost_on=lost_on, restarts=job.restarts + 1)
    if len(set(lost_on)) >= POISON_WORKERS:
        return _ended(
            job,
            Ending(
                Status.FAILED,
                Reason.POISON,
                f"The job was lost on {len(set(lost_on))} different workers and is taken for the"
                " cause; look at what it does to a machine before you submit it again.",
            ),
            now,
        )
    if job.restarts > MAX_RESTARTS:
        return _ended(
            job,
            Ending(
                Status.FAILED,
                Reason.WORKER_LOST,
                f"The job's worker was lost {job.restarts} times; look at that machine first.",
            ),
            now,
        )
    return _waiting(
        job, "lost", now, RESTART_DELAY, job.restarts, "The worker was lost; the job starts again."
    )


def _requeued(job: JobState, now: float) -> tuple[str, JobState]:
    if job.cancel:
        return _cancelled(job, now)
    return "queued", msgspec.structs.replace(job, status=Status.PENDING, phase=Phase.QUEUED)


def _waiting(
    job: JobState, event: str, now: float, delay: float, times: int, message: str
) -> tuple[str, JobState]:
    wait = min(delay * 2 ** (times - 1), MAX_DELAY)
    return event, msgspec.structs.replace(
        job, status=Status.PENDING, phase=Phase.RETRY_WAIT, not_before=now + wait, message=message
    )


def _cancel_asked(job: JobState, now: float) -> tuple[str, JobState] | None:
    if job.status.final or job.cancel == 2:
        return None
    if job.status is Status.PENDING:
        return _cancelled(msgspec.structs.replace(job, cancel=1), now)
    phase = Phase.FINISHING if job.phase is Phase.FINISHING else Phase.CANCELLING
    return "cancelling", msgspec.structs.replace(job, cancel=job.cancel + 1, phase=phase)


def _finished(job: JobState, happening: Finished, now: float) -> tuple[str, JobState] | None:
    if job.status.final:
        raise Conflict(f"Job {job.id} has ended already.", code="final")
    finish = happening.finish
    given_up = finish.cause in {Cause.HANDED_BACK, Cause.CANCELLED} and not job.cancel
    if job.status is Status.PENDING and (given_up or finish.cause is Cause.SHIM_LOST):
        return None
    if finish.cause is Cause.SHIM_LOST:
        return _lost(job, now)
    if given_up:
        return _requeued(job, now)
    ending = ending_of(finish, job.memory_limit, job.time_limit)
    job = msgspec.structs.replace(
        job,
        exit_code=finish.exit_code,
        signal=finish.signal,
        peak_memory=finish.peak_memory,
        traceback=finish.traceback,
    )
    if happening.incomplete:
        message = " ".join(filter(None, (ending.message, happening.incomplete)))
        ending = msgspec.structs.replace(ending, message=message)
    return _again(job, ending, now) or _ended(job, ending, now)


def _again(job: JobState, ending: Ending, now: float) -> tuple[str, JobState] | None:
    """Another attempt after one that has ended, if there is to be one."""
    message = f"{ending.message} Attempt {job.attempt + 1} follows."
    if ending.own_fault and job.retries < job.max_retries and not job.cancel:
        job = msgspec.structs.replace(job, retries=job.retries + 1)
        return _waiting(job, "retry_wait", now, RETRY_DELAY, job.retries, message)
    if ending.may_pass and job.restarts < MAX_RESTARTS and not job.cancel:
        job = msgspec.structs.replace(job, restarts=job.restarts + 1)
        return _waiting(job, "retry_wait", now, RESTART_DELAY, job.restarts, message)
    return None


def _cancelled(job: JobState, now: float) -> tuple[str, JobState]:
    return _ended(job, Ending(Status.CANCELLED, Reason.USER, "The job was cancelled."), now)


def _ended(job: JobState, ending: Ending, now: float) -> tuple[str, JobState]:
    return ending.status.value, msgspec.structs.replace(
        job,
        status=ending.status,
        phase=None,
        reason=ending.reason,
        message=ending.message,
        not_before=None,
        finished_at=now,
    )
