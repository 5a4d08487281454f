"""The owner's word, from the terminal and from the page, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.processes import PATIENCE, wait_for
from support.queue import Hand, submitted

from dtrain.protocol.consent import key_of
from dtrain.protocol.errors import Conflict, DTrainError, Forbidden, NotFound, Unavailable
from dtrain.protocol.messages import OfferSettled, OwnerAnswer
from dtrain.protocol.states import Outcome, Phase, Status
from dtrain.protocol.worker_messages import AnswerOutcome, OfferReply, PageAnswer
from dtrain.server import consent, sessions, workers
from dtrain.server.jobs import cancel, explain, read
from dtrain.server.services import Services
from dtrain.worker.owner_code import OwnerCode

CODE = "K01M2Q9T"


@pytest.fixture(autouse=True)
def _patient_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine, the worker sees to an answer in time."""
    monkeypatch.setattr("dtrain.server.jobs.claim.ANSWER_TIME", 10 * PATIENCE)
    monkeypatch.setattr("dtrain.server.sessions.MAX_HOLD", 10 * PATIENCE)


def owner(services: Services, name: str = "worker", **options: Any) -> Hand:
    """A worker whose owner wants to be asked."""
    return Hand(services, name, asks=True, **options)


def reply(hand: Hand, job_id: int, *, accept: bool, reason: str | None = None) -> Any:
    """The owner's word, as the worker passes it on."""
    message = OfferReply(session=hand.session, accept=accept, secret=hand.secret, reason=reason)
    return sessions.answer_offer(hand.services, hand.id, job_id, message).assignment


