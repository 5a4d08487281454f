"""What the queue makes of silence: of workers, of the server itself, of its database and clock."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, cast

import pytest
import sqlalchemy as sa
from support.processes import wait_for
from support.queue import Hand, advance_clock, let_pass, open_services, set_clock, submitted

from dtrain.protocol.errors import Conflict, Invalid, Unavailable
from dtrain.protocol.states import Cause, OnStop, Phase, Status
from dtrain.protocol.worker_messages import ArtifactInfo, Leave, OfferReply, PollAnswer
from dtrain.server import sessions, workers
from dtrain.server.background import Background
from dtrain.server.jobs import logs, metrics, read, report
from dtrain.server.jobs.fencing import AttemptRef
from dtrain.server.services import Services
from dtrain.server.store import workers as stored_workers
from dtrain.server.store.schema import jobs

PATIENCE = 300


pytestmark = pytest.mark.usefixtures("patient_polls")


def lose(services: Services, hand: Hand) -> None:
    """Let the worker be silent until its attempts are given up."""
    let_pass(Background(services), services, 320)


def test_claim_that_never_arrived_and_was_given_up_does_not_starve_its_worker(
    services: Services,
) -> None:
    submitted(services)
    hand = Hand(services)
    secret = hand.secret
    hand.poll()
    hand.attempts.clear()
    hand.secret = secret
    lose(services, hand)
    hand.register_again()
    answer = hand.poll(wait=5)
    assert (answer.assignment, answer.secret_spent) == (None, True)
    hand.secret = secret[::-1]
    assert hand.poll().assignment is not None


def test_enrolment_that_is_repeated_enrols_one_worker(services: Services) -> None:
    """Its answer was lost; without a key there would be a worker that nobody is."""
    hand = Hand(services)
    message = hand.registration(credential="c" * 43)
    first = sessions.register(services, message, credential_of=None)
    again = sessions.register(services, message, credential_of=None)
    assert (again.worker_id, again.credential) == (first.worker_id, first.credential)
    assert again.session == first.session + 1
    assert [one.id for one in workers.listing(services).workers] == [hand.id, first.worker_id]
    assert services.credentials.worker_of("c" * 43) == first.worker_id


def test_worker_that_another_process_has_forgotten_can_enrol_anew(services: Services) -> None:
    message = Hand(services).registration(credential="c" * 43)
    first = sessions.register(services, message, credential_of=None)
    known = services.credentials
    assert known.worker_of("c" * 43) == first.worker_id
    change = {"credential_hash": "forgotten"}  # whose notice is still to come
    services.database.write(lambda one: stored_workers.update(one, first.worker_id, **change))
    assert known.worker_of("c" * 43) == first.worker_id
    assert known.worker_of("c" * 43, is_asked=True) is None
    assert known.worker_of("c" * 43) is None


def test_spent_secret_takes_no_offer(services: Services) -> None:
    first = submitted(services)
    hand = Hand(services, asks=True)
    hand.poll()
    reply = OfferReply(session=hand.session, accept=True, secret=hand.secret)
    sessions.answer_offer(services, hand.id, first.id, reply)
    lose(services, hand)
    second = submitted(services)
    assert hand.poll().secret_spent
    with pytest.raises(Conflict):
        sessions.answer_offer(services, hand.id, second.id, reply)


def test_job_that_was_assigned_to_a_worker_as_it_left_is_given_to_another(
    services: Services,
) -> None:
    job = submitted(services)
    hand, other = Hand(services, "leaves"), Hand(services, "stays")
    assert hand.poll().assignment is not None
    sessions.leave(services, hand.id, Leave(session=hand.session, on_stop=OnStop.HAND_BACK))
    again = other.run_next()
    assert (again.job_id, again.attempt) == (job.id, 2)


def test_job_that_is_handed_back_goes_to_another_worker(services: Services) -> None:
    job = submitted(services)
    hand, other = Hand(services, "leaves"), Hand(services, "stays")
    brought: list[PollAnswer] = []
    ref = hand.run_next()
    next_poll = hand.number + 1
    held = threading.Thread(target=lambda: brought.append(hand.poll(wait=60)))
    held.start()

    def has_looked() -> bool:
        with services.database.read() as connection:
            return stored_workers.get(connection, hand.id).poll_number == next_poll

    wait_for(has_looked, "the poll to be held")
    hand.finish(ref, Cause.HANDED_BACK)
    held.join(PATIENCE)
    assert brought[0].assignment is None
    again = other.run_next()
    assert (again.job_id, again.attempt) == (job.id, 2)
    assert hand.poll().assignment is None
    submitted(services)
    assert hand.poll().assignment is not None, "a worker that polls on is not one that leaves"


def test_job_that_goes_on_without_its_agent_is_not_given_to_another(services: Services) -> None:
    submitted(services)
    hand, other = Hand(services, "leaves"), Hand(services, "stays")
    hand.run_next()
    sessions.leave(services, hand.id, Leave(session=hand.session, on_stop=OnStop.LEAVE))
    assert other.poll().assignment is None


def test_held_poll_of_a_worker_that_leaves_takes_no_job(services: Services) -> None:
    hand, other = Hand(services, "leaves"), Hand(services, "stays")
    answers: list[PollAnswer] = []
    thread = threading.Thread(target=lambda: answers.append(hand.poll(wait=60)))
    thread.start()
    wait_for(lambda: len(services.polls), "the poll to be held")
    begun = time.monotonic()
    sessions.leave(services, hand.id, Leave(session=hand.session, on_stop=OnStop.HAND_BACK))
    job = submitted(services)
    thread.join()
    assert time.monotonic() - begun < 50
    assert answers[0].assignment is None
    assert hand.poll().assignment is None, "a delayed poll of a worker that has left"
    assert other.run_next().job_id == job.id
    hand.register_again()
    submitted(services)
    assert hand.poll().assignment is not None


def test_job_that_a_draining_worker_did_not_take_goes_to_another(services: Services) -> None:
    job = submitted(services)
    hand, other = Hand(services, "drains"), Hand(services, "other")
    secret = hand.secret
    hand.poll()
    hand.attempts.clear()
    hand.secret = secret
    begun = time.monotonic()
    assert hand.poll(wait=1, draining=True).assignment is None
    assert time.monotonic() - begun > 0.9, "polls must not be answered in haste"
    advance_clock(services, 20)
    hand.poll(draining=True)
    waiting = read.get(services, job.id)
    assert (waiting.phase, waiting.message) == (Phase.QUEUED, None)
    assert other.run_next().attempt == 2


def test_reported_end_waits_as_long_as_bytes_of_it_come(services: Services) -> None:
    job = submitted(services)
    hand = Hand(services)
    ref = hand.run_next()
    background = Background(services)
    hand.finish(ref, log_bytes=30)
    for offset in (0, 10):
        let_pass(background, services, PATIENCE - 30)
        hand.log(ref, offset, b"123456789\n")
    let_pass(background, services, PATIENCE - 30)
    assert read.get(services, job.id).status is Status.RUNNING
    hand.log(ref, 20, b"123456789\n")
    done = read.get(services, job.id)
    assert (done.status, done.message) == (Status.COMPLETED, None)


def test_reported_end_is_applied_without_what_never_comes(services: Services) -> None:
    job = submitted(services)
    hand = Hand(services)
    hand.finish(hand.run_next(), log_bytes=30)
    let_pass(Background(services), services, PATIENCE + 20)
    done = read.get(services, job.id)
    assert done.status is Status.COMPLETED
    assert "incomplete" in (done.message or "")


class SlowUpload:
    """An upload of which each piece takes 40 seconds, while the background work goes on."""

    def __init__(self, services: Services, *pieces: bytes | Callable[[], object]) -> None:
        self._services = services
        self._background = Background(services)
        self._pieces = iter(pieces)

    def read(self, _size: int = -1) -> bytes:
        let_pass(self._background, self._services, 40)
        piece = next(self._pieces, b"")
        if isinstance(piece, bytes):
            return piece
        piece()
        return b"-"

    def put(self, ref: AttemptRef, wanted: ArtifactInfo) -> None:
        """Bring it as the content of an artifact."""
        stream = cast(BinaryIO, self)
        report.put_artifact(self._services, ref, wanted.path, wanted.sha256, stream)


WANTED = ArtifactInfo(path="model", size=10, sha256=hashlib.sha256(10 * b"-").hexdigest())


def test_reported_end_waits_for_an_upload_that_goes_on(services: Services) -> None:
    job = submitted(services)
    hand = Hand(services)
    ref = hand.run_next()
    hand.finish(ref, artifacts=[WANTED])
    SlowUpload(services, *(10 * [b"-"])).put(ref, WANTED)
    done = read.get(services, job.id)
    assert (done.status, done.message) == (Status.COMPLETED, None)


def test_reported_end_waits_not_for_ever_for_uploads_that_fail(services: Services) -> None:
    job = submitted(services)
    hand = Hand(services)
    ref = hand.run_next()
    hand.finish(ref, artifacts=[WANTED])
    for _ in range(3):
        assert read.get(services, job.id).status is Status.RUNNING
        with pytest.raises(Invalid, match="damaged"):
            SlowUpload(services, b"-", b"-").put(ref, WANTED)
        let_pass(Background(services), services, 10)
    done = read.get(services, job.id)
    assert done.status is Status.COMPLETED
    assert "missing" in (done.message or "")


def test_upload_that_fails_takes_nothing_back_of_what_has_come_beside_it(
    services: Services,
) -> None:
    job = submitted(services)
    hand = Hand(services)
    ref = hand.run_next()
    hand.finish(ref, log_bytes=8, artifacts=[WANTED])
    with pytest.raises(Invalid, match="damaged"):
        SlowUpload(services, *(5 * [b"-"]), lambda: hand.log(ref, 0, b"half"), b"-", b"-").put(
            ref, WANTED
        )
    background = Background(services)
    let_pass(background, services, PATIENCE - 140)
    assert read.get(services, job.id).status is Status.RUNNING
    let_pass(background, services, 60)
    assert read.get(services, job.id).status is Status.COMPLETED


@pytest.mark.parametrize("happens", [advance_clock, set_clock])
def test_reported_end_is_not_cut_short_by_an_absence_of_the_server(
    services: Services, happens: object
) -> None:
    job = submitted(services)
    hand = Hand(services)
    ref = hand.run_next()
    hand.finish(ref, log_bytes=4)
    background = Background(services)
    happens(services, 2 * PATIENCE)  # type: ignore[operator]  # one of the two
    background.tick()
    assert read.get(services, job.id).status is Status.RUNNING
    hand.log(ref, 0, b"all\n")
    assert read.get(services, job.id).message is None


def test_bytes_that_come_too_late_are_still_asked_for_and_kept(services: Services) -> None:
    job = submitted(services)
    hand = Hand(services)
    ref = hand.run_next()
    log = b'one\nPROGRESS: {"step": 1}\nPROGRESS: {"step": 2}'
    hand.log(ref, 0, log[:16])
    wanted = [ArtifactInfo(path="model", size=1, sha256="0" * 64)]
    hand.finish(ref, log_bytes=len(log), artifacts=wanted)
    let_pass(Background(services), services, PATIENCE + 20)
    answer = hand.finish(ref, log_bytes=len(log), artifacts=wanted)
    assert answer.applied
    assert (answer.missing_log_from, answer.missing_artifacts) == (16, ["model"])
    hand.log(ref, 16, log[16:])
    whole = b"".join(logs.raw(services, job.id, attempt=1, start=0, end=len(log)))
    assert whole == log
    assert [one.values["step"] for one in metrics.page(services, job.id).records] == [1, 2]
    assert hand.finish(ref, log_bytes=len(log), artifacts=wanted).missing_log_from is None


def test_end_that_comes_while_the_job_waits_keeps_others_from_it(services: Services) -> None:
    job = submitted(services)
    hand, other = Hand(services, "slow"), Hand(services, "other")
    ref = hand.run_next()
    lose(services, hand)
    assert read.get(services, job.id).status is Status.PENDING
    hand.finish(ref, log_bytes=4)
    assert read.get(services, job.id).phase is Phase.FINISHING
    advance_clock(services, 60)
    assert other.poll().assignment is None
    hand.log(ref, 0, b"all\n")
    done = read.get(services, job.id)
    assert (done.status, done.attempt) == (Status.COMPLETED, 1)


def test_hand_back_that_comes_while_the_job_waits_costs_no_restart(services: Services) -> None:
    job = submitted(services)
    hand = Hand(services)
    ref = hand.run_next()
    lose(services, hand)
    assert hand.finish(ref, Cause.HANDED_BACK).applied
    waiting = read.get(services, job.id)
    assert (waiting.status, waiting.phase) == (Status.PENDING, Phase.QUEUED)


def test_clock_that_is_set_back_delays_no_loss(services: Services) -> None:
    job = submitted(services)
    Hand(services).run_next()
    background = Background(services)
    set_clock(services, -7200)
    let_pass(background, services, 460)
    assert read.get(services, job.id).status is Status.PENDING


def test_clock_that_is_set_back_delays_no_retry(services: Services) -> None:
    submitted(services, max_retries=1)
    hand = Hand(services)
    hand.finish(hand.run_next(), exit_code=1)
    background = Background(services)
    set_clock(services, -7200)
    let_pass(background, services, 10)
    assert hand.run_next().attempt == 2


def test_damaged_row_keeps_nothing_else_from_being_done(services: Services) -> None:
    damaged, other = submitted(services), submitted(services)
    hand = Hand(services, slots=2)
    for _ in range(3):
        hand.poll()
    services.database.write(
        lambda c: c.execute(sa.update(jobs).where(jobs.c.id == damaged.id).values(lost_on="?"))
    )
    lose(services, hand)
    assert read.get(services, other.id).status is Status.PENDING


def test_time_in_which_nothing_could_be_written_ends_no_lease(tmp_path: Path) -> None:
    with open_services(tmp_path, f"sqlite:///{tmp_path / 'small.db'}") as services:
        job = submitted(services)
        hand = Hand(services)
        ref = hand.run_next()
        background = Background(services)
        services.database.write(lambda c: c.execute(sa.text("PRAGMA busy_timeout = 10")))
        with closing(sqlite3.connect(tmp_path / "small.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable):
                hand.poll()
            let_pass(background, services, 400)
        let_pass(background, services, 10)
        assert read.get(services, job.id).status is Status.RUNNING
        hand.poll()
        assert hand.finish(ref).applied
