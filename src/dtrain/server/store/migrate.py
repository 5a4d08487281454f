"""Bring a database to the schema of this version of DTrain."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from dtrain.protocol.errors import Refused

from .database import Database

_LOCK = 0x445453  # any number, the same in every process


def upgrade(database: Database) -> None:
    """Apply the migrations that the database lacks.

    Raises:
        Refused: the database is of a newer version of DTrain.
        Unavailable: the database does not answer.
    """
    config = _config()
    known = ScriptDirectory.from_config(config)
    with database.read() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    if current == known.get_current_head():
        return
    if current is not None and current not in {
        script.revision for script in known.walk_revisions()
    }:
        raise Refused(
            "The database is of a newer version of DTrain; upgrade DTrain, or restore the backup"
            " from before the upgrade.",
            code="database_newer",
        )

    def work(connection: sa.Connection) -> None:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    database.write(work)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config
