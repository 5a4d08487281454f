from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.agents import (
    COUNTS_UNTIL_LET_GO,
    SAYS_WHERE,
    RunningAgent,
    attempt_folders,
    has_ended,
    job_process,
    start_agent,
    write_settings,
)
from support.fake_server import FakeServer, drops_answer, fails, fake_server
from support.processes import wait_for

from dtrain.protocol.states import Cause

COUNTS = SAYS_WHERE + COUNTS_UNTIL_LET_GO


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as server:
        yield server


@pytest.fixture
def agent(tmp_path: Path, server: FakeServer) -> RunningAgent:
    return start_agent(tmp_path / "worker", server)


def let_go(process: psutil.Process) -> None:
    """Let the counting job end."""
    Path(process.cwd(), "go").touch()


def assert_nothing_lost(server: FakeServer, process: psutil.Process) -> None:
    """Wait for the end, and compare what the server has with what the job must have printed."""
    attempt = server.wait_until_ended(1)
    first, *lines, last = bytes(attempt.log).decode().splitlines()
    assert first == str(process.pid)
    assert lines == [f"line {number}" for number in range(len(lines))]
    assert last == f"bye {len(lines)}"
    assert attempt.finishes[0].exit_code == 3
    assert attempt.artifacts == {"left": b"x"}
    assert list(server.attempts) == [(1, 1)]


def test_killed_agent_finds_its_job_again(
    tmp_path: Path, server: FakeServer, agent: RunningAgent
) -> None:
    attempt = server.wait_until_claimed(server.submit({"main.py": COUNTS}))
    process = job_process(server, attempt)
    for _ in range(3):
        agent.kill()
        size = len(attempt.log)
        agent.restart()
        server.wait(lambda size=size: len(attempt.log) > size + 100, "the log to grow")
        assert not has_ended(process)
    let_go(process)
    assert_nothing_lost(server, process)
    assert attempt.bundle_reads == 1
    assert len({register.worker_id for register in server.registered[1:]}) == 1
    assert len(server.credentials) == 1
    agent.wait_for_text("Job 1 (a job) goes on.")
    wait_for(lambda: attempt_folders(tmp_path / "worker") == [], "the folder to go")


def test_end_while_no_agent_is_there_is_reported_later(
    server: FakeServer, agent: RunningAgent
) -> None:
    process = job_process(server, server.wait_until_claimed(server.submit({"main.py": COUNTS})))
    agent.kill()
    let_go(process)
    wait_for(lambda: has_ended(process), "the job to end")
    agent.restart()
    assert_nothing_lost(server, process)


def test_agent_killed_between_finish_and_its_answer_repeats_the_same(
    server: FakeServer, agent: RunningAgent
) -> None:
    attempt = server.wait_until_claimed(server.submit({"main.py": COUNTS}))
    process = job_process(server, attempt)
    server.on("/finish", drops_answer, *[fails(503)] * 100)
    let_go(process)
    server.wait(lambda: attempt.finishes, "the finish")
    agent.kill()
    server.faults.clear()
    agent.restart()
    assert_nothing_lost(server, process)
    assert len(set(map(repr, attempt.finishes))) == 1


def test_agent_killed_while_it_prepares_starts_the_attempt_once(
    server: FakeServer, agent: RunningAgent
) -> None:
    server.on("/bundle", *[fails(503)] * 1000)
    attempt = server.wait_until_claimed(server.submit({"main.py": COUNTS}))
    server.wait(lambda: any("bundle" in one for one in server.requests), "the fetching to begin")
    agent.kill()
    server.faults.clear()
    agent.restart()
    process = job_process(server, attempt)
    let_go(process)
    assert_nothing_lost(server, process)


def test_claim_whose_answer_was_lost_is_taken_by_the_next_agent(
    tmp_path: Path, server: FakeServer
) -> None:
    """The secret survives the agent, so that the server can answer the new one alike."""
    agent = start_agent(tmp_path / "worker", server)
    server.wait(lambda: server.polls, "a poll")
    secret = server.polls[-1].next_secret
    agent.kill()
    agent.restart()
    server.wait(lambda: len(server.registered) == 2, "the next session")
    server.wait(lambda: server.polls[-1].session == 2, "a poll of the next session")
    assert server.polls[-1].next_secret == secret


