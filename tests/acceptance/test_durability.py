"""Agent, server and both are killed in the middle of a job: neither the job nor a byte is lost."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.api import log_of, records_of, wait_for_status
from support.example_job import zip_of
from support.processes import RunningServer, RunningWorker, wait_for

from dtrain.client.client import Client

JOB = r'''
"""Prints awkward bytes until it is let go, and writes the same bytes to a file of its own."""
import json
import os
import pathlib
import time

folder = pathlib.Path(os.environ["WITNESS"])
copy = (folder / "copy").open("ab", buffering=0)
with (folder / "starts").open("a") as starts:
    starts.write("started\n")


def say(data):
    copy.write(data)
    while data:
        data = data[os.write(1, data):]


step = 0
while step < 10 or not (folder / "gate").exists():
    step += 1
    say(f"step {step}: grüße ✓\n".encode())
    say(b"bytes that are no text: \x00\xff\xfe\x1b[31m\r\n")
    say(b"10%\r50%\r100%\r\n")
    record = json.dumps({"step": step, "loss": 1 / step, "share": float("nan")})
    line = f"PROGRESS: {record}\n".encode()
    say(line[:17])
    time.sleep(0.02)
    say(line[17:])
    if step % 10 == 0:
        say(b"x" * 150_000 + b"\n")
say(b"the last line has no end")
(pathlib.Path(os.environ["DTRAIN_OUTPUT_DIR"]) / "steps.txt").write_text(str(step))
'''


class Witness:
    """A running job, and the folder in which it writes down what it does."""

    def __init__(self, folder: Path, server: RunningServer) -> None:
        self.folder = folder
        self.server = server
        self.secret = secrets.token_hex(16)
        folder.mkdir()
        bundle = zip_of(folder / "job.zip", {"main.py": JOB})
        variables = {"WITNESS": str(folder), "SECRET": self.secret}
        job = Client(server.url).submit(bundle, name="witness", env=variables)
        self.id = job.id
        wait_for_status(server.url, self.id, "running")
        self.wait_for_growth()

    def copy(self) -> bytes:
        """What the job has printed so far, by its own account."""
        path = self.folder / "copy"
        return path.read_bytes() if path.exists() else b""

    def process(self) -> psutil.Process:
        """The process that runs the user's code."""
        found = [process for process in psutil.process_iter() if self._is_job(process)]
        assert len(found) == 1, found
        return found[0]

    def wait_for_growth(self) -> None:
        """Wait until the job has printed some more."""
        enough = len(self.copy()) + 400_000
        wait_for(lambda: len(self.copy()) >= enough, "the job to go on printing")

    def let_go(self) -> None:
        """Have the job end."""
        (self.folder / "gate").touch()

    def starts(self) -> int:
        """How often the user's code was started."""
        return len((self.folder / "starts").read_text().splitlines())

    def assert_nothing_lost(self) -> None:
        """The job ends in its first attempt, and the server has all that it printed and left."""
        job = wait_for_status(self.server.url, self.id, "completed")
        assert (job["attempt"], self.starts(), job["exit_code"]) == (1, 1, 0)
        printed = self.copy()
        assert log_of(self.server.url, self.id) == printed
        assert job["log_bytes"] == len(printed)
        assert records_of(self.server.url, self.id) == _records(printed)
        steps = self.server.read(f"/api/jobs/{self.id}/artifacts/steps.txt")
        assert int(steps) == len(_records(printed))

    def _is_job(self, process: psutil.Process) -> bool:
        try:
            told = process.environ().get("SECRET")
            return told == self.secret and process.cmdline()[-1].endswith("main.py")
        except psutil.Error:
            return False


def _records(printed: bytes) -> list[dict[str, Any]]:
    lines = [line for line in printed.split(b"\n") if line.startswith(b"PROGRESS: ")]
    records = [json.loads(line.removeprefix(b"PROGRESS: ")) for line in lines]
    return [{**record, "share": "NaN"} for record in records]


@pytest.fixture
def witness(tmp_path: Path, server: RunningServer, worker: RunningWorker) -> Witness:
    """A job in its midst, on `worker`."""
    return Witness(tmp_path / "witness", server)


def _victims(
    killed: str, server: RunningServer, worker: RunningWorker
) -> list[RunningServer | RunningWorker]:
    victims: dict[str, list[RunningServer | RunningWorker]] = {
        "agent": [worker],
        "server": [server],
        "both": [server, worker],
    }
    return victims[killed]


@pytest.mark.parametrize("killed", ["agent", "server", "both"])
def test_job_lives_on_when_killed_in_its_midst(
    killed: str, witness: Witness, server: RunningServer, worker: RunningWorker
) -> None:
    victims = _victims(killed, server, worker)
    process = witness.process()

    for victim in victims:
        victim.kill()
    witness.wait_for_growth()
    for victim in victims:
        victim.restart()
    witness.wait_for_growth()

    assert witness.process() == process  # equal by pid and start time
    witness.let_go()
    witness.assert_nothing_lost()


@pytest.mark.parametrize("killed", ["agent", "server", "both"])
def test_end_of_a_job_is_told_after_a_kill(
    killed: str, witness: Witness, server: RunningServer, worker: RunningWorker
) -> None:
    victims = _victims(killed, server, worker)
    process = witness.process()

    for victim in victims:
        victim.kill()
    witness.let_go()
    wait_for(lambda: not process.is_running(), "the job to end by itself")
    for victim in victims:
        victim.restart()

    witness.assert_nothing_lost()


def test_agent_killed_again_and_again_loses_nothing(
    witness: Witness, worker: RunningWorker
) -> None:
    for _ in range(5):
        worker.kill()
        worker.restart()
        witness.wait_for_growth()
    witness.let_go()
    witness.assert_nothing_lost()


def test_server_killed_again_and_again_loses_nothing(
    witness: Witness, server: RunningServer
) -> None:
    for _ in range(5):
        server.kill()
        server.restart()
        witness.wait_for_growth()
    witness.let_go()
    witness.assert_nothing_lost()


def test_orderly_restart_of_the_server_is_not_felt_by_the_job(
    witness: Witness, server: RunningServer
) -> None:
    process = witness.process()
    assert server.stop() == 0
    server.restart()
    witness.wait_for_growth()
    assert witness.process() == process
    witness.let_go()
    witness.assert_nothing_lost()
