"""What a poll says of the worker's attempts, against what is stored: leases, losses, commands."""

from __future__ import annotations

import sqlalchemy as sa

from dtrain.protocol.states import Phase
from dtrain.protocol.worker_messages import AttemptReport, Command, Poll
from dtrain.server.rules.leases import LEASE, UNLISTED
from dtrain.server.rules.lifecycle import JobState, Lost, NeverStarted, Returned
from dtrain.server.rules.usage import is_due
from dtrain.server.store import attempt_samples, attempts, jobs
from dtrain.server.store.attempts import Attempt, Taken

from .advancing import advanced
from .fencing import owns


def hold(
    connection: sa.Connection, worker_id: str, message: Poll | None = None
) -> dict[int, JobState]:
    """Keep all jobs of the worker's attempts from other writers, before any of them is looked at.

    What is read of them and of their attempts after that stays as it is. So it is with the jobs
    that a poll lists, whosever they are.

    Returns:
        The jobs as they are now, by number.
    """
    listed = {report.job_id for report in message.attempts} if message else set()
    return jobs.lock_all(connection, listed | attempts.jobs_of_worker(connection, worker_id))


def reconcile(
    connection: sa.Connection,
    worker_id: str,
    message: Poll,
    held: dict[int, JobState],
    before: float,
    now: float,
) -> None:
    """Renew the leases of the attempts that the poll lists, and give up those that it lacks.

    Args:
        connection: inside a writing transaction.
        worker_id: the worker.
        message: the poll.
        held: what `hold` has given.
        before: when the worker was last heard before this poll, in seconds since the epoch.
        now: seconds since the epoch.
    """
    if not held:
        return  # spares a worker without jobs the reading
    reports = {(report.job_id, report.attempt): report for report in message.attempts}
    known = [
        attempt
        for attempt in attempts.of_worker(connection, worker_id, ("assigned", "live", "lost"))
        if attempt.job_id in held  # the others were claimed since; the poll cannot know of them
    ]
    promised = attempts.hash_secret(message.next_secret)
    for attempt in known:
        report = reports.get((attempt.job_id, attempt.number))
        if report is not None and owns(attempt, worker_id, report.secret):
            _renew(connection, held[attempt.job_id], attempt, report, now)
        elif attempt.state == "assigned" and (attempt.secret_hash != promised or message.draining):
            if not _crossed(attempt, before, now):
                give_up(connection, attempt, now, started=False)
        elif attempt.state == "live" and not _crossed(attempt, before, now):
            give_up(connection, attempt, now, started=True)


def commands(
    connection: sa.Connection, worker_id: str, message: Poll
) -> tuple[list[Command], bool]:
    """What the worker must do about its attempts, and whether any of it is news to it.

    The jobs of the attempts are held.
    """
    found: list[Command] = []
    news = False
    listed = {report.job_id for report in message.attempts}
    standings = attempts.standings(connection, listed) if listed else {}
    for report in message.attempts:
        standing = standings.get((report.job_id, report.attempt))
        if standing is None or _is_stale(standing.attempt, worker_id, report):
            found.append(_stale(report))
            news = True
        elif standing.cancel and standing.runs:
            command = Command(
                job_id=report.job_id,
                attempt=report.attempt,
                action="cancel",
                at_once=standing.cancel == 2,
            )
            found.append(command)
            attempt = standing.attempt
            if report.phase is not Phase.CANCELLING or attempt.told_cancel < standing.cancel:
                news = True
                attempts.update(connection, attempt, told_cancel=standing.cancel)
    return found, news


def has_unlisted_cancel(message: Poll, taken: list[Taken]) -> bool:
    """Whether an attempt is to be cancelled that the worker has, and that the poll lacks."""
    listed = {(report.job_id, report.attempt) for report in message.attempts}
    return any(one.cancel and (one.job_id, one.number) not in listed for one in taken)


def _is_stale(attempt: Attempt, worker_id: str, report: AttemptReport) -> bool:
    is_given_up = attempt.state == "ended" and attempt.finish is None
    return is_given_up or not owns(attempt, worker_id, report.secret)


def give_up(
    connection: sa.Connection,
    attempt: Attempt,
    now: float,
    *,
    started: bool = True,
    may_return: bool = False,
) -> None:
    """The job goes on without an attempt.

    Args:
        connection: inside a writing transaction.
        attempt: the attempt.
        now: seconds since the epoch.
        started: False if the worker never got it.
        may_return: True if nobody knows what became of it: should its worker come back before
            another has claimed the job, the attempt counts again.
    """
    job = jobs.lock(connection, attempt.job_id)
    if job is not None and job.attempt == attempt.number:
        advanced(connection, job, Lost() if started else NeverStarted(), now)
    if may_return:
        attempts.update(connection, attempt, state="lost")
    else:
        attempts.end(connection, attempt, now)


def _renew(
    connection: sa.Connection, job: JobState, attempt: Attempt, report: AttemptReport, now: float
) -> None:
    if job.attempt != attempt.number or job.status.final:
        attempts.end(connection, attempt, now)
        return
    returning = attempt.state == "lost" or job.phase is Phase.UNREACHABLE
    if returning:
        advanced(connection, job, Returned(report.phase), now)
    sampled_at = attempt.sampled_at
    if report.usage is not None and is_due(attempt.claimed_at, sampled_at, now):
        attempt_samples.add(connection, attempt.job_id, attempt.number, report.usage, now)
        sampled_at = now
    renewed = {"state": "live", "lease_until": now + LEASE, "sampled_at": sampled_at}
    attempts.update(connection, attempt, **renewed)


def _crossed(attempt: Attempt, before: float, now: float) -> bool:
    """Whether the attempt was claimed, or last listed, so lately that the poll may not know it.

    A claim by an accepted offer, or by an end, travels beside the polls. The first of them that
    comes after it may have been sent before it, however long it was on its way.
    """
    return before <= attempt.claimed_at <= now or now < attempt.lease_until - LEASE + UNLISTED


def _stale(report: AttemptReport) -> Command:
    return Command(job_id=report.job_id, attempt=report.attempt, action="stale")
