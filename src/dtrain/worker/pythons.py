"""The interpreters that jobs can ask for: those on this machine, and those that uv could fetch.

Found are the worker's own, those on the `PATH`, all versions of pyenv, those that the machine's
users have from uv, and those that were fetched for jobs before. What is fetched goes into

    <environments>/pythons/

and is a shared folder like others (`shared`). Where from is the machine's own setting for uv:
UV_PYTHON_INSTALL_MIRROR, UV_PYTHON_DOWNLOADS_JSON_URL, its `uv.toml`, and its proxies and
certificates. Only CPython counts.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from dtrain.protocol.errors import DTrainError, Invalid
from dtrain.protocol.resources import version_ranges

from .package_settings import package_settings
from .say import say
from .shared import Shared
from .uv_calls import Patience, aloud, quiet, spawned

log = logging.getLogger(__name__)

FOLDER = "pythons"
"""Where fetched interpreters are, in the folder of the environments."""
FETCHING = "fetching"
"""The lock of whoever fetches one."""

_LIST = ("python", "list", "--output-format", "json")
_FIND = ("python", "find", "--no-project", "--no-config")
_WHO = "import os, sys; print(os.path.realpath(sys.executable), sys.version)"
_OLDEST = (3, 7)
"""The oldest version for which an environment can be made."""
_VERSION = re.compile(r"\d+(\.\d+)*")
_FORBIDDEN = {"never", "manual"}
"""Values of UV_PYTHON_DOWNLOADS with which nothing is fetched unless a person asks for it."""


def identity(python: Path) -> str:
    """What tells an interpreter from others: where it really is, and its version and build.

    Raises:
        Invalid: it is none.
    """
    return _ask(python, python.stat().st_mtime_ns)


@functools.cache
def _ask(python: Path, _changed: int) -> str:
    command = [str(python), "-I", "-S", "-c", _WHO]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
        done.stdout.split()[1]
    except (OSError, IndexError, subprocess.SubprocessError) as error:
        raise Invalid(
            f"The setting python is not acceptable: {python} does not run as Python does; name an"
            " interpreter such as /usr/bin/python3.",
            field="python",
        ) from error
    return done.stdout


def version(python: Path) -> str:
    """The version of an interpreter, such as `3.11.7`.

    Raises:
        Invalid: it is none.
    """
    return identity(python).split()[1]


class Pythons:
    """The interpreters of one worker. Threads and processes may use it at once.

    Args:
        shared: the folders that attempts share.
        own: the interpreter of jobs that ask for none.
        variables: the environment of the agent, or of a step that prepares.
        may_fetch: whether the owner lets interpreters be fetched.
    """

    def __init__(
        self, shared: Shared, own: Path, variables: Mapping[str, str], *, may_fetch: bool
    ) -> None:
        self.own = own
        self.may_fetch = may_fetch and variables.get("UV_PYTHON_DOWNLOADS") not in _FORBIDDEN
        self._shared = shared
        self._folder = shared.root / FOLDER
        self._variables = variables

    def find(self, wanted: str, attempt: Path | None) -> Path | None:
        """An interpreter on this machine; None if there is none.

        A fetched one is noted as used by the attempt.

        Args:
            wanted: a version such as `3.11` or `3.11.7`, or bounds such as `>=3.11,<3.13`.
            attempt: the folder of the attempt that asks.
        """
        if self._suits(wanted):
            return self.own
        while True:
            found = quiet([*_FIND, _request(wanted)], self.places())
            if found.returncode:
                return None
            python = Path(found.stdout.strip())
            if not python.is_relative_to(self._folder):
                return python
            # The name with the minor version alone leads to another one when that is fetched.
            python = python.parent.resolve() / python.name
            place = self._folder / python.relative_to(self._folder.resolve()).parts[0]
            with self._shared.locked(place.name) as lock:
                if python.exists():
                    self._shared.note(place, attempt, lock)
                    return python

    def fetch(self, wanted: str, attempt: Path) -> Path:
        """An interpreter that is fetched, unless it is there by now; runs in an attempt's step.

        Raises:
            DTrainError: it cannot be had; uv has said why.
        """
        patience = Patience("Another job on this worker fetches an interpreter; this one waits")
        with self._shared.locked(FETCHING, patience) as lock:
            found = self.find(wanted, attempt)
            if found is not None:
                return found
            say(f"This worker has no Python {wanted} yet; it is fetched.")
            command = ["python", "install", "--no-bin", "--install-dir", str(self._folder)]
            if not aloud([*command, _request(wanted)], cwd=attempt, held=(lock,)):
                raise DTrainError(f"Python {wanted} cannot be fetched by this worker.")
        found = self.find(wanted, attempt)
        if found is None:
            raise DTrainError(f"What was fetched as Python {wanted} does not run on this machine.")
        return found

    def _suits(self, wanted: str) -> bool:
        """Whether the worker's own interpreter is one that is wanted."""
        if _VERSION.fullmatch(wanted):
            return f"{version(self.own)}.".startswith(f"{wanted}.")
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "python").symlink_to(self.own)
            options = ["--no-managed-python", _request(wanted)]
            return quiet([*_FIND, *options], {"PATH": folder}).returncode == 0

    def places(self) -> dict[str, str]:
        """The variables that make uv look for interpreters where they may be."""
        home = Path(self._variables.get("HOME") or Path.home())
        pyenv = Path(self._variables.get("PYENV_ROOT") or home / ".pyenv")
        data = Path(self._variables.get("XDG_DATA_HOME") or home / ".local/share")
        managed = Path(self._variables.get("UV_PYTHON_INSTALL_DIR") or data / "uv/python")
        shims = str(pyenv / "shims")  # they lead to the version of whatever folder one is in
        words = (self._variables.get("PATH") or os.defpath).split(os.pathsep)
        folders = [word for word in words if word != shims]
        folders += sorted(map(str, [*pyenv.glob("versions/3.*/bin"), *managed.glob("*/bin")]))
        return {"PATH": os.pathsep.join(folders), "UV_PYTHON_INSTALL_DIR": str(self._folder)}


