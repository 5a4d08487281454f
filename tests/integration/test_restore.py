"""What becomes of workers, jobs and viewers after a restore, and databases of another kind."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import sqlalchemy as sa
from support.api import get_json, log_of, wait_for_status
from support.application import Agent, Application, application
from support.backups import back_up, made_home, refused, restore
from support.command import dtrain
from support.example_job import zip_of
from support.postgres import Cluster
from support.processes import PATIENCE, start_server, start_worker, wait_for

from dtrain.client.client import Client
from dtrain.protocol import routes
from dtrain.server.background import Background
from dtrain.server.store.database import Database
from dtrain.server.store.schema import metadata

JOB = """
import os, pathlib, time
folder = pathlib.Path(os.environ["FOLDER"])
(folder / os.environ["NAME"]).write_text(str(os.getpid()))
step = 0
while not (folder / "gate").exists():
    step += 1
    print(f"PROGRESS: {{\\"step\\": {step}}}", flush=True)
    time.sleep(0.01)
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A server's folder with three jobs, of which two have ended."""
    return made_home(tmp_path / "home")


def test_numbers_given_after_the_backup_are_not_given_again(home: Path, tmp_path: Path) -> None:
    back_up(home, tmp_path / "to")
    with application(home) as app:
        assert app.submit("forgotten")["id"] == 4
        lost = app.client.get("/api/jobs/4/events").json or {}
    restore(tmp_path / "to", tmp_path / "new")
    with application(tmp_path / "new") as app:
        assert app.client.get("/api/jobs/4").status_code == 404
        assert app.submit("new")["id"] == 1001
        last_id = lost["events"][-1]["id"]
        assert next(app.services.events.follow(last_id))[0].event == "reset"


@contextmanager
def _followed(url: str, last_id: str | None = None) -> Iterator[Callable[[], dict[str, str]]]:
    """The server's stream of changes; gives a function that reads the next message."""
    headers = {} if last_id is None else {"Last-Event-ID": last_id}
    request = urllib.request.Request(f"{url}/api/stream", headers=headers)
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:

        def read() -> dict[str, str]:
            message: dict[str, str] = {}
            while True:
                line = answer.readline().decode().rstrip("\n")
                if line and not line.startswith(":"):
                    name, _, value = line.partition(": ")
                    message[name] = value
                elif message.get("event"):
                    return message
                else:
                    message = {}

        yield read


def test_workers_and_jobs_go_on_with_a_server_restored_in_their_midst(tmp_path: Path) -> None:
    server = start_server(tmp_path / "home", DTRAIN_PORT="", WORKER_SHARED_TOKEN="the-worker-token")
    worker = start_worker(tmp_path / "worker", server, slots=2)
    folder = tmp_path / "witness"
    folder.mkdir()
    packed = zip_of(tmp_path / "job.zip", {"main.py": JOB})
    client = Client(server.url)

    def submit(name: str) -> int:
        return client.submit(packed, name=name, env={"FOLDER": str(folder), "NAME": name}).id

    def grows(job_id: int) -> None:
        before = len(log_of(server.url, job_id))
        wait_for(lambda: len(log_of(server.url, job_id)) > before + 500, "the log to grow")

    kept = submit("kept")
    wait_for_status(server.url, kept, "running")
    grows(kept)
    back_up(tmp_path / "home", tmp_path / "to", WORKER_SHARED_TOKEN=server.token)

    # What the backup will know nothing of: log bytes, a job, an agent's session, events.
    grows(kept)
    forgotten = submit("forgotten")
    with _followed(server.url, "0") as read:
        worker.kill()
        worker.restart()
        while "id" in (message := read()):
            last_id = message["id"]
            if '"joined"' in message["data"] and int(last_id) > 5:
                break
    grows(kept)
    grows(forgotten)
    process = psutil.Process(int((folder / "forgotten").read_text()))
    job = psutil.Process(int((folder / "kept").read_text()))
    known = len(log_of(server.url, kept))
    server.stop()
    (tmp_path / "home").rename(tmp_path / "lost")
    restore(tmp_path / "to", tmp_path / "home", WORKER_SHARED_TOKEN=server.token)
    server.output = tmp_path / "restored.log"
    server.restart()

    with _followed(server.url, last_id) as read:
        assert read()["event"] == "reset"
    wait_for(lambda: len(log_of(server.url, kept)) > known, "the log to come once more")
    wait_for(lambda: not process.is_running(), "the forgotten job to be ended")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get_json(f"{server.url}/api/jobs/{forgotten}")
    assert submit("new") == 1001
    wait_for_status(server.url, 1001, "running")
    assert job.is_running()
    assert worker.alive
    (folder / "gate").touch()
    ended = wait_for_status(server.url, kept, "completed")
    wait_for_status(server.url, 1001, "completed")
    assert (ended["attempt"], ended["reason"]) == (1, None)
    steps = [json.loads(line[10:])["step"] for line in log_of(server.url, kept).splitlines()]
    assert steps == list(range(1, len(steps) + 1))
    assert "Traceback" not in server.text() + worker.text()


