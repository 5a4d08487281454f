"""A real training whose machine is lost: it goes on elsewhere, as if nothing had happened."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.api import get_json, log_of, wait_for_status
from support.checks import ROOT
from support.command import dtrain
from support.processes import RunningServer, RunningWorker, start_worker, wait_for

from dtrain.client.client import Client

EXAMPLE = ROOT / "examples" / "digits"
DOWNLOAD = 400.0
"""Seconds for the example's packages to arrive on a slow line and a busy machine."""

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture
def python(tmp_path: Path) -> str:
    """An interpreter that has what the example needs."""
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    needs = ["-r", str(EXAMPLE / "requirements.txt")]
    pip = [str(environment / "bin" / "pip"), "install", *needs]
    done = subprocess.run(pip, timeout=DOWNLOAD, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return str(environment / "bin" / "python")


def switch_off(machine: RunningWorker) -> None:
    """End all of a worker's machine at once: the agent, the shim and the job."""
    home = str(machine.home)
    processes = [psutil.Process(machine.pid)]
    for process in psutil.process_iter():
        try:
            if home in "\0".join(process.cmdline()) or process.cwd().startswith(home):
                processes.append(process)
        except psutil.Error:
            continue
    assert len(processes) > 2, "the shim and the job run"
    for process in processes:
        process.kill()
    machine.kill()


def epochs(server: RunningServer, job_id: int, attempt: int) -> dict[int, dict[str, Any]]:
    """The records of an attempt, by epoch."""
    found: dict[int, dict[str, Any]] = {}
    page: dict[str, Any] = {"next": 0, "more": True}
    while page["more"]:
        place = f"attempt={attempt}&after={page['next']}"
        page = get_json(f"{server.url}/api/jobs/{job_id}/metrics?{place}")
        found |= {record["values"]["epoch"]: record["values"] for record in page["records"]}
    return found


def test_training_goes_on_on_another_machine_when_its_own_is_lost(
    python: str, tmp_path: Path, server: RunningServer
) -> None:
    def machine(number: int) -> RunningWorker:
        return start_worker(
            tmp_path / f"machine-{number}",
            server,
            name=f"machine-{number}",
            executor="fake",
            python=python,
            checkpoint_interval=3600,
        )

    lost = machine(1)
    client = Client(server.url)
    job = client.submit(EXAMPLE, args=["--epochs", "100", "--layers", "64"])
    wait_for(lambda: client.jobs.get(job.id).checkpoint, "the first checkpoint")
    before = len(epochs(server, job.id, 1))
    wait_for(lambda: len(epochs(server, job.id, 1)) > before + 5, "some more epochs")
    shown = dtrain("show", job.id, url=server.url, folder=tmp_path).stdout
    assert re.search(r"checkpoint +\S+ \S+ \(.*\) of attempt 1, 1 file, ", shown)

    switch_off(lost)
    machine(2)
    (worker,) = [one for one in client.workers.list() if one.name == "machine-1"]
    client.workers.forget(worker.id, force=True)

    assert wait_for_status(server.url, job.id, "completed")["attempt"] == 2
    log = log_of(server.url, job.id).decode()
    resumed = int(re.search(r"^Resumed from epoch (\d+)$", log, re.MULTILINE)[1])
    first, second = epochs(server, job.id, 1), epochs(server, job.id, 2)
    assert min(second) == resumed + 1
    assert max(second) == 100
    both = first.keys() & second.keys()
    assert len(both) >= 5
    assert {epoch: first[epoch] for epoch in both} == {epoch: second[epoch] for epoch in both}
    assert second[100]["accuracy"] > 0.9
