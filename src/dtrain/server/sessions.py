"""Use cases of an agent: enrolment, the poll that is heartbeat and question in one, its leaving."""

from __future__ import annotations

import secrets
import time
import uuid
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from dtrain.protocol.errors import Conflict, NotFound, Unauthorized
from dtrain.protocol.resources import Free, Request, free_of
from dtrain.protocol.states import OnStop
from dtrain.protocol.worker_messages import (
    PROTOCOL,
    Leave,
    OfferAnswer,
    OfferReply,
    PageAnswer,
    Poll,
    PollAnswer,
    Register,
    Registered,
)

from .jobs import claim, presence
from .rules.leases import LEASE, is_away
from .rules.scheduling import Candidate
from .store import attempts as stored_attempts
from .store import events as stored_events
from .store import page_answers, worker_samples
from .store import workers as stored
from .store.database import notice

if TYPE_CHECKING:
    from .services import Services

MAX_HOLD = 10.0
"""Seconds for which a poll is held at most."""


def register(services: Services, message: Register, *, credential_of: str | None) -> Registered:
    """An agent has started: enrol its worker if it is new, and begin a session.

    An enrolment whose answer was lost comes again with the same credential, and is the same worker.

    Args:
        services: the server's parts.
        message: who comes.
        credential_of: the worker whose credential was shown; None if it was the shared token.

    Raises:
        Conflict: the worker is of another version of the protocol (`version`).
    """
    if message.protocol != PROTOCOL:
        older = "worker" if message.protocol < PROTOCOL else "server"
        raise Conflict(
            f"The worker speaks protocol {message.protocol} and the server {PROTOCOL};"
            f" upgrade the {older} to the other's version of DTrain.",
            code="version",
            status=426,
        )
    credential = None
    if credential_of is None:
        credential = message.credential or secrets.token_urlsafe(32)
    new_id = str(uuid.uuid4())
    now = services.clock.time()

    def work(connection: sa.Connection) -> Registered:
        worker_id = credential_of or stored.by_hash(
            connection, stored.hash_credential(credential or "")
        )
        if worker_id is None:
            worker_id = new_id
            stored.insert(connection, worker_id, credential or "", message, now)
        # The agent before this one, if it still polls, is to hear that it is superseded.
        notice(connection, claim.topic(worker_id))
        session = stored.begin_session(connection, worker_id, message, now)
        return Registered(worker_id=worker_id, credential=credential, session=session, lease=LEASE)

    return services.database.write(work)


def poll(services: Services, worker_id: str, message: Poll) -> PollAnswer:
    """Take the worker's report, and wait until there is something to tell it.

    Raises:
        Conflict: a newer session of the worker has begun (`superseded`).
        Unauthorized: the agent must register again (`restored`).
    """
    deadline = time.monotonic() + min(message.wait, MAX_HOLD)
    # By the worker's own word until the first look: rather woken in vain than not at all.
    free = free_of(message.capacity, [Request()] * len(message.attempts))
    with (
        services.mailboxes.listen(claim.topic(worker_id)) as woken,
        services.polls.hold(woken, message.capacity, free, asks=message.asks) as held,
    ):
        found = services.database.write(
            lambda connection: _beat(connection, worker_id, message, services.clock.time())
        )
        while found.is_idle and not services.stop.is_set():
            if not held.wait(found.free, max(deadline - time.monotonic(), 0)):
                break
            found = _look(services, worker_id, message)
        return found.answer


class _Found(msgspec.Struct, frozen=True):
    """What a look has found."""

    answer: PollAnswer
    is_idle: bool
    """Whether the worker knows all of it already, so that the answer can wait."""
    free: Free


def _beat(connection: sa.Connection, worker_id: str, message: Poll, now: float) -> _Found:
    """The first look of a poll: what the worker says is stored, then answered."""
    row = _current(connection, worker_id, message.session)
    if message.number < row.poll_number or row.left:
        # A delayed copy of an earlier poll: what it reports is no longer so.
        return _nothing(message)
    held = presence.hold(connection, worker_id, message)
    stored.beat(connection, worker_id, message, now)
    minute_of = worker_samples.minute_of
    if message.number == 1 or minute_of(now) != minute_of(row.last_seen):
        worker_samples.add(connection, worker_id, message.metrics, now)
    if is_away(row.last_seen, now, left=False):
        stored_events.append(connection, "online", now, worker_id=worker_id, name=row.name)
    presence.reconcile(connection, worker_id, message, held, row.last_seen, now)
    row = msgspec.structs.replace(row, draining=message.draining)
    return _find(connection, row, message, now)


def _look(services: Services, worker_id: str, message: Poll) -> _Found:
    """A further look while the poll is held."""

    def work(connection: sa.Connection) -> _Found:
        row = _current(connection, worker_id, message.session)
        if row.left:
            return _nothing(message)
        presence.hold(connection, worker_id, message)
        return _find(connection, row, message, services.clock.time())

    return services.database.write(work)


