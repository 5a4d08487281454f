"""An end that brings the next job: a claim like any other, whatever crosses it on the way."""

from __future__ import annotations

import secrets
import threading

import pytest
from support.processes import PATIENCE, wait_for
from support.queue import Hand, advance_clock, submitted

from dtrain.protocol.errors import Conflict
from dtrain.protocol.states import Cause, OnStop, Phase, Status
from dtrain.protocol.worker_messages import Claim, Finish, Leave, PollAnswer
from dtrain.server import sessions, workers
from dtrain.server.jobs import cancel, finish, read
from dtrain.server.rules.leases import UNLISTED
from dtrain.server.services import Services

pytestmark = pytest.mark.usefixtures("patient_polls")


class HeldPoll:
    """A poll that the server holds, in a thread of its own."""

    def __init__(self, services: Services, hand: Hand) -> None:
        self.answers: list[PollAnswer] = []
        before = len(services.polls)
        self._thread = threading.Thread(
            target=lambda: self.answers.append(hand.poll(wait=60)), daemon=True
        )
        self._thread.start()
        wait_for(lambda: len(services.polls) > before, "the poll to be held")

    def answer(self) -> PollAnswer:
        """Wait for what it brings."""
        self._thread.join(PATIENCE)
        [answer] = self.answers
        return answer


def test_end_brings_the_next_job_that_fits(services: Services) -> None:
    first = submitted(services)
    hand = Hand(services)
    ref = hand.run_next()
    submitted(services, cpus=64, priority=9)
    submitted(services)
    urgent = submitted(services, priority=5)
    brought = hand.finish(ref, claim=hand.claim()).assignment
    assert brought is not None
    assert (ref.job_id, brought.job_id) == (first.id, urgent.id)


def test_what_an_end_brings_is_the_workers(services: Services) -> None:
    submitted(services)
    job = submitted(services)
    hand = Hand(services)
    brought = hand.finish(hand.run_next(), claim=hand.claim()).assignment
    assert brought is not None
    assert (brought.job_id, brought.attempt) == (job.id, 1)
    assert read.get(services, job.id).phase is Phase.PREPARING
    hand.poll()
    advance_clock(services, 2 * UNLISTED)
    hand.poll()
    assert hand.finish(hand.ref(job.id)).applied
    assert read.get(services, job.id).status is Status.COMPLETED


def test_repeated_end_is_answered_alike(services: Services) -> None:
    for _ in range(3):
        submitted(services)
    hand = Hand(services, slots=2)
    ref, claim = hand.run_next(), hand.claim()
    end = Finish(cause=Cause.EXITED, exit_code=0, claim=claim)
    first = finish.finish(services, ref, end)
    assert first.assignment is not None
    assert finish.finish(services, ref, end) == first
    hand.take(first.assignment, claim.secret)
    hand.finish(hand.ref(first.assignment.job_id))
    late = finish.finish(services, ref, end)
    assert (late.assignment, late.secret_spent) == (None, True)


def test_end_is_the_same_with_another_claim(services: Services) -> None:
    submitted(services)
    hand = Hand(services)
    ref = hand.run_next()
    assert hand.finish(ref, claim=hand.claim()).assignment is None
    later = submitted(services)
    end = Finish(cause=Cause.EXITED, exit_code=0, claim=hand.claim())
    again = finish.finish(services, ref, end)
    assert again.assignment is not None
    assert again.assignment.job_id == later.id
    with pytest.raises(Conflict, match="another way"):
        finish.finish(services, ref, Finish(cause=Cause.EXITED, exit_code=1, claim=hand.claim()))


def test_refused_end_brings_nothing(services: Services) -> None:
    submitted(services)
    waits = submitted(services)
    hand = Hand(services)
    ref = hand.run_next()
    hand.finish(ref)
    with pytest.raises(Conflict):
        hand.finish(ref, exit_code=1, claim=hand.claim())
    assert read.get(services, waits.id).status is Status.PENDING


def test_end_whose_files_are_missing_brings_nothing_yet(services: Services) -> None:
    submitted(services)
    submitted(services)
    hand = Hand(services)
    ref = hand.run_next()
    answer = hand.finish(ref, log_bytes=4, claim=hand.claim())
    assert (answer.applied, answer.assignment) == (False, None)
    hand.log(ref, 0, b"line")
    assert hand.finish(ref, log_bytes=4, claim=hand.claim()).assignment is not None


@pytest.mark.parametrize("why", ["drains", "is drained", "has left", "began anew", "hands back"])
def test_worker_that_takes_none_is_brought_none(services: Services, why: str) -> None:
    submitted(services)
    waits = submitted(services)
    hand = Hand(services)
    ref, cause = hand.run_next(), Cause.EXITED
    claim = hand.claim()
    match why:
        case "drains":
            hand.poll(draining=True)
        case "is drained":
            workers.drain(services, hand.id)
        case "has left":
            sessions.leave(services, hand.id, Leave(session=hand.session, on_stop=OnStop.LEAVE))
        case "began anew":
            hand.register_again()
        case _:
            cause = Cause.HANDED_BACK
    assert hand.finish(ref, cause, claim=claim).assignment is None
    assert read.get(services, waits.id).status is Status.PENDING


