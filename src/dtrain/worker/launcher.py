"""Starting, finding again, watching and ending the shims of attempts.

What a runner does with an attempt:

    running = adopt(folder)
    if running is None and folder.shim is None:
        running = launch(folder, executor.prepare(folder))
    while running is not None and not running.wait(1.0):
        …                                   # phase, log, commands
    if folder.exit is None:                 # the shim was killed
        running = resume(folder, executor)  # goes on from above, or else
        kill_rest(folder)                   # Cause.SHIM_LOST
    executor.clean(folder)

All of it may be called from any thread; `stop` any number of times.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import itertools
import json
import logging
import os
import secrets
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

import dtrain
from dtrain.protocol.errors import Conflict, DTrainError
from dtrain.protocol.states import Cause

from . import cgroups, hierarchies, layout, processes
from .executors.base import Executor, Plan
from .fork_server import ASKED, BLANK_MARK, BLANK_TITLE
from .layout import write_durably, write_whole
from .processes import Process
from .shim import note_stuck
from .spool import AttemptFolder

_log = logging.getLogger(__name__)

_PACKAGES = str(Path(dtrain.__file__).absolute().parents[1])
"""The folder from which the shim imports this package: last, lest something there hide a module."""
_CODE = """\
import os, sys
sys.path.append(sys.argv[1])
from dtrain.worker.fork_server import serve
from dtrain.worker.shim_main import main
main(serve())
os._exit(0)
"""
"""Run by the process that shims are forked from. A shim does not tidy up: its end is waited for."""
_LOOKS = 5
"""How often nothing must be found of an attempt before nothing is left."""
_DYING = 1.0
"""Seconds in which a process that is killed lets go of all that it had, one after the other."""
_RECORDED = 60.0
"""Seconds in which a shim that holds its lock has recorded itself, however busy the machine is."""
_SMOOTHING = 0.008
"""Seconds between two times; for longer than 0.02 the kernel does not remember."""
_SMOOTHED = 1.0
"""Seconds after which the wait does not count any more beside what came before."""
_ABOVE = 10
"""A descriptor above those that a shim is given, so that none takes another's place."""


class Running:
    """An attempt whose shim was seen alive."""

    def __init__(self, folder: AttemptFolder, process: Process) -> None:
        self.folder = folder
        self._process = process

    @property
    def pid(self) -> int:
        """The shim's process."""
        return self._process.pid

    @property
    def phase(self) -> str | None:
        """The name of the step that is run now, or was the last; None before the first."""
        step = self.folder.step
        return step.name if step else None

    def alive(self) -> bool:
        """Whether the shim still runs. Once it does not, `folder.exit` never changes."""
        return not self.wait(0)

    def wait(self, timeout: float) -> bool:
        """Wait until the shim has ended, for so many seconds at most; whether it has."""
        ended = processes.wait_for_end(self._process, timeout)
        if ended:
            with contextlib.suppress(ChildProcessError):  # another agent started it
                os.waitpid(self._process.pid, os.WNOHANG)
        return ended

    def stop(self, cause: Cause, *, at_once: bool = False) -> None:
        """Ask the shim to end the attempt with this cause; does not wait.

        Everything the job started gets SIGTERM and SIGCONT, after the plan's grace SIGKILL;
        `at_once`, also in a second call, leaves out what is left of the grace. The first cause
        stays. An attempt that ended by itself before keeps its own outcome; its folder may be gone.

        Raises:
            OSError: if the wish cannot be written down, because the disk is full.
        """
        wish = json.dumps({"cause": cause, "at_once": at_once}).encode()
        try:
            write_durably(str(self.folder.path / layout.STOP), wish)
        except OSError:
            if self.alive():
                raise
            return
        processes.send(self._process, signal.SIGTERM)
        processes.send(self._process, signal.SIGCONT)


def launch(folder: AttemptFolder, plan: Plan, *, again: bool = False) -> Running:
    """Start the shim of an attempt, and return when it has recorded itself.

    Args:
        folder: of the attempt.
        plan: what is to be run.
        again: whether the shim may have been started before, as long as it has ended.

    Raises:
        Conflict: the attempt was started before, whether or not it still runs (`adopt` it).
        DTrainError: the shim cannot start; its text says why.
    """
    try:
        with _taken(folder, again=again) as lock:
            answer = _start(folder, plan, lock)
    except OSError as error:
        raise DTrainError(f"The attempt cannot be started: {error.strerror}.") from error
    running = _recorded(folder)
    if answer != "ok" or running is None:
        words = (folder.path / layout.SHIM_LOG).read_text(errors="replace").strip()
        why = words.rsplit("\n", 1)[-1] or "its shim ended without a word"
        raise DTrainError(f"The attempt cannot be started: {why}.")
    return running


@contextlib.contextmanager
def _taken(folder: AttemptFolder, *, again: bool) -> Iterator[int]:
    """The attempt's lock, for a shim to inherit: it is never free while one starts or runs.

    Raises:
        Conflict: the attempt was started before.
    """
    opened = os.open(folder.path / layout.LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    lock = fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, _ABOVE)
    os.close(opened)
    started = Conflict(f"The attempt in {folder.path} was started before.", code="started")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if folder.shim is not None and not again:
            raise started
        yield lock
    except BlockingIOError:
        raise started from None
    finally:
        os.close(lock)