def _nothing(message: Poll) -> _Found:
    """The answer to a poll behind which nobody is any more."""
    return _Found(PollAnswer(), is_idle=False, free=free_of(message.capacity, []))


def _find(connection: sa.Connection, row: stored.WorkerRow, message: Poll, now: float) -> _Found:
    worker_id = row.id
    commands, new_commands = presence.commands(connection, worker_id, message)
    taken = stored_attempts.taken_of(connection, worker_id)
    free = free_of(message.capacity, [one.request for one in taken])
    claimed = stored_attempts.by_secret(connection, worker_id, message.next_secret)
    assignment = None if message.draining else claim.repeated(connection, claimed)
    is_spent = claim.is_spent(claimed)
    offers: list[int] = []
    # The row may know better than a poll that has been held for a while.
    takes_none = message.draining or row.draining or row.drained
    if takes_none:
        claim.withdraw(connection, now, worker_id=worker_id)
    elif message.asks:
        offers = claim.offer(connection, worker_id, message, free, now)
    elif assignment is None and not is_spent:
        candidate = Candidate(worker_id=worker_id, capacity=message.capacity, free=free)
        assignment = claim.assign(connection, candidate, message.next_secret, now)
    answers: list[PageAnswer] = []
    if message.answer_on_page:
        answers = page_answers.unsettled(connection, worker_id, now - claim.ANSWER_TIME)
    answer = PollAnswer(
        assignment=assignment,
        offers=claim.offers_of(connection, offers, now),
        commands=commands,
        drain=row.drained,
        secret_spent=is_spent,
        answers=answers,
    )
    if takes_none:
        free = msgspec.structs.replace(free, slots=0)  # a new job must wake another worker
    # What has begun since the poll was sent can be told of its cancel by the next one alone.
    news = new_commands or presence.has_unlisted_cancel(message, taken)
    news = news or is_spent or assignment is not None or row.draining != message.draining
    news = news or sorted(offers) != sorted(message.offers)
    news = news or not {answer.id for answer in answers} <= set(message.answers)
    return _Found(answer, is_idle=not news, free=free)


def _current(connection: sa.Connection, worker_id: str, session: int) -> stored.WorkerRow:
    try:
        row = stored.get(connection, worker_id, lock=True)
    except NotFound:
        raise Unauthorized(
            "The server has forgotten this worker; it can enrol anew.", code="wrong_worker_token"
        ) from None
    if row.session < session:
        raise Unauthorized(
            "The server has been restored from a backup that does not know this agent; it has to"
            " register once more.",
            code="restored",
        )
    if row.session != session:
        raise Conflict(
            "Another agent has started with this worker's identity; this one stops.",
            code="superseded",
        )
    return row


def answer_offer(
    services: Services, worker_id: str, job_id: int, message: OfferReply
) -> OfferAnswer:
    """The owner's word: a yes is a claim, a no keeps the job from this worker for good.

    Raises:
        Conflict: the offer is gone (`withdrawn`), or the session is an older one (`superseded`).
    """

    def work(connection: sa.Connection) -> OfferAnswer:
        _current(connection, worker_id, message.session)
        now = services.clock.time()
        if message.accept:
            return OfferAnswer(assignment=claim.accept(connection, worker_id, job_id, message, now))
        claim.decline(connection, worker_id, job_id, message.reason, now)
        return OfferAnswer(assignment=None)

    return services.database.write(work)


def leave(services: Services, worker_id: str, message: Leave) -> None:
    """The agent ends. Its jobs go on only if it says so; else it has reported their end before.

    Raises:
        Conflict: the session is an older one (`superseded`).
    """

    def work(connection: sa.Connection) -> None:
        row = _current(connection, worker_id, message.session)
        now = services.clock.time()
        stored.update(connection, worker_id, left=True, last_seen=now)
        claim.withdraw(connection, now, worker_id=worker_id)
        leaves_jobs = message.on_stop is OnStop.LEAVE
        if not leaves_jobs:
            _take_back_what_crossed(connection, worker_id, now)
        stored_events.append(
            connection, "left", now, worker_id=worker_id, name=row.name, leaves_jobs=leaves_jobs
        )
        # A poll of its may be held, and must take nothing.
        notice(connection, claim.topic(worker_id))

    services.database.write(work)


def _take_back_what_crossed(connection: sa.Connection, worker_id: str, now: float) -> None:
    """Queue again what a held poll was answered with while its agent was already stopping.

    That may be the very job that the agent has just handed back.
    """
    presence.hold(connection, worker_id)
    for attempt in stored_attempts.of_worker(connection, worker_id, ("assigned",)):
        presence.give_up(connection, attempt, now, started=False)
