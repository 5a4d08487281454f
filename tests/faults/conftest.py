"""What the tests under faults share: a job in its midst, and a way to its server that can fail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.api import wait_for_status
from support.ledger import faults, losses, table
from support.processes import RunningServer, RunningWorker, start_worker, wait_for
from support.proxy import Proxy, proxy_to
from support.witness import Witness, assert_whole, final_states, hand_in


class Running:
    """A job in its midst."""

    def __init__(self, server: RunningServer, folder: Path, pause: float = 0.02) -> None:
        self.server = server
        self.witness = Witness(folder)
        self.id = hand_in(server.url, self.witness, PAUSE=pause)
        self._much = round(6000 / pause)
        self.wait_for_growth(self._much // 3)

    def wait_for_growth(self, size: int | None = None) -> None:
        """Wait until the job has printed some more: so many bytes, else what takes a little."""
        enough = len(self.witness.printed()) + (self._much if size is None else size)
        wait_for(lambda: len(self.witness.printed()) >= enough, "the job to go on printing")

    def assert_nothing_lost(self, attempts: int = 1) -> None:
        """Let it end: once, in this attempt, with all that this printed."""
        self.witness.let_go()
        job = wait_for_status(self.server.url, self.id, "completed", patience=180)
        assert (job["attempt"], job["exit_code"], job["artifacts"]) == (attempts, 0, 1)
        assert len(self.witness.starts()) == attempts
        assert_whole(self.server.url, self.id, self.witness, attempts)
        assert final_states(self.server.url, self.id) == ["completed"]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand what was counted in a process of its own to the one that tells."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["ledger"] = [dict(faults), dict(losses)]


def pytest_testnodedown(node: Any) -> None:
    """Take what was counted there."""
    for account, counted in zip(
        (faults, losses), getattr(node, "workeroutput", {}).get("ledger", ()), strict=False
    ):
        account.update(counted)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was done, and what was lost by it."""
    terminalreporter.section("faults and losses")
    for line in table():
        terminalreporter.write_line(line)


@pytest.fixture
def proxy(server: RunningServer) -> Iterator[Proxy]:
    """The way to `server`."""
    with proxy_to(server.port) as made:
        yield made


@pytest.fixture
def far_worker(tmp_path: Path, server: RunningServer, proxy: Proxy) -> RunningWorker:
    """A worker on the other side of `proxy`."""
    return start_worker(tmp_path / "far", server, name="far", server_url=proxy.url)


@pytest.fixture
def job(tmp_path: Path, server: RunningServer, far_worker: RunningWorker) -> Running:
    """A job in its midst, on `far_worker`."""
    return Running(server, tmp_path / "witness")
