"""The locks that say which process has a server's data to itself."""

from __future__ import annotations

import fcntl
from typing import IO, TYPE_CHECKING

from dtrain.protocol.errors import Conflict, DTrainError

if TYPE_CHECKING:
    from pathlib import Path

    from .settings import Settings


def lock_data(settings: Settings) -> list[IO[bytes]]:
    """The files whose locks say that this process serves the data; closing them lets go.

    On PostgreSQL there are none, since several servers may share one database.

    Raises:
        Conflict: another process holds one.
        DTrainError: a folder cannot be written to.
    """
    database = settings.database_file
    if database is None:
        return []
    paths = [settings.data / "lock"]
    if database.parent != settings.data:
        paths.append(database.with_name(f"{database.name}.lock"))
    return [_lock(path) for path in paths]


def _lock(path: Path) -> IO[bytes]:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError as error:
        raise DTrainError(
            f"{path} cannot be written ({(error.strerror or str(error)).lower()}); make its folder"
            " writable for the user who runs the server."
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise Conflict(
            f"Another DTrain server is using the data in {path.parent}; stop it first, or give this"
            " one a home folder of its own.",
            code="second_server",
        ) from None
    return file
