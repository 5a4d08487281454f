"""From the submission of a job to the first line of its user's code."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import dtrain

from . import floor
from .place import DTRAIN, STAMP, Place, completed, first_number
from .programs import clean_environment
from .report import Report
from .table import Target

MEASURE = "submit → first line of user code"
WITH_PACKAGES = f"{MEASURE}, numpy required and cached"
_CLIENT = "DTrain, Python client"
_COMMAND = "DTrain, dtrain submit"


def measure(place: Place, report: Report) -> None:
    """By the Python client and by the command line; without packages and with numpy."""
    plain = place.bundle({"main.py": STAMP})
    packages = place.bundle({"main.py": STAMP, "requirements.txt": "numpy\n"})
    with (
        place.server() as server,
        place.worker(server),
        dtrain.Client(server.url) as client,
    ):
        ways = {
            _CLIENT: lambda: by_client(client, plain),
            "python alone": lambda: floor.start(floor.python(plain / "main.py")),
        }
        floor.in_turn(ways, 2)
        samples = floor.in_turn(ways, place.pick(30, 200, trial=7))
        samples |= floor.in_turn(
            {_COMMAND: lambda: _by_command(client, plain)} | _by_uv("uv run", plain),
            place.pick(15, 100, trial=3),
        )
        _add(report, MEASURE, samples)
        ways = {_CLIENT: lambda: by_client(client, packages)}
        ways |= _by_uv("uv run --with numpy", packages, "numpy")
        floor.in_turn(ways, 2)
        samples = floor.in_turn(ways, place.pick(15, 100, trial=3))
        _add(report, WITH_PACKAGES, samples)


def by_client(client: dtrain.Client, bundle: Path) -> float:
    """Milliseconds, of one job that is handed in as the whole folder."""
    begin = time.monotonic_ns()
    job = client.submit(bundle)
    return _until_first_line(client, job.id, begin)


def _by_command(client: dtrain.Client, bundle: Path) -> float:
    environment = clean_environment() | {"DTRAIN_SERVER_URL": client.url}
    begin = time.monotonic_ns()
    command: floor.Command = [*DTRAIN, "submit", bundle, "--json"]
    told = subprocess.check_output(command, env=environment, stderr=subprocess.DEVNULL)
    return _until_first_line(client, json.loads(told)["id"], begin)


def _by_uv(title: str, bundle: Path, *packages: str) -> dict[str, Callable[[], float]]:
    command = floor.uv_run(bundle / "main.py", *packages)
    return {} if command is None else {title: lambda: floor.start(command)}


def _until_first_line(client: dtrain.Client, job_id: int, begin: int) -> float:
    completed(client, job_id)
    return (first_number(client, job_id) - begin) / 1e6


def _add(report: Report, measure: str, samples: dict[str, list[float]]) -> None:
    targets = {
        (MEASURE, _CLIENT): Target(median=40, p95=80),
        (MEASURE, _COMMAND): Target(median=200),
        (WITH_PACKAGES, _CLIENT): Target(median=250),
    }
    for subject, found in samples.items():
        target = targets.get((measure, subject))
        own = subject in {_CLIENT, _COMMAND}
        report.add(measure, subject, "ms", found, role="dtrain" if own else "floor", target=target)
