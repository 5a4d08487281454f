"""The live stream of changes: one reader of the event table in each process, fanned out to all.

A follower that keeps up is served from memory; SQL is read only to catch up after a given id.
Progress is no event: it is told as it is now, at most twice a second for a job, and has no id.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from dtrain.protocol.errors import Unavailable
from dtrain.protocol.messages import Event, encode

from .mailboxes import Mailboxes
from .store import events as stored
from .store import jobs as stored_jobs
from .store.database import Database

if TYPE_CHECKING:
    from .services import Services

_RING = 2000
"""Messages kept for followers that lag."""
_BATCH = 500
_PROGRESS_PAUSE = 0.5
"""Seconds between two readings of progress."""
_PAUSE = 0.1
"""Seconds between two readings of events: what follows the first of a burst is read at once."""
LOOK_ANYWAY = 5.0
"""Seconds after which is read without a notice: on PostgreSQL one can be missed while the
connection is made anew."""
_KEEP_ALIVE = 10.0
"""Seconds after which a silent stream has sent a sign of life."""
_WANTED = 30.0
"""Seconds for which events are read on after somebody last followed them."""
_READ = "events read"
"""The topic that is told when there is more in memory."""

_log = logging.getLogger(__name__)


def quiet() -> float:
    """Seconds to wait before a sign of life; each time others, so that streams take turns."""
    return random.uniform(_KEEP_ALIVE / 2, _KEEP_ALIVE)  # noqa: S311  no secret


class StreamMessage(msgspec.Struct, frozen=True):
    """One message of an event stream."""

    event: str
    data: bytes
    """One line of JSON."""
    id: str | None = None


Batch = list[StreamMessage]
"""Messages that go out at once; a sign of life if there is none."""


class _Entry(msgspec.Struct, frozen=True):
    place: int
    event_id: int | None
    message: StreamMessage


class EventStream:
    """The tail of the event table."""

    def __init__(self, database: Database, mailboxes: Mailboxes, stop: threading.Event) -> None:
        self._database = database
        self._mailboxes = mailboxes
        self._stop = stop
        self._ring: deque[_Entry] = deque(maxlen=_RING)
        self._lock = threading.Lock()
        """Held for the ring, and for what is next and last of it."""
        self._next_place = 0
        self._last_id = 0
        self._resuming = threading.Lock()
        """Held by who begins to follow, until events are read again."""
        self._wanted_until = 0.0
        """Until when events are read, by the monotonic clock: for nobody it is not worth it."""
        self._progress: set[str] = set()
        """Jobs with new records."""
        self._noting = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)

    def start(self) -> None:
        """Begin at the newest event."""
        with self._database.read() as connection:
            self._last_id = stored.bounds(connection)[1]
        self._mailboxes.subscribe("progress", self._note_progress)
        self._thread.start()

    def stop(self) -> None:
        """Wait for the reading under way; the server's stop event has been set."""
        if self._thread.is_alive():
            self._mailboxes.wake(stored.TOPIC)
            self._thread.join(timeout=10)

    def follow(self, last_id: int | None) -> Iterator[Batch]:
        """All that happens from now on, or from behind an event on, until the server ends."""
        with self._resuming:
            was_read = self._is_wanted()
            self._want()  # from here on no notice is passed over
            if not was_read:
                self._resume()
        with self._lock:
            place, seen = self._next_place, self._last_id
        return self._messages(place, seen, last_id)

    def _resume(self) -> None:
        """Go on at the newest event, and have a follower that slept catch up from the table."""
        with self._database.read() as connection:
            newest = stored.bounds(connection)[1]
        with self._lock:
            if newest > self._last_id:
                self._last_id = newest
                self._ring.clear()
                self._next_place += 1

    def _want(self) -> None:
        self._wanted_until = time.monotonic() + _WANTED

    def _is_wanted(self) -> bool:
        return time.monotonic() < self._wanted_until

    def _messages(self, place: int, seen: int, last_id: int | None) -> Iterator[Batch]:
        if last_id is not None:
            if self._is_gone(last_id):
                yield [StreamMessage("reset", b"{}", str(seen))]
            else:
                yield from self._catch_up(last_id, seen)
                seen = max(seen, last_id)
        with self._mailboxes.listen(_READ) as woken:
            while not self._stop.is_set():
                self._want()
                woken.clear()
                entries, fell_behind = self._since(place)
                if fell_behind:
                    with self._lock:
                        place, newest = self._next_place, self._last_id
                    yield from self._catch_up(seen, newest)
                    seen = max(seen, newest)
                batch = []
                for entry in entries:
                    place = entry.place + 1
                    if entry.event_id is not None:
                        if entry.event_id <= seen:  # the follower was ahead of this reader
                            continue
                        seen = entry.event_id
                    batch.append(entry.message)
                if batch:
                    yield batch
                if not woken.wait(quiet()):
                    yield []

    def _is_gone(self, last_id: int) -> bool:
        """Whether what follows an event cannot be told: it is pruned, or from after a backup."""
        with self._database.read() as connection:
            oldest, newest = stored.bounds(connection)
            return last_id not in {oldest - 1, newest} and not stored.exists(connection, last_id)

    def _catch_up(self, after: int, up_to: int) -> Iterator[Batch]:
        while after < up_to:
            with self._database.read() as connection:
                batch = stored.after(connection, after, _BATCH)
            if not batch:
                return
            yield [_message(event) for event in batch if event.id <= up_to]
            after = batch[-1].id

    def _since(self, place: int) -> tuple[list[_Entry], bool]:
        """What was read from a place on, and whether some of that is not in memory any more."""
        with self._lock:
            missed = self._next_place - place
            if missed > len(self._ring):
                return [], True
            return [
                self._ring[index] for index in range(len(self._ring) - missed, len(self._ring))
            ], False

    def _note_progress(self, job_id: str) -> None:
        with self._noting:
            is_first = not self._progress
            self._progress.add(job_id)
        if is_first:
            self._mailboxes.wake(stored.TOPIC)

    def _run(self) -> None:
        with self._mailboxes.listen(stored.TOPIC) as woken:
            next_progress = 0.0
            while not self._stop.is_set():
                woken.wait(_PROGRESS_PAUSE if self._progress else LOOK_ANYWAY)
                woken.clear()
                try:
                    if self._is_wanted():
                        self._read_events()
                    else:
                        with self._noting:
                            self._progress.clear()
                    if self._progress and time.monotonic() >= next_progress:
                        self._read_progress()
                        next_progress = time.monotonic() + _PROGRESS_PAUSE
                except Unavailable as error:
                    _log.warning("The event stream waits for the database: %s", error)
                    self._stop.wait(1)
                except Exception:  # the thread must outlive whatever one reading meets
                    _log.exception("The event stream could not be read.")
                    self._stop.wait(1)
                self._stop.wait(_PAUSE)
        self._mailboxes.wake(_READ)

    def _read_events(self) -> None:
        while True:
            with self._database.read() as connection:
                batch = stored.after(connection, self._last_id, _BATCH)
            if not batch:
                return
            with self._lock:
                for event in batch:
                    self._add(event.id, _message(event))
                self._last_id = batch[-1].id
            self._mailboxes.wake(_READ)
            if len(batch) < _BATCH:  # whatever is stored behind it is told once more
                return

    def _read_progress(self) -> None:
        with self._noting:
            waiting, self._progress = self._progress, set()
        with self._database.read() as connection:
            rows = stored_jobs.progress_of(connection, [int(job_id) for job_id in waiting])
        with self._lock:
            for job_id, record, fraction in rows:
                data = {
                    "job_id": job_id,
                    "progress": msgspec.Raw(record.encode()) if record else None,
                    "fraction": fraction,
                }
                self._add(None, StreamMessage("progress", encode(data)))
        self._mailboxes.wake(_READ)

    def _add(self, event_id: int | None, message: StreamMessage) -> None:
        self._ring.append(_Entry(self._next_place, event_id, message))
        self._next_place += 1


def changes(services: Services, last_id: int | None) -> Iterator[Batch]:
    """The stream of `/api/stream`: every change of jobs and workers, and progress."""
    return services.events.follow(last_id)


def _message(event: Event) -> StreamMessage:
    kind = "job" if event.job_id is not None else "worker"
    return StreamMessage(kind, encode(event), str(event.id))
