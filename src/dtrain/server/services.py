"""What every use case is handed: one frozen bundle of the server's parts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the parts are handed `Services` in turn
    from .blobs import BlobStore
    from .credentials import Credentials
    from .events import EventStream
    from .jobs.followed import FollowedJobs
    from .kept_secrets import Tokens
    from .mailboxes import Mailboxes
    from .polls import HeldPolls
    from .settings import Settings
    from .store.database import Database
    from .tries import Tries

_PROMPT = 1.0
"""Seconds in which a database must say its time for that to count."""


class Clock:
    """The server's time: that of day, which may be set, and that which only passes."""

    def now(self) -> datetime:
        """The time, in UTC."""
        return datetime.now(UTC)

    def time(self) -> float:
        """The time, in seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since some moment; nobody can set it."""
        return time.monotonic()

    def look(self) -> None:
        """Nothing: the machine's own clock needs no comparison."""


class SharedClock(Clock):
    """The time of day of the database, by which several servers agree on what is due.

    Between two looks at it this goes by what passes here; nobody needs to set the machine's clock.

    Args:
        read: asks the database for its time, in seconds since the epoch.

    Raises:
        Unavailable: the database does not answer.
    """

    def __init__(self, read: Callable[[], float]) -> None:
        self._read = read
        self._ahead = read() - self.monotonic()
        """Seconds by which the time of day is ahead of the monotonic one."""

    def now(self) -> datetime:
        """The time, in UTC."""
        return datetime.fromtimestamp(self.time(), UTC)

    def time(self) -> float:
        """The time, in seconds since the epoch."""
        return self.monotonic() + self._ahead

    def look(self) -> None:
        """Compare with the database; an answer that took long says too little.

        Raises:
            Unavailable: the database does not answer.
        """
        asked = self.monotonic()
        theirs = self._read()
        answered = self.monotonic()
        if answered - asked < _PROMPT:
            self._ahead = theirs - (asked + answered) / 2


@dataclass(frozen=True)
class Services:
    """The parts of one server process."""

    settings: Settings
    tokens: Tokens
    """What workers and people show; they may change while the server runs."""
    database: Database
    bundles: BlobStore
    """What people hand in."""
    blobs: BlobStore
    """What jobs leave: artifacts and finished logs."""
    credentials: Credentials
    events: EventStream
    followed: FollowedJobs
    mailboxes: Mailboxes
    polls: HeldPolls
    code_tries: Tries
    """The owner's codes that were tried on pages of workers."""
    clock: Clock = field(default_factory=Clock)
    stop: threading.Event = field(default_factory=threading.Event)
    """Set when the server ends; whatever waits looks at it."""
