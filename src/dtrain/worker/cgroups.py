"""Control groups of both versions: what all processes of an attempt may use, and ending them all.

A group is a folder in each hierarchy that limits something, told by the controller:

    {"memory": "/sys/fs/cgroup/memory/…/dtrain-<key>/7-1", "cpu": …, "pids": …}

With version 2 these are the same folder. The worker has a group whose limits hold over all of its
attempts together, and each attempt a group in that. Imported by the shim, hence the standard
library's quick part alone.
"""
# pathlib would be in every shim.
# ruff: noqa: PTH102, PTH106, PTH110

from __future__ import annotations

import contextlib
import os
import time

from . import processes
from .layout import read_if_there

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

Group = dict[str, str]
"""The folder for each controller."""

CONTROLLERS = ("memory", "cpu", "pids")
COUNTERS = ("memory", "cpuacct", "cpu")
"""What counts how much of something a group has used; version 2 counts processors with `cpu`."""
CONTAINERS = "containers"
"""The group in a worker's that has those of its containers."""
_MEMBERS = "cgroup.procs"
_THREADS = "tasks"
"""In version 1 alone. It takes one thread, where `cgroup.procs` takes all of a process, and has the
kernel wait for all processors before that: some 10 ms, if nobody did so just before."""
_KILL = "cgroup.kill"
_PERIOD = 100_000
"""Microseconds over which a share of the processors is counted."""
_SMALLEST_QUOTA = 1000
_EMPTY = 2.0
"""Seconds in which the kernel forgets the last process of a group."""


def enter(group: Group) -> None:
    """Put this process, which has one thread, and all that it will start, into a group.

    Raises:
        OSError: the group is gone, or not ours.
    """
    for folder in _folders(group):
        _write(folder, _THREADS if _takes_threads(folder) else _MEMBERS, "0")


def has_to_wait(group: Group) -> bool:
    """Whether the kernel may wait for all processors when a process enters a group."""
    return not all(map(_takes_threads, _folders(group)))


def _takes_threads(folder: str) -> bool:
    return os.path.exists(f"{folder}/{_THREADS}")


def members(group: Group) -> Iterator[processes.Process]:
    """What runs in a group and in all below it."""
    for folder in _folders(group):
        for path, _, _ in os.walk(folder):
            for word in _read(path, _MEMBERS).split():
                process = processes.look(int(word))
                if process is not None and not process.dead:
                    yield process


def is_empty(group: Group) -> bool:
    """Whether nothing runs in a group."""
    return not any(members(group))


def kill(group: Group, patience: float = processes.PATIENCE) -> list[processes.Process]:
    """Kill all that runs in a group; what is left of it after so many seconds."""
    for folder in _folders(group):
        with contextlib.suppress(OSError):
            _write(folder, _KILL, "1")
    return processes.end_all(lambda: members(group), lambda: is_empty(group), patience)


def remove(group: Group) -> None:
    """Remove a group in which nothing runs any more, with all below it. Harmless if it is gone.

    Raises:
        OSError: something still runs in it.
    """
    deadline = time.monotonic() + _EMPTY
    for folder in _folders(group):
        for path, _, _ in os.walk(folder, topdown=False):
            while True:
                try:
                    os.rmdir(path)
                except FileNotFoundError:
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.01)
                else:
                    break


def make(
    group: Group,
    memory: int | None = None,
    cpus: float | None = None,
    pids: int | None = None,
    *,
    as_one: bool = False,
) -> None:
    """Make a group with its limits, or give one that is there others.

    Args:
        group: its folders; the ones that they are in must be there.
        memory: bytes, swap included.
        cpus: processor cores.
        pids: processes and threads.
        as_one: whether all of it is killed when one of its processes is killed for want of memory,
            be it the group's own or that of a group around it. Version 1 cannot do that.

    Raises:
        OSError: the kernel does not let us.
    """
    for folder in _folders(group):
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder)
    if "memory" in group:
        _limit_memory(group["memory"], memory)
        if as_one and _is_second(group["memory"]):
            with contextlib.suppress(OSError):
                _write(group["memory"], "memory.oom.group", "1")
    if "cpu" in group:
        _limit_cpu(group["cpu"], cpus)
    if "pids" in group:
        _write(group["pids"], "pids.max", "max" if pids is None else str(pids))


