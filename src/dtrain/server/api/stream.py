"""Live streams as server-sent events."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from flask import Response, request

from dtrain.protocol import routes
from dtrain.protocol.errors import Invalid, Unavailable
from dtrain.server import events
from dtrain.server.auth import services
from dtrain.server.events import StreamMessage
from dtrain.server.jobs import follow as following

from .endpoint import Endpoints
from .held import held
from .reading import Number, Place, Query

api = Endpoints("stream")
_EVENTS = "text/event-stream"
_LAST_ID = "Last-Event-ID"
_RETRY = b"retry: 2000\n\n"
"""Comes at once, so that a client knows that it is connected; milliseconds before it comes back."""
_FULL_SECONDS = 10.0


class FollowQuery(Query, frozen=True, kw_only=True):
    """Where to begin, unless `Last-Event-ID` says it."""

    attempt: Number | None = None
    offset: Place | None = None
    seq: Number | None = None


@api("GET", routes.STREAM, summary="Every change of jobs and workers, live", answer=_EVENTS)
def changes() -> Response:
    """Events from now on, or behind the one in `Last-Event-ID`."""
    last_id = request.headers.get(_LAST_ID) or None
    if last_id is not None and not (last_id.isascii() and last_id.isdigit() and len(last_id) < 19):
        raise Invalid(f"The header {_LAST_ID} is none of this stream's ids.", field=_LAST_ID)
    return _stream(events.changes(services(), None if last_id is None else int(last_id)))


@api("GET", routes.JOB_STREAM, summary="One job, live", query=FollowQuery, answer=_EVENTS)
def follow(job_id: int, query: FollowQuery) -> Response:
    """A job's changes, log and metrics; ends with the message `end`."""
    messages = following.follow(
        services(),
        job_id,
        last_id=request.headers.get(_LAST_ID),
        **msgspec.structs.asdict(query),
    )
    return _stream(messages)


def _stream(messages: Iterator[StreamMessage]) -> Response:
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
    response = Response(_encoded(messages), mimetype=_EVENTS)
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"
    response.call_on_close(gate.leave)
    return response


def _encoded(messages: Iterator[StreamMessage]) -> Iterator[bytes]:
    yield _RETRY
    for message in messages:
        if not message.event:
            yield b":\n\n"
            continue
        parts = [b"event: ", message.event.encode(), b"\ndata: ", message.data, b"\n\n"]
        if message.id is not None:
            parts[:0] = [b"id: ", message.id.encode(), b"\n"]
        yield b"".join(parts)
