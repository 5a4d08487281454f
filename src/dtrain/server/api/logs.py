"""Logs: pages of lines as JSON, or the bytes as they are."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Annotated

import msgspec
from flask import Response, request

from dtrain.protocol import routes
from dtrain.protocol.messages import LogMatches, LogPage
from dtrain.server.auth import services
from dtrain.server.jobs import logs as stored
from dtrain.server.rules.matching import LEVELS

from .download import ranged
from .endpoint import JSON, TEXT, Endpoints, reply
from .reading import Number, Place, Query, Text

api = Endpoints("logs", "Logs", "What a job prints: as lines, or byte for byte.")


class MatchesQuery(Query, frozen=True, kw_only=True):
    """Which lines to look for."""

    attempt: Number | None = None
    """The latest, unless it is said."""
    after: Place = 0
    """The number of the first line wanted: the `next` of the page before."""
    level: (
        Annotated[
            Text,
            msgspec.Meta(extra_json_schema={"type": "array", "items": {"enum": [*LEVELS]}}),
        ]
        | None
    ) = None
    """Only lines of one of these levels."""
    q: Text | None = None
    """Only lines that hold this text, whatever its case."""


class LogsQuery(MatchesQuery, frozen=True, kw_only=True):
    """Which lines to give. With `Accept: text/plain` only `attempt` counts."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=stored.MAX_LINES)] = 1000
    """Lines on the page at most."""
    tail: bool = False
    """The last lines instead of those from `after` on."""


@api(
    "GET",
    routes.JOB_LOGS,
    summary="Read the log",
    query=LogsQuery,
    answer=LogPage,
    content=(TEXT,),
    also=(206,),
    errors=(416,),
    asks=("Range",),
    gives=("Accept-Ranges",),
)
def logs(job_id: int, query: LogsQuery) -> Response:
    """Lines of one attempt's log as JSON, in pages.

    With `Accept: text/plain` it is the bytes as the job wrote them, whole or a range of them.
    """
    if request.accept_mimetypes.best_match([JSON, TEXT], JSON) == TEXT:
        response = _raw(job_id, query.attempt)
    else:
        response = reply(stored.page(services(), job_id, **msgspec.structs.asdict(query)))
    response.vary.add("Accept")
    return response


@api(
    "GET",
    routes.JOB_LOG_MATCHES,
    summary="Search the log",
    query=MatchesQuery,
    answer=LogMatches,
)
def matches(job_id: int, query: MatchesQuery) -> LogMatches:
    """Which lines of one attempt's log match, by number, without the lines themselves.

    A very long log is looked through in parts: `more` says whether any of it is left.
    """
    return stored.matches(services(), job_id, **msgspec.structs.asdict(query))


def _raw(job_id: int, attempt: int | None) -> Response:
    number, size = stored.size(services(), job_id, attempt=attempt)
    read = partial(_bytes, job_id, number)
    response = ranged(read, size, TEXT)
    response.headers["Cache-Control"] = "no-store"
    return response


def _bytes(job_id: int, attempt: int, start: int, end: int) -> Iterator[bytes]:
    return stored.raw(services(), job_id, attempt=attempt, start=start, end=end)
