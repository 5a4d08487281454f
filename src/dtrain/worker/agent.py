"""The agent: joins a server, asks it for jobs, and looks after those that run on this machine.

The main thread waits for signals and for ends; one thread polls; each attempt has a thread, and
so has the prompt where the owner is asked. What must not be forgotten is in the worker's folder,
so that an agent can be killed at any moment, and the next one goes on.
"""

from __future__ import annotations

import logging
import os
import queue
import shutil
import signal
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from dtrain.client.transport import Transport
from dtrain.protocol.errors import DTrainError, Invalid
from dtrain.protocol.states import Executor as ExecutorName
from dtrain.protocol.states import OnStop
from dtrain.protocol.worker_messages import Leave

from .attempts import Attempts
from .cache import CacheKeeper
from .cgroups import Group
from .chores import Chore
from .config import FILE, HOW_TO_ACCEPT, Config, load
from .console import Console, Trouble, log_to
from .executors import make_executor
from .executors.base import GRACE, Executor, Host
from .inventory import GIB, Inventory
from .isolation import Isolation
from .link import Link
from .memory_guard import MemoryGuard
from .patience import Fault
from .poller import Poller
from .probe import advices, found_isolation
from .python_search import PythonSearch
from .pythons import Pythons
from .shared import Shared
from .shortage import PASSING
from .spool import WorkerFolder

if TYPE_CHECKING:
    from .acceptance import Acceptance
    from .containers import Containers

log = logging.getLogger(__name__)

REPORT_TIME = 10.0
"""Seconds after the end of the last job in which what is handed back must have been reported."""
CHECKPOINT_TIME = 30.0
"""Seconds for which a job's last checkpoint may come no further, before it is not waited for."""
LOOK = 0.5
"""Seconds between two looks at how far handing back is."""
PYTHONS_PERIOD = 1800.0
"""Seconds between two looks at the interpreters that jobs can have."""
ENGINE_PERIOD = 5.0
"""Seconds between two looks at whether the container engine is there."""
MEMORY_PERIOD = 1.0
"""Seconds between two looks at what jobs use together, where no control group holds the limit."""
CACHE_PERIOD = 600.0
"""Seconds between two looks at what is kept for later jobs, at most."""
CACHE_PAUSE = 30.0
"""Seconds from the start, or from the end of a job, to such a look: jobs start in peace."""
JOIN_TIME = 2.0
"""Seconds for the threads of the attempts to let go."""


