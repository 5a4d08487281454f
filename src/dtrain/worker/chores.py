"""What an agent does now and then beside its work, on a thread that lives only meanwhile."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)


class Chore:
    """Something to do now and then. `ask` may be called from any thread.

    Args:
        name: of its threads.
        work: does it once; it may take long.
        period: seconds from one start to the next, at the latest.
        pause: seconds from the agent's start, or from being asked, to the next start.
    """

    def __init__(self, name: str, work: Callable[[], None], period: float, pause: float) -> None:
        self._name = name
        self._work = work
        self._period = period
        self._pause = pause
        self._due_at = time.monotonic() + pause
        self._thread: threading.Thread | None = None

    def ask(self) -> bool:
        """Have it done soon; whether that is sooner than it was due."""
        due_at = time.monotonic() + self._pause
        is_sooner = due_at < self._due_at
        if is_sooner:
            self._due_at = due_at
        return is_sooner

    def due_in(self) -> float:
        """Seconds until `turn` is to be called."""
        return max(self._due_at - time.monotonic(), 0)

    def turn(self) -> None:
        """Begin it, if it is due; if it is still being done, it is due again after the pause."""
        if self.due_in():
            return
        if self._thread is not None and self._thread.is_alive():
            self._due_at = time.monotonic() + max(self._pause, 1.0)
            return
        self._due_at = time.monotonic() + self._period
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._work()
        except Exception:  # a job is worth more than any chore
            log.exception("The chore %s is left undone.", self._name)
