"""The worker's page in a real browser, and the owner's answers on it to a real worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from support.agents import owner_code, start_in_terminal
from support.api import get_json, wait_for_status
from support.browser import SCREENSHOTS, has_stayed, stay, visit
from support.example_job import zip_of
from support.processes import RunningServer, wait_for
from support.terminal import InTerminal

from dtrain.client.client import Client

PROMPT = "[a]ccept, [d]ecline"


def start_owner(server: RunningServer, home: Path, **settings: Any) -> tuple[InTerminal, str]:
    """A worker whose owner sits at its terminal; with its page."""
    settings = {"token": server.token, **settings}
    agent = start_in_terminal(home, server.url, **settings)
    worker = wait_for(lambda: get_json(f"{server.url}/api/workers")["workers"], "the worker")
    return agent, f"{server.url}/workers/{worker[0]['id']}"


def wait_for_question(agent: InTerminal, card: str) -> None:
    """Wait until a card is at the terminal, and the question below it."""
    wait_for(lambda: PROMPT in agent.screen().partition(card)[2], f"the question about {card}")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return zip_of(tmp_path / "bundle.zip", {"main.py": "print('hello')\n", "data/a.csv": "1,2\n"})


@pytest.fixture
def client(server: RunningServer) -> Any:
    found = Client(server.url)
    yield found
    found.close()


def test_owner_answers_on_the_page_what_the_terminal_asks(
    page: Page, server: RunningServer, client: Client, bundle: Path, tmp_path: Path
) -> None:
    agent, address = start_owner(server, tmp_path / "worker")
    code = owner_code(tmp_path / "worker")
    page.goto(address)
    expect(page.locator("connection-status")).to_have_text("Live")
    expect(page.locator(".offers")).to_contain_text("No job waits")
    stay(page)

    client.submit(bundle, name="first", tags=["digits"])
    card = page.locator("#offer-1")
    expect(card).to_contain_text("first")
    agent.wait_for_text(PROMPT)
    assert has_stayed(page)
    expect(page).to_have_title("1 to answer · worker-1 · DTrain")

    card.get_by_label("Owner’s code").first.fill("WRONG")
    card.get_by_role("button", name="Accept").click()
    expect(page.get_by_role("alert").first).to_contain_text("This is not the code")
    agent.wait_for_text("with a wrong code")

    card.get_by_label("Owner’s code").first.fill(f"{code[:4]}-{code[4:]}".lower())
    card.get_by_role("button", name="Accept").click()
    agent.wait_for_text("Job 1 is accepted on the worker's page.")
    expect(page.locator(".offers")).to_contain_text("No job waits")
    assert wait_for_status(server.url, 1, "completed")["worker"] == "worker-1"

    stay(page)
    client.submit(bundle, name="second")
    card = page.locator("#offer-2")
    wait_for_question(agent, "Job 2: second")
    agent.type("d")
    agent.wait_for_text("Reason (Enter for none)")
    card.get_by_text("Decline").first.click()
    card.get_by_label("Reason").fill("not on a Sunday")
    with page.expect_response("**/fragments/workers/*"):
        client.submit(bundle, name="third")
    expect(page.locator("#offer-3")).to_be_visible()
    expect(card.get_by_label("Reason")).to_have_value("not on a Sunday")
    assert has_stayed(page)
    card.get_by_role("button", name="Decline").click()
    agent.wait_for_text("Job 2 is declined on the worker's page.")
    expect(card).to_have_count(0)
    fits = get_json(f"{server.url}/api/jobs/2/explain")["workers"]
    assert [(fit["declined"], fit["reason"]) for fit in fits] == [(True, "not on a Sunday")]
    wait_for_question(agent, "Job 3: third")

    page.locator("#offer-3").get_by_role("link", name="2 files").click()
    expect(page.locator(".files")).to_contain_text("data/a.csv")
    page.get_by_role("link", name="worker-1").click()
    agent.type("a")
    wait_for_status(server.url, 3, "completed")
    expect(page.locator("#offer-3")).to_have_count(0)
    agent.stop()


def test_owner_answers_without_javascript(
    browser: Browser, server: RunningServer, client: Client, bundle: Path, tmp_path: Path
) -> None:
    agent, address = start_owner(server, tmp_path / "worker")
    client.submit(bundle, name="first")
    agent.wait_for_text(PROMPT)
    with visit(browser, java_script_enabled=False) as page:
        page.goto(address)
        page.get_by_label("Owner’s code").first.fill(owner_code(tmp_path / "worker"))
        page.get_by_role("button", name="Accept").click()
        expect(page.locator(".offers")).to_contain_text("No job waits")
    wait_for_status(server.url, 1, "completed")
    agent.stop()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_page_looks_as_it_should(
    browser: Browser,
    server: RunningServer,
    client: Client,
    bundle: Path,
    tmp_path: Path,
    scheme: Any,
    width: int,
) -> None:
    """Nothing is wider than the window; the pictures are kept for people to look at."""
    agent, address = start_owner(server, tmp_path / "worker", labels={"room": "lab"})
    with visit(browser, viewport={"width": width, "height": 900}, color_scheme=scheme) as page:

        def look(name: str) -> None:
            wider = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert wider <= 0, f"{name} is {wider} pixels too wide"
            SCREENSHOTS.mkdir(exist_ok=True)
            page.screenshot(path=SCREENSHOTS / f"{name}-{width}-{scheme}.png", full_page=True)

        page.goto(address)
        look("worker-idle")
        client.submit(
            bundle,
            name="A wide network with a name that needs more than a line to say it all",
            args=["--data", "data/a.csv", "--epochs", "100", "--note", "x" * 90],
            tags=["sweep-7", "cifar", "night"],
            env={"SEED": "7", "TOKEN": "y" * 80},
            time_limit="2h",
        )
        client.submit(bundle, name="digits")
        expect(page.locator(".offer")).to_have_count(2)
        page.locator("#offer-2").get_by_text("Decline").first.click()
        look("worker-offers")
        page.locator("#offer-2").get_by_label("Owner’s code").first.fill("WRONG")
        page.locator("#offer-2").get_by_role("button", name="Accept").click()
        expect(page.get_by_role("alert").first).to_be_visible()
        look("worker-wrong")
        page.goto(f"{address}/offers/1/files")
        look("worker-files")
        page.goto(f"{server.url}/workers")
        look("workers-offers")
    agent.stop()