def test_enrolment_whose_answer_was_lost_is_the_same_when_it_is_repeated(
    tmp_path: Path, server: FakeServer
) -> None:
    """By the agent itself, and by the next one, which comes with what the first wrote down."""
    server.on("/register", drops_answer, drops_answer, *[fails(503)] * 100)
    agent = start_agent(tmp_path / "worker", server)
    server.wait(lambda: len(server.registered) == 2, "the enrolment to be repeated")
    agent.kill()
    server.faults.clear()
    agent.restart()
    server.wait(lambda: server.polls, "a poll")
    first, second, third = (one.credential for one in server.registered)
    assert server.credentials == {first} == {second} == {third}


def test_killed_shim_is_noticed_and_all_of_the_job_killed(
    server: FakeServer, agent: RunningAgent
) -> None:
    attempt = server.wait_until_claimed(server.submit({"main.py": COUNTS}))
    process = job_process(server, attempt)
    shim = process.parent()
    assert shim is not None
    shim.kill()
    server.wait_until_ended(1)
    assert attempt.finishes[0].cause is Cause.SHIM_LOST
    assert has_ended(process)


def test_shim_killed_while_no_agent_is_there(server: FakeServer, agent: RunningAgent) -> None:
    attempt = server.wait_until_claimed(server.submit({"main.py": COUNTS}))
    process = job_process(server, attempt)
    shim = process.parent()
    assert shim is not None
    agent.kill()
    shim.kill()
    agent.restart()
    server.wait_until_ended(1)
    assert attempt.finishes[0].cause is Cause.SHIM_LOST
    assert has_ended(process)


def test_job_goes_on_under_an_agent_that_has_not_its_executor(
    tmp_path: Path, server: FakeServer
) -> None:
    agent = start_agent(tmp_path / "worker", server, executor="venv")
    job = server.submit({"main.py": COUNTS}, executor="venv")
    process = job_process(server, server.wait_until_claimed(job))
    agent.kill()
    write_settings(tmp_path / "worker", server, executor="fake")
    size = len(server.attempt(1).log)
    agent.restart()
    server.wait(lambda: len(server.attempt(1).log) > size + 100, "the log to grow")
    server.wait(lambda: server.polls[-1].session == 2 and server.polls[-1].attempts, "the report")
    let_go(process)
    assert_nothing_lost(server, process)


def test_job_that_has_not_begun_is_handed_back_by_an_agent_that_has_not_its_executor(
    tmp_path: Path, server: FakeServer, agent: RunningAgent
) -> None:
    server.on("/bundle", *[fails(503)] * 1000)
    attempt = server.wait_until_claimed(server.submit({"main.py": COUNTS}))
    server.wait(lambda: any("bundle" in one for one in server.requests), "the fetching to begin")
    agent.kill()
    server.faults.clear()
    write_settings(tmp_path / "worker", server, executor="venv")
    agent.restart()
    server.wait_until_ended(1)
    assert attempt.finishes[0].cause is Cause.HANDED_BACK
    assert attempt.log == b""


def test_attempt_that_went_stale_meanwhile_is_killed_at_the_next_start(
    tmp_path: Path, server: FakeServer, agent: RunningAgent
) -> None:
    attempt = server.wait_until_claimed(server.submit({"main.py": COUNTS}))
    process = job_process(server, attempt)
    agent.kill()
    attempt.stale = True
    agent.restart()
    wait_for(lambda: has_ended(process), "the job to be killed")
    wait_for(lambda: attempt_folders(tmp_path / "worker") == [], "the folder to go")


def test_identity_is_kept_for_its_owner_alone(
    tmp_path: Path, server: FakeServer, agent: RunningAgent
) -> None:
    server.wait(lambda: server.polls, "a poll")
    file = tmp_path / "worker" / "data" / "worker-1" / "identity.json"
    assert json.loads(file.read_text())["credential"] in server.credentials
    assert file.stat().st_mode & 0o077 == 0