class PythonSearch:
    """Finds out, beside an agent's work, which interpreters jobs can have.

    Args:
        pythons: where they are looked for.
        variables: the environment of the agent.
    """

    def __init__(self, pythons: Pythons, variables: Mapping[str, str]) -> None:
        self._pythons = pythons
        self._variables = variables
        self._process: subprocess.Popen[bytes] | None = None
        self._is_closed = False

    def close(self) -> None:
        """Break off a search, should one last; there is no other after that."""
        self._is_closed = True
        if self._process is not None:
            self._process.kill()

    def _start(self, arguments: list[str], variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
        self._process = process = spawned(arguments, variables)
        if self._is_closed:
            process.kill()
        return process

    @property
    def own(self) -> str:
        """The version of the interpreter of jobs that ask for none."""
        return version(self._pythons.own)

    def installed(self) -> list[str] | None:
        """The versions on this machine, the worker's own first; None if it cannot be found out."""
        options = ["--only-installed", "--no-config", "--no-python-downloads"]
        versions = self._listed(options, {**self._kept(), **self._pythons.places()})
        return None if versions is None else list(dict.fromkeys([self.own, *versions]))

    def fetchable(self) -> list[str]:
        """The versions that could be fetched, as ranges; none where the source does not answer."""
        if not self._pythons.may_fetch:
            return []
        settings = package_settings(self._variables)
        variables = {**self._kept(), **settings, "UV_HTTP_RETRIES": "1"}
        versions = self._listed(["--only-downloads", "--all-versions"], variables)
        return version_ranges(versions) if versions and self._answers(variables, versions) else []

    def _kept(self) -> dict[str, str]:
        return {name: text for name, text in self._variables.items() if name in {"PATH", "HOME"}}

    def _listed(self, options: list[str], variables: Mapping[str, str]) -> list[str] | None:
        listed, said = self._start([*_LIST, *options], variables).communicate()
        try:
            found = msgspec.json.decode(listed, type=list[_Listed])
        except msgspec.DecodeError:
            log.debug("uv cannot list interpreters: %s", said.decode(errors="replace"))
            return None
        return [one.version for one in found if one.counts]

    def _answers(self, variables: Mapping[str, str], versions: list[str]) -> bool:
        """Whether the source has interpreters for us: the beginning of one is fetched."""
        with tempfile.TemporaryDirectory() as folder:
            options = ["--no-bin", "--install-dir", folder]
            command = ["python", "install", *options, versions[0]]
            with self._start(command, variables) as process:
                for line in process.stderr or ():
                    log.debug("uv: %s", line.decode(errors="replace").rstrip())
                    if line.startswith(b"Downloading"):
                        process.kill()
                        return True
            return process.returncode == 0


class _Listed(msgspec.Struct):
    """What uv says of an interpreter."""

    version: str
    version_parts: dict[str, int]
    implementation: str
    variant: str = "default"

    @property
    def counts(self) -> bool:
        """Whether it is one that a job can ask for by its number."""
        parts = (self.version_parts["major"], self.version_parts["minor"])
        usual = self.implementation == "cpython" and self.variant == "default"
        return usual and parts >= _OLDEST and _VERSION.fullmatch(self.version) is not None


def _request(wanted: str) -> str:
    """What is wanted in uv's words."""
    return f"cpython@{wanted}" if _VERSION.fullmatch(wanted) else f"cpython{wanted}"
