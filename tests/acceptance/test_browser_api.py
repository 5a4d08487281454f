"""The page that describes the API in a real browser: nothing foreign, and room on a telephone."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, expect
from support.browser import visit
from support.processes import RunningServer


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_description_is_read_on_any_screen(
    browser: Browser, server: RunningServer, width: int, scheme: str
) -> None:
    viewport = {"width": width, "height": 844}
    with visit(browser, viewport=viewport, color_scheme=scheme) as page:
        page.goto(server.url)
        page.get_by_role("navigation", name="Main").get_by_role("link", name="API").click()
        expect(page.get_by_role("heading", name="The HTTP API")).to_be_visible()
        page.wait_for_load_state()  # the heading may be there before the styles are
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.get_by_role("navigation", name="Contents").get_by_role("link", name="Logs").click()
        expect(page.locator("#logs")).to_be_in_viewport()
        listing = page.locator("section", has=page.locator("#jobs_listing")).last
        errors = listing.get_by_text("is not acceptable")
        expect(errors).to_be_hidden()
        listing.get_by_text("Errors").click()
        expect(errors).to_be_visible()
        expect(listing.locator("pre")).to_have_text(f"curl {server.url}/api/jobs")
