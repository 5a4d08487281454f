"""The database goes away for a while: locked by somebody else, cut off, killed."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.api import wait_for_status
from support.ledger import faults
from support.postgres import Cluster, running_cluster
from support.processes import RunningServer, start_server, start_worker
from support.requirements import require

from .conftest import Running


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL that no other test has."""
    with running_cluster(require("postgresql")) as made:
        yield made


def test_database_that_somebody_else_has_locked_loses_nothing(
    job: Running, server: RunningServer
) -> None:
    path = server.home / "data" / "dtrain.db"
    with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as other:
        other.execute("BEGIN IMMEDIATE")
        faults["database locked"] += 1
        time.sleep(40)  # longer than a write waits
        other.execute("ROLLBACK")
    job.wait_for_growth()
    wait_for_status(server.url, job.id, "running")
    job.assert_nothing_lost()


def test_postgresql_that_is_cut_off_and_killed_loses_nothing(
    tmp_path: Path, cluster: Cluster
) -> None:
    """It waits for no disk in tests, yet it is only its processes that die."""
    with cluster.database() as url:
        server = start_server(tmp_path / "server", DATABASE_URL=url)
        start_worker(tmp_path / "worker", server)
        job = Running(server, tmp_path / "witness")
        for _ in range(5):
            cluster.end_connections()
            job.wait_for_growth()
            cluster.restart()
            job.wait_for_growth()
        job.assert_nothing_lost()
        server.stop()
