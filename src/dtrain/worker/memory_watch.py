"""What an attempt uses of the memory, looked at again and again by its shim.

Where a group holds the limit, the kernel kills; this tells that it did, and how much was used.
Where none does, what the processes use together is compared with the limit here, so a job that is
fast enough gets past it for a moment. Imported by the shim, hence the standard library's quick
part alone.
"""
# pathlib would be in every shim.
# ruff: noqa: PTH123

from __future__ import annotations

import os
import time

from . import cgroups
from .layout import read_if_there

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from .processes import Process

_FIRST = 0.05
"""Seconds to the first look; each next pause is twice as long."""
_LONGEST = 1.0
_PAGE = os.sysconf("SC_PAGE_SIZE")


class MemoryWatch:
    """The memory of one attempt.

    Args:
        limits: of the plan.
        living: finds the processes of the attempt.
    """

    def __init__(self, limits: dict[str, Any], living: Callable[[], Iterable[Process]]) -> None:
        self._group: cgroups.Group = limits["group"]
        self._living = living
        self.limit: int | None = limits["memory"]
        """Bytes that the attempt may use; None if all that there are."""
        self.peak = 0
        """The most bytes that were seen to be used."""
        self.is_over = False
        """Whether the attempt was seen to want more than it may use."""
        self._pause = _FIRST
        self.due = time.monotonic() + self._pause
        """When the next look is to be taken, by the monotonic clock."""

    @property
    def exceeded(self) -> bool:
        """Whether the attempt has wanted more than it may use, looked at now."""
        if not self.is_over and cgroups.kills(self._group):
            self.is_over = True
            self.peak = max(self.peak, cgroups.peak(self._group) or 0)
        return self.is_over

    def look(self) -> None:
        """Look, if it is time."""
        now = time.monotonic()
        if now < self.due:
            return
        used = cgroups.used(self._group)
        if used is None:
            used = self._sum()
            self.is_over = self.is_over or (self.limit is not None and used > self.limit)
        self.peak = max(self.peak, used)
        self.is_over = self.exceeded
        self._pause = min(self._pause * 2, _LONGEST)
        self.due = now + self._pause

    def _sum(self) -> int:
        """Bytes of all processes together; what they share counts once where it matters."""
        living = list(self._living())
        used = resident(living)
        if self.limit is not None and used > self.limit:
            used = shared_out(living)
        return used


def resident(living: Iterable[Process]) -> int:
    """Bytes of processes that are no file's; what they share counts for each."""
    return sum(map(_resident, living))


def shared_out(living: Iterable[Process]) -> int:
    """Bytes of processes that are no file's; what they share is divided among all who share it.

    It takes the kernel a while to count: some 10 milliseconds a gigabyte.
    """
    return sum(map(_share, living))


def _resident(process: Process) -> int:
    """Bytes of a process that are no file's."""
    try:
        _, resident, of_files, *_ = (read_if_there(f"/proc/{process.pid}/statm") or b"").split()
    except (OSError, ValueError):  # it has ended
        return 0
    return (int(resident) - int(of_files)) * _PAGE


def _share(process: Process) -> int:
    """Bytes of a process that are no file's, divided by those who share them."""
    try:
        with open(f"/proc/{process.pid}/smaps_rollup") as file:
            lines = file.read().splitlines()
    except OSError:
        return _resident(process)
    fields = {words[0]: int(words[1]) * 1024 for words in map(str.split, lines[1:])}
    return fields.get("Pss_Anon:", 0) + fields.get("Pss_Shmem:", 0)
