"""The attempts that are alive on this worker, and the GPUs that they hold."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from dtrain.protocol.errors import DTrainError
from dtrain.protocol.resources import Gpu
from dtrain.protocol.spec import JobSpec
from dtrain.protocol.states import Cause, OnPartition
from dtrain.protocol.states import Executor as ExecutorName
from dtrain.protocol.worker_messages import Assignment, AttemptReport, Command, Finish

from .bundles import BundleCache
from .console import Console
from .executors.absent import Absent
from .executors.base import Executor
from .isolation import Isolation
from .link import Link
from .needs import may_be_contained
from .refill import Refill
from .runner import Runner
from .spool import AttemptFolder, WorkerFolder
from .supervision import note_answer

log = logging.getLogger(__name__)

Key = tuple[int, int]
"""Job and number of an attempt."""


class Attempts:
    """One runner for each attempt. Threads may share it.

    Args:
        folder: of the worker.
        link: to the server.
        executors: by their names; the first is the one for jobs that ask for none.
        has_containers: whether jobs can be run in containers now.
        gpus: that the worker has for jobs.
        isolation: keeps them within their limits and apart.
        checkpoint_interval: seconds from one checkpoint of a job to the next, at least.
        console: told of every start and end.
        session: in which further jobs are taken with the ends of others; None while none are.
        on_change: called after an attempt has gone.
    """

    def __init__(
        self,
        folder: WorkerFolder,
        link: Link,
        executors: Mapping[str, Executor],
        has_containers: Callable[[], bool],
        gpus: Sequence[Gpu],
        isolation: Isolation,
        checkpoint_interval: float,
        console: Console,
        session: Callable[[], int | None],
        on_change: Callable[[], None],
    ) -> None:
        self._folder = folder
        self._link = link
        self._executors = executors
        self._has_containers = has_containers
        self._gpus = gpus
        self._isolation = isolation
        self._checkpoint_interval = checkpoint_interval
        self._console = console
        self._on_change = on_change
        self._refill = Refill(folder, session, self.begin, console)
        self._bundles = BundleCache(folder.path / "bundles")
        self._guard = threading.Lock()
        self._runners: dict[Key, Runner] = {}
        self._hands_back = False
        """Whether what begins now is handed back as well."""

    def __len__(self) -> int:
        with self._guard:
            return len(self._runners)

    def running(self) -> int:
        """How many run on this machine; of the others only the end is still to be reported."""
        return sum(runner.runs for runner in self.all())

    def moved_at(self) -> float:
        """When a checkpoint has last come forward; by the monotonic clock."""
        return max((runner.moved_at for runner in self.all()), default=0.0)

    def unfinished(self) -> int:
        """How many take up a place: those whose end is not known yet."""
        return sum(not runner.has_ended for runner in self.all())

    def stuck(self) -> str | None:
        """What of the attempts cannot be killed, as a sentence; None as long as all can."""
        for runner in self.all():
            if what := runner.folder.stuck:
                return f"Of job {runner.folder.assignment.job_id} something is left: {what}"
        return None

    def reports(self, gpus: Sequence[dict[str, float]]) -> list[AttemptReport]:
        """How all attempts are, for a poll.

        Args:
            gpus: how busy each of the worker's GPUs is.
        """
        by_uuid = {gpu.uuid: sample for gpu, sample in zip(self._gpus, gpus, strict=False)}
        return [runner.report(by_uuid) for runner in self.all()]

    def resume(self) -> None:
        """Go on with every attempt that an earlier agent has left."""
        for attempt in self._folder.attempts():
            with self._guard:
                runner = self._register(attempt)
            self._say(attempt, "goes on")
            runner.start()

    def begin(self, assignment: Assignment, secret: str, asked: float) -> None:
        """Start an attempt that the server has assigned. Repeating the call is harmless.

        Args:
            assignment: as it came.
            secret: of the attempt.
            asked: when the server was asked for it, in seconds since the machine's start.

        Raises:
            DTrainError: it cannot be taken; the server gives the job to somebody else once the
                attempt is missing from a poll that brings another secret.
            OSError: the disk is full, or the like.
        """
        with self._guard:
            if (assignment.job_id, assignment.attempt) in self._runners:
                return
            if not self._folder.secrets.expects(secret):  # a second answer, and all of it is over
                return
            executor = self._choose(assignment.spec)
            gpus = self._free_gpus()[: assignment.spec.gpus]
            attempt = self._folder.create_attempt(assignment, secret, gpus, executor)
            _note_answer(attempt)
            runner = self._register(attempt, asked)
            if self._hands_back:  # the assignment and the signal have crossed
                runner.stop(Cause.HANDED_BACK)
        self._say(attempt, "starts")
        try:
            runner.start()
        except OSError:
            with self._guard:
                self._runners.pop(_key(attempt), None)
            attempt.remove()
            raise

    def obey(self, command: Command) -> None:
        """Do what the server says about an attempt."""
        with self._guard:
            runner = self._runners.get((command.job_id, command.attempt))
        if runner is None:
            return
        if command.action == "stale":
            runner.forget()
        elif command.action == "cancel":
            runner.stop(Cause.CANCELLED, at_once=command.at_once)
        else:
            log.warning("The server's command %r is not known; upgrade the worker.", command.action)

    def hand_back(self, *, at_once: bool = False) -> None:
        """End all attempts, so that other workers can take their jobs."""
        with self._guard:
            self._hands_back = True
        for runner in self.all():
            runner.stop(Cause.HANDED_BACK, at_once=at_once)

    def note_answer(self) -> None:
        """The server has answered: those that must not run unsupervised may go on."""
        for runner in self.all():
            _note_answer(runner.folder)

    def join(self, timeout: float) -> None:
        """Wait for the threads, for so many seconds at most."""
        deadline = time.monotonic() + timeout
        for runner in self.all():
            runner.join(max(deadline - time.monotonic(), 0.0))

    def all(self) -> list[Runner]:
        """Those that there are at this moment."""
        with self._guard:
            return list(self._runners.values())

    def _register(self, attempt: AttemptFolder, asked: float | None = None) -> Runner:
        executor = self._executors.get(attempt.executor) or Absent(attempt.executor)
        runner = Runner(
            attempt,
            self._link,
            executor,
            self._bundles,
            self._isolation,
            self._checkpoint_interval,
            self._ended,
            self._refill,
            asked,
        )
        self._runners[_key(attempt)] = runner
        return runner

    def _ended(self, runner: Runner) -> None:
        with self._guard:
            self._runners.pop(_key(runner.folder), None)
        if runner.reported and runner.finish is not None:
            self._say(runner.folder, _in_words(runner.finish))
        self._on_change()

    def _choose(self, spec: JobSpec) -> str:
        """The name of the executor for a new attempt.

        Raises:
            DTrainError: the worker does not have the one that it needs.
        """
        if spec.executor is not ExecutorName.AUTO:
            wanted: str = spec.executor
        elif spec.image is not None or (self._has_containers() and may_be_contained(spec)):
            wanted = ExecutorName.DOCKER
        else:
            wanted = next(iter(self._executors))
        if wanted not in self._executors:
            raise DTrainError(f"It needs the executor {wanted}, which this worker does not have.")
        return wanted

    def _free_gpus(self) -> list[str]:
        """Those that no attempt holds, as `CUDA_VISIBLE_DEVICES` takes them."""
        held = {
            gpu
            for runner in self._runners.values()
            if runner.folder.gpus and not runner.has_ended
            for gpu in runner.folder.gpus
        }
        return [gpu.uuid for gpu in self._gpus if gpu.uuid not in held]

    def _say(self, attempt: AttemptFolder, what: str) -> None:
        assignment = attempt.assignment
        number = f", attempt {assignment.attempt}" if assignment.attempt > 1 else ""
        self._console.say(f"Job {assignment.job_id} ({assignment.spec.name}{number}) {what}.")


def _note_answer(attempt: AttemptFolder) -> None:
    if attempt.assignment.spec.on_partition is OnPartition.STOP:
        note_answer(str(attempt.path))


def _key(attempt: AttemptFolder) -> Key:
    return attempt.assignment.job_id, attempt.assignment.attempt


def _in_words(finish: Finish) -> str:
    """How an attempt ended, as the end of a sentence."""
    if finish.cause is Cause.EXITED:
        duration = f" after {finish.duration:.1f} s" if finish.duration is not None else ""
        if finish.signal is not None:
            return f"was ended by signal {finish.signal}{duration}"
        if finish.exit_code:
            return f"failed with exit code {finish.exit_code}{duration}"
        return f"completed{duration}"
    if finish.cause in {Cause.CANCELLED, Cause.HANDED_BACK}:
        return f"was {finish.cause.replace('_', ' ')}"
    message = f": {finish.message.rstrip('.')}" if finish.message else ""
    return f"failed with {finish.cause}{message}"
