"""Processes, as `/proc` shows them: who they are, who descends from whom, and ending them all.

A process is told by its number *and* its start, since numbers are used again. Imported by the
shim, hence the standard library's quick part alone.
"""
# pathlib would be in every shim.
# ruff: noqa: PTH110, PTH123, PTH208

from __future__ import annotations

import contextlib
import errno
import functools
import os
import select
import signal
import time
from collections.abc import Callable, Iterable, Iterator

from .layout import read_if_there

PATIENCE = 60.0
"""Seconds after which a process that SIGKILL does not end is given up: it hangs in the kernel."""

_LISTS_CHILDREN = os.path.exists("/proc/thread-self/children")
"""Whether the kernel says who a process's children are; else all processes are looked through."""


class Process:
    """A process at the moment it was looked at."""

    __slots__ = ("dead", "parent", "pid", "session", "ticks")

    def __init__(self, pid: int, ticks: int, parent: int = 0, session: int = 0) -> None:
        self.pid = pid
        self.ticks = ticks
        """When it started, in the kernel's ticks since the boot."""
        self.parent = parent
        self.session = session
        self.dead = False
        """It has ended and waits for its parent to take notice."""

    @property
    def key(self) -> tuple[int, int]:
        """What no other process of this boot has."""
        return self.pid, self.ticks


@functools.cache
def boot_id() -> str:
    """What tells this boot of the machine from every other."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def look(pid: int) -> Process | None:
    """The process with a number, if there is one now."""
    fields = _stat(pid)
    if fields is None:
        return None
    process = Process(pid, int(fields[19]), parent=int(fields[1]), session=int(fields[3]))
    # A main thread may end before the others: then its process shows as a zombie, but lives.
    process.dead = fields[0] in b"ZX" and int(fields[17]) <= 1
    return process


def is_alive(process: Process) -> bool:
    """Whether this very process still runs."""
    now = look(process.pid)
    return now is not None and now.ticks == process.ticks and not now.dead


def scan() -> Iterator[Process]:
    """All processes that run now, each as it is come upon."""
    for name in os.listdir("/proc"):
        process = look(int(name)) if name.isdigit() else None
        if process is not None and not process.dead:
            yield process


def descendants(of: int) -> Iterator[Process]:
    """All that run and were started by a process, by those it started, and so on.

    A parent comes before its children are looked up: what was stopped then has no further ones.
    """
    waiting = [of]
    while waiting:
        for pid in children(waiting.pop()):
            process = look(pid)
            if process is not None and not process.dead:
                yield process
                waiting.append(pid)


def cpu_time(of: int) -> float:
    """Seconds of processors that all that was started by a process has used, ended or not.

    It takes notice of all that end, as a subreaper does.
    """
    ticks = sum(_ticks(of)[2:])
    ticks += sum(sum(_ticks(process.pid)) for process in descendants(of))
    return ticks / os.sysconf("SC_CLK_TCK")


def _ticks(of: int) -> list[int]:
    """What a process has used of processors, itself and in the kernel.

    Then the same of all those whose end it, or they, have taken notice of.
    """
    fields = _stat(of) or []
    return [int(field) for field in fields[11:15]]


def _stat(pid: int) -> list[bytes] | None:
    """What the kernel says of a process, from its state on; None if there is none now."""
    try:
        content = read_if_there(f"/proc/{pid}/stat")
    except ProcessLookupError:
        return None
    return None if content is None else content[content.rindex(b")") + 2 :].split()


def marked(mark: bytes, leader: Process | None) -> Iterator[Process]:
    """All that run and have `mark` among their environment variables, with their descendants.

    A process that has no such variable any more is told by its session, if `leader` began that:
    the session's number means what it meant unless another process has it by now.
    """
    there = look(leader.pid) if leader is not None else None
    reused = there is not None and leader is not None and there.ticks != leader.ticks
    session = None if leader is None or reused else leader.pid
    for process in scan():
        if process.session == session or mark in _environment(process.pid):
            yield process
            yield from descendants(process.pid)


def children(of: int) -> list[int]:
    """The numbers of a process's children; each of its threads has its own."""
    if not _LISTS_CHILDREN:
        return [process.pid for process in scan() if process.parent == of]
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
        for thread in os.listdir(f"/proc/{of}/task"):
            listed = read_if_there(f"/proc/{of}/task/{thread}/children") or b""
            found += map(int, listed.split())
    return found


def _environment(pid: int) -> bytes:
    try:
        return read_if_there(f"/proc/{pid}/environ") or b""
    except OSError:  # it has ended, or is another user's
        return b""


def send(process: Process, number: int) -> None:
    """Send a signal to this very process, if it still runs; never to a later one of its number."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = _open(process.pid)
        try:
            there = look(process.pid)
            if there is None or there.ticks != process.ticks:
                return
            if descriptor is None:
                os.kill(process.pid, number)
            else:
                signal.pidfd_send_signal(descriptor, number)
        finally:
            if descriptor is not None:
                os.close(descriptor)


def _open(pid: int) -> int | None:
    """A descriptor that stands for the process; None where the kernel has no such thing."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except OSError as error:
        if error.errno in {errno.ENOSYS, errno.EPERM, errno.EINVAL}:
            return None
        raise


def wait_for_end(process: Process, timeout: float) -> bool:
    """Wait for a process, its parent or not, for so many seconds at most; whether it has ended."""
    deadline = time.monotonic() + timeout
    try:
        descriptor = _open(process.pid)
    except ProcessLookupError:
        return True
    if descriptor is None:
        while is_alive(process):
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)
        return True
    try:
        if not is_alive(process):
            return True
        watch = select.poll()
        watch.register(descriptor, select.POLLIN)
        return bool(watch.poll(max(timeout, 0) * 1000))
    finally:
        os.close(descriptor)


def end_all(
    find: Callable[[], Iterable[Process]], is_over: Callable[[], bool], patience: float = PATIENCE
) -> list[Process]:
    """Kill what `find` finds until `is_over`; what is left after `patience` seconds.

    All are stopped before one is killed. So none can start another meanwhile, and a place that a
    killed one leaves under a limit is not taken by a new one.
    """
    deadline = time.monotonic() + patience
    pause = 0.001
    while not is_over():
        for process in _stop_all(find, deadline):
            send(process, signal.SIGKILL)
        if time.monotonic() > deadline:
            return [] if is_over() else list(find())
        time.sleep(pause)
        pause = min(pause * 2, 0.1)
    return []


def _stop_all(find: Callable[[], Iterable[Process]], deadline: float) -> Iterable[Process]:
    """Stop processes, each as soon as it is found, until no new ones are; all of them."""
    stopped: dict[tuple[int, int], Process] = {}
    known = -1
    while known != len(stopped) and time.monotonic() < deadline:
        known = len(stopped)
        for process in find():
            if process.key not in stopped:
                stopped[process.key] = process
                send(process, signal.SIGSTOP)
    return stopped.values()
