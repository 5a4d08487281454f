from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.agents import SAYS_WHERE, attempt_folders, has_ended, job_process, start_agent
from support.fake_server import Attempt, FakeServer, fake_server
from support.processes import wait_for

from dtrain.protocol.states import Cause, OnStop

SAVES = SAYS_WHERE + (
    "import signal\n"
    "def save(*_):\n"
    "    print('saved', flush=True)\n"
    "    sys.exit(0)\n"
    "signal.signal(signal.SIGTERM, save)\n"
    "print('ready', flush=True)\n"
    "while not os.path.exists('go'): time.sleep(0.02)\n"
)
STUBBORN = SAVES.replace("    sys.exit(0)\n", "")


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as server:
        yield server


def start_job(server: FakeServer, script: str) -> Attempt:
    attempt = server.wait_until_claimed(server.submit({"main.py": script}))
    server.wait(lambda: b"ready" in attempt.log, "the job to be ready")
    return attempt


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_jobs_are_handed_back(tmp_path: Path, server: FakeServer, number: int) -> None:
    agent = start_agent(tmp_path / "worker", server)
    attempt = start_job(server, SAVES)
    process = job_process(server, attempt)
    agent.process.send_signal(number)
    assert agent.wait_for_end() == 0
    assert has_ended(process)
    assert attempt.finishes[0].cause is Cause.HANDED_BACK
    assert bytes(attempt.log).endswith(b"ready\nsaved\n")
    assert [leave.on_stop for leave in server.left] == [OnStop.HAND_BACK]
    assert attempt_folders(tmp_path / "worker") == []
    assert "Handing back 1 running job" in agent.text()


def test_second_interrupt_kills(tmp_path: Path, server: FakeServer) -> None:
    agent = start_agent(tmp_path / "worker", server, is_patient=True)
    attempt = start_job(server, STUBBORN)
    agent.process.send_signal(signal.SIGINT)
    server.wait(lambda: b"saved" in attempt.log, "the job to ignore it")
    agent.process.send_signal(signal.SIGINT)
    assert agent.wait_for_end() == 0
    assert attempt.finishes[0].cause is Cause.HANDED_BACK
    assert "Killing 1 running job." in agent.text()


def test_jobs_are_left_alone_where_the_owner_said_so(tmp_path: Path, server: FakeServer) -> None:
    agent = start_agent(tmp_path / "worker", server, on_stop="leave")
    attempt = start_job(server, SAVES)
    process = job_process(server, attempt)
    assert agent.stop() == 0
    assert not has_ended(process)
    assert [leave.on_stop for leave in server.left] == [OnStop.LEAVE]
    agent.restart()
    Path(process.cwd(), "go").touch()
    server.wait_until_ended(1)
    assert attempt.finishes[0].cause is Cause.EXITED


def test_drain_waits_for_jobs_and_takes_no_others(tmp_path: Path, server: FakeServer) -> None:
    agent = start_agent(
        tmp_path / "worker", server, on_stop="drain", max_concurrent_jobs=2, poll_interval=0.3
    )
    attempt = start_job(server, SAVES)
    agent.process.terminate()
    server.wait(lambda: server.polls[-1].draining, "the agent to say that it drains")
    server.submit({"main.py": "print('never here')"})
    polls = len(server.polls)
    server.wait(lambda: len(server.polls) > polls + 2, "a few polls")
    assert agent.alive
    assert list(server.attempts) == [(1, 1)]
    Path(job_process(server, attempt).cwd(), "go").touch()
    assert agent.wait_for_end() == 0
    assert attempt.finishes[0].cause is Cause.EXITED
    assert [leave.on_stop for leave in server.left] == [OnStop.DRAIN]


def test_interrupt_ends_a_drain(tmp_path: Path, server: FakeServer) -> None:
    agent = start_agent(tmp_path / "worker", server, on_stop="drain")
    attempt = start_job(server, SAVES)
    agent.process.terminate()
    agent.wait_for_text("Stopping after 1 running job")
    agent.process.send_signal(signal.SIGINT)
    assert agent.wait_for_end() == 0
    assert attempt.finishes[0].cause is Cause.HANDED_BACK


def test_idle_agent_stops_at_once(tmp_path: Path, server: FakeServer) -> None:
    agent = start_agent(tmp_path / "worker", server)
    server.wait(lambda: server.polls, "a poll")
    agent.process.terminate()
    assert agent.wait_for_end() == 0
    assert [leave.session for leave in server.left] == [1]
    assert "Traceback" not in agent.text()


def test_agent_that_never_reached_its_server_stops_at_once(tmp_path: Path) -> None:
    agent = start_agent(tmp_path / "worker", "http://127.0.0.1:1")
    agent.wait_for_text("No server answers at http://127.0.0.1:1")
    agent.process.send_signal(signal.SIGINT)
    assert agent.wait_for_end() == 0
    assert "Traceback" not in agent.text()


def test_hand_back_while_the_server_is_down_is_reported_by_the_next_agent(tmp_path: Path) -> None:
    with fake_server() as server:
        agent = start_agent(tmp_path / "worker", server)
        attempt = start_job(server, SAVES)
        shim = job_process(server, attempt).parent()
        assert shim is not None
        port = server.server_port
    agent.process.send_signal(signal.SIGINT)
    wait_for(lambda: has_ended(shim), "the job and its shim to end")
    for times in (1, 2):
        agent.process.send_signal(signal.SIGINT)
        wait_for(lambda times=times: agent.text().count("Stopping when all") == times, "an answer")
    assert agent.wait_for_end() == 0
    assert "start the worker again" in agent.text()

    with fake_server(port) as other:
        other.credentials, other.session = server.credentials, server.session
        other.attempts = server.attempts
        agent.restart()
        other.wait_until_ended(1)
        assert attempt.finishes[0].cause is Cause.HANDED_BACK
        assert bytes(attempt.log).endswith(b"ready\nsaved\n")
        agent.stop()
