"""Jobs in environments of their own, on a machine that has packages in a folder of links alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from dtrain.worker.executors.base import Host, Plan
from dtrain.worker.executors.venv import VenvExecutor
from dtrain.worker.launcher import Running, launch
from dtrain.worker.spool import AttemptFolder, ExitRecord, WorkerFolder

from .attempts import ended, new_attempt

SHOW = "import parrot; print(parrot.__version__, parrot.__file__)"
"""A job that needs the package `parrot`."""


def make_host(environments: Path, home: Path, **variables: str) -> Host:
    """A machine with some variables set, on which pip looks at no index."""
    given = {"PATH": os.environ["PATH"], "HOME": str(home), "PIP_NO_INDEX": "1", **variables}
    return Host(
        worker_name="worker-1",
        environments=environments,
        variables={name: value for name, value in given.items() if value},
        python=Path(sys.executable),
        python_downloads="UV_PYTHON_DOWNLOADS_JSON_URL" in given,
    )


class Bench:
    """Runs jobs.

    Args:
        worker: its folder.
        environments: may be others' as well.
        home: of the user; the packages are in `links` in it.
        variables: of the machine; an empty one is left out.
    """

    def __init__(
        self, worker: WorkerFolder, environments: Path, home: Path, **variables: str
    ) -> None:
        self.worker = worker
        self.links = home / "links"
        self.environments = environments
        self.host = make_host(
            environments, home, **{"PIP_FIND_LINKS": str(self.links), **variables}
        )
        self.executor = VenvExecutor(self.host)
        self.enclosed: Callable[[AttemptFolder, Plan], Plan] = lambda _, plan: plan
        """Isolates an attempt; does nothing, unless it is set."""

    def start(self, code: str, requirements: str | bytes | None, **spec: object) -> Running:
        """Start a script, with its `requirements.txt` if it has one."""
        files = {} if requirements is None else {"requirements.txt": requirements}
        return self.start_bundle({"main.py": code, **files}, **spec)

    def start_bundle(self, files: dict[str, str | bytes], **spec: object) -> Running:
        """Start a job, with the files of its bundle."""
        folder = new_attempt(self.worker, files, **spec)
        return launch(folder, self.enclosed(folder, self.executor.prepare(folder)))

    def run(
        self, code: str, requirements: str | bytes | None, **spec: object
    ) -> tuple[AttemptFolder, ExitRecord]:
        """Run a script to its end."""
        running = self.start(code, requirements, **spec)
        return running.folder, ended(running)

    def run_bundle(
        self, files: dict[str, str | bytes], **spec: object
    ) -> tuple[AttemptFolder, ExitRecord]:
        """Run a job to its end."""
        running = self.start_bundle(files, **spec)
        return running.folder, ended(running)

    def shared(self) -> set[Path]:
        """The environments that were built for requirements."""
        return {path for path in self.environments.glob("packages-*") if path.is_dir()}
