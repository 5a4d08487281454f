"""What the store's ground promises, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from support.processes import PATIENCE, wait_for

from dtrain.protocol.errors import Refused, Unavailable
from dtrain.server.store import events, job_lists
from dtrain.server.store.database import Database, notice
from dtrain.server.store.job_lists import Filters
from dtrain.server.store.migrate import upgrade
from dtrain.server.store.schema import events as events_table
from dtrain.server.store.schema import metadata


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    made = Database(database_url)
    upgrade(made)
    yield made
    made.close()


def append(kind: str, **data: Any) -> Callable[[sa.Connection], None]:
    return lambda connection: events.append(connection, kind, 1.0, **data)


def kinds(database: Database) -> list[str]:
    with database.read() as connection:
        return [event.kind for event in events.after(connection, 0, 10_000)]


def at_once(*calls: Callable[[], object]) -> list[BaseException | None]:
    """Make the calls in threads of their own; what each raised."""
    raised: list[BaseException | None] = [None] * len(calls)
    barrier = threading.Barrier(len(calls))

    def run(index: int) -> None:
        barrier.wait()
        try:
            calls[index]()
        except Exception as error:  # handed to the test
            raised[index] = error

    threads = [threading.Thread(target=run, args=[index]) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


def test_migrations_lead_to_the_declared_schema(database: Database) -> None:
    def is_declared(name: str | None, kind: str, _parents: object) -> bool:
        of_search = "job_names" if kind == "table" else "ix_jobs_name_trigrams"
        return not (name or "").startswith(of_search)  # what SQLAlchemy has no word for

    options = {"compare_server_default": True, "include_name": is_declared}
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts=options)
        found = compare_metadata(context, metadata)
    if database.is_sqlite:  # whose indexes are read back without their directions
        found = [one for one in found if getattr(one[1], "name", None) != "ix_jobs_as_served"]
    assert found == []


def test_waiting_jobs_are_found_in_the_order_in_which_they_are_served(database: Database) -> None:
    """However many wait: none of them is sorted."""
    waiting = sa.text(
        "SELECT id FROM jobs WHERE status = 'pending' AND request_key = 'key'"
        " ORDER BY priority DESC, id LIMIT 5"
    )
    with database.read() as connection:
        if database.is_sqlite:
            plan = connection.execute(sa.text(f"EXPLAIN QUERY PLAN {waiting}")).all()
        else:
            for way in ("seqscan", "bitmapscan", "sort"):  # which are right for a few jobs
                connection.execute(sa.text(f"SET LOCAL enable_{way} = off"))
            plan = connection.execute(sa.text(f"EXPLAIN {waiting}")).all()
    assert "ix_jobs_as_served" in str(plan)
    assert "TEMP B-TREE" not in str(plan)
    assert "Sort" not in str(plan)


def test_postgresql_that_allows_no_extension_does_without_its_index(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"modest_{secrets.token_hex(4)}"
    with psycopg.connect(postgres_url.replace("+psycopg", "")) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'modest'")  # type: ignore[arg-type]
        connection.execute(f"GRANT CREATE ON SCHEMA public TO {name}")  # type: ignore[arg-type]
    database = Database(sa.make_url(postgres_url).set(username=name, password="modest"))
    try:
        upgrade(database)
        assert "permission denied to create extension" in caplog.text
        with database.read() as connection:
            assert job_lists.page(connection, Filters(text="model"), limit=50) == []
    finally:
        database.close()


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_postgresql_of_another_encoding_is_refused(postgres_url: str, encoding: str) -> None:
    name = f"other_{secrets.token_hex(4)}"
    made = f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(made)  # type: ignore[arg-type]
        database = Database(sa.make_url(postgres_url).set(database=name))
        try:
            with pytest.raises(Refused, match=f"encoding {encoding}"):
                upgrade(database)
        finally:
            database.close()
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[arg-type]


def test_upgrade_of_what_is_up_to_date_changes_nothing(database: Database) -> None:
    database.write(append("kept"))
    upgrade(database)
    assert kinds(database) == ["kept"]


def test_two_upgrades_at_once_make_one_schema(database_url: str) -> None:
    databases = [Database(database_url) for _ in range(2)]
    try:
        assert at_once(*(lambda one=one: upgrade(one) for one in databases)) == [None, None]
        assert kinds(databases[0]) == []
    finally:
        for one in databases:
            one.close()


def test_new_file_is_opened_by_several_at_once(tmp_path: Path) -> None:
    def open_it(url: str) -> None:
        database = Database(url)
        try:
            tables = sa.text("SELECT count(*) FROM sqlite_master")
            with database.read() as connection:
                assert connection.execute(tables).scalar_one() == 0
        finally:
            database.close()

    for index in range(40):
        url = f"sqlite:///{tmp_path}/{index}.db"
        assert at_once(*[lambda url=url: open_it(url)] * 4) == [None] * 4


def test_database_of_a_newer_version_is_refused_and_left_alone(database: Database) -> None:
    database.write(lambda c: c.execute(sa.text("UPDATE alembic_version SET version_num = '9999'")))
    with pytest.raises(Refused, match="newer version"):
        upgrade(database)


def test_failing_write_undoes_nothing_but_itself(database: Database) -> None:
    class Mistake(Exception):
        pass

    def fail(connection: sa.Connection) -> None:
        events.append(connection, "bad", 1.0)
        raise Mistake

    def break_a_rule(connection: sa.Connection) -> None:
        events.append(connection, "bad", 1.0)
        connection.execute(events_table.insert().values(kind=None, at=1.0, data="{}"))

    works = [
        fail if n % 3 == 0 else break_a_rule if n % 3 == 1 else append("good") for n in range(30)
    ]
    raised = at_once(*(lambda work=work: database.write(work) for work in works))
    assert [isinstance(error, Mistake) for error in raised[::3]] == [True] * 10
    assert [isinstance(error, sa.exc.IntegrityError) for error in raised[1::3]] == [True] * 10
    assert raised[2::3] == [None] * 10
    assert kinds(database) == ["good"] * 10


def test_writes_that_wait_for_another_are_each_answered(database: Database) -> None:
    begun, goes_on = threading.Event(), threading.Event()
    answers: dict[int, int] = {}

    def first(connection: sa.Connection) -> None:
        begun.set()
        assert goes_on.wait(PATIENCE)
        append("first")(connection)

    def waiting(number: int) -> None:
        def work(connection: sa.Connection) -> int:
            append(f"kind{number}")(connection)
            if number % 5 == 0:
                raise Refused("not this one")
            return number

        assert begun.wait(PATIENCE)
        answers[number] = database.write(work)

    def release() -> None:
        assert begun.wait(PATIENCE)
        goes_on.set()

    raised = at_once(
        lambda: database.write(first), release, *(partial(waiting, number) for number in range(20))
    )
    refused = {number for number in range(20) if number % 5 == 0}
    assert {number - 2 for number, error in enumerate(raised) if error is not None} == refused
    assert answers == {number: number for number in set(range(20)) - refused}
    stored = {f"kind{number}" for number in answers} | {"first"}
    assert sorted(kinds(database)) == sorted(stored)


def test_written_is_seen_by_the_next_reader_and_by_a_later_process(
    database: Database, database_url: str
) -> None:
    database.write(append("told", text="é\u2028"))
    assert kinds(database) == ["told"]
    other = Database(database_url)
    try:
        assert kinds(other) == ["told"]
    finally:
        other.close()


def test_reader_waits_for_no_writer_and_sees_none_of_its_half(database: Database) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def slow(connection: sa.Connection) -> None:
        events.append(connection, "slow", 1.0)
        inside.set()
        assert go_on.wait(PATIENCE)

    writer = threading.Thread(target=database.write, args=[slow])
    writer.start()
    try:
        assert inside.wait(PATIENCE)
        assert kinds(database) == []
    finally:
        go_on.set()
        writer.join()
    assert kinds(database) == ["slow"]


def test_event_ids_rise_in_the_order_of_the_commits(database: Database) -> None:
    """A reader by id must never see a lower one appear behind it."""
    done = threading.Event()
    seen: list[int] = []

    def tail() -> None:
        while True:
            is_last = done.is_set()
            with database.read() as connection:
                seen.extend(e.id for e in events.after(connection, seen[-1] if seen else 0, 1000))
            if is_last:
                return

    reader = threading.Thread(target=tail)
    reader.start()
    try:
        raised = at_once(
            *(lambda: [database.write(append("one")) for _ in range(20)] for _ in range(8))
        )
    finally:
        done.set()
        reader.join()
    assert raised == [None] * 8
    assert len(seen) == 160
    assert seen == sorted(set(seen))


def test_notices_come_after_the_commit_and_once_a_transaction(database: Database) -> None:
    found: list[list[str]] = []
    database.on_notice(lambda topic: found.append([topic, *kinds(database)]))

    def work(connection: sa.Connection) -> None:
        events.append(connection, "one", 1.0)
        events.append(connection, "two", 1.0)

    database.write(work)
    assert found[0] == [events.TOPIC, "one", "two"]


def test_notices_of_what_failed_are_never_told(database: Database) -> None:
    told: list[str] = []
    database.on_notice(told.append)

    def fail(connection: sa.Connection) -> None:
        notice(connection, "lost")
        raise KeyError

    with pytest.raises(KeyError):
        database.write(fail)
    database.write(lambda connection: notice(connection, "kept"))
    assert "lost" not in told
    assert "kept" in told


def test_postgresql_tells_notices_to_other_processes(postgres_url: str) -> None:
    one, other = Database(postgres_url), Database(postgres_url)
    told: list[str] = []
    try:
        other.on_notice(told.append)

        def arrived() -> bool:
            one.write(lambda connection: notice(connection, "hello"))
            return "hello" in told

        wait_for(arrived, "a notice of another process")
    finally:
        one.close()
        other.close()


def test_postgresql_that_ends_every_connection_is_found_again(postgres_url: str) -> None:
    database = Database(postgres_url)
    told: list[str] = []
    try:
        upgrade(database)
        database.on_notice(told.append)
        with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        database.write(append("after"))
        assert kinds(database) == ["after"]
    finally:
        database.close()


def test_postgresql_that_is_not_there_is_a_sentence() -> None:
    database = Database("postgresql+psycopg://nobody:nothing@127.0.0.1:1/none")
    try:
        with pytest.raises(Unavailable, match="does not answer"):
            database.write(append("lost"))
    finally:
        database.close()


def test_full_disk_is_a_sentence_and_takes_nothing_with_it(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'small.db'}")
    limit = sa.text("PRAGMA max_page_count = 1000000")
    try:
        upgrade(database)
        database.write(append("before"))
        pages = database.write(lambda c: c.execute(sa.text("PRAGMA page_count")).scalar_one())
        database.write(lambda c: c.execute(sa.text(f"PRAGMA max_page_count = {pages + 8}")))
        raised = at_once(
            *(lambda: database.write(append("x", text="x" * 20_000)) for _ in range(9))
        )
        refused = [error for error in raised if error is not None]
        assert refused
        for error in refused:
            assert isinstance(error, Unavailable), error
            assert (error.status, error.code) == (507, "disk_full")
        assert len(kinds(database)) == 1 + len(raised) - len(refused)
        database.write(lambda connection: connection.execute(limit))
        database.write(append("after"))
        assert kinds(database)[-1] == "after"
    finally:
        database.close()


def test_locked_file_is_a_sentence(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'busy.db'}"
    database, other = Database(url), Database(url)
    try:
        upgrade(database)
        database.write(lambda c: c.execute(sa.text("PRAGMA busy_timeout = 100")))

        def hold(connection: sa.Connection) -> None:
            events.append(connection, "held", 1.0)
            with pytest.raises(Unavailable, match="does not answer"):
                database.write(append("refused"))

        other.write(hold)
        database.write(append("after"))
        assert kinds(database) == ["held", "after"]
    finally:
        other.close()
        database.close()


def test_writes_of_a_closed_database_are_refused(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'closed.db'}")
    upgrade(database)
    database.close()
    with pytest.raises(Unavailable, match="stopping"):
        database.write(append("late"))
