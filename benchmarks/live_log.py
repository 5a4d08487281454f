"""From a line that a job prints to the eyes of those who follow it."""

from __future__ import annotations

import subprocess
import threading
import time

import dtrain
from dtrain.client.stream import content
from dtrain.protocol.messages import LogPiece

from . import floor
from .place import DTRAIN, PATIENCE, Place
from .programs import clean_environment
from .report import Report
from .table import Target

MEASURE = "line printed → seen"
_PAUSE = 0.02
_SCRIPT = f"""import sys, time
time.sleep(float(sys.argv[2]))
for _ in range(int(sys.argv[1])):
    print(time.monotonic_ns(), flush=True)
    time.sleep({_PAUSE})
"""
_START = "4"
"""Seconds in which those who follow are there before the first line."""


def measure(place: Place, report: Report) -> None:
    """By the job's stream of events, and by `dtrain logs -f`."""
    count = place.pick(300, 3000, trial=100)
    bundle = place.bundle({"main.py": _SCRIPT})
    with (
        place.server() as server,
        place.worker(server),
        dtrain.Client(server.url) as client,
    ):
        piped = floor.piped_line_milliseconds(bundle / "main.py", str(count), "0")
        report.add(MEASURE, "a pipe alone", "ms", piped, role="floor")
        job = client.submit(bundle, args=[str(count), _START])
        seen: list[float] = []
        follower = threading.Thread(target=_follow, args=(client, job.id, seen))
        follower.start()
        printed = _read_command(server.url, job.id)
        follower.join(PATIENCE)
    for subject, samples in (
        ("DTrain, stream of events", seen),
        ("DTrain, dtrain logs -f", printed),
    ):
        if len(samples) != count:
            raise RuntimeError(f"{subject}: of {count} lines {len(samples)} came.")
        report.add(MEASURE, subject, "ms", samples, target=Target(p95=50))


def _follow(client: dtrain.Client, job_id: int, seen: list[float]) -> None:
    rest = b""
    for update in client.jobs.follow(job_id):
        if isinstance(update, LogPiece):
            now = time.monotonic_ns()
            *lines, rest = (rest + content(update)).split(b"\n")
            seen += [(now - int(line)) / 1e6 for line in lines]


def _read_command(url: str, job_id: int) -> list[float]:
    environment = clean_environment() | {"DTRAIN_SERVER_URL": url}
    command = [*DTRAIN, "logs", str(job_id), "-f"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        return [(time.monotonic_ns() - int(line)) / 1e6 for line in process.stdout]
