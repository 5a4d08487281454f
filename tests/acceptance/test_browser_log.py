"""A log of a million lines in a real browser, and what can be done with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from support.browser import visit
from support.example_job import zip_of
from support.processes import start_server
from support.scripted_worker import ScriptedWorker

from dtrain.client.client import Client

LINES = 1_000_000
PIECE = 1 << 20


def large_log() -> bytes:
    """A line in ten thousand is an error, the one before it a warning in colours."""
    block = [b"2026-01-01 10:00:00 - train - INFO - step %04d" % n for n in range(10_000)]
    block[4_999] = b"\x1b[1;33mWARNING\x1b[0m: \x1b[31mred\x1b[0m needle"
    block[5_000] = b"ERROR: " + b"long " * 200
    return b"\n".join(block * (LINES // len(block))) + b"\n"


@pytest.fixture(scope="module")
def large(
    tmp_path_factory: pytest.TempPathFactory, _no_process_outlives_the_run: str
) -> Iterator[str]:
    """The address of a page with a log of a million lines."""
    home = tmp_path_factory.mktemp("large")
    server = start_server(home / "server")
    worker = ScriptedWorker(server)
    client = Client(server.url)
    client.submit(zip_of(home / "bundle.zip", {"main.py": ""}), name="large")
    attempt = worker.take()
    attempt.go_on()
    data = large_log()
    for start in range(0, len(data), PIECE):
        attempt.log(data[start : start + PIECE])
    attempt.finish()
    worker.close()
    client.close()
    yield f"{server.url}/jobs/1"
    server.stop()


def shown(page: Page, number: int) -> Locator:
    """A line, if it is in the page."""
    return page.locator(f"log-view li[data-line='{number}']")


def test_a_million_lines_are_opened_and_gone_through(page: Page, large: str) -> None:
    page.goto(large)
    expect(shown(page, LINES)).to_have_text("2026-01-01 10:00:00 - train - INFO - step 9999")
    assert page.locator("log-view li").count() < 150
    page.locator("[data-scroller]").evaluate("(bar) => { bar.scrollTop = 0; }")
    expect(shown(page, 1)).to_be_in_viewport()
    page.locator("[data-scroller]").evaluate("(bar) => { bar.scrollTop = bar.scrollHeight; }")
    expect(shown(page, LINES)).to_be_in_viewport()

    page.locator("body").press("/")
    page.keyboard.type(":500001")
    page.keyboard.press("Enter")
    expect(shown(page, 500_001)).to_be_in_viewport()
    expect(page).to_have_url(f"{large}#L500001")
    page.locator("[data-scroller]").press("w")
    expect(page.get_by_role("button", name="Wrap")).to_have_attribute("aria-pressed", "true")
    expect(shown(page, 500_001)).to_be_in_viewport()


def test_a_link_leads_to_its_line(page: Page, large: str) -> None:
    page.goto(f"{large}#L5000")
    expect(shown(page, 5000)).to_be_in_viewport()
    expect(shown(page, 5000)).to_have_attribute("data-linked", "")
    coloured = shown(page, 5000).locator("span.ansi-bold.ansi-3")
    expect(coloured).to_have_text("WARNING")
    expect(shown(page, 5000)).to_have_text("WARNING: red needle")
    shown(page, 5002).locator("a").click()
    expect(shown(page, 5002)).to_have_attribute("data-linked", "")
    expect(page).to_have_url(f"{large}#L5002")


def test_the_whole_log_is_searched_and_filtered(page: Page, large: str) -> None:
    page.goto(large)
    field = page.get_by_role("searchbox", name="Search the log")
    field.fill("RED needle")
    field.press("Enter")
    expect(page.locator("[data-found]")).to_have_text("100 of 100")
    expect(shown(page, 995_000)).to_be_in_viewport()
    expect(shown(page, 995_000).locator("mark")).to_have_text(["red", " needle"])
    field.press("Enter")
    expect(page.locator("[data-found]")).to_have_text("1 of 100")
    expect(shown(page, 5000)).to_be_in_viewport()
    page.get_by_role("button", name="Previous match").click()
    expect(shown(page, 995_000)).to_be_in_viewport()

    field.fill("")
    page.get_by_label("Lines shown").select_option("ERROR")
    expect(page.locator("log-view li[data-level=ERROR]")).not_to_have_count(0)
    expect(page.locator("log-view li:not([data-level=ERROR])")).to_have_count(0)
    page.locator("[data-scroller]").evaluate("(bar) => { bar.scrollTop = 0; }")
    expect(shown(page, 5001)).to_be_in_viewport()
    expect(shown(page, 15_001)).to_be_in_viewport()
    page.get_by_label("Lines shown").select_option("PROGRESS")
    expect(page.locator("[data-none]")).to_have_text("No such line.")


def test_without_javascript_the_end_is_there_and_the_rest_a_link_away(
    browser: Browser, large: str
) -> None:
    with visit(browser, java_script_enabled=False) as page:
        page.goto(large)
        expect(page.locator("log-view li").last).to_have_text(
            "2026-01-01 10:00:00 - train - INFO - step 9999"
        )
        expect(page.locator("[data-earlier] a")).to_be_visible()
        expect(page.locator(".log-search")).to_be_hidden()
