"""The login in a real browser, over TLS."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect
from support.application import bundle
from support.browser import chromium, visit
from support.certificate import Authority
from support.requirements import require
from support.secure import SecureServer

TOKEN = "the-access-token-of-this-test-here"


@pytest.mark.parametrize("scripts", [False, True])
def test_login_remembers_the_way_and_the_name(tmp_path: Path, *, scripts: bool) -> None:
    server = SecureServer(tmp_path / "home", Authority(tmp_path / "pki"), DTRAIN_ACCESS_TOKEN=TOKEN)
    options = {"ignore_https_errors": True, "java_script_enabled": scripts}
    with chromium(require("chromium")) as browser, visit(browser, **options) as page:
        page.goto(f"{server.url}/workers")
        expect(page.get_by_label("Access token")).to_be_focused()
        page.get_by_label("Access token").fill("a wrong one")
        page.get_by_label("Your name").fill("Ada Lovelace")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("alert")).to_contain_text("not the access token")
        expect(page.get_by_label("Access token")).to_be_focused()
        expect(page.get_by_label("Your name")).to_have_value("Ada Lovelace")
        page.get_by_label("Access token").fill(TOKEN)
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url(f"{server.url}/workers")
        (cookie,) = page.context.cookies()
        assert cookie["name"] == f"__Host-dtrain_{server.port}"
        assert (cookie["secure"], cookie["httpOnly"], cookie["sameSite"]) == (True, True, "Lax")

        page.goto(server.url)
        page.set_input_files("#file", {"name": "x.zip", "mimeType": "", "buffer": bundle()})
        page.get_by_role("button", name="Submit job").click()
        page.wait_for_url(f"{server.url}/jobs/1")
        assert page.request.get(f"{server.url}/api/jobs/1").json()["submitter"] == "Ada Lovelace"

        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_label("Access token")).to_be_focused()
        page.goto(f"{server.url}/jobs/1")
        page.wait_for_url(f"{server.url}/login?next=%2Fjobs%2F1")
