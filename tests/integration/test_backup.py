"""Backups of servers: what is in them, what is refused, and what none of them may do."""

from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
import stat
import subprocess
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from support.application import Agent, application, bundle, upload
from support.backups import back_up, blobs, job_ids, made_home, refused, restore
from support.command import COMMAND, dtrain, environment
from support.example_job import zip_of
from support.processes import RunningServer, peak_memory, start_server, wait_for

from dtrain.client.client import Client
from dtrain.protocol import routes
from dtrain.server.blobs import BlobStore
from dtrain.server.housekeeping import Housekeeping


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A server's folder with three jobs, of which two have ended."""
    return made_home(tmp_path / "home")


def test_backup_brings_back_all_that_there_was(home: Path, tmp_path: Path) -> None:
    (home / "config.py").write_text("DTRAIN_MAX_STREAMS = 77\n")
    made = back_up(home, tmp_path / "to")

    restore(tmp_path / "to", tmp_path / "new")

    assert (tmp_path / "new" / "config.py").read_text() == "DTRAIN_MAX_STREAMS = 77\n"
    secrets = tmp_path / "new" / "data" / "secrets.json"
    assert secrets.read_bytes() == (home / "data" / "secrets.json").read_bytes()
    for kept in (secrets, made / "secrets.json", made / "config.py", made / "dtrain.db"):
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    with application(home) as before, application(tmp_path / "new") as after:
        assert after.services.settings.max_streams == 77
        for path in (
            "/api/jobs",
            "/api/workers",
            "/api/jobs/2/artifacts/model.bin",
            "/api/jobs/3/logs?limit=100",
            "/api/jobs/1/bundle",
            "/api/jobs/2/events",
        ):
            assert before.client.get(path).data == after.client.get(path).data, path
            assert after.client.get(path).status_code == 200


def test_backup_brings_back_checkpoints(tmp_path: Path) -> None:
    sha256 = hashlib.sha256(b"weights").hexdigest()
    with application(tmp_path / "home") as app:
        app.submit("goes on")
        agent = Agent(app.client)
        agent.claim()
        parts = {"sha256": sha256}
        agent.report("PUT", routes.ATTEMPT_CHECKPOINT_CONTENT, parts=parts, data=b"weights")
        files = [{"path": "state", "size": 7, "sha256": sha256, "mode": 0o600}]
        message = {"number": 1, "files": files}
        kept = agent.report("POST", routes.ATTEMPT_CHECKPOINTS, json=message).json or {}
        assert kept["kept"]

    restore(back_up(tmp_path / "home", tmp_path / "to"), tmp_path / "new")

    with application(tmp_path / "home") as before, application(tmp_path / "new") as after:
        path = "/api/jobs/1/checkpoints"
        assert before.client.get(path).data == after.client.get(path).data
        assert after.client.get(f"{path}/1/state").data == b"weights"


def test_second_backup_copies_only_what_is_new(home: Path, tmp_path: Path) -> None:
    first = back_up(home, tmp_path / "to")
    before = blobs(tmp_path / "to")
    with application(home) as app:
        app.submit("one more", file=upload(bundle({"main.py": "print('more')"})))
    wait_for(lambda: time.time() > first.stat().st_mtime + 1.1, "the next second")

    second = back_up(home, tmp_path / "to")

    after = blobs(tmp_path / "to")
    assert len(after) == len(before) + 1
    assert {path: after[path] for path in before} == before
    assert (job_ids(first), job_ids(second)) == ({1, 2, 3}, {1, 2, 3, 4})


def test_keep_deletes_old_backups_and_what_only_they_need(home: Path, tmp_path: Path) -> None:
    first = back_up(home, tmp_path / "to")
    everything = set(blobs(tmp_path / "to"))
    with application(home) as app:
        assert app.client.delete("/api/jobs/1").status_code == 204
        for name in [path.name for path in (home / "data" / "bundles").glob("??/*")]:
            os.utime(app.services.bundles.path(name), (0, 0))
        Housekeeping(app.services).sweep()
    wait_for(lambda: time.time() > first.stat().st_mtime + 1.1, "the next second")

    second = back_up(home, tmp_path / "to", "--keep", "1")

    assert not first.exists()
    assert len(everything - set(blobs(tmp_path / "to"))) == 1
    restore(tmp_path / "to", tmp_path / "new")
    assert job_ids(tmp_path / "new") == job_ids(second) == {2, 3}


def test_backup_is_of_one_moment_while_the_server_writes(tmp_path: Path) -> None:
    server = start_server(tmp_path / "home")
    client = Client(server.url)
    done = threading.Event()
    submitted: list[int] = []

    def submit_on() -> None:
        while not done.is_set():
            number = len(submitted)
            packed = zip_of(tmp_path / "job.zip", {"main.py": f"print({number})"})
            submitted.append(client.submit(packed, name=str(number)).id)

    writer = threading.Thread(target=submit_on)
    writer.start()
    try:
        wait_for(lambda: len(submitted) > 10, "some jobs")
        before = len(submitted)
        made = back_up(tmp_path / "home", tmp_path / "to", WORKER_SHARED_TOKEN=server.token)
        after = len(submitted)
        wait_for(lambda: len(submitted) > after, "the server to go on")
    finally:
        done.set()
        writer.join()
    server.stop()
    found = job_ids(made)
    assert set(submitted[:before]) <= found <= set(submitted[: after + 1])
    restore(made, tmp_path / "new", WORKER_SHARED_TOKEN=server.token)
    with application(tmp_path / "new") as app:
        for job_id in found:
            assert app.client.get(f"/api/jobs/{job_id}/bundle").status_code == 200


