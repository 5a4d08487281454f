"""Jobs in virtual environments, as processes of the worker's own user.

The entry is run by the environment's Python, as `python ENTRY ARGS` in the unpacked bundle would;
an entry that ends in `.sh` is run by bash, or by sh where there is no bash. A job without
requirements has nothing to wait for; one with requirements, or with an interpreter that is still to
be fetched, has a step first that makes its environment (`installation`).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from dtrain.protocol.errors import DTrainError
from dtrain.protocol.filenames import DEFAULT_REQUIREMENTS
from dtrain.protocol.states import Cause
from dtrain.worker import installation
from dtrain.worker.environment import SHARED, Environments
from dtrain.worker.installation import Order
from dtrain.worker.interpreter import Known, known
from dtrain.worker.needs import Kind, blank, kind_of
from dtrain.worker.pythons import Pythons
from dtrain.worker.spool import AttemptFolder

from .base import Host, Plan, PrepareFailed, Step
from .variables import job_variables, preparation_variables

_ENVIRONMENT_LIMIT = 3600.0
"""Seconds for resolving and building requirements, large ones over a slow line included."""


class VenvExecutor:
    """Runs a job's script in an environment of its own."""

    name = "venv"

    def __init__(self, host: Host) -> None:
        self._host = host
        self._environments = Environments(host.environments)
        self._pythons = Pythons(
            self._environments.shared, host.python, host.variables, may_fetch=host.python_downloads
        )

    def start(self) -> None:
        """Have the environment with pip alone ready, which jobs without requirements get."""
        self._environments.base(self._host.python, None)

    def prepare(self, folder: AttemptFolder) -> Plan:
        """Make a plan of two steps; of one where nothing is to be had first, and that at once."""
        spec = folder.assignment.spec
        entry = _inside(folder.work, spec.main_entry)
        if entry is None:
            raise PrepareFailed(Cause.ENTRY_MISSING, f"The bundle has no file {spec.main_entry}.")
        file = _requirements(folder)
        python = self._python(folder, file)
        steps = []
        if file is None and python is not None:
            self._make_own(folder, python)
        else:
            steps.append(self._environment(folder, python, file))
        return Plan(
            steps=[*steps, self._main(folder)],
            time_limit=spec.time_limit,
            grace=self._host.grace,
            log_cap=self._host.log_cap,
        )

    def resume(self, folder: AttemptFolder) -> Plan | None:  # noqa: ARG002 -- the contract's
        """Nothing: a shim takes all of it along."""
        return None

    def clean(self, folder: AttemptFolder) -> None:
        """Nothing: all of it is in the folder, and ends with the shim."""

    def _python(self, folder: AttemptFolder, file: str | None) -> Path | None:
        """The interpreter of a job; None if the step is to find or to fetch it."""
        wanted = folder.assignment.spec.python
        if wanted is None:
            decides = file is not None and kind_of(file) is not Kind.REQUIREMENTS
            return None if decides else self._host.python
        found = self._pythons.find(wanted, folder.path)
        if found is None and not self._pythons.may_fetch:
            raise PrepareFailed(
                Cause.ENVIRONMENT_FAILED,
                f"This worker has no Python {wanted}; install it, or ask for another.",
            )
        return found

    def _make_own(self, folder: AttemptFolder, python: Path) -> None:
        try:
            self._environments.make_own(folder.venv, python)
        except DTrainError as error:
            raise PrepareFailed(Cause.ENVIRONMENT_FAILED, error.detail) from error

    def _environment(self, folder: AttemptFolder, python: Path | None, file: str | None) -> Step:
        order = Order(
            root=str(self._host.environments),
            attempt=str(folder.path),
            venv=str(folder.venv),
            own_python=str(self._host.python),
            python=None if python is None else str(python),
            wanted=folder.assignment.spec.python,
            may_fetch=self._host.python_downloads,
            file=file,
            keep_config=bool(self._host.variables.get("UV_CONFIG_FILE")),
            known=self._known(python),
        )
        return Step(
            name="environment",
            argv=installation.step(order),
            env=preparation_variables(self._host, folder),
            cwd=str(folder.work),
            failure=Cause.ENVIRONMENT_FAILED,
            time_limit=_ENVIRONMENT_LIMIT,
            confined=False,
        )

    def _known(self, python: Path | None) -> list[Known]:
        try:
            return known([python or self._host.python])
        except DTrainError as error:
            raise PrepareFailed(Cause.ENVIRONMENT_FAILED, error.detail) from error

    def _main(self, folder: AttemptFolder) -> Step:
        env = job_variables(self._host, folder)
        bins = [str(folder.venv / "bin"), str(folder.venv / SHARED / "bin")]
        env["PATH"] = os.pathsep.join([*bins, env.get("PATH") or os.defpath])
        env["VIRTUAL_ENV"] = str(folder.venv)
        env.setdefault("PIP_DISABLE_PIP_VERSION_CHECK", "1")
        spec = folder.assignment.spec
        program = str(folder.venv / "bin/python")
        if spec.main_entry.endswith(".sh"):
            program = shutil.which("bash", path=env["PATH"]) or "/bin/sh"
        entry = f"./{spec.main_entry}" if spec.main_entry.startswith("-") else spec.main_entry
        argv = [program, entry, *spec.args]
        return Step(name="main", argv=argv, env=env, cwd=str(folder.work))


def _requirements(folder: AttemptFolder) -> str | None:
    """The file that says what to install, as the spec names it; None if there is nothing to."""
    name = folder.assignment.spec.requirements_file
    if name is None:
        return None
    path = _inside(folder.work, name)
    if path is None:
        if name == DEFAULT_REQUIREMENTS:
            return None
        raise PrepareFailed(Cause.ENVIRONMENT_FAILED, f"The bundle has no file {name}.")
    return None if kind_of(name) is Kind.REQUIREMENTS and blank(path) else name


def _inside(work: Path, name: str) -> Path | None:
    """The file of a bundle with a name; None if there is none, or if it is outside."""
    path = (work / name).resolve()
    return path if path.is_relative_to(work.resolve()) and path.is_file() else None
