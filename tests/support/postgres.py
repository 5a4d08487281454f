"""A private PostgreSQL: one cluster for the whole run, a database of its own for each test."""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from .ledger import faults
from .processes import MARK, PATIENCE, clean_environment, free_port, tail, wait_for

_OWNER = "postgres"


class Cluster:
    """A running PostgreSQL on a free port of the loopback interface."""

    def __init__(self, programs: Path, data: Path, output: Path, password: str) -> None:
        self.port = free_port()
        self._programs = programs
        self._data = data
        self._output = output
        self._password = password
        self._numbers = itertools.count(1)
        self._process = self._start()

    def url(self, database: str) -> str:
        """The SQLAlchemy URL of a database."""
        return f"postgresql+psycopg://{_OWNER}:{self._password}@127.0.0.1:{self.port}/{database}"

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of a new, empty database, which is dropped at the end."""
        name = sql.Identifier(f"test_{next(self._numbers)}")
        self._execute(sql.SQL("CREATE DATABASE {}").format(name))
        try:
            yield self.url(name.as_string().strip('"'))
        finally:
            self._execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))

    def end_connections(self) -> None:
        """End every connection that a client has, in the midst of whatever it does."""
        self._execute(
            sql.SQL(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
        )
        faults["database connections ended"] += 1

    def restart(self) -> None:
        """End it at once, in the midst of everything, and start it again on the same data."""
        self.stop(signal.SIGQUIT)
        self._process = self._start()
        faults["database killed and started again"] += 1

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it by a signal."""
        self._process.send_signal(number)
        self._process.wait(timeout=PATIENCE)

    def _start(self) -> subprocess.Popen[bytes]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "shared_buffers": "32MB",
            "max_connections": 100,
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with self._output.open("ab") as log:
            process = subprocess.Popen(
                [*_as_owner(), self._programs / "postgres", "-D", self._data, *options],
                cwd="/",
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_for(lambda: process.poll() is not None or self.answers(), "PostgreSQL to take calls")
        assert process.poll() is None, tail(self._output)
        return process

    def answers(self) -> bool:
        """Whether it takes connections by now."""
        try:
            self._execute(sql.SQL("SELECT 1"))
        except psycopg.OperationalError:
            return False
        return True

    def _execute(self, statement: sql.SQL | sql.Composed) -> None:
        address = self.url("postgres").replace("+psycopg", "")
        with psycopg.connect(address, autocommit=True, connect_timeout=30) as connection:
            connection.execute(statement)


@contextmanager
def running_cluster(programs: Path) -> Iterator[Cluster]:
    """Start a cluster in a temporary folder, and end it and remove the folder afterwards.

    PostgreSQL refuses to run as root: there it runs as the distribution's user for it. It does not
    wait for the disk (`fsync=off`): what it would lose is a machine's crash, which no test makes.
    """
    folder = Path(tempfile.mkdtemp(prefix="dtrain-postgres-", dir="/tmp"))
    password = secrets.token_hex(16)
    try:
        secret = folder / "password"
        secret.write_text(password)
        if os.geteuid() == 0:
            for path in (folder, secret):
                shutil.chown(path, _OWNER, _OWNER)
        data = folder / "data"
        _initialise(programs, data, secret)
        cluster = Cluster(programs, data, folder / "output.log", password)
        try:
            yield cluster
        finally:
            cluster.stop()
    finally:
        shutil.rmtree(folder)


def _initialise(programs: Path, data: Path, secret: Path) -> None:
    command: list[str | Path] = [
        programs / "initdb",
        f"--pgdata={data}",
        f"--username={_OWNER}",
        f"--pwfile={secret}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C.UTF-8",
        "--no-sync",
        "--no-instructions",
    ]
    done = subprocess.run(
        [*_as_owner(), *command],
        cwd="/",
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout.decode(errors="replace")


def _environment() -> dict[str, str]:
    """Without the mark of the test that happens to need it first: it outlives that test."""
    return {name: value for name, value in clean_environment().items() if name != MARK}


def _as_owner() -> list[str]:
    """How to run as the cluster's owner; it is ended when the test run dies without doing so."""
    command = ["setpriv", "--pdeathsig", "INT"]
    if os.geteuid() == 0:
        command += ["--reuid", _OWNER, "--regid", _OWNER, "--clear-groups"]
    return command
