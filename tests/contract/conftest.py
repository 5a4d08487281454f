"""What the contract tests share: a server's parts, and environments, which take seconds to make."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.attempts import end_attempts
from support.bench import Bench, make_host
from support.http_peer import Peer
from support.processes import PATIENCE
from support.queue import open_services

from dtrain.server.services import Services
from dtrain.worker.executors.venv import VenvExecutor
from dtrain.worker.removal import remove_tree
from dtrain.worker.spool import WorkerFolder


@pytest.fixture
def services(tmp_path: Path, database_url: str) -> Iterator[Services]:
    """The parts of a server, on each kind of database."""
    with open_services(tmp_path, database_url) as made:
        yield made


@pytest.fixture
def patient_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine, a poll is held until there is something to tell."""
    monkeypatch.setattr("dtrain.server.sessions.MAX_HOLD", 10 * PATIENCE)


@pytest.fixture(scope="module")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for environments that stay over the tests of a file."""
    path = tmp_path_factory.mktemp("environments")
    yield path
    remove_tree(path)


@pytest.fixture(scope="module")
def base(environments: Path) -> Path:
    """Environments of which the base is there."""
    VenvExecutor(make_host(environments, environments)).start()
    return environments


@pytest.fixture
def bench_of_index(tmp_path: Path, base: Path, index: Peer) -> Iterator[Bench]:
    """A machine whose packages come from the file's `index`; none is there yet."""
    variables = {"PIP_NO_INDEX": "", "PIP_FIND_LINKS": "", "UV_HTTP_RETRIES": "0"}
    settings = {**variables, "PIP_INDEX_URL": f"{index.url}/simple"}
    bench = Bench(WorkerFolder(tmp_path / "worker"), base, tmp_path, **settings)
    yield bench
    end_attempts(bench.worker)
    for path in (*base.glob("packages-*"), base / "cache"):
        remove_tree(path)
