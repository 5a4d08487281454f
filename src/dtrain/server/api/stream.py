"""Live streams as server-sent events."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
from flask import Response, request

from dtrain.protocol import routes
from dtrain.protocol.errors import Invalid, Unavailable
from dtrain.server import events
from dtrain.server.auth import admission, services
from dtrain.server.events import Batch, StreamMessage
from dtrain.server.jobs import follow as following

from .endpoint import Endpoints
from .headers import LAST_EVENT_ID
from .held import held
from .reading import Number, Place, Query

api = Endpoints(
    "stream", "Live streams", "Server-sent events, which can be taken up again anywhere."
)
_EVENTS = "text/event-stream"
_RETRY = b"retry: 2000\n\n"
"""Comes at once, so that a client knows that it is connected; milliseconds before it comes back."""
_FULL_SECONDS = 10.0


class FollowQuery(Query, frozen=True, kw_only=True):
    """Where to begin, unless `Last-Event-ID` says it."""

    attempt: Number | None = None
    """The attempt to begin with; else the latest."""
    offset: Place | None = None
    """The byte of the log to begin with."""
    seq: Number | None = None
    """The PROGRESS record to begin with."""


@api(
    "GET",
    routes.STREAM,
    summary="Follow everything",
    answer=_EVENTS,
    asks=(LAST_EVENT_ID,),
)
def changes() -> Response:
    """The changes of all jobs and workers from now on, or from behind the one in `Last-Event-ID`.

    Each message has an `event` and one line of JSON as its `data`:

    - `job`: an Event of a job.
    - `worker`: an Event of a worker.
    - `progress`: `{"job_id", "progress", "fraction"}`, at most twice a second for a job, without an
      id.
    - `reset`: what follows the given id is no longer known; read the lists anew.

    A line that begins with a colon is a sign of life, every 10 seconds.
    """
    last_id = request.headers.get(LAST_EVENT_ID) or None
    if last_id is not None and not (last_id.isascii() and last_id.isdigit() and len(last_id) < 19):
        raise Invalid(
            f"The header {LAST_EVENT_ID} is none of this stream's ids.", field=LAST_EVENT_ID
        )
    return _stream(events.changes(services(), None if last_id is None else int(last_id)))


@api(
    "GET",
    routes.JOB_STREAM,
    summary="Follow a job",
    query=FollowQuery,
    answer=_EVENTS,
    asks=(LAST_EVENT_ID,),
)
def follow(job_id: int, query: FollowQuery) -> Response:
    """A job's changes, log and PROGRESS records, until it has ended.

    They begin with the latest attempt, or behind `Last-Event-ID`, and go on through later ones.

    Each message has an `id`, an `event` and one line of JSON as its `data`:

    - `job`: the Job as it is now.
    - `log`: a LogPiece.
    - `metric`: a MetricRecord, with its `attempt` beside it.
    - `end`: the job has ended, and all of it has been told.

    A line that begins with a colon is a sign of life, every 10 seconds.
    """
    batches = following.follow(
        services(),
        job_id,
        last_id=request.headers.get(LAST_EVENT_ID),
        **msgspec.structs.asdict(query),
    )
    return _stream(batches)


def _stream(batches: Iterator[Batch]) -> Response:
    """The messages as they come.

    Raises:
        Unavailable: as many streams are open as the server keeps threads for.
    """
    gate = held().streams
    if request.method == "HEAD":
        return Response(mimetype=_EVENTS)
    if not gate.enter():
        raise Unavailable(
            "The server has as many live streams open as it can serve; close some, or try again"
            " in a moment.",
            code="too_many_streams",
            retry_after=_FULL_SECONDS,
        )
    response = Response(_encoded(batches, admission()), mimetype=_EVENTS)
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"
    response.call_on_close(gate.leave)
    return response


def _encoded(batches: Iterator[Batch], holds: Callable[[], bool]) -> Iterator[bytes]:
    yield _RETRY
    for batch in batches:
        if not holds():
            return
        # One write for all: each wakes threads of the HTTP server's, and costs more than is in it.
        yield b"".join(map(_framed, batch)) or b":\n\n"


def _framed(message: StreamMessage) -> bytes:
    parts = [b"event: ", message.event.encode(), b"\ndata: ", message.data, b"\n\n"]
    if message.id is not None:
        parts[:0] = [b"id: ", message.id.encode(), b"\n"]
    return b"".join(parts)
