"""Bring a database to the schema of this version of DTrain."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from dtrain import __version__
from dtrain.protocol.errors import DTrainError, Refused

from .database import Database
from .sqlite_file import copy_file

_LOCK = 0x445453  # any number, the same in every process
_KEPT = 3
"""Copies of a SQLite file from before migrations."""


def revision(connection: sa.Connection) -> str | None:
    """The revision of a database's schema; None where there are no tables yet."""
    return MigrationContext.configure(connection).get_current_revision()


def newest() -> str:
    """The revision of the schema that this version of DTrain uses."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def upgrade(database: Database) -> None:
    """Apply the migrations that the database lacks: all of them, or nothing is changed.

    A SQLite file with something in it is copied before, beside itself.

    Raises:
        Refused: the database is of a newer version of DTrain, or of another encoding than UTF-8.
        Unavailable: the database does not answer, or there is no room for the copy.
        DTrainError: a migration fails.
    """
    with database.read() as connection:
        _refuse_encoding(connection)
        current = revision(connection)
    if current == newest():
        return
    refuse_newer(current)
    if current is not None and database.file is not None:
        _keep_copy(database.file)
    config = _config()

    def work(connection: sa.Connection) -> None:
        if connection.dialect.name == "postgresql":
            # Of several servers that start at once, one migrates; to the others nothing is left.
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    try:
        database.rebuild(work)
    except DTrainError:
        raise
    except Exception as error:  # a migration is a program: anything can go wrong in it
        raise DTrainError(
            f"The database cannot be brought from revision {current} to {newest()}"
            f" ({type(error).__name__}: {str(error).splitlines()[0]}); it was left as it was, so"
            " the version of DTrain from before the upgrade can use it."
        ) from error


def refuse_newer(current: str | None) -> None:
    """Refuse a schema that this version of DTrain does not know.

    Raises:
        Refused: it is of a newer version.
    """
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if current is not None and current not in known:
        raise Refused(
            f"The database is of a newer version of DTrain: it has revision {ascii(current)[1:-1]},"
            f" and DTrain {__version__} knows them up to {newest()}; install the newer version"
            " again, or restore what was kept from before the upgrade.",
            code="database_newer",
        )


def _refuse_encoding(connection: sa.Connection) -> None:
    """Refuse a PostgreSQL that cannot hold whatever a name or a log line says."""
    if connection.dialect.name != "postgresql":
        return
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
    if encoding != "UTF8":
        raise Refused(
            f"The database keeps text in the encoding {encoding}, which has no room for most"
            " letters; make one in UTF-8 for DTrain:"
            " createdb --encoding UTF8 --template template0 NAME",
            code="database_encoding",
        )


def _keep_copy(file: Path) -> None:
    """Copy the file beside itself, and let only the newest such copies stay."""
    target = file.with_name(f"{file.name}.before-{newest()}")
    partial = file.with_name(f"{file.name}.partial")
    partial.unlink(missing_ok=True)
    copy_file(file, partial)
    partial.replace(target)
    copies = sorted(
        file.parent.glob(f"{file.name}.before-*"), key=lambda path: path.stat().st_mtime
    )
    for old in copies[:-_KEPT]:
        old.unlink(missing_ok=True)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config
