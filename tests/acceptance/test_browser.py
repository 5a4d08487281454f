"""What people do in a browser, in a real one, with a real server and a real worker."""

from __future__ import annotations

import re
import secrets
from pathlib import Path

from playwright.sync_api import Browser, Page, expect
from support.api import wait_for_status
from support.browser import has_stayed, stay, visit
from support.example_job import MAIN, expected_log, zip_of
from support.processes import RunningServer, RunningWorker, start_server

SLEEPER = "import time\nprint('asleep', flush=True)\ntime.sleep(3600)\n"
COLLECT = """
(selector) => {
  window.seen = [];
  const note = () => {
    const text = document.querySelector(selector)?.textContent;
    if (text && window.seen.at(-1) !== text) window.seen.push(text);
  };
  new MutationObserver(note).observe(document.body, {
    subtree: true, childList: true, characterData: true,
  });
}
"""


def log_lines(page: Page) -> list[str]:
    return page.locator("log-view li").all_text_contents()


def hand_in(page: Page, server: RunningServer, bundle: Path, name: str = "") -> None:
    """Fill in the form and send it."""
    page.goto(server.url)
    page.set_input_files("#file", bundle)
    page.fill("#field-name", name)
    page.click("text=Submit job")
    page.wait_for_url(re.compile(r"/jobs/\d+$"))


def test_uploaded_job_completes_before_ones_eyes(
    page: Page, server: RunningServer, worker: RunningWorker, tmp_path: Path
) -> None:
    bundle = zip_of(tmp_path / "my_training_job.zip", {"main.py": MAIN})
    page.goto(server.url)
    expect(page.get_by_role("heading", name="Hand in the first job")).to_be_visible()
    page.set_input_files("#file", bundle)
    expect(page.locator("bundle-picker output")).to_contain_text("my_training_job.zip")
    expect(page.locator("#field-name")).to_have_attribute("placeholder", "my_training_job")

    page.click("text=Submit job")
    page.wait_for_url(f"{server.url}/jobs/1")
    stay(page)
    page.evaluate(COLLECT, "[data-value=epoch]")
    expect(page.get_by_role("heading", level=1)).to_have_text("my_training_job")
    expect(page.locator("#job-head .state .pill")).to_have_text("completed")

    assert has_stayed(page)
    seen = page.evaluate("window.seen")  # a slow browser may miss some
    assert seen == sorted(seen)
    assert len(seen) > 1
    assert seen[-1] == "5"
    expect(page.locator("#job-charts canvas")).to_have_count(2)
    expect(page.locator("metric-chart [data-metric=accuracy]")).to_have_text("1")
    expected = expected_log().splitlines()
    assert log_lines(page)[-len(expected) :] == expected
    expect(page.locator("#job-facts")).to_contain_text(worker.title)


def test_job_can_be_cancelled_while_it_runs(
    page: Page, server: RunningServer, worker: RunningWorker, tmp_path: Path
) -> None:
    hand_in(page, server, zip_of(tmp_path / "sleeper.zip", {"main.py": SLEEPER}))
    expect(page.locator("log-view")).to_contain_text("asleep")
    page.click("text=Cancel")
    expect(page.locator("#job-head .state .pill")).to_have_text("cancelled")
    assert wait_for_status(server.url, 1, "cancelled")["reason"] == "user"
    expect(page.locator("#job-head .callout")).to_contain_text("The job was cancelled.")


def test_job_can_be_retried(page: Page, server: RunningServer, tmp_path: Path) -> None:
    hand_in(page, server, zip_of(tmp_path / "x.zip", {"main.py": SLEEPER}), "again")
    page.click("text=Cancel")
    page.get_by_role("button", name="Retry").click()
    page.wait_for_url(f"{server.url}/jobs/2")
    expect(page.get_by_role("heading", level=1)).to_have_text("again")
    expect(page.locator("#job-head")).to_contain_text("retry of #1")


def test_job_that_waits_says_why(page: Page, server: RunningServer, tmp_path: Path) -> None:
    hand_in(page, server, zip_of(tmp_path / "x.zip", {"main.py": SLEEPER}))
    expect(page.locator("#job-head .callout")).to_contain_text("No worker has joined yet")


