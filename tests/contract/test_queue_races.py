"""What happens at the same moment, on PostgreSQL, where nobody waits for everybody else."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path

import pytest
import sqlalchemy as sa
from support.application import bundle
from support.processes import wait_for
from support.queue import Hand, advance_clock, let_pass, open_services, submitted

from dtrain.protocol.errors import DTrainError
from dtrain.protocol.states import Cause, Phase, Status
from dtrain.protocol.worker_messages import PhaseReport
from dtrain.server.app import compose
from dtrain.server.background import Background
from dtrain.server.jobs import cancel, read, report, submit
from dtrain.server.jobs.fencing import AttemptRef
from dtrain.server.services import Services
from dtrain.server.settings import load

RACES = 1000 if os.environ.get("QUEUE_EXAMPLES") else 15
"""How often two things that happen at the same moment are tried."""


@pytest.fixture
def services(tmp_path: Path, postgres_url: str) -> Iterator[Services]:
    with open_services(tmp_path, postgres_url) as made:
        yield made


@contextmanager
def held(services: Services, job_id: int) -> Iterator[Callable[[int], None]]:
    """Have another writer hold a job; the function waits until so many wait for it."""
    with services.database.engine.connect() as holder, services.database.engine.connect() as eye:
        holder.execute(sa.text(f"SELECT id FROM jobs WHERE id = {job_id} FOR UPDATE"))

        def waiting() -> int:
            eye.rollback()
            query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            return int(eye.execute(sa.text(query)).scalar_one())

        yield lambda number: wait_for(lambda: waiting() >= number or None, "waiters") and None
        holder.rollback()


def in_turn(services: Services, job_id: int, *calls: Callable[[], object]) -> None:
    """Make calls that all meet the job's lock, and get it in this order."""
    threads = [threading.Thread(target=call) for call in calls]
    with held(services, job_id) as wait_until:
        for number, thread in enumerate(threads, 1):
            thread.start()
            wait_until(number)
    for thread in threads:
        thread.join()


def test_poll_that_crosses_an_end_does_not_take_it_back(services: Services) -> None:
    job = submitted(services)
    hand = Hand(services)
    ref = hand.run_next()
    in_turn(services, job.id, lambda: hand.finish(ref, log_bytes=4), hand.poll)
    assert read.get(services, job.id).phase is Phase.FINISHING
    hand.log(ref, 0, b"all\n")
    assert read.get(services, job.id).status is Status.COMPLETED


def test_end_that_crosses_the_loss_of_its_lease_counts(services: Services) -> None:
    job = submitted(services)
    hand = Hand(services)
    ref = hand.run_next()
    background = Background(services)
    let_pass(background, services, 290)
    advance_clock(services, 10)
    in_turn(services, job.id, lambda: hand.finish(ref, log_bytes=4), background.tick)
    assert read.get(services, job.id).phase is Phase.FINISHING
    hand.log(ref, 0, b"all\n")
    assert read.get(services, job.id).status is Status.COMPLETED


