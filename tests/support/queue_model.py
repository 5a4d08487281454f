"""A model of the queue: workers that do whatever workers may do, and what must always hold.

`Queue` is a state machine of hypothesis. Its steps call the use cases of one or of several servers
on one database as a faulty network would bring them: late, twice, in another order, not at all.
What the workers know by themselves (what a job printed, what was acknowledged to them) is kept
beside them, and compared with what is stored after every step.
"""

from __future__ import annotations

import itertools
import secrets
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dtrain.protocol.errors import Conflict
from dtrain.protocol.states import Cause, OnStop, Phase, Status
from dtrain.protocol.worker_messages import (
    Assignment,
    Claim,
    Leave,
    OfferReply,
    PhaseReport,
)
from dtrain.server import sessions, workers
from dtrain.server.background import Background
from dtrain.server.jobs import cancel, delete, report, sealing, submit
from dtrain.server.services import Services

from .application import bundle
from .queue import Hand, advance_clock, set_clock
from .queue_runs import Run, Way, outcome
from .queue_view import View, empty, look

NUMBERS = st.integers(0, 11)
"""Which of several, counted round."""
ENDS: list[dict[str, Any]] = [
    {"cause": Cause.EXITED, "exit_code": 0},
    {"cause": Cause.EXITED, "exit_code": 3},
    {"cause": Cause.EXITED, "signal": 11},
    {"cause": Cause.TIME_LIMIT},
    {"cause": Cause.START_FAILED},
    {"cause": Cause.SHIM_LOST},
    {"cause": Cause.HANDED_BACK},
]
STEPS = [
    *["worker polls"] * 6,
    *["log is sent"] * 5,
    *["owner answers", "job ends", "time passes", "user submits", "job prints"] * 2,
    *["phase and files are sent"] * 2,
    *["user ends job", "worker moves", "poll comes late", "servers are away"],
    "logs are put away",
]
"""What may happen; what stands here more often happens more often."""
TICK = 15.0
"""Seconds between two looks of the background work: less than what it takes for a pause."""
PACKED = bundle()


