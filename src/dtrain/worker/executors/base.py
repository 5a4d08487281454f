"""The contract between an executor, which knows what to run, and the shim, which runs it.

The order of calls, all of them by the agent's process:

1. `start` once, before the first attempt.
2. `prepare` for an attempt whose bundle is unpacked in `folder.work`. It runs none of the user's
   code: what does (building requirements, an image, the script itself) is a step of its plan.
3. `dtrain.worker.launcher.launch(folder, plan)`; the plan is on disk from then on. An agent that
   comes back calls `adopt` instead and needs no plan.
4. `resume` if the shim was killed: some attempts go on with what has outlived it.
5. `clean` once the shim has ended, however it ended, and before `folder.remove()`.

An executor is shared by all attempts of a worker: `prepare` and `clean` are called from several
threads at once, though never for one attempt at once. `start`, `prepare` and `clean` are safe to
call again, after an agent that was killed in the middle of one, too: `prepare` starts afresh
unless the attempt was launched, `clean` finds what is left, if anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from dtrain.protocol.errors import DTrainError
from dtrain.protocol.states import Cause
from dtrain.worker import processes
from dtrain.worker.spool import AttemptFolder

GRACE = 30.0
"""Seconds between asking a job to end and killing it."""
LOG_CAP = 1024**3
"""Bytes of a log that are kept, the last lines aside, which always are."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One program of a plan; the next one runs only if it exits with 0."""

    name: str
    """`environment` prepares, `main` is the job itself; others are shown as they are named."""
    argv: list[str]
    """The program, found by the `PATH` of `env`, and its arguments."""
    env: dict[str, str]
    """All of its environment variables."""
    cwd: str
    failure: Cause | None = None
    """What ends the attempt if the program fails; None leaves it to its own exit code or signal."""
    time_limit: float | None = None
    """Seconds after which the program has failed."""
    stands_in: bool = False
    """Whether the program stands in for something else, a container say: it writes down how that
    has ended (`layout.OUTCOME`), and is asked by SIGQUIT to kill it before it is killed itself."""
    confined: bool = True
    """False for a program that runs none of the user's code, or confines what does."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What all processes of an attempt may use together."""

    group: dict[str, str] = {}
    """The attempt's control group: a folder for each controller (`cgroups`)."""
    memory: int | None = None
    """Bytes; None if all that there are."""
    affinity: list[int] = []
    """The processors that it may use; none if all of them."""
    processes: int | None = None
    """Processes and threads of the job's user; None if the group holds them, or nothing does."""


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What a job sees of the machine's files (`mounts`)."""

    hidden: list[str]
    shown: list[str]
    """What is there to be read in spite of that."""
    writable: list[str]
    temporary: str
    """The folder that is the job's `/tmp`."""


class Confinement(msgspec.Struct, frozen=True, kw_only=True):
    """What a program may not do; without anything else it gains no privileges any more."""

    uid: int | None = None
    """User and group that it runs as; None for those of the agent."""
    groups: list[int] = []
    """Further groups, of devices."""
    namespaces: bool = False
    """Whether it has processes, mounts and shared memory of its own."""
    user_namespace: bool = False
    """Whether that takes a user namespace, since the agent is not root."""
    view: View | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the shim has to know to run an attempt."""

    steps: list[Step]
    time_limit: float | None = None
    """Seconds for all steps together."""
    grace: float = GRACE
    """Seconds between asking the job to end and killing it."""
    patience: float = processes.PATIENCE
    """Seconds for what was killed to end; after that the worker says that it cannot kill it."""
    log_cap: int = LOG_CAP
    """Bytes after which the log is cut; the job goes on."""
    unsupervised: float | None = None
    """Seconds without an answer of the server after which the attempt is handed back."""
    contained: bool = False
    """Whether its steps confine and limit what they run by themselves, in containers say."""
    limits: Limits = Limits()
    confinement: Confinement | None = None


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """What an executor has to know about the worker it runs on."""

    worker_name: str
    environments: Path
    """The folder of the environments that attempts share."""
    variables: Mapping[str, str]
    """The agent's own environment variables; jobs get an allow-list of them."""
    python: Path
    """The interpreter of jobs that ask for none."""
    python_downloads: bool = False
    """Whether the owner lets interpreters be fetched for jobs that ask for one."""
    grace: float = GRACE
    log_cap: int = LOG_CAP


class PrepareFailed(DTrainError):
    """An attempt cannot be run as it was handed in; `cause` is what to finish it with."""

    code = "prepare_failed"

    def __init__(self, cause: Cause, detail: str) -> None:
        super().__init__(detail)
        self.cause = cause


class Executor(Protocol):
    """A way to run attempts. See the module for the order of calls."""

    @property
    def name(self) -> str:
        """The word for it in a spec and in a worker's capacity."""
        ...

    def start(self) -> None:
        """Make ready what all attempts share. May take seconds.

        Raises:
            DTrainError: if nothing could run this way on this machine, with what to do.
        """
        ...

    def prepare(self, folder: AttemptFolder) -> Plan:
        """Say what is to be run for an attempt, and make ready what that takes.

        Raises:
            PrepareFailed: if the attempt cannot be run; its text says why.
        """
        ...

    def resume(self, folder: AttemptFolder) -> Plan | None:
        """A plan to go on with what has outlived the shim of an attempt; None if nothing has."""
        ...

    def clean(self, folder: AttemptFolder) -> None:
        """End and remove what an attempt left outside its folder and the processes of its shim.

        Containers are such; an executor without any does nothing.
        """
        ...