class Asked:
    """Somebody who answers on the page, on a thread of his own."""

    def __init__(self, services: Services, hand: Hand, job_id: int, **said: Any) -> None:
        self.result: OfferSettled | DTrainError | None = None
        message = OwnerAnswer(**{"accept": True, "code": CODE, **said})

        def ask() -> None:
            try:
                self.result = consent.answer(
                    services, hand.id, job_id, message, address="192.0.2.7"
                )
            except DTrainError as error:
                self.result = error

        self._thread = threading.Thread(target=ask)
        self._thread.start()

    def said(self) -> OfferSettled | DTrainError | None:
        """What the answer came to."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        return self.result


def see_to(hand: Hand, job_id: int) -> PageAnswer:
    """What a worker does with the next answer from its page."""
    polled = hand.poll(wait=60, offers=[job_id], answer_on_page=True)
    (answer,) = polled.answers
    code = OwnerCode(CODE)
    code.belong_to(hand.id)
    outcome = code.complaint_of(answer) or Outcome.DONE
    detail = None
    if outcome is Outcome.DONE:
        try:
            reply(hand, answer.job_id, accept=answer.accept, reason=answer.reason)
        except Conflict as error:
            outcome, detail = Outcome.REFUSED, error.detail
    message = AnswerOutcome(outcome=outcome, detail=detail)
    consent.settle(hand.services, hand.id, answer.id, message)
    return answer


def test_reasons_of_all_who_declined_are_explained(services: Services) -> None:
    job = submitted(services)
    one, two = owner(services, "one"), owner(services, "two")
    assert [len(hand.poll().offers) for hand in (one, two)] == [1, 1]
    assert explain.explain(services, job.id).summary == (
        "It waits for the word of the owner of one or two."
    )
    reply(one, job.id, accept=False, reason=" too big for me ")
    assert read.get(services, job.id).phase is Phase.OFFERED
    reply(two, job.id, accept=False, reason="  ")
    found = explain.explain(services, job.id)
    assert found.summary == (
        "Every worker that could run it has declined it: one (too big for me) and two; add another"
        " one, or hand it in again."
    )
    assert {fit.worker: (fit.declined, fit.reason) for fit in found.workers} == {
        "one": (True, "too big for me"),
        "two": (True, None),
    }
    declined = [one for one in read.events(services, job.id).events if one.kind == "declined"]
    assert [(one.data["worker"], one.data["declined_because"]) for one in declined] == [
        ("one", "too big for me"),
        ("two", None),
    ]
    assert one.poll().offers == two.poll().offers == []


def test_offers_reserve_nothing_and_a_claim_withdraws_the_others(services: Services) -> None:
    job = submitted(services)
    hands = [owner(services, f"w{number}") for number in range(4)]
    for hand in hands:
        assert [offer.job_id for offer in hand.poll().offers] == [job.id]
    got: list[Any] = []

    def say_yes(hand: Hand) -> None:
        try:
            got.append(reply(hand, job.id, accept=True))
        except Conflict as error:
            got.append(error.code)

    threads = [threading.Thread(target=say_yes, args=(hand,)) for hand in hands]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got.count("withdrawn") == 3
    for hand in hands:
        assert consent.offers(services, hand.id).offers == []


def test_two_yeses_never_take_what_is_there_once(services: Services) -> None:
    """Both fitted when they were offered."""
    first, second = submitted(services, memory_gb=6), submitted(services, memory_gb=6)
    hand = owner(services, slots=2)
    assert len(hand.poll().offers) == 2
    hand.take(reply(hand, first.id, accept=True))
    with pytest.raises(Conflict, match="no room for job 2") as refused:
        reply(hand, second.id, accept=True)
    assert refused.value.code == "withdrawn"
    assert hand.poll().offers == []


def test_worker_wants_so_many_offers(services: Services) -> None:
    for _ in range(25):
        submitted(services)
    hand = owner(services)
    assert len(hand.poll().offers) == 20
    assert len(hand.poll(max_offers=100).offers) == 25
    assert len(hand.poll(max_offers=3).offers) == 3


def test_files_are_for_those_to_whom_the_job_is_offered(services: Services) -> None:
    job = submitted(services)
    asked, other = owner(services, "asked"), owner(services, "other", labels={"a": "b"})
    asked.poll()
    assert [file.path for file in consent.files(services, asked.id, job.id).files] == ["main.py"]
    for worker, job_id in ((other.id, job.id), (asked.id, 99), ("nobody", job.id)):
        with pytest.raises(Conflict, match="not offered"):
            consent.files(services, worker, job_id)
    reply(asked, job.id, accept=False)
    with pytest.raises(Conflict):
        consent.files(services, asked.id, job.id)


def test_accept_on_the_page_is_the_workers_claim(services: Services) -> None:
    job = submitted(services)
    hand = owner(services)
    hand.poll(answer_on_page=True)
    started = time.monotonic()
    asked = Asked(services, hand, job.id)
    answer = see_to(hand, job.id)
    assert asked.said() == OfferSettled(job_id=job.id, accepted=True)
    assert time.monotonic() - started < 50
    assert (answer.accept, answer.reason) == (True, None)
    assert read.get(services, job.id).status is Status.RUNNING
    assert hand.poll(answer_on_page=True).answers == []


def test_held_poll_is_woken_and_knows_what_it_is_at(services: Services) -> None:
    job = submitted(services)
    hand = owner(services)
    hand.poll(answer_on_page=True)
    asked = Asked(services, hand, job.id, accept=False, reason="not now")
    polled = hand.poll(wait=60, offers=[job.id], answer_on_page=True)
    (answer,) = polled.answers
    assert (answer.job_id, answer.accept, answer.reason) == (job.id, False, "not now")
    busy = hand.poll(wait=0.2, offers=[job.id], answer_on_page=True, answers=[answer.id])
    assert busy.answers == [answer]
    refused = AnswerOutcome(outcome=Outcome.REFUSED, detail="It is gone.")
    other = owner(services, "other")
    consent.settle(services, other.id, answer.id, AnswerOutcome(outcome=Outcome.DONE))
    consent.settle(services, hand.id, answer.id, refused)
    said = asked.said()
    assert isinstance(said, Conflict)
    assert said.detail == "It is gone."


def test_wrong_code_is_refused_and_counted_by_worker_and_address(services: Services) -> None:
    job = submitted(services)
    hand, other = owner(services), owner(services, "other")
    hand.poll(answer_on_page=True), other.poll(answer_on_page=True)
    for _ in range(consent.CODE_TRIES):
        asked = Asked(services, hand, job.id, code="WRONG")
        see_to(hand, job.id)
        said = asked.said()
        assert isinstance(said, Forbidden)
        assert said.code == "wrong_code"
    said = Asked(services, hand, job.id).said()
    assert isinstance(said, Unavailable)
    assert (said.status, said.code) == (429, "too_many_tries")
    assert read.get(services, job.id).status is Status.PENDING
    asked = Asked(services, other, job.id)
    see_to(other, job.id)
    assert isinstance(asked.said(), OfferSettled), "the other worker's owner has not tried"


def test_code_is_stored_nowhere(services: Services, tmp_path: Path) -> None:
    job = submitted(services)
    hand = owner(services)
    hand.poll(answer_on_page=True)
    asked = Asked(services, hand, job.id, code="THE-C0DE")
    polled = hand.poll(wait=60, offers=[job.id], answer_on_page=True)
    key = key_of("THE-C0DE", hand.id)
    with services.database.read() as connection:
        dump = [
            connection.exec_driver_sql(f"SELECT * FROM {table}").all()
            for table in ("page_answers", "workers", "offers", "events")
        ]
    assert polled.answers[0].proof in str(dump)
    for secret in ("THE-C0DE", "THEC0DE", key.hex(), repr(key)):
        assert secret not in str(dump)
    consent.settle(
        services, hand.id, polled.answers[0].id, AnswerOutcome(outcome=Outcome.WRONG_CODE)
    )
    asked.said()
    with services.database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM page_answers").scalar() == 0


def test_two_words_on_one_offer_are_one(services: Services) -> None:
    """The terminal and the page at once: the worker's call is the claim, and one comes first."""
    job = submitted(services)
    hand = owner(services)
    hand.poll(answer_on_page=True)
    asked = Asked(services, hand, job.id)
    wait_for(lambda: hand.poll(offers=[job.id], answer_on_page=True).answers, "the answer")
    reply(hand, job.id, accept=False, reason="at the terminal")
    see_to(hand, job.id)
    said = asked.said()
    assert isinstance(said, Conflict)
    assert read.get(services, job.id).status is Status.PENDING