def test_refused_upload_says_why_and_keeps_what_was_entered(
    page: Page, server: RunningServer, tmp_path: Path
) -> None:
    page.goto(server.url)
    stay(page)
    (tmp_path / "notes.zip").write_text("not a ZIP at all")
    page.set_input_files("#file", tmp_path / "notes.zip")
    page.fill("#field-name", "kept")
    page.click("summary:text-is('More')")
    page.fill("#field-tags", "red, blue")
    page.click("text=Submit job")
    expect(page.locator("#form-error")).to_contain_text("ZIP")
    expect(page.locator("#file")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#file")).to_be_focused()
    expect(page.locator("#field-name")).to_have_value("kept")
    expect(page.locator("#field-tags")).to_have_value("red, blue")

    page.set_input_files("#file", zip_of(tmp_path / "good.zip", {"main.py": SLEEPER}))
    page.fill("#field-time_limit", "soon")
    page.click("text=Submit job")
    expect(page.locator("#form-error")).to_contain_text("soon")
    expect(page.locator("#field-time_limit")).to_be_focused()
    expect(page.locator("#file")).not_to_have_attribute("aria-invalid", "true")
    assert has_stayed(page)

    page.fill("#field-time_limit", "90s")
    page.click("text=Submit job")  # the file is still chosen
    page.wait_for_url(f"{server.url}/jobs/1")
    expect(page.locator("#job-facts")).to_contain_text("1m 30s")


def test_zip_can_be_dropped_anywhere(page: Page, server: RunningServer, tmp_path: Path) -> None:
    content = list(zip_of(tmp_path / "x.zip", {"main.py": SLEEPER}).read_bytes())
    page.goto(server.url)
    drop = """(content) => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([new Uint8Array(content)], "dropped.zip"));
      for (const kind of ["dragover", "drop"]) {
        const options = { dataTransfer: transfer, bubbles: true, cancelable: true };
        document.querySelector("h1").dispatchEvent(new DragEvent(kind, options));
      }
    }"""
    page.evaluate(drop, content)
    expect(page.locator("bundle-picker output")).to_contain_text("dropped.zip")
    page.click("text=Submit job")
    page.wait_for_url(f"{server.url}/jobs/1")
    expect(page.get_by_role("heading", level=1)).to_have_text("dropped")


def test_pages_behind_an_access_token(browser: Browser, tmp_path: Path) -> None:
    token = "a-token-for-this-test-alone"
    server = start_server(tmp_path / "server", DTRAIN_ACCESS_TOKEN=token)
    bundle = zip_of(tmp_path / "x.zip", {"main.py": SLEEPER})
    with visit(browser) as page:
        page.goto(f"{server.url}/?status=pending")
        page.get_by_label("Access token").fill("a wrong one")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("alert").last).to_contain_text("not the access token")
        page.get_by_label("Access token").fill(token)
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url(f"{server.url}/?status=pending")
        hand_in(page, server, bundle)
        expect(page.locator("connection-status")).to_have_text("Live")
        page.get_by_role("button", name="Cancel").click()
        expect(page.locator("#job-head .state .pill")).to_have_text("cancelled")

        with page.expect_response("**/fragments/jobs"):
            page.goto(server.url)
        other = page.context.new_page()
        other.goto(server.url)
        other.get_by_role("button", name="Log out").click()
        expect(other.get_by_label("Access token")).to_be_visible()
        page.get_by_role("link", name="Failed").click()
        expect(page.get_by_label("Access token")).to_be_visible()


def test_form_that_cannot_be_sent_says_so(
    page: Page, server: RunningServer, tmp_path: Path
) -> None:
    page.goto(server.url)
    page.set_input_files("#file", zip_of(tmp_path / "x.zip", {"main.py": SLEEPER}))
    server.stop()
    page.click("text=Submit job")
    expect(page.locator("[data-notice]")).to_contain_text("Nothing was submitted")
    expect(page.locator("upload-progress")).to_be_hidden()


def test_upload_shows_how_far_it_is(page: Page, server: RunningServer, tmp_path: Path) -> None:
    files = {"main.py": SLEEPER, "noise": secrets.token_hex(1_000_000)}
    page.goto(server.url)
    page.set_input_files("#file", zip_of(tmp_path / "x.zip", files))
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 1e6}
    page.context.new_cdp_session(page).send("Network.emulateNetworkConditions", slow)
    with page.expect_request(f"{server.url}/jobs"):
        page.click("text=Submit job")
    expect(page.locator("upload-progress")).to_contain_text("Uploading")
    expect(page.locator("upload-progress [data-percent]")).to_have_text(re.compile(r"[1-9]"))
    page.wait_for_url(f"{server.url}/jobs/1")
    expect(page).to_have_title("Pending · x · DTrain")


def test_upload_that_is_too_large_is_refused_where_it_was_entered(
    browser: Browser, tmp_path: Path
) -> None:
    server = start_server(tmp_path / "server", DTRAIN_MAX_UPLOAD_MB="1")
    large = zip_of(
        tmp_path / "large.zip", {"main.py": SLEEPER, "noise": secrets.token_hex(4_000_000)}
    )
    with visit(browser) as page:
        page.goto(server.url)
        page.set_input_files("#file", large)
        page.click("text=Submit job")
        expect(page.locator("#new-job [role=alert]").last).to_contain_text("larger than")
        expect(page.locator("bundle-picker output")).to_contain_text("large.zip")


def test_pages_work_without_javascript(
    browser: Browser, server: RunningServer, tmp_path: Path
) -> None:
    with visit(browser, java_script_enabled=False) as page:
        hand_in(page, server, zip_of(tmp_path / "plain.zip", {"main.py": SLEEPER}))
        expect(page.get_by_role("heading", level=1)).to_have_text("plain")
        page.get_by_role("button", name="Cancel").click()
        expect(page.locator("#job-head .state .pill")).to_have_text("cancelled")
        page.get_by_role("link", name="Jobs", exact=True).first.click()
        expect(page.locator("tbody tr")).to_have_count(1)
        page.get_by_role("link", name="Failed").click()
        expect(page.locator("#jobs")).to_contain_text("No job matches")
        page.set_input_files("#file", [])
        page.click("text=Submit job")
        expect(page.locator("#form-error")).to_contain_text("Choose the ZIP file")
