"""How an attempt's end comes to the server: with the last of its log, whatever is answered."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.attempts import not_refilled
from support.fake_server import Attempt, FakeServer, fails, fake_server

from dtrain.client.transport import Transport
from dtrain.protocol.states import Cause
from dtrain.protocol.worker_messages import LONGEST_TAIL, Finish
from dtrain.worker.delivery import Delivery
from dtrain.worker.link import AttemptRef, Link
from dtrain.worker.patience import StaleAttempt
from dtrain.worker.spool import AttemptFolder, WorkerFolder

LINES = b"first\nsecond\n"


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as server:
        yield server


@pytest.fixture
def attempt(server: FakeServer) -> Attempt:
    """What the server has heard of the only job."""
    server.submit({"main.py": "print('never')"})
    with server.changed:
        server._claim(server.waiting[0], secrets.token_urlsafe(32))
    return server.attempt(1)


@pytest.fixture
def folder(tmp_path: Path, attempt: Attempt) -> AttemptFolder:
    """The attempt's, with two lines in its log."""
    made = WorkerFolder(tmp_path / "worker").create_attempt(attempt.assignment, attempt.secret)
    made.log.write_bytes(LINES)
    return made


@pytest.fixture
def delivery(server: FakeServer, attempt: Attempt, folder: AttemptFolder) -> Iterator[Delivery]:
    link = Link(Transport(server.url), threading.Event(), lambda _: None)
    link.credential = "credential"
    server.credentials.add("credential")
    refill = not_refilled(WorkerFolder(folder.path.parents[1]))
    made = Delivery(folder, link, AttemptRef(1, 1, attempt.secret), refill)
    yield made
    made.close()


def end(delivery: Delivery) -> None:
    """Let it have ended, and report that."""
    delivery.keep(Finish(cause=Cause.EXITED, exit_code=0, log_bytes=delivery.log_size()))
    delivery.deliver()


def sent_log(server: FakeServer) -> int:
    """How many requests were for the log alone."""
    return sum(request.endswith("/log") for request in server.requests)


def test_little_that_is_left_of_the_log_comes_with_the_end(
    server: FakeServer, attempt: Attempt, delivery: Delivery
) -> None:
    assert delivery.is_nearly_sent()
    end(delivery)
    assert (delivery.reported, attempt.log, sent_log(server)) == (True, LINES, 0)
    assert len(attempt.finishes) == 1


def test_what_came_before_does_not_come_with_the_end(
    attempt: Attempt, folder: AttemptFolder, delivery: Delivery
) -> None:
    assert delivery.follow_log()
    with folder.log.open("ab") as log:
        log.write(b"third\n")
    end(delivery)
    assert attempt.log == LINES + b"third\n"


def test_what_is_written_after_the_end_was_decided_is_not_sent(
    attempt: Attempt, folder: AttemptFolder, delivery: Delivery
) -> None:
    delivery.keep(Finish(cause=Cause.EXITED, exit_code=0, log_bytes=delivery.log_size()))
    with folder.log.open("ab") as log:
        log.write(b"late\n")
    delivery.deliver()
    assert (delivery.reported, attempt.log) == (True, LINES)


def test_much_of_the_log_comes_by_itself(
    server: FakeServer, attempt: Attempt, folder: AttemptFolder, delivery: Delivery
) -> None:
    folder.log.write_bytes(b"x" * (LONGEST_TAIL + 1))
    assert not delivery.is_nearly_sent()
    end(delivery)
    assert (delivery.reported, len(attempt.log)) == (True, LONGEST_TAIL + 1)
    assert sent_log(server) == 1


@pytest.mark.parametrize("status", [413, 422, 403])
def test_log_that_is_refused_with_the_end_comes_by_itself(
    server: FakeServer, attempt: Attempt, delivery: Delivery, status: int
) -> None:
    server.on("/finish", fails(status, "refused"))
    end(delivery)
    assert (delivery.reported, attempt.log, sent_log(server)) == (True, LINES, 1)


def test_log_of_an_attempt_that_no_longer_counts_is_sent_all_the_same(
    server: FakeServer, attempt: Attempt, delivery: Delivery
) -> None:
    server.on("/finish", fails(409, "stale"))
    with pytest.raises(StaleAttempt):
        end(delivery)
    assert (attempt.log, attempt.finishes) == (LINES, [])