def ends(services: Services, hand: Hand, job_id: int) -> None:
    cancel.cancel(services, job_id, by=None)


def drains(services: Services, hand: Hand, job_id: int) -> None:
    workers.drain(services, hand.id)


@pytest.mark.parametrize("happens", [ends, drains])
def test_offer_that_is_gone_cannot_be_answered(
    services: Services, happens: Callable[[Services, Hand, int], None]
) -> None:
    job = submitted(services)
    hand = owner(services)
    hand.poll(answer_on_page=True)
    happens(services, hand, job.id)
    said = Asked(services, hand, job.id).said()
    assert isinstance(said, Conflict)
    assert said.code == "withdrawn"


def test_owner_who_answers_at_the_terminal_alone_is_not_asked_elsewhere(
    services: Services,
) -> None:
    job = submitted(services)
    hand = owner(services, "private")
    hand.poll()
    said = Asked(services, hand, job.id).said()
    assert isinstance(said, Conflict)
    assert said.detail == "The owner of private answers at its terminal alone."
    shown = workers.get(services, hand.id)
    assert (shown.answer_on_page, shown.offers) == (False, [job.id])


def test_worker_that_is_not_there_is_said_to_be(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dtrain.server.jobs.claim.ANSWER_TIME", 0.3)
    job = submitted(services)
    hand = owner(services)
    hand.poll(answer_on_page=True)
    said = Asked(services, hand, job.id).said()
    assert isinstance(said, Unavailable)
    assert said.code == "no_answer"
    assert hand.poll(offers=[job.id], answer_on_page=True).answers == [], "it comes too late"
    with pytest.raises(NotFound):
        consent.offers(services, "nobody")


def test_older_worker_without_the_page_gets_its_offers(services: Services) -> None:
    """What it does not say has a default."""
    job = submitted(services)
    hand = owner(services)
    answer = hand.poll()
    assert [offer.job_id for offer in answer.offers] == [job.id]
    assert answer.answers == []
