"""Backups by the command line, and a server's folder that is worth one."""

from __future__ import annotations

import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

from dtrain.protocol import routes
from dtrain.server.housekeeping import Housekeeping

from .application import Agent, Application, application, bundle, upload
from .command import dtrain


def back_up(home: Path, folder: Path, *options: str, **env: str) -> Path:
    """Make a backup; where it is."""
    done = _dtrain(env, "backup", *options, home, folder)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.partition(": ")[0])


def restore(source: Path, home: Path, **env: str) -> None:
    """Put a backup back."""
    done = _dtrain(env, "restore", source, home)
    assert done.returncode == 0, done.stderr


def refused(*arguments: object, **env: str) -> str:
    """The sentence with which a command refuses."""
    done = _dtrain(env, *arguments)
    assert done.returncode == 2, done.stdout
    assert done.stderr.count("\n") == 1
    return done.stderr


def _dtrain(env: dict[str, str], *arguments: object) -> subprocess.CompletedProcess[str]:
    return dtrain(*arguments, url=None, folder=None, stdin="", **env)


def job_ids(home: Path) -> set[int]:
    """The jobs in a SQLite server's database, or in a backup's."""
    found = [*home.glob("data/dtrain.db"), *home.glob("dtrain.db")]
    with closing(sqlite3.connect(found[0])) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return {row[0] for row in connection.execute("SELECT id FROM jobs")}


def blobs(folder: Path) -> dict[Path, float]:
    """The files that backups share, with when each was written."""
    return {path: path.stat().st_mtime for path in folder.glob("blobs/??/*")}


def made_home(home: Path) -> Path:
    """A server's folder with three jobs: one waits, two have an artifact and a log of their own."""
    with application(home) as app:
        app.submit("waits", file=upload(bundle({"main.py": "print(1)"})), labels="never=1")
        for name in ("first", "second"):
            app.submit(name, file=upload(bundle({"main.py": f"print({name!r})"})))
        _run_both(app)
    return home


def _run_both(app: Application) -> None:
    agent = Agent(app.client)
    ended: list[dict[str, Any]] = []
    for _ in range(2):
        agent.claim()
        assert agent.report("POST", routes.ATTEMPT_LOG, query_string={"offset": 0}, data=b"x\n" * 9)
        sha256 = "5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9"
        kept = [{"path": "model.bin", "size": 1, "sha256": sha256}]
        put = agent.report(
            "PUT",
            routes.ATTEMPT_ARTIFACT,
            parts={"path": "model.bin"},
            query_string={"sha256": sha256},
            data=b"0",
        )
        assert put.status_code == 204, put.text
        finish = {"cause": "exited", "exit_code": 0, "log_bytes": 18, "artifacts": kept}
        answer = agent.report("POST", routes.ATTEMPT_FINISH, json=finish)
        assert (answer.json or {})["applied"], answer.text
        ended.append(finish)
        agent.secret = f"{agent.secret[:-2]}{len(ended):02}"
    housekeeping = Housekeeping(app.services)
    housekeeping._sealed -= 3600
    housekeeping.run_due()
