"""The power of a machine's disk is cut: what was not forced to it is gone."""

from __future__ import annotations

import json
import os
import random
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.api import get, get_json, log_of, wait_for_status
from support.disks import PoweredDisk
from support.example_job import zip_of
from support.ledger import losses
from support.processes import RunningServer, RunningWorker, start_server, start_worker, wait_for
from support.requirements import require
from support.witness import Witness, assert_whole, final_states, hand_in

from dtrain.client.client import Client
from dtrain.protocol.errors import DTrainError

from .conftest import Running

CUTS = 3


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[PoweredDisk]:
    require("root")
    made = PoweredDisk(tmp_path / "disk")
    yield made
    made.switch_on()  # whatever still runs there
    made.remove()


@contextmanager
def _submissions(server: RunningServer, folder: Path) -> Iterator[dict[int, bytes]]:
    """Jobs that are handed in meanwhile: those that the server has acknowledged, with bundles."""
    acknowledged: dict[int, bytes] = {}
    over = threading.Event()

    def submit() -> None:
        with Client(server.url) as client:
            while not over.is_set():
                content = f"print({secrets.token_hex(20_000)!r})"
                bundle = zip_of(folder / "handed-in.zip", {"main.py": content})
                try:
                    acknowledged[client.submit(bundle).id] = bundle.read_bytes()
                except DTrainError:
                    return

    thread = threading.Thread(target=submit)
    thread.start()
    try:
        yield acknowledged
    finally:
        over.set()
        thread.join()


def test_power_cuts_of_the_server_lose_nothing_that_was_acknowledged(
    tmp_path: Path, disk: PoweredDisk
) -> None:
    server = start_server(disk.place / "server")
    start_worker(tmp_path / "worker", server)
    job = Running(server, tmp_path / "witness")
    handed_in: dict[int, bytes] = {}
    for _ in range(CUTS):
        with _submissions(server, tmp_path) as acknowledged:
            wait_for(lambda: len(acknowledged) > 2, "jobs to be accepted")
            time.sleep(random.uniform(0, 1))  # any moment will do
            disk.cut()
            server.kill()
        disk.switch_on()
        server.restart()
        assert acknowledged
        handed_in |= acknowledged
        job.wait_for_growth()
    for job_id, bundle in handed_in.items():
        status = get_json(f"{server.url}/api/jobs/{job_id}")["status"]
        whole = get(f"{server.url}/api/jobs/{job_id}/bundle") == bundle
        losses["acknowledged jobs lost"] += status != "pending" or not whole
        assert (status, whole) == ("pending", True)
    job.assert_nothing_lost()


def _cut_power_of(worker: RunningWorker, disk: PoweredDisk) -> None:
    """Cut the power of a worker's machine; its shims are of another boot then."""
    disk.cut()
    worker.kill()
    disk.switch_on()
    for shim in worker.home.glob("data/*/attempts/*/shim.json"):
        record = json.loads(shim.read_text())
        shim.write_text(json.dumps({**record, "boot_id": "that-of-before"}))


def test_power_cut_of_a_worker_loses_no_end_and_doubles_no_job(
    tmp_path: Path, disk: PoweredDisk, server: RunningServer
) -> None:
    worker = start_worker(disk.place / "worker", server, slots=2)
    disk.settle()  # with its config.json
    ending, running = Witness(tmp_path / "ending"), Witness(tmp_path / "running")
    over = hand_in(server.url, ending, EXIT=3)
    midst = hand_in(server.url, running)
    wait_for(lambda: ending.starts() and running.starts(), "both jobs to start")
    server.kill()
    ending.let_go()
    data = worker.home / "data" / "worker-1"
    wait_for(lambda: list(data.glob("attempts/*/exit.json")), "the end to be written down")
    _cut_power_of(worker, disk)
    server.restart()
    worker.restart()
    job = wait_for_status(server.url, over, "failed")
    assert (job["attempt"], job["exit_code"], len(ending.starts())) == (1, 3, 1)
    assert_whole(server.url, over, ending)
    steps = ending.printed().count(b"step ")
    assert get(f"{server.url}/api/jobs/{over}/artifacts/steps.txt") == b"%d" % steps
    wait_for(lambda: len(running.starts()) == 2, "the other to be started again")
    running.let_go()
    job = wait_for_status(server.url, midst, "completed")
    assert (job["attempt"], final_states(server.url, midst)) == (2, ["completed"])
    assert_whole(server.url, midst, running, 2)


def _force_names(disk: PoweredDisk) -> None:
    """Have the disk keep the names of its files, as another program's fsync does, not what is new
    in them."""
    with (disk.place / "other").open("w") as file:
        os.fsync(file.fileno())


SAVES = """\
import os, pathlib, time
folder = pathlib.Path(os.environ["DTRAIN_CHECKPOINT_DIR"])
state, witness = folder / "state", pathlib.Path(os.environ["WITNESS"])
if os.environ["DTRAIN_ATTEMPT"] != "1":
    print("it goes on with", state.read_text())
    raise SystemExit
for number in range(2):
    (folder / "new").write_text(f"state {number}")
    (folder / "new").rename(state)
    (witness / f"saved-{number}").touch()
    while number or not (witness / "gate").exists():
        time.sleep(0.02)
"""


def test_checkpoint_that_a_power_cut_has_torn_is_not_gone_on_with(
    tmp_path: Path, disk: PoweredDisk, server: RunningServer
) -> None:
    worker = start_worker(disk.place / "worker", server)
    disk.settle()  # with its config.json
    witness = Witness(tmp_path / "witness")
    bundle = zip_of(tmp_path / "saves.zip", {"main.py": SAVES})
    with Client(server.url) as client:
        job_id = client.submit(bundle, env=witness.variables()).id
    checkpoints = f"{server.url}/api/jobs/{job_id}/checkpoints"
    wait_for(lambda: get_json(checkpoints)["checkpoints"], "the first state to be kept")
    server.kill()
    witness.let_go()
    wait_for((witness.folder / "saved-1").exists, "the second state")
    _force_names(disk)
    _cut_power_of(worker, disk)
    [state] = worker.home.glob("data/*/attempts/*/checkpoints/state")
    assert state.read_bytes() == b"", "the cut has to tear it"
    server.restart()
    worker.restart()
    wait_for_status(server.url, job_id, "completed")
    assert log_of(server.url, job_id).endswith(b"\nit goes on with state 0\n")
