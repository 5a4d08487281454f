"""What a server and a worker cost that have nothing to do."""

from __future__ import annotations

import time

from .place import Place
from .programs import Program
from .report import Report
from .table import Target

_MEGABYTE = 1024 * 1024
_SETTLING = 10.0
"""Seconds after which what a start leaves to do is done."""


def measure(place: Place, report: Report) -> None:
    """Memory as PSS of all processes together; processor as a part of one core."""
    with place.server() as server, place.worker(server) as worker:
        time.sleep(_SETTLING)
        programs: list[tuple[str, Program, float, float]] = [
            ("DTrain server", server, 120, 0.2),
            ("DTrain worker", worker, 45, 0.1),
        ]
        begin = time.monotonic()
        used = [program.cpu_seconds() for _, program, _, _ in programs]
        time.sleep(place.pick(30, 120, trial=15))
        seconds = time.monotonic() - begin
        for before, (subject, program, memory, share) in zip(used, programs, strict=True):
            percent = (program.cpu_seconds() - before) / seconds * 100
            report.add(
                "memory of an idle program",
                subject,
                "MB",
                [program.memory() / _MEGABYTE],
                target=Target(median=memory),
            )
            report.add(
                "processor of an idle program",
                subject,
                "% of a core",
                [percent],
                target=Target(median=share),
            )
