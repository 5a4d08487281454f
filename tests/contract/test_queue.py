"""The queue's promises, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import chain

import pytest
import sqlalchemy as sa
from support.processes import wait_for
from support.queue import Hand, advance_clock, let_pass, set_clock, submitted

from dtrain.protocol.errors import Conflict, Unavailable
from dtrain.protocol.states import Cause, Phase, Reason, Status
from dtrain.protocol.worker_messages import ArtifactInfo, OfferReply
from dtrain.server import sessions, workers
from dtrain.server.background import Background
from dtrain.server.jobs import cancel, delete, explain, finish, follow, logs, metrics, read, sealing
from dtrain.server.services import Services
from dtrain.server.store.schema import jobs

pytestmark = pytest.mark.usefixtures("patient_polls")


def status(services: Services, job_id: int) -> Status:
    return read.get(services, job_id).status


def test_job_runs_and_completes(services: Services) -> None:
    job = submitted(services)
    hand = Hand(services)
    ref = hand.run_next()
    assert read.get(services, job.id).phase is Phase.PREPARING
    hand.log(ref, 0, b'one\nPROGRESS: {"epoch": 1, "epochs": 2}\n')
    assert hand.finish(ref, log_bytes=40).applied
    done = read.get(services, job.id)
    assert (done.status, done.exit_code, done.fraction, done.worker) == (
        Status.COMPLETED,
        0,
        0.5,
        "worker",
    )
    assert [event.kind for event in read.events(services, job.id).events] == [
        "submitted",
        "claimed",
        "executing",
        "completed",
    ]


def test_one_of_a_hundred_workers_wins_a_job(services: Services) -> None:
    job = submitted(services)
    hands = [Hand(services, f"w{index}") for index in range(100)]
    won: list[str] = []
    start = threading.Barrier(len(hands))

    def race(hand: Hand) -> None:
        start.wait()
        while True:
            with suppress(Unavailable):  # no connection to the database was free for long
                if hand.poll().assignment is not None:
                    won.append(hand.name)
                return

    threads = [threading.Thread(target=race, args=[hand]) for hand in hands]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert read.get(services, job.id).attempt == 1


def test_repeated_poll_is_answered_alike(services: Services) -> None:
    submitted(services)
    submitted(services)
    hand = Hand(services, slots=2)
    secret = hand.secret
    first = hand.poll().assignment
    hand.attempts.clear()
    hand.secret = secret
    assert hand.poll().assignment == first


def test_lost_assignment_is_queued_again_uncounted(services: Services) -> None:
    job = submitted(services)
    hand = Hand(services)
    hand.poll()
    hand.attempts.clear()
    advance_clock(services, 20)
    hand.register_again()
    again = hand.poll().assignment
    assert again is not None
    assert (again.job_id, again.attempt) == (job.id, 2)


def test_delayed_copy_of_an_earlier_poll_changes_nothing(services: Services) -> None:
    job = submitted(services)
    hand = Hand(services)
    ref = hand.run_next()
    advance_clock(services, 30)
    hand.poll(number=1, attempts=[])
    hand.number -= 1
    hand.poll()
    assert status(services, job.id) is Status.RUNNING
    assert hand.finish(ref).applied


def let_go(services: Services) -> None:
    """Have the polls that are still held answered."""
    services.stop.set()
    services.mailboxes.wake_all()


def test_new_job_wakes_a_held_poll_of_one_fitting_worker(services: Services) -> None:
    unfit = Hand(services, "unfit")
    fit = Hand(services, "fit", labels={"room": "b"})
    brought: dict[str, tuple[object, float]] = {}

    def hold(hand: Hand, wait: float) -> None:
        begun = time.monotonic()
        brought[hand.name] = (hand.poll(wait=wait).assignment, time.monotonic() - begun)

    threads = [
        threading.Thread(target=hold, args=[unfit, 60]),
        threading.Thread(target=hold, args=[fit, 60]),
    ]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(services.polls) == 2, "both polls to be held")
    submitted(services, labels="room=b")
    threads[1].join()
    let_go(services)
    threads[0].join()
    assert brought["unfit"][0] is None
    assert brought["fit"][0] is not None
    assert brought["fit"][1] < 50


def test_new_job_passes_by_the_held_poll_of_a_drained_worker(services: Services) -> None:
    drained, other = Hand(services, "drained"), Hand(services, "other")
    workers.drain(services, drained.id)
    brought: dict[str, object] = {}

    def hold(hand: Hand, wait: float) -> None:
        brought[hand.name] = hand.poll(wait=wait).assignment

    threads = [
        threading.Thread(target=hold, args=[drained, 60]),
        threading.Thread(target=hold, args=[other, 60]),
    ]
    advance_clock(services, 1)
    seen = services.clock.time()
    for number, thread in enumerate(threads, 1):
        thread.start()
        wait_for(lambda number=number: len(services.polls) == number, "the poll to be held")

    def are_known() -> bool:
        return all(one.last_seen.timestamp() >= seen for one in workers.listing(services).workers)

    wait_for(are_known, "both to have been looked at")
    time.sleep(0.3)  # until what is free is told to the poll as well
    begun = time.monotonic()
    submitted(services)
    threads[1].join()
    assert brought["other"] is not None
    assert time.monotonic() - begun < 50
    let_go(services)
    threads[0].join()


def test_silent_worker_is_out_of_reach_then_given_up_then_taken_back(services: Services) -> None:
    job = submitted(services)
    hand = Hand(services)
    ref = hand.run_next()
    background = Background(services)
    let_pass(background, services, 70)
    silent = read.get(services, job.id)
    assert (silent.status, silent.phase) == (Status.RUNNING, Phase.UNREACHABLE)
    let_pass(background, services, 235)
    given_up = read.get(services, job.id)
    assert (given_up.status, given_up.phase) == (Status.PENDING, Phase.RETRY_WAIT)
    hand.poll()
    back = read.get(services, job.id)
    assert (back.status, back.phase, back.attempt) == (Status.RUNNING, Phase.EXECUTING, 1)
    assert hand.finish(ref).applied


@pytest.mark.parametrize("happens", [advance_clock, set_clock])
def test_pause_of_the_server_or_jump_of_its_clock_ends_no_lease(
    services: Services, happens: Callable[[Services, float], None]
) -> None:
    job = submitted(services)
    hand = Hand(services)
    ref = hand.run_next()
    background = Background(services)
    happens(services, 7200)
    background.tick()
    assert status(services, job.id) is Status.RUNNING
    let_pass(background, services, 110)
    hand.poll()
    let_pass(background, services, 50)
    assert read.get(services, job.id).phase is not Phase.UNREACHABLE
    assert hand.finish(ref).applied


def test_attempt_that_was_replaced_is_stale(services: Services) -> None:
    job = submitted(services)
    hand, other = Hand(services, "gone"), Hand(services, "other")
    ref = hand.run_next()
    background = Background(services)
    let_pass(background, services, 320)
    assert other.run_next().attempt == 2
    assert [command.action for command in hand.poll().commands] == ["stale"]
    assert hand.log(ref, 0, b"late\n") == 5
    assert b"".join(logs.raw(services, job.id, attempt=1, start=0, end=5)) == b"late\n"
    with pytest.raises(Conflict) as refused:
        hand.finish(ref)
    assert refused.value.code == "stale"
    assert status(services, job.id) is Status.RUNNING


def test_older_session_is_superseded(services: Services) -> None:
    hand = Hand(services)
    session = hand.session
    hand.register_again()
    hand.session = session
    with pytest.raises(Conflict) as refused:
        hand.poll()
    assert refused.value.code == "superseded"


def test_log_overlap_is_skipped_and_a_gap_is_refused(services: Services) -> None:
    job = submitted(services)
    hand = Hand(services)
    ref = hand.run_next()
    assert hand.log(ref, 0, b"hello ") == 6
    assert hand.log(ref, 3, b"lo world\n") == 12
    assert hand.log(ref, 0, b"hello ") == 12
    with pytest.raises(Conflict) as refused:
        hand.log(ref, 13, b"x")
    assert (refused.value.code, refused.value.status, refused.value.offset) == ("log_gap", 416, 12)
    assert b"".join(logs.raw(services, job.id, attempt=1, start=0, end=99)) == b"hello world\n"


def test_records_are_neither_lost_nor_doubled_by_replays(services: Services) -> None:
    job = submitted(services)
    hand = Hand(services)
    ref = hand.run_next()
    content = b"".join(b'PROGRESS: {"step": %d}\n' % step for step in range(50))
    for start in range(0, len(content), 37):
        hand.log(ref, start, content[start : start + 37])
        hand.log(ref, max(start - 20, 0), content[max(start - 20, 0) : start + 37])
    records = metrics.page(services, job.id).records
    assert [record.values["step"] for record in records] == list(range(50))
    assert [record.seq for record in records] == list(range(50))


def test_end_waits_for_log_and_artifacts_and_frees_the_slot(services: Services) -> None:
    first, second = submitted(services), submitted(services)
    hand = Hand(services)
    ref = hand.run_next()
    wanted = [ArtifactInfo(path="model.bin", size=1, sha256="0" * 64)]
    answer = hand.finish(ref, log_bytes=4, artifacts=wanted)
    assert (answer.applied, answer.missing_log_from) == (False, 0)
    assert answer.missing_artifacts == ["model.bin"]
    assert read.get(services, first.id).phase is Phase.FINISHING
    assignment = hand.poll().assignment
    assert assignment is not None
    assert assignment.job_id == second.id
    hand.log(ref, 0, b"all\n")
    assert status(services, first.id) is Status.RUNNING
    services.database.write(
        lambda c: finish.settle(c, first.id, 1, services.clock.time(), give_up=True)
    )
    done = read.get(services, first.id)
    assert done.status is Status.COMPLETED
    assert "missing" in (done.message or "")


def test_second_finish_is_harmless_if_alike_and_refused_if_not(services: Services) -> None:
    submitted(services)
    hand = Hand(services)
    ref = hand.run_next()
    assert hand.finish(ref, exit_code=0).applied
    hand.attempts.clear()
    assert hand.finish(ref, exit_code=0).applied
    with pytest.raises(Conflict) as refused:
        hand.finish(ref, exit_code=1)
    assert refused.value.code == "different"


def test_cancel_is_told_until_the_worker_knows(services: Services) -> None:
    job = submitted(services)
    hand = Hand(services)
    ref = hand.run_next()
    assert cancel.cancel(services, job.id, by=None).phase is Phase.CANCELLING
    assert [c.action for c in hand.poll(wait=5).commands] == ["cancel"]
    cancel.cancel(services, job.id, by=None)
    (command,) = hand.poll(wait=5).commands
    assert command.at_once
    assert hand.finish(ref, Cause.CANCELLED, signal=15).applied
    assert status(services, job.id) is Status.CANCELLED


def test_cancelled_waiting_job_never_runs(services: Services) -> None:
    job = submitted(services)
    cancel.cancel(services, job.id, by=None)
    assert Hand(services).poll().assignment is None
    assert status(services, job.id) is Status.CANCELLED


def test_offer_is_shown_accepted_and_withdrawn_elsewhere(services: Services) -> None:
    job = submitted(services)
    one, two = Hand(services, "one", asks=True), Hand(services, "two", asks=True)
    assert [offer.job_id for offer in one.poll().offers] == [job.id]
    assert [offer.job_id for offer in two.poll().offers] == [job.id]
    assert read.get(services, job.id).phase is Phase.OFFERED
    reply = OfferReply(session=one.session, accept=True, secret=one.secret)
    accepted = sessions.answer_offer(services, one.id, job.id, reply).assignment
    assert accepted is not None
    one.take(accepted)
    assert two.poll(wait=5, offers=[job.id]).offers == []
    late = OfferReply(session=two.session, accept=True, secret=two.secret)
    with pytest.raises(Conflict) as refused:
        sessions.answer_offer(services, two.id, job.id, late)
    assert refused.value.code == "withdrawn"


def test_declined_job_is_not_offered_to_that_worker_again(services: Services) -> None:
    job = submitted(services)
    hand = Hand(services, asks=True)
    hand.poll()
    no = OfferReply(session=hand.session, accept=False, secret=hand.secret, reason="not today")
    sessions.answer_offer(services, hand.id, job.id, no)
    assert hand.poll().offers == []
    assert read.get(services, job.id).phase is Phase.QUEUED
    assert "declined" in explain.explain(services, job.id).summary


def test_one_secret_brings_one_job(services: Services) -> None:
    first, second = submitted(services), submitted(services)
    hand = Hand(services, asks=True, slots=2)
    hand.poll()
    yes = OfferReply(session=hand.session, accept=True, secret=hand.secret)
    accepted = sessions.answer_offer(services, hand.id, first.id, yes)
    assert sessions.answer_offer(services, hand.id, first.id, yes) == accepted
    with pytest.raises(Conflict) as refused:
        sessions.answer_offer(services, hand.id, second.id, yes)
    assert "secret is spent" in refused.value.detail
    assert status(services, second.id) is Status.PENDING
    assert hand.poll().assignment == accepted.assignment


def test_drained_worker_gets_nothing_new_until_resumed(services: Services) -> None:
    submitted(services)
    hand = Hand(services)
    workers.drain(services, hand.id)
    answer = hand.poll()
    assert (answer.assignment, answer.drain) == (None, True)
    workers.resume(services, hand.id)
    assert hand.poll().assignment is not None


def test_deleted_job_is_gone_and_its_worker_is_told(services: Services) -> None:
    job = submitted(services)
    hand = Hand(services)
    ref = hand.run_next()
    delete.delete(services, job.id)
    assert [c.action for c in hand.poll(wait=5).commands] == ["stale"]
    with pytest.raises(Conflict) as refused:
        hand.log(ref, 0, b"x")
    assert refused.value.status == 410


def test_failed_attempt_is_retried_as_often_as_asked(services: Services) -> None:
    job = submitted(services, max_retries=1)
    hand = Hand(services)
    hand.finish(hand.run_next(), exit_code=1)
    assert read.get(services, job.id).phase is Phase.RETRY_WAIT
    advance_clock(services, 5)
    ref = hand.run_next()
    assert ref.attempt == 2
    hand.finish(ref, exit_code=1)
    assert read.get(services, job.id).reason is Reason.EXIT_NONZERO


def test_log_is_read_by_line_whether_it_is_sealed_or_not(services: Services) -> None:
    job = submitted(services)
    hand = Hand(services)
    ref = hand.run_next()
    content = b"".join(b"line %d\n" % number for number in range(300)) + b"no end"
    for start in range(0, len(content), 101):
        hand.log(ref, start, content[start : start + 101])
    hand.finish(ref, log_bytes=len(content))
    for _ in range(2):
        page = logs.page(services, job.id, after=150, limit=2)
        assert [(line.number, line.text) for line in page.lines] == [
            (150, "line 150"),
            (151, "line 151"),
        ]
        tail = logs.page(services, job.id, tail=True, limit=2).lines
        assert [line.text for line in tail] == ["line 299", "no end"]
        found = logs.page(services, job.id, q="LINE 29", limit=100).lines
        assert [line.number for line in found] == [29, *range(290, 300)]
        whole = b"".join(logs.raw(services, job.id, attempt=1, start=0, end=len(content)))
        assert whole == content
        sealing.seal_some(services)


def test_stream_of_a_job_resumes_without_loss_at_every_message(services: Services) -> None:
    job = submitted(services)
    hand = Hand(services)
    ref = hand.run_next()
    for start in range(0, 60, 20):
        hand.log(ref, start, b"0123456789012345678\n")
    hand.finish(ref, log_bytes=60)
    whole = list(chain(*follow.follow(services, job.id, last_id=None)))
    assert [message.event for message in whole][-1] == "end"
    for index, message in enumerate(whole[:-1]):
        rest = list(chain(*follow.follow(services, job.id, last_id=message.id)))
        assert rest == whole[index + 1 :]


def test_numbers_of_jobs_are_not_used_twice(services: Services) -> None:
    first = submitted(services)
    delete.delete(services, first.id)
    assert submitted(services).id > first.id
    with services.database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(jobs)).scalar_one() == 1