class Agent:
    """A worker at work.

    Args:
        config: the owner's settings.
        folder: of the worker, locked.
        executors: by their names, ready to run attempts.
        inventory: of the machine.
        isolation: keeps jobs within their limits and apart.
        cache: what is kept for later jobs.
        containers: that jobs can be run in; None if their owner does not want that.
        console: for what happens.
    """

    def __init__(
        self,
        config: Config,
        folder: WorkerFolder,
        executors: Mapping[str, Executor],
        inventory: Inventory,
        isolation: Isolation,
        cache: CacheKeeper,
        containers: Containers | None,
        console: Console,
    ) -> None:
        self._config = config
        self._folder = folder
        self._console = console
        self._inventory = inventory
        self._cache = cache
        self._tidying = Chore("cache", cache.look, CACHE_PERIOD, CACHE_PAUSE)
        self._chores = [self._tidying, Chore("pythons", inventory.find_pythons, PYTHONS_PERIOD, 0)]
        if containers is not None:
            containers.serve(inventory)
            self._chores.append(Chore("engine", containers.look, ENGINE_PERIOD, ENGINE_PERIOD))
            self._chores.append(Chore("containers", containers.tidy, CACHE_PERIOD, CACHE_PAUSE))
        self._happenings: queue.SimpleQueue[int | DTrainError | None] = queue.SimpleQueue()
        """Signals, failures of the session, and None for an attempt that has gone."""
        self._gone = threading.Event()
        trouble = Trouble(console)
        transport = Transport(config.server_url, ca_file=config.ca_file)
        self._link = Link(transport, self._gone, trouble)
        self._attempts = Attempts(
            folder,
            self._link,
            executors,
            lambda: ExecutorName.DOCKER in inventory.capacity.executors,
            inventory.capacity.gpus,
            isolation,
            config.checkpoint_interval,
            console,
            lambda: self._poller.taking_session,
            self._note_gone,
        )
        unheld = isolation.unheld_memory(has_containers=containers is not None)
        if unheld is not None and config.max_concurrent_jobs > 1:
            guard = MemoryGuard(self._attempts.all, unheld)
            self._chores.append(Chore("memory", guard.look, MEMORY_PERIOD, MEMORY_PERIOD))
        self._poller = Poller(
            config,
            folder,
            self._link,
            inventory,
            self._attempts,
            console,
            trouble,
            self._happenings.put,
        )
        self._stopping: OnStop | None = None
        """What becomes of the jobs, once the agent was told to stop."""
        self._is_urgent = False
        """Whether jobs are not given any grace."""
        self._deadline: float | None = None

    def run(self) -> None:
        """Work until a signal has ended it.

        Raises:
            DTrainError: the server will not have this worker any more.
        """
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, lambda number, _: self._happenings.put(number))
        if self._config.asks:
            self._poller.acceptance = self._made_acceptance()
            self._poller.acceptance.start()
        identity = self._folder.load_identity()
        if identity is not None:
            # What goes on may report before the poller has joined.
            self._link.credential = identity.credential
        self._attempts.resume()
        self._poller.start()
        try:
            self._supervise()
        finally:
            self._end()

    def _made_acceptance(self) -> Acceptance:
        # Only a worker that asks pays for what draws the cards.
        from .acceptance import Acceptance  # noqa: PLC0415
        from .keyboard import Keyboard  # noqa: PLC0415
        from .owner_code import OwnerCode, new_code  # noqa: PLC0415

        asks_people = not self._config.auto_accept_jobs
        has_page = asks_people and self._config.answer_on_page
        at_terminal = asks_people and os.isatty(0)
        return Acceptance(
            self._config,
            self._console,
            self._link,
            self._poller.decide,
            lambda: self._attempts.unfinished() < self._config.max_concurrent_jobs,
            keyboard=Keyboard(0, by_line=self._console.is_dumb) if at_terminal else None,
            code=OwnerCode(self._folder.owner_code(new_code)) if has_page else None,
        )

    def _note_gone(self) -> None:
        """Take note that an attempt has gone."""
        # Of many short jobs few change how long the main thread may sleep.
        if self._tidying.ask() or self._stopping is not None:
            self._happenings.put(None)

    def _supervise(self) -> None:
        """Wait until the agent was told to stop and everything is as it was told."""
        while not self._is_done():
            for chore in self._chores:
                chore.turn()
            wait = min(chore.due_in() for chore in self._chores)
            try:
                happening = self._happenings.get(
                    timeout=min(wait, LOOK) if self._deadline else wait
                )
            except queue.Empty:
                continue
            if isinstance(happening, DTrainError):
                raise happening
            if happening is not None:
                self._told_to_stop(happening)

    def _is_done(self) -> bool:
        """Whether nothing keeps the agent any longer."""
        if self._stopping is None or not self._attempts:
            return self._stopping is not None
        if self._deadline is not None:
            now = time.monotonic()
            if not self._attempts.running():
                self._deadline = min(self._deadline, now + REPORT_TIME)
            if not self._is_urgent:
                self._deadline = max(self._deadline, self._attempts.moved_at() + CHECKPOINT_TIME)
            if now >= self._deadline:
                self._stopping = OnStop.LEAVE
        return self._stopping is OnStop.LEAVE

    def _told_to_stop(self, number: int) -> None:
        """Act on a signal: the first as it is configured, each further one more urgently."""
        self._poller.draining = True
        if self._stopping is None:
            by_hand = number == signal.SIGINT
            self._stopping = OnStop.HAND_BACK if by_hand else self._config.on_stop
        elif self._stopping is OnStop.DRAIN:
            self._stopping = OnStop.HAND_BACK
        elif not self._is_urgent:
            self._is_urgent = True
        else:
            self._stopping = OnStop.LEAVE
        self._console.say(self._intention())
        if self._stopping is OnStop.HAND_BACK:
            self._attempts.hand_back(at_once=self._is_urgent)
            self._deadline = time.monotonic() + REPORT_TIME + (0 if self._is_urgent else GRACE)

    def _intention(self) -> str:
        """What is done after a signal, as a sentence."""
        number = self._attempts.running()
        jobs = f"{number} running job{'' if number == 1 else 's'}"
        if not number:
            return "Stopping when all ends are reported." if self._attempts else "Stopping."
        if self._stopping is OnStop.LEAVE:
            return f"Stopping; {jobs} left alone until the worker is started again."
        if self._stopping is OnStop.DRAIN:
            return f"Stopping after {jobs}; Ctrl-C hands back what still runs."
        if self._is_urgent:
            return f"Killing {jobs}."
        return f"Handing back {jobs} for other workers; Ctrl-C again kills at once."

    def _end(self) -> None:
        """Let go of everything; what still runs is left to the next agent."""
        if self._poller.acceptance is not None:
            self._poller.acceptance.close()
        self._gone.set()
        left = len(self._attempts)
        self._inventory.close()
        self._cache.close()
        if self._poller.session is not None:
            on_stop = OnStop.LEAVE if left or self._stopping is None else self._stopping
            try:
                self._link.leave(Leave(session=self._poller.session, on_stop=on_stop))
            except DTrainError as error:
                log.debug("The server was not told of the end: %s", error.detail)
        self._attempts.join(JOIN_TIME)
        if left and self._deadline is not None:
            self._console.say("Not all is handed back; start the worker again to have it reported.")


