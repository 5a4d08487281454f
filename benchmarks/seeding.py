"""Hundreds of thousands of jobs in a database: copies of one that was really handed in."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

import dtrain
from dtrain.server.store import schema
from dtrain.server.store.database import Database

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


def hand_in_template(client: dtrain.Client, bundle: Path) -> None:
    """The job of which all others are copies."""
    client.submit(bundle, name=f"the {RARE}", tags=["seeded"])


def seed(url: str, present: int, size: int) -> None:
    """Add jobs until there are so many: of each ten the last waits, the others have ended."""
    database = Database(url)
    first, last = present + 1, size
    with database.engine.begin() as connection:
        workers = list(connection.execute(sa.select(schema.workers.c.id)).scalars())[:WORKERS]
        series = _SERIES[connection.dialect.name].format(first=first, last=last)

        def copy(table: sa.Table, **values: str) -> None:
            columns = ", ".join(f'"{column.name}"' for column in table.columns)
            given = ", ".join(
                values.get(column.name, f't."{column.name}"') for column in table.columns
            )
            connection.exec_driver_sql(
                f"INSERT INTO {table.name} ({columns}) {series} SELECT {given}"
                f" FROM series CROSS JOIN jobs t WHERE t.id = {_TEMPLATE} ORDER BY n"
            )

        ended = "n % 10 <> 0"
        copy(
            schema.jobs,
            id="n",
            name="'experiment ' || n || ' with rate ' || n % 97",
            created_at=f"t.created_at + (n - {size}) * 0.001",
            idempotency_key="NULL",
            status=f"CASE WHEN {ended} THEN CASE WHEN n % 3 = 0 THEN 'failed' ELSE 'completed' END"
            " ELSE 'pending' END",
            phase=f"CASE WHEN {ended} THEN NULL ELSE 'queued' END",
            reason=f"CASE WHEN {ended} AND n % 3 = 0 THEN 'exit_nonzero' END",
            message=f"CASE WHEN {ended} AND n % 3 = 0 THEN 'The script exited with 1.' END",
            attempt=f"CASE WHEN {ended} THEN 1 ELSE 0 END",
            worker_id=_worker(ended, workers),
            exit_code=f"CASE WHEN {ended} THEN CASE WHEN n % 3 = 0 THEN 1 ELSE 0 END END",
            started_at=f"CASE WHEN {ended} THEN t.created_at END",
            finished_at=f"CASE WHEN {ended} THEN t.created_at + 1 END",
        )
        copy(schema.job_tags, tag="'tag-' || n % 100", job_id="n")
        connection.exec_driver_sql(
            "INSERT INTO attempts (job_id, number, worker_id, secret_hash, state, lease_until,"
            " told_cancel, claimed_at, ended_at, log_bytes, log_lines, log_carry, metric_records,"
            " log_sealed) SELECT id, 1, worker_id, 'seeded-' || id, 'ended', created_at, 0,"
            f" created_at, created_at, 0, 0, {_empty(connection)}, 0,"
            f" {_true(connection)} FROM jobs WHERE attempt = 1 AND id >= {first}"
        )
    _settle(database)
    database.engine.dispose()


def _settle(database: Database) -> None:
    """On PostgreSQL what autovacuum does in a while: later numbers, and statistics."""
    if database.is_sqlite:
        return
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(
            "SELECT setval(pg_get_serial_sequence('jobs', 'id'), (SELECT max(id) FROM jobs))"
        )
        connection.exec_driver_sql("VACUUM ANALYZE")


def _worker(ended: str, workers: list[str]) -> str:
    """The worker of the latest attempt, as SQL."""
    cases = " ".join(f"WHEN {number} THEN '{name}'" for number, name in enumerate(workers))
    return f"CASE WHEN {ended} THEN CASE n % {len(workers)} {cases} END END"


def _empty(connection: sa.Connection) -> str:
    return "X''" if connection.dialect.name == "sqlite" else "''::bytea"


def _true(connection: sa.Connection) -> str:
    return "1" if connection.dialect.name == "sqlite" else "true"
