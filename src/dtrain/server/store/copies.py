"""Copies of a whole database: of one moment while it is in use, and into one of another kind.

The copy in a backup is one SQLite file, whatever the server itself uses: it can be looked into
anywhere, and restored into either.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dtrain.protocol.errors import Conflict, DTrainError, Refused

from . import artifacts as artifact_rows
from .database import Database
from .failures import translated
from .migrate import newest, refuse_newer, revision, upgrade
from .schema import (
    artifacts,
    bundles,
    checkpoint_files,
    events,
    jobs,
    log_chunks,
    metadata,
)
from .sqlite_file import Progress, complete, copy_file, open_to_read

Place = Path | str
"""Where a database is: SQLite's file, or PostgreSQL's URL."""

_ROWS = 32
"""Rows in memory at once; a chunk of a log may have a MiB."""
_SKIPPED_EVENTS = 10**9
_SKIPPED_JOBS = 1000
_SERVERS = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND application_name = 'dtrain'"
)


def copy_database(source: Place, target: Path, progress: Progress) -> None:
    """Copy a database, as it is at one moment, into a new SQLite file that is checked.

    Writers and readers of the database are not held up.

    Raises:
        DTrainError: it cannot be read, or is damaged, or the file cannot be written.
        Refused: it is of another version of DTrain.
    """
    if isinstance(source, Path):
        copy_file(source, target, progress)
        return
    copy = Database(_url(target))
    try:
        upgrade(copy)
        copy.rebuild(lambda connection: _copy_rows(source, connection, progress))
    finally:
        copy.close()
    complete(target)


def restore_database(copy: Path, place: Place, scratch: Path, progress: Progress) -> None:
    """Put a copy to where a server looks for its database, and where there is none yet.

    Numbers that may have been given since the copy was made are left out: what came after it is
    forgotten now, but workers, browsers and people still know those numbers, and they must not
    come to mean something else.

    Args:
        copy: the file.
        place: where it goes.
        scratch: a folder for a second copy, on the disk of a place that is a file.
        progress: told of rows that are stored.

    Raises:
        Refused: there is something already, or the copy is of a newer version of DTrain.
        DTrainError: the database cannot be used; nothing is stored.
    """
    with database_of(copy) as connection:
        refuse_newer(revision(connection))
    with tempfile.TemporaryDirectory(dir=scratch, prefix="restoring-") as apart:
        file = Path(apart, copy.name)
        shutil.copyfile(copy, file)
        restored = Database(_url(file))
        try:
            restored.write(_skip_numbers)
            if isinstance(place, str):
                upgrade(restored)
        finally:
            restored.close()
        complete(file)
        if isinstance(place, Path):
            file.rename(place)
        else:
            move(file, place, progress)


def move(source: Place, target: Place, progress: Progress) -> int:
    """Copy every row of a database that nobody uses into one that has none; how many there were.

    Raises:
        Refused: the other one is not empty, or the first one is of another version of DTrain.
        Conflict: a server uses one of them.
        DTrainError: one cannot be used; nothing is stored.
    """
    for place in (source, target):
        _refuse_used(place)
    with database_of(source) as connection:
        _refuse_other_version(connection)
    database = Database(_url(target))
    try:
        upgrade(database)
        return database.rebuild(lambda connection: _copy_rows(source, connection, progress))
    finally:
        database.close()


def needed(file: Path, hashes: set[str]) -> set[str]:
    """Those of the blobs to which a copy refers."""
    with database_of(file) as connection:
        asked = sa.select(bundles.c.sha256).where(bundles.c.sha256.in_(hashes))
        return set(connection.execute(asked).scalars()) | artifact_rows.needed(connection, hashes)


def count_blobs(file: Path) -> int:
    """To how many blobs a copy refers."""
    with database_of(file) as connection:
        return sum(1 for found in (bundle_hashes, blob_hashes) for _ in found(connection))


def bundle_hashes(connection: sa.Connection) -> Iterator[str]:
    """The bundles that a database knows."""
    yield from connection.execute(sa.select(bundles.c.sha256).order_by(bundles.c.sha256)).scalars()


def blob_hashes(connection: sa.Connection) -> Iterator[str]:
    """The blobs in which a database has artifacts, checkpoints and finished logs."""
    in_logs = sa.select(log_chunks.c.blob_sha256).where(log_chunks.c.blob_sha256.is_not(None))
    files = sa.select(artifacts.c.sha256), sa.select(checkpoint_files.c.sha256)
    yield from connection.execute(sa.union(*files, in_logs)).scalars()


@contextmanager
def database_of(place: Place) -> Iterator[sa.Connection]:
    """A connection to read from; all that it reads is of one moment."""
    if isinstance(place, Path):
        engine = sa.create_engine(
            "sqlite://", creator=lambda: open_to_read(place), poolclass=sa.NullPool
        )
        begin = "BEGIN"
    else:
        # The name tells it from servers, which call themselves "dtrain".
        engine = sa.create_engine(
            place,
            poolclass=sa.NullPool,
            isolation_level="REPEATABLE READ",
            connect_args={"connect_timeout": 10, "application_name": "dtrain copy"},
        )
        begin = "SET TRANSACTION READ ONLY"
    with translated(), engine.connect() as connection:
        connection.exec_driver_sql(begin)
        yield connection


def _url(place: Place) -> sa.URL:
    if isinstance(place, Path):
        return sa.URL.create("sqlite", database=str(place))
    return sa.make_url(place)


def _refuse_used(place: Place) -> None:
    """Refuse PostgreSQL with servers on it; on SQLite the caller holds the server's lock."""
    if isinstance(place, str):
        with database_of(place) as connection:
            if connection.execute(sa.text(_SERVERS)).scalar_one():
                raise Conflict(
                    "A DTrain server is using the PostgreSQL database; stop all of them first."
                )


