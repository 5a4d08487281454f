"""What the followers of a job share: they are woken together and look at the same things.

One of them reads for all, and each message is made once, so that a job with two hundred followers
costs little more than one with two.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from dtrain.protocol.messages import Job, LogPiece, encode
from dtrain.server.events import LOOK_ANYWAY
from dtrain.server.store import attempts, events, job_views, jobs, metrics
from dtrain.server.store.attempts import Attempt

from .logs import read_piece

if TYPE_CHECKING:
    from dtrain.server.mailboxes import Mailboxes
    from dtrain.server.services import Services

_PIECE = 256 * 1024
"""Bytes of log in one message at most."""
_RECORDS = 500
_NEAR = 1024 * 1024
"""Bytes before a log's end that are worth keeping: whoever keeps up asks for them."""
_KEPT = 64
"""Messages, or pages of records, that are kept of a job."""

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What was stored of a job at one moment."""

    event: int
    """The id of its latest event."""
    job: Job
    told: bytes
    """The job as a message tells it."""
    attempt: Attempt | None
    """Its latest."""


class Piece(msgspec.Struct, frozen=True):
    """A piece of a log, or a record, as a message tells it."""

    end: int
    """The offset, or the number of the record, that follows."""
    told: bytes


class FollowedJob:
    """A job that has followers."""

    def __init__(self, services: Services, job_id: int) -> None:
        self._services = services
        self._job_id = job_id
        self.followers = 0
        """How many there are; kept by `FollowedJobs`."""
        self.notices = 0
        """How often it was told that the job has moved; kept by `FollowedJobs`."""
        self._looking = threading.Lock()
        self._newest: Look | None = None
        self._seen = 0
        """Notices that there were before it."""
        self._looked = 0.0
        """When it was, by the monotonic clock."""
        self._pieces = _Kept[tuple[int, int], Piece | None]()
        self._records = _Kept[tuple[int, int], list[Piece]]()

    def look(self) -> Look:
        """What is stored of the job: read at the latest notice or since, and seconds ago at most.

        Raises:
            NotFound: the job has been deleted.
        """
        with self._looking:
            notices, now = self.notices, self._services.clock.monotonic()
            if self._newest is None or notices != self._seen or now - self._looked > LOOK_ANYWAY:
                self._newest = self._read()
                self._seen, self._looked = notices, now
            return self._newest

    def log(self, attempt: int, offset: int, end: int) -> Piece | None:
        """The piece of an attempt's log that begins at an offset; None if nothing is there.

        Args:
            attempt: the attempt's number.
            offset: the first byte's.
            end: how far the log is known to go.
        """

        def read() -> Piece | None:
            data = read_piece(self._services, self._job_id, attempt, offset)
            return _log_piece(attempt, offset, _whole_characters(data[:_PIECE])) if data else None

        return self._pieces.get((attempt, offset), read, keep=end - offset <= _NEAR)

    def records(self, attempt: int, seq: int, end: int) -> list[Piece]:
        """Some of an attempt's PROGRESS records, from one on; empty if there is none.

        Args:
            attempt: the attempt's number.
            seq: the first record's.
            end: how many are known to be there.
        """

        def read() -> list[Piece]:
            with self._services.database.read() as connection:
                page = metrics.page(connection, self._job_id, attempt, seq, _RECORDS)
            return [
                Piece(
                    record.seq + 1,
                    encode({"attempt": attempt, **msgspec.structs.asdict(record)}),
                )
                for record in page
            ]

        return self._records.get((attempt, seq), read, keep=end - seq <= _RECORDS)

    def _read(self) -> Look:
        with self._services.database.read() as connection:
            job = job_views.get(connection, self._job_id)
            return Look(
                event=events.last_of_job(connection, self._job_id),
                job=job,
                told=encode(job),
                attempt=attempts.get(connection, self._job_id, job.attempt),
            )


class FollowedJobs:
    """The jobs that have followers in this process."""

    def __init__(self, mailboxes: Mailboxes) -> None:
        self._lock = threading.Lock()
        self._jobs: dict[int, FollowedJob] = {}
        mailboxes.subscribe(jobs.KIND, self._note)

    @contextmanager
    def join(self, services: Services, job_id: int) -> Iterator[FollowedJob]:
        """Be one of the job's followers."""
        with self._lock:
            job = self._jobs.setdefault(job_id, FollowedJob(services, job_id))
            job.followers += 1
        try:
            yield job
        finally:
            with self._lock:
                job.followers -= 1
                if not job.followers:
                    del self._jobs[job_id]

    def _note(self, job_id: str) -> None:
        with self._lock:
            job = self._jobs.get(int(job_id))
            if job is not None:
                job.notices += 1


class _Kept(Generic[_Key, _Value]):
    """The latest of what was read; each is read once, however many ask for it at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[_Key, _Value] = {}

    def get(self, key: _Key, read: Callable[[], _Value], *, keep: bool) -> _Value:
        """The value of a key, read if it is not there; `keep` says whether others will ask."""
        if not keep:
            return read()
        with self._lock:
            if key in self._values:
                return self._values[key]
            value = read()
            if value:  # what is not there yet may come
                self._values[key] = value
                if len(self._values) > _KEPT:
                    del self._values[next(iter(self._values))]
            return value


def _log_piece(attempt: int, start: int, piece: bytes) -> Piece:
    end = start + len(piece)
    try:
        told = LogPiece(attempt=attempt, offset=start, end=end, text=piece.decode())
    except UnicodeDecodeError:
        packed = base64.b64encode(piece).decode()
        told = LogPiece(attempt=attempt, offset=start, end=end, base64=packed)
    return Piece(end, encode(told))


def _whole_characters(piece: bytes) -> bytes:
    """The piece without a UTF-8 character that has only begun at its end."""
    for back in range(1, min(4, len(piece) - 1) + 1):
        byte = piece[-back]
        if byte & 0xC0 == 0x80:
            continue
        needed = 1 if byte < 0x80 else 2 if byte >> 5 == 6 else 3 if byte >> 4 == 14 else 4
        return piece[:-back] if needed > back and byte >= 0xC0 else piece
    return piece
