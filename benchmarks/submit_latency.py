"""From the submission of a job to the first line of its user's code."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import dtrain

from .place import DTRAIN, STAMP, Place, completed, first_number
from .programs import clean_environment
from .report import Report
from .table import Target

MEASURE = "submit → first line of user code"
WITH_PACKAGES = f"{MEASURE}, numpy required and cached"


def measure(place: Place, report: Report) -> None:
    """By the Python client and by the command line; without packages and with numpy."""
    count = place.pick(30, 200)
    plain = place.bundle({"main.py": STAMP})
    packages = place.bundle({"main.py": STAMP, "requirements.txt": "numpy\n"})
    with (
        place.server() as server,
        place.worker(server),
        dtrain.Client(server.url) as client,
    ):
        by_client(client, plain, 3)
        samples = by_client(client, plain, count)
        target = Target(median=40, p95=80)
        report.add(MEASURE, "DTrain, Python client", "ms", samples, target=target)
        samples = _by_command(client, plain, place.pick(15, 100))
        report.add(MEASURE, "DTrain, dtrain submit", "ms", samples, target=Target(median=200))
        by_client(client, packages, 2)
        samples = by_client(client, packages, place.pick(15, 100))
        report.add(WITH_PACKAGES, "DTrain, Python client", "ms", samples, target=Target(median=250))


def by_client(client: dtrain.Client, bundle: Path, count: int) -> list[float]:
    """Milliseconds, one job after another; each is handed in as the whole folder."""
    samples = []
    for _ in range(count):
        begin = time.monotonic_ns()
        job = client.submit(bundle)
        samples.append(_until_first_line(client, job.id, begin))
    return samples


def _by_command(client: dtrain.Client, bundle: Path, count: int) -> list[float]:
    environment = clean_environment() | {"DTRAIN_SERVER_URL": client.url}
    samples = []
    for _ in range(count):
        begin = time.monotonic_ns()
        told = subprocess.check_output([*DTRAIN, "submit", bundle, "--json"], env=environment)
        samples.append(_until_first_line(client, json.loads(told)["id"], begin))
    return samples


def _until_first_line(client: dtrain.Client, job_id: int, begin: int) -> float:
    completed(client, job_id)
    return (first_number(client, job_id) - begin) / 1e6
