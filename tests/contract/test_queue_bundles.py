"""Jobs whose bundle is gone from the server, and what keeps bundles from going."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path

import pytest
import sqlalchemy as sa
from support.application import bundle
from support.processes import wait_for
from support.queue import Hand, open_services

from dtrain.protocol.errors import Invalid
from dtrain.protocol.messages import Job
from dtrain.protocol.states import Phase, Reason, Status
from dtrain.server.jobs import read, retry, submit
from dtrain.server.services import Services
from dtrain.server.store import bundles, events
from dtrain.server.store.schema import bundles as rows
from dtrain.server.store.schema import jobs


def hand_in(services: Services, name: str = "a job") -> Job:
    """A new job; those of one name have one bundle."""
    packed = BytesIO(bundle({"main.py": f"print({name!r})\n"}))
    raw = {"name": name}
    return submit.submit(services, raw, packed, submitter=None, idempotency_key=None)[0]


def lose_bundle(services: Services, job: Job) -> None:
    gone = rows.delete().where(rows.c.sha256 == job.bundle.sha256)
    services.database.write(lambda connection: connection.execute(gone))


def assert_ended_by_it(services: Services, job: Job) -> None:
    ended = read.get(services, job.id)
    assert (ended.status, ended.reason) == (Status.FAILED, Reason.BUNDLE_INVALID)
    assert "has lost the job's bundle" in (ended.message or "")


def test_job_whose_bundle_is_gone_ends_and_holds_up_no_poll(services: Services) -> None:
    running = hand_in(services, "running")
    hand = Hand(services, slots=2)
    hand.run_next()
    lost, later = hand_in(services, "lost"), hand_in(services, "later")
    lose_bundle(services, lost)
    assignment = hand.poll().assignment
    assert assignment is not None
    assert assignment.job_id == later.id
    assert_ended_by_it(services, lost)
    assert read.get(services, running.id).status is Status.RUNNING


@pytest.mark.parametrize("offered", [False, True])
def test_job_whose_bundle_is_gone_is_offered_no_more(services: Services, *, offered: bool) -> None:
    lost, later = hand_in(services, "lost"), hand_in(services, "later")
    hand = Hand(services, slots=2, asks=True)
    if offered:
        hand.poll()
        assert read.get(services, lost.id).phase is Phase.OFFERED
    lose_bundle(services, lost)
    assert [offer.job_id for offer in hand.poll().offers] == [later.id]
    assert_ended_by_it(services, lost)


def test_job_whose_bundle_is_gone_is_not_queued_once_more(services: Services) -> None:
    job = hand_in(services)
    lose_bundle(services, job)
    with pytest.raises(Invalid) as refused:
        retry.retry(services, job.id, by=None)
    assert refused.value.code == "bundle_lost"


@contextmanager
def events_held(services: Services) -> Iterator[Callable[[int, threading.Thread], None]]:
    """Have nobody store an event, and so no job; waits until so many wait, the last a thread."""
    with services.database.engine.connect() as holder, services.database.engine.connect() as eye:
        holder.execute(events._TAKE_TURN)

        def waiting() -> int:
            eye.rollback()
            query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            return int(eye.execute(sa.text(query)).scalar_one())

        def wait_until(number: int, last: threading.Thread) -> None:
            wait_for(lambda: waiting() >= number or not last.is_alive(), "waiters")

        yield wait_until
        holder.rollback()


def run_again(services: Services) -> Job:
    return retry.retry(services, 1, by=None)[0]


@pytest.mark.parametrize("queue", [hand_in, run_again])
def test_bundle_is_not_forgotten_while_a_job_that_needs_it_is_being_stored(
    tmp_path: Path, postgres_url: str, queue: Callable[[Services], Job]
) -> None:
    queued: list[Job] = []
    forgotten: list[set[str]] = []
    with open_services(tmp_path, postgres_url) as services:
        job = hand_in(services)
        storing = threading.Thread(target=lambda: queued.append(queue(services)))
        forget = partial(bundles.forget_unneeded, hashes={job.bundle.sha256})
        forgetting = threading.Thread(
            target=lambda: forgotten.append(services.database.write(forget))
        )
        with events_held(services) as wait_until:
            storing.start()
            wait_until(1, storing)
            services.database.write(lambda c: c.execute(jobs.delete().where(jobs.c.id == job.id)))
            forgetting.start()
            wait_until(2, forgetting)
        storing.join()
        forgetting.join()
        assert forgotten == [set()]
        assert Hand(services).run_next().job_id == queued[0].id
