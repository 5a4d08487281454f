"""What networks do to a worker: cut, swallow one way or the other, refuse, delay."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.api import wait_for_status
from support.example_job import zip_of
from support.processes import RunningServer, RunningWorker, wait_for
from support.proxy import Proxy, Weather

from dtrain.client.client import Client

from .conftest import Running


@pytest.mark.parametrize(
    "weather",
    [
        Weather(drop_answers=True),
        Weather(drop_requests=True),
        Weather(drop_requests=True, drop_answers=True),
        Weather(refuse=True),
        Weather(delay=0.2),
    ],
    ids=["answers lost", "requests lost", "partition", "refused", "slow"],
)
@pytest.mark.parametrize("ends", [False, True], ids=["in its midst", "at its end"])
def test_bad_weather_loses_nothing(
    weather: Weather, ends: bool, job: Running, proxy: Proxy
) -> None:
    for seconds in (0.5, 2, 6):
        proxy.weather = weather
        proxy.cut()
        if ends:
            job.witness.let_go()
        time.sleep(seconds)  # the length of the spell
        proxy.weather = Weather()
        proxy.cut()
        if not ends:
            job.wait_for_growth()
    job.assert_nothing_lost()


def test_heartbeats_go_on_beside_an_upload_on_a_narrow_line(
    tmp_path: Path, server: RunningServer, far_worker: RunningWorker, proxy: Proxy
) -> None:
    """An artifact takes longer than a lease lasts."""
    client = Client(server.url)
    code = (
        "import os\n"
        "os.chdir(os.environ['DTRAIN_OUTPUT_DIR'])\n"
        "open('model', 'wb').write(os.urandom(10**7))\n"
    )
    proxy.weather = Weather(rate=125_000)
    job_id = client.submit(zip_of(tmp_path / "bundle.zip", {"main.py": code}), name="large").id
    wait_for(lambda: client.jobs.get(job_id).phase == "finishing", "the end of the job")
    silences = []
    begun = time.monotonic()
    while client.jobs.get(job_id).status == "running":
        [seen] = [one.last_seen for one in client.workers.list()]
        silences.append((datetime.now(UTC) - seen).total_seconds())
        time.sleep(1)
    client.close()
    assert time.monotonic() - begun > 70, "the line was not narrow"
    assert max(silences) < 25
    job = wait_for_status(server.url, job_id, "completed", patience=1)
    assert (job["attempt"], job["artifacts"]) == (1, 1)


def test_connections_that_are_cut_all_the_time_lose_nothing(job: Running, proxy: Proxy) -> None:
    over = threading.Event()

    def cut() -> None:
        while not over.wait(0.15):
            proxy.cut()

    cutter = threading.Thread(target=cut)
    cutter.start()
    try:
        for _ in range(5):
            job.wait_for_growth()
        job.witness.let_go()
        time.sleep(10)  # the end is told, in pieces, by the same way
    finally:
        over.set()
        cutter.join()
    job.assert_nothing_lost()
