"""Programs are killed, again and again, at moments that nobody has chosen."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import psutil
import pytest
from support.api import wait_for_status
from support.ledger import faults
from support.processes import PATIENCE, RunningServer, RunningWorker, wait_for
from support.witness import Witness, assert_whole, final_states, hand_in, log_of_attempt

from .conftest import Running

KILLS = 10


@pytest.mark.parametrize("killed", ["agent", "server", "both"])
def test_kills_at_random_moments_lose_nothing(
    killed: str, job: Running, server: RunningServer, far_worker: RunningWorker
) -> None:
    victims = {"agent": [far_worker], "server": [server], "both": [server, far_worker]}[killed]
    [process] = job.witness.starts()
    for _ in range(KILLS):
        time.sleep(random.uniform(0, 1.5))  # any moment will do
        for victim in victims:
            victim.kill()
        for victim in victims:
            victim.restart()
    job.wait_for_growth()
    assert job.witness.starts() == [process]
    job.assert_nothing_lost()


def test_server_killed_again_and_again_under_a_hundred_thousand_lines(
    tmp_path: Path, server: RunningServer, far_worker: RunningWorker
) -> None:
    witness = Witness(tmp_path / "witness")
    job_id = hand_in(server.url, witness, STEPS=25_000, PAUSE=0.0005, SMALL=1)
    [process] = wait_for(witness.starts, "the job to start")
    while psutil.pid_exists(process):
        time.sleep(2)
        server.kill()
        server.restart()
    wait_for_status(server.url, job_id, "completed", patience=240)
    assert witness.printed().count(b"\n") == 100_000
    assert_whole(server.url, job_id, witness)
    assert final_states(server.url, job_id) == ["completed"]


def test_serving_process_that_is_killed_ends_the_server_and_nothing_else(
    job: Running, server: RunningServer
) -> None:
    [serving] = psutil.Process(server.pid).children()
    serving.kill()
    faults["kill -9 of a server"] += 1
    assert server.process.wait(PATIENCE) == 1
    server.restart()
    job.wait_for_growth()
    job.assert_nothing_lost()


def test_server_is_started_again_the_moment_it_is_killed(
    job: Running, server: RunningServer
) -> None:
    """As by a supervisor, which does not look whether the serving process has ended, too."""
    for _ in range(10):
        server.process.kill()
        faults["kill -9 of a server"] += 1
        server.process.wait()
        server.restart()
    job.assert_nothing_lost()


def test_killed_shim_costs_the_attempt_and_nothing_more(
    tmp_path: Path, job: Running, server: RunningServer
) -> None:
    [process] = job.witness.starts()
    shim = psutil.Process(process).parent()
    assert shim is not None
    os.kill(shim.pid, signal.SIGKILL)
    faults["kill -9 of a supervisor"] += 1
    wait_for(lambda: not psutil.pid_exists(process), "the job to be killed")
    wait_for(lambda: len(job.witness.starts()) == 2, "the job to be started again")
    stored = log_of_attempt(server.url, job.id, 1)
    assert job.witness.printed(1).startswith(stored)
    job.assert_nothing_lost(attempts=2)


def test_jobs_killed_in_the_moment_they_start_run_once(
    tmp_path: Path, server: RunningServer, far_worker: RunningWorker
) -> None:
    for number in range(12):
        witness = Witness(tmp_path / f"witness-{number}")
        job_id = hand_in(server.url, witness, STEPS=20)
        time.sleep(random.uniform(0, 0.4))  # anywhere in its preparation
        far_worker.kill()
        far_worker.restart()
        job = wait_for_status(server.url, job_id, "completed")
        assert (job["attempt"], len(witness.starts())) == (1, 1)
        assert_whole(server.url, job_id, witness)
