"""Logs: pages of lines as JSON, or the bytes as they are."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Annotated

import msgspec
from flask import Response, request

from dtrain.protocol import routes
from dtrain.protocol.messages import LogPage
from dtrain.server.auth import services
from dtrain.server.jobs import logs as stored

from .download import ranged
from .endpoint import JSON, Endpoints, reply
from .reading import Number, Place, Query

api = Endpoints("logs")
_TEXT = "text/plain"


class LogsQuery(Query, frozen=True, kw_only=True):
    """Which lines to give. With `Accept: text/plain` only `attempt` counts."""

    attempt: Number | None = None
    after: Place = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=stored.MAX_LINES)] = 1000
    level: str | None = None
    q: str | None = None
    tail: bool = False


@api("GET", routes.JOB_LOGS, summary="The log, in lines or raw", query=LogsQuery, answer=LogPage)
def logs(job_id: int, query: LogsQuery) -> Response:
    """Lines of one attempt's log; the raw bytes, with ranges, for `Accept: text/plain`."""
    if request.accept_mimetypes.best_match([JSON, _TEXT], JSON) == _TEXT:
        response = _raw(job_id, query.attempt)
    else:
        response = reply(stored.page(services(), job_id, **msgspec.structs.asdict(query)))
    response.vary.add("Accept")
    return response


def _raw(job_id: int, attempt: int | None) -> Response:
    number, size = stored.size(services(), job_id, attempt=attempt)
    read = partial(_bytes, job_id, number)
    response = ranged(read, size, _TEXT)
    response.headers["Cache-Control"] = "no-store"
    return response


def _bytes(job_id: int, attempt: int, start: int, end: int) -> Iterator[bytes]:
    return stored.raw(services(), job_id, attempt=attempt, start=start, end=end)
