"""What failures of the database itself mean for callers."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from dtrain.protocol.errors import Unavailable


@contextmanager
def translated() -> Iterator[None]:
    """Have failures of the database itself raised as `Unavailable`."""
    try:
        yield
    except DBAPIError as error:
        meant = translation(error)
        if meant is None:
            raise
        raise meant from error
    except PoolTimeoutError as error:
        raise Unavailable("The database is busy; try again in a moment.") from error


def translation(error: DBAPIError) -> Unavailable | None:
    """What a failure of the database itself means for a caller; None for a mistake in our SQL."""
    text = str(error.orig)
    if "disk is full" in text or "No space left" in text:
        return Unavailable(
            "The server's disk is full; nothing was stored. Free some space and try again.",
            code="disk_full",
            status=507,
        )
    if error.connection_invalidated or (
        isinstance(error, OperationalError)
        and not (isinstance(error.orig, sqlite3.OperationalError) and _is_mistake(text))
    ):
        return Unavailable("The database does not answer; try again in a moment.")
    return None


def _is_mistake(text: str) -> bool:
    return text.startswith(("no such", "near ", "ambiguous", "table ", "duplicate column"))
