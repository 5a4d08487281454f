"""The process that stands by one attempt from its first step to its end, whatever the agent does.

It runs the steps of the plan one after the other, moves what they write from one pipe into the
log, enforces the time limit, heeds the wish to stop, ends everything that the job started, and
writes `exit.json` last. `launcher` starts it and watches it from outside:

- SIGTERM says that `stop.json` holds a wish; without that file the attempt is handed back, which
  is what a machine that shuts down means.
- It is the subreaper of everything the job starts: orphans become its children, so that nothing
  gets out of its sight. If the shim is killed, the kernel kills the program of its step.

It is forked from a process that has this module already (`fork_server`, `shim_main`), and imports
the standard library's quick part alone: what is in it is in the memory of every job's shim.
"""
# pathlib would be in every shim.
# ruff: noqa: PTH108, PTH110

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time

from dtrain.protocol.states import Cause

from . import cgroups, layout, processes
from .exit_file import ExitFile
from .job_log import JobLog
from .layout import free_room, read_if_there, sync_tree, write_whole
from .memory_watch import MemoryWatch
from .outcome import Outcome, read_outcome
from .spawn import Program, spawn
from .supervision import Supervision

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_PIECE = 64 * 1024
"""Bytes that are read from the pipe at once."""
_PIECES = 16
"""Pieces after which signals and limits are looked at again."""
_LOOK = 0.1
"""Seconds between two looks at what is left of a job that was asked to end."""
_DRAIN = 1.0
"""Seconds for what is left in the pipe after everything that the job started has ended."""
_DYING = 1.0
"""Seconds for all of a namespace to end whose init was killed."""
_LAST_WORDS = 15.0
"""Seconds for a program that stands in for something to kill that, and to say how it ended."""
_LITTLE = 1024**2
"""Bytes; a disk with less room than this is full."""
_NO_ROOM = "no space left on device"
_TERMINATED = {signal.SIGTERM, (128 + signal.SIGTERM) << 8}
"""What `wait` says of a program that SIGTERM has ended, and of a shell whose last one it did."""


