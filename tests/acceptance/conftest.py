"""What the acceptance tests share: a browser, and one fresh clone set up by the commands for it."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page
from support.browser import chromium, visit
from support.checkout import Checkout
from support.requirements import require


@pytest.fixture(scope="module")
def browser(_no_process_outlives_the_run: str) -> Iterator[Browser]:
    with chromium(require("chromium")) as found:
        yield found


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with visit(browser) as found:
        yield found


@pytest.fixture(scope="module")
def usual_port() -> Iterator[None]:
    """Port 5000 is for the servers of this file alone, whatever else the run does meanwhile."""
    with Path(tempfile.gettempdir(), f"dtrain-tests-{os.getuid()}").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def checkout(
    tmp_path_factory: pytest.TempPathFactory, _no_process_outlives_the_run: str
) -> Checkout:
    """A fresh clone in which server and worker were installed as the README says."""
    checkout = Checkout(tmp_path_factory.mktemp("clone"), require("git"))
    checkout.make_venv()
    for folder in ("server", "worker"):
        done = checkout.shell("pip install -r requirements.txt", checkout.root / folder, limit=600)
        assert done.returncode == 0, done.stdout + done.stderr
    return checkout


@pytest.fixture
def run_folder(checkout: Checkout, tmp_path: Path) -> Callable[[str], Path]:
    """Gives a fresh copy of `server/` or `worker/`, to be run in the clone's environment."""

    def copy(name: str) -> Path:
        unused = shutil.ignore_patterns("data", "config.json", "*.log")
        return shutil.copytree(checkout.root / name, tmp_path / name, ignore=unused)

    return copy
