"""Starting, finding again, watching and ending the shims of attempts.

What a runner does with an attempt:

    running = adopt(folder)
    if running is None and folder.shim is None:
        running = launch(folder, executor.prepare(folder))
    while running is not None and not running.wait(1.0):
        …                                   # phase, log, commands
    if folder.exit is None:
        kill_rest(folder)                   # the shim was killed: Cause.SHIM_LOST
    executor.clean(folder)

All of it may be called from any thread; `stop` any number of times.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

import dtrain
from dtrain.protocol.errors import Conflict, DTrainError
from dtrain.protocol.states import Cause

from . import layout, processes
from .executors.base import Plan
from .layout import write_durably
from .processes import Process
from .shim import READY
from .spool import AttemptFolder

_PACKAGES = str(Path(dtrain.__file__).absolute().parents[1])
"""The folder from which the shim imports this package: last, lest something there hide a module."""
_CODE = """\
import sys
sys.path.append(sys.argv[1])
from dtrain.worker.shim import main
main(sys.argv[2])
"""
_LOOKS = 5
"""How often nothing must be found of an attempt before nothing is left."""
_RECORDED = 5.0
"""Seconds in which a shim that holds its lock has recorded itself."""


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
        """Ask the shim to end the attempt with `CANCELLED` or `HANDED_BACK`; does not wait.

        Everything the job started gets SIGTERM and SIGCONT, after the plan's grace SIGKILL;
        `at_once`, also in a second call, leaves out what is left of the grace. The first cause
        stays. An attempt that ended by itself before keeps its own outcome.

        Raises:
            OSError: if the wish cannot be written down, because the disk is full.
        """
        wish = json.dumps({"cause": cause, "at_once": at_once}).encode()
        write_durably(str(self.folder.path / layout.STOP), wish)
        processes.send(self._process, signal.SIGTERM)
        processes.send(self._process, signal.SIGCONT)


def launch(folder: AttemptFolder, plan: Plan) -> Running:
    """Start the shim of an attempt, and return when it has recorded itself.

    Raises:
        Conflict: the attempt was started before, whether or not it still runs (`adopt` it).
        DTrainError: the shim cannot start; its text says why.
    """
    try:
        answer = _start(folder, plan)
    except OSError as error:
        raise DTrainError(f"The attempt cannot be started: {error.strerror}.") from error
    if answer == "started":
        raise Conflict(f"The attempt in {folder.path} was started before.", code="started")
    running = _recorded(folder)
    if answer != "ok" or running is None:
        words = (folder.path / layout.SHIM_LOG).read_text(errors="replace").strip()
        why = words.rsplit("\n", 1)[-1] or "its shim ended without a word"
        raise DTrainError(f"The attempt cannot be started: {why}.")
    return running


def _start(folder: AttemptFolder, plan: Plan) -> str:
    """Start the shim in a session of its own; what it says of its start, nothing if it fails."""
    # Not msgspec: variables that are not UTF-8 are text with lone surrogates.
    content = json.dumps(msgspec.to_builtins(plan))
    write_durably(str(folder.path / layout.PLAN), content.encode())
    reader, writer = os.pipe()
    log = str(folder.path / layout.SHIM_LOG)
    opened = (os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", "-c", _CODE, _PACKAGES, str(folder.path)],
            {"LC_ALL": "C.UTF-8", layout.MARK: secrets.token_hex(16)},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, writer, READY),
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, log, *opened),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            setsigmask=(),
        )
    finally:
        os.close(writer)
        with os.fdopen(reader, "rb") as said:
            answer = said.read().decode()
    return answer


def adopt(folder: AttemptFolder) -> Running | None:
    """The shim that was started for an attempt, if it is alive: by its pid, start and boot."""
    deadline = time.monotonic() + _RECORDED
    while folder.shim is None and _is_locked(folder) and time.monotonic() < deadline:
        time.sleep(0.01)
    running = _recorded(folder)
    return running if running is not None and running.alive() else None


def kill_rest(folder: AttemptFolder) -> bool:
    """Kill all processes of an attempt whose shim is dead; whether nothing is left.

    They are told by a mark in their environment, by the session of the step that ran, and as
    children of such. A shim that is not dead is killed with them. What the kernel does not let go
    of is given up after `processes.PATIENCE` seconds.
    """
    record = folder.shim
    if record is None or record.boot_id != processes.boot_id():
        return True
    step = folder.step
    leader = Process(step.pid, step.ticks) if step else None
    mark = f"{layout.MARK}={record.mark}".encode()

    def find() -> Iterator[Process]:
        return processes.marked(mark, leader)

    # One look may miss what replaces itself all the time: listed before, ended when looked at.
    return not processes.end_all(find, lambda: not any(any(find()) for _ in range(_LOOKS)))


def _recorded(folder: AttemptFolder) -> Running | None:
    """The shim that has recorded itself since the machine's last start, alive or not."""
    record = folder.shim
    if record is None or record.boot_id != processes.boot_id():
        return None
    return Running(folder, Process(record.pid, record.ticks))


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
