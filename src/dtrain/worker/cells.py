"""Where calls of uv run that may run what others wrote: the builds of packages.

The step that makes an environment is the worker's own, and writes what other attempts will run. A
build must not; it is confined like the job, with folders of its own for home, temporary files and
cache, and sees the packages that were fetched before. What a job brings along is never seen by the
builds of packages that others will share, which have folders apart.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .ownership import give
from .spawn import Program, spawn

FOLDER = "cells"
"""The folder of all of them, in the one of the attempt."""
_FILES = ("UV_CONFIG_FILE", "UV_CONSTRAINT", "UV_OVERRIDE", "UV_FIND_LINKS", "UV_DEFAULT_INDEX")
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


class Confined:
    """A program in a cell.

    Args:
        program: that was started.
        words: a descriptor of what it writes to its standard error.
    """

    def __init__(self, program: Program, words: int) -> None:
        self.words = words
        self._program = program
        self.succeeded = False

    def wait(self) -> None:
        """Wait for its end; where it has an init, that ends with it, and so all that it left."""
        _, status = os.waitpid(self._program.pid, 0)
        self.succeeded = (self._program.status() if self._program.has_init else status) == 0

    def kill(self) -> None:
        """End it."""
        os.kill(self._program.pid, signal.SIGKILL)


class Cell:
    """Confinement for calls of one purpose.

    Args:
        attempt: the folder of the attempt.
        purpose: its name.
        confinement: of the attempt's plan.
        cache: of uv, which is seen below one of the cell's own.
        shown: what is there to be read.
        writable: further folders to write in.
    """

    def __init__(
        self,
        attempt: Path,
        purpose: str,
        confinement: dict[str, Any],
        cache: Path,
        shown: list[Path],
        writable: list[Path],
    ) -> None:
        self._folder = attempt / FOLDER / purpose
        self._confinement = confinement
        self._cache = cache
        self._shown = [str(path) for path in shown]
        self._writable = writable
        names = ("home", "tmp", "cache", "work", "merged")
        parts = {part: self._folder / part for part in names}
        for part in parts.values():
            part.mkdir(mode=0o700, parents=True, exist_ok=True)
        if confinement["uid"] is not None:
            for above in (self._folder, self._folder.parent):
                above.chmod(0o711)
            for name in ("home", "tmp", "cache"):
                give(parts[name], confinement["uid"])

    @property
    def cache(self) -> Path:
        """The folder of the cache, as it is seen in here."""
        return self._cache if self._confinement["namespaces"] else self._folder / "cache"

    @contextlib.contextmanager
    def started(self, command: list[str], env: dict[str, str], cwd: str) -> Iterator[Confined]:
        """Run a program; nothing is left of it afterwards.

        Args:
            command: the program and its arguments.
            env: its variables, those that name folders of its own aside.
            cwd: the folder it runs in.
        """
        folders = {"HOME": str(self._folder / "home"), "TMPDIR": str(self._folder / "tmp")}
        reader, writer = os.pipe()
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            program = spawn(
                command, {**env, **folders}, cwd, (nowhere, writer), None, self._confined(env)
            )
        finally:
            os.close(writer)
            os.close(nowhere)
        confined = Confined(program, reader)
        try:
            yield confined
        except BaseException:
            confined.kill()
            raise
        finally:
            confined.wait()
            os.close(reader)

    def _confined(self, env: dict[str, str]) -> dict[str, Any]:
        if not self._confinement["namespaces"]:
            return self._confinement
        view = self._confinement["view"]
        files = [env[name] for name in (*_FILES, *_CERTIFICATES) if name in env]
        words = [word for text in files for word in text.replace(",", " ").split()]
        words = [word for word in words if word.startswith("/")]
        parts = [self._folder / "home", self._folder / "tmp", *self._writable]
        layers = {
            "below": str(self._cache),
            "above": str(self._folder / "cache"),
            "work": str(self._folder / "work"),
            "merged": str(self._folder / "merged"),
        }
        seen = {
            **view,
            "shown": [*view["shown"], *self._shown, *words],
            "writable": [str(part) for part in parts],
            "temporary": str(self._folder / "tmp"),
            "layers": layers,
        }
        return {**self._confinement, "view": seen, "ends_with_program": True}
