"""Hundreds of thousands of jobs in a database: copies of one that was really handed in."""

from __future__ import annotations

import sqlalchemy as sa

import dtrain
from dtrain.server.store import schema
from dtrain.server.store.database import Database

from .place import Place, Server
from .wire import WireWorker

WORKERS = 10
"""Workers on which the ended jobs have run in turn."""
RARE = "needle"
"""What stands in the name of the oldest job alone."""
_TEMPLATE = 1
_SERIES = {
    "sqlite": "WITH RECURSIVE series(n) AS (SELECT {first} UNION ALL"
    " SELECT n + 1 FROM series WHERE n < {last})",
    "postgresql": "WITH series AS (SELECT generate_series({first}, {last}) AS n)",
}


def begin(place: Place, server: Server, client: dtrain.Client) -> None:
    """Hand in the job of which all others are copies, and have the workers join."""
    bundle = place.bundle({"main.py": "print('ok')\n"})
    client.submit(bundle, name=f"the {RARE}", tags=["seeded"])
    for number in range(WORKERS):
        WireWorker(server.url, server.worker_token, f"seeded-{number}")


def seed(url: str, present: int, size: int) -> None:
    """Add jobs until there are so many: of each ten the last waits, the others have ended."""
    database = Database(url)
    try:
        database.write(lambda connection: _add(connection, present + 1, size))
        _settle(database)
    finally:
        database.close()


def _add(connection: sa.Connection, first: int, last: int) -> None:
    """Add the jobs of these numbers, with a tag each and the attempts of those that have ended."""
    workers = list(connection.execute(sa.select(schema.workers.c.id)).scalars())[:WORKERS]
    ended, failed = "n % 10 <> 0", "n % 10 <> 0 AND n % 3 = 0"
    job = {
        "id": "n",
        "name": "'experiment ' || n || ' with rate ' || n % 97",
        "created_at": f"t.created_at + (n - {last}) * 0.001",
        "idempotency_key": "NULL",
        "status": f"CASE WHEN {failed} THEN 'failed' WHEN {ended} THEN 'completed'"
        " ELSE 'pending' END",
        "phase": f"CASE WHEN {ended} THEN NULL ELSE 'queued' END",
        "reason": f"CASE WHEN {failed} THEN 'exit_nonzero' END",
        "message": f"CASE WHEN {failed} THEN 'The script exited with 1.' END",
        "attempt": f"CASE WHEN {ended} THEN 1 ELSE 0 END",
        "worker_id": f"CASE WHEN {ended} THEN {_worker(workers)} END",
        "exit_code": f"CASE WHEN {failed} THEN 1 WHEN {ended} THEN 0 END",
        "started_at": f"CASE WHEN {ended} THEN t.created_at END",
        "finished_at": f"CASE WHEN {ended} THEN t.created_at + 1 END",
    }
    _copy(connection, schema.jobs, job, first, last)
    tag = {"tag": "'tag-' || n % 100", "job_id": "n"}
    _copy(connection, schema.job_tags, tag, first, last)
    empty, true = ("X''", "1") if connection.dialect.name == "sqlite" else ("''::bytea", "true")
    connection.execute(
        sa.text(
            "INSERT INTO attempts (job_id, number, worker_id, secret_hash, state, lease_until,"
            " told_cancel, claimed_at, ended_at, log_bytes, log_lines, log_carry, metric_records,"
            " log_sealed) SELECT id, 1, worker_id, 'seeded-' || id, 'ended', created_at, 0,"
            f" created_at, created_at, 0, 0, {empty}, 0, {true}"
            f" FROM jobs WHERE attempt = 1 AND id >= {first}"
        )
    )


def _copy(
    connection: sa.Connection, table: sa.Table, values: dict[str, str], first: int, last: int
) -> None:
    """Add a row for each number, with these values as SQL and the others those of the template."""
    series = _SERIES[connection.dialect.name].format(first=first, last=last)
    columns = ", ".join(f'"{column.name}"' for column in table.columns)
    given = ", ".join(values.get(column.name, f't."{column.name}"') for column in table.columns)
    connection.execute(
        sa.text(
            f"INSERT INTO {table.name} ({columns}) {series} SELECT {given}"
            f" FROM series CROSS JOIN jobs t WHERE t.id = {_TEMPLATE} ORDER BY n"
        )
    )


def _settle(database: Database) -> None:
    """On PostgreSQL what autovacuum does in a while: later numbers, and statistics."""
    if database.is_sqlite:
        return
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(
            "SELECT setval(pg_get_serial_sequence('jobs', 'id'), (SELECT max(id) FROM jobs))"
        )
        connection.exec_driver_sql("VACUUM ANALYZE")


def _worker(workers: list[str]) -> str:
    """The worker of the latest attempt, as SQL."""
    cases = " ".join(f"WHEN {number} THEN '{name}'" for number, name in enumerate(workers))
    return f"CASE n % {len(workers)} {cases} END"
