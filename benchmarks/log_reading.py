"""Reading a long log: its end, a place in its midst, and a search through all of it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import dtrain
from dtrain.protocol import routes
from dtrain.protocol.messages import LogMatches

from . import floor
from .log_ingest import PRINT
from .place import PATIENCE, Place
from .programs import milliseconds
from .report import Report
from .table import Target

_PAGE = 200
"""Lines that a window shows and a little more."""
_FINDINGS = {"open at the end": 50, "jump to the middle": 50, "search for a rare word": 500}
"""What is looked for, with the bound in milliseconds for a log of a million lines."""


def measure(place: Place, report: Report) -> None:
    """At three sizes, so that cost against size is seen; beside tail, sed and grep of a file."""
    bundle = place.bundle({"main.py": PRINT})
    kept = place.new_folder("kept") / "log"
    with (
        place.server() as server,
        place.worker(server),
        dtrain.Client(server.url) as client,
    ):
        for lines in place.sizes(10_000, 100_000, 1_000_000, trial=100_000):
            job = client.submit(bundle, args=[str(lines)]).id
            client.jobs.wait(job, timeout=PATIENCE, raise_on_failure=True)
            with kept.open("wb") as file:
                client.jobs.download_log(job, file)
            own = _by_dtrain(client, job, lines)
            bare = _by_programs(kept, lines)
            for what, bound in _FINDINGS.items():
                ways: dict[str, Callable[[], float]] = {"DTrain": own[what]}
                ways[bare[what][0]] = partial(_run, bare[what])
                searching = what.startswith("search")
                count = place.pick(5, 20, trial=3) if searching else place.pick(20, 100, trial=10)
                samples = floor.in_turn(ways, count)
                title = f"log of {lines:,} lines: {what}"
                target = Target(median=bound) if lines == 1_000_000 else None
                report.add(title, "DTrain", "ms", samples["DTrain"], target=target)
                program = bare[what][0]
                report.add(title, program, "ms", samples[program], role="floor")


def _by_dtrain(client: dtrain.Client, job: int, lines: int) -> dict[str, Callable[[], float]]:
    """Each is asked about lines that nobody has just asked about."""
    middle = iter(range(lines // 2, lines))

    def jump() -> None:
        client.jobs.logs(job, after=next(middle), limit=_PAGE)

    return dict(
        zip(
            _FINDINGS,
            (
                lambda: milliseconds(lambda: client.jobs.logs(job, tail=True, limit=_PAGE)),
                lambda: milliseconds(jump),
                lambda: milliseconds(lambda: _search(client, job)),
            ),
            strict=True,
        )
    )


def _by_programs(log: Path, lines: int) -> dict[str, list[str]]:
    middle = lines // 2
    page = f"{middle},{middle + _PAGE}p;{middle + _PAGE}q"
    commands = (
        ["tail", "-n", str(_PAGE), str(log)],
        ["sed", "-n", page, str(log)],
        ["grep", "-n", "needle", str(log)],
    )
    return dict(zip(_FINDINGS, commands, strict=True))


def _run(command: list[str]) -> float:
    return milliseconds(lambda: subprocess.check_output(command))


def _search(client: dtrain.Client, job_id: int) -> None:
    """Find all lines that match, part by part as a page does.

    Raises:
        RuntimeError: it is not the one line that there is.
    """
    path = routes.path(routes.JOB_LOG_MATCHES, job_id=job_id)
    found, after, more = [], 0, True
    while more:
        query = {"q": "needle", "after": after}
        part = client.transport.request("GET", path, query=query).decode(LogMatches)
        found += part.ranges
        after, more = part.next, part.more
    if len(found) != 1:
        raise RuntimeError(f"The word stands in one line, and {len(found)} places were found.")
