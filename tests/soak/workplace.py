"""Servers, workers, and a proxy on the way of each worker."""

from __future__ import annotations

import threading
import time
import urllib.request
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

from support.api import FINAL
from support.postgres import Cluster, running_cluster
from support.processes import (
    RunningServer,
    RunningWorker,
    start_server,
    start_worker,
)
from support.proxy import Proxy, Weather, proxy_to
from support.requirements import PARTS

from .jobs import Handed


@dataclass
class Workplace:
    """What is soaked."""

    folder: Path
    servers: list[RunningServer]
    proxies: list[Proxy]
    workers: list[RunningWorker]
    cluster: Cluster | None = None
    """The PostgreSQL, where there are several servers."""
    cancels: list[threading.Thread] = field(default_factory=list)
    groups: set[str] = field(default_factory=set)
    """The control groups in which jobs were seen."""

    @property
    def url(self) -> str:
        """A server, without a proxy before it."""
        return self.servers[0].url

    def job(self, job_id: int) -> dict[str, Any]:
        """A job, once a server says how it is."""
        found: dict[str, Any] = patiently(lambda: self.servers[0].json(f"/api/jobs/{job_id}"))
        return found

    def waiting(self) -> int:
        """How many jobs wait for a worker."""
        self._note_groups()
        path = "/api/jobs?status=pending&limit=100"
        return len(patiently(lambda: self.servers[0].json(path))["jobs"])

    def _note_groups(self) -> None:
        """Take down the control groups, made by workers, of the jobs that run now."""
        mark = f"WITNESS={self.folder}/".encode()
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (process / "environ").read_bytes():
                    lines = (process / "cgroup").read_text().splitlines()
                    self.groups |= {path for path in (line.split(":", 2)[2] for line in lines)
                                    if "/dtrain" in path}  # fmt: skip

    def groups_left(self) -> list[str]:
        """Those of the control groups that are still there."""
        root = Path("/sys/fs/cgroup")
        return [
            path
            for path in sorted(self.groups)
            if (root / path[1:]).exists() or any(root.glob(f"*{path}"))
        ]

    def cancel_in_its_midst(self, job_id: int, seconds: float) -> None:
        """Cancel a job so long after it was taken, however often the server is away."""
        thread = threading.Thread(target=self._cancel, args=[job_id, seconds])
        thread.start()
        self.cancels.append(thread)

    def _cancel(self, job_id: int, seconds: float) -> None:
        while self.job(job_id)["status"] == "pending":
            time.sleep(0.2)
        time.sleep(seconds)
        request = urllib.request.Request(f"{self.url}/api/jobs/{job_id}/cancel", method="POST")
        patiently(lambda: urllib.request.urlopen(request, timeout=30).close())

    def mend(self) -> None:
        """Have everything run, and nothing on the way."""
        for proxy in self.proxies:
            proxy.weather = Weather()
            proxy.cut()
        programs: list[RunningServer | RunningWorker] = [*self.servers, *self.workers]
        for program in programs:
            if not program.alive:
                program.restart()
        for cancel in self.cancels:
            cancel.join()

    def wait_until_all_ended(self, handed: list[Handed], seconds: float) -> None:
        """Wait for the jobs; those that have not ended in time are told in the account."""
        deadline = time.monotonic() + seconds
        waiting = {one.job_id for one in handed}
        while waiting and time.monotonic() < deadline:
            waiting -= {one for one in waiting if self.job(one)["status"] in FINAL}
            time.sleep(0.3)

    def wait_until_at_rest(self, seconds: float) -> None:
        """Wait until the workers have reported everything and cleaned up."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and any(map(attempt_folders, self.workers)):
            time.sleep(0.3)


def attempt_folders(worker: RunningWorker) -> list[Path]:
    """The attempts that a worker still keeps."""
    return list((worker.home / "data").glob("*/attempts/[!.]*"))


def patiently(ask: Any, seconds: float = 60.0) -> Any:
    """Ask a server that may be down just now."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except (OSError, HTTPException):  # refused, or killed in the midst of its answer
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def make_workplace(
    stack: ExitStack, folder: Path, servers: int, workers: int, slots: int
) -> Workplace:
    """Start everything. Several servers share one PostgreSQL."""
    settings: dict[str, object] = {}
    cluster = None
    if servers > 1:
        programs = PARTS["postgresql"].find()
        if programs is None:
            raise SystemExit("Two servers need PostgreSQL: install the package postgresql.")
        cluster = stack.enter_context(running_cluster(programs))
        settings["DATABASE_URL"] = stack.enter_context(cluster.database())
        settings |= {
            "UPLOAD_FOLDER": folder / "shared" / "uploads",
            "JOB_BUNDLES_FOLDER": folder / "shared" / "bundles",
            "SECRET_KEY": "soaked",
            "WORKER_SHARED_TOKEN": "the-token-of-a-soak",
        }
    serving = [start_server(folder / f"server-{number}", **settings) for number in range(servers)]
    proxies, working = [], []
    for number in range(workers):
        server = serving[number % servers]
        proxy = stack.enter_context(proxy_to(server.port))
        proxies.append(proxy)
        home = folder / f"worker-{number}"
        name = f"worker-{number}"
        working.append(start_worker(home, server, name=name, slots=slots, server_url=proxy.url))
    return Workplace(folder, serving, proxies, working, cluster)
