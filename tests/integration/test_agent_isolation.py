"""Agents whose jobs are isolated: found again, ended, shown."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.agents import RunningAgent, attempt_folders, start_agent
from support.fake_server import Attempt, FakeServer, fake_server
from support.processes import wait_for
from support.requirements import require

from dtrain.protocol.states import Cause

COUNTS = """\
import os, pathlib, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0: os.setsid()
print("uid", os.getuid(), flush=True)
while not os.path.exists("go"): time.sleep(0.02)
pathlib.Path(os.environ["DTRAIN_OUTPUT_DIR"], "left").write_text("x")
"""

WORKS = """\
import os, time
held = b"x" * (100 * 2**20)
if os.fork() == 0:
    while time.process_time() < 1: pass
    os._exit(0)
while time.process_time() < 1: pass
os.wait()
print("worked", flush=True)
while not os.path.exists("go"): time.sleep(0.02)
"""
"""A second of a processor in each of two processes, one of which has ended."""


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as server:
        yield server


@pytest.fixture
def agent(tmp_path: Path, server: FakeServer) -> RunningAgent:
    require("root")
    return start_agent(tmp_path / "worker", server, isolation="auto", max_memory_gb=1)


def begun(server: FakeServer, script: str) -> Attempt:
    attempt = server.wait_until_claimed(server.submit({"main.py": script}))
    server.wait(lambda: attempt.log.count(b"uid") == 2, "both processes of the job")
    return attempt


def uid(attempt: Attempt) -> int:
    """The user that a job says it is."""
    return int(re.findall(rb"\d+", attempt.log)[0])


def processes(attempt: Attempt) -> list[psutil.Process]:
    """What runs of a job, by its user."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.uids().real == uid(attempt) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            pass
    return found


def test_isolation_is_said_and_reported(server: FakeServer, agent: RunningAgent) -> None:
    server.wait(lambda: server.polls, "a poll")
    agent.wait_for_text("Isolation: namespace (a job has its own user, processes and files;")
    for capacity in (server.registered[0].capacity, server.polls[0].capacity):
        assert capacity.isolation == "namespace"
        assert capacity.protection is not None
        assert capacity.protection.uid


def test_isolated_job_is_found_again_and_its_artifacts_come(
    tmp_path: Path, server: FakeServer, agent: RunningAgent
) -> None:
    attempt = begun(server, COUNTS)
    before = processes(attempt)
    assert len(before) == 3, "both and the init above them"
    agent.kill()
    agent.restart()
    agent.wait_for_text("Job 1 (a job) goes on.")
    assert processes(attempt) == before
    (folder,) = attempt_folders(tmp_path / "worker")
    (folder / "work" / "go").touch()
    server.wait_until_ended(1)
    assert attempt.finishes[0].cause is Cause.EXITED
    assert attempt.finishes[0].exit_code == 0
    assert attempt.artifacts == {"left": b"x"}
    wait_for(lambda: attempt_folders(tmp_path / "worker") == [], "the folder to go")
    assert not processes(attempt)


def test_isolated_job_whose_shim_died_without_an_agent_is_ended(
    tmp_path: Path, server: FakeServer, agent: RunningAgent
) -> None:
    attempt = begun(server, COUNTS)
    agent.kill()
    (init,) = (process for process in processes(attempt) if process.uids().saved != uid(attempt))
    shim = init.parent()
    os.kill(shim.pid, signal.SIGKILL)
    wait_for(lambda: not processes(attempt), "the job to end with its shim")
    agent.restart()
    server.wait_until_ended(1)
    assert attempt.finishes[0].cause is Cause.SHIM_LOST
    wait_for(lambda: attempt_folders(tmp_path / "worker") == [], "the folder to go")


@pytest.mark.parametrize("isolation", ["off", "auto"])
def test_what_a_job_uses_is_told(tmp_path: Path, server: FakeServer, isolation: str) -> None:
    start_agent(tmp_path / "worker", server, isolation=isolation)
    attempt = server.wait_until_claimed(server.submit({"main.py": WORKS}))
    server.wait(lambda: b"worked" in attempt.log, "the job to have worked")

    def told() -> bool:
        reports = server.polls[-1].attempts
        found = [report.usage for report in reports if report.usage is not None]
        return any(one.cpu_time >= 2 and 100 < one.memory / 2**20 < 300 for one in found)

    server.wait(told, "what the job uses")
    (folder,) = attempt_folders(tmp_path / "worker")
    (folder / "work" / "go").touch()
    server.wait_until_ended(1)


def test_out_of_memory_is_reported_with_its_limit(server: FakeServer, agent: RunningAgent) -> None:
    attempt = server.wait_until_ended(
        server.submit({"main.py": "bytearray(300 * 1024**2)"}, memory_gb=0.1)
    )
    finish = attempt.finishes[0]
    assert finish.cause is Cause.OUT_OF_MEMORY
    assert finish.memory_limit == int(0.1 * 1024**3)
    assert finish.peak_memory is not None
    assert finish.peak_memory <= finish.memory_limit


HOLDS = """\
import os, sys, time
held = b"x" * (int(sys.argv[1]) * 2**20)
print("holds it", flush=True)
while not os.path.exists("go"): time.sleep(0.02)
"""


def test_largest_of_several_jobs_is_ended_where_no_group_holds_their_memory(
    tmp_path: Path, server: FakeServer
) -> None:
    require("root")
    home = tmp_path / "worker"
    limits = {"max_memory_gb": 0.25, "max_concurrent_jobs": 3}
    start_agent(home, server, is_without_groups=True, **limits)
    small, large, last = (
        server.submit({"main.py": HOLDS}, args=[size]) for size in ("60", "100", "150")
    )
    attempt = server.wait_until_ended(last)
    assert server.registered[-1].capacity.protection.memory == "supervised"
    assert attempt.finishes[0].cause is Cause.OUT_OF_MEMORY
    assert attempt.finishes[0].memory_limit == int(0.25 * 1024**3)
    for job in (small, large):
        server.wait(lambda job=job: b"holds it" in server.attempt(job).log, "a job to go on")
        assert not server.attempt(job).finishes
    for folder in attempt_folders(home):
        (folder / "work" / "go").touch()
    for job in (small, large):
        assert server.wait_until_ended(job).finishes[0].exit_code == 0
