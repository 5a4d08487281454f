"""Every reason that a job can have, reached by a job that has it, on real programs.

`REASONS` is the table; a reason that is added has to be added there.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.api import get_json, wait_for_status
from support.disks import small_disk_at
from support.example_job import zip_of
from support.processes import (
    MARK,
    RunningServer,
    RunningWorker,
    start_server,
    start_worker,
    wait_for,
)
from support.requirements import require
from support.stored import change_stored

from dtrain.client.client import Client
from dtrain.protocol.states import Reason

WAITS = "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(3600)\n"


@dataclass
class Place:
    """A server and its workers."""

    folder: Path
    small_disk: Path
    server: RunningServer
    client: Client
    workers: dict[str, RunningWorker] = field(default_factory=dict)

    def worker(self, name: str = "worker-1", home: Path | None = None, **settings: Any) -> None:
        """Have this worker take jobs, and no other one."""
        if name not in self.workers:
            self.workers[name] = start_worker(
                home or self.folder / name,
                self.server,
                name=name,
                env={MARK: self.server.mark},  # it is for the tests that follow as well
                **settings,
            )
        path = f"{self.server.url}/api/workers"
        found = wait_for(
            lambda: {one["name"]: one["id"] for one in get_json(path)["workers"]}.get(name),
            "the worker to join",
        )
        self.only(str(found))

    def only(self, worker_id: str | None) -> None:
        """Have one worker take jobs, or none."""
        for one in self.client.workers.list():
            act = self.client.workers.resume if one.id == worker_id else self.client.workers.drain
            act(one.id)

    def submit(self, main: str = WAITS, files: dict[str, str] | None = None, **spec: Any) -> int:
        """Hand in a job with this script."""
        packed = zip_of(self.folder / "bundle.zip", {"main.py": main, **(files or {})})
        return self.client.submit(packed, name="a job", **spec).id

    def process(self, job_id: int, attempt: int) -> psutil.Process:
        """The process of an attempt whose script says where it is."""
        path = f"{self.server.url}/api/jobs/{job_id}/logs?attempt={attempt}"

        def look() -> str | None:
            if get_json(f"{self.server.url}/api/jobs/{job_id}")["attempt"] < attempt:
                return None
            lines = get_json(path)["lines"]
            return lines[0]["text"] if lines else None

        return psutil.Process(int(wait_for(look, "the job to say where it is")))

    def lose(self, job_id: int, attempt: int) -> None:
        """Kill the supervisor of an attempt, and let the delay before the next one pass."""
        shim = self.process(job_id, attempt).parent()
        assert shim is not None
        shim.kill()
        self.skip_delay(job_id, attempt)

    def skip_delay(self, job_id: int, attempt: int) -> None:
        """Wait for the end of an attempt, then let what comes before the next one pass."""

        def has_ended() -> bool:
            job = get_json(f"{self.server.url}/api/jobs/{job_id}")
            return job["attempt"] == attempt and job["phase"] in {"retry_wait", None}

        wait_for(has_ended, f"the end of attempt {attempt}")
        change_stored(self.server, "UPDATE jobs SET not_before = 0 WHERE id = ?", job_id)


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    require("root")
    with small_disk_at(tmp_path_factory.mktemp("disks") / "small", "32m") as made:
        yield made


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, small_disk: Path) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("reasons")
    server = start_server(folder / "server")
    client = Client(server.url)
    made = Place(folder, small_disk, server, client)
    yield made
    client.close()
    for running in (*made.workers.values(), server):
        running.stop()


# How a job comes by each of them.


def exits(place: Place) -> int:
    return place.submit("def train():\n    raise ValueError('no such data')\ntrain()\n")


def crashes(place: Place) -> int:
    return place.submit("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")


def runs_out_of_memory(place: Place) -> int:
    """It stays there, for a worker that can only look now and then at what its jobs use."""
    takes = "import time\nheld = b'x' * 300 * 1024**2\ntime.sleep(3600)\n"
    return place.submit(takes, memory_gb=0.1)


def takes_too_long(place: Place) -> int:
    return place.submit(time_limit=0.5)


def asks_for_what_is_not_there(place: Place) -> int:
    return place.submit(files={"requirements.txt": "./missing-1.0-py3-none-any.whl\n"})


def asks_for_an_image(place: Place) -> int:
    """No executor has images yet: the fake one fails as one that has."""
    place.worker("fake", executor="fake")
    return place.submit(env={"FAKE_PREPARE": "image_failed"})


def loses_its_bundle(place: Place) -> int:
    place.only(None)
    job_id = place.submit("print('a bundle of its own')\n")
    sha256 = get_json(f"{place.server.url}/api/jobs/{job_id}")["bundle"]["sha256"]
    next(place.server.home.rglob(sha256)).unlink()
    place.worker()
    return job_id


def has_no_entry(place: Place) -> int:
    """A server refuses such a job; an older one, say, has not."""
    place.only(None)
    job_id = place.submit()
    change_stored(
        place.server,
        "UPDATE jobs SET spec = json_set(spec, '$.main_entry', 'gone.py') WHERE id = ?",
        job_id,
    )
    place.worker()
    return job_id


def fills_the_disk(place: Place) -> int:
    place.worker("small", home=place.small_disk / "worker")
    return place.submit(
        "import os\n"
        "try:\n"
        "    with open('large', 'wb') as file:\n"
        "        file.write(b'x' * 2**26)\n"
        "finally:\n"
        "    os.remove('large')  # so that the log has room for the traceback\n"
    )


def cannot_be_started(place: Place) -> int:
    """The interpreter of the worker goes, and stays away."""
    python = place.folder / "python"
    python.symlink_to(sys.executable)
    place.worker("without", executor="fake", python=str(python))
    python.unlink()
    job_id = place.submit()
    for attempt in range(1, 5):
        place.skip_delay(job_id, attempt)
    return job_id


def loses_its_worker(place: Place) -> int:
    job_id = place.submit()
    for attempt in range(1, 5):
        place.lose(job_id, attempt)
    return job_id


def harms_its_workers(place: Place) -> int:
    job_id = place.submit()
    for attempt, name in enumerate(("worker-1", "worker-2", "worker-3"), 1):
        place.worker(name)
        place.process(job_id, attempt)
        place.only(None)  # lest the same worker takes it once more
        place.lose(job_id, attempt)
    return job_id


def is_cancelled(place: Place) -> int:
    job_id = place.submit()
    place.process(job_id, 1)
    place.client.jobs.cancel(job_id)
    return job_id


@dataclass(frozen=True)
class End:
    """How a job comes by a reason, and what is then said of it."""

    run: Callable[[Place], int]
    says: str
    exit_code: int | None = None
    signal: int | None = None
    traceback: str | None = None
    status: str = "failed"


REASONS = {
    Reason.EXIT_NONZERO: End(
        exits, "exited with code 1", exit_code=1, traceback="ValueError: no such data"
    ),
    Reason.SIGNAL: End(crashes, "SIGSEGV", signal=signal.SIGSEGV),
    Reason.OUT_OF_MEMORY: End(runs_out_of_memory, "limit of 0.10 GB", signal=signal.SIGKILL),
    Reason.TIME_LIMIT: End(takes_too_long, "time limit of 0.5 s", signal=signal.SIGTERM),
    Reason.ENVIRONMENT_FAILED: End(
        asks_for_what_is_not_there, "could not be installed", traceback="missing-1.0"
    ),
    Reason.IMAGE_FAILED: End(asks_for_an_image, "image_failed"),
    Reason.BUNDLE_INVALID: End(loses_its_bundle, "lost the job's bundle"),
    Reason.ENTRY_MISSING: End(has_no_entry, "no gone.py"),
    Reason.DISK_FULL: End(fills_the_disk, "disk", exit_code=1, traceback="No space left"),
    Reason.START_FAILED: End(cannot_be_started, "cannot be run: No such file"),
    Reason.WORKER_LOST: End(loses_its_worker, "lost 4 times"),
    Reason.POISON: End(harms_its_workers, "3 different workers"),
    Reason.USER: End(is_cancelled, "cancelled", signal=signal.SIGTERM, status="cancelled"),
}


def test_every_reason_is_in_the_table() -> None:
    assert set(REASONS) == set(Reason)


@pytest.mark.parametrize("reason", REASONS)
def test_reason_is_reached_and_says_what_happened(reason: Reason, place: Place) -> None:
    end = REASONS[reason]
    place.worker()
    job_id = end.run(place)
    job = wait_for_status(place.server.url, job_id, end.status)
    assert job["reason"] == reason
    assert end.says in job["message"]
    assert (job["exit_code"], job["signal"]) == (end.exit_code, end.signal)
    assert (end.traceback or "") in (job["traceback"] or "")
    kinds = [event.kind for event in place.client.jobs.events(job_id)]
    assert kinds.count(end.status) == 1
