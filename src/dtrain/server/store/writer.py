"""How SQLite is written to: by one transaction after the other, of many writes each."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from dtrain.protocol.errors import Unavailable

from .failures import translated, translation

T = TypeVar("T")

_BATCH = 256
"""Writes that share a commit at most."""


class _Task(Generic[T]):
    def __init__(self, work: Callable[[sa.Connection], T]) -> None:
        self.work = work
        self.woken = threading.Event()
        """Its caller goes on: it is done, or its caller leads."""
        self.is_done = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.notices: list[str] = []

    def run(self, connection: sa.Connection) -> None:
        connection.info["notices"] = {}
        self.result = self.work(connection)
        self.notices = list(connection.info["notices"])


class Writer:
    """SQLite's writing connection, which one caller at a time leads.

    Whoever leads does all that waits, his own with it, in one transaction and in his own thread: a
    thread for the writes would have to be woken for each, and to wake its caller. Then the first of
    those who came meanwhile leads.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._connection: sa.Connection | None = None
        self._changed = threading.Condition()
        """Held for all of the following."""
        self._waiting: deque[_Task[Any]] = deque()
        self._is_led = False
        self._closed = False

    def submit(self, work: Callable[[sa.Connection], T]) -> tuple[T, list[str]]:
        """Do the work and return, once it is durable, its result and the topics to tell."""
        task = _Task(work)
        with self._changed:
            if self._closed:
                raise Unavailable("The server is stopping; try again in a moment.")
            self._waiting.append(task)
            leads, self._is_led = not self._is_led, True
        if not leads:
            task.woken.wait()
        if not task.is_done:
            self._lead()
        if task.error is not None:
            raise task.error
        return task.result, task.notices

    def close(self) -> None:
        """Finish the writes under way and let go of the connection."""
        with self._changed:
            self._closed = True
            if not self._changed.wait_for(lambda: not self._is_led, timeout=30):
                return
        if self._connection is not None:
            self._connection.close()
        self._engine.dispose()

    def _lead(self) -> None:
        with self._changed:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _BATCH))]
        self._commit(batch)
        with self._changed:
            following = self._waiting[0] if self._waiting else None
            self._is_led = following is not None
            self._changed.notify_all()
        if following is not None:
            following.woken.set()
        for task in batch:
            task.is_done = True
            task.woken.set()

    def _commit(self, batch: list[_Task[Any]]) -> None:
        try:
            with translated(), self._transaction() as connection:
                for task in batch:
                    if len(batch) == 1:
                        task.run(connection)
                    else:
                        self._run_guarded(task, connection)
        except BaseException as error:  # handed to the callers, who wait for it
            for task in batch:
                task.error = task.error or error

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        """One transaction, on the connection of the one before unless that was undone."""
        if self._connection is None:
            self._connection = self._engine.connect()
        try:
            with self._connection.begin():
                yield self._connection
        except BaseException:
            connection, self._connection = self._connection, None
            connection.close()
            raise

    @staticmethod
    def _run_guarded(task: _Task[Any], connection: sa.Connection) -> None:
        """Run one of several, so that its failure undoes nothing but its own work."""
        savepoint = connection.begin_nested()
        try:
            task.run(connection)
        except DBAPIError as error:
            try:
                savepoint.rollback()
            except DBAPIError:  # SQLite has undone the whole transaction, as on a full disk
                raise error from None
            task.error = translation(error) or error
        except BaseException as error:  # handed to the caller, who waits for it
            savepoint.rollback()
            task.error = error
        else:
            savepoint.commit()
