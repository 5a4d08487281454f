"""The process that stands by one attempt from its first step to its end, whatever the agent does.

It runs the steps of the plan one after the other, moves what they write from one pipe into the
log, enforces the time limit, heeds the wish to stop, ends everything that the job started, and
writes `exit.json` last. `launcher` starts it and watches it from outside:

- SIGTERM says that `stop.json` holds a wish; without that file the attempt is handed back, which
  is what a machine that shuts down means.
- It is the subreaper of everything the job starts: orphans become its children, so that nothing
  gets out of its sight. If the shim is killed, the kernel kills the program of its step.

It runs without `site` and imports the standard library's quick part alone: a job that needs no
environment waits for nothing but this start.
"""
# pathlib would cost the shim a third of its start.
# ruff: noqa: PTH110, PTH208

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import time

from dtrain.protocol.states import Cause

from . import layout, processes
from .exit_file import ExitFile
from .job_log import JobLog
from .layout import read_if_there, write_durably
from .spawn import become_subreaper, spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

READY = 3
"""The descriptor on which the launcher hears `ok`, or why the shim does not start."""

_PIECE = 64 * 1024
"""Bytes that are read from the pipe at once."""
_PIECES = 16
"""Pieces after which signals and limits are looked at again."""
_LOOK = 0.1
"""Seconds between two looks at what is left of a job that was asked to end."""
_DRAIN = 1.0
"""Seconds for what is left in the pipe after everything that the job started has ended."""
_LITTLE = 1024**2
"""Bytes; a disk with less room than this is full."""
_NO_ROOM = "No space left on device"


