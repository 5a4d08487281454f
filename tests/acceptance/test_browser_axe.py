"""Every page keeps to WCAG 2.2 AA as far as axe can tell, in both themes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, expect
from support.example_job import zip_of
from support.frontend import tool
from support.processes import PATIENCE, RunningServer, start_server
from support.scripted_worker import ScriptedWorker

from dtrain.client.client import Client
from dtrain.protocol.worker_messages import AttemptUsage

LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
PAGES = {
    "jobs": "/",
    "narrowed jobs": "/?tag=night&status=failed",
    "completed": "/jobs/1",
    "failed": "/jobs/2",
    "running": "/jobs/3",
    "waiting": "/jobs/4",
    "workers": "/workers",
    "worker": "/workers/{worker}",
    "compare": "/compare?jobs=1,2,3",
    "nothing to compare": "/compare?jobs=1,99",
    "api": "/api/docs",
    "design": "/design",
    "missing": "/jobs/99",
    "login": "/login",
}
CHECK = """
async (levels) => {
  const { violations } = await axe.run(document, { runOnly: levels });
  return violations.flatMap(({ id, nodes }) => nodes.map(({ target, failureSummary }) =>
    `${id} at ${target.join(" ")}: ${failureSummary.replaceAll("\\n", " ")}`));
}
"""


@pytest.fixture(scope="module")
def axe() -> str:
    """The program that looks for mistakes, as the frontend's lock file names it."""
    return tool("axe-core/axe.min.js").read_text()


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, _no_process_outlives_the_run: str
) -> Iterator[RunningServer]:
    """A server with a job in each state."""
    folder = tmp_path_factory.mktemp("axe")
    found = start_server(folder / "server")
    bundle = zip_of(folder / "bundle.zip", {"main.py": "print('hello')\n"})
    client, worker = Client(found.url), ScriptedWorker(found)
    for number, name in enumerate(("completed", "failed", "running"), 1):
        client.submit(bundle, name=name, tags=["tag"], args=[f"--lr=0.{number}"])
        attempt = worker.take()
        attempt.go_on()
        attempt.log(b"INFO: begins\nWARNING: warns\nERROR: fails\n\x1b[33myellow\x1b[0m\n")
        for epoch in (1, 2, 3):
            line = b'PROGRESS: {"epoch": %d, "epochs": 4, "loss": %.2f}\n'
            attempt.log(line % (epoch, number / epoch))
        attempt.leave("model.txt", b"weights")
        if name == "completed":
            attempt.finish()
        elif name == "failed":
            attempt.finish(exit_code=1, traceback="Traceback:\nValueError: no")
    attempt.usage = AttemptUsage(cpu_time=9, memory=10**9)
    worker.commands()
    client.submit(bundle, name="waiting", gpus=2)
    client.close()
    yield found
    worker.close()
    found.stop()


@pytest.fixture(scope="module", params=["light", "dark"])
def context(browser: Browser, request: pytest.FixtureRequest) -> Iterator[BrowserContext]:
    """A profile in which a script that is not the page's own may run."""
    scheme: Any = request.param
    found = browser.new_context(bypass_csp=True, color_scheme=scheme, reduced_motion="reduce")
    yield found
    found.close()


@pytest.mark.parametrize("name", PAGES)
def test_page_is_accessible(
    context: BrowserContext, server: RunningServer, axe: str, name: str
) -> None:
    worker = server.json("/api/workers")["workers"][0]["id"]
    page = context.new_page()
    page.set_default_timeout(1000 * PATIENCE)
    page.goto(server.url + PAGES[name].format(worker=worker))
    if page.locator("connection-status").count():
        reached = re.compile("open|ended")  # a job that has ended is not followed any further
        expect(page.locator("connection-status")).to_have_attribute("data-state", reached)
    if name == "running":
        expect(page.locator("job-usage canvas")).to_have_count(2)
    page.add_script_tag(content=axe)
    found = page.evaluate(CHECK, LEVELS)
    page.close()
    assert not found, "\n".join(found)
