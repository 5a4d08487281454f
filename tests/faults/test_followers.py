"""Two hundred people follow the log of one job."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from support.api import wait_for_status
from support.ledger import losses
from support.processes import RunningServer, RunningWorker, wait_for
from support.scripted_worker import ScriptedWorker
from support.witness import Witness, differing_bytes, hand_in

from dtrain.client.client import Client
from dtrain.client.stream import content
from dtrain.protocol.messages import LogPiece

FOLLOWERS = 200


def _heartbeats(worker: ScriptedWorker, go_on: Callable[[], bool]) -> float:
    """Seconds within which nine of ten heartbeats are answered, five a second."""
    taken = []
    while go_on():
        begun = time.monotonic()
        worker.commands()
        taken.append(time.monotonic() - begun)
        time.sleep(0.2)
    return sorted(taken)[int(len(taken) * 0.9)]


def test_two_hundred_followers_miss_nothing_and_hold_up_no_worker(
    tmp_path: Path, server: RunningServer, worker: RunningWorker
) -> None:
    witness = Witness(tmp_path / "witness")
    job_id = hand_in(server.url, witness, PAUSE=0.05, SMALL=1)
    wait_for(witness.starts, "the job to start")
    other = ScriptedWorker(server)
    calm_until = time.monotonic() + 10
    calm = _heartbeats(other, lambda: time.monotonic() < calm_until)
    logs = [bytearray() for _ in range(FOLLOWERS)]

    def follow(log: bytearray) -> None:
        with Client(server.url) as client:
            for update in client.jobs.follow(job_id):
                if isinstance(update, LogPiece):
                    log += content(update)

    threads = [threading.Thread(target=follow, args=[log]) for log in logs]
    for thread in threads:
        thread.start()
    wait_for(lambda: all(map(len, logs)), "all followers to see something")
    busy_until = time.monotonic() + 20
    busy = _heartbeats(other, lambda: time.monotonic() < busy_until)
    witness.let_go()
    for thread in threads:
        thread.join()
    other.close()
    wait_for_status(server.url, job_id, "completed")
    printed = witness.printed()
    losses["log bytes lost or doubled"] += sum(differing_bytes(printed, bytes(log)) for log in logs)
    assert all(log == printed for log in logs)
    # A machine that is slow without any follower is not made fast by a test.
    assert busy < max(1.0, 10 * calm)
