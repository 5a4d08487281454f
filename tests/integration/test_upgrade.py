"""Upgrades of real servers: programs with more migrations than ours, on data of ours."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from support.application import application
from support.checks import ROOT
from support.command import COMMAND, environment
from support.processes import PATIENCE, free_port, start_server

from dtrain.protocol.messages import BundleInfo
from dtrain.protocol.spec import JobSpec
from dtrain.protocol.worker_messages import Assignment, Command, PollAnswer
from dtrain.server.store.migrate import newest

CREATES = 'op.create_table("told", sa.Column("words", sa.Text()))'
FAILS = f"""\
{CREATES}
    op.execute("DELETE FROM jobs")
    op.execute("SELECT words FROM nowhere")"""
MAKES_JOBS_ANEW = """\
with op.batch_alter_table("jobs", recreate="always") as jobs:
        jobs.add_column(sa.Column("words", sa.Text()))"""
IS_SLOW = f"""\
{CREATES}
    op.execute("INSERT INTO told VALUES ('once')")
    op.execute("SELECT pg_sleep(2)")"""
MIGRATION = """\
import sqlalchemy as sa
from alembic import op

revision = {revision!r}
down_revision = {down_revision!r}
branch_labels = None
depends_on = None


def upgrade():
    {body}
"""

Newer = Callable[..., dict[str, str]]


@pytest.fixture
def newer(tmp_path: Path) -> Newer:
    """Makes a copy of DTrain with more migrations; gives the variables with which it is run."""

    def make(*bodies: str) -> dict[str, str]:
        place = tmp_path / f"newer-{len(list(tmp_path.glob('newer-*')))}"
        package = shutil.copytree(ROOT / "src" / "dtrain", place / "dtrain")
        down_revision = newest()
        for number, body in enumerate(bodies):
            revision = str(9001 + number)
            text = MIGRATION.format(revision=revision, down_revision=down_revision, body=body)
            versions = package / "server" / "store" / "migrations" / "versions"
            (versions / f"{revision}_test.py").write_text(text)
            down_revision = revision
        return {"PYTHONPATH": str(place)}

    return make


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The folder of a server of ours, with a job that has a tag."""
    with application(tmp_path / "home") as app:
        app.submit(tags="kept")
    return tmp_path / "home"


def refused(home: Path, **env: str) -> str:
    """The sentence with which a server does not start."""
    port = str(free_port())
    done = subprocess.run(
        [*COMMAND, "server", home],
        env=environment(DTRAIN_PORT=port, **env),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def tables(file: Path) -> set[str]:
    """The tables in a SQLite file, which is sound and has the job."""
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT tag FROM job_tags").fetchall() == [("kept",)]
        rows = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        return {row[0] for row in rows}


def test_database_is_copied_before_it_is_changed(home: Path, newer: Newer) -> None:
    database = home / "data" / "dtrain.db"
    start_server(home).stop()
    assert list(home.glob("data/*before*")) == []

    start_server(home, **newer(CREATES)).stop()

    (copy,) = home.glob("data/*before*")
    assert copy.name == "dtrain.db.before-9001"
    assert copy.stat().st_mode & 0o777 == 0o600
    assert "told" in tables(database)
    assert "told" not in tables(copy)
    for rest in home.glob("data/dtrain.db-*"):
        rest.unlink()
    copy.replace(database)
    start_server(home).stop()


def test_three_newest_copies_stay(home: Path, newer: Newer) -> None:
    for count in range(1, 5):
        start_server(home, **newer(CREATES, *["pass"] * (count - 1))).stop()
    kept = sorted(path.name for path in home.glob("data/*before*"))
    assert kept == ["dtrain.db.before-9002", "dtrain.db.before-9003", "dtrain.db.before-9004"]


def test_failed_migration_changes_nothing(home: Path, newer: Newer) -> None:
    told = refused(home, **newer("pass", FAILS))
    assert newest() in told
    assert "9002" in told
    assert "nowhere" in told
    assert "told" not in tables(home / "data" / "dtrain.db")
    server = start_server(home)
    assert [job["id"] for job in server.json("/api/jobs")["jobs"]] == [1]


def test_table_that_is_made_anew_keeps_what_points_to_it(home: Path, newer: Newer) -> None:
    start_server(home, **newer(MAKES_JOBS_ANEW)).stop()
    assert "job_tags" in tables(home / "data" / "dtrain.db")  # and the job's tag is in it


def test_migration_that_leaves_rows_astray_is_undone(home: Path, newer: Newer) -> None:
    told = refused(home, **newer('op.execute("DELETE FROM jobs")'))
    assert "job_tags" in told
    start_server(home)


def test_older_program_says_which_revisions_there_are(home: Path, newer: Newer) -> None:
    start_server(home, **newer(CREATES)).stop()
    told = refused(home)
    assert "9001" in told
    assert newest() in told
    assert "newer version" in told
    assert "told" in tables(home / "data" / "dtrain.db")


def test_servers_that_start_at_once_on_postgresql_migrate_once(
    tmp_path: Path, newer: Newer, postgres_url: str
) -> None:
    start_server(tmp_path / "first", DATABASE_URL=postgres_url).stop()
    variables = newer(IS_SLOW)

    def start(name: str) -> object:
        server = start_server(tmp_path / name, DATABASE_URL=postgres_url, **variables)
        return server.json("/api/jobs")["jobs"]

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(start, ["a", "b", "c"])) == [[], [], []]
    with psycopg.connect(postgres_url.replace("+psycopg", "")) as connection:
        assert connection.execute("SELECT words FROM told").fetchall() == [("once",)]


def test_failed_migration_on_postgresql_changes_nothing(
    tmp_path: Path, newer: Newer, postgres_url: str
) -> None:
    with application(tmp_path / "home", {"DATABASE_URL": postgres_url}) as app:
        app.submit()
    told = refused(tmp_path / "home", DATABASE_URL=postgres_url, **newer(FAILS))
    assert "left as it was" in told
    server = start_server(tmp_path / "home", DATABASE_URL=postgres_url)
    assert [job["id"] for job in server.json("/api/jobs")["jobs"]] == [1]


def test_worker_of_an_older_version_understands_a_newer_server() -> None:
    """Whatever fields a newer one adds, in the job's spec too: the server is upgraded first."""
    spec = JobSpec(name="a job")
    bundle = BundleInfo(sha256="0" * 64, size=1, files=1)
    assignment = Assignment(job_id=1, attempt=1, spec=spec, bundle=bundle, submitter=None)
    command = Command(job_id=2, attempt=1, action="cancel")
    answer = PollAnswer(assignment=assignment, commands=[command])
    newer = _with_more(msgspec.to_builtins(answer))
    assert msgspec.json.decode(msgspec.json.encode(newer), type=PollAnswer) == answer


def _with_more(value: Any) -> Any:
    """JSON in which each object of the protocol has a member that nobody knows."""
    if isinstance(value, list):
        return [_with_more(one) for one in value]
    if not isinstance(value, dict):
        return value
    more = {name: _with_more(one) for name, one in value.items() if name not in {"env", "labels"}}
    return {**more, "of_a_newer_version": [1]}