def main(home: Path) -> int:
    """Run the worker whose settings are in a folder and the environment; the exit status.

    It is 2 for what starting it again cannot mend.
    """
    status = 2
    try:
        _work(home)
    except DTrainError as error:
        problem = error.detail
        status = 1 if isinstance(error, Fault) else 2
    except OSError as error:
        problem = (
            f"The worker cannot use {error.filename or home} ({error.strerror}); correct that."
        )
        status = 1 if error.errno in PASSING else 2
    else:
        return 0
    sys.stderr.write(f"{problem}\n")
    return status


def _work(home: Path) -> None:
    config = load(home, os.environ)
    console = Console(sys.stdout)
    log_to(console, debug=config.debug)
    if not (config.auto_accept_jobs or config.accept_when or config.answer_on_page or os.isatty(0)):
        raise Invalid(
            f"There is no terminal to ask at whether a job may run: {HOW_TO_ACCEPT}",
            field="auto_accept_jobs",
        )
    folder = WorkerFolder(config.folder(home))
    folder.lock()
    with ExitStack() as at_end:
        at_end.callback(folder.unlock)
        python = _python(config)
        host = Host(
            worker_name=config.worker_name,
            environments=folder.environments,
            variables=os.environ,
            python=python,
            python_downloads=config.python_downloads,
        )
        isolation = found_isolation(config, folder, home / FILE, host)
        at_end.callback(isolation.close)
        executor = make_executor(config.executor, host)
        executor.start()
        executors = {executor.name: executor}
        containers = _containers(config, host, folder, console, isolation.means.group)
        if containers is not None:
            executors[containers.executor.name] = containers.executor
            at_end.callback(containers.close)
        console.say(f"Isolation: {isolation.protection.level} ({isolation.protection.words}).")
        for advice in advices(config, isolation.protection):
            console.say(advice)
        names = [name for name in ExecutorName if name == executor.name]
        can_fetch = config.python_downloads and executor.name == ExecutorName.VENV
        shared = Shared(folder.environments)
        pythons = Pythons(shared, python, os.environ, may_fetch=can_fetch)
        search = PythonSearch(pythons, os.environ)
        inventory = Inventory(config, folder.path, names, search, isolation.protection)
        limit = None if config.cache_gb is None else config.cache_gb * GIB
        cache = CacheKeeper(folder.path, limit)
        Agent(config, folder, executors, inventory, isolation, cache, containers, console).run()


def _containers(
    config: Config, host: Host, folder: WorkerFolder, console: Console, group: Group
) -> Containers | None:
    """What runs jobs in containers, if the owner wants that, or wanted it when one was begun."""
    begun = any(attempt.executor == ExecutorName.DOCKER for attempt in folder.attempts())
    if not (config.docker_enabled or begun):
        return None
    # Only a worker that has containers pays for what runs them.
    from .containers import Containers  # noqa: PLC0415

    found = Containers(config, host, folder, console, group)
    found.look()
    return found


def _python(config: Config) -> Path:
    """The interpreter of jobs that ask for no version."""
    if config.python is None:
        return Path(sys.executable)
    found = shutil.which(config.python)
    if found is None:
        raise Invalid(
            f"The setting python is not acceptable: there is no program {config.python!r}; name an"
            " interpreter such as /usr/bin/python3.",
            field="python",
        )
    return Path(found).absolute()
