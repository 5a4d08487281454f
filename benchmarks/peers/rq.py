"""RQ with Redis: functions in forks of long-lived workers."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path

from benchmarks.place import Place
from benchmarks.programs import Program, clean_environment, free_port
from benchmarks.throughput import AT_ONCE

from .figures import PYTHON, Counts, Figures, driven, has_package

NAME = "RQ"
_DURABLE = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]


def is_here() -> bool:
    """Whether it is installed."""
    return has_package("rq") and shutil.which("redis-server") is not None


def figures(place: Place, counts: Counts) -> list[Figures]:
    """With a Redis that waits for the disk, and a worker for each job at a time."""
    folder = place.new_folder("rq")
    port = free_port()
    url = f"redis://127.0.0.1:{port}"
    redis = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", *_DURABLE]
    drivers = str(__file__).replace("rq.py", "drivers")
    environment = clean_environment() | {"PYTHONPATH": drivers}
    worker: list[str | Path] = [PYTHON.with_name("rq"), "worker", "--url", url, "--quiet", "jobs"]
    with ExitStack() as stack:
        stack.enter_context(Program(redis, folder, title="redis"))
        for number in range(AT_ONCE):
            stack.enter_context(Program(worker, folder, environment, title=f"worker-{number}"))
        return driven("rq_driver", folder, counts, url=url)
