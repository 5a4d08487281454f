"""One event stream for all tabs of a browser, which goes on whatever happens to it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from support.browser import visit
from support.example_job import zip_of
from support.processes import RunningServer, wait_for
from support.scripted_worker import Attempt, ScriptedWorker

from dtrain.client.client import Client

LIVE = "connection-status[data-state=open]"
# What is permitted is permitted to all tabs, as in a browser.
NOTIFICATIONS = """
window.told = [];
window.Notification = class extends EventTarget {
  static get permission() { return localStorage.getItem("permission") ?? "default"; }
  static async requestPermission() {
    localStorage.setItem("permission", "granted");
    return this.permission;
  }
  constructor(title, options) {
    super();
    window.told.push(`${options.tag}: ${title}: ${options.body}`);
  }
};
"""
HIDE = """Object.defineProperty(document, "hidden", { get: () => true, configurable: true })"""
LOOK = """delete document.hidden; document.dispatchEvent(new Event("visibilitychange"))"""

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture
def scripted(server: RunningServer) -> Iterator[ScriptedWorker]:
    worker = ScriptedWorker(server)
    yield worker
    worker.close()


@pytest.fixture
def client(server: RunningServer) -> Iterator[Client]:
    found = Client(server.url)
    yield found
    found.close()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return zip_of(tmp_path / "bundle.zip", {"main.py": "print('hello')\n"})


def take(scripted: ScriptedWorker) -> Attempt:
    """The next job, executing."""
    attempt = scripted.take()
    attempt.go_on()
    return attempt


def open_streams(server: RunningServer) -> int:
    """How many the server says it holds."""
    found = re.search(r"^dtrain_streams (\S+)$", server.read("/metrics").decode(), re.MULTILINE)
    assert found is not None
    return int(float(found[1]))


def have_streams(server: RunningServer, count: int) -> None:
    """Wait until the server holds so many."""
    wait_for(lambda: open_streams(server) == count or None, f"{count} open streams")


def opened(page: Page, address: str) -> Page:
    """Another tab of the same browser."""
    tab = page.context.new_page()
    tab.goto(address)
    expect(tab.locator(LIVE)).to_be_visible()
    return tab


def texts(tab: Page) -> list[str]:
    return tab.locator("log-view li").all_text_contents()


def test_ten_tabs_share_one_stream(
    page: Page, server: RunningServer, scripted: ScriptedWorker, client: Client, bundle: Path
) -> None:
    page.goto(server.url)
    expect(page.locator(LIVE)).to_be_visible()
    tabs = [opened(page, server.url) for _ in range(9)]
    have_streams(server, 1)
    client.submit(bundle, name="for all")
    for tab in (page, *tabs):
        expect(tab.locator("#job-1")).to_contain_text("for all")

    page.close()
    attempt = take(scripted)
    for tab in tabs:
        expect(tab.locator("#job-1 .pill")).to_have_text("running")
    have_streams(server, 1)

    server.kill()
    for tab in tabs:
        expect(tab.locator("connection-status")).to_have_text("Reconnecting…")
    server.restart()
    attempt.finish()
    for tab in tabs:
        expect(tab.locator("#job-1 .pill")).to_have_text("completed")
        expect(tab.locator(LIVE)).to_be_visible()
    have_streams(server, 1)
    for tab in tabs:
        tab.close()
    have_streams(server, 0)


def test_tabs_of_one_job_share_its_stream_and_miss_nothing(
    page: Page, server: RunningServer, scripted: ScriptedWorker, client: Client, bundle: Path
) -> None:
    client.submit(bundle, name="shared")
    page.goto(f"{server.url}/jobs/1")  # before it has a log
    expect(page.locator(LIVE)).to_be_visible()
    attempt = take(scripted)
    attempt.log(b"one\ntwo")
    expect(page.locator("log-view li")).to_have_text(["one", "two"])
    second = opened(page, f"{server.url}/jobs/1")
    attempt.log(b" and a half\nthree\n")
    third = opened(page, f"{server.url}/jobs/1")
    have_streams(server, 1)
    server.kill()
    server.restart()
    attempt.log(b"four\n")
    wanted = ["one", "two and a half", "three", "four"]
    for tab in (page, second, third):
        expect(tab.locator("log-view li")).to_have_text(wanted)
    attempt.finish()
    for tab in (page, second, third):
        expect(tab.locator("#job-head .state .pill")).to_have_text("completed")
        assert texts(tab) == wanted
    have_streams(server, 0)


def test_hidden_tab_gives_its_stream_up_where_tabs_cannot_share(
    browser: Browser, server: RunningServer, client: Client, bundle: Path
) -> None:
    with visit(browser) as page:
        page.add_init_script("delete window.SharedWorker")
        page.goto(server.url)
        expect(page.locator(LIVE)).to_be_visible()
        have_streams(server, 1)
        page.evaluate(f"{HIDE}; document.dispatchEvent(new Event('visibilitychange'))")
        have_streams(server, 0)
        client.submit(bundle, name="meanwhile")
        page.evaluate(LOOK)
        expect(page.locator("#job-1")).to_contain_text("meanwhile")


def test_browser_tells_when_a_watched_job_ends(
    page: Page, server: RunningServer, scripted: ScriptedWorker, client: Client, bundle: Path
) -> None:
    page.context.add_init_script(NOTIFICATIONS)
    client.submit(bundle, name="watched")
    client.submit(bundle, name="unwatched")
    page.goto(f"{server.url}/jobs/1")
    elsewhere = opened(page, server.url)
    button = page.get_by_role("button", name="Tell me when it ends")
    expect(button).to_have_attribute("aria-pressed", "false")
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")
    first, other = take(scripted), take(scripted)
    other.finish()
    expect(elsewhere.locator("#job-2 .pill")).to_have_text("completed")
    page.evaluate(HIDE)
    first.finish(exit_code=1)
    expect(page).to_have_title(re.compile("^● Failed"))
    told = "[...window.told]"
    wait_for(lambda: page.evaluate(told) or elsewhere.evaluate(told), "a notification")
    # Of two with the same tag a browser shows one.
    assert {*page.evaluate(told), *elsewhere.evaluate(told)} == {"dtrain-1: Job #1 failed: watched"}
    page.evaluate(LOOK)
    expect(page).to_have_title(re.compile("^Failed"))
