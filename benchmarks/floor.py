"""The floor: what the machine itself needs for the bare part of a measurement.

It is taken in turn with DTrain's own samples, so that both meet the same machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from .place import Place
from .programs import Program, clean_environment, free_port, wait_for

Command = list[str | Path]


def in_turn(ways: Mapping[str, Callable[[], float]], count: int) -> dict[str, list[float]]:
    """So many samples of each way, one of each after the other."""
    samples: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(count):
        for name, way in ways.items():
            samples[name].append(way())
    return samples


def python(script: Path) -> Command:
    """The script with nothing around it."""
    return [sys.executable, script]


def uv_run(script: Path, *packages: str) -> Command | None:
    """The script by uv, with packages if any; None where there is no uv."""
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        return None
    asked = [word for package in packages for word in ("--with", package)]
    return [uv, "run", "--no-project", "--python", sys.executable, *asked, script]


def start(command: Command) -> float:
    """Milliseconds from the start of a command to the first line of the script that it runs."""
    begin = time.monotonic_ns()
    told = subprocess.check_output(command, env=clean_environment(), stderr=subprocess.DEVNULL)
    return (int(told.split()[0]) - begin) / 1e6


def rate(command: Command, count: int, at_once: int) -> float:
    """Commands per second, so many at a time."""
    begin = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(lambda _: start(command), range(count)))
    return count / (time.perf_counter() - begin)


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


@contextmanager
def static_server(place: Place, folder: Path) -> Iterator[str]:
    """The address of a static file server of a folder, on the loopback interface."""
    port = free_port()
    server = ["http.server", str(port), "--bind", "127.0.0.1", "--directory", str(folder)]
    url = f"http://127.0.0.1:{port}"
    with Program([sys.executable, "-m", *server], place.new_folder("static"), title="static"):
        head = ["curl", "--silent", "--fail", "--head", "--output", os.devnull, url]
        wait_for(lambda: subprocess.run(head, check=False).returncode == 0, 60, "the file server")
        yield url


def fetch_seconds(url: str, target: Path) -> float:
    """Seconds for curl to fetch a file."""
    begin = time.perf_counter()
    subprocess.run(["curl", "--silent", "--fail", "--output", target, url], check=True)
    seconds = time.perf_counter() - begin
    target.unlink()
    return seconds


def piped_line_milliseconds(script: Path, *arguments: str) -> list[float]:
    """How old each line is that a script prints, when it has come through a pipe."""
    with subprocess.Popen(
        [*python(script), *arguments], env=clean_environment(), stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        return [(time.monotonic_ns() - int(line)) / 1e6 for line in process.stdout]


def piped_lines_rate(script: Path, target: Path, lines: int) -> float:
    """Lines per second that a script prints, until all of them are durable in a file."""
    begin = time.monotonic()
    with (
        target.open("wb") as kept,
        subprocess.Popen(
            [*python(script), str(lines)], env=clean_environment(), stdout=subprocess.PIPE
        ) as process,
    ):
        assert process.stdout is not None
        shutil.copyfileobj(process.stdout, kept)
        kept.flush()
        os.fsync(kept.fileno())
    seconds = time.monotonic() - begin
    target.unlink()
    return lines / seconds
