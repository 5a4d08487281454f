"""Pages that stay current by themselves, in a real browser; the worker does what the test says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from support.browser import SCREENSHOTS, has_stayed, stay, visit
from support.example_job import zip_of
from support.pictures import picture
from support.processes import RunningServer, wait_for
from support.scripted_worker import Attempt, ScriptedWorker

from dtrain.client.client import Client
from dtrain.protocol.states import Cause

HOSTILE = (
    "<script>window.pwned=1</script>\"'<img src=x onerror=window.pwned=1> \u202egpj.exe {{7*7}}"
)


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


def record(**values: Any) -> bytes:
    """A line that reports progress."""
    return b"PROGRESS: " + json.dumps(values).encode() + b"\n"


def take(scripted: ScriptedWorker) -> Attempt:
    """The next job, executing."""
    attempt = scripted.take()
    attempt.go_on()
    return attempt


def log_of(page: Page) -> list[tuple[str | None, str | None, str]]:
    """The lines that are shown: number, level, text."""
    found: list[tuple[str | None, str | None, str]] = page.locator("log-view li").evaluate_all(
        "(lines) => lines.map((line) => [line.dataset.line, line.dataset.level, line.textContent])"
    )
    return found


def test_list_follows_what_happens(
    page: Page, server: RunningServer, scripted: ScriptedWorker, client: Client, bundle: Path
) -> None:
    page.goto(server.url)
    expect(page.locator("connection-status")).to_have_text("Live")
    stay(page)
    client.submit(bundle, name="watched", tags=["red"])
    row = page.locator("#job-1")
    expect(row).to_contain_text("watched")
    expect(row.locator(".pill")).to_have_text("pending")

    attempt = take(scripted)
    expect(row.locator(".state")).to_have_text("running")
    expect(page).to_have_title("1 running · Jobs · DTrain")
    attempt.log(record(epoch=1, epochs=4, loss=0.5))
    expect(row.locator("progress")).to_have_js_property("value", 0.25)
    row.locator("progress").evaluate("(bar) => { bar.kept = true; }")
    attempt.log(record(epoch=2, epochs=4, loss=0.25))
    expect(row.locator("progress")).to_have_js_property("value", 0.5)
    expect(row.locator("[data-percent]")).to_have_text("50%")
    expect(row.locator("[data-value=loss]")).to_have_text("0.25")
    assert row.locator("progress").evaluate("(bar) => bar.kept === true")

    attempt.finish()
    expect(row.locator(".pill")).to_have_text("completed")
    expect(page.get_by_role("link", name="Completed")).to_contain_text("1")
    assert has_stayed(page)


def test_list_is_filtered_in_place_and_by_the_address(
    page: Page, server: RunningServer, scripted: ScriptedWorker, client: Client, bundle: Path
) -> None:
    client.submit(bundle, name="taken", tags=["red"])
    take(scripted)
    client.submit(bundle, name="waiting")
    page.goto(server.url)
    stay(page)
    page.set_input_files("#file", bundle)
    page.get_by_role("link", name="Running").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page).to_have_url(f"{server.url}/?status=running")
    page.get_by_role("link", name="All 2").click()
    expect(page.locator("tbody tr")).to_have_count(2)
    page.locator("tbody").get_by_role("link", name="red").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator(".chip")).to_have_text("tag red")
    page.locator(".chip").click()
    expect(page.locator("tbody tr")).to_have_count(2)
    page.locator("#search").press_sequentially("wait")
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("#search")).to_be_focused()
    expect(page).to_have_url(re.compile(r"\?q=wait$"))
    assert has_stayed(page)
    expect(page.locator("bundle-picker output")).to_contain_text("bundle.zip")

    page.go_back()
    expect(page.locator("tbody tr")).to_have_count(2)
    page.goto(f"{server.url}/?status=pending")
    expect(page.locator("tbody tr")).to_have_count(1)


def test_log_that_streams_in_is_as_the_server_renders_it(
    page: Page, server: RunningServer, scripted: ScriptedWorker, client: Client, bundle: Path
) -> None:
    client.submit(bundle, name="log")
    attempt = take(scripted)
    attempt.log(b"first\nunfini")
    page.goto(f"{server.url}/jobs/1")
    expect(page.locator("log-view li")).to_have_text(["first", "unfini"])
    expect(page.locator("connection-status")).to_have_text("Live")
    snowman = "☃".encode()
    for piece in (
        b"shed\n",
        b"snow" + snowman[:2],
        snowman[2:] + b"man\n",
        b"caf\xe9 \xff\xfe\n",
        b"\r10%|#   |",
        b"\r50%|##  |",
        b"\r100%|####|\n",
        b"\x1b[33mWARNING\x1b[0m: yellow\n",
        b"<b>bold</b> \x1b]8;;http://evil.example\x07link\x1b]8;;\x07 bell\x07\n",
        b"2026-01-01 10:00:00 - x - ERROR - oh\n\n  indented\ttabbed\n",
        record(loss=0.5),
        b"the end",
    ):
        attempt.log(piece)
    attempt.finish()
    expect(page.locator("#job-head .state .pill")).to_have_text("completed")
    expect(page.locator("log-view li").last).to_have_text("the end")
    streamed = log_of(page)
    assert [text for _, _, text in streamed][:5] == [
        "first",
        "unfinished",
        "snow☃man",
        "caf� ��",
        "100%|####|",
    ]
    page.reload()
    wait_for(lambda: log_of(page) == streamed, "the log as it was streamed")


def test_log_shows_a_bar_while_it_grows(
    page: Page, server: RunningServer, scripted: ScriptedWorker, client: Client, bundle: Path
) -> None:
    client.submit(bundle, name="bar")
    attempt = take(scripted)
    page.goto(f"{server.url}/jobs/1")
    expect(page.locator("connection-status")).to_have_text("Live")
    for percent in (10, 50, 90):
        attempt.log(b"\r%d%%" % percent)
        expect(page.locator("log-view li")).to_have_text([f"{percent}%"])


def test_log_is_followed_until_the_reader_scrolls(
    page: Page, server: RunningServer, scripted: ScriptedWorker, client: Client, bundle: Path
) -> None:
    client.submit(bundle, name="scroll")
    attempt = take(scripted)
    attempt.log(b"".join(b"line %d\n" % number for number in range(500)))
    page.goto(f"{server.url}/jobs/1")
    expect(page.locator("connection-status")).to_have_text("Live")
    follow = page.get_by_role("button", name="Follow")
    expect(page.locator("log-view li").last).to_be_in_viewport()
    page.locator("[data-scroller]").evaluate("(place) => { place.scrollTop = 0; }")
    expect(follow).to_have_attribute("aria-pressed", "false")
    expect(page.locator("log-view li").first).to_have_text("line 0")
    attempt.log(b"one more\nand another\n")
    page.get_by_role("button", name="2 new lines").click()
    expect(follow).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("button", name="new lines")).to_have_count(0)
    expect(page.locator("log-view li").last).to_have_text("and another")
    expect(page.locator("log-view li").last).to_be_in_viewport()
    page.keyboard.press("f")
    expect(follow).to_have_attribute("aria-pressed", "false")
    attempt.log(b"and one\n")
    expect(page.get_by_role("button", name="1 new line")).to_be_visible()


def test_page_catches_up_after_the_server_was_killed(
    page: Page, server: RunningServer, scripted: ScriptedWorker, client: Client, bundle: Path
) -> None:
    client.submit(bundle, name="survivor")
    attempt = take(scripted)
    attempt.log(b"before\n" + record(epoch=1, epochs=2, loss=2.0))
    page.goto(f"{server.url}/jobs/1")
    expect(page.locator("log-view li")).to_have_count(2)
    stay(page)
    server.kill()
    expect(page.locator("connection-status")).to_have_text("Reconnecting…")
    server.restart()
    attempt.log(b"meanwhile\n" + record(epoch=2, epochs=2, loss=1.0))
    expect(page.locator("connection-status")).to_have_text("Live")
    expect(page.locator("log-view li")).to_have_count(4)
    attempt.log(b"after\n")
    attempt.finish()
    expect(page.locator("#job-head .state .pill")).to_have_text("completed")
    lines = [text for _, _, text in log_of(page)]
    assert [line for line in lines if "PROGRESS" not in line] == ["before", "meanwhile", "after"]
    expect(page.locator("#job-head [data-value=loss]")).to_have_text("1")
    assert has_stayed(page)


def test_next_attempt_begins_its_log_anew(
    page: Page, server: RunningServer, scripted: ScriptedWorker, client: Client, bundle: Path
) -> None:
    client.submit(bundle, name="twice", max_retries=1)
    attempt = take(scripted)
    attempt.log(b"first try\n")
    page.goto(f"{server.url}/jobs/1")
    expect(page.locator("log-view li")).to_have_text(["first try"])
    attempt.finish(exit_code=1)
    expect(page.locator("#job-head")).to_contain_text("retry wait")
    again = take(scripted)
    again.log(b"second try\n")
    expect(page.locator("log-view li")).to_have_text(["second try"])
    page.get_by_label("Attempt", exact=True).select_option("1")
    expect(page.locator("log-view li")).to_have_text(["first try"])
    again.log(b"unseen\n")
    page.get_by_label("Attempt", exact=True).select_option("2")
    expect(page.locator("log-view li")).to_have_text(["second try", "unseen"])
    again.finish()
    expect(page.locator("#job-head .state .pill")).to_have_text("completed")


def test_charts_come_with_the_series(
    page: Page, server: RunningServer, scripted: ScriptedWorker, client: Client, bundle: Path
) -> None:
    client.submit(bundle, name="charts")
    attempt = take(scripted)
    page.goto(f"{server.url}/jobs/1")
    expect(page.locator("connection-status")).to_have_text("Live")
    expect(page.locator("#job-charts")).to_be_hidden()
    attempt.log(record(step=1, loss=1.0))
    expect(page.locator("metric-chart canvas")).to_have_count(1)
    attempt.log(record(step=2, loss=float("nan"), accuracy=0.5) + record(step=3, val_loss=0.9))
    expect(page.locator("metric-chart canvas")).to_have_count(2)
    expect(page.locator("#chart-1 .series")).to_have_count(2)
    expect(page.locator("#chart-1 [data-metric=loss]")).to_have_text("1")
    expect(page.locator("#chart-2 [data-metric=accuracy]")).to_have_text("0.5")
    before = page.locator("#chart-1 canvas").evaluate("(canvas) => canvas.toDataURL()")
    attempt.log(record(step=4, loss=0.1))
    expect(page.locator("#chart-1 [data-metric=loss]")).to_have_text("0.1")
    canvas = page.locator("#chart-1 canvas")
    wait_for(lambda: canvas.evaluate("(canvas) => canvas.toDataURL()") != before, "another drawing")


def test_charts_are_looked_at_closer(
    page: Page, server: RunningServer, scripted: ScriptedWorker, client: Client, bundle: Path
) -> None:
    def drawn() -> str:
        page.evaluate("new Promise(requestAnimationFrame)")
        found: str = page.locator("#chart-1 canvas").evaluate("(canvas) => canvas.toDataURL()")
        return found

    client.submit(bundle, name="charts")
    attempt = take(scripted)
    attempt.log(b"".join(record(step=step, loss=1.5 + (-1) ** step) for step in range(3000)))
    page.goto(f"{server.url}/jobs/1")
    expect(page.locator("#chart-1 [data-metric=loss]")).to_have_text("0.5")
    whole = drawn()
    page.locator("#chart-1 [data-plot]").press("+")
    wait_for(lambda: drawn() != whole, "a part of the chart")
    page.get_by_role("button", name="Reset zoom").click()
    wait_for(lambda: drawn() == whole, "the whole of it")
    page.get_by_label("Log scale").check()
    scaled = wait_for(lambda: (now := drawn()) != whole and now, "another scale")
    page.get_by_label("Axis").select_option("time")
    page.get_by_label("Axis").select_option("step")
    wait_for(lambda: drawn() == scaled, "the same picture")
    page.get_by_label("Log scale").uncheck()
    page.get_by_label("Smoothing").fill("0.9")
    expect(page.locator("#chart-1 [data-metric=loss]")).not_to_have_text("0.5")


def test_nothing_hostile_runs(
    page: Page, server: RunningServer, client: Client, bundle: Path
) -> None:
    scripted = ScriptedWorker(server, name=HOSTILE[:95])
    client.submit(bundle, name=HOSTILE, tags=[HOSTILE[:90]], args=[HOSTILE], env={"A": HOSTILE})
    attempt = take(scripted)
    page.goto(server.url)
    expect(page.locator("tbody tr")).to_have_count(1)
    page.goto(f"{server.url}/jobs/1")
    expect(page.locator("connection-status")).to_have_text("Live")
    attempt.log(HOSTILE.encode() + b"\n\x1b[2J\x1b]0;title\x07\n")
    attempt.log(
        record(**{"<script>window.pwned=1</script>": 1.5, "</progress>": 2, "note": HOSTILE})
    )
    attempt.log(record(**{"\"'><img src=x onerror=window.pwned=1>": 3, "__proto__": 4}))
    attempt.leave("<img src=x onerror=window.pwned=1>.png", picture())
    attempt.leave("a/../\"'\u202egpj.exe".replace("/../", "-"), b"MZ")
    expect(page.locator("metric-chart canvas")).not_to_have_count(0)
    attempt.finish(exit_code=1, traceback=f"Traceback:\n{HOSTILE}", message=HOSTILE)
    expect(page.locator("#job-head .state .pill")).to_have_text("failed")
    expect(page.locator("#job-facts .artifacts li")).to_have_count(2)
    assert HOSTILE.replace("\u202e", "�") in [text for _, _, text in log_of(page)]
    for path in ("/jobs/1", "/", "/workers", "/?q=%3Cscript%3Ewindow.pwned%3D1%3C/script%3E"):
        page.goto(server.url + path)
        page.wait_for_load_state("load")
        assert "pwned" in page.content()
        assert "49" not in page.title()
        assert page.evaluate("window.pwned") is None
    scripted.close()


def test_workers_come_and_are_drained(
    page: Page, server: RunningServer, client: Client, bundle: Path
) -> None:
    page.goto(f"{server.url}/workers")
    expect(page.locator("#workers")).to_contain_text("No worker has joined yet")
    scripted = ScriptedWorker(server, name="newcomer")
    client.submit(bundle, name="what runs")
    attempt = take(scripted)
    card = page.locator(".worker")
    expect(card).to_contain_text("newcomer")
    expect(card).to_contain_text("#1 what runs")
    scripted.commands()  # it is shown as offline after 30 s of silence
    card.get_by_role("button", name="Drain").click()
    expect(card.locator(".pill")).to_have_text("draining")
    scripted.commands()
    card.get_by_role("button", name="Resume").click()
    expect(card.locator(".pill")).to_have_text("online")
    attempt.finish(Cause.EXITED)
    scripted.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1440])
def test_pages_look_as_they_should(
    browser: Browser,
    server: RunningServer,
    scripted: ScriptedWorker,
    client: Client,
    bundle: Path,
    scheme: Any,
    width: int,
) -> None:
    """Nothing is wider than the window; the pictures are kept for people to look at."""
    _fill(scripted, client, bundle)
    viewport: Any = {"width": width, "height": 900}
    with visit(browser, viewport=viewport, color_scheme=scheme) as page:
        for name, path in (
            ("jobs", "/"),
            ("none", "/?status=cancelled"),
            ("completed", "/jobs/1"),
            ("failed", "/jobs/2"),
            ("running", "/jobs/3"),
            ("pending", "/jobs/4"),
            ("workers", "/workers"),
            ("missing", "/jobs/99"),
        ):
            page.goto(server.url + path)
            if name in {"completed", "running"}:
                expect(page.locator("metric-chart canvas")).to_have_count(3)
            wider = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert wider <= 0, f"{name} is {wider} pixels too wide"
            SCREENSHOTS.mkdir(exist_ok=True)
            page.screenshot(path=SCREENSHOTS / f"{name}-{width}-{scheme}.png", full_page=True)


def _fill(scripted: ScriptedWorker, client: Client, bundle: Path) -> None:
    """A job in each state that a page shows differently."""
    client.submit(bundle, name="digits, a small network", tags=["digits", "baseline"])
    _train(scripted, 40, 40).finish()
    client.submit(bundle, name="A name that is so long that it cannot stand in one line " * 2)
    failed = take(scripted)
    failed.log(b"INFO: begins\nTraceback (most recent call last):\nValueError: no such file\n")
    failed.finish(
        exit_code=1, traceback="Traceback (most recent call last):\nValueError: no such file"
    )
    client.submit(bundle, name="wide network", tags=["sweep-7", "cifar", "long", "night", "more"])
    _train(scripted, 23, 60)
    client.submit(bundle, name="needs a GPU", gpus=2, labels={"room": "lab"})


def _train(scripted: ScriptedWorker, epochs: int, of: int) -> Attempt:
    attempt = take(scripted)
    for epoch in range(1, epochs + 1):
        loss = round(2 / epoch**0.5, 4)
        line = b"Epoch %d/%d\n" % (epoch, of)
        attempt.log(
            line
            + record(
                epoch=epoch,
                epochs=of,
                loss=loss,
                val_loss=loss * 1.1,
                accuracy=1 - loss / 3,
                lr=0.001,
            )
        )
    attempt.leave("confusion_matrix.png", picture())
    attempt.leave("model.npz", bytes(123_456))
    return attempt