def test_nothing_that_a_backup_needs_is_deleted_meanwhile(home: Path) -> None:
    with application(home) as app:
        store = app.services.bundles
        names = [path.name for path in (home / "data" / "bundles").glob("??/*")]
        for name in names:
            os.utime(store.path(name), (0, 0))
        for job_id in (1, 2, 3):
            assert app.client.delete(f"/api/jobs/{job_id}").status_code == 204
        elsewhere = BlobStore(home / "data" / "bundles")  # as another process has it
        with elsewhere.kept():
            Housekeeping(app.services).sweep()
            assert all(store.has(name) for name in names)
        Housekeeping(app.services).sweep()
        assert not any(store.has(name) for name in names)


def test_backup_that_was_killed_is_none(home: Path, tmp_path: Path) -> None:
    large = BlobStore(home / "data" / "uploads")
    pieces = [tmp_path / f"piece{number}" for number in range(3)]
    for number, piece in enumerate(pieces):
        with piece.open("wb") as file:
            file.write(bytes([number]))
            file.truncate(120 * 1024**2)
        with piece.open("rb") as file:
            _refer_to(home, large.receive(file, limit=None).sha256)
    process = subprocess.Popen([*COMMAND, "backup", home, tmp_path / "to"], env=environment())
    wait_for(lambda: blobs(tmp_path / "to"), "the first files to be copied")
    process.kill()
    assert process.wait() == -signal.SIGKILL

    (half,) = (tmp_path / "to").glob("20*")
    assert half.name.endswith(".partial")
    for source in (tmp_path / "to", half):
        assert "no complete backup" in refused("restore", source, tmp_path / "new")
    made = back_up(home, tmp_path / "to")
    assert list((tmp_path / "to").glob("20*")) == [made]
    restore(tmp_path / "to", tmp_path / "new")


def _refer_to(home: Path, sha256: str) -> None:
    with closing(sqlite3.connect(home / "data" / "dtrain.db")) as connection, connection:
        connection.execute(
            "INSERT INTO artifacts (job_id, attempt, path, size, sha256) VALUES (2, 1, ?, 1, ?)",
            (sha256, sha256),
        )


def test_backup_of_large_files_needs_little_memory(home: Path, tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(300 * 1024**2)
    with (tmp_path / "large").open("rb") as file:
        _refer_to(home, BlobStore(home / "data" / "uploads").receive(file, limit=None).sha256)
    command = [*COMMAND, "backup", str(home), str(tmp_path / "to")]
    assert peak_memory(command, environment()) < 150 * 1024**2


def test_missing_file_is_told_and_the_rest_saved(home: Path, tmp_path: Path) -> None:
    lost = next((home / "data" / "uploads").glob("??/*"))
    lost.unlink()
    done = dtrain("backup", home, tmp_path / "to")
    assert done.returncode == 1
    assert lost.name in done.stderr
    done = dtrain("restore", tmp_path / "to", tmp_path / "new")
    assert done.returncode == 1
    assert lost.name in done.stderr
    assert job_ids(tmp_path / "new") == {1, 2, 3}


def test_damage_in_a_backup_is_found_and_mended(home: Path, tmp_path: Path) -> None:
    first = back_up(home, tmp_path / "to")
    damaged = next(iter(blobs(tmp_path / "to")))
    damaged.write_bytes(b"rot")
    wait_for(lambda: time.time() > first.stat().st_mtime + 1.1, "the next second")
    done = dtrain("restore", tmp_path / "to", tmp_path / "incomplete")
    assert done.returncode == 1
    assert damaged.name in done.stderr

    back_up(home, tmp_path / "to", "--verify")

    restore(tmp_path / "to", tmp_path / "new")
    with (first / "dtrain.db").open("ab") as database:
        database.write(b"rot")
    assert "damaged" in refused("restore", first, tmp_path / "other")


def test_restore_into_what_has_data_is_refused(home: Path, tmp_path: Path) -> None:
    back_up(home, tmp_path / "to")
    before = (home / "data" / "dtrain.db").read_bytes()
    assert "already" in refused("restore", tmp_path / "to", home)
    assert (home / "data" / "dtrain.db").read_bytes() == before
    (tmp_path / "other" / "data").mkdir(parents=True)
    (tmp_path / "other" / "data" / "dtrain.db-wal").touch()
    assert "dtrain.db-wal is there already" in refused(
        "restore", tmp_path / "to", tmp_path / "other"
    )


def test_commands_on_a_running_server_are_refused(tmp_path: Path, server: RunningServer) -> None:
    token = {"WORKER_SHARED_TOKEN": server.token}
    back_up(server.home, tmp_path / "to", **token)
    assert "Another DTrain server" in refused("restore", tmp_path / "to", server.home, **token)
    url = f"sqlite:///{tmp_path / 'other.db'}"
    told = refused("move-database", server.home, NEW_DATABASE_URL=url, **token)
    assert "Another DTrain server" in told


def test_what_is_no_server_and_what_is_no_backup_is_refused(home: Path, tmp_path: Path) -> None:
    assert "no server's data" in refused("backup", tmp_path / "nothing", tmp_path / "to")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "photo.jpg").touch()
    assert "other things" in refused("backup", home, tmp_path / "full")
    assert "no complete backup" in refused("restore", tmp_path / "full", tmp_path / "new")
