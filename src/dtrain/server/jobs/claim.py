"""How a waiting job becomes an attempt: by assignment, or by an owner's yes to an offer."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from dtrain.protocol.errors import Conflict, NotFound
from dtrain.protocol.resources import Free, fits, free_of, request_of
from dtrain.protocol.states import Phase, Status
from dtrain.protocol.worker_messages import Assignment, Claim, Offer, OfferReply, Poll
from dtrain.server.rules.leases import LEASE
from dtrain.server.rules.lifecycle import (
    BundleLost,
    Claimed,
    JobState,
    Offered,
    OffersGone,
    advance,
)
from dtrain.server.rules.scheduling import Candidate, plan, suits
from dtrain.server.rules.scheduling import order as served_in_order
from dtrain.server.store import attempts, job_views, jobs, offers, workers
from dtrain.server.store.attempts import Attempt
from dtrain.server.store.database import notice

from .advancing import advanced

ANSWER_TIME = 8.0
"""Seconds for which an answer from a worker's page waits for the worker."""


def topic(worker_id: str) -> str:
    """What is told when there may be something new for a worker."""
    return f"worker:{worker_id}"


def repeated(connection: sa.Connection, attempt: Attempt | None) -> Assignment | None:
    """What was brought before by the attempt's secret: the answer may have been lost."""
    if attempt is None or attempt.state not in attempts.HOLDING:
        return None
    spec, bundle, submitter = jobs.spec_of(connection, attempt.job_id)
    return Assignment(
        job_id=attempt.job_id,
        attempt=attempt.number,
        spec=spec,
        bundle=bundle,
        submitter=submitter,
    )


def is_spent(attempt: Attempt | None) -> bool:
    """Whether the attempt with a secret has come and gone, so that this can bring no other."""
    return attempt is not None and attempt.state not in attempts.HOLDING


def assign(
    connection: sa.Connection, candidate: Candidate, secret: str, now: float
) -> Assignment | None:
    """Give the worker the next job that fits, as the attempt with the secret it sent."""
    worker_id = candidate.worker_id
    # A few of each kind, so that another server process taking one leaves the next.
    waiting = jobs.waiting(connection, now, worker_id, per_kind=4)
    for job in sorted(waiting, key=served_in_order):
        if not plan([job], [candidate]):
            continue
        assignment = _claim(connection, job.job_id, worker_id, secret, now, skip_locked=True)
        if assignment is not None:
            return assignment
    return None


def refill(
    connection: sa.Connection, worker: workers.WorkerRow, claim: Claim, now: float
) -> tuple[Assignment | None, bool]:
    """Give a worker at which a job has ended the next one, unless only its polls may bring one.

    A poll of it that is held is told of what is free beyond that.

    Args:
        connection: inside a writing transaction.
        worker: as it is; no other writer touches it.
        claim: with which it asks.
        now: seconds since the epoch.

    Returns:
        The job, and whether the claim's secret can bring none any more.
    """
    free = _free(connection, worker)
    earlier = attempts.by_secret(connection, worker.id, claim.secret)
    assignment = repeated(connection, earlier)
    if earlier is not None and assignment is not None:
        # A poll may be on its way that lacks it, as after the first answer.
        attempts.update(connection, earlier, lease_until=now + LEASE)
    takes_none = worker.asks or worker.draining or worker.drained or worker.left
    if earlier is None and worker.session == claim.session and not takes_none:
        candidate = Candidate(worker_id=worker.id, capacity=worker.capacity, free=free)
        assignment = assign(connection, candidate, claim.secret, now)
    if assignment is None or free.slots > 1:
        notice(connection, topic(worker.id))
    return assignment, is_spent(earlier)


def offer(
    connection: sa.Connection, worker_id: str, message: Poll, free: Free, now: float
) -> list[int]:
    """Open offers for jobs that fit now and take back those that no longer do; which are open."""
    candidate = Candidate(worker_id=worker_id, capacity=message.capacity, free=free)
    waiting = jobs.waiting(connection, now, worker_id, per_kind=message.max_offers)
    fitting = [job for job in sorted(waiting, key=served_in_order) if suits(job, candidate, free)]
    wanted = [job.job_id for job in fitting[: message.max_offers]]
    lost = jobs.without_bundle(connection, wanted)
    is_open = offers.open_of_worker(connection, worker_id)
    for job_id in set(is_open) - set(wanted):
        withdraw(connection, now, job_id=job_id, worker_id=worker_id)
    for job_id in wanted:
        if job_id in is_open and job_id not in lost:
            continue
        state = jobs.lock(connection, job_id, skip_locked=True)
        if state is None or state.status is not Status.PENDING:
            continue
        if job_id in lost:
            _end_without_bundle(connection, state, now)
            continue
        offers.insert(connection, job_id, worker_id, now)
        advanced(connection, state, Offered(), now)
    return offers.open_of_worker(connection, worker_id)


