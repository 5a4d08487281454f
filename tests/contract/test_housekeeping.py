"""Housekeeping stands by itself: what it meets on a disk is nothing that workers answer for."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from support.disks import fill
from support.processes import wait_for
from support.queue import Hand, let_pass, submitted

from dtrain.protocol.states import Status
from dtrain.server.background import Background
from dtrain.server.housekeeping import Housekeeping
from dtrain.server.jobs import read
from dtrain.server.services import Services
from dtrain.server.store import attempts


@pytest.fixture(autouse=True)
def _restless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chores that are due at each look, and are looked for all the time."""
    monkeypatch.setattr("dtrain.server.housekeeping._SEAL_EVERY", 0)
    monkeypatch.setattr("dtrain.server.housekeeping._LOOK_EVERY", 0.01)


@pytest.fixture
def housekeeping(services: Services) -> Iterator[Housekeeping]:
    """At work on its own thread."""
    made = Housekeeping(services)
    made.start()
    yield made
    services.stop.set()
    made.stop()


def leave_a_log(services: Services) -> None:
    """Have a job end whose log can be put away."""
    submitted(services)
    hand = Hand(services, "done")
    ref = hand.run_next()
    hand.log(ref, 0, b"hello\n")
    assert hand.finish(ref, log_bytes=6).applied


def unsealed(services: Services) -> int:
    with services.database.read() as connection:
        return len(attempts.unsealed(connection, 10))


@pytest.fixture
def full_disk(tmp_path: Path, small_disk: Path) -> Path:
    """Where artifacts and logs go, without a byte left."""
    uploads = tmp_path / "data" / "uploads"
    uploads.parent.mkdir()
    uploads.symlink_to(small_disk)
    (small_disk / "tmp").mkdir()
    fill(small_disk / "filler")
    return small_disk


def test_worker_that_is_gone_is_noticed_while_the_disk_for_logs_is_full(
    full_disk: Path,
    services: Services,
    housekeeping: Housekeeping,
    caplog: pytest.LogCaptureFixture,
) -> None:
    leave_a_log(services)
    job = submitted(services)
    Hand(services, "gone").run_next()
    wait_for(lambda: "Finished logs are not put away" in caplog.text, "a chore to fail")
    assert "disk is full" in caplog.text
    let_pass(Background(services), services, 320)
    assert read.get(services, job.id).status is Status.PENDING
    assert unsealed(services)
    (full_disk / "filler").unlink()
    wait_for(lambda: not unsealed(services), "the log to be put away")


def test_worker_that_is_gone_is_noticed_while_a_chore_takes_long(
    services: Services, tmp_path: Path
) -> None:
    """It reads of a pipe that nobody writes to, as of a disk that does not answer."""
    job = submitted(services)
    Hand(services, "gone").run_next()
    lock = tmp_path / "data" / "uploads" / "lock"
    os.mkfifo(lock)
    housekeeping = Housekeeping(services)
    housekeeping.start()
    wait_for(lambda: is_opening(housekeeping._thread), "the chore to wait for the pipe")
    let_pass(Background(services), services, 320)
    assert read.get(services, job.id).status is Status.PENDING
    assert is_opening(housekeeping._thread)
    services.stop.set()
    reader = os.open(lock, os.O_RDONLY | os.O_NONBLOCK)
    housekeeping.stop()
    os.close(reader)


def is_opening(thread: threading.Thread) -> bool:
    """Whether a thread opens a file at the moment."""
    frame = sys._current_frames().get(thread.ident or 0)
    return frame is not None and frame.f_code.co_name == "open"


def test_chore_that_fails_keeps_no_other_from_being_done(
    services: Services, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    leave_a_log(services)
    (tmp_path / "data" / "uploads" / "lock").mkdir()
    Housekeeping(services).run_due()
    assert not unsealed(services)
    (told,) = caplog.messages
    assert told.startswith("Old checkpoints are not thrown away, for now: ")


def test_sweep_goes_on_behind_a_folder_that_is_gone(
    services: Services, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unused = services.blobs.receive(BytesIO(b"unused"), limit=None)
    os.utime(unused.path, (0, 0))
    shutil.rmtree(tmp_path / "data" / "bundles" / "tmp")
    Housekeeping(services).sweep()
    assert not unused.path.exists()
    (told,) = caplog.messages
    assert told.startswith("Unused bundles are not thrown away, for now: ")


def test_housekeeping_ends_with_the_server(services: Services, housekeeping: Housekeeping) -> None:
    assert housekeeping._thread.is_alive()
    services.stop.set()
    housekeeping.stop()
    assert not housekeeping._thread.is_alive()
