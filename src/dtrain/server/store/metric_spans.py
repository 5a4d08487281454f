"""Summaries of metric records, made as the records come: `rules.spans` says of what."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from dtrain.server.rules.spans import FACTOR, WIDTHS, Span, merged, span_of

from .schema import metric_records, metric_spans

_decoder = msgspec.json.Decoder(Span)


def append(
    connection: sa.Connection,
    job_id: int,
    attempt: int,
    first_seq: int,
    records: list[tuple[float, dict[str, Any]]],
    now: float,
) -> None:
    """Store the spans that some records complete; these are stored already, from `first_seq` on."""
    end = first_seq + len(records)
    spans = [
        span_of(first_seq + index, step, now, record)
        for index, (step, record) in enumerate(records)
    ]
    start = first_seq
    for width in WIDTHS:
        begin, stop = first_seq // width * width, end // width * width
        if begin == stop:
            return
        child = width // FACTOR
        spans = read(connection, job_id, attempt, child, begin, start) + spans
        spans = spans[: (stop - begin) // child]
        if len(spans) != (stop - begin) // child:
            return  # what came before was stored without spans
        spans = [merged(spans[at : at + FACTOR]) for at in range(0, len(spans), FACTOR)]
        _insert(connection, job_id, attempt, width, begin, spans)
        start = begin


def read(
    connection: sa.Connection, job_id: int, attempt: int, width: int, start: int, end: int
) -> list[Span]:
    """The spans of a width between two records, in order; of width 1 the records themselves."""
    if start >= end:
        return []
    table = metric_records if width == 1 else metric_spans
    place = table.c.seq if width == 1 else table.c.first
    query = (
        sa.select(table)
        .where(table.c.job_id == job_id, table.c.attempt == attempt)
        .where(place >= start, place < end)
        .order_by(place)
    )
    if width == 1:
        return [
            span_of(row.seq, row.step, row.at, msgspec.json.decode(row.record))
            for row in connection.execute(query)
        ]
    rows = connection.execute(query.where(table.c.width == width))
    return [_decoder.decode(row.points) for row in rows]


def _insert(
    connection: sa.Connection, job_id: int, attempt: int, width: int, first: int, spans: list[Span]
) -> None:
    connection.execute(
        metric_spans.insert(),
        [
            {
                "job_id": job_id,
                "attempt": attempt,
                "width": width,
                "first": first + index * width,
                "points": msgspec.json.encode(span).decode(),
            }
            for index, span in enumerate(spans)
        ],
    )
