"""An agent tells which interpreters it could fetch, and fetches the one that a job asks for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.agents import start_agent
from support.fake_server import FakeServer, fake_server
from support.http_peer import peer
from support.python_source import OTHER, OWN, VERSION, PythonSource


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as server:
        yield server


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PythonSource]:
    with peer() as there:
        yield PythonSource(there, tmp_path_factory.mktemp("source"))


def start(tmp_path: Path, server: FakeServer, source: PythonSource, **settings: object) -> None:
    env = {**source.variables, "HOME": str(tmp_path)}
    start_agent(tmp_path / "worker", server, env, executor="venv", **settings)


def test_job_gets_a_python_that_the_worker_fetches(
    tmp_path: Path, server: FakeServer, source: PythonSource
) -> None:
    start(tmp_path, server, source)
    server.wait(
        lambda: server.polls and server.polls[-1].capacity.fetchable_pythons,
        "the worker to tell what it can fetch",
    )
    capacity = server.polls[-1].capacity
    assert capacity.fetchable_pythons == [VERSION, OTHER]
    assert capacity.pythons[0] == OWN
    assert VERSION not in capacity.pythons
    code = "import platform; print(platform.python_version())"
    attempt = server.wait_until_ended(server.submit({"main.py": code}, python=VERSION))
    log = bytes(attempt.log).decode()
    assert attempt.finishes[0].exit_code == 0, log
    assert "Downloading cpython" in log
    assert log.endswith(f"{VERSION}\n")


def test_worker_whose_owner_forbids_it_offers_none(
    tmp_path: Path, server: FakeServer, source: PythonSource
) -> None:
    before = len(source.fetched)
    start(tmp_path, server, source, python_downloads=False)
    server.wait(lambda: server.polls and len(server.polls[-1].capacity.pythons) > 0, "a poll")
    ended = server.wait_until_ended(server.submit({"main.py": ""}, python=VERSION))
    assert "has no Python" in (ended.finishes[0].message or "")
    assert server.polls[-1].capacity.fetchable_pythons == []
    assert len(source.fetched) == before
