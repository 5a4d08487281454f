"""Jobs side by side, and the history of a machine, in a real browser."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from playwright.sync_api import Browser, Page, expect
from support.browser import SCREENSHOTS, has_stayed, stay, visit
from support.example_job import zip_of
from support.processes import PATIENCE, RunningServer, start_server
from support.scripted_worker import Attempt, ScriptedWorker

from dtrain.client.client import Client
from dtrain.protocol.messages import WorkerMetrics

LOOKS: list[tuple[int, Any]] = [(360, "light"), (360, "dark"), (2560, "light"), (1280, "dark")]


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, _no_process_outlives_the_run: str
) -> Iterator[RunningServer]:
    found = start_server(tmp_path_factory.mktemp("server"))
    yield found
    found.stop()


@pytest.fixture(scope="module")
def scripted(server: RunningServer) -> Iterator[ScriptedWorker]:
    worker = ScriptedWorker(server)
    yield worker
    worker.close()


@pytest.fixture(scope="module")
def running(
    server: RunningServer, scripted: ScriptedWorker, tmp_path_factory: pytest.TempPathFactory
) -> Attempt:
    """The third of three jobs, which runs; two have ended."""
    bundle = zip_of(tmp_path_factory.mktemp("jobs") / "bundle.zip", {"main.py": "pass\n"})
    client = Client(server.url)
    for number, rate in enumerate(("0.1", "0.01", "0.001"), 1):
        client.submit(
            bundle,
            name=f"network {number} with a name that is rather long",
            args=[f"--lr={rate}", "--epochs", "40"],
            env={"SEED": "7"},
            tags=["sweep", f"rate-{rate}"],
        )
        attempt = scripted.take()
        attempt.go_on()
        for epoch in range(1, 21 if number == 3 else 41):
            loss = number * 2 / epoch**0.5
            line = b'PROGRESS: {"epoch": %d, "epochs": 40, "loss": %.4f, "accuracy": %.4f}\n'
            attempt.log(line % (epoch, loss, 1 - loss / 7))
        if number < 3:
            attempt.finish()
    client.close()
    return attempt


def drawn(page: Page) -> str:
    """The picture of the first chart."""
    page.evaluate("new Promise(requestAnimationFrame)")
    found: str = page.locator("#chart-1 canvas").evaluate("(canvas) => canvas.toDataURL()")
    return found


def is_too_wide(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth > innerWidth"))


def test_jobs_are_compared_while_one_runs(
    page: Page, server: RunningServer, running: Attempt
) -> None:
    page.goto(f"{server.url}/compare?jobs=1,2,3")
    expect(page.locator("connection-status")).to_have_text("Live")
    expect(page.locator("metric-chart canvas")).to_have_count(2)
    stay(page)
    loss = page.get_by_role("row").filter(has_text="loss")
    expect(loss.locator("td").nth(0)).to_contain_text("0.3162 lowest")
    expect(loss.locator("td").nth(2)).to_contain_text("1.342 highest")
    expect(page.locator("#chart-1 .series")).to_have_count(3)

    before = drawn(page)
    running.log(b'PROGRESS: {"epoch": 21, "epochs": 40, "loss": 9.5, "accuracy": 0.1}\n')
    expect(page.locator("#chart-1 [data-metric='3']")).to_have_text("9.5")
    expect(loss.locator("td").nth(2)).to_contain_text("9.5 highest")
    assert drawn(page) != before

    page.get_by_label("Only differences").check()
    expect(page.get_by_role("row").filter(has_text="--epochs")).to_be_hidden()
    expect(page.get_by_role("row").filter(has_text="--lr")).to_be_visible()
    expect(page.get_by_role("row").filter(has_text="Environment")).to_be_hidden()
    running.log(b'PROGRESS: {"epoch": 22, "epochs": 40, "loss": 9, "accuracy": 0.1}\n')
    expect(page.locator("#chart-1 [data-metric='3']")).to_have_text("9")
    expect(page.get_by_label("Only differences")).to_be_checked()

    plain = drawn(page)
    for label, change in (
        ("Log scale", lambda: page.get_by_label("Log scale").check()),
        ("Axis", lambda: page.get_by_label("Axis").select_option("time")),
        ("Smoothing", lambda: page.get_by_label("Smoothing").fill("0.9")),
    ):
        change()
        assert drawn(page) != plain, label
        plain = drawn(page)
    assert has_stayed(page)

    page.get_by_role("link", name="Compare without #2").click()
    assert page.url == f"{server.url}/compare?jobs=1,3"
    expect(page.locator("metric-chart canvas")).to_have_count(2)


def test_comparison_looks_as_it_should(
    browser: Browser, server: RunningServer, running: Attempt
) -> None:
    with visit(browser, java_script_enabled=False) as page:
        page.goto(f"{server.url}/compare?jobs=1,2")
        loss = page.get_by_role("row").filter(has_text="loss")
        expect(loss.locator("td").nth(1)).to_contain_text("0.6325 highest")
    for width, scheme in LOOKS:
        viewport: Any = {"width": width, "height": 900}
        with visit(browser, viewport=viewport, color_scheme=scheme) as page:
            page.goto(f"{server.url}/compare?jobs=1,2,3")
            expect(page.locator("metric-chart canvas")).to_have_count(2)
            assert not is_too_wide(page), width
            SCREENSHOTS.mkdir(exist_ok=True)
            page.screenshot(path=SCREENSHOTS / f"compare-{width}-{scheme}.png", full_page=True)


def test_worker_shows_its_last_day(
    browser: Browser, server: RunningServer, scripted: ScriptedWorker, running: Attempt
) -> None:
    worker_id = server.json("/api/workers")["workers"][0]["id"]
    _tell_of_a_day(server.home, worker_id)
    for width, scheme in LOOKS:
        viewport: Any = {"width": width, "height": 900}
        with visit(browser, viewport=viewport, color_scheme=scheme) as page:
            page.goto(f"{server.url}/workers/{worker_id}")
            expect(page.locator("worker-history canvas")).to_have_count(3)
            expect(page.locator("[data-metric=memory]")).not_to_have_text("")
            assert not is_too_wide(page), width
            SCREENSHOTS.mkdir(exist_ok=True)
            page.screenshot(path=SCREENSHOTS / f"worker-{width}-{scheme}.png", full_page=True)


def _tell_of_a_day(home: Path, worker_id: str) -> None:
    """Store samples of the last day, with two hours in which the worker was away."""
    now = int(time.time() // 60)
    rows = []
    for back in range(1, 1400):
        if 300 < back < 420:
            continue
        metrics = WorkerMetrics(
            cpu_percent=50 + 45 * ((back // 90) % 2) - back % 7,
            memory_used=(2 + back % 300 // 100) * 1024**3,
            memory_total=8 * 1024**3,
            disk_used=(100 - back // 60) * 10**9,
            disk_total=250 * 10**9,
        )
        rows.append((worker_id, now - back, msgspec.json.encode(metrics).decode()))
    (file,) = (path for path in home.rglob("*.db") if "before" not in path.name)
    connection = sqlite3.connect(file, timeout=PATIENCE)
    with connection:
        connection.executemany("INSERT OR IGNORE INTO worker_samples VALUES (?, ?, ?)", rows)
    connection.close()
