"""The server's disk is full for a while."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.disks import fill, small_disk_at
from support.processes import start_server, start_worker
from support.requirements import require

from .conftest import Running


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    require("root")
    with small_disk_at(tmp_path / "disk", "48m") as place:
        yield place


def test_full_disk_of_the_server_loses_nothing(tmp_path: Path, disk: Path) -> None:
    server = start_server(disk / "server")
    start_worker(tmp_path / "worker", server)
    job = Running(server, tmp_path / "witness")
    for kill in (False, True):
        fill(disk / "filler")
        job.wait_for_growth(2_000_000)
        if kill:
            server.kill()
            (disk / "filler").unlink()
            server.restart()
        else:
            time.sleep(5)  # writes fail all the while
            (disk / "filler").unlink()
        job.wait_for_growth()
    job.assert_nothing_lost()
