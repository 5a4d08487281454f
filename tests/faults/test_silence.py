"""Silences that are longer than the patience of anybody. Each takes six minutes, of real time."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest
from support.api import get_json, wait_for_status
from support.processes import RunningServer, RunningWorker, start_worker, stopped, wait_for
from support.proxy import Proxy, Weather
from support.witness import Witness, assert_whole, hand_in

from .conftest import Running

SILENCE = 330.0
"""Seconds; after 300 a server gives an attempt up."""

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture
def job(tmp_path: Path, server: RunningServer, far_worker: RunningWorker) -> Running:
    """A job that says little, since it says it for so long."""
    return Running(server, tmp_path / "witness", pause=0.5)


def test_job_of_a_silent_worker_goes_to_another_and_its_old_process_is_killed(
    tmp_path: Path, job: Running, server: RunningServer, far_worker: RunningWorker
) -> None:
    [old] = job.witness.starts()
    start_worker(tmp_path / "near", server, name="near")
    with stopped(far_worker):
        wait_for(lambda: len(job.witness.starts()) == 2, "another attempt", patience=SILENCE + 60)
    wait_for(lambda: not psutil.pid_exists(old), "the old process to be killed")
    job.assert_nothing_lost(attempts=2)


def test_silent_worker_goes_on_with_its_job_where_nobody_else_has_taken_it(
    job: Running, proxy: Proxy
) -> None:
    proxy.weather = Weather(drop_requests=True, drop_answers=True)
    proxy.cut()
    time.sleep(SILENCE)
    proxy.weather = Weather()
    proxy.cut()
    wait_for_status(job.server.url, job.id, "running")
    job.assert_nothing_lost()


def test_agent_that_stood_still_goes_on_where_it_was(
    job: Running, server: RunningServer, far_worker: RunningWorker
) -> None:
    address = f"{server.url}/api/jobs/{job.id}"
    with stopped(far_worker):
        wait_for(lambda: get_json(address)["phase"] == "unreachable", "the lease to end")
    wait_for(lambda: get_json(address)["phase"] == "executing", "the agent to show itself")
    job.assert_nothing_lost()


def test_server_that_stood_still_gives_no_job_away(
    tmp_path: Path, job: Running, server: RunningServer
) -> None:
    start_worker(tmp_path / "near", server, name="near")
    with stopped(server):
        time.sleep(SILENCE)
    job.wait_for_growth()
    job.assert_nothing_lost()


def test_job_lives_on_while_its_server_is_down(job: Running, server: RunningServer) -> None:
    [process] = job.witness.starts()
    server.kill()
    time.sleep(SILENCE)
    server.restart()
    job.wait_for_growth()
    assert job.witness.starts() == [process]
    job.assert_nothing_lost()


@pytest.mark.parametrize("away", ["server", "agent"])
def test_end_that_was_told_waits_for_its_log(
    away: str, tmp_path: Path, server: RunningServer, far_worker: RunningWorker, proxy: Proxy
) -> None:
    """Killed between the word that the job has ended and the last byte of its log."""
    witness = Witness(tmp_path / "witness")
    proxy.weather = Weather(rate=1_000_000)
    job_id = hand_in(server.url, witness, STEPS=400, PAUSE=0.001)
    address = f"{server.url}/api/jobs/{job_id}"
    wait_for(lambda: get_json(address)["phase"] == "finishing", "the end to be told")
    victim: RunningServer | RunningWorker = server if away == "server" else far_worker
    victim.kill()
    proxy.weather = Weather()
    time.sleep(SILENCE)
    victim.restart()
    wait_for_status(server.url, job_id, "completed", patience=180)
    size = len(witness.printed())
    wait_for(lambda: get_json(address)["log_bytes"] == size, "the rest of the log")
    assert_whole(server.url, job_id, witness)
