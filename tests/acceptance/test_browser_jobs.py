"""The list of jobs, as people use it who have it open all day."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Request, Route, expect
from support.browser import SCREENSHOTS, has_stayed, stay, visit
from support.example_job import zip_of
from support.processes import PATIENCE, RunningServer, start_server
from support.scripted_worker import Attempt, ScriptedWorker

from dtrain.client.client import Client
from dtrain.protocol.bundle import inspect, pack

JOBS = 60
"""More than a page holds."""


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, _no_process_outlives_the_run: str
) -> Iterator[RunningServer]:
    """A server with jobs in every state; each test adds its own."""
    home = tmp_path_factory.mktemp("jobs-page")
    server = start_server(home / "server")
    bundle = zip_of(home / "bundle.zip", {"main.py": "print('hello')\n"})
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DTRAIN_SUBMITTER", "ada")
        client = Client(server.url)
    worker = ScriptedWorker(server, name="rack-1")
    client.submit(bundle, name="digits, a small network", tags=["digits", "baseline"])
    train(worker.take(), 40, 40).finish()
    client.submit(bundle, name="A name that is so long that it cannot stand in one line " * 2)
    take(worker).finish(exit_code=1, message="ValueError: no such file")
    for number in range(3, 7):  # as many as it takes at once
        client.submit(bundle, name=f"wide network {number}", tags=["sweep", "night"])
        train(worker.take(), number * 7, 60)
    for number in range(7, JOBS + 1):
        client.submit(bundle, name=f"job {number}", priority=number % 3 * 10)
        if number % 8 == 0:
            client.jobs.cancel(number)
    client.close()
    ended = threading.Event()
    alive = threading.Thread(target=keep_alive, args=(worker, ended))
    alive.start()
    yield server
    ended.set()
    alive.join(60)
    worker.close()


@pytest.fixture
def client(server: RunningServer) -> Iterator[Client]:
    found = Client(server.url)
    yield found
    found.close()


def keep_alive(worker: ScriptedWorker, ended: threading.Event) -> None:
    """Poll as a worker does, so that its jobs are not taken for lost."""
    while not ended.wait(10):
        worker.commands()


def take(worker: ScriptedWorker) -> Attempt:
    attempt = worker.take()
    attempt.go_on()
    return attempt


def train(attempt: Attempt, epochs: int, of: int) -> Attempt:
    attempt.go_on()
    lines = [
        {"epoch": epoch, "epochs": of, "loss": round(2 / epoch**0.5, 4), "accuracy": epoch / of}
        for epoch in range(1, epochs + 1)
    ]
    for half in (lines[: epochs // 2], lines[epochs // 2 :]):
        attempt.log(b"".join(b"PROGRESS: " + json.dumps(one).encode() + b"\n" for one in half))
    return attempt


def numbers(page: Page) -> list[int]:
    """The jobs that are shown, in their order."""
    rows = page.locator("tr[data-job]").evaluate_all("(all) => all.map((row) => row.dataset.job)")
    return [int(number) for number in rows]


def test_list_is_narrowed_sorted_and_paged_by_the_address(
    page: Page, server: RunningServer
) -> None:
    page.goto(server.url)
    stay(page)
    assert numbers(page) == list(range(JOBS, JOBS - 50, -1))
    page.get_by_role("link", name="Older").click()
    expect(page.locator("tr[data-job]")).to_have_count(10)
    expect(page.get_by_role("heading", level=1)).to_be_in_viewport()
    page.get_by_role("link", name="Newer").click()
    expect(page.locator("tr[data-job]")).to_have_count(50)
    assert numbers(page)[0] == JOBS

    page.get_by_label("Sort").select_option("Oldest first")
    expect(page.locator("tr[data-job]").first).to_have_id("job-1")
    page.get_by_label("Tag", exact=True).select_option("sweep")
    expect(page.locator("tr[data-job]")).to_have_count(4)
    assert re.search(r"/\?(?=.*tag=sweep)(?=.*sort=oldest)", page.url)
    assert "worker=" not in page.url
    page.locator(".chip").click()
    expect(page.get_by_label("Tag", exact=True)).to_have_value("")

    page.get_by_label("Sort").select_option("Longest running")
    expect(page.locator(".tabs").get_by_role("link", name="Running")).to_have_attribute(
        "aria-current", "true"
    )
    expect(page.locator("tr[data-job]")).to_have_count(4)
    assert numbers(page) == [3, 4, 5, 6]
    row = page.locator("#job-5")
    expect(row.locator(".left")).to_contain_text("left")
    expect(row.locator(".sparkline polyline")).to_have_count(1)

    page.locator(".tabs").get_by_role("link", name="All").click()
    page.get_by_label("Sort").select_option("Highest priority")
    expect(page.locator("tr[data-job]").first).to_have_id("job-59")
    page.get_by_role("link", name="Next").click()
    expect(page.locator("tr[data-job]")).to_have_count(10)
    assert has_stayed(page)
    page.reload()
    expect(page.locator("tr[data-job]")).to_have_count(10)
    expect(page.get_by_label("Sort")).to_have_value("priority")
    page.get_by_label("Submitter").select_option("ada")
    expect(page.locator(".chip")).to_have_text("submitter ada")
    page.get_by_label("Worker", exact=True).select_option("rack-1")
    expect(page.locator("tr[data-job]")).to_have_count(6)


def test_late_answer_for_the_view_before_does_not_stand_under_the_new_address(
    page: Page, server: RunningServer
) -> None:
    page.goto(server.url)
    expect(page.locator("connection-status")).to_have_text("Live")
    with held(page, re.compile("/fragments/jobs")) as release:
        page.wait_for_timeout(600)  # longer than changes are gathered for
        with page.expect_request(re.compile("/fragments/jobs")):
            change(page)
        page.get_by_label("Tag", exact=True).select_option("sweep")
        expect(page.locator(".chip")).to_have_text("tag sweep")
        release()
        expect(page.locator("tr[data-job]")).to_have_count(4)
    with held(page, re.compile(r"/\?.*submitter=ada")) as release:
        page.get_by_label("Submitter").select_option("ada")
        change(page)  # its list waits, and is then one of the new view
        with page.expect_request(re.compile("/fragments/jobs.*submitter=ada")):
            release()
    expect(page.locator(".chip")).to_have_text(["tag sweep", "submitter ada"])
    with held(page, re.compile(r"/\?.*status=failed")) as release:
        page.locator(".tabs").get_by_role("link", name="Failed").click()
        page.locator(".tabs").get_by_role("link", name="Running").click()
        expect(page.locator("tr[data-job]")).to_have_count(4)
        release()
    page.wait_for_url(re.compile("status=running"))
    expect(page.locator("tr[data-job]")).to_have_count(4)


def test_jobs_acted_on_in_a_view_that_was_left_are_told_in_the_new_one(
    page: Page, server: RunningServer
) -> None:
    page.goto(f"{server.url}/?sort=oldest")
    page.locator("#pick-2").check()
    with held(page, re.compile("/jobs/actions")) as release:
        page.locator(".bulk").get_by_role("button", name="Cancel").click()
        page.locator(".tabs").get_by_role("link", name="Running").click()
        expect(page.locator("tr[data-job]")).to_have_count(4)
        release()
    expect(page.locator("#outcome")).to_contain_text("It has ended already")
    expect(page.locator("tr[data-job]")).to_have_count(4)
    expect(page.locator(".tabs [aria-current]")).to_contain_text("Running")


@contextmanager
def held(page: Page, address: re.Pattern[str]) -> Iterator[Callable[[], None]]:
    """Keep requests for such an address until they are released; there has to be one then."""
    routes: list[Route] = []
    ended: list[Request] = []

    def hold(route: Route) -> None:
        routes.append(route)

    def end(request: Request) -> None:
        ended.append(request)

    def release() -> None:
        until(page, lambda: bool(routes))
        for route in routes:
            if route.request not in ended:  # the page has not dropped it
                route.continue_()
                until(page, lambda route=route: route.request in ended)
        page.wait_for_timeout(100)  # for what the page makes of the answer

    page.on("requestfinished", end)
    page.on("requestfailed", end)
    page.route(address, hold)
    yield release
    page.unroute(address)


def until(page: Page, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        page.wait_for_timeout(20)


def change(page: Page) -> None:
    """Tell the page that jobs have changed."""
    page.evaluate("document.body.dispatchEvent(new CustomEvent('dtrain:jobs'))")


def test_jobs_are_chosen_and_acted_on_together(
    page: Page, server: RunningServer, client: Client
) -> None:
    page.goto(server.url)
    stay(page)
    bar = page.locator(".bulk")
    expect(bar).to_be_hidden()
    page.locator("#pick-60").check()
    page.locator("#pick-57").click(modifiers=["Shift"])
    expect(bar).to_contain_text("4 jobs chosen")
    page.locator("#pick-all").check()
    expect(bar).to_contain_text("50 jobs chosen")
    bar.get_by_role("button", name="Clear").click()
    expect(bar).to_be_hidden()

    for number in (60, 59, 56):
        page.locator(f"#pick-{number}").check()
    bundle = zip_of(Path(server.folder, "more.zip"), {"main.py": "print('hello')\n"})
    late = client.submit(bundle, name="comes meanwhile").id
    expect(page.locator(f"#job-{late}")).to_be_visible()
    expect(bar).to_contain_text("3 jobs chosen")
    bar.get_by_role("button", name="Cancel").click()
    outcome = page.locator("#outcome")
    expect(outcome).to_contain_text("Cancel asked for: 2 of 3 jobs.")
    expect(outcome.locator(".refused")).to_contain_text("#56 job 56: It has ended already")
    expect(outcome).to_be_in_viewport()
    expect(outcome).to_be_focused()
    expect(page.locator("#job-60 .pill")).to_have_text("cancelled")
    expect(bar).to_be_hidden()

    page.locator("#pick-60").check()
    page.locator("#pick-58").check()
    bar.get_by_role("button", name="Retry").click()
    expect(outcome).to_contain_text(f"#60 job 60, now #{late + 1}")
    expect(outcome.locator(".refused")).to_contain_text("#58")

    page.locator("#pick-60").check()
    page.locator("#pick-59").check()
    bar.get_by_role("button", name="Delete").click()
    sure = page.get_by_role("dialog")
    expect(sure).to_contain_text("Delete 2 jobs?")
    sure.get_by_role("button", name="Keep").click()
    expect(sure).to_be_hidden()
    expect(page.locator("#job-60")).to_be_visible()
    bar.get_by_role("button", name="Delete").click()
    sure.get_by_role("button", name="Delete").click()
    expect(outcome).to_contain_text("Deleted: 2 jobs.")
    expect(outcome).to_be_focused()
    expect(page.locator("#job-60")).to_have_count(0)
    outcome.get_by_role("link", name="Close").click()
    expect(outcome).not_to_contain_text("Deleted")
    assert has_stayed(page)

    page.goto(f"{server.url}/?sort=oldest")
    page.locator("#pick-3").check()
    page.locator("#pick-4").check()
    with page.expect_request(re.compile(r"/compare\?jobs=")) as asked:
        bar.get_by_role("button", name="Compare").click()
    assert asked.value.url.endswith("/compare?jobs=3,4")


def test_actions_work_without_javascript(browser: Browser, server: RunningServer) -> None:
    with visit(browser, java_script_enabled=False) as page:
        page.goto(f"{server.url}/?status=pending&sort=oldest")
        page.locator("#pick-7").check()
        page.locator("#pick-9").check()
        page.get_by_role("button", name="Cancel").click()
        expect(page.locator("#outcome")).to_contain_text("Cancel asked for: 2 jobs.")
        expect(page.get_by_label("Sort")).to_have_value("oldest")
        page.goto(f"{server.url}/?status=cancelled&sort=oldest")
        page.locator("#pick-7").check()
        page.get_by_role("button", name="Delete").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Delete 1 job?")
        page.get_by_role("button", name="Delete").click()
        expect(page.locator("#outcome")).to_contain_text("Deleted: 1 job.")
        page.get_by_label("Sort").select_option("Newest first")
        page.get_by_role("button", name="Apply").click()
        expect(page.get_by_label("Sort")).to_have_value("")


def test_list_is_used_by_the_keyboard(page: Page, server: RunningServer) -> None:
    page.goto(f"{server.url}/?sort=oldest")
    page.keyboard.press("j")
    expect(page.locator("#job-1 .job-link")).to_be_focused()
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    page.keyboard.press("x")
    expect(page.locator("#pick-2")).to_be_checked()
    page.keyboard.press("/")
    expect(page.locator("#search")).to_be_focused()
    page.keyboard.type("jx?")
    expect(page.locator("#search")).to_have_value("jx?")
    page.goto(f"{server.url}/?sort=oldest")
    page.keyboard.press("?")
    keys = page.get_by_role("dialog", name="Keys")
    expect(keys).to_contain_text("Next job")
    page.keyboard.press("Escape")
    expect(keys).to_be_hidden()
    page.get_by_role("button", name="Keys").click()
    keys.get_by_role("checkbox").uncheck()
    keys.get_by_role("button", name="Close").click()
    page.keyboard.press("j")
    expect(page.locator("#job-1 .job-link")).not_to_be_focused()
    page.locator("#job-1 .job-link").focus()
    page.keyboard.press("Enter")
    page.wait_for_url(f"{server.url}/jobs/1")


def test_folder_is_handed_in_as_the_command_line_would(
    page: Page, server: RunningServer, client: Client, tmp_path: Path
) -> None:
    folder = tmp_path / "my-training"
    for path, text in {
        "main.py": "print('hello')\n",
        "data/a b.csv": "1,2\n" * 1000,
        "data/big.bin": "\0" * 3_000_000,
        "data/raw/x.csv": "1",
        "notes.log": "no",
        "keep.log": "yes",
        "lib/.gitignore": "*.tmp\n!kept.tmp\n",
        "lib/x.tmp": "no",
        "lib/kept.tmp": "yes",
        "lib/é.py": "pass",
        ".gitignore": "*.log\n!keep.log\n/data/raw/\n",
        "env/pyvenv.cfg": "home = /usr",
        "env/bin/python": "",
        "node_modules/x/index.js": "",
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    with (tmp_path / "expected.zip").open("wb") as expected:
        pack(folder, expected)

    page.goto(server.url)
    page.set_input_files("#file", folder / "main.py")
    expect(page.locator("bundle-picker output")).to_contain_text("main.py is no ZIP")
    page.set_input_files("#folder", folder)
    expect(page.locator("bundle-picker output")).to_contain_text("my-training/")
    contents = page.locator("[data-contents]")
    expect(contents).to_contain_text("main.py is there.")
    expect(contents.locator("li", has_text="env/")).to_contain_text("left out")
    page.fill("#field-main_entry", "train.py")
    expect(contents).to_contain_text("There is no train.py")
    page.fill("#field-main_entry", "")
    page.click("text=Submit job")
    page.wait_for_url(re.compile(r"/jobs/\d+$"))
    expect(page.get_by_role("heading", level=1)).to_have_text("my-training")

    received = tmp_path / "received.zip"
    with received.open("wb") as into:
        client.jobs.download_bundle(int(page.url.rpartition("/")[2]), into)
    ours, theirs = inspect(received), inspect(tmp_path / "expected.zip")
    assert {one.path: one.size for one in ours.files} == {
        one.path: one.size for one in theirs.files
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_list_looks_as_it_should(browser: Browser, server: RunningServer, scheme: Any) -> None:
    """Nothing is wider than the window; the pictures are kept for people to look at."""
    with visit(browser, color_scheme=scheme) as page:
        for width in (360, 1280, 2560):
            page.set_viewport_size({"width": width, "height": 900})
            page.goto(f"{server.url}/?sort=oldest")
            page.locator("#pick-4").check()
            wider = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert wider <= 0, f"{wider} pixels too wide at {width}"
            SCREENSHOTS.mkdir(exist_ok=True)
            page.screenshot(path=SCREENSHOTS / f"jobs-list-{width}-{scheme}.png")
