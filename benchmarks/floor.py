"""The floor: what the machine itself needs for the bare part of each measurement."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import submit_latency, throughput
from .place import STAMP, Place
from .programs import Program, clean_environment, free_port, wait_for
from .report import Report

UP = "bundle up"
DOWN = "bundle down"


def measure(place: Place, report: Report) -> None:
    """A bare Python, uv alone, many Pythons."""
    script = place.bundle({"main.py": STAMP}) / "main.py"
    count = place.pick(30, 200)
    python: list[str | Path] = [sys.executable, script]
    report.add(submit_latency.MEASURE, "python alone", "ms", _starts(python, count), role="floor")
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is not None:
        run: list[str | Path] = [uv, "run", "--no-project", "--python", sys.executable]
        samples = _starts([*run, script], place.pick(10, 50))
        report.add(submit_latency.MEASURE, "uv run", "ms", samples, role="floor")
        packages = [*run, "--with", "numpy", script]
        _starts(packages, 1)
        samples = _starts(packages, place.pick(10, 50))
        report.add(submit_latency.WITH_PACKAGES, "uv run --with numpy", "ms", samples, role="floor")
    rates = [_rate(python, throughput.jobs(place)) for _ in range(place.pick(2, 5))]
    report.add(throughput.MEASURE, "python alone", "jobs/s", rates, role="floor")


def copy_seconds(source: Path, target: Path) -> float:
    """Seconds for cp, fsync and sha256sum of a file."""
    begin = time.perf_counter()
    subprocess.run(["cp", source, target], check=True)
    with target.open("rb") as copy:
        os.fsync(copy.fileno())
    subprocess.run(["sha256sum", target], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - begin
    target.unlink()
    return seconds


def curl_seconds(place: Place, source: Path, count: int) -> list[float]:
    """Seconds for curl to fetch a file from a static file server on the loopback interface."""
    port = free_port()
    server = ["http.server", str(port), "--bind", "127.0.0.1", "--directory", str(source.parent)]
    target = place.new_folder("curl") / "fetched"
    samples = []
    with Program([sys.executable, "-m", *server], place.new_folder("static"), title="static"):
        url = f"http://127.0.0.1:{port}/{source.name}"
        head = ["curl", "--silent", "--fail", "--head", "--output", os.devnull, url]
        wait_for(lambda: subprocess.run(head, check=False).returncode == 0, 60, "the file server")
        for _ in range(count):
            begin = time.perf_counter()
            subprocess.run(["curl", "--silent", "--fail", "--output", target, url], check=True)
            samples.append(time.perf_counter() - begin)
            target.unlink()
    return samples


def _starts(command: list[str | Path], count: int) -> list[float]:
    """Milliseconds from the start of a command to the first line of the script that it runs."""
    samples = []
    for _ in range(count):
        begin = time.monotonic_ns()
        told = subprocess.check_output(command, env=clean_environment(), stderr=subprocess.DEVNULL)
        samples.append((int(told.split()[0]) - begin) / 1e6)
    return samples


def _rate(command: list[str | Path], count: int) -> float:
    begin = time.perf_counter()
    with ThreadPoolExecutor(throughput.AT_ONCE) as pool:
        list(pool.map(lambda _: _starts(command, 1), range(count)))
    return count / (time.perf_counter() - begin)
