"""Many short jobs, two at a time: from the first submission to the end of the last job."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dtrain
from dtrain.protocol.states import Status

from . import floor
from .place import PATIENCE, STAMP, Place
from .programs import wait_for
from .report import Report
from .table import Target

AT_ONCE = 2
MEASURE = f"short jobs, {AT_ONCE} at a time, submit → last completed"
_LOOK = 0.2
"""Seconds between two looks whether all have ended; their ends are told by the server to the
millisecond, so that looking costs little and falsifies nothing."""


def jobs(place: Place) -> int:
    """How many jobs make a sample."""
    return place.pick(100, 200, trial=20)


def measure(place: Place, report: Report) -> None:
    """Handed in by two threads of the Python client, each job as a folder."""
    bundle = place.bundle({"main.py": STAMP})
    count = jobs(place)
    with (
        place.server() as server,
        place.worker(server, slots=AT_ONCE),
        dtrain.Client(server.url) as client,
    ):
        _run(client, bundle, 4)
        samples = floor.in_turn(
            {
                "DTrain": lambda: _run(client, bundle, count),
                "python alone": lambda: floor.rate(
                    floor.python(bundle / "main.py"), count, AT_ONCE
                ),
            },
            place.pick(3, 5, trial=2),
        )
    report.add(MEASURE, "DTrain", "jobs/s", samples["DTrain"], target=Target(median=40))
    report.add(MEASURE, "python alone", "jobs/s", samples["python alone"], role="floor")


def _run(client: dtrain.Client, bundle: Path, count: int) -> float:
    """Jobs per second.

    Raises:
        RuntimeError: a job has not completed.
    """
    begin = time.time()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        handed = {job.id for job in pool.map(lambda _: client.submit(bundle), range(count))}

    def ended() -> bool:
        return not client.jobs.list(status=["pending", "running"], limit=1).jobs

    wait_for(ended, PATIENCE, f"{count} jobs to end", pause=_LOOK)
    done = {job.id: job for job in client.jobs.list(limit=200).jobs if job.id in handed}
    ends = [job.finished_at for job in done.values() if job.status is Status.COMPLETED]
    if len(ends) < count:
        raise RuntimeError(f"{count - len(ends)} of {count} jobs have not completed.")
    return count / (max(end.timestamp() for end in ends if end is not None) - begin)
