"""One attempt from its claim to its report, on one thread.

    new         fetch and unpack the bundle and make a plan; launch the shim, if the attempt counts
    launched    follow the log and the steps until the shim has ended
    ended       compose the finish and keep it; from here on nothing is decided any more
    finished    report it, then what the server misses, until it is applied; remove the folder

Each step leaves its trace in the attempt's folder before the next one begins, so that a new agent
goes on where a killed one stopped. A stale attempt is killed and forgotten from anywhere.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import msgspec

from dtrain.protocol.errors import Conflict, DTrainError
from dtrain.protocol.states import Cause, OnPartition, Phase
from dtrain.protocol.worker_messages import AttemptReport, AttemptUsage, Finish

from . import artifacts
from .bundles import BundleCache
from .cgroups import has_to_wait
from .checkpoints import Checkpoints
from .delivery import Delivery
from .executors.base import Executor, PrepareFailed
from .isolation import Isolation
from .launcher import Running, adopt, kill_rest, launch, resume, smoothed_way
from .link import AttemptRef, Link
from .patience import StaleAttempt, Stopped, Superseded
from .preparation import make_ready
from .processes import Process, descendants
from .records import ExitRecord
from .refill import Refill
from .restoration import restore
from .shortage import PASSING, starting_thread
from .spool import AttemptFolder
from .supervision import UNSUPERVISED, since_boot
from .usage import GpuSamples, usage_of

log = logging.getLogger(__name__)

CERTAIN = 10.0
"""Seconds for which it holds that an attempt counts; the server gives none up before 300."""
FIRST_PAUSE = 0.02
"""Seconds between two looks at a log that grows."""
LONGEST_PAUSE = 0.05
"""Seconds between two looks at a log that does not."""
KILL_WAIT = 30.0
"""Seconds for a shim to end what it was told to kill at once."""
USED = 1.0
"""Seconds that an attempt runs before it is said what it uses."""
TROUBLE_PAUSE = 1.0
"""Seconds after which a job is followed again that could not be, for want of descriptors say."""


class Runner:
    """One attempt on this worker. `stop` and `forget` may be called from any thread.

    Args:
        folder: of the attempt; it may be new, or left by an earlier agent.
        link: to the server.
        executor: knows how to run the attempt.
        bundles: that the worker has already.
        isolation: keeps the attempt within its limits and apart.
        checkpoint_interval: seconds from one generation of its checkpoint to the next, at least.
        on_end: called with this runner when its thread ends, whatever became of the attempt.
        refill: asks for the next job with the end of this one.
        asked: when the server was asked for what it answered with the attempt, in seconds since
            the machine's start; None for one that an earlier agent has left.
    """

    def __init__(
        self,
        folder: AttemptFolder,
        link: Link,
        executor: Executor,
        bundles: BundleCache,
        isolation: Isolation,
        checkpoint_interval: float,
        on_end: Callable[[Runner], None],
        refill: Refill,
        asked: float | None = None,
    ) -> None:
        self.folder = folder
        assignment = folder.assignment
        self._ref = AttemptRef(assignment.job_id, assignment.attempt, folder.secret)
        self._link = link
        self._executor = executor
        self._bundles = bundles
        self._isolation = isolation
        self._on_end = on_end
        self._delivery = Delivery(folder, link, self._ref, refill)
        self._checkpoints = Checkpoints(folder, link, self._ref, checkpoint_interval, self.forget)
        self._guard = threading.Lock()
        self._telling = threading.Lock()
        """Held by whoever tells the shim something: one at a time."""
        self._wish: Cause | None = None
        """Why the attempt is to be stopped; None as long as it may run."""
        self._at_once = False
        self._stale = False
        self._running: Running | None = None
        self._since = 0.0
        """Since when it is followed, by the monotonic clock."""
        self._asked = asked
        self._phase = Phase.PREPARING
        name = f"attempt-{assignment.job_id}-{assignment.attempt}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin, or go on.

        Raises:
            OSError: the machine has no thread for it now.
        """
        with starting_thread():
            self._thread.start()

    def join(self, timeout: float) -> bool:
        """Wait for the thread, for so many seconds at most; whether it has ended."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def finish(self) -> Finish | None:
        """How the attempt ended, once it has."""
        return self._delivery.finish

    @property
    def has_ended(self) -> bool:
        """Whether it takes up nothing any more; an earlier agent may have seen to its end."""
        return self.finish is not None or self.folder.exit is not None

    @property
    def reported(self) -> bool:
        """Whether the server has all of it."""
        return self._delivery.reported

    @property
    def runs(self) -> bool:
        """Whether anything of the attempt runs on this machine."""
        running = self._running
        return running is not None and running.alive()

    @property
    def is_stopping(self) -> bool:
        """Whether the attempt was told to end."""
        return self._wish is not None

    def processes(self) -> list[Process]:
        """What runs of the attempt on this machine, but for what a container engine runs."""
        running = self._running
        return [] if running is None else list(descendants(running.pid))

    @property
    def moved_at(self) -> float:
        """When the last checkpoint has last come forward; by the monotonic clock."""
        return self._checkpoints.moved_at

    def report(self, gpus: GpuSamples) -> AttemptReport:
        """How the attempt is, for a poll."""
        phase = Phase.FINISHING if self.finish else self._phase
        return AttemptReport(
            job_id=self._ref.job_id,
            attempt=self._ref.attempt,
            secret=self._ref.secret,
            phase=Phase.CANCELLING if self._wish is Cause.CANCELLED else phase,
            usage=self._usage(gpus),
        )

    def _usage(self, gpus: GpuSamples) -> AttemptUsage | None:
        """What it uses; nothing of one that has only just begun, as many are over by then."""
        if self._running is None or time.monotonic() < self._since + USED:
            return None
        return usage_of(self.folder, self._running, gpus)

    def stop(self, cause: Cause, *, at_once: bool = False) -> None:
        """End the attempt; does not wait. The first cause stays.

        Args:
            cause: `CANCELLED`, `HANDED_BACK` or `OUT_OF_MEMORY`.
            at_once: without grace, or without what is left of it.
        """
        with self._guard:
            cause = self._wish = self._wish or cause
            self._at_once = self._at_once or at_once
            running = self._running
        if running is not None:
            self._pass_on(running, cause, at_once=at_once)

    def forget(self) -> None:
        """Kill the attempt and report nothing more of it: it no longer counts."""
        self._stale = True
        self.stop(Cause.CANCELLED, at_once=True)

    def _pass_on(self, running: Running, cause: Cause, *, at_once: bool) -> None:
        """Tell the shim; kill it with all the rest if it cannot be told, on a full disk say."""
        try:
            with self._telling:
                running.stop(cause, at_once=at_once)
        except OSError as error:
            log.warning("%s cannot be stopped with grace (%s).", self.folder.path, error)
            kill_rest(self.folder)

    def _run(self) -> None:
        try:
            try:
                self._work()
            except StaleAttempt as error:
                log.info("Attempt %s no longer counts: %s", self.folder.path.name, error.detail)
                self._kill()
                self._clean_up()
        except (Stopped, Superseded):
            log.debug("Attempt %s is left to the next agent.", self.folder.path.name)
        except DTrainError as error:
            log.error("Attempt %s is given up: %s", self.folder.path.name, error.detail)
        except Exception:  # the thread's last line of defence
            log.exception("Attempt %s is given up.", self.folder.path.name)
        finally:
            self._delivery.close()
            self._on_end(self)

    def _work(self) -> None:
        if self.finish is None:
            try:
                while not self._execute_or_wait():
                    pass
            except (DTrainError, Stopped):
                raise
            except Exception as error:  # a fault of the agent's own must not leave a job behind
                log.exception("Attempt %s cannot be followed.", self.folder.path.name)
                self._kill()
                message = f"The worker failed: {error!r}"
                self._delivery.keep(Finish(cause=Cause.SHIM_LOST, message=message[:2000]))
        # How it ended is kept now; nothing that ran is left when that is told.
        self._executor.clean(self.folder)
        self._delivery.deliver()
        self._clean_up()

    def _execute_or_wait(self) -> bool:
        """Bring the attempt to its end; False if the machine has to be given some time first.

        A job that runs is not ended because its agent cannot open a file just now, nor is it lost
        for that how one has ended.
        """
        try:
            self._execute()
        except OSError as error:
            if self._running is None and error.errno not in PASSING:
                raise
            log.warning("Attempt %s cannot be followed now (%s).", self.folder.path.name, error)
            self._link.pause(TROUBLE_PAUSE)
            return False
        return True

    def _execute(self) -> None:
        """Bring the attempt to its end, and keep how it ended."""
        running = adopt(self.folder)
        try:
            if running is None and self.folder.shim is None:
                running = self._launch()
        except PrepareFailed as error:
            self._delivery.keep(Finish(cause=error.cause, message=error.detail[:2000]))
            return
        while running is not None or (running := self._resumed()) is not None:
            self._follow(running)
            running = None
        if self._stale:
            raise StaleAttempt("the server said so.")
        finish = self._composed()
        if finish.cause is not Cause.EXITED:  # which says by itself that it was executed
            self._delivery.say_untold()
        completed = finish.cause is Cause.EXITED and finish.exit_code == 0
        # Then the next agent would compose the same of what the shim has written.
        self._delivery.keep(finish, is_recorded=completed and not finish.artifacts)

    def _launch(self) -> Running | None:
        """Start a new attempt; None if one was started that has ended meanwhile."""
        with smoothed_way() if has_to_wait(self._isolation.means.group) else nullcontext():
            return self._prepare_and_launch()

    def _prepare_and_launch(self) -> Running | None:
        self._check()
        fetch = partial(
            self._link.bundle, self._ref, self.folder.assignment.bundle.sha256, check=self._check
        )
        bring_back = partial(restore, self.folder, self._link, self._ref, self._check)
        plan = make_ready(self.folder, self._executor, self._bundles, fetch, bring_back)
        if self.folder.assignment.spec.on_partition is OnPartition.STOP:
            plan = msgspec.structs.replace(plan, unsupervised=UNSUPERVISED)
        self._check()
        if self._asked is None or since_boot() > self._asked + CERTAIN:
            self._delivery.say(Phase.PREPARING)  # only an attempt that counts goes on
            self._check()
        self._link.pause(0)  # nothing is begun by an agent that ends
        try:
            return launch(self.folder, self._isolation.enclosed(self.folder, plan))
        except Conflict:
            return adopt(self.folder)
        except DTrainError as error:
            raise PrepareFailed(Cause.START_FAILED, error.detail) from error

    def _resumed(self) -> Running | None:
        """Go on with what has outlived a shim that was killed; None if nothing has, or is to."""
        wanted = not self._stale and self._wish is None
        return resume(self.folder, self._executor) if wanted else None

    def _check(self) -> None:
        """Go no further if the attempt is to be stopped."""
        if self._stale:
            raise StaleAttempt("the server said so.")
        if self._wish is not None:
            raise PrepareFailed(self._wish, "It was stopped before it began to run.")

    def _follow(self, running: Running) -> None:
        """Bring the log and the steps to the server until the shim has ended."""
        with self._guard:
            self._running, self._since = running, time.monotonic()
            wish, at_once = self._wish, self._at_once
        if wish is not None:
            self._pass_on(running, wish, at_once=at_once)
        pause = LONGEST_PAUSE  # many that are shorter end before they are looked at
        ended = False
        with self._checkpoints.watched() as look:
            while not ended:
                look()
                self._link.pause(0)
                ended = running.wait(pause)
                is_new = self._note_phase(running)
                if ended and self._delivery.is_nearly_sent() and self._left_nothing():
                    return  # the rest of the log goes with the end, which follows at once
                grown = self._delivery.follow_log()
                if not grown and (ended or not is_new):
                    self._delivery.say_untold()
                pause = FIRST_PAUSE if grown else min(pause * 1.5, LONGEST_PAUSE)

    def _note_phase(self, running: Running) -> bool:
        """Whether there is a new phase. It is told with what is logged at once, else by itself."""
        is_new = self._phase is Phase.PREPARING and running.phase == "main"
        if is_new:
            self._phase = self._delivery.untold = Phase.EXECUTING
        return is_new

    def _left_nothing(self) -> bool:
        """Whether there is no file that is looked at before the end is told."""
        try:
            return not any(map(os.listdir, (self.folder.output, self.folder.checkpoints)))
        except OSError:
            return False

    def _composed(self) -> Finish:
        """How the attempt ended, by what its shim wrote; or by nothing, if that was killed."""
        record = self.folder.exit or self._lost()
        self._keep_last_checkpoint(record)
        left = record.cause is not Cause.HANDED_BACK
        return Finish(
            cause=record.cause,
            exit_code=record.exit_code,
            signal=record.signal,
            message=record.message and record.message[:2000],
            peak_memory=record.peak_memory,
            memory_limit=record.memory_limit,
            duration=max(record.duration, 0.0),
            traceback=record.traceback and record.traceback[-10_000:],
            log_bytes=self._delivery.log_size(),
            artifacts=artifacts.collect(self.folder.output) if left else [],
        )

    def _keep_last_checkpoint(self, record: ExitRecord) -> None:
        """Have the checkpoint kept before the end is told: another attempt may begin right then."""
        failed = record.cause in {Cause.EXITED, Cause.OUT_OF_MEMORY} and record.exit_code != 0
        is_retried = failed and self.folder.assignment.spec.max_retries
        # A machine that went down may have left files that are not whole; the server's are.
        is_lost = record.cause is Cause.SHIM_LOST and self.folder.shim_of_this_boot is not None
        if is_retried or is_lost or record.cause is Cause.HANDED_BACK:
            self._checkpoints.take_last(lambda: self._stale or self._wish is Cause.CANCELLED)

    def _lost(self) -> ExitRecord:
        self._kill()
        if self._wish is not None:
            return ExitRecord(cause=self._wish)
        return ExitRecord(
            cause=Cause.SHIM_LOST, message="The process that stood by the job was killed."
        )

    def _kill(self) -> None:
        """End everything that the attempt started."""
        running = adopt(self.folder)
        if running is not None:
            self._pass_on(running, Cause.CANCELLED, at_once=True)
            running.wait(KILL_WAIT)
        while not kill_rest(self.folder):
            self._link.pause(TROUBLE_PAUSE)
        self._executor.clean(self.folder)

    def _clean_up(self) -> None:
        try:
            self._isolation.release(self.folder)
            self.folder.remove()
        except (OSError, DTrainError) as error:
            log.warning("%s cannot be removed: %s", self.folder.path, error)