class Shim:
    """One attempt, while it runs."""

    def __init__(self, folder: str, plan: dict[str, Any]) -> None:
        self._folder = folder
        self._plan = plan
        self._step: dict[str, Any] = {}
        """The step that is run, or was the last."""
        self._program = Program(0, None)
        """What runs of that step."""
        self._status: int | None = None
        """How that process ended, as `wait` says it; None as long as it runs."""
        self._cause: Cause | None = None
        """Why the attempt is being ended; None as long as it may go on."""
        self._message: str | None = None
        self._peak = 0
        """Bytes of the largest process of the step."""
        self._limit_at: float | None = None
        self._step_limit_at: float | None = None
        self._kill_at: float | None = None
        self._is_asked_to_kill = False
        """Whether the program was asked to kill what it stands in for."""
        self._wished = os.path.exists(f"{folder}/{layout.STOP}")
        self._group: cgroups.Group = plan["limits"]["group"]
        self._memory = MemoryWatch(plan["limits"], self._living)
        self._supervision = Supervision(folder, plan["unsupervised"])
        self._decided: bytes | None = None
        """The record of the end, once it is composed."""
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
            if self._cause is None and not self._status:
                self._step = step
                self._run_step()
        self._log.end()
        self._heed()  # what ended the job may have been meant for all of the machine
        self._decide(duration=time.monotonic() - started)
        self._write()

    def give_up(self, error: Exception) -> None:
        """End everything after a failure of the shim itself, and record that.

        An end that was decided before stays as it is.
        """
        self._kill()
        if self._decided is None:
            self._cause = Cause.START_FAILED
            self._message = f"The shim failed: {error!r}."
            self._decide(duration=0.0)
        self._write()

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
        try:
            self._program = self._spawned()
        except OSError as error:
            program, about = self._step["argv"][0], error.filename
            where = f" ({about})" if about and about != program else ""
            self._cause = Cause.START_FAILED
            self._message = f"{program} cannot be run: {error.strerror}{where}."
            return
        if self._program.told is not None:
            self._poll.register(self._program.told, select.POLLIN)
        self._note_step()
        limit = self._step["time_limit"]
        self._step_limit_at = None if limit is None else time.monotonic() + limit
        while self._status is None:
            self._turn()
        while self._cause is not None and self._reap():
            self._turn(_LOOK)
        self._kill()
        self._drain()

    def _spawned(self) -> Program:
        """The program of the step, started."""
        self._status, self._peak = None, 0
        step = self._step
        env = {**step["env"], layout.MARK: os.environ[layout.MARK]}
        confinement = self._plan["confinement"] if step["confined"] else None
        outputs = (self._input, self._input)
        return spawn(step["argv"], env, step["cwd"], outputs, self._plan["limits"], confinement)

    def _note_step(self) -> None:
        """Say which step runs, for the agent to show and for `kill_rest`."""
        child = self._program.pid
        below = processes.children(child) if self._program.has_init else []
        pid = below[0] if below else child
        program = processes.look(pid)
        ticks = 0 if program is None else program.ticks
        note = {"name": self._step["name"], "pid": pid, "ticks": ticks}
        with contextlib.suppress(OSError):  # a hint is not worth a job
            write_whole(f"{self._folder}/{layout.STEP}", json.dumps(note).encode())

    def _turn(self, most: float | None = None) -> None:
        """Wait until something happens, for so many seconds at most, and do what it asks for."""
        limits = [self._limit_at, self._step_limit_at, self._kill_at]
        limits += [self._memory.due, self._supervision.due]
        now = time.monotonic()
        waits = [limit - now for limit in limits if limit is not None]
        waits += [] if most is None else [most]
        for descriptor, _ in self._poll.poll(int(max(min(waits), 0) * 1000) + 1):
            if descriptor == self._output:
                self._pump()
            elif descriptor == self._wake:
                os.read(self._wake, _PIECE)
        self._memory.look()
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
        self._hear()
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            self._peak = max(self._peak, usage.ru_maxrss * 1024)
            if pid == self._program.pid:
                self._hear()
                self._status = status if self._status is None else self._status

    def _hear(self) -> None:
        """Take notice of what the init tells, if there is one."""
        told = self._program.told
        if told is not None and self._status is None:
            self._status = self._program.status()
            if self._program.told is None:
                self._poll.unregister(told)

    def _living(self) -> Iterator[processes.Process]:
        """What still runs of everything that the job started."""
        self._reap()
        return processes.descendants(os.getpid())

    def _kill(self) -> None:
        """End what still runs. It is over when there are no children: orphans become such.

        What not even SIGKILL ends hangs in the kernel. It is told of, and waited for: an attempt
        of which something runs has not ended.
        """
        if self._program.has_init and self._reap():
            self._kill_init()
        while left := processes.end_all(
            self._living, lambda: not self._reap(), self._plan["patience"]
        ):
            note_stuck(self._folder, left)
        note_stuck(self._folder, [])

    def _kill_init(self) -> None:
        """End the init and so all of its namespace, at one stroke, and wait for that for a moment.

        Nothing in there needs to be stopped before: from then on nothing new can begin in it.
        """
        init = processes.look(self._program.pid)
        if init is not None and init.parent == os.getpid():
            processes.send(init, signal.SIGKILL)
            processes.wait_for_end(init, _DYING)

    def _heed(self) -> None:
        """Do what a wish or a limit asks for now."""
        now = time.monotonic()
        if self._wished:
            self._wished = False
            wish = json.loads(read_if_there(f"{self._folder}/{layout.STOP}") or b"{}")
            self._end(Cause(wish.get("cause", Cause.HANDED_BACK)))
            if wish.get("at_once"):
                self._kill_at = now
        if self._supervision.has_ended():
            self._end(Cause.HANDED_BACK)
        if self._limit_at is not None and now >= self._limit_at:
            self._limit_at = None
            self._end(Cause.TIME_LIMIT)
        if self._step_limit_at is not None and now >= self._step_limit_at:
            self._step_limit_at = None
            step, limit = self._step["name"], self._step["time_limit"]
            cause = Cause(self._step["failure"] or Cause.TIME_LIMIT)
            self._end(cause, f"The step {step} took longer than {limit:g} s.")
        if self._status is None and self._cause is None and self._memory.is_over:
            self._cause, self._kill_at = Cause.OUT_OF_MEMORY, now
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_at = None
            if self._step.get("stands_in") and not self._is_asked_to_kill:
                self._ask_to_kill(now)
            else:
                self._kill()

    def _ask_to_kill(self, now: float) -> None:
        """Have the program kill what it stands in for."""
        self._is_asked_to_kill = True
        self._kill_at = now + _LAST_WORDS
        if self._status is None:
            os.kill(self._program.pid, signal.SIGQUIT)

    def _end(self, cause: Cause, message: str | None = None) -> None:
        """Ask the job to end. What has ended by itself already keeps its outcome."""
        living = list(self._living())
        over = self._status is not None and (self._status or self._step is self._plan["steps"][-1])
        if cause is Cause.HANDED_BACK and self._status in _TERMINATED:
            over = False  # with everything else that ran on the machine, or in the scope
        if self._cause is not None or over:
            return
        self._cause, self._message = cause, message
        self._kill_at = time.monotonic() + self._plan["grace"]
        for number in (signal.SIGTERM, signal.SIGCONT):
            for process in living:
                processes.send(process, number)

    # The record.

    def _decide(self, duration: float) -> None:
        """Compose the record of the end."""
        failed = bool(self._status) and self._cause is None
        lines = self._log.last_lines() if failed else None
        stands_in = self._step.get("stands_in") and self._status is not None
        outcome = read_outcome(self._folder) if stands_in else Outcome({})
        if outcome.cause:
            self._cause, self._message = Cause(outcome.cause), outcome.message
        if self._cause is None:
            self._cause = self._own_cause(lines)
        record = {
            "cause": self._cause,
            **(outcome.end or self._own_end()),
            "message": self._message,
            "peak_memory": outcome.peak_memory or self._most(),
            "memory_limit": outcome.memory_limit or self._memory.limit,
            "duration": duration,
            "traceback": lines,
            "log_bytes": self._log.size,
        }
        self._decided = json.dumps(record, ensure_ascii=False).encode()

    def _write(self) -> None:
        """Write the record, behind everything that it counts on."""
        # An end must not outlive what came of it; a checkpoint counts where an attempt may follow.
        sync_tree(f"{self._folder}/{layout.OUTPUT}")
        completed = self._cause is Cause.EXITED and not self._status
        if not completed and self._cause is not Cause.CANCELLED:
            sync_tree(f"{self._folder}/{layout.CHECKPOINTS}")
        self._exit.write(self._decided or b"")

    def _own_cause(self, lines: str | None) -> Cause:
        """The cause of an end that nobody asked for."""
        if not self._status:
            return Cause.EXITED
        if self._memory.exceeded:
            return Cause.OUT_OF_MEMORY
        if _NO_ROOM in (lines or "").lower() or free_room(self._step["cwd"]) < _LITTLE:
            self._message = "The disk of the worker was full."
            return Cause.DISK_FULL
        return Cause(self._step["failure"] or Cause.EXITED)

    def _most(self) -> int | None:
        """The most bytes that the job has used."""
        if self._memory.exceeded:
            return self._memory.peak  # the limit's own count; what files bring along is not in it
        return max(self._peak, self._memory.peak) or None

    def _own_end(self) -> dict[str, int]:
        """Exit code or signal of the job itself; nothing for a step that only prepares it."""
        if self._status is None or self._step["failure"] is not None:
            return {}
        if os.WIFSIGNALED(self._status):
            return {"signal": os.WTERMSIG(self._status)}
        return {"exit_code": os.WEXITSTATUS(self._status)}


def note_stuck(folder: str, left: list[processes.Process]) -> None:
    """Say in an attempt's folder what not even SIGKILL has ended; or that nothing is left."""
    note = f"{folder}/{layout.STUCK}"
    pids = ", ".join(str(process.pid) for process in left)
    with contextlib.suppress(OSError):
        if left:
            write_whole(note, f"SIGKILL did not end the processes {pids}.".encode())
        else:
            os.unlink(note)
