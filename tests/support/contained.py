"""Jobs in containers, without server or agent."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec

from dtrain.worker.docker_settings import DockerSettings
from dtrain.worker.engine import Engine
from dtrain.worker.executors.base import Host
from dtrain.worker.executors.docker import DockerExecutor
from dtrain.worker.image_keeper import ImageKeeper
from dtrain.worker.launcher import Running, launch
from dtrain.worker.records import ExitRecord
from dtrain.worker.spool import AttemptFolder, WorkerFolder

from .attempts import GRACE, end_attempts, ended, new_attempt
from .containers import left_containers

OWNERS = {"AWS_SECRET_ACCESS_KEY": "for-the-owner-alone", "SOURCE_DATE_EPOCH": "3"}
"""Variables of the machine that are no job's to know."""
COUNTS = (
    "import time\n"
    "for n in range(%d):\n"
    "    print(f'line {n}\\n', end='', flush=True)\n"
    "    time.sleep(0.02)\n"
)
"""A job that writes so many lines, each at once, so that nothing is said in the middle of one."""


class Bench:
    """Runs jobs in containers of one engine, which are known by a key."""

    def __init__(self, worker: WorkerFolder, engine: Engine, key: str) -> None:
        self.worker = worker
        self.engine = engine
        self.key = key
        self.links = worker.path.parent / "links"
        self.links.mkdir()
        self.executor = self.make()

    def make(self, path: str = os.environ["PATH"], **settings: object) -> DockerExecutor:
        """An executor on a machine that has packages in a folder alone."""
        variables = {
            "PATH": path,
            "HOME": str(self.worker.path.parent),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.links),
            **OWNERS,
        }
        host = Host(
            worker_name="worker-1",
            environments=self.worker.environments,
            variables=variables,
            python=Path(sys.executable),
            grace=GRACE,
        )
        usual = DockerSettings(image="python:3.9-slim", processes=1000, user=1000)
        described = msgspec.structs.replace(usual, **settings)
        executor = DockerExecutor(host, described, self.worker.path, self.key, self.engine)
        executor.start()
        return executor

    def start(self, files: str | dict[str, str], **spec: object) -> Running:
        """Start a script, or a job with the files of its bundle."""
        bundle = {"main.py": files} if isinstance(files, str) else files
        folder = new_attempt(self.worker, bundle, **spec)
        return launch(folder, self.executor.prepare(folder))

    def run(
        self, files: str | dict[str, str], **spec: object
    ) -> tuple[AttemptFolder, ExitRecord, str]:
        """Run it to its end; how it ended, and its log."""
        running = self.start(files, **spec)
        record = ended(running)
        return running.folder, record, running.folder.log.read_text(errors="replace")

    def close(self) -> None:
        """End and remove all of it; nothing of it may be left."""
        end_attempts(self.worker)
        for folder in self.worker.attempts():
            self.executor.clean(folder)
        assert left_containers(self.engine, self.key) == []
        ImageKeeper(self.engine, self.executor.labels, self.worker.path, None, 0).look()
