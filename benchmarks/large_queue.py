"""A database with up to a million jobs: what pages, lists, searches, claims and polls cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import dtrain

from . import postgres, seeding
from .place import Place, Server
from .programs import milliseconds
from .report import Report
from .table import Target
from .wire import WireWorker

SIZES = (10_000, 100_000, 1_000_000)
_BOUNDS = {
    "the page of all jobs, with counts": 50,
    "list by status": 50,
    "list by tag": 50,
    "list by worker": 50,
    "search for a text": 100,
    "poll that brings nothing": None,
    "claim, a tenth waiting": 10,
}


def measure(place: Place, report: Report) -> None:
    """On SQLite and on PostgreSQL, at three sizes."""
    for title in ("SQLite", "PostgreSQL"):
        if title == "PostgreSQL" and postgres.programs() is None:
            report.leave_out(title, "it is not installed: apt-get install postgresql")
            continue
        with ExitStack() as stack:
            folder = place.new_folder(title)
            if title == "SQLite":
                url = f"sqlite:///{folder}/jobs.db"
            else:
                url = stack.enter_context(postgres.running(place))
            _measure_database(place, report, title, folder, url)


def _measure_database(place: Place, report: Report, title: str, folder: Path, url: str) -> None:
    with Server(folder, {"DATABASE_URL": url}) as server, dtrain.Client(server.url) as client:
        seeding.begin(place, server, client)
    present = 1
    for size in place.sizes(*SIZES, trial=10_000, short=100_000):
        seeding.seed(url, present, size)
        present = size
        with (
            Server(folder, {"DATABASE_URL": url}) as server,
            dtrain.Client(server.url) as client,
        ):
            count = place.pick(20, 100, trial=10)
            found = _asked(client, count) | _polled(server, count)
        for what, samples in found.items():
            bound = _BOUNDS[what] if size == SIZES[-1] else None
            target = None if bound is None else Target(median=bound)
            report.add(f"{size:,} jobs: {what}", f"DTrain, {title}", "ms", samples, target=target)


def _asked(client: dtrain.Client, count: int) -> dict[str, list[float]]:
    """Milliseconds of what people ask for."""
    asked: dict[str, Callable[[], object]] = {
        "the page of all jobs, with counts": lambda: client.transport.request("GET", "/"),
        "list by status": lambda: client.jobs.list(status="failed"),
        "list by tag": lambda: client.jobs.list(tag="tag-7"),
        "list by worker": lambda: client.jobs.list(worker="seeded-3"),
        "search for a text": lambda: client.jobs.list(q=seeding.RARE),
    }
    samples = {}
    for what, ask in asked.items():
        ask()
        samples[what] = [milliseconds(ask) for _ in range(count)]
    return samples


def _polled(server: Server, count: int) -> dict[str, list[float]]:
    """Milliseconds of what a worker asks for."""
    worker = WireWorker(server.url, server.worker_token, "asks")
    polls: list[float] = []
    claims: list[float] = []
    for _ in range(count):
        polls.append(milliseconds(lambda: worker.poll(draining=True)))
        begin = time.perf_counter()
        assignment = worker.poll()
        claims.append((time.perf_counter() - begin) * 1000)
        if assignment is None:
            raise RuntimeError("Jobs wait, but a worker that asks gets none.")
        worker.finish(assignment)
    return {"poll that brings nothing": polls, "claim, a tenth waiting": claims}
