"""The interpreters that jobs can ask for: those on this machine, and those that uv could fetch.

Found are the worker's own, those on the `PATH`, all versions of pyenv, those that the machine's
users have from uv, and those that were fetched for jobs before. What is fetched goes into

    <environments>/pythons/

and is a shared folder like others (`shared`). Where from is the machine's own setting for uv:
UV_PYTHON_INSTALL_MIRROR, UV_PYTHON_DOWNLOADS_JSON_URL, its `uv.toml`, and its proxies and
certificates. Only CPython counts.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from dtrain.protocol.errors import DTrainError

from .interpreter import version
from .say import say
from .shared import Shared
from .uv_calls import Patience, aloud, quiet

FOLDER = "pythons"
"""Where fetched interpreters are, in the folder of the environments."""
FETCHING = "fetching"
"""The lock of whoever fetches one."""

_FIND = ("python", "find", "--no-project", "--no-config")
VERSION = re.compile(r"\d+(\.\d+)*")
"""A version, as a job may ask for it."""
_FORBIDDEN = {"never", "manual"}
"""Values of UV_PYTHON_DOWNLOADS with which nothing is fetched unless a person asks for it."""


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
        if VERSION.fullmatch(wanted):
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


def _request(wanted: str) -> str:
    """What is wanted in uv's words."""
    return f"cpython@{wanted}" if VERSION.fullmatch(wanted) else f"cpython{wanted}"
