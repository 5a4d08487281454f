"""Many short jobs, two at a time: from the first submission to the end of the last job."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dtrain
from dtrain.protocol.states import Status

from .place import PATIENCE, STAMP, Place
from .programs import wait_for
from .report import Report
from .table import Target

AT_ONCE = 2
MEASURE = f"short jobs, {AT_ONCE} at a time, submit → last completed"


def jobs(place: Place) -> int:
    """How many jobs make a sample."""
    return place.pick(100, 200)


def measure(place: Place, report: Report) -> None:
    """Handed in by two threads of the Python client, each job as a folder."""
    bundle = place.bundle({"main.py": STAMP})
    with (
        place.server() as server,
        place.worker(server, slots=AT_ONCE),
        dtrain.Client(server.url) as client,
    ):
        _run(client, bundle, 4)
        samples = [_run(client, bundle, jobs(place)) for _ in range(place.pick(2, 5))]
    report.add(MEASURE, "DTrain", "jobs/s", samples, target=Target(median=40))


def _run(client: dtrain.Client, bundle: Path, count: int) -> float:
    """Jobs per second."""
    begin = time.monotonic()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        handed = {job.id for job in pool.map(lambda _: client.submit(bundle), range(count))}

    def ended() -> bool:
        left = client.jobs.list(status=["pending", "running"], limit=1)
        return not left.jobs

    wait_for(ended, PATIENCE, f"{count} jobs to end")
    seconds = time.monotonic() - begin
    done = client.jobs.list(status="completed", limit=200).jobs
    lacking = handed - {job.id for job in done if job.status is Status.COMPLETED}
    if lacking:
        raise RuntimeError(f"{len(lacking)} of {count} jobs have not completed.")
    return count / seconds
