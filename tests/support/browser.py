"""A real browser, and what a page must never do: complain, break its policy, open a dialog."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, expect, sync_playwright

from .processes import PATIENCE

SCREENSHOTS = Path(__file__).parents[2] / "test-results"
_PATIENCE_MS = 1000 * PATIENCE
_ARGUMENTS = [
    "--no-sandbox",  # Chromium does not run as root with it
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
_WATCH_POLICY = """
addEventListener("securitypolicyviolation", (event) =>
  console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
"""


@contextmanager
def chromium(program: Path) -> Iterator[Browser]:
    """Chromium, as it comes with the distribution."""
    expect.set_options(timeout=_PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(program), args=_ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def visit(browser: Browser, **options: Any) -> Iterator[Page]:
    """A page in a profile of its own; at the end it must have had nothing to complain of."""
    context = browser.new_context(**options)
    complaints: list[str] = []

    def on_console(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and not _is_expected(message.text):
            complaints.append(message.text)

    def on_dialog(dialog: Dialog) -> None:
        complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    context.set_default_timeout(_PATIENCE_MS)
    page = context.new_page()
    page.add_init_script(_WATCH_POLICY)
    page.on("console", on_console)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", on_dialog)
    yield page
    context.close()
    assert not complaints, "\n".join(complaints)


def _is_expected(text: str) -> bool:
    """Every answer that is an error is logged, and every connection that breaks."""
    signs = ("Failed to load resource:", "net::ERR_", "Failed to fetch")
    return any(sign in text for sign in signs)


def stay(page: Page) -> None:
    """Mark the page as it is now, to see later whether it was loaded anew."""
    page.evaluate("window.stayed = true")


def has_stayed(page: Page) -> bool:
    """Whether the page is still the one that was marked."""
    return bool(page.evaluate("window.stayed === true"))
