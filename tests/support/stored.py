"""What a server on SQLite has stored, changed behind its back."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from .processes import RunningServer


def change_stored(server: RunningServer, statement: str, *values: object) -> None:
    """Change what a server has stored, whether or not it runs."""
    path = server.home / "data" / "dtrain.db"
    with closing(sqlite3.connect(path, timeout=30)) as connection, connection:
        assert connection.execute(statement, values).rowcount > 0
