"""Which jobs have a text in their names, read off an index of all runs of three characters.

On SQLite that is `job_names`, a table of FTS5's that triggers keep (migration 0009); on PostgreSQL
an index of `pg_trgm`, where the migration was allowed one, else every name is read.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from .schema import jobs

_SHORTEST = 3
"""Characters of the shortest text that the index knows."""
_names = sa.table("job_names", sa.column("rowid"), sa.column("name"))


def has(text: str) -> sa.ColumnElement[bool]:
    """That a job has the text in its name, whatever its case."""
    return jobs.c.name.icontains(text, autoescape=True)


def named(connection: sa.Connection, text: str) -> sa.Select[Any] | None:
    """The numbers of the jobs with the text, in no order; None if the index knows no such text."""
    if len(text) < _SHORTEST:
        return None
    if connection.dialect.name == "postgresql":
        return sa.select(jobs.c.id).where(has(text))
    phrase = '"{}"'.format(text.replace('"', '""'))
    return sa.select(_names.c.rowid).where(_names.c.name.match(phrase))


def in_order(connection: sa.Connection, text: str) -> sa.Select[Any] | None:
    """The same, where the first of them by number are found without the others; else None."""
    return named(connection, text) if connection.dialect.name == "sqlite" else None