def _start(folder: AttemptFolder, plan: Plan, lock: int) -> str:
    """Start the shim in a session of its own; what it says of its start, nothing if it fails."""
    # Not msgspec: variables that are not UTF-8 are text with lone surrogates.
    content = json.dumps(msgspec.to_builtins(plan))
    write_whole(str(folder.path / layout.PLAN), content.encode())
    answer, asked = _ask(folder, lock)
    if not answer and folder.shim is None and _fork_server.has_died(asked):
        answer, _ = _ask(folder, lock)  # there was nobody to start one
    return answer


def _ask(folder: AttemptFolder, lock: int) -> tuple[str, int]:
    """Have a shim forked; what it says, and which fork server was asked."""
    reader, writer = os.pipe()
    log = os.open(folder.path / layout.SHIM_LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        asked = _fork_server.ask(folder.path, writer, lock, log)
    finally:
        os.close(log)
        os.close(writer)
        with os.fdopen(reader, "rb") as said:
            answer = said.read().decode()
    return answer, asked


class _ForkServer:
    """The process that shims are forked from: started when it is needed, and again if it died."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._pid = 0
        self._number = 0
        """How many there were."""
        self._socket: socket.socket | None = None

    def ask(self, folder: Path, *descriptors: int) -> int:
        """Have a shim forked for an attempt, with these descriptors; which one was asked."""
        message = os.fsencode(f"{secrets.token_hex(16)}\0{folder}")
        with self._guard:
            try:
                socket.send_fds(self._socket or self._started(), [message], descriptors)
            except ConnectionError:  # it was killed
                self._forget()
                socket.send_fds(self._started(), [message], descriptors)
            return self._number

    def has_died(self, number: int) -> bool:
        """Whether the one of this number was killed; another may have been started since."""
        with self._guard:
            if self._socket is not None and self._number == number:
                watch = select.poll()
                watch.register(self._socket, 0)
                if watch.poll(_DYING * 1000):
                    self._forget()
            return self._socket is None or self._number != number

    def close(self) -> None:
        """Have it end; the shims go on."""
        with self._guard:
            if self._socket is not None:
                self._socket.close()

    def _started(self) -> socket.socket:
        self._number += 1
        self._socket, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            self._pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", "-c", _CODE, _PACKAGES, BLANK_TITLE],
                {"LC_ALL": "C.UTF-8", layout.MARK: BLANK_MARK},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, its.fileno(), ASKED),
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                ],
                setsid=True,
                setsigmask=(),
            )
        return self._socket

    def _forget(self) -> None:
        """Let go of one that has died."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        with contextlib.suppress(ChildProcessError):  # nobody waits for children here
            os.waitpid(self._pid, 0)


_fork_server = _ForkServer()
atexit.register(_fork_server.close)


@contextlib.contextmanager
def smoothed_way() -> Iterator[None]:
    """Spare a job a wait of the kernel's, while all is made ready for it.

    The first process in a while that goes into a group of version 2 waits for all processors to
    take note, some 10 ms; those that follow at once do not. So this process goes where it is, again
    and again, beside what else is done, for a moment.
    """
    place = hierarchies.own_members()
    over = threading.Event()

    def smooth() -> None:
        deadline = time.monotonic() + _SMOOTHED
        with contextlib.suppress(OSError):
            while place is not None and time.monotonic() < deadline:
                place.write_text("0")
                if over.wait(_SMOOTHING):
                    return

    thread = threading.Thread(target=smooth, name="smooth", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def adopt(folder: AttemptFolder) -> Running | None:
    """The shim that was started for an attempt, if it is alive: by its pid, start and boot."""
    deadline = time.monotonic() + _RECORDED
    while folder.shim is None and _is_locked(folder) and time.monotonic() < deadline:
        time.sleep(0.01)
    running = _recorded(folder)
    return running if running is not None and running.alive() else None


def resume(folder: AttemptFolder, executor: Executor) -> Running | None:
    """Start another shim for what has outlived the attempt's; None if nothing has, or it ended."""
    plan = executor.resume(folder) if folder.exit is None else None
    if plan is None or not kill_rest(folder):
        return None
    _log.warning("The shim of attempt %s was killed; what it stood by goes on.", folder.path.name)
    try:
        return launch(folder, plan, again=True)
    except DTrainError as error:
        _log.error("Attempt %s cannot go on: %s", folder.path.name, error.detail)
        return None


def kill_rest(folder: AttemptFolder) -> bool:
    """Kill all processes of an attempt whose shim is dead; whether nothing is left.

    They are told by their control group, by a mark in their environment, by the session of the
    step that ran, and as children of such. A shim that is not dead is killed with them. What the
    kernel does not let go of is given up after `processes.PATIENCE` seconds.
    """
    record = folder.shim_of_this_boot
    if record is None:
        return True
    step = folder.step
    leader = Process(step.pid, step.ticks) if step else None
    mark = f"{layout.MARK}={record.mark}".encode()

    group = folder.group

    def find() -> Iterator[Process]:
        return itertools.chain(cgroups.members(group), processes.marked(mark, leader))

    # One look may miss what replaces itself all the time: listed before, ended when looked at.
    left = processes.end_all(find, lambda: not any(any(find()) for _ in range(_LOOKS)))
    note_stuck(str(folder.path), left)
    return not left


def _recorded(folder: AttemptFolder) -> Running | None:
    """The shim that has recorded itself since the machine's last start, alive or not."""
    record = folder.shim_of_this_boot
    return None if record is None else Running(folder, Process(record.pid, record.ticks))


def _is_locked(folder: AttemptFolder) -> bool:
    try:
        descriptor = os.open(folder.path / layout.LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
