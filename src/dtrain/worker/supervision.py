"""When the server has last answered this worker, for jobs that must not run unsupervised.

The agent notes it and the shim heeds it, so that it holds as well while there is no agent. Imported
by the shim, hence the standard library's quick part alone.
"""

from __future__ import annotations

import contextlib
import os
import time

from . import layout

UNSUPERVISED = 200.0
"""Seconds without an answer after which such a job is ended: with the slowest of failures and the
grace on top it is less than the 300 s after which a server gives an attempt up."""
_LOOK = 5.0
"""Seconds between two looks, at most: a machine that has slept is noticed soon."""
_DIGITS = 20


def note_answer(folder: str) -> None:
    """Note in an attempt's folder that the server has answered now.

    In place, so that it needs no room on a full disk. That it cannot be noted ends the job at last.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    with contextlib.suppress(OSError):
        file = os.open(f"{folder}/{layout.ANSWERED}", flags, 0o600)
        try:
            os.pwrite(file, f"{since_boot():0{_DIGITS}.3f}".encode(), 0)
        finally:
            os.close(file)


class Supervision:
    """Whether an attempt may still run.

    Args:
        folder: of the attempt.
        longest: seconds that it may run without an answer; None for ever.
    """

    def __init__(self, folder: str, longest: float | None) -> None:
        self._note = f"{folder}/{layout.ANSWERED}"
        self._longest = longest
        self._began = since_boot()
        self.due = None if longest is None else time.monotonic()
        """When to look next, by the monotonic clock; None for never."""

    def has_ended(self) -> bool:
        """Whether the server has been silent for too long. Told once."""
        if self.due is None or self._longest is None or time.monotonic() < self.due:
            return False
        left = self._answered() + self._longest - since_boot()
        self.due = time.monotonic() + min(left, _LOOK) if left > 0 else None
        return left <= 0

    def _answered(self) -> float:
        with contextlib.suppress(OSError, ValueError):
            return float((layout.read_if_there(self._note) or b"").decode())
        return self._began


def since_boot() -> float:
    """Seconds since the machine's start, those included in which it slept."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
