"""Connections and transactions, and the only place that knows which database it is.

SQLite has one writing connection (`writer`): writes that come at the same moment share one commit,
so that each is durable without each paying for its own. PostgreSQL writes in as many transactions
as there are callers. Readers never wait for writers on either.

A write can leave notices (`notice`): topics that are told to this process after the commit, and on
PostgreSQL to every other server process as well.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError

from dtrain.protocol.errors import DTrainError

from .failures import translated
from .writer import Writer

T = TypeVar("T")

_CHANNEL = "dtrain"
_LOCK_WAIT = 30.0
"""Seconds to wait while another process holds SQLite's file."""
_TRIES = 8
"""How often a write is done at most that others at the same moment undo."""
_CROSSED = frozenset({"40001", "40P01", "23505"})
"""PostgreSQL's words for it: serialization failure, deadlock, a key that another has taken."""


def notice(connection: sa.Connection, topic: str) -> None:
    """Tell whoever listens to the topic, once the transaction is committed."""
    connection.info.setdefault("notices", {})[topic] = None


def moment(seconds: float) -> datetime:
    """A stored time as a date and time in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


def insert_once(connection: sa.Connection, table: sa.Table, **values: Any) -> None:
    """Add a row, unless one with the same key is there already."""
    connection.execute(_insert_once(connection.dialect.name, table), values)


def insert_or_hold(connection: sa.Connection, table: sa.Table, **values: Any) -> None:
    """As `insert_once`, and no other writer touches the row until the transaction ends."""
    connection.execute(_insert_or_hold(connection.dialect.name, table), values)


@cache
def _insert_once(dialect: str, table: sa.Table) -> sa.Insert:
    return _insert(dialect, table).on_conflict_do_nothing()


@cache
def _insert_or_hold(dialect: str, table: sa.Table) -> sa.Insert:
    insert = _insert(dialect, table)
    # PostgreSQL locks a row that it changes, and not one that it passes over.
    key = {column.name: insert.excluded[column.name] for column in table.primary_key}
    return insert.on_conflict_do_update(index_elements=list(key), set_=key)


def _insert(dialect: str, table: sa.Table) -> postgresql.Insert | sqlite.Insert:
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


class Database:
    """One database, by its SQLAlchemy URL."""

    def __init__(self, url: str | sa.URL) -> None:
        self.url = sa.make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._on_notice: Callable[[str], None] = lambda _topic: None
        if self.is_sqlite:
            self.engine = self._reader = _sqlite_engine(self.url, "BEGIN")
            self._writer: Writer | None = Writer(_sqlite_engine(self.url, "BEGIN IMMEDIATE"))
        else:
            self.engine = _postgresql_engine(self.url)
            self._reader = self.engine.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
            self._writer = None
        self._listener: _Listener | None = None

    @property
    def file(self) -> Path | None:
        """SQLite's file; None with another database, or one in memory."""
        return Path(self.url.database) if self.is_sqlite and self.url.database else None

    def on_notice(self, listener: Callable[[str], None]) -> None:
        """Have notices told to the listener, from any thread; on PostgreSQL others' as well."""
        self._on_notice = listener
        if not self.is_sqlite:
            self._listener = _Listener(self.engine, listener)
            self._listener.start()

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A connection to read from; all that it reads is of one moment."""
        with translated(), self._reader.connect() as connection:
            yield connection

    def time(self) -> float:
        """PostgreSQL's time of day, in seconds since the epoch.

        Raises:
            Unavailable: it does not answer.
        """
        with self.read() as connection:
            now = sa.func.extract("epoch", sa.func.clock_timestamp())
            return float(connection.execute(sa.select(now)).scalar_one())

    def write(self, work: Callable[[sa.Connection], T]) -> T:
        """Do the work in one transaction and return its result once it is durable.

        The work may run in another thread and must do nothing but SQL: on PostgreSQL it is done
        once more if it meets another write half-way. What it raises is raised here, and nothing of
        it is stored.

        Raises:
            Unavailable: the database cannot take it now (gone, locked, or its disk is full).
        """
        if self._writer is not None:
            result, topics = self._writer.submit(work)
        else:
            with translated():
                result, topics = self._write_persistently(work)
        for topic in topics:
            self._on_notice(topic)
        return result

    def _write_persistently(self, work: Callable[[sa.Connection], T]) -> tuple[T, list[str]]:
        """Do the work on PostgreSQL, again and again while it only loses against another write."""
        for _ in range(_TRIES - 1):
            try:
                return self._write_once(work)
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) not in _CROSSED:
                    raise
        return self._write_once(work)

    def _write_once(self, work: Callable[[sa.Connection], T]) -> tuple[T, list[str]]:
        with self.engine.begin() as connection:
            connection.info.pop("notices", None)
            result = work(connection)
            topics = list(connection.info.pop("notices", {}))
            for topic in topics:
                connection.execute(sa.select(sa.func.pg_notify(_CHANNEL, topic)))
        return result, topics

    def rebuild(self, work: Callable[[sa.Connection], T]) -> T:
        """As `write`, for a change of the tables themselves, while nobody else writes.

        SQLite changes a table by making it anew and dropping the old one, and rows that point to
        the old one would be deleted with it. So nothing follows foreign keys here; what they point
        to is checked at the end instead.

        Raises:
            DTrainError: a row would be left that points nowhere; nothing is stored.
            Unavailable: the database cannot take it now.
        """
        if not self.is_sqlite:
            return self.write(work)
        engine = _sqlite_engine(self.url, "BEGIN IMMEDIATE", foreign_keys=False)
        try:
            with translated(), engine.begin() as connection:
                result = work(connection)
                astray = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
                if astray is not None:
                    raise DTrainError(
                        f"Rows of the table {astray[0]} would point to nothing in {astray[2]};"
                        " the database was left as it was."
                    )
                return result
        finally:
            engine.dispose()

    def close(self) -> None:
        """Finish the writes under way and let go of every connection."""
        if self._writer is not None:
            self._writer.close()
        if self._listener is not None:
            self._listener.close()
        self.engine.dispose()


class _Listener(threading.Thread):
    """Hears the notices of the other server processes on PostgreSQL."""

    def __init__(self, engine: sa.Engine, deliver: Callable[[str], None]) -> None:
        super().__init__(name="postgresql-listener", daemon=True)
        self._engine = engine
        self._deliver = deliver
        self._closed = threading.Event()
        driver: Any = engine.dialect.dbapi
        self._driver_error: type[Exception] = driver.Error

    def run(self) -> None:
        while not self._closed.is_set():
            try:
                with self._engine.connect() as connection:
                    self._listen(connection)
            except (DBAPIError, self._driver_error):
                self._closed.wait(1)

    def _listen(self, connection: sa.Connection) -> None:
        raw: Any = connection.connection.driver_connection
        connection.execute(sa.text(f"LISTEN {_CHANNEL}"))
        connection.commit()
        raw.autocommit = True
        try:
            while not self._closed.is_set():
                for message in raw.notifies(timeout=1.0):
                    self._deliver(message.payload)
        finally:
            connection.invalidate()

    def close(self) -> None:
        self._closed.set()
        self.join(timeout=5)


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch the file to a write-ahead log, which a new file is not set to yet.

    Of two that switch at once SQLite refuses one at once, whatever time it may wait for a lock.
    """
    deadline = time.monotonic() + _LOCK_WAIT
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _sqlite_engine(url: sa.URL, begin: str, *, foreign_keys: bool = True) -> sa.Engine:
    writes = begin == "BEGIN IMMEDIATE"
    engine = sa.create_engine(
        url,
        connect_args={"check_same_thread": False, "timeout": _LOCK_WAIT, "isolation_level": None},
        poolclass=sa.QueuePool,
        pool_size=1 if writes else 8,
        max_overflow=0 if writes else 56,
        pool_timeout=30,
        pool_reset_on_return="rollback",
    )

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        _use_wal(connection)
        for pragma in (
            "synchronous=FULL",
            f"foreign_keys={'ON' if foreign_keys else 'OFF'}",
            "temp_store=MEMORY",
            "mmap_size=0",
            "cache_size=-16000" if writes else "cache_size=-2000",
        ):
            connection.execute(f"PRAGMA {pragma}")
        if not writes:
            connection.execute("PRAGMA query_only=ON")
        # Its own knows the letters of English alone.
        connection.create_function("lower", 1, str.lower, deterministic=True)

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        # The driver itself would begin late, and not for every statement.
        if writes:
            connection.exec_driver_sql(begin)
        else:  # which nothing can keep from beginning, so that no failure need be told
            connection.connection.cursor().execute(begin)

    return engine


def _postgresql_engine(url: sa.URL) -> sa.Engine:
    return sa.create_engine(
        url,
        pool_size=8,
        max_overflow=24,
        pool_timeout=30,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": 10,
            "application_name": "dtrain",
            # Else what a database of no encoding says comes as bytes, the reason to refuse it too.
            "client_encoding": "UTF8",
        },
    )