def test_owner_who_is_asked_is_brought_none(services: Services) -> None:
    job = submitted(services)
    submitted(services)
    hand = Hand(services, asks=True)
    hand.poll()
    reply = sessions.OfferReply(session=hand.session, accept=True, secret=hand.secret)
    taken = sessions.answer_offer(services, hand.id, job.id, reply).assignment
    assert taken is not None
    hand.take(taken)
    assert hand.finish(hand.ref(job.id), claim=hand.claim()).assignment is None


def test_held_poll_is_left_alone_where_the_place_is_filled(services: Services) -> None:
    """Until the job that was brought is to be cancelled, of which only a later poll can hear."""
    submitted(services)
    second = submitted(services)
    hand = Hand(services)
    ref = hand.run_next()
    held = HeldPoll(services, hand)
    assert hand.finish(ref, claim=hand.claim()).assignment is not None
    assert held.answers == []
    cancel.cancel(services, second.id, by=None)
    assert held.answer() == PollAnswer()
    [command] = hand.poll().commands
    assert (command.job_id, command.action) == (second.id, "cancel")


def test_held_poll_takes_what_fits_beside_the_next_job(services: Services) -> None:
    wide = submitted(services, cpus=4)
    hand = Hand(services, slots=2)
    ref = hand.run_next()
    small = [submitted(services, cpus=2) for _ in range(2)]
    held = HeldPoll(services, hand)
    brought = hand.finish(ref, claim=hand.claim()).assignment
    beside = held.answer().assignment
    assert brought is not None
    assert beside is not None
    assert [brought.job_id, beside.job_id] == [job.id for job in small]
    assert wide.id == ref.job_id


def test_end_without_a_job_for_it_lets_the_held_poll_know(services: Services) -> None:
    submitted(services)
    hand = Hand(services)
    ref = hand.run_next()
    held = HeldPoll(services, hand)
    assert hand.finish(ref, claim=hand.claim()).assignment is None
    next_job = submitted(services)
    brought = held.answer().assignment
    assert brought is not None
    assert brought.job_id == next_job.id


def test_poll_that_was_long_on_its_way_ends_nothing_that_began_meanwhile(
    services: Services,
) -> None:
    submitted(services)
    job = submitted(services)
    hand = Hand(services)
    ref = hand.run_next()
    sent = list(hand.attempts.values())
    assert hand.finish(ref, claim=hand.claim()).assignment is not None
    advance_clock(services, 2 * UNLISTED)
    hand.poll(attempts=sent)
    assert hand.poll().commands == []
    assert hand.finish(hand.ref(job.id)).applied
    assert read.get(services, job.id).attempt == 1


def test_job_that_is_brought_again_is_the_workers_again(services: Services) -> None:
    submitted(services)
    job = submitted(services)
    hand = Hand(services)
    ref = hand.run_next()
    hand.attempts.clear()
    end = Finish(cause=Cause.EXITED, exit_code=0, claim=hand.claim())
    first = finish.finish(services, ref, end)
    hand.poll()
    advance_clock(services, 2 * UNLISTED)
    assert finish.finish(services, ref, end) == first
    hand.poll()  # was sent before that answer came
    assert read.get(services, job.id).status is Status.RUNNING


def test_job_whose_answer_was_lost_is_queued_again_uncounted(services: Services) -> None:
    submitted(services)
    job = submitted(services)
    hand = Hand(services)
    ref = hand.run_next()
    end = Finish(cause=Cause.EXITED, exit_code=0, claim=hand.claim())
    assert finish.finish(services, ref, end).assignment is not None
    hand.attempts.clear()
    assert hand.poll().assignment is None
    assert read.get(services, job.id).status is Status.RUNNING  # the answer may be on its way
    advance_clock(services, UNLISTED)
    again = hand.poll().assignment
    assert again is not None
    assert (again.job_id, again.attempt) == (job.id, 2)


def test_ends_and_polls_together_never_take_more_than_there_is_room_for(
    services: Services,
) -> None:
    jobs = [submitted(services) for _ in range(24)]
    hand = Hand(services, slots=2)
    begun = [answer.assignment for answer in (hand.poll(), hand.poll())]
    given = [one.job_id for one in begun if one is not None]
    refs = [hand.ref(job_id) for job_id in given]
    most = 0
    while refs:
        ref = refs.pop(0)
        claim = Claim(session=hand.session, secret=secrets.token_urlsafe(32))
        start = threading.Barrier(2)
        polled: list[PollAnswer] = []

        def ask(start: threading.Barrier = start, polled: list[PollAnswer] = polled) -> None:
            start.wait(PATIENCE)
            polled.append(hand.poll())

        thread = threading.Thread(target=ask)
        thread.start()
        start.wait(PATIENCE)
        brought = hand.finish(ref, claim=claim).assignment
        thread.join(PATIENCE)
        found = [one for one in (brought, polled[0].assignment) if one is not None]
        given += [one.job_id for one in found]
        refs += [hand.ref(one.job_id) for one in found]
        most = max(most, len(refs))
    assert (sorted(given), most) == ([job.id for job in jobs], 2)
