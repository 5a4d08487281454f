"""Jobs that take no environment, and fail on demand: for trying out everything around them.

The entry is run by the worker's own Python, as a real process under the real shim. The spec's
`env` can ask for something else:

    FAKE_PREPARE        the attempt is refused before its launch, with this cause
    FAKE_ENVIRONMENT    a step before the job prints a line and exits with this code
    FAKE_LINES          instead of the entry, so many lines with a PROGRESS record each,
    FAKE_INTERVAL       with so many seconds after each of them,
    FAKE_SLEEP          then so many seconds of sleep,
    FAKE_SIGNAL         then death by the signal of this number,
    FAKE_EXIT           else the end with this exit code
"""

from __future__ import annotations

from pathlib import Path

from dtrain.protocol.states import Cause
from dtrain.worker.spool import AttemptFolder

from . import fake_job
from .base import Host, Plan, PrepareFailed, Step
from .variables import job_variables

_JOB = str(Path(fake_job.__file__))
_INSTEAD = {"FAKE_LINES", "FAKE_SLEEP", "FAKE_SIGNAL", "FAKE_EXIT"}
_ENVIRONMENT = "import sys; print('preparing', flush=True); sys.exit(int(sys.argv[1]))"


class FakeExecutor:
    """Runs a job's script as it is, or what its `env` asks for instead."""

    name = "fake"

    def __init__(self, host: Host) -> None:
        self._host = host

    def start(self) -> None:
        """Nothing: it shares nothing."""

    def prepare(self, folder: AttemptFolder) -> Plan:
        """Make the plan that the spec's `env` asks for."""
        spec = folder.assignment.spec
        if "FAKE_PREPARE" in spec.env:
            cause = Cause(spec.env["FAKE_PREPARE"])
            raise PrepareFailed(cause, f"It was asked to fail with {cause}.")
        program = ["-I", _JOB] if _INSTEAD & spec.env.keys() else [spec.main_entry, *spec.args]
        steps = [self._step(folder, "main", program, None)]
        if "FAKE_ENVIRONMENT" in spec.env:
            program = ["-c", _ENVIRONMENT, spec.env["FAKE_ENVIRONMENT"]]
            failure = Cause.ENVIRONMENT_FAILED
            steps.insert(0, self._step(folder, "environment", program, failure))
        return Plan(
            steps=steps,
            time_limit=spec.time_limit,
            grace=self._host.grace,
            log_cap=self._host.log_cap,
        )

    def resume(self, folder: AttemptFolder) -> Plan | None:  # noqa: ARG002 -- the contract's
        """Nothing: a shim takes all of it along."""
        return None

    def clean(self, folder: AttemptFolder) -> None:
        """Nothing: all of it is in the folder, and ends with the shim."""

    def _step(
        self, folder: AttemptFolder, name: str, program: list[str], failure: Cause | None
    ) -> Step:
        argv = [str(self._host.python), *program]
        env = job_variables(self._host, folder)
        return Step(name=name, argv=argv, env=env, cwd=str(folder.work), failure=failure)
