"""The points that a chart draws, of jobs with very many PROGRESS records."""

from __future__ import annotations

from functools import partial

import dtrain
from dtrain.protocol import routes
from dtrain.protocol.messages import MetricPage

from .place import PATIENCE, Place
from .programs import milliseconds
from .report import Report
from .table import Target

_POINTS = 2000
_TARGETS = {10_000: None, 100_000: Target(median=30), 1_000_000: Target(median=150)}
"""By the number of records."""
_SCRIPT = """import json, math, sys
for step in range(int(sys.argv[1])):
    record = {"step": step, "loss": math.exp(-step / 1e5), "accuracy": math.sin(step / 1e3)}
    sys.stdout.write("PROGRESS: " + json.dumps(record) + "\\n")
"""


def measure(place: Place, report: Report) -> None:
    """All records of two series, thinned to 2,000 points each."""
    bundle = place.bundle({"main.py": _SCRIPT})
    with (
        place.server() as server,
        place.worker(server),
        dtrain.Client(server.url) as client,
    ):
        for records in place.sizes(*_TARGETS, trial=100_000, short=100_000):
            job = client.submit(bundle, args=[str(records)]).id
            client.jobs.wait(job, timeout=PATIENCE, raise_on_failure=True)
            path = routes.path(routes.JOB_METRICS, job_id=job)
            ask = partial(client.transport.request, "GET", path, query={"points": _POINTS})
            page = ask().decode(MetricPage)
            if page.records[-1].seq != records - 1:
                raise RuntimeError(f"Of {records} records {page.records[-1].seq + 1} are there.")
            samples = [milliseconds(ask) for _ in range(place.pick(20, 100, trial=10))]
            report.add(
                f"{_POINTS:,} points of {records:,} records",
                "DTrain",
                "ms",
                samples,
                target=_TARGETS[records],
            )
