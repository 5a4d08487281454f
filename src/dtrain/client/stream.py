"""A job as it goes on: the server's stream of events, taken up again wherever it breaks off."""

from __future__ import annotations

import base64
import random
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import msgspec

from dtrain.protocol import routes
from dtrain.protocol.errors import DTrainError, Unavailable, Unreachable
from dtrain.protocol.messages import Job, LogPiece, MetricRecord

from . import faults
from .transport import Query, Stream, Transport

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 10.0
"""Seconds; bounds of the time between two tries."""
FIRST_TRIES = 5
"""How often a server that has not answered yet may say that it is not available."""
LARGEST_MESSAGE = 64 * 1024**2
"""Bytes of one message."""
T = TypeVar("T")


class Metric(MetricRecord, frozen=True, kw_only=True):
    """A PROGRESS record as a stream brings it."""

    attempt: int


Update = Job | LogPiece | Metric
"""What a job's stream tells."""


class ServerEvent(msgspec.Struct, frozen=True):
    """One message of a stream of server-sent events."""

    event: str
    data: bytes
    id: str | None
    """What to say in Last-Event-ID to go on after this message."""


def follow(
    transport: Transport,
    job_id: int,
    *,
    attempt: int | None = None,
    offset: int | None = None,
    on_cut: Callable[[DTrainError], None] | None = None,
) -> Iterator[Update]:
    """All that happens to a job, from what there is already to its end, nothing twice.

    The first update is the job; it comes again with every change. A connection that breaks off is
    taken up again for as long as it takes.

    Args:
        transport: to the server.
        job_id: which job.
        attempt: whose log to begin with; the latest one's if left out.
        offset: where to begin in that log; at its start if left out.
        on_cut: told each time that the connection has broken off.

    Raises:
        DTrainError: the server refuses, or cannot be reached from the start.
    """
    path = routes.path(routes.JOB_STREAM, job_id=job_id)
    query = {"attempt": attempt, "offset": offset}
    for message in _resumed(transport, path, query, on_cut):
        if message.event == "job":
            yield _decoded(transport, message.data, Job)
        elif message.event == "log":
            yield _decoded(transport, message.data, LogPiece)
        elif message.event == "metric":
            yield _decoded(transport, message.data, Metric)
        elif message.event == "end":
            return


def content(piece: LogPiece) -> bytes:
    """The bytes of a log that a piece carries."""
    if piece.base64 is not None:
        return base64.b64decode(piece.base64)
    return (piece.text or "").encode()


def parse(pieces: Iterable[bytes]) -> Iterator[ServerEvent]:
    """The messages in a stream of server-sent events; a message that is not complete is none.

    Raises:
        ValueError: a message is larger than any that a server sends.
    """
    event, size = "", 0
    data: list[bytes] = []
    last_id: str | None = None
    for line in _lines(pieces):
        if not line:
            if data:
                yield ServerEvent(event or "message", b"\n".join(data), last_id)
            event, data, size = "", [], 0
            continue
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            size += len(value)
            if size > LARGEST_MESSAGE:
                raise ValueError("The message is too large.")
            data.append(value)
        elif name == b"event":
            event = value.decode(errors="replace")
        elif name == b"id" and b"\0" not in value:
            last_id = value.decode("latin-1")


def pauses() -> Iterator[float]:
    """Seconds to wait before each further try: at random below a bound that doubles."""
    bound = FIRST_PAUSE
    while True:
        yield random.uniform(0, bound)  # noqa: S311  no secret hangs on it
        bound = min(bound * 2, LONGEST_PAUSE)


def _resumed(
    transport: Transport, path: str, query: Query, on_cut: Callable[[DTrainError], None] | None
) -> Iterator[ServerEvent]:
    """The messages of a stream for ever, over as many connections as that takes."""
    last_id: str | None = None
    known = False
    tries = 0
    waits = pauses()
    while True:
        headers = {"Accept": "text/event-stream"}
        if last_id is not None:
            headers["Last-Event-ID"] = last_id
        try:
            with transport.stream(path, query=query, headers=headers) as stream:
                for message in _messages(transport, stream):
                    known, waits = True, pauses()
                    last_id = message.id or last_id
                    yield message
            raise Unreachable(f"The connection to {transport.base_url} broke off.")
        except (Unreachable, Unavailable) as error:
            tries += 1
            if not known and (isinstance(error, Unreachable) or tries == FIRST_TRIES):
                raise
            if on_cut:
                on_cut(error)
            time.sleep(max(next(waits), min(error.retry_after or 0, LONGEST_PAUSE)))


def _messages(transport: Transport, stream: Stream) -> Iterator[ServerEvent]:
    kind = stream.headers.get("Content-Type", "nothing")
    if not kind.startswith("text/event-stream"):
        raise faults.not_dtrain(transport.base_url, f"{kind[:50]} instead of a stream of events")
    try:
        yield from parse(stream)
    except ValueError as error:
        raise faults.not_dtrain(transport.base_url, "a message that is too large") from error


def _decoded(transport: Transport, data: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise faults.not_dtrain(transport.base_url, f"an unreadable message ({error})") from error


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The lines without their ends (LF, CRLF or CR); one that has not ended is none."""
    pending: list[bytes] = []
    size = 0
    for piece in pieces:
        pending.append(piece)
        size += len(piece)
        if size > LARGEST_MESSAGE:
            raise ValueError("The line is too large.")
        if b"\n" not in piece and b"\r" not in piece:
            continue
        lines = b"".join(pending).splitlines(keepends=True)
        pending = [] if lines[-1].endswith(b"\n") else [lines.pop()]
        size = sum(map(len, pending))
        for line in lines:
            yield line.rstrip(b"\r\n")
