"""`make demo` and `dtrain demo`: from nothing to results, and nothing left behind."""

from __future__ import annotations

import json
import re
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.api import get, get_json
from support.checkout import Checkout
from support.processes import PATIENCE, Running, clean_environment, wait_for
from support.requirements import require
from support.terminal import InTerminal

pytestmark = pytest.mark.usefixtures("usual_port")
DEMO = [sys.executable, "-m", "dtrain", "demo", "--home"]
DOWNLOAD = 400.0
"""Seconds for the example's packages, some 65 MB, to arrive on a slow line and a busy machine."""


@pytest.fixture
def taken_port() -> Iterator[int]:
    """Port 5000, which something else listens on."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):  # somebody has it already
            other.bind(("127.0.0.1", 5000))
            other.listen()
        yield 5000


def address_in(text: str) -> str:
    """The dashboard's address as the demo prints it."""
    found = re.search(r"Dashboard: (http://localhost:\d+)", text)
    assert found, text
    return found[1]


def assert_results(folder: Path) -> None:
    (results,) = folder.iterdir()
    assert (results / "confusion.png").read_bytes().startswith(b"\x89PNG")
    assert (results / "model.npz").stat().st_size > 100_000
    assert json.loads((results / "metrics.json").read_text())["accuracy"] > 0.95


def test_make_demo_does_everything_in_a_fresh_clone(tmp_path: Path, taken_port: int) -> None:
    clone = Checkout(tmp_path / "clone", require("git"))
    require("make")

    done = clone.shell("make demo", clone.root, {"DEMO_ONCE": "1"}, limit=840)

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Port {taken_port} is taken" in done.stdout
    assert not address_in(done.stdout).endswith(":5000")
    assert "Epoch 80/80" in done.stdout
    assert "completed" in done.stdout + done.stderr
    assert (
        str(clone.root / ".cache" / "demo" / "results" / "job-1" / "confusion.png") in done.stdout
    )
    assert_results(clone.root / ".cache" / "demo" / "results")


def test_demo_at_a_terminal_serves_until_ctrl_c(tmp_path: Path) -> None:
    home = tmp_path / "home"
    demo = InTerminal("dtrain demo", [*DEMO, str(home)], tmp_path, clean_environment())

    shown = demo.wait_for_text("Ctrl-C ends the demo", patience=DOWNLOAD)
    assert re.search(r"\[#+-*\] +\d+%", shown), "there was no progress bar"
    assert b"Handwritten digits" in get(f"{address_in(shown)}/")
    assert_results(home / "results")

    demo.type("\x03")
    assert demo.ended() == 0


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_demo_that_is_ended_early_leaves_nothing_behind(
    ending: signal.Signals, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    demo = Running("dtrain demo", [*DEMO, str(home)], tmp_path, clean_environment())
    wait_for(lambda: "PROGRESS: " in demo.text(), "the training to begin", patience=DOWNLOAD)

    demo.process.send_signal(ending)

    status = demo.process.wait(PATIENCE)
    assert status == 128 + ending
    wait_for(lambda: not _answers(address_in(demo.text())), "the server to end")
    assert "Traceback" not in demo.text()


def test_demo_does_not_wait_for_what_an_interrupted_one_has_left(tmp_path: Path) -> None:
    home = tmp_path / "home"
    first = Running("first demo", [*DEMO, str(home)], tmp_path, clean_environment())
    wait_for(lambda: "PROGRESS: " in first.text(), "the training to begin", patience=DOWNLOAD)
    first.process.send_signal(signal.SIGINT)
    first.process.wait(PATIENCE)

    second = Running(
        "second demo", [*DEMO, str(home)], tmp_path, clean_environment(), tmp_path / "second.log"
    )

    wait_for(lambda: "Job 2: executing" in second.text(), "the second training to begin")
    assert get_json(f"{address_in(second.text())}/api/jobs/1")["status"] == "cancelled"


def test_second_demo_in_the_same_folder_refuses(tmp_path: Path) -> None:
    home = tmp_path / "home"
    demo = Running("dtrain demo", [*DEMO, str(home)], tmp_path, clean_environment())
    wait_for(lambda: "Dashboard" in demo.text(), "the first demo")

    second = Running(
        "second demo", [*DEMO, str(home)], tmp_path, clean_environment(), tmp_path / "second.log"
    )

    assert second.process.wait(PATIENCE) == 2
    assert re.fullmatch(r"dtrain: Another demo runs in .*\n", second.text())


def _answers(url: str) -> bool:
    try:
        get(f"{url}/healthz")
    except OSError:
        return False
    return True
