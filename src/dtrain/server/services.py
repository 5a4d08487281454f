"""What every use case is handed: one frozen bundle of the server's parts."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the parts are handed `Services` in turn
    from .blobs import BlobStore
    from .events import EventStream
    from .mailboxes import Mailboxes
    from .polls import HeldPolls
    from .settings import Settings
    from .store.database import Database


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


@dataclass(frozen=True)
class Services:
    """The parts of one server process."""

    settings: Settings
    database: Database
    bundles: BlobStore
    """What people hand in."""
    blobs: BlobStore
    """What jobs leave: artifacts and finished logs."""
    events: EventStream
    mailboxes: Mailboxes
    polls: HeldPolls
    clock: Clock = field(default_factory=Clock)
    stop: threading.Event = field(default_factory=threading.Event)
    """Set when the server ends; whatever waits looks at it."""