def offers_of(connection: sa.Connection, job_ids: Sequence[int], now: float) -> list[Offer]:
    """Offers as a worker's owner sees them, oldest first."""
    if not job_ids:
        return []
    return [
        Offer(
            job_id=job.id,
            spec=job.spec,
            bundle=job.bundle,
            submitter=job.submitter,
            age=max(now - job.created_at.timestamp(), 0.0),
            retry_of=job.retry_of,
        )
        for job in job_views.of_ids(connection, job_ids)
    ]


def accept(
    connection: sa.Connection, worker_id: str, job_id: int, message: OfferReply, now: float
) -> Assignment:
    """The owner said yes: that is the claim.

    Raises:
        Conflict: the offer is gone, or the worker has no room for the job (`withdrawn`).
    """
    claimed = attempts.by_secret(connection, worker_id, message.secret)
    earlier = repeated(connection, claimed)
    if earlier is not None and earlier.job_id == job_id:
        return earlier
    gone = Conflict(
        f"The offer of job {job_id} is gone: it was taken or cancelled.", code="withdrawn"
    )
    if job_id not in offers.open_of_worker(connection, worker_id):
        raise gone
    if earlier is not None or is_spent(claimed):
        raise Conflict("The worker's secret is spent; try again in a moment.", code="withdrawn")
    row = workers.get(connection, worker_id)
    spec, _, _ = jobs.spec_of(connection, job_id)
    if not fits(request_of(spec), row.capacity, _free(connection, row)):
        raise Conflict(
            f"The worker has no room for job {job_id} any more; it is offered again when it has.",
            code="withdrawn",
        )
    assignment = _claim(connection, job_id, worker_id, message.secret, now, skip_locked=False)
    if assignment is None:
        raise gone
    return assignment


def decline(
    connection: sa.Connection, worker_id: str, job_id: int, reason: str | None, now: float
) -> None:
    """The owner said no: the job is not offered to this worker again.

    Raises:
        Conflict: the offer is gone (`withdrawn`).
    """
    jobs.lock(connection, job_id)
    reason = (reason or "").strip() or None
    if not offers.decline(connection, job_id, worker_id, reason, now):
        raise Conflict(f"The offer of job {job_id} is gone already.", code="withdrawn")
    jobs.note_declined(connection, job_id, worker_id, reason, now)
    _close_offers(connection, job_id, now)


def withdraw(
    connection: sa.Connection,
    now: float,
    *,
    job_id: int | None = None,
    worker_id: str | None = None,
) -> None:
    """Take back open offers, and have the workers told whose owners see them."""
    gone = offers.withdraw(connection, job_id=job_id, worker_id=worker_id)
    for told in {worker for _, worker in gone}:
        notice(connection, topic(told))
    for offered in {job for job, _ in gone}:
        _close_offers(connection, offered, now)


def _free(connection: sa.Connection, worker: workers.WorkerRow) -> Free:
    """What a worker has left for other jobs."""
    taken = attempts.taken_of(connection, worker.id)
    return free_of(worker.capacity, [one.request for one in taken])


def _close_offers(connection: sa.Connection, job_id: int, now: float) -> None:
    """Once no owner has the job before him, it is queued again and not offered."""
    state = jobs.lock(connection, job_id)
    if state is None or state.phase is not Phase.OFFERED:
        return
    if not offers.open_of_job(connection, job_id):
        advanced(connection, state, OffersGone(), now)


def _claim(
    connection: sa.Connection,
    job_id: int,
    worker_id: str,
    secret: str,
    now: float,
    *,
    skip_locked: bool,
) -> Assignment | None:
    state = jobs.lock(connection, job_id, skip_locked=skip_locked)
    if state is None or state.status is not Status.PENDING:
        return None
    try:
        spec, bundle, submitter = jobs.spec_of(connection, job_id)
    except NotFound:  # of the bundle: the job itself is held; the poll must not fail for it
        _end_without_bundle(connection, state, now)
        return None
    for attempt in attempts.open_of_job(connection, job_id) if state.attempt else ():
        # Whoever ran it before has lost it for good; its worker is told when it shows itself.
        attempts.end(connection, attempt, now)
    transition = advance(state, Claimed(worker_id), now)
    if transition is None:
        return None
    after = jobs.apply(connection, transition, now)
    number = after.attempt
    attempts.insert(connection, job_id, number, worker_id, secret, now, LEASE)
    withdraw(connection, now, job_id=job_id)
    return Assignment(job_id=job_id, attempt=number, spec=spec, bundle=bundle, submitter=submitter)


def _end_without_bundle(connection: sa.Connection, state: JobState, now: float) -> None:
    transition = advance(state, BundleLost(), now)
    if transition is not None:
        jobs.apply(connection, transition, now)
        withdraw(connection, now, job_id=state.id)
