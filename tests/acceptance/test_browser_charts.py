"""What charts say under the pointer, in a real browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from support.example_job import zip_of
from support.processes import RunningServer, start_server, wait_for
from support.scripted_worker import ScriptedWorker

from dtrain.client.client import Client


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, _no_process_outlives_the_run: str
) -> Iterator[RunningServer]:
    """A server with two jobs, of 11 steps and of 5; `rare` is in the first and last alone."""
    home = tmp_path_factory.mktemp("charts")
    found = start_server(home / "server")
    worker = ScriptedWorker(found)
    bundle = zip_of(home / "bundle.zip", {"main.py": ""})
    with Client(found.url) as client:
        for last in (10, 4):
            client.submit(bundle, name=f"{last} steps")
            attempt = worker.take()
            attempt.go_on()
            lines = [{"step": step, "loss": 100 + step} for step in range(last + 1)]
            for end in (0, last):
                lines[end]["val_loss"] = 200 + end
            attempt.log(b"".join(map(record, lines)))
            attempt.finish()
    worker.close()
    yield found
    found.stop()


def record(values: dict[str, Any]) -> bytes:
    return b"PROGRESS: " + json.dumps(values).encode() + b"\n"


def point_at(page: Page, share: float) -> None:
    """Move the pointer over the first chart, to a share of its width."""
    over = page.locator("metric-chart .u-over").first
    over.scroll_into_view_if_needed()
    box = over.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + share * box["width"], box["y"] + box["height"] / 2)


def value(page: Page, name: str) -> Any:
    return expect(page.locator(f"metric-chart [data-metric='{name}']").first)


def test_pointer_finds_the_nearest_value_of_each_line(page: Page, server: RunningServer) -> None:
    page.goto(f"{server.url}/jobs/1")
    expect(page.locator("metric-chart canvas")).to_have_count(1)
    value(page, "val_loss").to_have_text("210")
    point_at(page, 0.3)
    value(page, "loss").to_have_text("103")
    value(page, "val_loss").to_have_text("200")
    expect(page.locator(".pointed")).to_have_text("3")
    point_at(page, 0.7)
    value(page, "loss").to_have_text("107")
    value(page, "val_loss").to_have_text("210")
    page.mouse.move(0, 0)
    value(page, "loss").to_have_text("110")
    expect(page.locator(".pointed")).to_be_hidden()


def test_keys_of_a_job_are_shown_and_turned_off(page: Page, server: RunningServer) -> None:
    page.goto(f"{server.url}/jobs/1")
    wrap = page.get_by_role("button", name="Wrap")
    page.keyboard.press("w")
    expect(wrap).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("?")
    keys = page.get_by_role("dialog", name="Keys")
    expect(keys).to_contain_text("Follow the log")
    keys.get_by_role("checkbox").uncheck()
    page.keyboard.press("Escape")
    expect(keys).to_be_hidden()
    page.keyboard.press("w")
    page.keyboard.press("/")
    expect(wrap).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("searchbox", name="Search the log")).not_to_be_focused()


def test_choices_of_how_things_are_shown_are_kept(page: Page, server: RunningServer) -> None:
    page.goto(f"{server.url}/jobs/1")
    page.get_by_label("Axis").select_option("time")
    page.get_by_label("Log scale").check()
    page.get_by_label("Smoothing").fill("0.5")
    page.get_by_role("button", name="Wrap").click()
    page.goto(f"{server.url}/jobs/2")
    expect(page.get_by_label("Axis")).to_have_value("time")
    expect(page.get_by_label("Log scale")).to_be_checked()
    expect(page.get_by_label("Smoothing")).to_have_value("0.5")
    expect(page.get_by_role("button", name="Wrap")).to_have_attribute("aria-pressed", "true")
    page.goto(f"{server.url}/compare?jobs=1,2")
    expect(page.get_by_label("Axis")).to_have_value("time")


def test_pointer_beyond_the_end_of_a_line_finds_none(page: Page, server: RunningServer) -> None:
    page.goto(f"{server.url}/compare?jobs=1,2")
    expect(page.locator("metric-chart canvas")).to_have_count(2)
    point_at(page, 0.2)
    value(page, "1").to_have_text("102")
    value(page, "2").to_have_text("102")
    point_at(page, 0.8)
    value(page, "1").to_have_text("108")
    value(page, "2").to_have_text("–")


def test_what_is_zoomed_into_is_drawn_of_all_its_values(
    page: Page, tmp_path: Path, server: RunningServer
) -> None:
    """Of 40,000 steps some are drawn; of a few dozen each is, also one that has two records."""
    worker = ScriptedWorker(server)
    with Client(server.url) as client:
        job = client.submit(zip_of(tmp_path / "bundle.zip", {"main.py": ""}), name="long")
    attempt = worker.take()
    attempt.go_on()
    for begin in range(0, 40_000, 4_000):
        steps = range(begin, begin + 4_000)
        attempt.log(b"".join(record({"step": step, "loss": step % 7}) for step in steps))
        if begin == 16_000:
            attempt.log(record({"step": 19_999, "val_loss": 0.25}))
    attempt.finish()
    worker.close()
    page.goto(f"{server.url}/jobs/{job.id}")
    expect(page.locator("metric-chart canvas").first).to_be_visible()
    page.get_by_role("group", name="Chart of").first.focus()
    for _ in range(10):
        page.keyboard.press("+")
    wait_for(lambda: follow_each_other(pointed_places(page)), "every step to be drawn")
    page.keyboard.press("0")
    assert not follow_each_other(pointed_places(page))


def follow_each_other(steps: list[int]) -> bool:
    return len(steps) > 15 and steps == list(range(steps[0], steps[-1] + 1))


def pointed_places(page: Page) -> list[int]:
    """The steps that are found under the pointer on its way across the first chart."""
    found = []
    for pixel in range(0, 1000, 8):
        point_at(page, pixel / 1000)
        text = page.locator(".pointed").first.text_content() or ""
        number = int(text.replace(",", "").replace("\u202f", "").replace(" ", ""))
        if not found or found[-1] != number:
            found.append(number)
    return found
