"""Which interpreters the jobs of a worker can have, found out beside its work."""

from __future__ import annotations

import logging
import subprocess
import tempfile
from collections.abc import Mapping

import msgspec

from dtrain.protocol.resources import version_ranges

from .interpreter import version
from .package_settings import package_settings
from .pythons import VERSION, Pythons
from .uv_calls import spawned

log = logging.getLogger(__name__)

_LIST = ("python", "list", "--output-format", "json")
_OLDEST = (3, 7)
"""The oldest version for which an environment can be made."""


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
        return usual and parts >= _OLDEST and VERSION.fullmatch(self.version) is not None