def _refuse_other_version(connection: sa.Connection) -> None:
    current = revision(connection)
    refuse_newer(current)
    if current != newest():
        raise Refused(
            "The database is of an older version of DTrain; start the server of this version once,"
            " which brings it up to date."
        )


def _copy_rows(source: Place, target: sa.Connection, progress: Progress) -> int:
    """Copy every row, inside the transaction of the target.

    Raises:
        Refused: the target has rows already.
        DTrainError: it has other numbers of rows afterwards.
    """
    tables = metadata.sorted_tables
    if any(_count(target, table) for table in tables):
        raise Refused(
            "The database to copy into has jobs, workers or the like in it; name an empty one."
        )
    with database_of(source) as connection:
        _refuse_other_version(connection)
        counts = {table.name: _count(connection, table) for table in tables}
        total, done = sum(counts.values()), 0
        for table in tables:
            rows = connection.execution_options(yield_per=_ROWS).execute(sa.select(table))
            for part in rows.mappings().partitions():
                target.execute(table.insert(), [dict(row) for row in part])
                done += len(part)
                progress(done, total)
        _set_last_numbers(target, _last_numbers(connection))
    arrived = {table.name: _count(target, table) for table in tables}
    if arrived != counts:
        raise DTrainError(f"Of the rows {counts} these have arrived: {arrived}; nothing is stored.")
    return total


def _skip_numbers(connection: sa.Connection) -> None:
    last = _last_numbers(connection)
    last[events.name] += _SKIPPED_EVENTS
    last[jobs.name] = (last[jobs.name] // _SKIPPED_JOBS + 1) * _SKIPPED_JOBS
    _set_last_numbers(connection, last)


def _count(connection: sa.Connection, table: sa.Table) -> int:
    return connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()


def _numbered() -> dict[str, sa.Column[Any]]:
    """The columns in which the database itself counts, by table."""
    found = {table.name: table.autoincrement_column for table in metadata.sorted_tables}
    return {name: column for name, column in found.items() if column is not None}


def _last_numbers(connection: sa.Connection) -> dict[str, int]:
    """The last number that was given in each table."""
    if connection.dialect.name == "postgresql":
        query = "SELECT pg_sequence_last_value(pg_get_serial_sequence(:name, :column)::regclass)"
    else:
        query = "SELECT seq FROM sqlite_sequence WHERE name = :name AND :column IS NOT NULL"
    return {
        name: connection.execute(sa.text(query), {"name": name, "column": column.name}).scalar()
        or connection.execute(sa.select(sa.func.max(column))).scalar()
        or 0
        for name, column in _numbered().items()
    }


def _set_last_numbers(connection: sa.Connection, last: dict[str, int]) -> None:
    columns = _numbered()
    for name, number in last.items():
        values = {"name": name, "column": columns[name].name, "number": number}
        if connection.dialect.name == "postgresql":
            if number:
                setting = "SELECT setval(pg_get_serial_sequence(:name, :column), :number)"
                connection.execute(sa.text(setting), values)
        elif columns[name].table.dialect_options["sqlite"]["autoincrement"]:
            connection.execute(sa.text("DELETE FROM sqlite_sequence WHERE name = :name"), values)
            setting = "INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :number)"
            connection.execute(sa.text(setting), values)
