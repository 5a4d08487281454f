"""One job, live: its changes, its log and its metrics in one stream that can be resumed anywhere.

Nothing is pushed into the stream: a wake-up makes it look at what is stored, from where it is. So
it cannot lose or double anything, and a slow follower costs nothing but its own time. What several
followers of a job look at is read once (`followed`).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import msgspec

from dtrain.protocol.errors import Invalid, NotFound
from dtrain.server.events import Batch, StreamMessage, quiet
from dtrain.server.store import attempts, jobs
from dtrain.server.store.attempts import Attempt

from .followed import FollowedJob, Look

if TYPE_CHECKING:
    from dtrain.server.services import Services


_BATCH = 256 * 1024
"""Bytes from which on messages go out without the next."""


class Position(msgspec.Struct):
    """How far a follower has come; the id of every message is the position behind it."""

    event: int = 0
    attempt: int = 0
    offset: int = 0
    seq: int = 0

    def __str__(self) -> str:
        return f"{self.event}.{self.attempt}.{self.offset}.{self.seq}"


def follow(
    services: Services,
    job_id: int,
    *,
    last_id: str | None,
    attempt: int | None = None,
    offset: int | None = None,
    seq: int | None = None,
) -> Iterator[Batch]:
    """All that becomes known of a job, until it has ended and everything has been told.

    Args:
        services: the server's parts.
        job_id: the job's number.
        last_id: the id of the last message that was received, to go on behind it.
        attempt: without `last_id`: the attempt to begin with; the latest if none is given.
        offset: without `last_id`: the byte of the log to begin with.
        seq: without `last_id`: the metric record to begin with.

    Raises:
        NotFound: there is no such job; raised before the first message.
        Invalid: `last_id` is none of this stream.
    """
    with services.followed.join(services, job_id) as followed:
        job = followed.look().job
    position = _position(last_id) or Position(
        attempt=attempt if attempt is not None else max(job.attempt, 1),
        offset=offset or 0,
        seq=seq or 0,
    )
    return _Follower(services, job_id, position).run()


class _Follower:
    def __init__(self, services: Services, job_id: int, position: Position) -> None:
        self._services = services
        self._job_id = job_id
        self._at = position

    def run(self) -> Iterator[Batch]:
        services = self._services
        with (
            services.mailboxes.listen(jobs.topic(self._job_id)) as woken,
            services.followed.join(services, self._job_id) as job,
        ):
            while not services.stop.is_set():
                woken.clear()
                try:
                    ended = yield from self._batches(job)
                except NotFound:
                    ended = True
                if ended:
                    yield [StreamMessage("end", b"{}", str(self._at))]
                    return
                if not woken.wait(quiet()):
                    yield []

    def _batches(self, job: FollowedJob) -> Generator[Batch, None, bool]:
        """What is new, in as few parts as can be; returns whether that was the end."""
        batch: Batch = []
        size = 0
        news = self._news(job)
        while True:
            try:
                message = next(news)
            except StopIteration as end:
                if batch:
                    yield batch
                return bool(end.value)
            batch.append(message)
            size += len(message.data)
            if size >= _BATCH:
                yield batch
                batch, size = [], 0

    def _news(self, job: FollowedJob) -> Generator[StreamMessage, None, bool]:
        """Tell what is new; returns whether that was the end."""
        while True:
            look = job.look()
            if self._at.event == 0:
                yield self._changed(look)
            # The log comes before the change that follows it: `completed` is told last.
            attempt = self._attempt(look)
            if attempt is not None:
                yield from self._log(job, attempt.log_bytes)
                yield from self._metrics(job, attempt.metric_records)
            passed = self._at.attempt < look.job.attempt
            # A lower one tells of a server that was restored from a backup.
            if not passed and look.event != self._at.event:
                yield self._changed(look)
            if not passed:
                return look.job.status.final
            self._at.attempt, self._at.offset, self._at.seq = self._at.attempt + 1, 0, 0

    def _changed(self, look: Look) -> StreamMessage:
        self._at.event = look.event
        return StreamMessage("job", look.told, str(self._at))

    def _attempt(self, look: Look) -> Attempt | None:
        if look.job.attempt == self._at.attempt:
            return look.attempt
        with self._services.database.read() as connection:
            return attempts.get(connection, self._job_id, self._at.attempt)

    def _log(self, job: FollowedJob, end: int) -> Iterator[StreamMessage]:
        while self._at.offset < end:
            piece = job.log(self._at.attempt, self._at.offset, end)
            if piece is None:
                return
            self._at.offset = piece.end
            yield StreamMessage("log", piece.told, str(self._at))

    def _metrics(self, job: FollowedJob, end: int) -> Iterator[StreamMessage]:
        while self._at.seq < end:
            records = job.records(self._at.attempt, self._at.seq, end)
            for record in records:
                self._at.seq = record.end
                yield StreamMessage("metric", record.told, str(self._at))
            if not records:
                return


def _position(last_id: str | None) -> Position | None:
    if not last_id:
        return None
    parts = last_id.split(".")
    if len(parts) != 4 or not all(
        part.isascii() and part.isdigit() and len(part) < 19 for part in parts
    ):
        raise Invalid("The Last-Event-ID is none of this stream.", field="Last-Event-ID")
    return Position(*map(int, parts))