def race(*calls: Callable[[], object]) -> list[DTrainError]:
    """Make calls at the same moment; how some of them were refused."""
    barrier, refused = threading.Barrier(len(calls)), []

    def make(call: Callable[[], object]) -> None:
        barrier.wait()
        try:
            call()
        except DTrainError as error:
            refused.append(error)

    threads = [threading.Thread(target=make, args=[call]) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return refused


def test_cancel_that_races_the_end_leaves_one_end(services: Services) -> None:
    hand = Hand(services)
    for _ in range(RACES):
        job = submitted(services)
        ref = hand.run_next()
        assert not race(
            partial(cancel.cancel, services, job.id, by=None), partial(hand.finish, ref)
        )
        assert read.get(services, job.id).status is Status.COMPLETED
        kinds = [event.kind for event in read.events(services, job.id).events]
        assert kinds[-1] == "completed"
        assert not {"cancelled", "failed"} & set(kinds)


def test_cancel_that_races_the_claim_ends_the_job_or_is_told(services: Services) -> None:
    for number in range(RACES):
        job = submitted(services)
        hand = Hand(services, f"w{number}")
        assert not race(partial(cancel.cancel, services, job.id, by=None), hand.poll)
        if not hand.attempts:
            assert read.get(services, job.id).status is Status.CANCELLED
            continue
        assert [command.action for command in hand.poll().commands] == ["cancel"]
        hand.finish(hand.ref(job.id), Cause.CANCELLED)
        assert read.get(services, job.id).status is Status.CANCELLED


def test_servers_that_give_up_one_attempt_together_restart_it_once(
    tmp_path: Path, postgres_url: str
) -> None:
    with ExitStack() as stack:
        places = [
            stack.enter_context(open_services(tmp_path / str(number), postgres_url))
            for number in range(2)
        ]
        job = submitted(places[0])
        hand = Hand(places[0])
        hand.run_next()
        backgrounds = [Background(place) for place in places]
        for background, place in zip(backgrounds, places, strict=True):
            let_pass(background, place, 295)
            advance_clock(place, 10)
        race(*(background.tick for background in backgrounds))
        kinds = [event.kind for event in read.events(places[0], job.id).events]
        assert kinds.count("lost") == 1
        assert read.get(places[0], job.id).phase is Phase.RETRY_WAIT


def test_servers_whose_clocks_are_apart_agree_on_leases(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database's clock rules; by their own, one would end what the other has renewed."""
    one, other = (
        compose(load(tmp_path / name, {"DATABASE_URL": postgres_url})) for name in ("one", "other")
    )
    try:
        job = submitted(one)
        hand = Hand(one)
        hand.run_next()
        with monkeypatch.context() as apart:
            true = time.time
            apart.setattr(time, "time", lambda: true() + 600)
            Background(other).tick()
        running = read.get(one, job.id)
        assert (running.status, running.phase) == (Status.RUNNING, Phase.PREPARING)
    finally:
        for services in (one, other):
            services.database.close()


class Crowd:
    """Threads that all do something to the same jobs; what fails is written down."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self._threads: list[threading.Thread] = []

    def add(self, times: int, *calls: Callable[[int], object]) -> None:
        """Have calls made in turn, each so many times, with the number of the time."""
        self._threads.append(threading.Thread(target=self._make, args=[times, calls]))

    def run(self) -> None:
        """Let them all go, and wait for them."""
        for thread in self._threads:
            thread.start()
        for thread in self._threads:
            thread.join()

    def _make(self, times: int, calls: tuple[Callable[[int], object], ...]) -> None:
        for turn in range(times):
            for call in calls:
                try:
                    call(turn)
                except DTrainError as error:
                    self.failures.append(f"{error} {error.__cause__}")


def test_reports_and_polls_at_once_are_all_taken(tmp_path: Path, postgres_url: str) -> None:
    """Two servers, workers with several jobs: no call may fail because of another."""
    with ExitStack() as stack:
        one, other = (
            stack.enter_context(open_services(tmp_path / str(number), postgres_url))
            for number in range(2)
        )
        jobs = [submitted(one) for _ in range(9)]
        hands = [Hand(one, f"w{number}", slots=3) for number in range(3)]
        crowd = Crowd()
        for hand in hands:
            for _ in range(4):
                hand.poll()
            crowd.add(25, lambda _, hand=hand: hand.poll())
            for key, place in zip(hand.attempts, (one, other, one), strict=True):
                crowd.add(25, *reports(place, hand.ref(*key)))
        for place in (one, other):
            background = Background(place)
            crowd.add(10, lambda _, background=background: background.tick())
        crowd.add(3, lambda time: cancel.cancel(other, jobs[3 * time].id, by=None))
        crowd.run()
        assert not crowd.failures, crowd.failures[:5]
        for hand in hands:
            for key in list(hand.attempts):
                assert hand.finish(hand.ref(*key), log_bytes=25).applied


def reports(place: Services, ref: AttemptRef) -> tuple[Callable[[int], object], ...]:
    """What an attempt tells all the time: its phase, and a byte of its log."""
    phases = (Phase.PREPARING, Phase.EXECUTING)
    return (
        lambda time: report.phase(place, ref, PhaseReport(phase=phases[time % 2])),
        lambda time: report.append_log(place, ref, time, b"\n"),
    )


def test_one_key_at_the_same_moment_gives_one_job(services: Services) -> None:
    def hand_in() -> int:
        job, _ = submit.submit(
            services,
            {"name": "once"},
            BytesIO(bundle()),
            submitter=None,
            idempotency_key="the same",
        )
        return job.id

    found: list[int] = []
    barrier = threading.Barrier(6)

    def race() -> None:
        barrier.wait()
        found.append(hand_in())

    threads = [threading.Thread(target=race) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len(set(found)) == 1
