"""One job, live: its changes, its log and its metrics in one stream that can be resumed anywhere.

Nothing is pushed into the stream: a wake-up makes it look at what is stored, from where it is. So
it cannot lose or double anything, and a slow follower costs nothing but its own time.
"""

from __future__ import annotations

import base64
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import msgspec

from dtrain.protocol.errors import Invalid, NotFound
from dtrain.protocol.messages import LogPiece, encode
from dtrain.server.events import KEEP_ALIVE, StreamMessage
from dtrain.server.store import attempts, events, job_views, jobs, metrics

from .logs import read_piece

if TYPE_CHECKING:
    from dtrain.server.services import Services

_PIECE = 256 * 1024
"""Bytes of log in one message at most."""
_RECORDS = 500


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
) -> Iterator[StreamMessage]:
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
    with services.database.read() as connection:
        job = job_views.get(connection, job_id)
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

    def run(self) -> Iterator[StreamMessage]:
        with self._services.mailboxes.listen(jobs.topic(self._job_id)) as woken:
            if self._at.event == 0:
                yield self._job_now()
            while not self._services.stop.is_set():
                woken.clear()
                try:
                    ended = yield from self._news()
                except NotFound:
                    ended = True
                if ended:
                    yield StreamMessage("end", b"{}", str(self._at))
                    return
                if not woken.wait(KEEP_ALIVE):
                    yield StreamMessage()

    def _job_now(self) -> StreamMessage:
        with self._services.database.read() as connection:
            self._at.event = events.last_of_job(connection, self._job_id)
            return StreamMessage(
                "job", encode(job_views.get(connection, self._job_id)), str(self._at)
            )

    def _news(self) -> Generator[StreamMessage, None, bool]:
        """Tell what is new; returns whether that was the end."""
        while True:
            with self._services.database.read() as connection:
                event = events.last_of_job(connection, self._job_id)
                job = job_views.get(connection, self._job_id)
                attempt = attempts.get(connection, self._job_id, self._at.attempt)
            # The log comes before the change that follows it: `completed` is told last.
            if attempt is not None:
                yield from self._log(attempt.log_bytes)
                yield from self._metrics(attempt.metric_records)
            passed = self._at.attempt < job.attempt
            # A lower one tells of a server that was restored from a backup.
            if not passed and event != self._at.event:
                self._at.event = event
                yield StreamMessage("job", encode(job), str(self._at))
            if not passed:
                return job.status.final
            self._at.attempt, self._at.offset, self._at.seq = self._at.attempt + 1, 0, 0

    def _log(self, end: int) -> Iterator[StreamMessage]:
        while self._at.offset < end:
            piece = read_piece(self._services, self._job_id, self._at.attempt, self._at.offset)
            if not piece:
                return
            piece = _whole_characters(piece[:_PIECE])
            start = self._at.offset
            self._at.offset += len(piece)
            yield StreamMessage(
                "log", encode(_log_piece(self._at.attempt, start, piece)), str(self._at)
            )

    def _metrics(self, end: int) -> Iterator[StreamMessage]:
        while self._at.seq < end:
            with self._services.database.read() as connection:
                records = metrics.page(
                    connection, self._job_id, self._at.attempt, self._at.seq, _RECORDS
                )
            for record in records:
                self._at.seq = record.seq + 1
                data = {"attempt": self._at.attempt, **msgspec.structs.asdict(record)}
                yield StreamMessage("metric", encode(data), str(self._at))
            if not records:
                return


def _log_piece(attempt: int, start: int, piece: bytes) -> LogPiece:
    end = start + len(piece)
    try:
        return LogPiece(attempt=attempt, offset=start, end=end, text=piece.decode())
    except UnicodeDecodeError:
        packed = base64.b64encode(piece).decode()
        return LogPiece(attempt=attempt, offset=start, end=end, base64=packed)


def _whole_characters(piece: bytes) -> bytes:
    """The piece without a UTF-8 character that has only begun at its end."""
    for back in range(1, min(4, len(piece) - 1) + 1):
        byte = piece[-back]
        if byte & 0xC0 == 0x80:
            continue
        needed = 1 if byte < 0x80 else 2 if byte >> 5 == 6 else 3 if byte >> 4 == 14 else 4
        return piece[:-back] if needed > back and byte >= 0xC0 else piece
    return piece


def _position(last_id: str | None) -> Position | None:
    if not last_id:
        return None
    parts = last_id.split(".")
    if len(parts) != 4 or not all(
        part.isascii() and part.isdigit() and len(part) < 19 for part in parts
    ):
        raise Invalid("The Last-Event-ID is none of this stream.", field="Last-Event-ID")
    return Position(*map(int, parts))