class Queue(RuleBasedStateMachine):
    """See the module. A subclass says which servers there are."""

    servers: list[Services]
    """On one database, with one clock for all."""
    told: Counter[str]
    """How often each fault was done."""

    def __init__(self) -> None:
        super().__init__()
        empty(self.servers[0])
        self._turns = itertools.cycle(self.servers)
        self._backgrounds = [Background(server) for server in self.servers]
        self._numbers = itertools.count()
        self.hands: list[Hand] = []
        self.away: set[str] = set()
        """The workers that have said goodbye."""
        self.jobs: list[int] = []
        self.keys: dict[str, int] = {}
        self.runs: list[Run] = []
        self.promised: dict[str, Assignment] = {}
        """What the server has answered to a secret, whether or not the worker heard it."""
        self.before = View()

    @property
    def server(self) -> Services:
        """The server whose turn it is."""
        return next(self._turns)

    @initialize()
    def begin(self) -> None:
        """Have two workers that take what comes, and one whose owner is asked."""
        for name, slots, asks in (("one", 1, False), ("two", 2, False), ("asks", 2, True)):
            self.hands.append(Hand(self.server, name, slots=slots, asks=asks))
        for _ in range(3):
            self._submit(None)

    # One rule for all: hypothesis leaves out whole rules at random, and few stories would get far.

    @rule(what=st.sampled_from(STEPS), which=NUMBERS, how=NUMBERS)
    def step(self, what: str, which: int, how: int) -> None:
        """Do something (`what`) to one of several, in one of several ways."""
        step: Callable[[int, int], None] = getattr(self, f"_{what.replace(' ', '_')}")
        step(which, how)

    # What users do.

    def _user_submits(self, which: int, how: int) -> None:
        self._submit((None, None, "a", "b")[how % 4], retries=which % 2)

    def _submit(self, key: str | None, retries: int = 0) -> None:
        raw = {"name": "a job", "max_retries": 0 if key else retries}
        job, is_new = submit.submit(
            self.server, raw, BytesIO(PACKED), submitter=None, idempotency_key=key
        )
        assert is_new == (key not in self.keys)
        if not is_new:
            assert job.id == self.keys[key or ""]
            self.told["submission repeated"] += 1
            return
        if key is not None:
            self.keys[key] = job.id
        self.jobs.append(job.id)

    def _user_ends_job(self, which: int, how: int) -> None:
        if not self.jobs:
            return
        job_id = self._of(self.jobs, which)
        if how % 4:
            cancel.cancel(self.server, job_id, by=None)
            return
        delete.delete(self.server, job_id)
        self.jobs.remove(job_id)
        self.keys = {key: found for key, found in self.keys.items() if found != job_id}
        self.promised = {key: one for key, one in self.promised.items() if one.job_id != job_id}

    # What workers do, and what is done to them.

    def _worker_polls(self, which: int, how: int) -> None:
        heard = how % 4 > 0
        self._poll(self._of(self.hands, which), heard=heard)
        self.told["answer of a poll lost"] += not heard

    def _owner_answers(self, which: int, how: int) -> None:
        if not self.jobs:
            return
        accept, heard = how % 4 > 0, how % 2 > 0
        self._answer_offer(self.hands[-1], self._of(self.jobs, which), accept=accept, heard=heard)
        self.told["answer of a claim lost"] += not heard

    def _worker_moves(self, which: int, how: int) -> None:
        hand = self._of(self.hands, which)
        if how % 6 < 2:
            hand.register_again()
            self.away.discard(hand.id)
            self.told["agent started again"] += 1
        elif how % 6 == 2:
            sessions.leave(self.server, hand.id, Leave(session=hand.session, on_stop=OnStop.LEAVE))
            self.away.add(hand.id)
        elif how % 6 == 3:
            self._forget(hand)
        else:
            (workers.drain if how % 2 else workers.resume)(self.server, hand.id)

    def _poll_comes_late(self, which: int, _how: int) -> None:
        hand = self._of(self.hands, which)
        if hand.number < 2:
            return
        before = look(self.server)
        answer = hand.poll(number=1, attempts=[], next_secret=secrets.token_urlsafe(32))
        hand.number -= 1
        assert (answer.assignment, answer.commands) == (None, [])
        assert look(self.server).rows == before.rows
        self.told["poll that came late"] += 1

    # What jobs do, and what is told of them.

    def _job_prints(self, which: int, how: int) -> None:
        for run in self._one_of_runs(which):
            if run.end is None:
                run.print((b"line\n", b"\xff\0\r", b"no end")[how % 3], next(self._numbers))
                run.left["xyz"[how % 3]] = run.log

    def _log_is_sent(self, which: int, how: int) -> None:
        for run in self._one_of_runs(which):
            shift = (0, 0, -9, -30, 3, 0)[how % 6]
            run.send_log(self._way(run), shift, (1, 17, 50, 200)[how % 4])

    def _phase_and_files_are_sent(self, which: int, how: int) -> None:
        for run in self._one_of_runs(which):
            with suppress(Conflict):
                phase = (Phase.PREPARING, Phase.EXECUTING)[how % 2]
                report.phase(self.server, run.ref, PhaseReport(phase=phase))
            run.send_files(self._way(run))

    def _job_ends(self, which: int, how: int) -> None:
        for run in self._one_of_runs(which):
            run.come_to_end(ENDS[how % len(ENDS)])
            for _ in range(which % 3):
                self._tell_end(run, heard=how % 3 > 0)
            if run.recorded:
                run.tell_another_end(self._way(run))

    # What time does.

    def _time_passes(self, which: int, how: int) -> None:
        """Workers that are not awake are silent all the while."""
        seconds, awake = (
            (1, 20, 75, 330)[which % 4],
            [index for index in range(3) if how >> index & 1],
        )
        for number in range(max(round(seconds / TICK), 1)):
            advance_clock(self.servers[0], min(TICK, seconds))
            self._tick()
            for index in awake if number % 2 else ():
                self._poll(self.hands[index])
        self.told["lease run out"] += (seconds > 60) * (3 - len(awake))

    def _servers_are_away(self, which: int, how: int) -> None:
        """Their clock is set, or they stand still: no lease may end by that."""
        before, paused = look(self.servers[0]), how % 2
        if paused:
            advance_clock(self.servers[0], 7200)
        else:
            set_clock(self.servers[0], 7200 if which % 2 else -7200)
        self._tick()
        after = look(self.servers[0])
        for key, job in before.jobs.items():
            if job.status == Status.RUNNING:
                assert after.jobs[key].attempt == job.attempt
                assert after.jobs[key].status != Status.PENDING
        self.told["server paused" if paused else "clock set"] += 1

    def _logs_are_put_away(self, _which: int, _how: int) -> None:
        sealing.seal_some(self.server)

    # What must hold.

    @invariant()
    def laws(self) -> None:
        """Compare what is stored with what was stored before, and with what the workers know."""
        view = look(self.servers[0])
        view.check_after(self.before, self.jobs)
        for hand in self.hands:
            assert view.held(hand.id) <= hand.capacity.slots, "slots are oversubscribed"
        for run in self.runs:
            if self._is_known(run):
                view.check_kept(*run.key, run.log[: run.acknowledged], run.stored)
        self.before = view

    def teardown(self) -> None:
        """Let all workers do their duty: every job must come to its end."""
        if not self.hands:
            return
        for _ in range(60):
            advance_clock(self.servers[0], TICK)
            self._tick()
            for hand in self.hands:
                self._do_duty(hand)
            self.laws()
            waits = [job for job in self.before.jobs.values() if not Status(job.status).final]
            if not waits and not any(hand.attempts for hand in self.hands):
                return
        raise AssertionError(f"These come to no end: {waits}")

    def _do_duty(self, hand: Hand) -> None:
        """Poll, and bring everything of the attempts that the worker has to their ends."""
        if hand.id in self.away:
            hand.register_again()
            self.away.discard(hand.id)
        workers.resume(self.server, hand.id)
        for job_id in self._poll(hand):
            self._answer_offer(hand, job_id, accept=True, heard=True)
        for run in list(self.runs):
            if run.hand is hand and run.key in hand.attempts:
                run.come_to_end(ENDS[0])
                run.send_log(self._way(run), 0, len(run.log))
                run.send_files(self._way(run))
                self._tell_end(run)

    # The parts.

    def _of(self, things: list[Any], which: int) -> Any:
        return things[which % len(things)]

    def _one_of_runs(self, which: int) -> list[Run]:
        """One of the attempts, as far as there are any; the younger ones as often as the older."""
        return [self._of(self.runs[-6:], which)] if self.runs else []

    def _is_known(self, run: Run) -> bool:
        """Whether its job has not been deleted."""
        return run.ref.job_id in self.jobs

    def _way(self, run: Run) -> Way:
        return Way(self.server, self.told, is_known=self._is_known(run))

    def _tick(self) -> None:
        for background in self._backgrounds:
            background.tick()

    def _poll(self, hand: Hand, *, heard: bool = True) -> list[int]:
        """Poll; the jobs that are offered."""
        hand.services = self.server
        secret, listed = hand.secret, dict(hand.attempts)
        answer = hand.poll()
        if answer.assignment is not None:
            self._promise(secret, answer.assignment)
            hand.attempts, hand.secret = listed, secret
            if heard:
                self._take(hand, answer.assignment)
        elif secret in self.promised and hand.id not in self.away:
            claimed = self.promised[secret]
            kept = look(self.server).attempts.get((claimed.job_id, claimed.attempt))
            assert kept is None or not kept.holds, "an answered claim was not replayed"
        if heard and answer.secret_spent:
            hand.secret = secrets.token_urlsafe(32)
        for command in answer.commands if heard else ():
            if command.action == "stale":
                hand.attempts.pop((command.job_id, command.attempt), None)
        return [offer.job_id for offer in answer.offers]

    def _answer_offer(self, hand: Hand, job_id: int, *, accept: bool, heard: bool) -> None:
        reply = OfferReply(session=hand.session, accept=accept, secret=hand.secret)
        answer = outcome(lambda: sessions.answer_offer(self.server, hand.id, job_id, reply))
        if isinstance(answer, Conflict):
            assert answer.code == "withdrawn"
        elif answer.assignment is not None:
            self._promise(hand.secret, answer.assignment)
            if heard:
                self._take(hand, answer.assignment)

    def _tell_end(self, run: Run, *, heard: bool = True) -> None:
        """Report an end, and ask for the next job with it."""
        hand, secret = run.hand, run.next_secret
        claim = Claim(session=hand.session, secret=secret)
        brought = run.tell_end(self._way(run), claim)
        self.told["answer of an end with a job lost"] += brought is not None and not heard
        if brought is None:
            return
        assert not hand.asks, "an owner was not asked"
        assert hand.id not in self.away, "a job was given to a worker that had left"
        self._promise(secret, brought)
        if heard and (brought.job_id, brought.attempt) not in [one.key for one in self.runs]:
            self._take(hand, brought, secret)

    def _forget(self, hand: Hand) -> None:
        """An operator takes a worker from the list; it enrols anew, as another."""
        workers.forget(self.server, hand.id, force=True)
        again = Hand(self.server, hand.name, slots=hand.capacity.slots, asks=hand.asks)
        again.attempts = hand.attempts
        self.hands[self.hands.index(hand)] = again
        self.runs = [run for run in self.runs if run.hand is not hand]
        self.told["worker forgotten"] += 1

    def _promise(self, secret: str, assignment: Assignment) -> None:
        earlier = self.promised.setdefault(secret, assignment)
        assert earlier == assignment, "one claim was answered in two ways"

    def _take(self, hand: Hand, assignment: Assignment, secret: str | None = None) -> None:
        hand.take(assignment, secret)
        key = (assignment.job_id, assignment.attempt)
        assert key not in [run.key for run in self.runs], "an attempt was given away twice"
        run = Run(hand, hand.ref(*key))
        self.runs.append(run)
        for text in (b"line\n", b"\xff\0\r"):
            run.print(text, next(self._numbers))
