"""The list of 10,000 jobs in a browser: until something of it is seen."""

from __future__ import annotations

import shutil
import time

from playwright.sync_api import Browser, sync_playwright

import dtrain

from . import floor, seeding
from .place import Place, Server
from .report import Report
from .table import Target

_JOBS = 10_000
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = ["--no-sandbox", "--disable-gpu"]
"""As root Chromium does not run with its sandbox, and the machine needs no graphics card."""
_PAUSE = 0.5
"""Seconds in which the browser has done what a new page and the end of the last one leave to do."""
_BARE = "<!doctype html><title>bare</title><p>Nothing but a line."
_PAINTED = """new Promise(resolve => new PerformanceObserver((list) => {
  for (const entry of list.getEntriesByName("first-contentful-paint")) resolve(entry.startTime);
}).observe({ type: "paint", buffered: true }))"""


def measure(place: Place, report: Report) -> None:
    """Each visit in a profile of its own, with empty caches; beside a page of one line."""
    program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if program is None:
        report.leave_out("first paint", "there is no browser: apt-get install chromium")
        return
    folder = place.new_folder("painted")
    url = f"sqlite:///{folder}/jobs.db"
    with Server(folder, {"DATABASE_URL": url}) as server, dtrain.Client(server.url) as client:
        seeding.begin(place, server, client)
    seeding.seed(url, 1, _JOBS)
    bare = place.new_folder("bare")
    (bare / "index.html").write_text(_BARE)
    with (
        Server(folder, {"DATABASE_URL": url}) as server,
        floor.static_server(place, bare) as plain,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=program, args=_ARGUMENTS)
        ways = {
            "DTrain": lambda: _visit(browser, server.url),
            "a page of one line, http.server": lambda: _visit(browser, plain),
        }
        samples = floor.in_turn(ways, place.pick(15, 40, trial=5))
        browser.close()
    for subject, taken in samples.items():
        own = subject == "DTrain"
        report.add(
            f"first paint of the list of {_JOBS:,} jobs, first visit",
            subject,
            "ms",
            taken,
            role="dtrain" if own else "floor",
            target=Target(median=200) if own else None,
        )


def _visit(browser: Browser, address: str) -> float:
    """Milliseconds from the navigation to the first paint of contents, as the browser has them."""
    context = browser.new_context()
    page = context.new_page()
    time.sleep(_PAUSE)
    page.goto(address)
    taken: float = page.evaluate(_PAINTED)
    context.close()
    return taken
