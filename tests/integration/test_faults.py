"""The faults that can be done at a chosen moment, and are quick: the long ones are in `faults/`."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from support.api import get_json, wait_for_status
from support.processes import PATIENCE, RunningServer, RunningWorker, start_worker, wait_for
from support.proxy import Proxy, proxy_to
from support.stored import change_stored
from support.witness import Witness, assert_whole, final_states, hand_in

from dtrain.client.client import Client


@pytest.fixture
def proxy(server: RunningServer) -> Iterator[Proxy]:
    """The way to `server`."""
    with proxy_to(server.port) as made:
        yield made


def test_server_killed_between_what_it_stores_and_its_answer_does_nothing_twice(
    tmp_path: Path, server: RunningServer, proxy: Proxy
) -> None:
    """Once for each kind of call: enrolment, claim, log, end, artifact, submission."""
    witness = Witness(tmp_path / "witness")

    @contextmanager
    def killed(path: bytes, holds: bytes) -> Iterator[None]:
        def act() -> None:
            server.kill()
            server.restart()

        with proxy.ambush(path, holds, act) as met:
            yield
            wait_for(met.is_set, f"an answer to {path!r}")

    with killed(b"/worker/register", b'"session"'):
        start_worker(tmp_path / "far", server, server_url=proxy.url)
    with killed(b"/worker/poll", b'"assignment":{'):
        job_id = hand_in(server.url, witness)
    with killed(b"/log?", b'"offset"'):
        pass
    with killed(b"/finish", b"202"):
        witness.let_go()
    with killed(b"/artifacts/", b" 204 "):
        pass
    job = wait_for_status(server.url, job_id, "completed")
    assert (job["attempt"], job["exit_code"], job["artifacts"]) == (1, 0, 1)
    assert len(witness.starts()) == 1
    assert_whole(server.url, job_id, witness)
    assert final_states(server.url, job_id) == ["completed"]
    with killed(b"POST /api/jobs ", b" 201 "):
        again = hand_in(proxy.url, Witness(tmp_path / "again"), STEPS=1)
    wait_for_status(server.url, again, "completed")
    assert len(get_json(f"{server.url}/api/jobs")["jobs"]) == 2
    assert len(get_json(f"{server.url}/api/workers")["workers"]) == 1


def test_job_lives_on_where_its_server_was_away_for_half_an_hour(
    tmp_path: Path, server: RunningServer, worker: RunningWorker
) -> None:
    """What it has stored is half an hour older when it comes back."""
    witness = Witness(tmp_path / "witness")
    job_id = hand_in(server.url, witness)
    [process] = wait_for(witness.starts, "the job to start")
    server.kill()
    change_stored(server, "UPDATE attempts SET lease_until = lease_until - 1800")
    server.restart()
    time.sleep(2)  # a look at the leases, at least
    witness.let_go()
    wait_for(lambda: not psutil.pid_exists(process), "the job to end")
    assert wait_for_status(server.url, job_id, "completed")["attempt"] == 1
    assert witness.starts() == [process]
    assert_whole(server.url, job_id, witness)
    kinds = [
        event["kind"] for event in get_json(f"{server.url}/api/jobs/{job_id}/events")["events"]
    ]
    assert not {"unreachable", "lost", "returned"} & set(kinds)


def test_agent_in_a_copied_folder_supersedes_the_other(
    tmp_path: Path, server: RunningServer
) -> None:
    first = start_worker(tmp_path / "first", server)
    path = f"{server.url}/api/workers"
    wait_for(lambda: "Joined" in first.text(), "the worker to join")
    shutil.copytree(tmp_path / "first" / "data", tmp_path / "second" / "data")
    start_worker(tmp_path / "second", server)
    assert first.process.wait(PATIENCE) == 2
    assert "this one stops" in first.text()
    job_id = hand_in(server.url, Witness(tmp_path / "witness"), STEPS=10)
    wait_for_status(server.url, job_id, "completed")
    assert len(get_json(path)["workers"]) == 1


def test_two_workers_of_one_name_are_two(tmp_path: Path, server: RunningServer) -> None:
    for home in ("here", "there"):
        start_worker(tmp_path / home, server, name="room4")
    client = Client(server.url)
    wait_for(lambda: len(client.workers.list()) == 2, "both to join")
    witnesses = [Witness(tmp_path / f"witness-{number}") for number in range(2)]
    jobs = [hand_in(server.url, witness) for witness in witnesses]
    for witness in witnesses:
        wait_for(witness.starts, "both jobs to run at once")
    assert sorted(one.jobs for one in client.workers.list()) == [[job] for job in jobs]
    for witness, job_id in zip(witnesses, jobs, strict=True):
        witness.let_go()
        wait_for_status(server.url, job_id, "completed")
    client.close()
