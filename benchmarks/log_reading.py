"""Reading a long log: its end, a place in its midst, and a search through all of it."""

from __future__ import annotations

import dtrain
from dtrain.protocol import routes
from dtrain.protocol.messages import LogMatches

from .log_ingest import PRINT
from .place import PATIENCE, Place
from .programs import timed
from .report import Report
from .table import Target

_PAGE = 200
"""Lines that a window shows and a little more."""


def measure(place: Place, report: Report) -> None:
    """At three sizes, so that cost against size is seen."""
    bundle = place.bundle({"main.py": PRINT})
    count = place.pick(20, 100)
    with (
        place.server() as server,
        place.worker(server),
        dtrain.Client(server.url) as client,
    ):
        for lines in place.sizes(10_000, 100_000, 1_000_000):
            job = client.submit(bundle, args=[str(lines)]).id
            client.jobs.wait(job, timeout=PATIENCE, raise_on_failure=True)
            ends: list[float] = []
            jumps: list[float] = []
            searches: list[float] = []
            for place_in_turn in range(count):
                with timed(ends):
                    client.jobs.logs(job, tail=True, limit=_PAGE)
                with timed(jumps):
                    client.jobs.logs(job, after=lines // 2 + place_in_turn, limit=_PAGE)
            for _ in range(place.pick(3, 20)):
                with timed(searches):
                    _search(client, job)
            whole = lines == 1_000_000
            for what, samples, bound in (
                ("open at the end", ends, 50),
                ("jump to the middle", jumps, 50),
                ("search for a rare word", searches, 500),
            ):
                report.add(
                    f"log of {lines:,} lines: {what}",
                    "DTrain",
                    "ms",
                    samples,
                    target=Target(median=bound) if whole else None,
                )


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
