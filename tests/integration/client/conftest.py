"""A server for all tests of a module, and a worker that does as it is told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.processes import RunningServer, start_server
from support.scripted_worker import ScriptedWorker

from dtrain.client.client import Client

MAX_UPLOAD_MB = 2
"""So little that a test can exceed it."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    home = tmp_path_factory.mktemp("client") / "server"
    running = start_server(home, DTRAIN_MAX_UPLOAD_MB=MAX_UPLOAD_MB)
    yield running
    running.stop()


@pytest.fixture
def client(server: RunningServer) -> Iterator[Client]:
    made = Client(server.url)
    yield made
    made.close()


@pytest.fixture
def worker(server: RunningServer, client: Client) -> Iterator[ScriptedWorker]:
    for job in client.jobs.list(status="pending").jobs:
        client.jobs.cancel(job.id)
    made = ScriptedWorker(server)
    yield made
    made.close()
