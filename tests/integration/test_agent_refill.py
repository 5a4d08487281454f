"""Agents that ask for the next job with the end of one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.agents import attempt_folders, start_agent
from support.fake_server import FakeServer, drops_answer, fake_server
from support.processes import wait_for

from dtrain.protocol.states import Cause
from dtrain.worker.spool import WorkerFolder


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as server:
        yield server


def waits_for(gate: Path) -> dict[str, str]:
    """The files of a job that ends when a file is there."""
    code = f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.02)\n"
    return {"main.py": code}


def test_next_job_comes_with_the_end(tmp_path: Path, server: FakeServer) -> None:
    gate = tmp_path / "gate"
    start_agent(tmp_path / "worker", server)
    first = server.wait_until_claimed(server.submit(waits_for(gate)))
    server.wait(lambda: server.polls[-1].attempts, "a poll that is held")
    job = server.submit({"main.py": "print('next')"})
    gate.touch()
    second = server.wait_until_ended(job)
    assert first.finishes[0].exit_code == 0
    assert bytes(second.log) == b"next\n"
    assert second.secret in server.claims
    assert second.secret not in [poll.next_secret for poll in server.polls]


def test_lost_answer_is_asked_for_again(tmp_path: Path, server: FakeServer) -> None:
    gate = tmp_path / "gate"
    start_agent(tmp_path / "worker", server)
    server.wait_until_claimed(server.submit(waits_for(gate)))
    server.wait(lambda: server.polls[-1].attempts, "a poll that is held")
    job = server.submit({"main.py": "print('next')"})
    server.on("/finish", drops_answer)
    gate.touch()
    second = server.wait_until_ended(job)
    assert server.claims.count(second.secret) == 2
    assert len(second.finishes) == 1


def test_agent_that_drains_asks_for_none(tmp_path: Path, server: FakeServer) -> None:
    gate = tmp_path / "gate"
    agent = start_agent(tmp_path / "worker", server, on_stop="drain", poll_interval=0.3)
    job = server.submit(waits_for(gate))
    server.wait_until_claimed(job)
    server.wait(lambda: server.polls[-1].attempts, "the job to be listed")
    agent.process.terminate()
    server.wait(lambda: server.polls[-1].draining, "the agent to say that it drains")
    server.submit({"main.py": "print('never')"})
    gate.touch()
    server.wait_until_ended(job)
    assert agent.wait_for_end() == 0
    assert server.claims == []
    assert len(server.waiting) == 1


def test_secret_that_is_spent_is_not_asked_with_again(tmp_path: Path, server: FakeServer) -> None:
    start_agent(tmp_path / "worker", server)
    for _ in range(3):
        server.wait_until_ended(server.submit({"main.py": ""}))
        server.spent.add(server.claims[0])
    assert server.claims[0] == server.claims[1] != server.claims[2]


def test_job_that_cannot_be_taken_is_left_to_others(tmp_path: Path, server: FakeServer) -> None:
    gate, home = tmp_path / "gate", tmp_path / "worker"
    agent = start_agent(home, server)
    job = server.submit(waits_for(gate))
    server.wait_until_claimed(job)
    server.wait(lambda: server.polls[-1].attempts, "a poll that is held")
    other = server.submit({"main.py": "print('never')"}, executor="docker")
    gate.touch()
    agent.wait_for_text(f"Job {other} cannot be taken")
    ended = server.wait_until_ended(job)
    assert ended.finishes[0].cause is Cause.EXITED
    wait_for(lambda: attempt_folders(home) == [], "the folder to go")
    spent = server.attempt(other).secret
    assert not WorkerFolder(home / "data" / "worker-1").secrets.expects(spent)