class Shim:
    """One attempt, while it runs."""

    def __init__(self, folder: str, plan: dict[str, Any]) -> None:
        self._folder = folder
        self._plan = plan
        self._step: dict[str, Any] = {}
        """The step that is run, or was the last."""
        self._program = 0
        """The process of that step."""
        self._status: int | None = None
        """How that process ended, as `wait` says it; None as long as it runs."""
        self._cause: Cause | None = None
        """Why the attempt is being ended; None as long as it may go on."""
        self._message: str | None = None
        self._left: list[processes.Process] = []
        """What not even SIGKILL has ended."""
        self._peak = 0
        """Bytes of the largest process of the step."""
        self._limit_at: float | None = None
        self._step_limit_at: float | None = None
        self._kill_at: float | None = None
        self._wished = os.path.exists(f"{folder}/{layout.STOP}")
        self._exit = ExitFile(f"{folder}/{layout.EXIT}")
        self._log = JobLog(f"{folder}/{layout.LOG}", plan["log_cap"])
        self._output, self._input = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._output, False)
        self._wake = self._watch_signals()
        self._poll = select.poll()
        self._poll.register(self._wake, select.POLLIN)
        self._poll.register(self._output, select.POLLIN)

    def run(self) -> None:
        """Run the steps, and record how it ended."""
        started = time.monotonic()
        if self._plan["time_limit"] is not None:
            self._limit_at = started + self._plan["time_limit"]
        self._heed()
        for step in self._plan["steps"]:
            if self._cause is None and not self._status and not self._left:
                self._step = step
                self._run_step()
        self._log.end()
        self._record(duration=time.monotonic() - started)

    def give_up(self, error: Exception) -> None:
        """End everything after a failure of the shim itself, and record that."""
        self._kill()
        self._cause = Cause.START_FAILED
        self._message = f"The shim failed: {error!r}."
        self._record(duration=0.0)

    # One step.

    def _watch_signals(self) -> int:
        """Have signals wake the loop; the descriptor that becomes readable then."""
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self._wish())
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        return reader

    def _wish(self) -> None:
        self._wished = True

    def _run_step(self) -> None:
        self._status, self._peak = None, 0
        try:
            env = {**self._step["env"], layout.MARK: os.environ[layout.MARK]}
            self._program = spawn(self._step["argv"], env, self._step["cwd"], self._input)
        except OSError as error:
            self._cause = Cause.START_FAILED
            self._message = f"{self._step['argv'][0]} cannot be run: {error.strerror}."
            return
        self._note_step()
        limit = self._step["time_limit"]
        self._step_limit_at = None if limit is None else time.monotonic() + limit
        while self._status is None and not self._left:
            self._turn()
        while self._cause is not None and not self._left and self._reap():
            self._turn(_LOOK)
        self._kill()
        self._drain()

    def _note_step(self) -> None:
        """Say which step runs, for the agent to show and for `kill_rest`."""
        program = processes.look(self._program)
        ticks = 0 if program is None else program.ticks
        note = {"name": self._step["name"], "pid": self._program, "ticks": ticks}
        with contextlib.suppress(OSError):  # a hint is not worth a job
            write_durably(f"{self._folder}/{layout.STEP}", json.dumps(note).encode())

    def _turn(self, most: float | None = None) -> None:
        """Wait until something happens, for so many seconds at most, and do what it asks for."""
        limits = (self._limit_at, self._step_limit_at, self._kill_at)
        now = time.monotonic()
        waits = [limit - now for limit in limits if limit is not None]
        waits += [] if most is None else [most]
        timeout = int(max(min(waits), 0) * 1000) + 1 if waits else None
        for descriptor, _ in self._poll.poll(timeout):
            if descriptor == self._output:
                self._pump()
            else:
                os.read(self._wake, _PIECE)
        self._reap()
        self._heed()

    # What the job writes.

    def _pump(self) -> bool:
        """Move some of what the job wrote into the log; whether there may be more."""
        for _ in range(_PIECES):
            try:
                self._log.write(os.read(self._output, _PIECE))
            except BlockingIOError:
                return False
        return True

    def _drain(self) -> None:
        """Read what is left in the pipe; the job is dead, but something may hold the pipe."""
        deadline = time.monotonic() + _DRAIN
        while self._pump() and time.monotonic() < deadline:
            pass

    # Processes, and their end.

    def _reap(self) -> bool:
        """Take notice of every process that has ended; whether others are left."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            self._peak = max(self._peak, usage.ru_maxrss * 1024)
            if pid == self._program:
                self._status = status

    def _living(self) -> Iterator[processes.Process]:
        """What still runs of everything that the job started."""
        self._reap()
        return processes.descendants(os.getpid())

    def _kill(self) -> None:
        """End what still runs. It is over when there are no children: orphans become such."""
        if not self._left:
            self._left = processes.end_all(self._living, lambda: not self._reap())

    def _heed(self) -> None:
        """Do what a wish or a limit asks for now."""
        now = time.monotonic()
        if self._wished:
            self._wished = False
            wish = json.loads(read_if_there(f"{self._folder}/{layout.STOP}") or b"{}")
            self._end(Cause(wish.get("cause", Cause.HANDED_BACK)))
            if wish.get("at_once"):
                self._kill_at = now
        if self._limit_at is not None and now >= self._limit_at:
            self._limit_at = None
            self._end(Cause.TIME_LIMIT)
        if self._step_limit_at is not None and now >= self._step_limit_at:
            self._step_limit_at = None
            step, limit = self._step["name"], self._step["time_limit"]
            cause = Cause(self._step["failure"] or Cause.TIME_LIMIT)
            self._end(cause, f"The step {step} took longer than {limit:g} s.")
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_at = None
            self._kill()

    def _end(self, cause: Cause, message: str | None = None) -> None:
        """Ask the job to end. What has ended by itself already keeps its outcome."""
        living = list(self._living())
        over = self._status is not None and (self._status or self._step is self._plan["steps"][-1])
        if self._cause is not None or over:
            return
        self._cause, self._message = cause, message
        self._kill_at = time.monotonic() + self._plan["grace"]
        for number in (signal.SIGTERM, signal.SIGCONT):
            for process in living:
                processes.send(process, number)

    # The record.

    def _record(self, duration: float) -> None:
        failed = bool(self._status) and self._cause is None
        lines = self._log.last_lines() if failed else None
        if self._cause is None:
            self._cause = self._own_cause(lines)
        if self._left:
            pids = ", ".join(str(process.pid) for process in self._left)
            self._message = f"SIGKILL did not end the processes {pids}."
        record = {
            "cause": self._cause,
            **self._own_end(),
            "message": self._message,
            "peak_memory": self._peak or None,
            "duration": duration,
            "traceback": lines,
            "log_bytes": self._log.size,
        }
        self._exit.write(json.dumps(record, ensure_ascii=False).encode())

    def _own_cause(self, lines: str | None) -> Cause:
        """The cause of an end that nobody asked for."""
        if not self._status:
            return Cause.EXITED
        if _NO_ROOM in (lines or "") or _free(self._step["cwd"]) < _LITTLE:
            self._message = "The disk of the worker was full."
            return Cause.DISK_FULL
        failure = self._step["failure"]
        if failure is None:
            return Cause.EXITED
        self._message = f"The step {self._step['name']} failed; the log says why."
        return Cause(failure)

    def _own_end(self) -> dict[str, int]:
        """Exit code or signal of the job itself; nothing for a step that only prepares it."""
        if self._status is None or self._step["failure"] is not None:
            return {}
        if os.WIFSIGNALED(self._status):
            return {"signal": os.WTERMSIG(self._status)}
        return {"exit_code": os.WEXITSTATUS(self._status)}


def _free(path: str) -> int:
    """Bytes that are free on the disk of a folder."""
    try:
        disk = os.statvfs(path)
    except OSError:
        return _LITTLE
    return disk.f_bavail * disk.f_frsize


def main(folder: str) -> None:
    """Run the attempt whose plan lies in the folder; what is heard on `READY` is said first."""
    _close_inherited()
    lock = os.open(f"{folder}/{layout.LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _say("started")
        return
    if os.path.exists(f"{folder}/{layout.SHIM}"):
        _say("started")
        return
    become_subreaper()
    os.chdir(folder)
    plan = json.loads(read_if_there(f"{folder}/{layout.PLAN}") or b"")
    shim = Shim(folder, plan)
    write_durably(f"{folder}/{layout.SHIM}", json.dumps(_who()).encode())
    _say("ok")
    try:
        shim.run()
    except Exception as error:  # the last line of defence: a job is never left without its shim
        shim.give_up(error)
        raise


def _close_inherited() -> None:
    """Let go of what the agent's own ancestors left open: a job would inherit it in turn."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > READY:
            with contextlib.suppress(OSError):  # the descriptor of the listing itself
                os.close(int(name))


def _who() -> dict[str, Any]:
    """What tells this process from every other, and the mark of all it starts."""
    pid = os.getpid()
    me = processes.look(pid)
    return {
        "pid": pid,
        "ticks": me.ticks if me else 0,
        "boot_id": processes.boot_id(),
        "mark": os.environ[layout.MARK],
    }


def _say(word: str) -> None:
    os.write(READY, word.encode())
    os.close(READY)
