"""Use cases about workers: enrolment, the poll that is heartbeat and question in one, drain."""

from __future__ import annotations

import secrets
import time
import uuid
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from dtrain.protocol.errors import Conflict, NotFound
from dtrain.protocol.messages import Worker, WorkerList
from dtrain.protocol.resources import Free, Request, free_of
from dtrain.protocol.states import OnStop
from dtrain.protocol.worker_messages import (
    PROTOCOL,
    Leave,
    OfferAnswer,
    OfferReply,
    Poll,
    PollAnswer,
    Register,
    Registered,
)

from .jobs import claim, presence
from .rules.leases import LEASE, is_away
from .store import attempts as stored_attempts
from .store import events as stored_events
from .store import workers as stored
from .store.database import moment, notice

if TYPE_CHECKING:
    from .services import Services

MAX_HOLD = 10.0
"""Seconds for which a poll is held at most."""


def topic(worker_id: str) -> str:
    """What is told when there may be something new for a worker."""
    return claim.topic(worker_id)


def authenticate(services: Services, token: str) -> str | None:
    """The worker whose own credential this is."""
    with services.database.read() as connection:
        return stored.by_credential(connection, token)


def register(services: Services, message: Register, *, credential_of: str | None) -> Registered:
    """An agent has started: enrol its worker if it is new, and begin a session.

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
    credential = None if credential_of else secrets.token_urlsafe(32)
    worker_id = credential_of or str(uuid.uuid4())
    now = services.clock.time()

    def work(connection: sa.Connection) -> int:
        if credential is not None:
            stored.insert(connection, worker_id, credential, message, now)
        # The agent before this one, if it still polls, is to hear that it is superseded.
        notice(connection, topic(worker_id))
        return stored.begin_session(connection, worker_id, message, now)

    session = services.database.write(work)
    return Registered(worker_id=worker_id, credential=credential, session=session, lease=LEASE)


def poll(services: Services, worker_id: str, message: Poll) -> PollAnswer:
    """Take the worker's report, and wait until there is something to tell it.

    Raises:
        Conflict: a newer session of the worker has begun (`superseded`).
    """
    deadline = time.monotonic() + min(message.wait, MAX_HOLD)
    # By the worker's own word until the first look: rather woken in vain than not at all.
    free = free_of(message.capacity, [Request()] * len(message.attempts))
    with (
        services.mailboxes.listen(topic(worker_id)) as woken,
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
    if message.number < row.poll_number:
        # A delayed copy of an earlier poll: what it reports is no longer so.
        return _Found(PollAnswer(), is_idle=False, free=free_of(message.capacity, []))
    stored.beat(connection, worker_id, message, now)
    if is_away(row.last_seen, now, left=row.left):
        stored_events.append(connection, "online", now, worker_id=worker_id, name=row.name)
    presence.reconcile(connection, worker_id, message, now)
    return _find(connection, worker_id, message, now)


def _look(services: Services, worker_id: str, message: Poll) -> _Found:
    """A further look while the poll is held."""

    def work(connection: sa.Connection) -> _Found:
        _current(connection, worker_id, message.session)
        return _find(connection, worker_id, message, services.clock.time())

    return services.database.write(work)


def _find(connection: sa.Connection, worker_id: str, message: Poll, now: float) -> _Found:
    commands, new_commands = presence.commands(connection, worker_id, message)
    row = stored.get(connection, worker_id)
    free = free_of(message.capacity, stored_attempts.taken_of(connection, worker_id))
    assignment = claim.repeated(connection, worker_id, message.next_secret)
    offers: list[int] = []
    if message.draining or row.drained:
        claim.withdraw(connection, now, worker_id=worker_id)
    elif message.asks:
        offers = claim.offer(connection, worker_id, message.capacity, free, now)
    elif assignment is None:
        assignment = claim.assign(connection, worker_id, message, free, now)
    answer = PollAnswer(
        assignment=assignment,
        offers=[claim.offer_of(connection, job_id, now) for job_id in offers],
        commands=commands,
        drain=row.drained,
    )
    news = new_commands or assignment is not None or sorted(offers) != sorted(message.offers)
    return _Found(answer, is_idle=not news, free=free)


def _current(connection: sa.Connection, worker_id: str, session: int) -> stored.WorkerRow:
    row = stored.get(connection, worker_id, lock=True)
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
        stored_events.append(
            connection, "left", now, worker_id=worker_id, name=row.name, leaves_jobs=leaves_jobs
        )

    services.database.write(work)


def listing(services: Services) -> WorkerList:
    """All workers, by name."""
    with services.database.read() as connection:
        taken = stored_attempts.taken(connection)
        rows = stored.listing(connection)
    now = services.clock.time()
    return WorkerList(
        workers=[_worker(row, [job_id for job_id, _ in taken.get(row.id, [])], now) for row in rows]
    )


def get(services: Services, worker_id: str) -> Worker:
    """One worker.

    Raises:
        NotFound: there is no such worker.
    """
    for worker in listing(services).workers:
        if worker.id == worker_id:
            return worker
    raise NotFound(f"There is no worker {worker_id}; `dtrain workers` lists the ones there are.")


def drain(services: Services, worker_id: str) -> Worker:
    """Let a worker finish what it runs and take nothing new, until it is resumed."""
    return _set_drained(services, worker_id, drained=True)


def resume(services: Services, worker_id: str) -> Worker:
    """Let a drained worker take jobs again."""
    return _set_drained(services, worker_id, drained=False)


def _set_drained(services: Services, worker_id: str, *, drained: bool) -> Worker:
    def work(connection: sa.Connection) -> None:
        row = stored.get(connection, worker_id, lock=True)
        if row.drained == drained:
            return
        now = services.clock.time()
        stored.update(connection, worker_id, drained=drained)
        if drained:
            claim.withdraw(connection, now, worker_id=worker_id)
        kind = "drained" if drained else "resumed"
        stored_events.append(connection, kind, now, worker_id=worker_id, name=row.name)
        notice(connection, topic(worker_id))

    services.database.write(work)
    return get(services, worker_id)


def _worker(row: stored.WorkerRow, jobs: list[int], now: float) -> Worker:
    return Worker(
        id=row.id,
        name=row.name,
        state=row.state(now),
        hostname=row.hostname,
        version=row.version,
        capacity=row.capacity,
        metrics=row.metrics,
        jobs=jobs,
        asks=row.asks,
        last_seen=moment(row.last_seen),
    )
