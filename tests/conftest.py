"""Fixtures for all tests: databases, servers, workers, and the account of what was left out."""

from __future__ import annotations

import os
import secrets
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from support.containers import TestEngine, running_engine
from support.disks import small_disk_at
from support.postgres import Cluster, running_cluster
from support.processes import (
    MARK,
    PATIENCE,
    RunningServer,
    RunningWorker,
    end_started,
    left_over,
    outputs,
    start_server,
    start_worker,
)
from support.requirements import PARTS, install_line, left_out, require
from support.time_limit import account, skip_if_over

# An example is not wrong because the machine is slow.
settings.register_profile("dtrain", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("dtrain")

_passed = pytest.StashKey[bool]()


@pytest.fixture(scope="session", autouse=True)
def _no_process_outlives_the_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Mark everything that the run starts; gives the mark."""
    mark = f"run-{secrets.token_hex(8)}"
    os.environ[MARK] = mark
    yield mark
    end_started(mark)
    found = left_over(mark, tmp_path_factory.getbasetemp())
    assert not found, "These processes outlived the test run:\n" + "\n".join(found)


@pytest.fixture(autouse=True)
def _no_process_outlives_its_test(
    request: pytest.FixtureRequest,
    _no_process_outlives_the_run: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[None]:
    """Mark what the test starts, end it afterwards, and let nothing of it be left over."""
    mark = f"{_no_process_outlives_the_run}.{secrets.token_hex(4)}"
    monkeypatch.setenv(MARK, mark)
    uses_folder = "tmp_path" in request.fixturenames
    folder: Path | None = request.getfixturevalue("tmp_path") if uses_folder else None
    yield
    passed = request.node.stash.get(_passed, False)
    try:
        end_started(mark)
    finally:
        found = left_over(mark, folder, within=PATIENCE if passed else 0)
    assert not (passed and found), "These processes outlived the test:\n" + "\n".join(found)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Start no test, nor what it needs, once the run's time is over."""
    skip_if_over()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember whether the test passed; show what its processes printed if it did not."""
    report = yield
    if report.when == "call":
        item.stash[_passed] = report.passed
    if report.failed:
        report.sections += [(f"output of {title}", text) for title, text in outputs().items()]
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the process that reports what was left out in this one, where tests have several."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = left_out


def pytest_testnodedown(node: Any) -> None:
    """Count what one of several processes has left out."""
    for key, count in getattr(node, "workeroutput", {}).get("left_out", {}).items():
        left_out[key] = left_out.get(key, 0) + count


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was left out, and the one line that adds it."""
    if not_started := account(terminalreporter.stats.get("skipped", [])):
        terminalreporter.section("not started", red=True, bold=True)
        for line in not_started:
            terminalreporter.write_line(line)
    if not left_out:
        return
    terminalreporter.section("left out")
    for key, count in left_out.items():
        tests = "1 test was" if count == 1 else f"{count} tests were"
        terminalreporter.write_line(f"{PARTS[key].title} is missing: {tests} not run")
    terminalreporter.write_line(f"To run them too: {install_line(list(left_out))}")


@pytest.fixture(scope="session")
def postgres_cluster(_no_process_outlives_the_run: str) -> Iterator[Cluster]:
    """A PostgreSQL of the run's own."""
    with running_cluster(require("postgresql")) as cluster:
        yield cluster


@pytest.fixture
def postgres_url(postgres_cluster: Cluster) -> Iterator[str]:
    """A new, empty database on PostgreSQL."""
    with postgres_cluster.database() as url:
        yield url


@pytest.fixture(scope="session")
def container_engine(_no_process_outlives_the_run: str) -> Iterator[TestEngine]:
    """A Docker engine of the run's own."""
    with running_engine() as engine:
        yield engine


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A database file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'test.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A new, empty database: on SQLite, then on PostgreSQL."""
    fixture = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    url: str = request.getfixturevalue(fixture)
    return url


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MiB, which only root can have."""
    require("root")
    with small_disk_at(tmp_path / "disk") as place:
        yield place


@pytest.fixture
def server(tmp_path: Path) -> RunningServer:
    """A server on SQLite in an empty home."""
    return start_server(tmp_path / "server")


@pytest.fixture
def worker(tmp_path: Path, server: RunningServer) -> RunningWorker:
    """A worker with one slot that takes every job of `server`."""
    return start_worker(tmp_path / "worker", server)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a job in it."""
    made = tmp_path / "my-training"
    made.mkdir()
    (made / "main.py").write_text("print('hello')\n")
    return made
