from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from dtrain.protocol.errors import Unavailable
from dtrain.protocol.resources import Capacity, Request, free_of
from dtrain.protocol.states import Executor
from dtrain.server.mailboxes import Mailboxes
from dtrain.server.polls import Held, HeldPolls

SMALL = Request(cpus=1)
LARGE = Request(cpus=8)
REQUESTS = {"small": SMALL, "large": LARGE}


class Line:
    """Held polls of workers with so many CPUs each."""

    def __init__(self, stack: ExitStack) -> None:
        self.mailboxes = Mailboxes()
        self.polls = HeldPolls(self.mailboxes, self._request)
        self._stack = stack

    def _request(self, key: str) -> Request | None:
        if key == "unreadable":
            raise Unavailable("The database does not answer; try again in a moment.")
        return REQUESTS.get(key)

    def hold(self, cpus: int, *, asks: bool = False) -> Held:
        capacity = Capacity(slots=1, cpus=cpus, memory=1 << 30, executors=[Executor.VENV])
        free = free_of(capacity, [])
        held = self.polls.hold(threading.Event(), capacity, free, asks=asks)
        return self._stack.enter_context(held)


@pytest.fixture
def line() -> Iterator[Line]:
    with ExitStack() as stack:
        yield Line(stack)


def woken(*held: Held) -> list[bool]:
    return [one.woken.is_set() for one in held]


def test_new_job_wakes_the_longest_waiting_that_it_fits(line: Line) -> None:
    workers = [line.hold(2), line.hold(16), line.hold(16)]
    line.mailboxes.wake("queued:large")
    assert woken(*workers) == [False, True, False]
    line.mailboxes.wake("queued:large")
    assert woken(*workers) == [False, True, True]
    line.mailboxes.wake("queued:small")
    assert woken(*workers) == [True, True, True]


def test_owners_are_asked_all_at_once_where_nobody_takes_it_unasked(line: Line) -> None:
    owners = [line.hold(4, asks=True), line.hold(4, asks=True)]
    line.mailboxes.wake("queued:small")
    assert woken(*owners) == [True, True]


def test_worker_that_takes_it_by_itself_goes_before_owners(line: Line) -> None:
    workers = [line.hold(4, asks=True), line.hold(4)]
    line.mailboxes.wake("queued:small")
    assert woken(*workers) == [False, True]


def test_woken_poll_waits_again_after_its_look(line: Line) -> None:
    held = line.hold(4)
    line.mailboxes.wake("queued:small")
    assert held.wait(held.free, timeout=0)
    assert not held.wait(held.free, timeout=0)
    line.mailboxes.wake("queued:small")
    assert held.wait(held.free, timeout=0)


def test_job_that_is_gone_wakes_nobody_and_an_unreadable_one_everybody(line: Line) -> None:
    workers = [line.hold(4), line.hold(4)]
    line.mailboxes.wake("queued:unknown")
    assert woken(*workers) == [False, False]
    line.mailboxes.wake("queued:unreadable")
    assert woken(*workers) == [True, True]


def test_ended_poll_is_out_of_the_line(line: Line) -> None:
    with ExitStack() as stack:
        capacity = Capacity(slots=1, cpus=4, memory=1 << 30, executors=[Executor.VENV])
        held = line.polls.hold(threading.Event(), capacity, free_of(capacity, []), asks=False)
        stack.enter_context(held)
        assert len(line.polls) == 1
    assert len(line.polls) == 0
