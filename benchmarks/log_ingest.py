"""A job that prints a great deal: from its first line to all lines on the server, readable."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import dtrain

from . import floor
from .place import PATIENCE, Place, first_number
from .programs import MemoryWatch, milliseconds, wait_for
from .report import Report
from .table import Target
from .wire import WireWorker

LINE = 100
"""Bytes of a line, its end included."""
PRINT = f"""import sys, time
print(time.monotonic_ns(), flush=True)
count = int(sys.argv[1])
for first in range(0, count, 1000):
    numbers = range(first, min(first + 1000, count))
    sys.stdout.write("".join(f"line {{n:09d}} ".ljust({LINE - 1}, "x") + "\\n" for n in numbers))
    sys.stdout.flush()
print("needle", flush=True)
"""
_MEGABYTE = 1024 * 1024
_LOOK = 0.1
"""Seconds between two looks whether all is there: a small part of what is measured."""
_PIECE = 64 * 1024
"""Bytes that are appended at once where the log's length alone is to differ."""


def measure(place: Place, report: Report) -> None:
    """The rate, how much the memory of server and worker grows meanwhile, and what length costs."""
    _measure_rates(place, report)
    _measure_appends(place, report)


def _measure_rates(place: Place, report: Report) -> None:
    sizes = place.sizes(100_000, 1_000_000, trial=100_000)
    kept = place.new_folder("kept") / "log"
    bundle = place.bundle({"main.py": PRINT})
    with (
        place.server() as server,
        place.worker(server) as worker,
        dtrain.Client(server.url) as client,
    ):
        for lines in sizes:
            ways = {
                "DTrain": partial(_rate, client, bundle, lines),
                "a pipe into a file, fsync": partial(
                    floor.piped_lines_rate, bundle / "main.py", kept, lines
                ),
            }
            with MemoryWatch([server, worker]) as watch:
                rates = floor.in_turn(ways, place.pick(2, 3, trial=1))
            measure = f"log of {lines:,} lines of {LINE} bytes → readable"
            target = Target(median=250_000) if lines == 1_000_000 else None
            for subject, found in rates.items():
                own = subject == "DTrain"
                report.add(
                    measure,
                    subject,
                    "lines/s",
                    found,
                    role="dtrain" if own else "floor",
                    target=target if own else None,
                )
            for title, before, peak in zip(
                ("server", "worker and its job"), watch.before, watch.peak, strict=True
            ):
                report.add(
                    f"growth of memory with {lines:,} lines of log",
                    f"DTrain {title}",
                    "MB",
                    [(peak - before) / _MEGABYTE],
                )


def _measure_appends(place: Place, report: Report) -> None:
    """How long one piece takes, by how long the log is already."""
    piece = (b"x" * (LINE - 1) + b"\n") * (_PIECE // LINE)
    bundle = place.bundle({"main.py": "print('ok')\n"})
    with place.server() as server, dtrain.Client(server.url) as client:
        client.submit(bundle)
        worker = WireWorker(server.url, server.worker_token, "appends")
        assignment = worker.poll()
        if assignment is None:
            raise RuntimeError("A job waits, but a worker that asks gets none.")
        offset = 0
        for megabytes in place.sizes(1, 10, 100, trial=10):
            while offset < megabytes * _MEGABYTE:
                worker.append(assignment, offset, piece)
                offset += len(piece)
            samples: list[float] = []
            for _ in range(place.pick(20, 100, trial=10)):
                append = partial(worker.append, assignment, offset, piece)
                samples.append(milliseconds(append))
                offset += len(piece)
            report.add(
                f"append 64 KiB to a log of {megabytes} MiB", "DTrain, by HTTP", "ms", samples
            )
        worker.finish(assignment, offset)


def _rate(client: dtrain.Client, bundle: Path, lines: int) -> float:
    """Lines per second."""
    job = client.submit(bundle, args=[str(lines)])

    def is_readable() -> bool:
        page = client.jobs.logs(job.id, tail=True, limit=1)
        return bool(page.lines) and page.lines[-1].text == "needle"

    wait_for(is_readable, PATIENCE, f"{lines} lines", pause=_LOOK)
    end = time.monotonic_ns()
    return lines / ((end - first_number(client, job.id)) / 1e9)
