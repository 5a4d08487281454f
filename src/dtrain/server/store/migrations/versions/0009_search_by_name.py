"""An index by which jobs are found whose names hold a text."""

from __future__ import annotations

import logging
import sqlite3

import sqlalchemy as sa
from alembic import op

from dtrain.protocol.errors import DTrainError

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

log = logging.getLogger(__name__)

_OLDEST = (3, 34)
_INDEX = "CREATE INDEX ix_jobs_name_trigrams ON jobs USING gin (name gin_trgm_ops)"
_TABLE = (
    "CREATE VIRTUAL TABLE job_names USING"
    " fts5(name, content='jobs', content_rowid='id', columnsize=0, tokenize='trigram')"
)
# A job's name never changes. A later migration that makes `jobs` anew makes these anew as well.
_TRIGGERS = {
    "job_names_added": "AFTER INSERT ON jobs BEGIN"
    " INSERT INTO job_names(rowid, name) VALUES (new.id, new.name); END",
    "job_names_removed": "AFTER DELETE ON jobs BEGIN"
    " INSERT INTO job_names(job_names, rowid, name) VALUES ('delete', old.id, old.name); END",
}


def upgrade() -> None:
    """Apply it."""
    if op.get_bind().dialect.name == "postgresql":
        _index_on_postgresql()
        return
    if sqlite3.sqlite_version_info < _OLDEST:
        raise DTrainError(
            f"SQLite {'.'.join(map(str, _OLDEST))} or newer is needed, but this Python has"
            f" {sqlite3.sqlite_version}; use another Python, or PostgreSQL (DATABASE_URL)."
        )
    op.execute(_TABLE)
    op.execute("INSERT INTO job_names(job_names) VALUES ('rebuild')")
    for name, rule in _TRIGGERS.items():
        op.execute(f"CREATE TRIGGER {name} {rule}")


def downgrade() -> None:
    """Take it back."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP INDEX IF EXISTS ix_jobs_name_trigrams")
        return
    for name in _TRIGGERS:
        op.execute(f"DROP TRIGGER {name}")
    op.execute("DROP TABLE job_names")


def _index_on_postgresql() -> None:
    """Not every PostgreSQL has the extension, and not everybody may add it: it is not needed."""
    try:
        with op.get_bind().begin_nested():
            op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
            op.execute(_INDEX)
    except sa.exc.DBAPIError as error:
        log.warning(
            "Searching jobs by name will read all names, since PostgreSQL refuses the extension"
            " pg_trgm (%s). To have it: CREATE EXTENSION pg_trgm; %s;",
            str(error.orig).partition("\n")[0],
            _INDEX,
        )
