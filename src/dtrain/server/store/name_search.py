"""Which jobs have a text in their names, read off an index of all runs of three characters.

A text that is the number of a job finds that one as well.

On SQLite that is `job_names`, a table of FTS5's that triggers keep (migration 0009); on PostgreSQL
an index of `pg_trgm`, where the migration was allowed one, else every name is read.
"""

from __future__ import annotations

import re
from typing import Any

import sqlalchemy as sa

from .schema import jobs

_SHORTEST = 3
"""Characters of the shortest text that the index knows."""
_names = sa.table("job_names", sa.column("rowid"), sa.column("name"))


def has(text: str) -> sa.ColumnElement[bool]:
    """That a job has the text in its name, whatever its case, or as its number."""
    in_name = jobs.c.name.icontains(text, autoescape=True)
    number = _number(text)
    return in_name if number is None else sa.or_(in_name, jobs.c.id == number)


def _number(text: str) -> int | None:
    """The number of a job, `42` or `#42`, that a text is."""
    found = re.fullmatch("#?([0-9]{1,18})", text)
    return int(found[1]) if found else None


def named(connection: sa.Connection, text: str) -> sa.Select[Any] | None:
    """The numbers of the jobs with the text, in no order; None if the index knows no such text."""
    if len(text) < _SHORTEST:
        return None
    if connection.dialect.name == "postgresql":
        return sa.select(jobs.c.id).where(has(text))
    phrase = '"{}"'.format(text.replace('"', '""'))
    with_name = sa.select(_names.c.rowid).where(_names.c.name.match(phrase))
    number = _number(text)
    if number is None:
        return with_name
    either = sa.union(with_name, sa.select(jobs.c.id).where(jobs.c.id == number)).subquery()
    return sa.select(either.c.rowid)


def in_order(connection: sa.Connection, text: str) -> sa.Select[Any] | None:
    """The same, where the first of them by number are found without the others; else None."""
    is_ordered = connection.dialect.name == "sqlite" and _number(text) is None
    return named(connection, text) if is_ordered else None
