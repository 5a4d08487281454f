"""The place of a run: real servers and workers of DTrain, and bundles for them."""

from __future__ import annotations

import itertools
import json
import secrets
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import dtrain
from dtrain.protocol.messages import Job
from dtrain.protocol.states import Status

from .programs import Program, clean_environment, free_port, wait_for

DTRAIN = [sys.executable, "-m", "dtrain"]
STAMP = "import time\nprint(time.monotonic_ns(), flush=True)\n"
"""A script whose first line tells when it ran; the clock is the same in all processes."""
Form = Literal["trial", "short", "long"]
"""`trial`: a few samples of everything, to see that it works; `short`: what five minutes allow;
`long`: all in full."""
_PREPARATION = 100
"""Lines at most that stand in a log before the job's own, about its environment."""
PATIENCE = 600.0
"""Seconds after which what was waited for will not come any more."""


class Server(Program):
    """A server on a free port, with its data in a folder."""

    def __init__(self, folder: Path, settings: Mapping[str, object]) -> None:
        port = free_port()
        self.worker_token = secrets.token_urlsafe(24)
        self.url = f"http://127.0.0.1:{port}"
        environment = clean_environment() | {
            "DTRAIN_PORT": str(port),
            "WORKER_SHARED_TOKEN": self.worker_token,
            **{name: str(value) for name, value in settings.items()},
        }
        super().__init__([*DTRAIN, "server", folder], folder, environment, title="server")
        try:
            wait_for(self._answers, PATIENCE, "the server to answer", pause=0.1)
        except BaseException:
            self.stop()
            raise

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=10):
                return True
        except OSError:
            return False


class Place:
    """Where a run is at work.

    Args:
        folder: on the disk that counts; each program gets a folder of its own in it.
        form: how much is measured.
    """

    def __init__(self, folder: Path, form: Form) -> None:
        self.folder = folder
        self.form = form
        self._numbers = itertools.count(1)

    def new_folder(self, name: str) -> Path:
        """An empty folder."""
        folder = self.folder / f"{next(self._numbers)}-{name}"
        folder.mkdir(parents=True)
        return folder

    def pick(self, short: int, long: int, *, trial: int) -> int:
        """How many or how much, by the form of the run."""
        return {"trial": trial, "short": short, "long": long}[self.form]

    def sizes(self, *sizes: int, trial: int, short: int | None = None) -> tuple[int, ...]:
        """The sizes that are measured: all, up to `short` or `trial` in a run of that form."""
        most = {"trial": trial, "short": short, "long": None}[self.form]
        return tuple(size for size in sizes if most is None or size <= most)

    def server(self, **settings: object) -> Server:
        """Start a server; settings go into its environment by their names."""
        return Server(self.new_folder("server"), settings)

    @contextmanager
    def worker(self, server: Server, *, slots: int = 1) -> Iterator[Program]:
        """Start a worker, and wait until it has joined; isolation is the best that works here."""
        folder = self.new_folder("worker")
        configuration = {
            "server_url": server.url,
            "token": server.worker_token,
            "worker_name": folder.name,
            "max_concurrent_jobs": slots,
            "auto_accept_jobs": True,
            "isolation": "auto",
        }
        (folder / "config.json").write_text(json.dumps(configuration))
        with Program([*DTRAIN, "worker", folder], folder, title="worker") as worker:
            with dtrain.Client(server.url) as client:
                wait_for(
                    lambda: any(one.state == "online" for one in client.workers.list()),
                    PATIENCE,
                    "the worker to join",
                    pause=0.5,
                )
            yield worker

    def bundle(self, files: Mapping[str, str]) -> Path:
        """A folder to hand in."""
        folder = self.new_folder("bundle")
        for name, text in files.items():
            (folder / name).write_text(text)
        return folder


def completed(client: dtrain.Client, job_id: int) -> Job:
    """The job when it has completed.

    Raises:
        RuntimeError: it has ended otherwise.
    """
    for update in client.jobs.follow(job_id):
        if isinstance(update, Job) and update.status.final:
            if update.status is not Status.COMPLETED:
                raise RuntimeError(f"Job {job_id} has {update.status}: {update.message}")
            return update
    raise RuntimeError(f"The stream of job {job_id} ended before the job.")


def first_number(client: dtrain.Client, job_id: int) -> int:
    """The number in the first line of a job's log that is one: what is above it was not the job's.

    Raises:
        RuntimeError: there is none.
    """
    for line in client.jobs.logs(job_id, limit=_PREPARATION).lines:
        if line.text.isdecimal():
            return int(line.text)
    raise RuntimeError(f"The log of job {job_id} does not begin with a number.")