def inside(group: Group, name: str) -> Group:
    """The group of a name in another one."""
    return {controller: f"{folder}/{name}" for controller, folder in group.items()}


def kills(group: Group) -> int:
    """How many processes of a group were killed for want of memory."""
    folder = group.get("memory")
    if folder is None:
        return 0
    name = "memory.events" if _is_second(folder) else "memory.oom_control"
    return _numbers(folder, name).get("oom_kill", 0)


def used(group: Group) -> int | None:
    """Bytes that a group uses now and the kernel cannot take back; None if it does not say.

    Files that were read are kept in memory as long as there is room; they do not count.
    """
    folder = group.get("memory")
    if folder is None:
        return None
    numbers = _numbers(folder, "memory.stat")
    anonymous = numbers.get("anon") if _is_second(folder) else numbers.get("total_rss")
    shared = numbers.get("shmem" if _is_second(folder) else "total_shmem", 0)
    return None if anonymous is None else anonymous + shared


def cpu_time(group: Group) -> float | None:
    """Seconds of processors that a group has used; None if the kernel does not say."""
    folder = group.get("cpuacct") or group.get("cpu")
    if folder is None:
        return None
    if _is_second(folder):
        used = _numbers(folder, "cpu.stat").get("usage_usec")
        return None if used is None else used / 1e6
    word = _read(folder, "cpuacct.usage").strip()
    return int(word) / 1e9 if word.isdigit() else None


def peak(group: Group) -> int | None:
    """The most bytes that a group has used, files that were read included."""
    folder = group.get("memory")
    if folder is None:
        return None
    word = _read(folder, "memory.peak" if _is_second(folder) else "memory.max_usage_in_bytes")
    return int(word) if word.strip().isdigit() else None


def _limit_memory(folder: str, limit: int | None) -> None:
    if _is_second(folder):
        _write(folder, "memory.max", "max" if limit is None else str(limit))
        with contextlib.suppress(OSError):  # not every kernel has a swap to limit
            _write(folder, "memory.swap.max", "max" if limit is None else "0")
        return
    swap, word = "memory.memsw.limit_in_bytes", "-1" if limit is None else str(limit)
    has_swap = os.path.exists(f"{folder}/{swap}")
    if has_swap:  # the sum can never be below the part: it goes first where it rises
        with contextlib.suppress(OSError):
            _write(folder, swap, word)
    _write(folder, "memory.limit_in_bytes", word)
    if has_swap:
        _write(folder, swap, word)


def _limit_cpu(folder: str, cpus: float | None) -> None:
    quota = None if cpus is None else max(int(cpus * _PERIOD), _SMALLEST_QUOTA)
    if _is_second(folder):
        _write(folder, "cpu.max", f"{'max' if quota is None else quota} {_PERIOD}")
    else:
        _write(folder, "cpu.cfs_period_us", str(_PERIOD))
        _write(folder, "cpu.cfs_quota_us", str(-1 if quota is None else quota))


def _is_second(folder: str) -> bool:
    """Whether a folder is of version 2."""
    return os.path.exists(f"{folder}/cgroup.controllers")


def _folders(group: Group) -> list[str]:
    return list(dict.fromkeys(group.values()))


def _numbers(folder: str, name: str) -> dict[str, int]:
    """The numbers of a file that has a name and a number a line."""
    lines = [line.split() for line in _read(folder, name).splitlines()]
    return {words[0]: int(words[1]) for words in lines if len(words) == 2}


def _read(folder: str, name: str) -> str:
    """The content of a file; nothing if it is not there any more."""
    try:
        return (read_if_there(f"{folder}/{name}") or b"").decode()
    except OSError:
        return ""


def _write(folder: str, name: str, word: str) -> None:
    descriptor = os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, word.encode())
    finally:
        os.close(descriptor)
