"""Attempts on this machine, without server or agent: folders, plans, shims."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from io import StringIO
from pathlib import Path

from dtrain.protocol.messages import BundleInfo
from dtrain.protocol.spec import JobSpec
from dtrain.protocol.worker_messages import Assignment
from dtrain.worker.console import Console
from dtrain.worker.executors.base import Plan, Step
from dtrain.worker.launcher import Running, adopt, kill_rest, launch
from dtrain.worker.records import ExitRecord
from dtrain.worker.refill import Refill
from dtrain.worker.spool import AttemptFolder, WorkerFolder

from .processes import PATIENCE, wait_for

GRACE = 10 * PATIENCE
"""Seconds that a job is given to end: so many that one killed after them fails its test."""

BUNDLE = BundleInfo(sha256="0" * 64, size=1, files=1)


def assignment(job_id: int = 1, attempt: int = 1, **spec: object) -> Assignment:
    """A job as a server would assign it."""
    described = JobSpec(**{"name": "a job", **spec})  # type: ignore[arg-type]  # any field of it
    return Assignment(job_id=job_id, attempt=attempt, spec=described, bundle=BUNDLE, submitter=None)


def new_attempt(
    worker: WorkerFolder, files: Mapping[str, str | bytes] | None = None, **spec: object
) -> AttemptFolder:
    """The folder of a new attempt, with files as its unpacked bundle."""
    job_id = len(worker.attempts()) + 1
    folder = worker.create_attempt(assignment(job_id, 1, **spec), worker.secrets.next())
    for name, content in (files or {}).items():
        path = folder.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def script(folder: AttemptFolder, code: str, **plan: object) -> Plan:
    """A plan of one step that runs Python code without an environment."""
    main = step(folder, "main", code)
    return Plan(**{"steps": [main], "grace": GRACE, **plan})  # type: ignore[arg-type]  # any field of it


def step(folder: AttemptFolder, name: str, code: str, **fields: object) -> Step:
    """A step that runs Python code without an environment."""
    env = {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"}
    given = {"argv": [sys.executable, "-c", code], "env": env, "cwd": str(folder.work), **fields}
    return Step(name=name, **given)  # type: ignore[arg-type]  # any field of it


def run(folder: AttemptFolder, plan: Plan) -> ExitRecord:
    """Run a plan to its end, which must come in time; how it ended."""
    return ended(launch(folder, plan))


def ended(running: Running) -> ExitRecord:
    """How an attempt ended, whose end must come in time."""
    assert running.wait(PATIENCE), f"The attempt did not end within {PATIENCE:g} s."
    record = running.folder.exit
    assert record is not None, (running.folder.path / "shim.log").read_text()
    return record


def wait_for_log(folder: AttemptFolder, text: bytes) -> bytes:
    """Wait until a text is in an attempt's log; all of the log."""

    def found() -> bytes | None:
        content = folder.log.read_bytes() if folder.log.exists() else b""
        return content if text in content else None

    return wait_for(found, f"{text!r} in the log")


def end_attempts(worker: WorkerFolder) -> None:
    """Leave nothing of any attempt behind, however a test ended."""
    for folder in worker.attempts():
        running = adopt(folder)
        if running is not None:
            running.wait(0)
        kill_rest(folder)
        if running is not None:
            running.wait(PATIENCE)


def is_running(pid: int) -> bool:
    """Whether a process of this number runs; one that only waits to be reaped does not."""
    with suppress(OSError):
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        return state not in "ZX"
    return False


def pids_in(content: bytes, word: str) -> list[int]:
    """The numbers that follow a word in the lines of a log."""
    return list(_numbers(content, f"{word} ".encode()))


def _numbers(content: bytes, start: bytes) -> Iterator[int]:
    for line in content.splitlines():
        if line.startswith(start):
            yield int(line.removeprefix(start))


def not_refilled(worker: WorkerFolder) -> Refill:
    """Asks for no further job with an end."""
    return Refill(worker, lambda: None, lambda *_: None, Console(StringIO()))
