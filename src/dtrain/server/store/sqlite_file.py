"""SQLite's own way to copy a database that is in use."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from dtrain.protocol.errors import DTrainError, Unavailable

Progress = Callable[[int, int], None]
"""Told how much is done, and of how much."""

_PAGES = 4096
"""Pages, of 4 KiB as a rule, that are copied between two words about progress."""


def open_to_read(file: Path) -> sqlite3.Connection:
    """A connection that changes nothing, not even by tidying up when it is closed."""
    connection = sqlite3.connect(
        f"{file.absolute().as_uri()}?mode=ro",
        uri=True,
        timeout=30,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.execute("PRAGMA mmap_size=0")
    return connection


def copy_file(source: Path, target: Path, progress: Progress | None = None) -> None:
    """Copy a database as it is at this moment into a new file, check it, and have it on the disk.

    Whoever writes to the database meanwhile goes on.

    Raises:
        DTrainError: it cannot be read, or is damaged; no file is left.
        Unavailable: there is no room for the copy (`disk_full`).
    """
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        with _faults_of(source), closing(open_to_read(source)) as original:
            # Inside one reading transaction, writers do not make the copy begin anew.
            original.execute("BEGIN")
            original.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            with closing(sqlite3.connect(target, isolation_level=None)) as copy:
                original.backup(
                    copy,
                    pages=_PAGES,
                    progress=lambda _, left, total: progress and progress(total - left, total),
                )
        complete(target)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def complete(file: Path) -> None:
    """Have all of a database that nobody uses in its one file and on the disk, and check it.

    Raises:
        DTrainError: it is damaged.
    """
    with _faults_of(file), closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if found != "ok":
        raise DTrainError(f"The database is damaged ({found}); restore it from an older backup.")
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _faults_of(file: Path) -> Iterator[None]:
    """What SQLite complains of, as a sentence."""
    try:
        yield
    except sqlite3.Error as error:
        if "disk is full" in str(error):
            raise Unavailable(
                f"There is no room for a copy of the database {file}; free some space.",
                code="disk_full",
                status=507,
            ) from error
        raise DTrainError(f"The database {file} cannot be copied: {error}.") from error
