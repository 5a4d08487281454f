"""Use cases for owners who are not at their worker's terminal: its offers, and the word on them.

What an owner says here goes to the worker, which finds out whether it was its owner, and then acts
as if it had been said at its terminal. The server alone can start nothing (`protocol.consent`).
"""

from __future__ import annotations

import secrets
import threading
import time
from typing import TYPE_CHECKING

import sqlalchemy as sa

from dtrain.protocol.consent import key_of, prove
from dtrain.protocol.errors import Conflict, Forbidden, Unavailable
from dtrain.protocol.messages import BundleContents, OfferSettled, OwnerAnswer
from dtrain.protocol.states import Outcome
from dtrain.protocol.worker_messages import AnswerOutcome, OfferList, PageAnswer

from .jobs import claim
from .jobs.contents import contents
from .store import offers as stored_offers
from .store import page_answers as stored
from .store import workers as stored_workers
from .store.database import notice

if TYPE_CHECKING:
    from .services import Services

CODE_TRIES = 5
"""Wrong codes that an address may send for one worker within a minute."""


def offers(services: Services, worker_id: str) -> OfferList:
    """The jobs that are before a worker's owner.

    Raises:
        NotFound: there is no such worker.
    """
    now = services.clock.time()
    with services.database.read() as connection:
        stored_workers.get(connection, worker_id)
        is_open = stored_offers.open_of_worker(connection, worker_id)
        return OfferList(offers=claim.offers_of(connection, is_open, now))


def files(services: Services, worker_id: str, job_id: int) -> BundleContents:
    """What is in the bundle of a job that is before a worker's owner.

    Raises:
        Conflict: the job is not offered to this worker (`withdrawn`).
    """
    with services.database.read() as connection:
        _check_open(connection, worker_id, job_id)
    return contents(services, job_id)


def answer(
    services: Services, worker_id: str, job_id: int, message: OwnerAnswer, *, address: str
) -> OfferSettled:
    """Bring an owner's word to the worker, and wait for what the worker does.

    Args:
        services: the server's parts.
        worker_id: the worker.
        job_id: the job that is offered.
        message: the owner's word.
        address: from where it comes; wrong codes are counted by it.

    Raises:
        NotFound: there is no such worker.
        Forbidden: the code is not the owner's (`wrong_code`).
        Conflict: the offer is gone (`withdrawn`), or the worker cannot be asked (`not_on_page`).
        Unavailable: too many wrong codes (`too_many_tries`), or the worker does not answer
            (`no_answer`): nobody knows whether it acts on the word.
    """
    services.code_tries.begin(address, worker_id)
    outcome: AnswerOutcome | None = None
    try:
        outcome = _asked(services, worker_id, job_id, message)
    finally:
        if outcome is None or outcome.outcome is not Outcome.WRONG_CODE:
            services.code_tries.forgive(address, worker_id)
    match outcome.outcome:
        case Outcome.WRONG_CODE:
            raise Forbidden(
                "This is not the code of the worker's owner; the worker shows it at its start.",
                code="wrong_code",
            )
        case Outcome.TOO_MANY_TRIES:
            raise Unavailable(
                "Too many wrong codes for this worker; wait a minute and try again.",
                code="too_many_tries",
                status=429,
                retry_after=60.0,
            )
        case Outcome.REFUSED:
            raise Conflict(outcome.detail or "The worker refuses it.", code="withdrawn")
    return OfferSettled(job_id=job_id, accepted=message.accept)


def settle(services: Services, worker_id: str, answer_id: str, message: AnswerOutcome) -> None:
    """The worker says what it made of an answer."""
    services.database.write(
        lambda connection: stored.settle(connection, worker_id, answer_id, message)
    )


def _asked(services: Services, worker_id: str, job_id: int, message: OwnerAnswer) -> AnswerOutcome:
    answer_id = secrets.token_hex(16)
    reason = (message.reason or "").strip() or None
    proof = prove(
        key_of(message.code, worker_id), answer_id, job_id, accept=message.accept, reason=reason
    )
    handed = PageAnswer(
        id=answer_id, job_id=job_id, accept=message.accept, reason=reason, proof=proof
    )

    def hand_over(connection: sa.Connection) -> None:
        now = services.clock.time()
        row = stored_workers.get(connection, worker_id)
        if row.state(now) == "offline":
            raise Conflict(f"{row.name} is offline; start it first.", code="not_on_page")
        if not row.answer_on_page:
            raise Conflict(
                f"The owner of {row.name} answers at its terminal alone.", code="not_on_page"
            )
        _check_open(connection, worker_id, job_id)
        stored.insert(connection, worker_id, handed, now)
        notice(connection, claim.topic(worker_id))

    with services.mailboxes.listen(stored.topic(answer_id)) as woken:
        services.database.write(hand_over)
        try:
            return _awaited(services, answer_id, woken)
        finally:
            services.database.write(lambda connection: stored.delete(connection, answer_id))


def _awaited(services: Services, answer_id: str, woken: threading.Event) -> AnswerOutcome:
    deadline = time.monotonic() + claim.ANSWER_TIME
    while True:
        woken.wait(max(deadline - time.monotonic(), 0))
        woken.clear()
        with services.database.read() as connection:
            outcome = stored.outcome(connection, answer_id)
        if outcome is not None:
            return outcome
        if services.stop.is_set() or time.monotonic() >= deadline:
            raise Unavailable(
                "The worker has not answered; look whether the job runs, and try again.",
                code="no_answer",
            )


def _check_open(connection: sa.Connection, worker_id: str, job_id: int) -> None:
    if job_id not in stored_offers.open_of_worker(connection, worker_id):
        raise Conflict(f"Job {job_id} is not offered to this worker any more.", code="withdrawn")
