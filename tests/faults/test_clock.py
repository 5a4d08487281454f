"""Somebody sets clocks, by hours or days, or they were never right."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

import pytest
from support.api import get_json, wait_for_status
from support.clocks import DayTime
from support.processes import start_server, start_worker

from .conftest import Running


@pytest.mark.parametrize("hours", [2.0, -2.0])
def test_clock_that_is_set_ends_nothing(hours: float, tmp_path: Path) -> None:
    clock = DayTime(tmp_path / "clock")
    server = start_server(tmp_path / "server", **clock.variables())
    start_worker(tmp_path / "worker", server)
    job = Running(server, tmp_path / "witness")

    def last_seen() -> str:
        return str(get_json(f"{server.url}/api/workers")["workers"][0]["last_seen"])

    before = last_seen()
    clock.set(hours)
    time.sleep(15)  # several ticks and polls
    job.wait_for_growth()
    assert (last_seen() > before) is (hours > 0), "the clock was not set"
    wait_for_status(server.url, job.id, "running", patience=1)
    job.assert_nothing_lost()


@pytest.mark.parametrize("days", [1, -1])
def test_clock_of_a_worker_that_is_set_changes_nothing(days: int, tmp_path: Path) -> None:
    """A worker has no use for the time of day."""
    clock = DayTime(tmp_path / "clock")
    server = start_server(tmp_path / "server")
    start_worker(tmp_path / "worker", server, env=clock.variables())
    job = Running(server, tmp_path / "witness")
    begun = time.monotonic()
    clock.set(24 * days)
    time.sleep(15)  # several polls
    job.wait_for_growth()
    job.assert_nothing_lost()
    told = get_json(f"{server.url}/api/jobs/{job.id}")
    took = datetime.fromisoformat(told["finished_at"]) - datetime.fromisoformat(told["started_at"])
    assert 0 < took.total_seconds() < time.monotonic() - begun + 60


def test_servers_whose_clocks_are_apart_give_no_job_away(tmp_path: Path, postgres_url: str) -> None:
    """By their own clocks the second would end each lease that the first one renews."""
    clock = DayTime(tmp_path / "clock")
    shared = {
        "DATABASE_URL": postgres_url,
        "UPLOAD_FOLDER": tmp_path / "uploads",
        "JOB_BUNDLES_FOLDER": tmp_path / "bundles",
        "SECRET_KEY": "shared",
        "WORKER_SHARED_TOKEN": "the-token-that-both-have",
    }
    server = start_server(tmp_path / "server", **shared)
    clock.set(0.5)
    start_server(tmp_path / "other", **shared, **clock.variables())
    start_worker(tmp_path / "worker", server)
    job = Running(server, tmp_path / "witness")
    time.sleep(10)  # several ticks of both
    events = get_json(f"{server.url}/api/jobs/{job.id}/events")["events"]
    assert [event["kind"] for event in events] == ["submitted", "claimed", "executing"]
    job.assert_nothing_lost()
