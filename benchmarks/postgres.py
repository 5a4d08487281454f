"""A PostgreSQL of our own, which waits for the disk as one in earnest does."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from .place import Place
from .programs import Program, free_port, wait_for

_OWNER = "postgres"
"""PostgreSQL refuses to run as root: there it runs as the distribution's user for it."""


def programs() -> Path | None:
    """Where PostgreSQL's programs are; None if it is not installed."""
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return versions[-1].parent if versions else None


@contextmanager
def running(place: Place) -> Iterator[str]:
    """The URL of an empty database.

    Raises:
        RuntimeError: PostgreSQL is not installed.
    """
    found = programs()
    if found is None:
        raise RuntimeError("PostgreSQL is not installed: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="postgres-", dir=_disk(place)))
    password, port = secrets.token_hex(16), free_port()
    try:
        secret = folder / "password"
        secret.write_text(password)
        as_owner: list[str] = []
        if os.geteuid() == 0:
            as_owner = ["setpriv", "--reuid", _OWNER, "--regid", _OWNER, "--clear-groups"]
            for path in (folder, secret):
                shutil.chown(path, _OWNER, _OWNER)
        data = folder / "data"
        subprocess.run(
            [
                *(*as_owner, str(found / "initdb"), f"--pgdata={data}", f"--username={_OWNER}"),
                *(f"--pwfile={secret}", "--auth=scram-sha-256", "--encoding=UTF8"),
                *("--locale=C.UTF-8", "--no-instructions"),
            ],
            cwd="/",
            check=True,
            stdout=subprocess.DEVNULL,
        )
        options = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": ""}
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        command = [*as_owner, str(found / "postgres"), "-D", str(data), *words]
        address = f"{_OWNER}:{password}@127.0.0.1:{port}/{_OWNER}"
        with Program(command, place.new_folder("postgres"), title="postgres"):
            wait_for(lambda: _answers(f"postgresql://{address}"), 60, "PostgreSQL to take calls")
            yield f"postgresql+psycopg://{address}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _disk(place: Place) -> Path | None:
    """Where everything else is measured; None, for temporary files, where its user cannot go."""
    if os.geteuid() != 0:
        return place.folder
    open_to_all = all(one.stat().st_mode & stat.S_IXOTH for one in place.folder.parents)
    return place.folder if open_to_all else None


def _answers(address: str) -> bool:
    try:
        psycopg.connect(address, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True