def test_job_that_ended_after_the_backup_runs_again(tmp_path: Path) -> None:
    with application(tmp_path / "home") as app:
        app.submit()
        agent = Agent(app.client)
        claimed = agent.claim()
        report = {"job_id": claimed["job_id"], "attempt": 1, "secret": agent.secret}
        message = agent.poll_message(
            attempts=[{**report, "phase": "executing"}], next_secret="x" * 43
        )
        assert agent.call("POST", routes.POLL, json=message).status_code == 200
    back_up(tmp_path / "home", tmp_path / "to", WORKER_SHARED_TOKEN="your-worker-token")
    restore(tmp_path / "to", tmp_path / "new", WORKER_SHARED_TOKEN="your-worker-token")
    # The worker has reported its end in the meantime, and forgotten it.
    with application(tmp_path / "new") as app:
        background = Background(app.services)
        background._extend("The server has started")
        agent.client = app.client
        agent.secret = "y" * 43
        with_clock(app, 100)
        answer = agent.call("POST", routes.POLL, json=agent.poll_message())
        assert answer.status_code == 200, answer.text
        job = app.client.get("/api/jobs/1").json or {}
        assert (job["status"], job["phase"], job["attempt"]) == ("pending", "retry_wait", 1)


def with_clock(app: Application, ahead: float) -> None:
    """Let the server's clock be ahead."""
    clock = app.services.clock
    real = clock.time
    object.__setattr__(clock, "time", lambda: real() + ahead)


def _rows(url: str) -> dict[str, list[tuple[Any, ...]]]:
    database = Database(url)
    try:
        with database.read() as connection:
            return {
                table.name: sorted(
                    tuple(map(_plain, row)) for row in connection.execute(sa.select(table))
                )
                for table in metadata.sorted_tables
            }
    finally:
        database.close()


def _plain(value: object) -> str:
    return repr(bytes(value) if isinstance(value, memoryview) else value)


def test_database_moves_to_postgresql_and_goes_on_there(
    home: Path, tmp_path: Path, postgres_url: str
) -> None:
    done = dtrain("move-database", home, NEW_DATABASE_URL=postgres_url)
    assert done.returncode == 0, done.stderr
    assert "Now set DATABASE_URL" in done.stdout

    assert _rows(postgres_url) == _rows(f"sqlite:///{home / 'data' / 'dtrain.db'}")
    told = refused("move-database", home, NEW_DATABASE_URL=postgres_url)
    assert "name an empty one" in told
    with application(home, {"DATABASE_URL": postgres_url}) as app:
        assert app.submit("next")["id"] == 4
        assert "stop all of them" in refused(
            "move-database", home, DATABASE_URL=postgres_url, NEW_DATABASE_URL="sqlite:///back.db"
        )
    done = dtrain(
        "move-database", home, DATABASE_URL=postgres_url, NEW_DATABASE_URL="sqlite:///back.db"
    )
    assert done.returncode == 0, done.stderr
    assert _rows(postgres_url) == _rows(f"sqlite:///{home / 'back.db'}")
    with application(home, {"DATABASE_URL": "sqlite:///back.db"}) as app:
        assert app.submit("and the next")["id"] == 5


def test_server_on_postgresql_is_backed_up_and_restored_to_either(
    home: Path, tmp_path: Path, postgres_url: str, postgres_cluster: Cluster
) -> None:
    dtrain("move-database", home, NEW_DATABASE_URL=postgres_url)
    with application(home, {"DATABASE_URL": postgres_url}):
        back_up(home, tmp_path / "to", DATABASE_URL=postgres_url)
    told = refused("restore", tmp_path / "to", tmp_path / "mine", DATABASE_URL=postgres_url)
    assert "name an empty one" in told
    with postgres_cluster.database() as other:
        restore(tmp_path / "to", tmp_path / "other", DATABASE_URL=other)
        assert _rows(other) == _rows(postgres_url)
        with application(tmp_path / "other", {"DATABASE_URL": other}) as app:
            assert app.submit("next")["id"] == 1001
            assert app.client.get("/api/jobs/2/artifacts/model.bin").data == b"0"
    restore(tmp_path / "to", tmp_path / "small")
    assert _rows(f"sqlite:///{tmp_path / 'small' / 'data' / 'dtrain.db'}") == _rows(postgres_url)
